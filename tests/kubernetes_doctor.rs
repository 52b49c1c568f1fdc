//! `agents doctor --probe` on a real cluster: first as it is, with a network that ignores policies,
//! then with rules in its network namespace that do what the policies say. They hold for all pods, so
//! no other test may run on the cluster meanwhile.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/site.rs"]
mod site;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output};

use astra_dispatch::adapters::registry_files;
use cluster::TestCluster;
use serde_json::{Value, json};
use site::{Site, text};

/// Rules in the cluster's network namespace, taken back at the end.
struct Rules {
    undo: Vec<Vec<String>>,
}

impl Rules {
    fn new() -> Self {
        Self { undo: Vec::new() }
    }

    fn add(&mut self, add: &str, undo: &str) {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        iptables(&words(add));
        self.undo.insert(0, words(undo));
    }
}

impl Drop for Rules {
    fn drop(&mut self) {
        for arguments in &self.undo {
            iptables(arguments);
        }
    }
}

fn iptables(arguments: &[String]) {
    let inside = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/inside");
    let status = Command::new(inside).args(["iptables", "--wait"]).args(arguments).status().unwrap();
    assert!(status.success(), "iptables {arguments:?}");
}

/// In place of a cloud's metadata service and the cluster's DNS: something at their addresses that
/// takes connections.
fn services(rules: &mut Rules) {
    let pods = pods();
    for service in ["-d 169.254.169.254 -p tcp --dport 80", "-p tcp --dport 53"] {
        let rule = format!("PREROUTING -s {pods} {service} -j DNAT --to 10.77.{}.2:6443", number());
        rules.add(&format!("-t nat -A {rule}"), &format!("-t nat -D {rule}"));
    }
}

/// What a network plugin would make of the policies, for pods of all namespaces: `allowed` is what
/// `network.allow` names.
fn deny(rules: &mut Rules, allowed: SocketAddr) {
    rules.add("-N PROBE", "-X PROBE");
    let allowed = format!("-p tcp -d {} --dport {} -j RETURN", allowed.ip(), allowed.port());
    for rule in [
        "-m conntrack --ctstate ESTABLISHED,RELATED -j RETURN",
        "-p tcp -m conntrack --ctorigdstport 53 -j RETURN",
        &allowed,
        "-j REJECT",
    ] {
        rules.add(&format!("-A PROBE {rule}"), &format!("-D PROBE {rule}"));
    }
    for chain in ["FORWARD", "INPUT"] {
        let rule = format!("{chain} -s {} -j PROBE", pods());
        rules.add(&format!("-I {rule}"), &format!("-D {rule}"));
    }
}

fn pods() -> String {
    format!("10.88.{}.0/24", number())
}

fn number() -> String {
    std::env::var("ASTRA_TEST_CLUSTER").unwrap_or_else(|_| "0".into())
}

/// A registry of two agents with names of their own, which may reach this address.
fn site(allowed: SocketAddr) -> (Site, Vec<String>) {
    let site = Site::new("true", 1);
    let suffix: u32 = rand::random();
    let images = cluster::images(None);
    let settings = std::fs::read_to_string(site.path(".astra/astra.yaml")).unwrap().replace(
        "system_namespace: astra-system",
        &format!("system_namespace: astra-{suffix:08x}\n  image: {}", images.own),
    );
    site.write(".astra/astra.yaml", &settings);
    let mut names = Vec::new();
    for old in ["sirius", "vega"] {
        let name = format!("{}{suffix:08x}", &old[..1]);
        let file = std::fs::read_to_string(site.path(&format!(".astra/agents/{old}.yaml"))).unwrap();
        // Not its prompt, which is one file for both.
        let file = file.replace(&format!("name: {old}"), &format!("name: {name}"));
        let file = file.replace(&format!("agents/{old}"), &format!("agents/{name}"));
        let file = file.replace(&format!("astra-{old}"), &format!("astra-{name}"));
        let network = format!("network: {{allow: [\"{}/32:{}\"]}}\n", allowed.ip(), allowed.port());
        site.write(&format!(".astra/agents/{name}.yaml"), &(file + &network));
        std::fs::remove_file(site.path(&format!(".astra/agents/{old}.yaml"))).unwrap();
        names.push(name);
    }
    (site, names)
}

fn probe(site: &Site) -> Output {
    site.command(&["agents", "doctor", "--probe", "--format", "json"])
        .env("KUBECONFIG", std::env::var_os("ASTRA_TEST_KUBECONFIG").unwrap())
        .output()
        .unwrap()
}

/// The findings of the probes in an agent's namespace: `state check [faults]`.
fn findings(output: &Output, agent: &str) -> Vec<String> {
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}{}", text(&output.stdout), text(&output.stderr)));
    let start = format!("agent-{agent}: probe: ");
    let found = report["findings"].as_array().unwrap().iter();
    found
        .filter_map(|one| {
            let check = one["check"].as_str()?.strip_prefix(&start)?;
            Some(format!("{} {check} {}", one["state"].as_str()?, one["faults"]))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster to itself"]
async fn a_network_is_found_out() {
    let allowed = TcpListener::bind((cluster::host_address(), 0)).unwrap();
    let (site, names) = site(allowed.local_addr().unwrap());
    let registry = registry_files::load(&site.path(".astra")).unwrap();
    let cluster = TestCluster::of(registry, names[0].parse().unwrap()).await;
    let mut rules = Rules::new();
    services(&mut rules);

    let open = probe(&site);
    assert_eq!(open.status.code(), Some(1), "{}", text(&open.stderr));
    for agent in &names {
        let found = findings(&open, agent);
        let of = |what: &str| {
            let start = format!("failed its pods do not reach {what} [\"NOT ENFORCED: ");
            found.iter().filter(|one| one.starts_with(&start)).count()
        };
        // The API server has two addresses: the cluster's service and its own.
        let counts = ["the API server", "an agent's pod", "the metadata service", "a foreign name server"];
        assert_eq!(counts.map(of), [2, 1, 1, 1], "{found:#?}");
    }

    deny(&mut rules, allowed.local_addr().unwrap());
    let closed = probe(&site);
    drop(rules);
    let report = text(&closed.stdout);
    // Other tests' agents, whose namespaces may not be gone yet, are not in this registry.
    let failed =
        report.matches("\"state\": \"failed\"").count() - report.matches("is left over").count().min(1);
    assert_eq!(failed, 0, "{report}");
    for agent in &names {
        let found = findings(&closed, agent);
        let enforced = |one: &&String| one.starts_with("passed") && one.contains(": enforced (");
        assert_eq!(found.iter().filter(enforced).count(), 4, "{found:#?}");
        // That nothing answers there does not say that anything was kept away.
        let metadata = "unknown its pods do not reach the metadata service ";
        assert!(found.iter().any(|one| one.starts_with(metadata)), "{found:#?}");
        assert!(found.contains(&"passed its pods reach what `network.allow` names []".into()), "{found:#?}");
    }

    // Nothing of the probes stays.
    for agent in &names {
        let path = format!("/apis/batch/v1/namespaces/agent-{agent}/jobs");
        assert_eq!(cluster.get(&path).await.body["items"], json!([]));
    }
    cluster.remove().await;
}
