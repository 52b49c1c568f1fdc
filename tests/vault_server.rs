//! Credentials from a real HashiCorp Vault or OpenBao in development mode: by a workflow's identity and by
//! a token, by https with an authority of its own.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/site.rs"]
mod site;
#[path = "support/vault_server.rs"]
mod vault_server;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use site::{Site, text};
use vault_server::{ROOT, VaultServer};

const KEY: &str = "canary-server-5d2f";

/// What the program is called with.
type Variables = BTreeMap<&'static str, String>;

/// A server with one agent's secrets and a role for the workflow `run.yml` on `main`.
async fn server() -> VaultServer {
    let server = VaultServer::new().await;
    let secrets = json!({"data": {"MODEL_KEY": KEY, "NOT_LISTED": "canary-server-other"}});
    server.set("astra/data/agents/vega", secrets).await;
    server.provision(&site("astra/agents/vega"), "vega");
    server
}

/// A site whose coder checks that it has its key and nothing else of the vault.
fn site(vault_path: &str) -> Site {
    let site = Site::new(
        "[ \"$MODEL_KEY\" = canary-server-$(echo 5d2f) ] && [ -z \"$NOT_LISTED$VAULT_TOKEN$VAULT_ADDR\" ] || exit 3\n\
         [ -z \"$ACTIONS_ID_TOKEN_REQUEST_TOKEN\" ] || exit 4\n\
         echo more >> README.md; echo done > \"$RUN_OUTPUT_DIR/summary.md\"",
        1,
    );
    let agent = std::fs::read_to_string(site.path(".astra/agents/vega.yaml")).unwrap();
    let agent = agent.replace("env: []", "env: [MODEL_KEY]").replace("astra/agents/vega", vault_path);
    site.write(".astra/agents/vega.yaml", &agent);
    site
}

fn with_token(server: &VaultServer) -> Variables {
    let mut variables = server.variables("");
    variables.insert("VAULT_TOKEN", ROOT.to_owned());
    variables
}

fn shows_no_secret(said: &str) {
    for secret in ["canary-server", ROOT, "hvs."] {
        assert!(!said.contains(secret), "{said}");
    }
}

