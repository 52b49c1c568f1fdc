//! Where credentials are while runs of two agents go on, on the node itself: environment and arguments
//! of every process, every file of every volume, every log.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/git_server.rs"]
mod git_server;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use astra_dispatch::adapters::store::{Creation, SecretWrite, Store};
use astra_dispatch::domain::job::JobRef;
use astra_dispatch::domain::name::AgentName;
use astra_dispatch::domain::pass::NewJob;
use astra_dispatch::domain::registry::{Agent, RuntimeKind};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cluster::TestCluster;
use git_server::GitServer;
use http::Method;
use serde_json::Value;

const SCRIPT: &str = "echo begun; sleep 6; echo done > done.txt";

/// Larger files are not looked into, in bytes.
const LARGEST: u64 = 1 << 20;

/// The value of an agent's credential: nobody else's.
fn canary(agent: &AgentName, name: &str) -> String {
    format!("canary-{agent}-{name}-0123456789")
}

/// Where a credential was seen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// In a container, by its id: `environ` or `cmdline` of a process.
    Process { container: String, file: &'static str },
    /// In a file of a volume or a log, as the node sees it.
    File(PathBuf),
}

#[derive(Default)]
struct Seen {
    credentials: BTreeSet<(String, Place)>,
    processes: usize,
    files: BTreeSet<PathBuf>,
}

impl Seen {
    fn search(&mut self, text: &[u8], needles: &[String], place: &Place) {
        for needle in needles {
            let encoded = STANDARD.encode(needle);
            // The last characters depend on what follows.
            let forms = [needle.as_bytes(), &encoded.as_bytes()[..encoded.len() - 4]];
            if forms.iter().any(|form| text.windows(form.len()).any(|window| window == *form)) {
                self.credentials.insert((needle.clone(), place.clone()));
            }
        }
    }

    /// Every process of a pod; pods' processes are in a control group named after the container.
    fn processes(&mut self, needles: &[String]) {
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let groups = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
            let pod = groups.lines().find(|line| line.contains("/kubepods/"));
            let Some((_, container)) = pod.and_then(|line| line.rsplit_once('/')) else { continue };
            self.processes += 1;
            for file in ["environ", "cmdline"] {
                // One that has just ended has nothing to be read.
                let text = std::fs::read(entry.path().join(file)).unwrap_or_default();
                self.search(&text, needles, &Place::Process { container: container.to_owned(), file });
            }
        }
    }

    /// Every file below a directory; links are not followed, their targets are files as well.
    fn files(&mut self, directory: &Path, needles: &[String]) {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => self.files(&entry.path(), needles),
                // The program itself is larger than that.
                Ok(kind)
                    if kind.is_file() && entry.metadata().is_ok_and(|metadata| metadata.len() < LARGEST) =>
                {
                    let text = std::fs::read(entry.path()).unwrap_or_default();
                    self.search(&text, needles, &Place::File(entry.path()));
                    self.files.insert(entry.path());
                }
                _ => {}
            }
        }
    }
}

/// The directory of the cluster's state, as its own processes see it: volumes are mounted for them alone.
fn node() -> PathBuf {
    let number = std::env::var("ASTRA_TEST_CLUSTER").unwrap_or_else(|_| "0".into());
    let state = format!("/var/tmp/astra-cluster-{number}");
    let outer = std::fs::read_to_string(format!("{state}/pid")).unwrap();
    let outer = outer.trim();
    let children = std::fs::read_to_string(format!("/proc/{outer}/task/{outer}/children")).unwrap();
    let init = children.split_whitespace().next().unwrap();
    PathBuf::from(format!("/proc/{init}/root{state}"))
}

struct World {
    cluster: TestCluster,
    git: GitServer,
    agents: [AgentName; 2],
}

impl World {
    async fn new() -> Self {
        let git = GitServer::new(cluster::host_address()).await;
        let images = cluster::images(Some(&git.authority()));
        let mut other = None;
        let mut cluster = TestCluster::new(|registry, name| {
            registry.kubernetes.image = Some(images.own);
            let agent = registry.agents.get_mut(name).unwrap();
            agent.runtime.image = Some(images.agent);
            agent.runtime.kind =
                RuntimeKind::Command { command: ["/bin/sh", "-c", SCRIPT].map(str::to_owned).into() };
            agent.limits.memory = "256Mi".into();
            agent.limits.memory_bytes = 256 << 20;
            let second = Agent { name: format!("{name}-b").parse().unwrap(), ..agent.clone() };
            other = Some(second.name.clone());
            registry.agents.insert(second.name.clone(), second);
        })
        .await;
        cluster.git_base_url = git.base_url();
        let agents = [cluster.agent.clone(), other.unwrap()];
        Self { cluster, git, agents }
    }

    async fn start(&self, number: u64, agent: &AgentName) -> JobRef {
        let store = self.cluster.store_with(|agent, name| canary(&agent.name, name)).await;
        let new =
            NewJob { agent: agent.clone(), namespace: agent.namespace(), ..self.cluster.new_job(number) };
        let Creation::Created(uid) = store.create_job(&new).await.unwrap() else { panic!("not created") };
        let job = JobRef { namespace: new.namespace.clone(), run: new.run.clone(), uid };
        assert_eq!(store.write_secret(&new, &job).await.unwrap(), SecretWrite::Written);
        assert!(store.release(&job).await.unwrap());
        job
    }

