//! Runs on a real cluster whose credentials come from a real HashiCorp Vault or OpenBao: the dispatcher
//! logs in as the workflow, the run's Secret has what the agent's file lists, and no pod sees the server.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/canary.rs"]
mod canary;
#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/cluster_site.rs"]
mod cluster_site;
#[path = "support/git_server.rs"]
mod git_server;
#[path = "support/site.rs"]
mod site;
#[path = "support/vault_server.rs"]
mod vault_server;

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use canary::{Canaries, without_masks};
use cluster_site::{ClusterSite, Worker};
use serde_json::{Value, json};
use site::text;
use vault_server::{REQUEST_TOKEN, ROOT, VaultServer};

const KEY: &str = "sk-canary-server-8Qx7/Zr+41";
const GIT_TOKEN: &str = "ghs_canaryServerCanary0123456789abcdef";
const NOT_LISTED: &str = "canary-server-not-listed";
/// Its digest is compared: the script's text is in the Job. It goes on once it was looked at.
const SCRIPT: &str = "[ \"$(printf %s \"$MODEL_KEY\" | sha256sum | cut -d' ' -f1)\" = DIGEST ] || exit 3; \
                      [ -z \"$NOT_LISTED$GITHUB_TOKEN$VAULT_ADDR$VAULT_TOKEN$ACTIONS_ID_TOKEN_REQUEST_TOKEN\" ] || exit 4; \
                      env; echo hello > hello.txt; echo 'Said hello.' > $RUN_OUTPUT_DIR/summary.md";

type Variables = BTreeMap<&'static str, String>;

struct World {
    site: ClusterSite,
    server: VaultServer,
    canaries: Canaries,
}

impl World {
    async fn new() -> Self {
        use sha2::{Digest, Sha256};
        let script = SCRIPT.replace("DIGEST", &hex::encode(Sha256::digest(KEY)));
        let site = ClusterSite::new(&[Worker::new("coder", script.leak())], |settings| settings).await;
        let agent = site.namespace("coder").strip_prefix("agent-").unwrap().to_owned();
        let file = format!(".astra/agents/{agent}.yaml");
        let own = std::fs::read_to_string(site.site.path(&file)).unwrap();
        site.site.write(&file, &own.replace("env: []", "env: [MODEL_KEY]"));
        let server = VaultServer::new().await;
        let secrets = json!({"MODEL_KEY": KEY, "GITHUB_TOKEN": GIT_TOKEN, "NOT_LISTED": NOT_LISTED});
        server.set(&format!("astra/data/agents/{agent}"), json!({"data": secrets})).await;
        server.provision(&site.site, &agent);
        let canaries = Canaries::new([
            ("the key", KEY),
            ("the token for Git", GIT_TOKEN),
            ("another agent's", NOT_LISTED),
            ("the server's root token", ROOT),
            ("the token for identity tokens", REQUEST_TOKEN),
        ]);
        Self { site, server, canaries }
    }

    /// Runs a command as a step of a workflow; its exit code, its JSON, and what it said but for masks.
    async fn run(&self, arguments: &[&str], variables: &Variables) -> (i32, Value, String) {
        let mut command = self.site.command(arguments);
        command.env("GITHUB_ACTIONS", "true").env("ASTRA_LOG", "trace").envs(variables);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let said = without_masks(&text(&output.stderr));
        self.canaries.search(&format!("{arguments:?} stdout"), &output.stdout);
        self.canaries.search(&format!("{arguments:?} stderr"), said.as_bytes());
        assert!(!said.contains("hvs.") && !said.contains("eyJ"), "no token of a login: {said}");
        let report = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        (output.status.code().unwrap(), report, said)
    }

    async fn dispatch(&self, number: u64, variables: &Variables) -> (i32, Value, String) {
        let event = self.site.site.event(number, 1, &json!({}));
        self.run(&["dispatch", "--event", &event, "--format", "json"], variables).await
    }