/// Dispatches a task, and returns its result and everything that was said.
async fn dispatch(site: &Site, variables: &Variables) -> (Value, String) {
    let event = site.event(7, 1, &json!({}));
    let mut command = site.command(&["dispatch", "--event", &event, "--format", "json"]);
    command.envs(variables);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
    let log = site.run(&["logs", report["run"].as_str().unwrap()]);
    let all = format!("{report}\n{}\n{}", text(&output.stderr), text(&log.stdout));
    shows_no_secret(&all);
    (report["result"].clone(), all)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Vault server: .ci/run vault"]
async fn a_workflow_logs_in_reads_what_the_agent_lists_and_logs_out() {
    let server = server().await;
    let before = server.tokens().await;
    let variables = server.variables(&server.issuer(&json!({})).await);
    let (result, all) = dispatch(&site("astra/agents/vega"), &variables).await;
    assert_eq!(result["outcome"], "changed", "{all}");
    assert!(all.contains("MODEL_KEY comes from the vault server"), "{all}");
    assert_eq!(server.tokens().await, before, "its token was revoked");

    for (changes, cause) in [
        (json!({"ref": "refs/heads/other"}), "does not allow this workflow's `ref`"),
        (
            json!({"job_workflow_ref": "octo/app/.github/workflows/x.yml@refs/heads/main"}),
            "`job_workflow_ref`",
        ),
        (json!({"environment": "another"}), "`environment`"),
        (json!({"repository_id": null}), "has no claim `repository_id`"),
        (json!({"iss": "https://example.com"}), "trusts another issuer"),
        (json!({"aud": "another"}), "expects another audience"),
        // Clocks that differ by more than Vault forgives, either way.
        (json!({"iat": -7200, "nbf": -7200, "exp": -3600}), "had expired"),
        (json!({"iat": 3600, "nbf": 3600, "exp": 7200}), "not valid yet"),
    ] {
        let variables = server.variables(&server.issuer(&changes).await);
        let (result, all) = dispatch(&site("astra/agents/vega"), &variables).await;
        assert_eq!(result["class"], "credentials", "{all}");
        assert!(all.contains(cause) && all.contains("agent vega, path astra/agents/vega"), "{cause}: {all}");
    }
    // The role's policy is for its own path only.
    let (_, all) = dispatch(&site("astra/others/vega"), &variables).await;
    assert!(all.contains("policy does not allow reading the path"), "{all}");
    assert_eq!(server.tokens().await, before, "also where nothing could be read");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Vault server: .ci/run vault"]
async fn a_token_does_as_well_and_every_fault_of_a_path_is_told() {
    let server = server().await;
    let token = with_token(&server);
    let (result, all) = dispatch(&site("astra/agents/vega"), &token).await;
    assert_eq!(result["outcome"], "changed", "{all}");
    for (path, cause) in [
        ("astra/absent/vega", "has nothing at the path"),
        ("nowhere/agents/vega", "no secrets engine at the first part"),
    ] {
        let (result, all) = dispatch(&site(path), &token).await;
        assert_eq!(result["class"], "credentials", "{all}");
        assert!(all.contains(cause) && all.contains(path), "{all}");
    }
    let mut wrong = token.clone();
    wrong.insert("VAULT_TOKEN", "hvs.wrong".to_owned());
    let (_, all) = dispatch(&site("astra/agents/vega"), &wrong).await;
    assert!(all.contains("does not accept the token"), "{all}");
    let (_, all) = dispatch(&site("astra/agents/vega"), &server.variables("")).await;
    assert!(all.contains("nothing to log in to the vault server with"), "{all}");

    let (status, _) = server.call("DELETE", "astra/data/agents/vega", Value::Null).await;
    assert_eq!(status, 204);
    let (_, all) = dispatch(&site("astra/agents/vega"), &token).await;
    assert!(all.contains("was deleted from the vault server"), "{all}");
    for (value, cause) in [
        (json!(""), "the value is empty"),
        (json!(7), "the value is not UTF-8 text"),
        (json!("short"), "too short to be guarded"),
        (json!("with\u{0}a NUL"), "a NUL byte"),
        (json!("x".repeat(1 << 20)), "longer than 64 KiB"),
    ] {
        server.set("astra/data/agents/vega", json!({"data": {"MODEL_KEY": value}})).await;
        let (_, all) = dispatch(&site("astra/agents/vega"), &token).await;
        assert!(
            all.contains("MODEL_KEY in the vault server cannot be used: ") && all.contains(cause),
            "{all}"
        );
    }
}

/// Asked once, by what needs neither a run nor a cluster.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Vault server: .ci/run vault"]
async fn only_a_server_of_a_known_authority_is_told_anything() {
    let (server, other) = (server().await, server().await);
    let image = format!("registry.example.com/a@sha256:{}", "0".repeat(64));
    let site = site("astra/agents/vega");
    for (file, from) in [("astra.yaml", "kubernetes:\n"), ("agents/vega.yaml", "runtime: {")] {
        let path = format!(".astra/{file}");
        let text = std::fs::read_to_string(site.path(&path)).unwrap();
        let name =
            if from.ends_with('{') { format!("image: {image:?}, ") } else { format!("  image: {image}\n") };
        site.write(&path, &text.replace(from, &format!("{from}{name}")));
    }
    let event = site.event(7, 1, &json!({}));
    let missing = site.path("missing.pem").display().to_string();
    site.write("empty.pem", "nothing");
    let empty = site.path("empty.pem").display().to_string();
    for (authority, code, words) in [
        (server.authority(), 0, "would be dispatched"),
        (other.authority(), 75, "the vault server cannot be reached: invalid peer certificate"),
        (String::new(), 75, "the vault server cannot be reached: invalid peer certificate"),
        (missing, 2, "missing.pem"),
        (empty, 2, "no certificate in it"),
    ] {
        let mut command = site.command(&["dispatch", "--event", &event, "--dry-run", "client"]);
        command.env("ASTRA_GIT_BASE_URL", "https://git.example.com").envs(with_token(&server));
        let output = command.env("VAULT_CACERT", &authority).output().unwrap();
        let said = text(&output.stderr);
        shows_no_secret(&said);
        shows_no_secret(&text(&output.stdout));
        assert_eq!(output.status.code(), Some(code), "{authority}: {said}");
        assert!(said.contains(words), "{said}");
        assert_eq!(text(&output.stdout).contains("agent.MODEL_KEY: (not shown)"), code == 0);
    }
}
