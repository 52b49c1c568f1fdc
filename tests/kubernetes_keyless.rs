//! `kube-credential` on a real API server with an issuer of its own in GitHub's place: who gets in, and
//! with which rights. Configuration and kubeconfig are those of docs/keyless.md.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/git_server.rs"]
mod git_server;
#[path = "support/site.rs"]
mod site;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use astra_dispatch::adapters::kubernetes::{Cluster, KubernetesStore};
use astra_dispatch::adapters::store::Store;
use astra_dispatch::domain::kubernetes::provision::dispatcher_rules;
use astra_dispatch::domain::kubernetes::{LEDGER_NAME, provision};
use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use cluster::TestCluster;
use git_server::{Tls, certificates};
use http::{Method, Request};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const WORKFLOW: &str = "acme/agents/.github/workflows/run.yml@refs/heads/main";
const REQUEST_TOKEN: &str = "request-token";

/// The part of the page that is YAML and has this line.
fn of_page(line: &str) -> Value {
    let page = include_str!("../docs/keyless.md");
    let blocks = page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let found = blocks.into_iter().find(|block| block.lines().any(|one| one == line)).unwrap();
    serde_saphyr::from_str(found).unwrap()
}

/// An issuer as GitHub's: over https for the API server, and on this machine for the workflow.
struct Issuer {
    home: tempfile::TempDir,
    url: String,
    tokens: String,
    changes: Arc<Mutex<Value>>,
}

#[derive(Clone)]
struct Signer {
    key: EncodingKey,
    url: String,
    jwks: Value,
    changes: Arc<Mutex<Value>>,
}

impl Issuer {
    async fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let address = cluster::host_address();
        certificates(home.path(), address);
        openssl(home.path(), "ecparam -name prime256v1 -genkey -noout -out ec.pem");
        openssl(home.path(), "pkcs8 -topk8 -nocrypt -in ec.pem -out key.pem");
        openssl(home.path(), "ec -in ec.pem -pubout -out public.pem");
        let public = std::fs::read_to_string(home.path().join("public.pem")).unwrap();
        let der: String = public.lines().filter(|line| !line.starts_with('-')).collect();
        let der = STANDARD.decode(der).unwrap();
        let (x, y) = der[der.len() - 64..].split_at(32);
        let point = |half: &[u8]| URL_SAFE_NO_PAD.encode(half);
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let changes = Arc::new(Mutex::new(json!({})));
        let signer = Signer {
            key: EncodingKey::from_ec_pem(&std::fs::read(home.path().join("key.pem")).unwrap()).unwrap(),
            url: url.clone(),
            jwks: json!({"keys": [{"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "1",
                "x": point(x), "y": point(y)}]}),
            changes: Arc::clone(&changes),
        };
        let public = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/jwks", get(jwks))
            .with_state(signer.clone());
        let tls = Tls::new(listener, home.path());
        tokio::spawn(async move { axum::serve(tls, public).await.unwrap() });
        let own = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tokens = format!("http://{}/token?api-version=2.0", own.local_addr().unwrap());
        let private = Router::new().route("/token", get(token)).with_state(signer);
        tokio::spawn(async move { axum::serve(own, private).await.unwrap() });
        Self { home, url, tokens, changes }
    }

    /// The API server trusts it from now on, as the page says.
    fn trust(&self, configuration: &Path) {
        let mut trusted = of_page("kind: AuthenticationConfiguration");
        let issuer = &mut trusted["jwt"][0]["issuer"];
        assert_eq!(issuer["url"], "https://token.actions.githubusercontent.com");
        issuer["url"] = json!(self.url);
        let authority = std::fs::read_to_string(self.home.path().join("ca.crt")).unwrap();
        issuer["certificateAuthority"] = json!(authority);
        // In one step: it is read at any moment.
        let new = configuration.with_extension("new");
        std::fs::write(&new, trusted.to_string()).unwrap();
        std::fs::rename(new, configuration).unwrap();
    }

    fn tokens_differ_by(&self, changes: &Value) {
        *self.changes.lock().unwrap() = changes.clone();
    }

    /// The variables of a job that may have tokens.
    fn variables(&self) -> [(&str, &str); 2] {
        [("ACTIONS_ID_TOKEN_REQUEST_URL", &self.tokens), ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", REQUEST_TOKEN)]
    }

    /// The page's kubeconfig for this cluster; its plugin has the job's variables.
    fn kubeconfig(&self) -> Value {
        let mut kubeconfig = of_page("kind: Config");
        let admin = std::fs::read_to_string(admin_kubeconfig()).unwrap();
        let admin: Value = serde_saphyr::from_str(&admin).unwrap();
        kubeconfig["clusters"][0]["cluster"] = admin["clusters"][0]["cluster"].clone();
        let exec = &mut kubeconfig["users"][0]["user"]["exec"];
        exec["command"] = json!(env!("CARGO_BIN_EXE_astra-dispatch"));
        exec["env"] =
            self.variables().iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        kubeconfig
    }

    /// A new client: the plugin is asked again.
    async fn client(&self) -> kube::Client {
        let kubeconfig = Kubeconfig::from_yaml(&self.kubeconfig().to_string()).unwrap();
        let options = KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
        kube::Client::try_from(config).unwrap()
    }

    /// What the API server says to a token with these changes.
    async fn status(&self, path: &str, changes: &Value) -> u16 {
        self.tokens_differ_by(changes);
        let request = Request::get(path).body(Body::empty()).unwrap();
        self.client().await.send(request).await.unwrap().status().as_u16()
    }
}

