//! Known secrets in the vault, the App's key, the kubeconfig and the workflow's variables, and every command
//! on a real cluster as a step of a workflow: then everything that came out anywhere is searched for them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/canary.rs"]
mod canary;
#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/cluster_site.rs"]
mod cluster_site;
#[path = "support/git_server.rs"]
mod git_server;
#[path = "support/github_fake.rs"]
mod github_fake;
#[path = "support/relay.rs"]
mod relay;
#[path = "support/site.rs"]
mod site;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;

use astra_dispatch::cli::Cli;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use canary::{Canaries, without_masks};
use clap::CommandFactory;
use cluster_site::{ClusterSite, Worker};
use github_fake::GitHubFake;
use relay::Relay;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use site::text;

const MODEL_KEY: &str = "sk-canary-8Qx7/Zr+41 \"quoted\" \\ ü-end";
const DEPLOY_KEY: &str = "-----BEGIN CANARY KEY-----\nY2FuYXJ5LWxpbmUtb25lLTAwMQ==\nY2FuYXJ5LWxpbmUtdHdvLTAwMg==\n-----END CANARY KEY-----";
const ROTATED_KEY: &str = "canary-deploy-key-after-its-rotation";
const GIT_TOKEN: &str = "ghs_canaryCanaryCanary0123456789abcdef";
const REQUEST_TOKEN: &str = "request-token-canary-0123";
const APP_KEY: &str = include_str!("../fixtures/github-app/private-key.pem");
/// Shouts all that it has. A task with "slow" in its text takes long.
const SCRIPT: &str = "env; echo \"$MODEL_KEY\" >&2; echo \"$DEPLOY_KEY\"; \
                      [ -n \"$MODEL_KEY\" ] && [ -n \"$DEPLOY_KEY\" ] && [ -z \"$GITHUB_TOKEN$ASTRA_VAULT_IDENTITY\" ] || exit 3; \
                      if grep -q slow $RUN_TASK_FILE; then sleep 600; fi; \
                      echo hello > hello.txt; echo 'Said hello.' > $RUN_OUTPUT_DIR/summary.md";

struct World {
    site: ClusterSite,
    github: GitHubFake,
    agent: String,
    identity: String,
    kubeconfig_key: String,
    commands: Mutex<BTreeSet<String>>,
}

impl World {
    async fn new() -> Self {
        let site =
            ClusterSite::new(&[Worker::new("coder", SCRIPT), Worker::new("other", "true")], |settings| {
                settings
            })
            .await;
        let agent = site.namespace("coder").strip_prefix("agent-").unwrap().to_owned();
        let file = format!(".astra/agents/{agent}.yaml");
        let own = std::fs::read_to_string(site.site.path(&file)).unwrap();
        site.site.write(&file, &own.replace("env: []", "env: [MODEL_KEY, DEPLOY_KEY]"));
        let identity = age::x25519::Identity::generate().to_string().expose_secret().to_owned();
        let github = GitHubFake::start(site.git.repositories()).await;
        let permissions = json!({"contents": "write", "metadata": "read", "pull_requests": "write"});
        github.world(|world| {
            world.granted = permissions.clone();
            let installation = json!({"id": 7, "account": {"login": "astra"}, "permissions": permissions,
                "repository_selection": "selected", "suspended_at": null, "html_url": "https://github.com/x"});
            world.there.insert("/repos/astra/api/installation".into(), installation);
            world.there.insert("/repos/astra/api".into(), json!({"private": true, "visibility": "private"}));
        });
        let kubeconfig: Value =
            serde_json::from_str(&std::fs::read_to_string(site.site.path("kubeconfig")).unwrap()).unwrap();
        let key = kubeconfig["users"][0]["user"]["client-key-data"].as_str().unwrap();
        let kubeconfig_key = String::from_utf8(STANDARD.decode(key).unwrap()).unwrap();
        Self { site, github, agent, identity, kubeconfig_key, commands: Mutex::default() }
    }

    fn canaries(&self) -> Canaries {
        Canaries::new([
            ("the key of the model", MODEL_KEY),
            ("the key of several lines", DEPLOY_KEY),
            ("its successor", ROTATED_KEY),
            ("the agent's token for Git", GIT_TOKEN),
            ("the vault's identity", &self.identity),
            ("the kubeconfig's key", &self.kubeconfig_key),
            ("the App's key", APP_KEY.trim_end()),
            ("a minted token", github_fake::TOKEN),
            ("the token for identity tokens", REQUEST_TOKEN),
            ("the webhook's secret", relay::SECRET),
        ])
    }

