//! Many dispatchers at once on a real API server, each dropped at a random moment and started again:
//! every task runs once, no agent has more than its capacity, and none is forgotten.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/small_world.rs"]
mod small_world;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use astra_dispatch::adapters::kubernetes::KubernetesStore;
use astra_dispatch::adapters::store::drive::{
    Deliver, Delivered, ItemStates, Undelivered, drive, drive_publication, drive_start_write,
};
use astra_dispatch::adapters::store::{Items, Store};
use astra_dispatch::domain::job::{ItemState, Job};
use astra_dispatch::domain::matching::Workforce;
use astra_dispatch::domain::pass::{
    Hint, ItemRead, Pass, PassEnd, PassInput, Publication, StartWrite, StateTarget, Timing,
};
use astra_dispatch::domain::request_budget::Importance;
use astra_dispatch::domain::work_item::{ItemRef, StateGroup, WorkItem};
use cluster::TestCluster;
use serde_json::Value;

const AGENTS: usize = 5;
const CAPACITY: u32 = 2;
const DISPATCHERS: usize = 20;

/// Plane, as far as the protocol sees it.
#[derive(Default)]
struct Plane {
    items: Mutex<BTreeMap<ItemRef, WorkItem>>,
    delivered: Mutex<BTreeMap<String, usize>>,
}

impl Items for Plane {
    async fn read(&self, items: &[ItemRef]) -> Vec<ItemRead> {
        let known = self.items.lock().unwrap();
        let read =
            |item| known.get(item).map_or(ItemRead::Gone, |item| ItemRead::Found(Box::new(item.clone())));
        items.iter().map(read).collect()
    }
}

impl ItemStates for Plane {
    async fn write_state(
        &self,
        item: ItemRef,
        to: &StateTarget,
        _: Importance,
    ) -> Result<ItemState, Undelivered> {
        let mut items = self.items.lock().unwrap();
        let item = items.get_mut(&item).unwrap();
        let name = match to {
            StateTarget::Named(name) => name.clone(),
            StateTarget::FirstStarted => "In Progress".to_owned(),
        };
        let from = std::mem::replace(&mut item.state, name.clone());
        item.group = StateGroup::Started;
        Ok(ItemState { from, to: name, written_at: jiff::Timestamp::now(), acknowledged: true })
    }
}

impl Deliver for Plane {
    type Told = ();

    async fn deliver(&self, job: &Job) -> Result<Delivered<()>, Undelivered> {
        *self.delivered.lock().unwrap().entry(job.task.to_string()).or_default() += 1;
        Ok(Delivered { outcome: None, told: () })
    }

    async fn keep(&self, (): &(), _moved: Option<&ItemState>) -> Result<(), Undelivered> {
        Ok(())
    }
}

struct World {
    cluster: TestCluster,
    workforce: Workforce,
    plane: Plane,
    hints: Vec<ItemRef>,
    over: AtomicBool,
}

impl World {
    async fn new(tasks: u64) -> Self {
        // No program in the image: a run ends within seconds, by its own fault, and is not retried.
        let cluster = TestCluster::new(|registry, agent| {
            let first = registry.agents.remove(agent).unwrap();
            for number in 0..AGENTS {
                let mut one = first.clone();
                one.name = format!("{agent}-{number}").parse().unwrap();
                one.max_concurrent_tasks = CAPACITY;
                one.limits.memory = "64Mi".into();
                one.limits.memory_bytes = 64 << 20;
                one.accounts.plane = None;
                registry.agents.insert(one.name.clone(), one);
            }
            registry.stamp.ordinal = 1;
        })
        .await;
        let project = cluster.registry.projects.values().next().unwrap().id;
        let plane = Plane::default();
        let mut hints = Vec::new();
        for number in 1..=tasks {
            let item =
                WorkItem { project, name: format!("Task {number}"), ..small_world::item(number, "coder") };
            hints.push(item.reference());
            plane.items.lock().unwrap().insert(item.reference(), item);
        }
        let workforce = Workforce::new(Arc::clone(&cluster.registry));
        Self { cluster, workforce, plane, hints, over: AtomicBool::new(false) }
    }

    fn timing(&self) -> Timing {
        // This Plane answers at once, so the margin may be short.
        Timing {
            claim_margin: Duration::from_secs(1),
            claim_takeover: Duration::from_secs(5),
            ..Timing::default()
        }
    }

