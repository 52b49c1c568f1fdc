//! A real cluster (`ASTRA_TEST_KUBECONFIG`, see tests/cluster/up): an administrator's client, a
//! registry provisioned for one test alone, and a store with the dispatcher's rights and no more.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a module of several test programs, each using its part"
)]

use std::sync::Arc;

use astra_dispatch::adapters::kubernetes::manifests::RunMaker;
use astra_dispatch::adapters::kubernetes::{Cluster, KubernetesStore};
use astra_dispatch::domain::kubernetes::{DISPATCHER_GROUP, provision};
use astra_dispatch::domain::name::{AgentName, ItemId, ProjectId};
use astra_dispatch::domain::pass::NewJob;
use astra_dispatch::domain::registry::Registry;
use astra_dispatch::domain::run_plan::Surroundings;
use astra_dispatch::domain::task::{SkillWishes, Task};
use astra_dispatch::domain::work_item::Priority;
use http::{Method, Request};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use secrecy::SecretString;
use serde_json::Value;

/// The cluster, with one agent and a ledger of its own.
pub struct TestCluster {
    pub admin: kube::Client,
    pub registry: Arc<Registry>,
    pub agent: AgentName,
    pub system_namespace: String,
}

/// What the API server answered.
pub struct Answered {
    pub status: u16,
    pub body: Value,
}

impl TestCluster {
    /// Provisions the sample registry's agent `vega` under a name of its own, with these settings.
    pub async fn new(adapt: impl FnOnce(&mut Registry, &AgentName)) -> Self {
        let suffix: u32 = rand::random();
        let agent: AgentName = format!("t{suffix:08x}").parse().unwrap();
        let mut registry = sample();
        let mut vega = registry.agents[&"vega".parse().unwrap()].clone();
        vega.name = agent.clone();
        vega.runtime.image = Some("localhost/busybox:1".into());
        registry.agents.clear();
        registry.agents.insert(agent.clone(), vega);
        registry.kubernetes.system_namespace = format!("astra-{suffix:08x}");
        registry.kubernetes.image = Some("localhost/busybox:1".into());
        adapt(&mut registry, &agent);
        let system_namespace = registry.kubernetes.system_namespace.clone();
        let admin = kube::Client::try_from(config(|_| ()).await).unwrap();
        let cluster = Self { admin, registry: Arc::new(registry), agent, system_namespace };
        for manifest in provision::manifests(&cluster.registry, None, &[]).unwrap() {
            cluster.apply(&manifest).await;
        }
        cluster
    }

    pub fn namespace(&self) -> String {
        self.agent.namespace()
    }

    /// A store as the dispatcher's group may use it.
    pub async fn store(&self) -> KubernetesStore {
        let config = config(|config| {
            config.auth_info.impersonate = Some("dispatcher".into());
            config.auth_info.impersonate_groups = Some(vec![DISPATCHER_GROUP.into()]);
        })
        .await;
        let cluster = Cluster::from_config(config, "test").unwrap();
        let surroundings =
            Surroundings { git_base_url: "http://127.0.0.1:1".into(), registry_path: ".astra".into() };
        let maker = RunMaker::new(
            Arc::clone(&self.registry),
            surroundings,
            Box::new(|_, name| Some(SecretString::from(format!("value of {name}")))),
        );
        KubernetesStore::new(cluster, &self.system_namespace, Some(maker))
    }

    /// A run of a task of this number.
    pub fn new_job(&self, number: u64) -> NewJob {
        let task = self.task(number);
        NewJob {
            run: format!("ast-{number}-x7k2p").parse().unwrap(),
            agent: self.agent.clone(),
            namespace: self.namespace(),
            attempt: 1,
            registry: self.registry.stamp.clone(),
            task: Arc::new(task),
        }
    }

    pub fn task(&self, number: u64) -> Task {
        Task {
            key: format!("AST-{number}").parse().unwrap(),
            item: ItemId(uuid::Uuid::from_u128(u128::from(number))),
            project: ProjectId(uuid::Uuid::from_u128(1)),
            title: "A task".into(),
            description: "Something is to be done.".into(),
            role: "coder".parse().unwrap(),
            priority: Priority::Medium,
            repository: "astra/api".parse().unwrap(),
            base: "main".parse().unwrap(),
            pull_request: None,
            wishes: SkillWishes::default(),
            model: None,
            assignees: vec![],
        }
    }

    /// A call with an administrator's rights.
    pub async fn call(&self, method: Method, path: &str, content_type: &str, body: &Value) -> Answered {
        call(&self.admin, method, path, content_type, body).await
    }

    pub async fn get(&self, path: &str) -> Answered {
        self.call(Method::GET, path, "application/json", &Value::Null).await
    }

    async fn apply(&self, manifest: &Value) {
        let text =
            |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (group, kind) = (text("/apiVersion"), text("/kind"));
        let prefix = if group.contains('/') { format!("/apis/{group}") } else { format!("/api/{group}") };
        let plural = match kind.as_str() {
            "NetworkPolicy" => "networkpolicies".to_owned(),
            other => format!("{}s", other.to_lowercase()),
        };
        let namespace = text("/metadata/namespace");
        let place = if namespace.is_empty() { String::new() } else { format!("/namespaces/{namespace}") };
        let path =
            format!("{prefix}{place}/{plural}/{}?fieldManager=test&force=true", text("/metadata/name"));
        let applied = self.call(Method::PATCH, &path, "application/apply-patch+yaml", manifest).await;
        assert!(applied.status < 300, "{path}: {}", applied.body);
    }

    /// Removes what the test made. What a failed test leaves is there to be looked at.
    pub async fn remove(self) {
        for namespace in [self.namespace(), self.system_namespace.clone()] {
            let path = format!("/api/v1/namespaces/{namespace}");
            self.call(Method::DELETE, &path, "application/json", &Value::Null).await;
        }
    }
}

/// The registry of fixtures/registry.
pub fn sample() -> Registry {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/registry");
    astra_dispatch::adapters::registry_files::load(&directory).unwrap()
}

/// The test cluster's configuration, changed.
pub async fn config(change: impl FnOnce(&mut kube::Config)) -> kube::Config {
    let path = std::env::var("ASTRA_TEST_KUBECONFIG").expect("ASTRA_TEST_KUBECONFIG: see tests/cluster/up");
    let kubeconfig = Kubeconfig::read_from(path).unwrap();
    let mut config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    change(&mut config);
    config
}

async fn call(
    client: &kube::Client,
    method: Method,
    path: &str,
    content_type: &str,
    body: &Value,
) -> Answered {
    let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body).unwrap() };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", content_type)
        .header("accept", "application/json")
        .body(Body::from(body))
        .unwrap();
    let response = client.send(request).await.unwrap();
    let status = response.status().as_u16();
    let bytes = response.into_body().collect_bytes().await.unwrap();
    Answered { status, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) }
}