    /// A command as a step of a workflow.
    fn command(&self, arguments: &[&str]) -> Command {
        let words = words(&Cli::command(), arguments);
        self.commands.lock().unwrap().insert(words);
        let mut command = self.site.command(arguments);
        command
            .env_remove("ASTRA_NO_GITHUB")
            .env("GITHUB_ACTIONS", "true")
            .env("GITHUB_OUTPUT", self.site.site.path("outputs"))
            .env("GITHUB_STEP_SUMMARY", self.site.site.path("step-summary"))
            .env("GITHUB_API_URL", format!("{}/api/v3", self.github.url))
            .env("GITHUB_REPOSITORY", "astra/api")
            .env("ASTRA_APP_ID", "1234")
            .env("ASTRA_APP_PRIVATE_KEY", APP_KEY)
            .env("ASTRA_VAULT_IDENTITY", &self.identity)
            .env("ACTIONS_ID_TOKEN_REQUEST_URL", "http://127.0.0.1:1/token")
            .env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", REQUEST_TOKEN)
            .env("ASTRA_LOG", "trace");
        command
    }

    /// Runs a command, and searches what it says, and how it calls others.
    fn run(&self, canaries: &Canaries, arguments: &[&str], input: &str) -> Output {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let pid = child.id();
        let watched = std::thread::spawn({
            let canaries = canaries.clone();
            move || canaries.watch_arguments(pid)
        });
        let output = child.wait_with_output().unwrap();
        watched.join().unwrap();
        canaries.search(&format!("{arguments:?} stdout"), &output.stdout);
        let said = without_masks(&text(&output.stderr));
        canaries.search(&format!("{arguments:?} stderr"), said.as_bytes());
        output
    }

    fn ok(&self, canaries: &Canaries, arguments: &[&str], input: &str) -> Output {
        let output = self.run(canaries, arguments, input);
        let said = without_masks(&text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
        output
    }

    fn dispatch(&self, canaries: &Canaries, number: u64, name: &str) -> String {
        let event = self.site.site.event(number, 1, &json!({"name": name}));
        let output = self.ok(canaries, &["dispatch", "--event", &event, "--format", "json"], "");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["outcome"], "dispatched", "{report:#}");
        report["run"].as_str().unwrap().to_owned()
    }

    /// A recorded webhook goes through a relay; its log is a file of the site.
    async fn relay(&self, canaries: &Canaries) {
        let mut command = self.command(&relay::LISTEN);
        // It is no step of a workflow: nothing would hide the line that tells a runner what to hide.
        command.env_remove("GITHUB_ACTIONS").stderr(File::create(self.site.site.path("relay.log")).unwrap());
        let mut relay = Relay::of(command);
        let (headers, body) = relay::recorded("10-issue-created-label-agent-coder");
        assert_eq!(relay::post(&relay, &headers, &body), Some(200));
        let raised =
            async || self.github.world(|world| (!world.raised.is_empty()).then(|| json!(world.raised)));
        let raised = cluster::eventually("the workflow is started", raised).await;
        canaries.search("what starts the workflow", raised.to_string().as_bytes());
        for path in ["/metrics", "/healthz", "/readyz"] {
            canaries.search(path, relay.get(path).1.as_bytes());
        }
        assert_eq!(relay.terminate(), Some(0));
    }

    /// The commands that change vault, registry, or nothing at all.
    fn keep_house(&self, canaries: &Canaries) {
        let other = age::x25519::Identity::generate().to_public().to_string();
        self.ok(canaries, &["vault", "rotate", &self.agent, "DEPLOY_KEY"], ROTATED_KEY);
        self.ok(canaries, &["vault", "recipients", "add", &other], "");
        self.ok(canaries, &["vault", "recipients", "remove", &other], "");
        for copy in ["base.age", "theirs.age"] {
            std::fs::copy(self.site.site.path(".astra/vault.age"), self.site.site.path(copy)).unwrap();
        }
        self.ok(canaries, &["vault", "remove", &self.agent, "GITHUB_TOKEN"], "");
        self.ok(canaries, &["vault", "merge", "base.age", ".astra/vault.age", "theirs.age"], "");
        self.ok(canaries, &["agents", "new", "nova", "--role", "docs"], "");
        self.ok(canaries, &["completions", "bash"], "");
        self.ok(canaries, &["man", "manual"], "");
        self.ok(canaries, &["demo"], "");
    }

    /// Everything in these namespaces that anybody but the run itself may read.
    async fn search_cluster(&self, canaries: &Canaries) {
        let admin = &self.site.cluster;
        for namespace in [admin.namespace(), admin.system_namespace.clone()] {
            for what in
                ["api/v1/{}/pods", "api/v1/{}/events", "api/v1/{}/configmaps", "apis/batch/v1/{}/jobs"]
            {
                let path = format!("/{}", what.replace("{}", &format!("namespaces/{namespace}")));
                let found = admin.get(&path).await.body;
                assert!(found["items"].is_array(), "{found}");
                canaries.search(&path, found.to_string().as_bytes());
            }
        }
    }

