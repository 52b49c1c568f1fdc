//! What every store must do, for each of them that needs no cluster (`tests/kubernetes_store.rs`
//! does the same against an API server): conditions that hold in one step with the change, also
//! where many come at once, and where they are killed in the middle.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/small_world.rs"]
mod small_world;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use astra_dispatch::adapters::process_identity::ProcessIdentity;
use astra_dispatch::adapters::store::drive::drive;
use astra_dispatch::adapters::store::memory::MemoryStore;
use astra_dispatch::adapters::store::sqlite::SqliteStore;
use astra_dispatch::adapters::store::{Creation, Items, SecretWrite, Store};
use astra_dispatch::domain::job::{CancelReason, Claim, ItemState, Job, JobEnd, JobPhase, JobRef};
use astra_dispatch::domain::ledger::{EntryState, Ledger};
use astra_dispatch::domain::matching::Workforce;
use astra_dispatch::domain::pass::{Hint, NewJob, Pass, PassEnd, PassInput, Timing, Version};
use astra_dispatch::domain::task::Task;
use astra_dispatch::domain::work_item::WorkItem;
use jiff::Timestamp;

/// A store under test, and how the world acts on it.
trait Subject: Clone + Send + Sync + 'static {
    type Store: Store + Items + Send;

    fn new() -> Self;
    /// Another way to the same store.
    fn open(&self) -> Arc<Self::Store>;
    fn put(&self, item: WorkItem);
    fn end(&self, job: &JobRef);
}

#[derive(Clone)]
struct Memory(Arc<MemoryStore>);

impl Subject for Memory {
    type Store = MemoryStore;

    fn new() -> Self {
        Self(Arc::default())
    }

    fn open(&self) -> Arc<MemoryStore> {
        self.0.clone()
    }

    fn put(&self, item: WorkItem) {
        self.0.put_item(item);
    }

    fn end(&self, job: &JobRef) {
        assert!(self.0.change_job(job, |job| {
            job.end = Some(JobEnd { at: Timestamp::now(), failure: None });
            job.pod_alive = false;
        }));
    }
}

#[derive(Clone)]
struct Sqlite(Arc<tempfile::TempDir>);

impl Subject for Sqlite {
    type Store = SqliteStore;

    fn new() -> Self {
        Self(Arc::new(tempfile::tempdir().unwrap()))
    }

    fn open(&self) -> Arc<SqliteStore> {
        Arc::new(SqliteStore::open(&self.0.path().join("store.sqlite3")).unwrap())
    }

    fn put(&self, item: WorkItem) {
        assert!(self.open().store_snapshot(&item).unwrap());
    }

    fn end(&self, job: &JobRef) {
        let (store, own) = (self.open(), ProcessIdentity::own().unwrap());
        assert_eq!(store.take_over(&job.run, own).unwrap().as_ref(), Some(job));
        let end = JobEnd { at: Timestamp::now(), failure: None };
        assert!(store.finish(job, own, &end).unwrap());
    }
}

macro_rules! for_each_store {
    ($($test:ident),* $(,)?) => {
        mod memory {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $test() {
                    super::$test::<super::Memory>().await;
                }
            )*
        }
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $test() {
                    super::$test::<super::Sqlite>().await;
                }
            )*
        }
    };
}

for_each_store! {
    the_ledger_is_swapped_only_where_it_was_read,
    a_job_is_created_once_and_its_uid_is_its_own,
    release_and_cancel_exclude_each_other,
    only_queued_jobs_are_deleted_and_only_ended_ones_closed,
    a_claim_is_exclusive_and_publishing_needs_it,
    swaps_at_once_lose_nothing,
    passes_at_once_admit_each_task_once,
}

fn new_job(workforce: &Workforce, run: &str) -> NewJob {
    let sequence = run.split('-').nth(1).unwrap().parse().unwrap();
    let task = Task::from_item(&small_world::item(sequence, "coder"), workforce.registry()).unwrap();
    NewJob {
        run: run.parse().unwrap(),
        task: Arc::new(task),
        agent: "a".parse().unwrap(),
        namespace: "agent-a".to_owned(),
        attempt: 2,
        registry: workforce.registry().stamp.clone(),
    }
}

fn workforce(slots: u32) -> Workforce {
    small_world::workforce(&[("a", "coder", slots)], 3, 1)
}

async fn created(store: &impl Store, new: &NewJob) -> JobRef {
    match store.create_job(new).await.unwrap() {
        Creation::Created(uid) => JobRef { namespace: new.namespace.clone(), run: new.run.clone(), uid },
        other => panic!("{other:?}"),
    }
}

