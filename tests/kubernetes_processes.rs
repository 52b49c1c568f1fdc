//! Twenty dispatcher processes at once on a real API server, each killed with SIGKILL at a random moment
//! and started again, the API server killed once: no task has two live runs, no agent more than its
//! capacity, and none is forgotten. The pods are never scheduled, so that nothing ends by itself.
//!
//! 200 tasks with the release build (`ASTRA_RELEASE_BINARY`), 40 with Cargo's.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/coders.rs"]
mod coders;
#[path = "support/plane_fake.rs"]
mod plane_fake;
#[path = "support/plane_world.rs"]
mod plane_world;
#[path = "support/site.rs"]
mod site;

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use coders::{Coders, id};
use plane_world::PROJECT;
use serde_json::Value;
use site::text;

const AGENTS: usize = 5;
const CAPACITY: usize = 3;
const DISPATCHERS: usize = 20;
/// Of ten processes, so many are killed.
const KILLED: u32 = 6;

struct World {
    program: PathBuf,
    tasks: u64,
    coders: Coders,
    /// Events that nobody has dealt with to the end.
    events: Mutex<VecDeque<u64>>,
    /// Tasks that are not wanted any more.
    unwanted: Mutex<BTreeSet<u64>>,
    /// No more events will come.
    all_told: AtomicBool,
    kills: AtomicU64,
}

impl World {
    async fn new() -> Self {
        let release =
            std::env::var_os("ASTRA_RELEASE_BINARY").map(PathBuf::from).filter(|path| path.exists());
        let tasks = if release.is_some() { 200 } else { 40 };
        let program = release.unwrap_or_else(|| assert_cmd::cargo::cargo_bin("astra-dispatch"));
        Self {
            program,
            tasks,
            coders: Coders::new(AGENTS, u32::try_from(CAPACITY).unwrap(), tasks).await,
            events: Mutex::new((1..=tasks).collect()),
            unwanted: Mutex::default(),
            all_told: AtomicBool::new(false),
            kills: AtomicU64::new(0),
        }
    }

