//! `dispatch` towards a cluster that nobody asks, or that is not there.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/site.rs"]
mod site;

use std::io::{Read, Write};
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use site::{Site, text};

const KUBECONFIG: &str = r#"
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: one, context: {cluster: c, user: u}}]
current-context: one
"#;

const IMAGE: &str =
    "registry.example.com/astra@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A registry whose runs have images.
fn site() -> Site {
    let site = Site::new("true", 1);
    let edit = |path: &str, from: &str, to: &str| {
        let text = std::fs::read_to_string(site.path(path)).unwrap();
        assert!(text.contains(from), "{path} has {from}");
        site.write(path, &text.replace(from, to));
    };
    edit(".astra/astra.yaml", "kubernetes:\n", &format!("kubernetes:\n  image: {IMAGE}\n"));
    edit(".astra/agents/vega.yaml", "runtime: {", &format!("runtime: {{image: {IMAGE:?}, "));
    site
}

fn dispatch(site: &Site, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    let event = site.event(7, 1, &json!({}));
    let mut command = site.command(&["dispatch", "--event", &event]);
    command
        .args(arguments)
        .env("ASTRA_GIT_BASE_URL", "https://git.example.com")
        .envs(variables.iter().copied());
    command.output().unwrap()
}

#[test]
fn the_manifests_of_a_run_are_shown_without_a_cluster_and_without_values() {
    let site = site();
    let output = dispatch(&site, &[], &["--dry-run", "client"]);
    let (shown, said) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("would be dispatched to vega"), "the decision is told to people: {said}");
    let manifests: Vec<Value> =
        shown.split("---\n").skip(1).map(|one| serde_saphyr::from_str(one).unwrap()).collect();
    let kinds: Vec<&Value> = manifests.iter().map(|manifest| &manifest["kind"]).collect();
    assert_eq!(kinds, ["Job", "Secret"]);
    assert_eq!(manifests[0]["spec"]["suspend"], true);
    assert_eq!(manifests[0]["metadata"]["name"], manifests[1]["metadata"]["name"]);
    let annotation = |name: &str| -> Value {
        let text = manifests[0]["metadata"]["annotations"][format!("dispatch.astra.dev/{name}")].as_str();
        serde_json::from_str(text.unwrap()).unwrap()
    };
    assert_eq!(annotation("subject")["agent"], "vega");
    assert_eq!(annotation("decision")[0]["chosen"], true);
    let values = manifests[1]["stringData"].as_object().unwrap();
    assert!(
        values.contains_key("plan.json") && values.values().all(|value| value == "(not shown)"),
        "{values:?}"
    );
    let status = site.status();
    assert_eq!((&status["runs"], &status["waiting"]), (&json!([]), &json!([])), "nothing was changed");
}

#[test]
fn what_keeps_a_run_from_a_cluster_is_said_with_its_remedy() {
    let site = site();
    site.write("kubeconfig", KUBECONFIG);
    let unreachable = site.path("kubeconfig");
    let unreachable = ("KUBECONFIG", unreachable.to_str().unwrap());
    let kubernetes = ["--executor", "kubernetes"];
    let server = ["--dry-run", "server", "--executor", "local"];
    let by_hand = ["--executor", "kubernetes", "--task", "AST-7"];
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str], i32, &'a str);
    let cases: [Case<'_>; 6] = [
        (&[], &kubernetes, 2, "set KUBECONFIG"),
        (&[("KUBECONFIG", "/nowhere")], &kubernetes, 2, "set KUBECONFIG"),
        (&[unreachable], &kubernetes, 75, "kubectl get namespaces"),
        (
            &[unreachable, ("ASTRA_GIT_BASE_URL", "file:///srv")],
            &kubernetes,
            2,
            "pods cannot clone from file:///srv",
        ),
        (&[], &server, 2, "--executor kubernetes"),
        (&[unreachable], &by_hand, 2, "set PLANE_API_KEY"),
    ];
    for (variables, arguments, code, words) in cases {
        let output = dispatch(&site, variables, arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty());
    }
    // An image that nobody named would be found out by the cluster only.
    let settings = std::fs::read_to_string(site.path(".astra/astra.yaml")).unwrap();
    site.write(".astra/astra.yaml", &settings.replace(&format!("  image: {IMAGE}\n"), ""));
    let output = dispatch(&site, &[], &["--dry-run", "client"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("kubernetes.image"), "{said}");
}

#[test]
fn a_cluster_that_does_not_answer_is_not_found_well() {
    let site = site();
    site.write("kubeconfig", KUBECONFIG);
    let mut command = site.command(&["agents", "doctor"]);
    let output = command.env("KUBECONFIG", site.path("kubeconfig")).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(75), "{said}");
    assert!(said.contains("the API server does not answer") && output.stdout.is_empty(), "{said}");
}

/// A server that is not there, and one that sends a byte now and then: the end comes within seconds.
#[test]
fn a_vault_server_that_does_not_answer_is_said() {
    let site = site();
    let agent = std::fs::read_to_string(site.path(".astra/agents/vega.yaml")).unwrap();
    site.write(".astra/agents/vega.yaml", &agent.replace("env: []", "env: [MODEL_KEY]"));
    let slow = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let slow_address = format!("http://{}", slow.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in slow.incoming() {
            let mut stream = stream.unwrap();
            // An answer before the question would be a server that cannot be talked to.
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n");
            while stream.write_all(b" ").is_ok() {
                std::thread::sleep(Duration::from_millis(500));
            }
        }
    });
    for (address, cause, remedy) in [
        ("http://127.0.0.1:1", "the vault server cannot be reached", "check VAULT_ADDR, VAULT_CACERT"),
        (slow_address.as_str(), "the vault server did not answer within 10 s", "try again later"),
    ] {
        let begun = Instant::now();
        let variables = [("VAULT_ADDR", address), ("VAULT_TOKEN", "hvs.canary")];
        let output = dispatch(&site, &variables, &["--dry-run", "client"]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(75), "{said}");
        let said = said.lines().find(|line| line.starts_with("error: ")).unwrap();
        assert!(said.contains(cause) && said.contains(remedy), "{said}");
        assert!(said.contains("(agent vega, path astra/agents/vega)") && !said.contains("hvs."), "{said}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }
}

#[test]
fn manifests_for_kustomize_are_those_for_kubectl() {
    let site = site();
    let printed = site.run(&["agents", "provision"]);
    let documents = |text: &str| -> Vec<Value> {
        text.split("---\n").skip(1).map(|one| serde_saphyr::from_str(one).unwrap()).collect()
    };
    site.write("cluster/agent-gone.yaml", "");
    let output = site.run(&["agents", "provision", "--kustomize", "cluster"]);
    let said = text(&output.stderr);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), ""), "{said}");
    assert!(said.contains("agent-gone.yaml is of no agent"), "{said}");
    let read = |name: &str| std::fs::read_to_string(site.path(&format!("cluster/{name}"))).unwrap();
    let kustomization = &documents(&read("kustomization.yaml"))[0];
    let names: Vec<&str> =
        kustomization["resources"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    for namespace in ["agent-sirius.yaml", "agent-vega.yaml", "astra-system.yaml"] {
        assert!(names.contains(&namespace), "{names:?}");
    }
    let sorted = |mut manifests: Vec<Value>| {
        manifests.sort_by_key(Value::to_string);
        manifests
    };
    let written = names.iter().flat_map(|name| documents(&read(name))).collect();
    assert_eq!(sorted(written), sorted(documents(&text(&printed.stdout))));
}