    /// What `dispatch` and `publish` do, once.
    async fn dispatch(&self, store: &KubernetesStore) {
        let hint = self.hints[rand::random_range(0..self.hints.len())];
        let pass = Pass::new(PassInput {
            workforce: &self.workforce,
            timing: self.timing(),
            hints: vec![Hint { item: hint, by_hand: false }],
            stop: None,
            seed: rand::random(),
        });
        let Ok(PassEnd::Complete(report)) = drive(pass, store, &self.plane).await else { return };
        for subject in report.start_writes {
            let write = StartWrite::new(subject, StateTarget::FirstStarted);
            drive_start_write(write, store, &self.plane, &self.plane).await.unwrap();
        }
        for subject in report.publishable {
            let started = StateTarget::FirstStarted;
            let holder = format!("p-{:08x}", rand::random::<u32>());
            let publication = Publication::new(subject, holder, Some(started), self.timing());
            drive_publication(publication, store, &self.plane, &self.plane, &self.plane).await.unwrap();
        }
    }

    /// A dispatcher that is started again and again, and dropped at any moment.
    async fn dispatcher(&self) {
        while !self.over.load(Ordering::Relaxed) {
            let store = self.cluster.store().await;
            // Some live long enough for a pass and a publication also on a slow machine.
            let longest = if rand::random_ratio(1, 5) { 30_000 } else { 3000 };
            let life = Duration::from_millis(rand::random_range(20..longest));
            tokio::time::timeout(life, self.dispatch(&store)).await.ok();
        }
    }

    fn namespaces(&self) -> Vec<String> {
        self.cluster.registry.agents.keys().map(|agent| agent.namespace()).collect()
    }

    async fn list(&self, path: &str) -> Vec<Value> {
        self.cluster.get(path).await.body["items"].as_array().cloned().unwrap_or_default()
    }

    /// Watches the pods: the most that an agent had at once.
    async fn watch(&self) -> usize {
        let mut most = 0;
        while !self.over.load(Ordering::Relaxed) {
            for namespace in self.namespaces() {
                let pods = self.list(&format!("/api/v1/namespaces/{namespace}/pods")).await;
                let alive = pods.iter().filter(|pod| {
                    !["Succeeded", "Failed"].contains(&pod["status"]["phase"].as_str().unwrap())
                });
                most = most.max(alive.count());
            }
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        most
    }

    /// Waits until every task has a published Job and the ledger is empty.
    async fn settled(&self, within: Duration) {
        let store = self.cluster.store().await;
        let end = Instant::now() + within;
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let Ok(read) = store.read_ledger().await else { continue };
            let (ledger, delivered) = (read.ledger, self.plane.delivered.lock().unwrap().len());
            if ledger.entries.is_empty() && delivered == self.hints.len() {
                return;
            }
            assert!(
                Instant::now() < end,
                "after {within:?}: {delivered} of {} published, {ledger:#?}",
                self.hints.len()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster"]
async fn nothing_runs_twice_and_nothing_is_forgotten() {
    let seconds: u64 =
        std::env::var("ASTRA_TEST_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let world = World::new((seconds / 3).clamp(10, 200)).await;
    let dispatchers = async {
        let all = (0..DISPATCHERS).map(|_| world.dispatcher());
        futures_util::future::join_all(all).await;
    };
    let settled = async {
        world.settled(Duration::from_secs(120 + 6 * seconds)).await;
        world.over.store(true, Ordering::Relaxed);
    };
    let ((), most, ()) = tokio::join!(dispatchers, world.watch(), settled);
    assert!(most <= CAPACITY as usize, "{most} pods of an agent at once");
    assert!(most > 0, "the watcher saw nothing");
    let mut pods: BTreeMap<String, usize> = BTreeMap::new();
    let mut suspended = 0;
    for namespace in world.namespaces() {
        for pod in world.list(&format!("/api/v1/namespaces/{namespace}/pods")).await {
            let task = pod["metadata"]["labels"]["dispatch.astra.dev/task"].as_str().unwrap().to_owned();
            *pods.entry(task).or_default() += 1;
        }
        let jobs = world.list(&format!("/apis/batch/v1/namespaces/{namespace}/jobs")).await;
        suspended += jobs.iter().filter(|job| job["spec"]["suspend"] == true).count();
    }
    assert_eq!(suspended, 0, "Jobs that nobody cares for");
    assert_eq!(pods.len(), world.hints.len(), "every task has run");
    let twice: Vec<_> = pods.iter().filter(|(_, count)| **count != 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    world.cluster.remove().await;
}