    /// Deals with one event after the other, each time from the beginning when it was killed.
    async fn machine(&self, machine: usize) {
        loop {
            let next = self.events.lock().unwrap().pop_front();
            match next {
                Some(number) => self.handle(machine, number).await,
                None if self.all_told.load(Ordering::Relaxed) => return,
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn handle(&self, machine: usize, number: u64) {
        loop {
            let is_killed = rand::random_range(0..10) < KILLED;
            let life = if is_killed { rand::random_range(5..1500) } else { 120_000 };
            let output = self.coders.dispatch(&self.program, &format!("state-{machine}"), number).output();
            let Ok(output) = tokio::time::timeout(Duration::from_millis(life), output).await else {
                assert!(is_killed, "`dispatch` takes longer than two minutes");
                self.kills.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            let output = output.unwrap();
            match output.status.code() {
                Some(0) => {
                    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
                    let outcome = report["outcome"].as_str().unwrap();
                    let known = ["dispatched", "waiting", "already_running", "cancelled"];
                    let is_unwanted = outcome == "ignored" && self.unwanted.lock().unwrap().contains(&number);
                    assert!(known.contains(&outcome) || is_unwanted, "{report:#}");
                    return;
                }
                Some(75) => tokio::time::sleep(Duration::from_millis(200)).await,
                code => panic!("exit code {code:?}: {}", text(&output.stderr)),
            }
        }
    }

    /// Takes running tasks back, one after the other, and kills the API server half way.
    async fn trouble(&self) {
        let most = self.tasks / 5;
        for number in 0..most {
            tokio::time::sleep(Duration::from_millis(400)).await;
            if number == most / 2 {
                restart_api_server().await;
            }
            let Some(task) = self.running().await.pop_first() else { continue };
            self.coders.plane.world(|world| {
                let project = world.projects.get_mut(PROJECT).unwrap();
                let over =
                    project.states.iter().find(|state| state["group"] == "cancelled").unwrap()["id"].clone();
                project.items.iter_mut().find(|item| item["id"] == id(task)).unwrap()["state"] = over;
            });
            self.unwanted.lock().unwrap().insert(task);
            self.events.lock().unwrap().push_back(task);
        }
        self.all_told.store(true, Ordering::Relaxed);
    }

    /// What the API server has of one kind, agent by agent; `None`: it does not answer.
    async fn list(&self, kind: &str) -> Option<Vec<Vec<Value>>> {
        let mut all = Vec::new();
        for agent in self.coders.cluster.registry.agents.keys() {
            let (group, plural) = kind.rsplit_once('/').unwrap();
            let path = format!("{group}/namespaces/{}/{plural}", agent.namespace());
            let request = http::Request::get(path).body(kube::client::Body::empty()).unwrap();
            let response = self.coders.cluster.admin.send(request).await.ok()?;
            let body = response.into_body().collect_bytes().await.ok()?;
            let body: Value = serde_json::from_slice(&body).ok()?;
            all.push(body["items"].as_array()?.clone());
        }
        Some(all)
    }

    /// The Jobs that may have a pod at any moment.
    async fn open_jobs(&self) -> Option<Vec<Vec<Value>>> {
        let mut jobs = self.list("/apis/batch/v1/jobs").await?;
        for of_agent in &mut jobs {
            of_agent.retain(|job| job["spec"]["suspend"] == false && is_unfinished(job));
        }
        Some(jobs)
    }

    /// The tasks that run.
    async fn running(&self) -> BTreeSet<u64> {
        cluster::eventually("the API server answers", || async {
            Some(self.open_jobs().await?.iter().flatten().map(task).collect())
        })
        .await
    }

    /// What must hold at any moment, of Jobs and of pods. The most that ran at once.
    async fn watch(&self, over: &AtomicBool) -> usize {
        let mut most = 0;
        while !over.load(Ordering::Relaxed) {
            for objects in [self.open_jobs().await, self.list("/api/v1/pods").await].into_iter().flatten() {
                let counts: Vec<usize> = objects.iter().map(Vec::len).collect();
                assert!(counts.iter().all(|count| *count <= CAPACITY), "{counts:?}");
                let tasks: BTreeSet<u64> = objects.iter().flatten().map(task).collect();
                assert_eq!(tasks.len(), counts.iter().sum::<usize>(), "a task runs twice: {objects:?}");
                most = most.max(tasks.len());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        most
    }

    async fn ledger(&self) -> Value {
        let path = format!("/api/v1/namespaces/{}/configmaps/ledger", self.coders.cluster.system_namespace);
        let answered = self.coders.cluster.get(&path).await;
        serde_json::from_str(answered.body["data"]["ledger.json"].as_str().unwrap()).unwrap()
    }
}

/// The number of the task that a Job or a pod is for.
fn task(object: &Value) -> u64 {
    let key = object["metadata"]["labels"]["dispatch.astra.dev/task"].as_str().unwrap();
    key.rsplit_once('-').unwrap().1.parse().unwrap()
}

fn is_unfinished(job: &Value) -> bool {
    let conditions = job["status"]["conditions"].as_array().cloned().unwrap_or_default();
    !conditions
        .iter()
        .any(|one| ["Complete", "Failed"].contains(&one["type"].as_str().unwrap()) && one["status"] == "True")
}

/// It is started again by itself (tests/cluster/init). Somebody else's is left alone.
async fn restart_api_server() {
    if !std::env::var("ASTRA_TEST_KUBECONFIG").unwrap().starts_with("/var/tmp/astra-cluster-") {
        return;
    }
    let inside = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/inside");
    let killed =
        tokio::process::Command::new(inside).args(["pkill", "-KILL", "-x", "kube-apiserver"]).output();
    let killed = killed.await.unwrap();
    assert!(killed.status.success(), "{}", text(&killed.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster"]
async fn killed_processes_leave_nothing_twice_and_nothing_behind() {
    let world = World::new().await;
    let over = AtomicBool::new(false);
    let dispatchers = async {
        let machines = (0..DISPATCHERS).map(|machine| world.machine(machine));
        tokio::join!(futures_util::future::join_all(machines), world.trouble());
        over.store(true, Ordering::Relaxed);
    };
    let (most, ()) = tokio::join!(world.watch(&over), dispatchers);
    assert!(most > 0, "the watcher saw nothing");

    // Whoever died last may have left something for the next one.
    let unwanted = world.unwanted.lock().unwrap().clone();
    let wanted: BTreeSet<u64> = (1..=world.tasks).filter(|task| !unwanted.contains(task)).collect();
    let full = (AGENTS * CAPACITY).min(wanted.len());
    cluster::eventually("all slots are taken again", || async {
        world.handle(0, *wanted.first().unwrap()).await;
        (world.running().await.len() == full).then_some(())
    })
    .await;
    let (ledger, running) = (world.ledger().await, world.running().await);
    assert!(running.is_subset(&wanted), "{:?}", running.difference(&wanted));
    let items = |list: &str| {
        let rows = ledger[list].as_array().unwrap();
        rows.iter().map(|row| row["item"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    assert!(items("blocked").is_empty(), "nobody refused anything: {ledger:#}");
    let known: BTreeSet<String> = ["entries", "waiting"].into_iter().flat_map(items).collect();
    let forgotten: Vec<u64> = wanted.iter().copied().filter(|task| !known.contains(&id(*task))).collect();
    assert!(forgotten.is_empty(), "forgotten: {forgotten:?} {ledger:#}");
    // Every Job that may run is the ledger's, by its UID; the others are stopped.
    let entries = ledger["entries"].as_array().unwrap();
    for job in world.open_jobs().await.unwrap().iter().flatten() {
        let named =
            entries.iter().any(|entry| entry["uid"] == job["metadata"]["uid"] && entry["state"] == "started");
        assert!(named, "{job:#}");
    }
    let kills = world.kills.load(Ordering::Relaxed);
    assert!(kills >= world.tasks / 4, "only {kills} processes were killed");
    world.coders.cluster.remove().await;
}
