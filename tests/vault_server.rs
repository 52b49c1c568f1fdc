//! Credentials from a real HashiCorp Vault in development mode: by a workflow's identity and by a token.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/site.rs"]
mod site;

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::routing::get;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use site::{Site, text};

const KEY: &str = "canary-server-5d2f";
const TOKEN: &str = "root-5d2f-root-5d2f";
const WORKFLOW: &str = "octo/app/.github/workflows/dispatch.yml@refs/heads/main";
const ISSUER: &str = "https://token.actions.githubusercontent.com";

/// A server with one agent's secrets and a role for the workflow `dispatch.yml` on `main`.
struct Server {
    child: Child,
    address: String,
    home: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    async fn new() -> Self {
        let program = std::env::var("ASTRA_TEST_VAULT").unwrap();
        let home = tempfile::tempdir().unwrap();
        // It also listens on the next port.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let child = Command::new(program)
            .args(["server", "-dev", "-dev-no-store-token"])
            .arg(format!("-dev-root-token-id={TOKEN}"))
            .arg(format!("-dev-listen-address={address}"))
            .env("HOME", home.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, address: format!("http://{address}"), home };
        for _ in 0..200 {
            if reqwest::get(format!("{}/v1/sys/health", server.address)).await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        server.set_up().await;
        server
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let response = reqwest::Client::new()
            .request(method, format!("{}/v1/{path}", self.address))
            .header("X-Vault-Token", TOKEN)
            .json(&body)
            .send()
            .await
            .unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or(Value::Null))
    }

    async fn set_up(&self) {
        for arguments in [
            ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "ec.pem"].as_slice(),
            &["pkcs8", "-topk8", "-nocrypt", "-in", "ec.pem", "-out", "key.pem"],
            &["ec", "-in", "ec.pem", "-pubout", "-out", "public.pem"],
        ] {
            let done =
                Command::new("openssl").args(arguments).current_dir(self.home.path()).output().unwrap();
            assert!(done.status.success(), "{}", text(&done.stderr));
        }
        let public = std::fs::read_to_string(self.home.path().join("public.pem")).unwrap();
        let secrets = json!({"data": {"MODEL_KEY": KEY, "NOT_LISTED": "canary-server-other"}});
        for (method, path, body) in [
            ("POST", "sys/mounts/astra", json!({"type": "kv", "options": {"version": "2"}})),
            ("POST", "astra/data/agents/vega", secrets),
            ("POST", "sys/auth/jwt", json!({"type": "jwt"})),
            ("POST", "auth/jwt/config", json!({"jwt_validation_pubkeys": [public], "bound_issuer": ISSUER})),
        ] {
            let (status, answer) = self.call(method, path, body).await;
            assert!(status < 300, "{path}: {status} {answer}");
        }
        self.provision();
    }

    /// Policy and role as `agents provision --vault` prints them, run by `sh`.
    fn provision(&self) {
        let program = std::path::PathBuf::from(std::env::var("ASTRA_TEST_VAULT").unwrap());
        let printed = site("astra/agents/vega")
            .command(&["agents", "provision", "--vault", "--agent", "vega", "--repository-id", "123456"])
            .args(["--workflow-ref", WORKFLOW, "--environment", "agents"])
            .env("VAULT_ADDR", &self.address)
            .output()
            .unwrap();
        assert!(printed.status.success(), "{}", text(&printed.stderr));
        let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
        let done = Command::new("sh")
            .arg("-c")
            .arg(text(&printed.stdout))
            .env("PATH", path)
            .env("HOME", self.home.path())
            .env("VAULT_ADDR", &self.address)
            .env("VAULT_TOKEN", TOKEN)
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", text(&done.stderr));
    }

    /// How many tokens there are; the root's is one of them.
    async fn tokens(&self) -> usize {
        let (_, answer) = self.call("LIST", "auth/token/accessors", Value::Null).await;
        answer["data"]["keys"].as_array().unwrap().len()
    }

    /// Serves a workflow's identity with these changes, as GitHub does, and returns its address.
    async fn issuer(&self, changes: &Value) -> String {
        let key = std::fs::read(self.home.path().join("key.pem")).unwrap();
        let state = (EncodingKey::from_ec_pem(&key).unwrap(), changes.clone());
        let router = axum::Router::new().route("/token", get(identity)).with_state(state);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        format!("http://{address}/token?api-version=2.0")
    }
}

async fn identity(
    State((key, changes)): State<(EncodingKey, Value)>,
    Query(query): Query<BTreeMap<String, String>>,
) -> axum::Json<Value> {
    let now = jiff::Timestamp::now().as_second();
    let mut claims = json!({
        "iss": ISSUER, "aud": query["audience"], "sub": "repo:octo/app:ref:refs/heads/main",
        "ref": "refs/heads/main", "repository_id": "123456", "job_workflow_ref": WORKFLOW, "environment": "agents", "iat": now, "nbf": now - 5, "exp": now + 300,
    });
    for (claim, value) in changes.as_object().unwrap() {
        match value.as_i64() {
            // Seconds from now.
            Some(seconds) => claims[claim] = json!(now + seconds),
            None => claims[claim] = value.clone(),
        }
    }
    axum::Json(json!({"value": jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &key).unwrap()}))
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

/// Dispatches a task, and returns its result and everything that was said.
async fn dispatch(site: &Site, variables: &[(&str, &str)]) -> (Value, String) {
    let event = site.event(7, 1, &json!({}));
    let mut command = site.command(&["dispatch", "--event", &event, "--format", "json"]);
    command.envs(variables.iter().copied());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
    let log = site.run(&["logs", report["run"].as_str().unwrap()]);
    let all = format!("{report}\n{}\n{}", text(&output.stderr), text(&log.stdout));
    assert!(!all.contains("canary-server") && !all.contains(TOKEN) && !all.contains("hvs."), "{all}");
    (report["result"].clone(), all)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Vault server: .ci/run vault"]
async fn a_workflow_logs_in_reads_what_the_agent_lists_and_logs_out() {
    let server = Server::new().await;
    let before = server.tokens().await;
    let url = server.issuer(&json!({})).await;
    let variables = [
        ("VAULT_ADDR", server.address.as_str()),
        ("ACTIONS_ID_TOKEN_REQUEST_URL", &url),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "request-token"),
    ];
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
        (json!({"iat": -7200, "nbf": -7200, "exp": -3600}), "had expired"),
        (json!({"nbf": 3600, "iat": 3600, "exp": 7200}), "not valid yet"),
    ] {
        let url = server.issuer(&changes).await;
        let variables = [variables[0], ("ACTIONS_ID_TOKEN_REQUEST_URL", &url), variables[2]];
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
    let server = Server::new().await;
    let token = [("VAULT_ADDR", server.address.as_str()), ("VAULT_TOKEN", TOKEN)];
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
    let wrong = [token[0], ("VAULT_TOKEN", "hvs.wrong")];
    let (_, all) = dispatch(&site("astra/agents/vega"), &wrong).await;
    assert!(all.contains("does not accept the token"), "{all}");
    let (_, all) = dispatch(&site("astra/agents/vega"), &token[..1]).await;
    assert!(all.contains("nothing to log in to the vault server with"), "{all}");

    let (status, _) = server.call("DELETE", "astra/data/agents/vega", Value::Null).await;
    assert_eq!(status, 204);
    let (_, all) = dispatch(&site("astra/agents/vega"), &token).await;
    assert!(all.contains("was deleted from the vault server"), "{all}");
}