async fn found(store: &impl Store, job: &JobRef) -> Option<Job> {
    store.find_job(&job.namespace, &job.run).await.unwrap().0
}

async fn the_ledger_is_swapped_only_where_it_was_read<S: Subject>() {
    let subject = S::new();
    let (one, other) = (subject.open(), subject.open());
    let empty = one.read_ledger().await.unwrap();
    assert_eq!((empty.ledger, &empty.version), (Ledger::default(), &Version(None)));
    let ledger = Ledger { namespaces: vec!["agent-a".to_owned()], ..Ledger::default() };
    assert!(one.swap_ledger(&empty.version, &ledger).await.unwrap());
    assert!(!other.swap_ledger(&empty.version, &Ledger::default()).await.unwrap());
    assert!(!other.swap_ledger(&empty.version, &ledger).await.unwrap(), "equal, but not what was read");
    let read = other.read_ledger().await.unwrap();
    assert_eq!(read.ledger, ledger);
    assert!(other.swap_ledger(&read.version, &ledger).await.unwrap());
    assert_eq!(one.read_ledger().await.unwrap().version, read.version, "the same again changes nothing");
    assert!(one.swap_ledger(&read.version, &Ledger::default()).await.unwrap());
    assert!(!one.swap_ledger(&read.version, &ledger).await.unwrap());
}

async fn a_job_is_created_once_and_its_uid_is_its_own<S: Subject>() {
    let store = S::new().open();
    let workforce = workforce(1);
    let new = new_job(&workforce, "t-1-bcdfg");
    let job = created(&*store, &new).await;
    let seen = found(&*store, &job).await.unwrap();
    assert_eq!(seen, new.queued(job.uid.clone(), seen.created_at));
    assert_eq!(store.create_job(&new).await.unwrap(), Creation::Exists(Box::new(seen)));
    assert_eq!(store.write_secret(&new, &job).await.unwrap(), SecretWrite::Written);
    assert_eq!(store.write_secret(&new, &job).await.unwrap(), SecretWrite::Written);
    assert!(store.delete(&job).await.unwrap());
    assert_eq!(found(&*store, &job).await, None);
    let again = created(&*store, &new).await;
    assert_ne!(again.uid, job.uid);
    // The old UID touches nothing any more.
    assert!(!store.release(&job).await.unwrap());
    assert!(!store.cancel(&job, CancelReason::Person).await.unwrap());
    assert!(store.delete(&job).await.unwrap(), "gone is deleted");
    assert!(store.close(&job).await.unwrap(), "gone is closed");
    assert_eq!(found(&*store, &again).await.unwrap().phase, JobPhase::Queued);
}

async fn release_and_cancel_exclude_each_other<S: Subject>() {
    let store = S::new().open();
    let workforce = workforce(1);
    let job = created(&*store, &new_job(&workforce, "t-1-bcdfg")).await;
    assert!(store.cancel(&job, CancelReason::Unwanted).await.unwrap());
    assert!(!store.release(&job).await.unwrap());
    assert!(!store.cancel(&job, CancelReason::Person).await.unwrap(), "the first reason stays");
    let seen = found(&*store, &job).await.unwrap();
    assert_eq!(seen.phase, JobPhase::Cancelled);
    assert_eq!(seen.cancel.map(|cancel| cancel.reason), Some(CancelReason::Unwanted));
    let job = created(&*store, &new_job(&workforce, "t-2-bcdfg")).await;
    assert!(store.release(&job).await.unwrap());
    assert!(!store.release(&job).await.unwrap());
    assert!(store.cancel(&job, CancelReason::Person).await.unwrap());
    assert!(!store.release(&job).await.unwrap());
    assert_eq!(store.list_jobs("agent-a").await.unwrap().jobs.len(), 2);
    assert_eq!(store.list_jobs("agent-b").await.unwrap().jobs.len(), 0);
}