    /// The name of each container of a run's pod by its id, as `<run>/<container>`.
    async fn containers(&self, job: &JobRef) -> BTreeMap<String, String> {
        let pod = self.cluster.pod(job).await;
        let statuses = [&pod["status"]["initContainerStatuses"], &pod["status"]["containerStatuses"]];
        let all = statuses.into_iter().flat_map(|all| all.as_array().unwrap());
        let id =
            |status: &Value| status["containerID"].as_str().unwrap().rsplit_once('/').unwrap().1.to_owned();
        all.map(|status| (id(status), format!("{}/{}", job.run, status["name"].as_str().unwrap()))).collect()
    }

    /// What a request without rights of its own, or with those of an agent, gets.
    async fn status_as(&self, user: Option<String>, path: &str) -> u16 {
        let mut config = cluster::config(|config| config.auth_info.impersonate.clone_from(&user)).await;
        if user.is_none() {
            config.auth_info = kube::config::AuthInfo::default();
        }
        let client = kube::Client::try_from(config).unwrap();
        let request = http::Request::get(path).body(kube::client::Body::empty()).unwrap();
        client.send(request).await.unwrap().status().as_u16()
    }
}

/// Searches again and again until the runs are over.
fn watch(over: &AtomicBool, needles: &[String]) -> Seen {
    let node = node();
    let mut seen = Seen::default();
    while !over.load(Ordering::Relaxed) {
        seen.processes(needles);
        for directory in ["kubelet/pods", "pod-logs"] {
            seen.files(&node.join(directory), needles);
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn every_credential_is_in_its_own_container_and_nowhere_else() {
    let world = World::new().await;
    world.git.delay(700);
    let needles: Vec<String> = world
        .agents
        .iter()
        .flat_map(|agent| ["ANTHROPIC_API_KEY", "GITHUB_TOKEN"].map(|name| canary(agent, name)))
        .collect();
    let jobs = [world.start(1, &world.agents[0]).await, world.start(2, &world.agents[1]).await];
    let over = Arc::new(AtomicBool::new(false));
    let watcher = tokio::task::spawn_blocking({
        let (over, needles) = (Arc::clone(&over), needles.clone());
        move || watch(&over, &needles)
    });
    for job in &jobs {
        world.cluster.step_runs(job, "agent").await;
    }
    check_reach(&world, &world.agents[0], &world.agents[1]).await;
    for job in &jobs {
        world.cluster.log_says(job, "deliver", "astra-result").await;
    }
    over.store(true, Ordering::Relaxed);
    let seen = watcher.await.unwrap();

    let mut containers = BTreeMap::new();
    for job in &jobs {
        containers.extend(world.containers(job).await);
    }
    let mut places: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (needle, place) in &seen.credentials {
        let Place::Process { container, file: "environ" } = place else { panic!("{needle} is in {place:?}") };
        let name =
            containers.get(container).unwrap_or_else(|| panic!("{needle} is in container {container}"));
        places.entry(needle.clone()).or_default().insert(name.clone());
    }
    for (number, agent) in (1..).zip(&world.agents) {
        let at = |steps: &[&str]| steps.iter().map(|step| format!("ast-{number}-x7k2p/{step}")).collect();
        let expected: BTreeSet<String> = at(&["agent"]);
        assert_eq!(places[&canary(agent, "ANTHROPIC_API_KEY")], expected);
        let expected: BTreeSet<String> = at(&["prepare", "deliver"]);
        assert_eq!(places[&canary(agent, "GITHUB_TOKEN")], expected);
    }
    // It has looked at something, and none of it is a token of the cluster.
    assert!(seen.processes > 20, "{}", seen.processes);
    let is_plan = |path: &&PathBuf| path.ends_with("plan.json");
    assert!(seen.files.iter().filter(is_plan).count() >= 2, "{:?}", seen.files);
    let is_token = |path: &&PathBuf| {
        let path = path.to_string_lossy();
        path.contains("kube-api-access") || path.contains("serviceaccount")
    };
    assert_eq!(seen.files.iter().find(is_token), None);
    world.cluster.remove().await;
}

/// An agent has no token; even with the rights of its ServiceAccount it would get at nothing.
async fn check_reach(world: &World, agent: &AgentName, other: &AgentName) {
    let account = format!("system:serviceaccount:{}:agent", agent.namespace());
    for namespace in [other.namespace(), agent.namespace()] {
        for what in ["secrets", "pods", "configmaps"] {
            let path = format!("/api/v1/namespaces/{namespace}/{what}");
            assert_eq!(world.status_as(Some(account.clone()), &path).await, 403, "{path}");
            assert!([401, 403].contains(&world.status_as(None, &path).await), "{path}");
        }
    }
    let path = format!("/api/v1/namespaces/{}/pods", agent.namespace());
    let pods = world.cluster.call(Method::GET, &path, "application/json", &Value::Null).await.body;
    for pod in pods["items"].as_array().unwrap() {
        assert_eq!(pod["spec"]["automountServiceAccountToken"], false, "{pod:#}");
        assert!(!pod.to_string().contains("serviceAccountToken"), "{pod:#}");
    }
}