    /// What reached GitHub and the repository: the requests, the log of two runs and a transcript, every object.
    fn search_forge(&self, canaries: &Canaries) {
        for (what, found) in self.github.world(|world| {
            assert_eq!((world.pulls.len(), world.log.as_ref().map(Vec::len)), (1, Some(3)));
            [
                ("pull requests", json!(world.pulls)),
                ("run log", json!(world.log)),
                ("requests", json!(world.requests)),
            ]
        }) {
            canaries.search(what, found.to_string().as_bytes());
        }
        let objects = self.site.git.git(&["cat-file", "--batch-all-objects", "--batch"]);
        canaries.search("the repository", objects.as_bytes());
    }
}

/// The words that name the command which these arguments call.
fn words(command: &clap::Command, arguments: &[&str]) -> String {
    let below = arguments.first().and_then(|word| command.find_subcommand(word));
    below
        .map_or_else(String::new, |below| format!("{} {}", below.get_name(), words(below, &arguments[1..])))
        .trim_end()
        .to_owned()
}

/// Every command that people see and that does something.
fn leaves(command: &clap::Command, above: &str) -> Vec<String> {
    if !command.has_subcommands() {
        return vec![above.trim_end().to_owned()];
    }
    let visible = command.get_subcommands().filter(|below| !below.is_hide_set());
    visible.flat_map(|below| leaves(below, &format!("{above}{} ", below.get_name()))).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn no_command_shows_a_secret() {
    let world = World::new().await;
    let canaries = &world.canaries();
    for (key, value) in [("MODEL_KEY", MODEL_KEY), ("DEPLOY_KEY", DEPLOY_KEY), ("GITHUB_TOKEN", GIT_TOKEN)] {
        world.ok(canaries, &["vault", "set", &world.agent, key], value);
    }
    let event = world.site.site.event(7, 1, &json!({}));
    for dry in ["client", "server"] {
        let output = world.ok(canaries, &["dispatch", "--event", &event, "--dry-run", dry], "");
        assert!(!output.stdout.is_empty(), "{dry}");
    }
    world.ok(canaries, &["explain", "--event", &event, "--format", "json"], "");
    let run = world.dispatch(canaries, 7, "A task");
    world.ok(canaries, &["logs", "--follow", &run], "");
    world.search_cluster(canaries).await;
    world.site.ended(&run).await;
    let published = world.ok(canaries, &["publish", "--format", "json"], "");
    assert!(text(&published.stdout).contains(&run), "{}", without_masks(&text(&published.stderr)));
    let slow = world.dispatch(canaries, 8, "A slow task");
    world.ok(canaries, &["cancel", &slow], "");
    for arguments in [
        ["status"].as_slice(),
        &["status", "--format", "json"],
        &["status", "--history"],
        &["logs", &run],
        &["sweep", "--format", "json"],
        &["publish", "--run", &run],
        &["agents", "check"],
        &["agents", "check", "--format", "sarif"],
        &["agents", "list"],
        &["agents", "prompt", &world.agent, "--event", &event],
        &["agents", "schema", "agent"],
        &["agents", "provision"],
        &["agents", "doctor"],
        &["agents", "doctor", "--probe"],
        &["agents", "doctor", "--github"],
        &["init", "--diff", "--yes"],
        &["vault", "list", "--format", "json"],
        &["vault", "recipients", "list"],
        &["kube-credential"],
    ] {
        let output = world.run(canaries, arguments, "");
        let expected = match arguments {
            ["kube-credential"] => &[75][..],
            ["agents", "doctor", ..] | ["publish", "--run", _] | ["init", ..] => &[0, 1, 2],
            _ => &[0],
        };
        let said = without_masks(&text(&output.stderr));
        assert!(expected.contains(&output.status.code().unwrap()), "{arguments:?}: {said}");
    }
    world.relay(canaries).await;
    world.keep_house(canaries);
    world.search_cluster(canaries).await;
    world.search_forge(canaries);
    std::fs::remove_file(world.site.site.path("kubeconfig")).unwrap();
    assert!(canaries.search_files(&world.site.site.path(".")) > 10);
    // Those of `run` are the pods' steps.
    let all = leaves(&Cli::command(), "").into_iter().filter(|name| !name.starts_with("run "));
    assert_eq!(*world.commands.lock().unwrap(), all.collect());
    world.site.cluster.remove().await;
}
