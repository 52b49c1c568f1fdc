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

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use astra_dispatch::adapters::kubernetes::manifests::RunMaker;
use astra_dispatch::adapters::kubernetes::{Cluster, KubernetesStore};
use astra_dispatch::domain::job::JobRef;
use astra_dispatch::domain::kubernetes::{DISPATCHER_GROUP, provision};
use astra_dispatch::domain::name::{AgentName, ItemId, ProjectId};
use astra_dispatch::domain::pass::NewJob;
use astra_dispatch::domain::registry::{Agent, Registry};
use astra_dispatch::domain::run_plan::Surroundings;
use astra_dispatch::domain::task::{SkillWishes, Task};
use astra_dispatch::domain::work_item::Priority;
use http::{Method, Request};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use secrecy::SecretString;
use serde_json::{Value, json};

/// The cluster, with one agent and a ledger of its own.
pub struct TestCluster {
    pub admin: kube::Client,
    pub registry: Arc<Registry>,
    pub agent: AgentName,
    pub system_namespace: String,
    /// Where its runs clone from.
    pub git_base_url: String,
}

/// The address of this machine that the pods of tests/cluster/up reach.
pub fn host_address() -> std::net::IpAddr {
    let number = std::env::var("ASTRA_TEST_CLUSTER").unwrap_or_else(|_| "0".into());
    format!("10.77.{number}.1").parse().unwrap()
}

/// The images of a run.
pub struct Images {
    pub own: String,
    /// Has a shell for scripted agents.
    pub agent: String,
}

/// Our image, which trusts this authority of a Git server: the one of the Dockerfile, if
/// `ASTRA_TEST_IMAGE_ROOT` says where its files are; else the program as Cargo made it, with Git.
pub fn images(authority: Option<&Path>) -> Images {
    let authority = authority.map(|file| format!("{}:/etc/ssl/certs/ca-certificates.crt", file.display()));
    let authority: Vec<&str> = authority.as_deref().into_iter().collect();
    let shell = "/usr/bin/busybox:/bin/busybox";
    if let Ok(root) = std::env::var("ASTRA_TEST_IMAGE_ROOT") {
        Images { own: image(&["-b", &root], &authority), agent: image(&[], &[shell]) }
    } else {
        // Cargo's program is not static: as the agent's step, too, it needs the libraries of its image.
        let program = format!("{}:/usr/local/bin/astra-dispatch", env!("CARGO_BIN_EXE_astra-dispatch"));
        let sources = [program.as_str(), "/usr/bin/git", "/usr/lib/git-core", shell];
        let own = image(&[], &[sources.as_slice(), &authority].concat());
        Images { agent: own.clone(), own }
    }
}

