//! A real HashiCorp Vault or OpenBao (`ASTRA_TEST_VAULT`, see tests/vault-server/build) in development
//! mode, by https with an authority of its own, and an issuer of workflows' identities that it trusts.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use astra_dispatch::adapters::tls;
use axum::extract::{Query, State};
use axum::routing::get;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::site::{Site, text};

/// The token that may do everything.
pub const ROOT: &str = "root-5d2f-root-5d2f";
/// What the job shows for a token.
pub const REQUEST_TOKEN: &str = "request-token-5d2f";
/// The one workflow that may log in, on `main` and in the environment `agents`.
pub const WORKFLOW: &str = "octo/app/.github/workflows/run.yml@refs/heads/main";
/// Made by the server, beside its certificate.
const AUTHORITY: &str = "vault-ca.pem";
const ISSUER: &str = "https://token.actions.githubusercontent.com";

/// The server, with a KV engine at `astra` and login by JWT.
pub struct VaultServer {
    child: Child,
    pub address: String,
    pub home: tempfile::TempDir,
    http: reqwest::Client,
}

impl Drop for VaultServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> PathBuf {
    std::env::var_os("ASTRA_TEST_VAULT").unwrap().into()
}

impl VaultServer {
    pub async fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        // It also listens on the next port.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(program())
            .args(["server", "-dev", "-dev-no-store-token", "-dev-tls"])
            .arg(format!("-dev-tls-cert-dir={}", home.path().display()))
            .arg(format!("-dev-root-token-id={ROOT}"))
            .arg(format!("-dev-listen-address=127.0.0.1:{port}"))
            .env("HOME", home.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let address = format!("https://127.0.0.1:{port}");
        let end = Instant::now() + Duration::from_secs(30);
        let http = loop {
            if let Ok(config) = tls::client_config(Some(&home.path().join(AUTHORITY))) {
                let http = reqwest::Client::builder().tls_backend_preconfigured(config).build().unwrap();
                if http.get(format!("{address}/v1/sys/health")).send().await.is_ok() {
                    break http;
                }
            }
            assert!(Instant::now() < end, "the server did not start");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let server = Self { child, address, home, http };
        server.set_up().await;
        server
    }

    /// The file with the authority of its certificate, as PEM.
    pub fn authority(&self) -> String {
        self.home.path().join(AUTHORITY).display().to_string()
    }

    /// Asks it, with every right.
    pub async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let request = self.http.request(method, format!("{}/v1/{path}", self.address));
        let response = request.header("X-Vault-Token", ROOT).json(&body).send().await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or(Value::Null))
    }

    /// The same, and it must be done.
    pub async fn set(&self, path: &str, body: Value) {
        let (status, answer) = self.call("POST", path, body).await;
        assert!(status < 300, "{path}: {status} {answer}");
    }

    async fn set_up(&self) {
        openssl(self.home.path(), "ecparam -name prime256v1 -genkey -noout -out ec.pem");
        openssl(self.home.path(), "pkcs8 -topk8 -nocrypt -in ec.pem -out key.pem");
        openssl(self.home.path(), "ec -in ec.pem -pubout -out public.pem");
        let public = std::fs::read_to_string(self.home.path().join("public.pem")).unwrap();
        self.set("sys/mounts/astra", json!({"type": "kv", "options": {"version": "2"}})).await;
        self.set("sys/auth/jwt", json!({"type": "jwt"})).await;
        let trusted = json!({"jwt_validation_pubkeys": [public], "bound_issuer": ISSUER});
        self.set("auth/jwt/config", trusted).await;
    }

    /// Gives an agent of this site policy and role as `agents provision --vault` prints them, by `sh`.
    pub fn provision(&self, site: &Site, agent: &str) {
        let printed = site
            .command(&["agents", "provision", "--vault", "--agent", agent, "--repository-id", "123456"])
            .args(["--workflow-ref", WORKFLOW, "--environment", "agents"])
            .env("VAULT_ADDR", &self.address)
            .output()
            .unwrap();
        assert!(printed.status.success(), "{}", text(&printed.stderr));
        // OpenBao's program has another name.
        let own = self.home.path().join("bin");
        std::fs::create_dir_all(&own).unwrap();
        let _ = std::os::unix::fs::symlink(program(), own.join("vault"));
        let done = Command::new("sh")
            .arg("-c")
            .arg(text(&printed.stdout))
            .env("PATH", format!("{}:{}", own.display(), std::env::var("PATH").unwrap()))
            .env("HOME", self.home.path())
            .env("VAULT_ADDR", &self.address)
            .env("VAULT_CACERT", self.authority())
            .env("VAULT_TOKEN", ROOT)
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", text(&done.stderr));
    }

    /// How many tokens there are; the root's is one of them.
    pub async fn tokens(&self) -> usize {
        let (_, answer) = self.call("LIST", "auth/token/accessors", Value::Null).await;
        answer["data"]["keys"].as_array().unwrap().len()
    }

    /// Serves a workflow's identity with these changes, as GitHub does, and returns its address.
    pub async fn issuer(&self, changes: &Value) -> String {
        let key = std::fs::read(self.home.path().join("key.pem")).unwrap();
        let state = (EncodingKey::from_ec_pem(&key).unwrap(), changes.clone());
        let router = axum::Router::new().route("/token", get(identity)).with_state(state);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        format!("http://{address}/token?api-version=2.0")
    }

    /// The variables of a workflow's job that logs in here with an identity from `issuer`.
    pub fn variables(&self, issuer: &str) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            ("VAULT_ADDR", self.address.clone()),
            ("VAULT_CACERT", self.authority()),
            ("ACTIONS_ID_TOKEN_REQUEST_URL", issuer.to_owned()),
            ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", REQUEST_TOKEN.to_owned()),
        ])
    }
}

fn openssl(directory: &Path, arguments: &str) {
    let done = Command::new("openssl").args(arguments.split(' ')).current_dir(directory).output().unwrap();
    assert!(done.status.success(), "{}", text(&done.stderr));
}

async fn identity(
    State((key, changes)): State<(EncodingKey, Value)>,
    Query(query): Query<BTreeMap<String, String>>,
) -> axum::Json<Value> {
    let now = jiff::Timestamp::now().as_second();
    let mut claims = json!({
        "iss": ISSUER, "aud": query["audience"], "sub": "repo:octo/app:ref:refs/heads/main",
        "ref": "refs/heads/main", "repository_id": "123456", "job_workflow_ref": WORKFLOW,
        "environment": "agents", "iat": now, "nbf": now - 5, "exp": now + 300,
    });
    for (claim, value) in changes.as_object().unwrap() {
        // Seconds from now.
        claims[claim] = value.as_i64().map_or_else(|| value.clone(), |seconds| json!(now + seconds));
    }
    axum::Json(json!({"value": jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &key).unwrap()}))
}