async fn only_queued_jobs_are_deleted_and_only_ended_ones_closed<S: Subject>() {
    let subject = S::new();
    let store = subject.open();
    let workforce = workforce(1);
    let job = created(&*store, &new_job(&workforce, "t-1-bcdfg")).await;
    assert!(!store.close(&job).await.unwrap());
    assert!(store.release(&job).await.unwrap());
    assert!(!store.delete(&job).await.unwrap());
    assert!(!store.close(&job).await.unwrap());
    subject.end(&job);
    assert!(!store.delete(&job).await.unwrap());
    assert!(store.close(&job).await.unwrap());
    assert!(store.close(&job).await.unwrap());
    let seen = found(&*store, &job).await.unwrap();
    assert_eq!(seen.phase, JobPhase::Published);
    assert_eq!(seen.cancel.map(|cancel| cancel.reason), Some(CancelReason::Replaced));
    assert_eq!(store.list_jobs("agent-a").await.unwrap().jobs, []);
    assert!(!store.cancel(&job, CancelReason::Person).await.unwrap());
}

async fn a_claim_is_exclusive_and_publishing_needs_it<S: Subject>() {
    let subject = S::new();
    let store = subject.open();
    let workforce = workforce(1);
    let claim = |holder: &str| Claim { holder: holder.to_owned(), at: Timestamp::UNIX_EPOCH };
    let job = created(&*store, &new_job(&workforce, "t-1-bcdfg")).await;
    assert!(store.claim(&job, None, &claim("one")).await.unwrap().is_none(), "it is queued");
    assert!(store.release(&job).await.unwrap());
    subject.end(&job);
    assert!(!store.mark_published(&job, "one").await.unwrap());
    let (claimed, _) = store.claim(&job, None, &claim("one")).await.unwrap().unwrap();
    assert_eq!((claimed.phase, claimed.claim), (JobPhase::Claimed, Some(claim("one"))));
    assert!(store.claim(&job, None, &claim("two")).await.unwrap().is_none());
    assert!(store.claim(&job, Some(&claim("three")), &claim("two")).await.unwrap().is_none());
    assert!(!store.cancel(&job, CancelReason::Unwanted).await.unwrap(), "a claim outranks a cancel");
    assert!(!store.close(&job).await.unwrap());
    assert!(!store.mark_published(&job, "two").await.unwrap());
    assert!(store.claim(&job, Some(&claim("one")), &claim("two")).await.unwrap().is_some());
    assert!(!store.mark_published(&job, "one").await.unwrap());
    let state = ItemState {
        from: "Todo".to_owned(),
        to: "In Review".to_owned(),
        written_at: Timestamp::UNIX_EPOCH,
        acknowledged: true,
    };
    assert!(store.record_item_state(&job, &state).await.unwrap());
    assert_eq!(store.list_jobs("agent-a").await.unwrap().jobs[0].item_state, Some(state));
    assert!(store.mark_published(&job, "two").await.unwrap());
    assert!(!store.mark_published(&job, "two").await.unwrap());
    assert!(store.claim(&job, Some(&claim("two")), &claim("two")).await.unwrap().is_none());
    assert_eq!(store.list_jobs("agent-a").await.unwrap().jobs, []);
    // A cancelled run is claimed and published, too, and stays cancelled.
    let job = created(&*store, &new_job(&workforce, "t-2-bcdfg")).await;
    assert!(store.cancel(&job, CancelReason::Person).await.unwrap());
    let (claimed, _) = store.claim(&job, None, &claim("one")).await.unwrap().unwrap();
    assert!(claimed.cancel.is_some());
    assert!(store.mark_published(&job, "one").await.unwrap());
}