async fn discovery(State(signer): State<Signer>) -> axum::Json<Value> {
    let url = &signer.url;
    axum::Json(
        json!({"issuer": url, "jwks_uri": format!("{url}/jwks"), "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["ES256"]}),
    )
}

async fn jwks(State(signer): State<Signer>) -> axum::Json<Value> {
    axum::Json(signer.jwks)
}

async fn token(
    State(signer): State<Signer>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Result<axum::Json<Value>, StatusCode> {
    if headers["authorization"] != format!("Bearer {REQUEST_TOKEN}") {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let now = jiff::Timestamp::now().as_second();
    let mut claims = json!({
        "iss": signer.url, "aud": query["audience"], "sub": "repo:acme/agents:ref:refs/heads/main",
        "repository_id": "123456789", "ref": "refs/heads/main", "job_workflow_ref": WORKFLOW,
        "event_name": "repository_dispatch", "iat": now, "nbf": now - 5, "exp": now + 300,
    });
    for (claim, value) in signer.changes.lock().unwrap().as_object().unwrap() {
        // Seconds from now.
        claims[claim] = value.as_i64().map_or_else(|| value.clone(), |seconds| json!(now + seconds));
    }
    let header = Header { kid: Some("1".into()), ..Header::new(Algorithm::ES256) };
    Ok(axum::Json(json!({"value": jsonwebtoken::encode(&header, &claims, &signer.key).unwrap()})))
}

fn openssl(directory: &Path, arguments: &str) {
    let done = Command::new("openssl").args(arguments.split(' ')).current_dir(directory).output().unwrap();
    assert!(done.status.success(), "{}", site::text(&done.stderr));
}

fn admin_kubeconfig() -> PathBuf {
    std::env::var_os("ASTRA_TEST_KUBECONFIG").unwrap().into()
}

/// The rules that whoever this is has in a namespace, as `group/resource[/names] verb`, without what
/// everybody who is signed in may ask about himself.
async fn rights(client: &kube::Client, namespace: &str) -> BTreeSet<String> {
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace}});
    let request = Request::builder()
        .method(Method::POST)
        .uri("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews")
        .header("content-type", "application/json")
        .body(Body::from(serde_json::to_vec(&review).unwrap()))
        .unwrap();
    let bytes = client.send(request).await.unwrap().into_body().collect_bytes().await.unwrap();
    let answer: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(answer["status"]["incomplete"], json!(false), "{answer}");
    let rules = answer["status"]["resourceRules"].as_array().unwrap().iter();
    let own = |rule: &&Value| {
        let group = rule["apiGroups"][0].as_str().unwrap();
        !["authorization.k8s.io", "authentication.k8s.io"].contains(&group)
    };
    rules.filter(own).flat_map(as_words).collect()
}

fn as_words(rule: &Value) -> Vec<String> {
    let words = |key: &str| -> Vec<String> {
        let values = rule[key].as_array().cloned().unwrap_or_default();
        values.iter().map(|value| value.as_str().unwrap().to_owned()).collect()
    };
    let names = words("resourceNames").join(",");
    let mut all = Vec::new();
    for group in words("apiGroups") {
        for resource in words("resources") {
            all.extend(words("verbs").iter().map(|verb| format!("{group}/{resource}[{names}] {verb}")));
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster whose API server reads authentication.yaml: tests/cluster/up"]
async fn the_dispatchers_workflow_gets_in_and_nobody_else() {
    let cluster = TestCluster::new(|_, _| ()).await;
    let issuer = Issuer::new().await;
    let beside = admin_kubeconfig().canonicalize().unwrap();
    let beside = beside.parent().unwrap();
    issuer.trust(&beside.join("authentication.yaml"));
    let jobs = format!("/apis/batch/v1/namespaces/{}/jobs", cluster.namespace());
    cluster::eventually("the API server trusts the issuer", || async {
        (issuer.status(&jobs, &json!({})).await == 200).then_some(())
    })
    .await;

    // The program's own way to the ledger.
    let kubeconfig = Kubeconfig::from_yaml(&issuer.kubeconfig().to_string()).unwrap();
    let connected = Cluster::from_kubeconfig(kubeconfig, None).await.unwrap();
    let store = KubernetesStore::new(connected, &cluster.system_namespace, None);
    assert!(store.read_ledger().await.unwrap().ledger.entries.is_empty());

    // kubectl, with the same file.
    let file = issuer.home.path().join("kubeconfig");
    std::fs::write(&file, issuer.kubeconfig().to_string()).unwrap();
    let kubectl = |arguments: &[&str]| {
        let mut command = Command::new(cluster::kubectl());
        command.arg("--kubeconfig").arg(&file).arg("--namespace").arg(cluster.namespace()).args(arguments);
        command.env("HOME", issuer.home.path()).output().unwrap()
    };
    let output = tokio::task::block_in_place(|| kubectl(&["get", "jobs"]));
    assert!(output.status.success(), "{}", site::text(&output.stderr));
    let output = tokio::task::block_in_place(|| kubectl(&["get", "secrets"]));
    let said = site::text(&output.stderr);
    assert!(said.contains(r#"User "github:repo:acme/agents:ref:refs/heads/main" cannot list"#), "{said}");

    // Exactly the dispatcher's rights.
    let client = issuer.client().await;
    let expected = serde_json::to_value(dispatcher_rules()).unwrap();
    let expected: BTreeSet<String> = expected.as_array().unwrap().iter().flat_map(as_words).collect();
    assert_eq!(rights(&client, &cluster.namespace()).await, expected);
    let ledger = ["get", "update"].map(|verb| format!("/configmaps[{LEDGER_NAME}] {verb}"));
    assert_eq!(rights(&client, &cluster.system_namespace).await, BTreeSet::from(ledger));
    assert_eq!(rights(&client, "kube-system").await, BTreeSet::new());

    for changes in [
        json!({"event_name": "pull_request", "ref": "refs/pull/7/merge"}),
        json!({"event_name": "pull_request"}),
        json!({"event_name": "pull_request_target"}),
        json!({"ref": "refs/heads/feature"}),
        json!({"job_workflow_ref": "acme/agents/.github/workflows/test.yml@refs/heads/main"}),
        json!({"job_workflow_ref": "acme/agents/.github/workflows/run.yml@refs/heads/feature"}),
        json!({"repository_id": "987654321"}),
        json!({"repository_id": null}),
        json!({"aud": "another"}),
        json!({"iss": "https://example.com"}),
        json!({"iat": -7200, "nbf": -7200, "exp": -3600}),
        json!({"iat": 3600, "nbf": 3600, "exp": 7200}),
        json!({"iat": -60, "exp": 86400}),
    ] {
        assert_eq!(issuer.status(&jobs, &changes).await, 401, "{changes}");
    }
    assert_eq!(issuer.status(&jobs, &json!({})).await, 200, "still");
    cluster.remove().await;
}

/// The page shows what `agents provision` prints.
#[test]
fn the_roles_of_the_page_are_the_printed_ones() {
    let page = include_str!("../docs/keyless.md");
    let shown = page.split("```yaml\n").find(|block| block.contains("kind: RoleBinding")).unwrap();
    let shown: Vec<Value> = serde_saphyr::from_multiple(shown.split("```").next().unwrap()).unwrap();
    let registry = cluster::sample();
    let printed = provision::manifests(&registry, None, &[]).unwrap();
    for manifest in &shown {
        let found = printed.iter().find(|one| {
            one["kind"] == manifest["kind"]
                && one["metadata"]["name"] == manifest["metadata"]["name"]
                && one["metadata"]["namespace"] == manifest["metadata"]["namespace"]
        });
        let found = found.unwrap_or_else(|| panic!("{manifest}"));
        for key in ["rules", "roleRef", "subjects"] {
            assert_eq!(found.get(key), manifest.get(key), "{key}");
        }
    }
}