/// Puts an image onto the node, see tests/cluster/image; its name by digest.
pub fn image(options: &[&str], sources: &[&str]) -> String {
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/image"))
        .args(options)
        .arg(format!("localhost/astra-{:08x}:1", rand::random::<u32>()))
        .args(sources)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
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
        Self::of(registry, agent).await
    }

    /// Provisions a registry, whose agents and namespaces must be nobody else's.
    pub async fn of(registry: Registry, agent: AgentName) -> Self {
        let system_namespace = registry.kubernetes.system_namespace.clone();
        let admin = kube::Client::try_from(config(|_| ()).await).unwrap();
        let cluster = Self {
            admin,
            registry: Arc::new(registry),
            agent,
            system_namespace,
            git_base_url: "https://127.0.0.1:1".into(),
        };
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
        self.store_with(|_, name| format!("value of {name}")).await
    }

    /// The same, with these credentials by agent and name.
    pub async fn store_with(
        &self,
        credential: impl Fn(&Agent, &str) -> String + Send + Sync + 'static,
    ) -> KubernetesStore {
        self.store_at(dispatcher_config().await, credential)
    }

    /// The same, with another way to the API server.
    pub fn store_at(
        &self,
        config: kube::Config,
        credential: impl Fn(&Agent, &str) -> String + Send + Sync + 'static,
    ) -> KubernetesStore {
        let cluster = Cluster::from_config(config, "test").unwrap();
        KubernetesStore::new(cluster, &self.system_namespace, Some(self.maker(credential)))
    }

    /// What makes its runs, with these credentials.
    pub fn maker(&self, credential: impl Fn(&Agent, &str) -> String + Send + Sync + 'static) -> RunMaker {
        let surroundings =
            Surroundings { git_base_url: self.git_base_url.clone(), registry_path: ".astra".into() };
        RunMaker::new(
            Arc::clone(&self.registry),
            surroundings,
            Box::new(move |agent| {
                let names = agent.credentials.env.iter().map(String::as_str).chain(["GITHUB_TOKEN"]);
                let found = names.map(|name| (name.to_owned(), SecretString::from(credential(agent, name))));
                Box::pin(std::future::ready(Ok(found.collect())))
            }),
        )
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

    /// Applies an object with an administrator's rights.
    pub async fn apply(&self, manifest: &Value) {
        let text =
            |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (group, kind) = (text("/apiVersion"), text("/kind"));
        let prefix = if group.contains('/') { format!("/apis/{group}") } else { format!("/api/{group}") };
        let kind = kind.to_lowercase();
        let plural = kind.strip_suffix('y').map_or_else(|| format!("{kind}s"), |stem| format!("{stem}ies"));
        let namespace = text("/metadata/namespace");
        let place = if namespace.is_empty() { String::new() } else { format!("/namespaces/{namespace}") };
        let path =
            format!("{prefix}{place}/{plural}/{}?fieldManager=test&force=true", text("/metadata/name"));
        let applied = self.call(Method::PATCH, &path, "application/apply-patch+yaml", manifest).await;
        assert!(applied.status < 300, "{path}: {}", applied.body);
    }

    /// The newest pod of a run, as the API server has it.
    pub async fn pod(&self, job: &JobRef) -> Value {
        let path = format!(
            "/api/v1/namespaces/{}/pods?labelSelector=dispatch.astra.dev%2Frun%3D{}",
            job.namespace, job.run
        );
        self.get(&path).await.body["items"][0].clone()
    }

    /// Waits until a step of a run runs.
    pub async fn step_runs(&self, job: &JobRef, step: &str) {
        eventually(&format!("{step} of {} runs", job.run), || async {
            let pod = self.pod(job).await;
            let statuses = [&pod["status"]["initContainerStatuses"], &pod["status"]["containerStatuses"]];
            let mut statuses = statuses.into_iter().filter_map(Value::as_array).flatten();
            statuses
                .any(|status| status["name"] == step && status["state"]["running"].is_object())
                .then_some(())
        })
        .await;
    }

    /// Waits until the log of a step says something; the whole log then.
    pub async fn log_says(&self, job: &JobRef, step: &str, text: &str) -> String {
        eventually(&format!("{step} of {} says {text}", job.run), || async {
            let pod = self.pod(job).await;
            let name = pod["metadata"]["name"].as_str()?.to_owned();
            let path = format!("/api/v1/namespaces/{}/pods/{name}/log?container={step}", job.namespace);
            let request = Request::get(path).body(Body::empty()).unwrap();
            let response = self.admin.send(request).await.unwrap();
            let log =
                String::from_utf8_lossy(&response.into_body().collect_bytes().await.unwrap()).into_owned();
            log.contains(text).then_some(log)
        })
        .await
    }

    /// Waits until the diagnosis of a run says something.
    pub async fn eventually_says(&self, store: &KubernetesStore, job: &JobRef, text: &str) -> String {
        eventually(&format!("{} says {text}", job.run), || async {
            let sentence = store.diagnose(job).await.unwrap().unwrap().sentence;
            sentence.contains(text).then_some(sentence)
        })
        .await
    }

    /// Deletes a run's pod, as a person may.
    pub async fn delete_pod(&self, job: &JobRef) {
        let pod = self.pod(job).await;
        let path = format!(
            "/api/v1/namespaces/{}/pods/{}",
            job.namespace,
            pod["metadata"]["name"].as_str().unwrap()
        );
        let answered = self.call(Method::DELETE, &path, "application/json", &Value::Null).await;
        assert!(answered.status < 300, "{}", answered.body);
    }

    /// Evicts a run's pod, as `kubectl drain` does.
    pub async fn evict_pod(&self, job: &JobRef) {
        let pod = self.pod(job).await;
        let name = pod["metadata"]["name"].as_str().unwrap();
        let eviction = serde_json::json!({"apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": name, "namespace": job.namespace}, "deleteOptions": {"gracePeriodSeconds": 2}});
        let path = format!("/api/v1/namespaces/{}/pods/{name}/eviction", job.namespace);
        let answered = self.call(Method::POST, &path, "application/json", &eviction).await;
        assert!(answered.status < 300, "{}", answered.body);
    }

    /// Removes what the test made. What a failed test leaves is there to be looked at.
    pub async fn remove(self) {
        let agents = self.registry.agents.keys().map(AgentName::namespace);
        for namespace in agents.chain([self.system_namespace.clone()]) {
            let path = format!("/api/v1/namespaces/{namespace}");
            self.call(Method::DELETE, &path, "application/json", &Value::Null).await;
        }
        for kind in ["validatingadmissionpolicybindings", "validatingadmissionpolicies"] {
            let path = format!("/apis/admissionregistration.k8s.io/v1/{kind}/{}-jobs", self.system_namespace);
            self.call(Method::DELETE, &path, "application/json", &Value::Null).await;
        }
    }
}

/// The registry of fixtures/registry.
pub fn sample() -> Registry {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/registry");
    astra_dispatch::adapters::registry_files::load(&directory).unwrap()
}

/// The cluster's kubeconfig, with the rights of a dispatcher.
pub fn as_dispatcher() -> Value {
    let kubeconfig = std::fs::read_to_string(std::env::var("ASTRA_TEST_KUBECONFIG").unwrap()).unwrap();
    let mut kubeconfig: Value = serde_saphyr::from_str(&kubeconfig).unwrap();
    for user in kubeconfig["users"].as_array_mut().unwrap() {
        user["user"]["as"] = json!("dispatcher");
        user["user"]["as-groups"] = json!([DISPATCHER_GROUP]);
    }
    kubeconfig
}

/// The test cluster's configuration, with the rights of a dispatcher.
pub async fn dispatcher_config() -> kube::Config {
    config(|config| {
        config.auth_info.impersonate = Some("dispatcher".into());
        config.auth_info.impersonate_groups = Some(vec![DISPATCHER_GROUP.into()]);
    })
    .await
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

/// The `kubectl` of the test cluster, or, with somebody else's cluster, that of this machine.
pub fn kubectl() -> PathBuf {
    let kubeconfig = PathBuf::from(std::env::var_os("ASTRA_TEST_KUBECONFIG").unwrap());
    let beside = kubeconfig.with_file_name("bin/kubectl");
    if beside.exists() { beside } else { "kubectl".into() }
}

/// Waits until something is there, for at most 90 seconds.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, look: impl Fn() -> F) -> T {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(90);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(std::time::Instant::now() < end, "not within 90 seconds: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}