async fn swaps_at_once_lose_nothing<S: Subject>() {
    let subject = S::new();
    let tasks: Vec<_> = (0..6)
        .map(|who| {
            let store = subject.open();
            tokio::spawn(async move {
                for number in 0..20 {
                    loop {
                        let read = store.read_ledger().await.unwrap();
                        let mut ledger = read.ledger;
                        ledger.namespaces.push(format!("{who}-{number}"));
                        if store.swap_ledger(&read.version, &ledger).await.unwrap() {
                            break;
                        }
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let mut names = subject.open().read_ledger().await.unwrap().ledger.namespaces;
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 120);
}

fn pass(workforce: &Workforce, tasks: u64, seed: u64) -> Pass<'_> {
    let hint = |number| Hint { item: small_world::item(number, "coder").reference(), by_hand: false };
    Pass::new(PassInput {
        workforce,
        timing: Timing::default(),
        hints: (1..=tasks).map(hint).collect(),
        stop: None,
        seed,
    })
}

async fn passes_at_once_admit_each_task_once<S: Subject>() {
    let subject = S::new();
    (1..=9).for_each(|number| subject.put(small_world::item(number, "coder")));
    let passes: Vec<_> = (0..10)
        .map(|seed| {
            let store = subject.open();
            tokio::spawn(async move {
                let workforce = workforce(4);
                let end = drive(pass(&workforce, 9, seed), &*store, &*store).await.unwrap();
                assert!(matches!(end, PassEnd::Complete(_)), "{end:?}");
            })
        })
        .collect();
    for pass in passes {
        pass.await.unwrap();
    }
    let store = subject.open();
    let ledger = store.read_ledger().await.unwrap().ledger;
    let jobs = store.list_jobs("agent-a").await.unwrap().jobs;
    assert_eq!((jobs.len(), ledger.entries.len(), ledger.waiting.len()), (4, 4, 5));
    assert_started(&ledger, &jobs);
}

/// Every entry is started with the UID of its own, released Job, and no task has two.
fn assert_started(ledger: &Ledger, jobs: &[Job]) {
    let mut items: Vec<_> = jobs.iter().map(|job| job.item).collect();
    items.sort_unstable();
    items.dedup();
    assert_eq!(items.len(), jobs.len(), "a task has two Jobs");
    for entry in &ledger.entries {
        let job = jobs.iter().find(|job| job.run == entry.run).unwrap();
        assert_eq!((entry.state, entry.uid.as_ref()), (EntryState::Started, Some(&job.uid)));
        assert_eq!(job.phase, JobPhase::Released);
    }
}

const TASKS: u64 = 60;
const STORE_VARIABLE: &str = "TEST_STORE";

/// The other process of the next test: passes for a few more tasks each time, until it is killed.
#[tokio::test]
#[ignore = "run by killed_processes_lose_nothing"]
async fn dispatcher_until_it_is_killed() {
    let Some(path) = std::env::var_os(STORE_VARIABLE) else { return };
    let store = SqliteStore::open(Path::new(&path)).unwrap();
    let workforce = workforce(u32::try_from(TASKS).unwrap());
    for tasks in (1..=TASKS).cycle() {
        let seed = u64::from(std::process::id()) << 16 | tasks;
        drive(pass(&workforce, tasks, seed), &store, &store).await.unwrap();
    }
}

#[tokio::test]
async fn killed_processes_lose_nothing() {
    let subject = Sqlite::new();
    (1..=TASKS).for_each(|number| subject.put(small_world::item(number, "coder")));
    let path = subject.0.path().join("store.sqlite3");
    let start = || -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "dispatcher_until_it_is_killed", "--ignored"])
            .env(STORE_VARIABLE, &path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let store = subject.open();
    let mut made = 0;
    for round in 0..200_u64 {
        if round >= 12 && made >= TASKS as usize / 2 {
            break;
        }
        let mut children = [start(), start(), start()];
        // Whenever: wherever they are then, nothing may be lost.
        for (place, child) in children.iter_mut().enumerate() {
            tokio::time::sleep(Duration::from_millis(7 + 13 * (round * 3 + place as u64) % 41)).await;
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let ledger = store.read_ledger().await.unwrap().ledger;
        let jobs = store.list_jobs("agent-a").await.unwrap().jobs;
        made = jobs.len();
        for job in jobs.iter().filter(|job| job.phase == JobPhase::Released) {
            let entry = ledger.entries.iter().find(|entry| entry.run == job.run).unwrap();
            assert_eq!((entry.state, entry.uid.as_ref()), (EntryState::Started, Some(&job.uid)));
        }
    }
    assert!(made > 0, "no process came far enough to be killed in the middle of anything");
    let workforce = workforce(u32::try_from(TASKS).unwrap());
    drive(pass(&workforce, TASKS, 1), &*store, &*store).await.unwrap();
    let ledger = store.read_ledger().await.unwrap().ledger;
    let jobs = store.list_jobs("agent-a").await.unwrap().jobs;
    assert_eq!(ledger.entries.len() as u64, TASKS);
    assert_eq!(jobs.len() as u64, TASKS);
    assert_started(&ledger, &jobs);
}

#[tokio::test]
async fn a_pass_changes_nothing_where_the_ledger_is_broken() {
    let subject = Sqlite::new();
    subject.put(small_world::item(1, "coder"));
    let store = subject.open();
    assert!(store.swap_ledger(&Version(None), &Ledger { version: 2, ..Ledger::default() }).await.unwrap());
    let workforce = workforce(1);
    let end = drive(pass(&workforce, 1, 1), &*store, &*store).await.unwrap();
    assert!(matches!(end, PassEnd::LedgerBroken(_)), "{end:?}");
    assert_eq!(store.list_jobs("agent-a").await.unwrap().jobs, []);
}