    /// The keys of a run's Secret with their values; `None`: there is no such Secret.
    async fn secret(&self, run: &str) -> Option<BTreeMap<String, String>> {
        let path = format!("/api/v1/namespaces/{}/secrets/{run}", self.site.cluster.namespace());
        let answered = self.site.cluster.get(&path).await;
        let decoded =
            |value: &Value| String::from_utf8(STANDARD.decode(value.as_str().unwrap()).unwrap()).unwrap();
        let data = answered.body["data"].as_object()?;
        Some(data.iter().map(|(key, value)| (key.clone(), decoded(value))).collect())
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster and a Vault server"]
async fn a_run_has_what_its_agent_lists_and_the_login_is_over() {
    let world = World::new().await;
    let variables = world.server.variables(&world.server.issuer(&json!({})).await);
    let before = world.server.tokens().await;
    let event = world.site.site.event(7, 1, &json!({}));
    for dry in ["client", "server"] {
        let (code, _, said) = world.run(&["dispatch", "--event", &event, "--dry-run", dry], &variables).await;
        assert_eq!(code, 0, "{said}");
    }
    let mut masked = world.site.command(&["dispatch", "--event", &event, "--dry-run", "client"]);
    masked.env("GITHUB_ACTIONS", "true").envs(&variables);
    let masked = tokio::task::spawn_blocking(move || text(&masked.output().unwrap().stderr)).await.unwrap();
    let is_hidden =
        |begin: &str| masked.lines().any(|line| line.starts_with(&format!("::add-mask::{begin}")));
    // The values, the identity and the token of the login.
    assert!(is_hidden(KEY) && is_hidden(GIT_TOKEN) && is_hidden("eyJ") && !is_hidden(NOT_LISTED));
    assert!(is_hidden("hvs.") || is_hidden("s."));
    let (code, report, said) = world.dispatch(7, &variables).await;
    assert_eq!((code, &report["outcome"]), (0, &json!("dispatched")), "{said}");
    assert_eq!(world.server.tokens().await, before, "every token was revoked");
    let run = report["run"].as_str().unwrap();
    let secret = world.secret(run).await.unwrap();
    assert_eq!(secret["agent.MODEL_KEY"], KEY);
    for key in ["prepare.ASTRA_GIT_TOKEN", "deliver.ASTRA_GIT_TOKEN"] {
        assert_eq!(secret[key], GIT_TOKEN);
    }
    assert!(!secret.values().any(|value| value.contains(NOT_LISTED) || value.contains(ROOT)));

    world.site.ended(run).await;
    let plan = world.site.published(run).await;
    assert!(plan.to_string().contains("Said hello."), "{plan:#}");
    assert_eq!(world.secret(run).await, None, "it goes with its run");
    let (_, _, log) = world.run(&["logs", run], &variables).await;
    assert!(!log.contains("VAULT"), "{log}");
    assert!(world.canaries.search_files(&world.site.site.path("state")) > 1);
    world.site.cluster.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster and a Vault server"]
async fn a_server_that_does_not_answer_holds_a_run_up_and_one_that_refuses_ends_it() {
    let world = World::new().await;
    let variables = world.server.variables(&world.server.issuer(&json!({})).await);
    let gone = Variables::from([("VAULT_ADDR", "https://127.0.0.1:1".to_owned())]);
    let mut unreachable = variables.clone();
    unreachable.extend(gone);
    let (code, report, said) = world.dispatch(7, &unreachable).await;
    assert_eq!((code, &report["outcome"]), (75, &json!("dispatched")), "{said}");
    assert!(said.contains("note: the vault server cannot be reached"), "{said}");
    assert!(said.contains("nothing was lost") && said.contains("agent t"), "{said}");
    let run = report["run"].as_str().unwrap().to_owned();
    assert_eq!(world.secret(&run).await, None);
    // Once the server is reached, the same event goes on with the same run.
    let (code, report, said) = world.dispatch(7, &variables).await;
    assert_eq!(
        (code, &report["outcome"], &report["run"]),
        (0, &json!("already_running"), &json!(run)),
        "{said}"
    );
    assert_eq!(world.secret(&run).await.unwrap()["agent.MODEL_KEY"], KEY);
    world.site.ended(&run).await;
    world.site.published(&run).await;

    let changes = json!({"ref": "refs/heads/other"});
    let refused = world.server.variables(&world.server.issuer(&changes).await);
    let (code, report, said) = world.dispatch(8, &refused).await;
    assert_eq!((code, &report["outcome"]), (0, &json!("waiting")), "{said}");
    let reason = report["reason"].as_str().unwrap();
    assert!(reason.contains("does not allow this workflow's `ref`"), "{reason}");
    assert!(reason.contains("bound_claims") && reason.contains("path astra/agents/t"), "{reason}");
    let (_, status, _) = world.run(&["status", "--format", "json"], &refused).await;
    assert_eq!(status["runs"].as_array().unwrap().len(), 1, "nothing is left of it: {status:#}");
    world.site.cluster.remove().await;
}
