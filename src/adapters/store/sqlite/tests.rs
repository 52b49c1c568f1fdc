use super::*;
use crate::adapters::store::Items;
use crate::domain::name::{ItemId, ProjectId};
use crate::domain::pass::ItemRead;
use crate::domain::result::FailureClass;
use crate::domain::work_item::{Priority, StateGroup, WorkItem};

fn open() -> (tempfile::TempDir, SqliteStore) {
    let home = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&home.path().join("store.sqlite3")).unwrap();
    (home, store)
}

fn item(updated_at: &str) -> WorkItem {
    WorkItem {
        id: ItemId(uuid::Uuid::from_u128(1)),
        project: ProjectId(uuid::Uuid::from_u128(2)),
        sequence: 7,
        name: updated_at.to_owned(),
        description: String::new(),
        labels: Vec::new(),
        state: "Todo".to_owned(),
        group: StateGroup::Unstarted,
        priority: Priority::None,
        assignees: Vec::new(),
        links: Vec::new(),
        updated_at: updated_at.parse().unwrap(),
        withdrawn: false,
    }
}

const OTHER: ProcessIdentity = ProcessIdentity { pid: 1, start_time: 1 };

async fn released(store: &SqliteStore) -> JobRef {
    let new = NewJob::sample("ast-1-x7k2p");
    let Creation::Created(uid) = store.create_job(&new).await.unwrap() else { panic!("not created") };
    let job = JobRef { namespace: new.namespace.clone(), run: new.run.clone(), uid };
    assert!(store.release(&job).await.unwrap());
    job
}

#[test]
fn tables_of_another_version_are_left_alone() {
    let (home, _) = open();
    let path = home.path().join("store.sqlite3");
    let other = Connection::open(&path).unwrap();
    other.pragma_update(None, "user_version", 2).unwrap();
    let Err(StoreError::BrokenLedger(why)) = SqliteStore::open(&path) else { panic!("opened") };
    assert!(why.contains("tables of version 2") && why.contains("knows version 1"), "{why}");
    let version: i64 = other.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(version, 2);
}

#[tokio::test]
async fn one_supervisor_takes_a_run_over_and_only_it_ends_the_run() {
    let (_home, store) = open();
    let job = released(&store).await;
    let own = ProcessIdentity::own().unwrap();
    assert_eq!(store.take_over(&job.run, own).unwrap(), Some(job.clone()));
    assert_eq!(store.take_over(&job.run, OTHER).unwrap(), None);
    assert!(store.all_runs().unwrap()[0].job.pod_alive);
    let end = JobEnd { at: Timestamp::UNIX_EPOCH, failure: None };
    assert!(!store.finish(&job, OTHER, &end).unwrap());
    assert!(store.finish(&job, own, &end).unwrap());
    assert!(!store.finish(&job, own, &end).unwrap());
    let run = store.all_runs().unwrap().remove(0);
    assert_eq!((run.job.end, run.job.pod_alive, run.supervisor), (Some(end), false, None));
    assert_eq!(store.take_over(&job.run, own).unwrap(), None, "an ended run is not begun again");
}

#[tokio::test]
async fn a_cancelled_run_is_not_begun() {
    let (_home, store) = open();
    let job = released(&store).await;
    assert!(store.cancel(&job, CancelReason::Person).await.unwrap());
    assert_eq!(store.take_over(&job.run, OTHER).unwrap(), None);
    assert!(!store.release(&job).await.unwrap());
}

#[tokio::test]
async fn only_newer_snapshots_are_kept() {
    let (home, store) = open();
    let (old, new) = (item("2026-11-23T01:00:00.000001Z"), item("2026-11-23T01:00:00.000002Z"));
    assert_eq!(store.read(&[old.reference()]).await, [ItemRead::Unread]);
    assert!(store.store_snapshot(&old).unwrap());
    assert!(store.store_snapshot(&new).unwrap());
    // Told again before any pass has dealt with it: its dispatcher may have died.
    assert!(store.store_snapshot(&new).unwrap());
    assert_eq!(store.unhandled_snapshots().unwrap(), std::slice::from_ref(&new));
    store.mark_handled(&old).unwrap();
    assert!(!store.is_known(&new).unwrap(), "another state of it was dealt with");
    store.mark_handled(&new).unwrap();
    assert!(store.is_known(&new).unwrap() && store.is_known(&old).unwrap());
    assert_eq!(store.unhandled_snapshots().unwrap(), []);
    assert!(!store.store_snapshot(&new).unwrap());
    assert!(!store.store_snapshot(&old).unwrap());
    drop(store);
    let store = SqliteStore::open(&home.path().join("store.sqlite3")).unwrap();
    assert_eq!(store.snapshot(&old.reference()).unwrap(), Some(new.clone()));
    assert_eq!(store.snapshot_by_number(new.project, 7).unwrap(), Some(new.clone()));
    assert_eq!(store.snapshot_by_number(new.project, 8).unwrap(), None);
}

#[tokio::test]
async fn a_ledger_that_is_not_ours_is_left_alone() {
    for text in ["garbage", "{\"version\": 2}", "{\"version\": 1}"] {
        let (_home, store) = open();
        store.connection().execute("INSERT INTO ledger VALUES (1, 5, ?1)", [text]).unwrap();
        assert!(matches!(store.read_ledger().await, Err(StoreError::BrokenLedger(_))), "{text}");
        let swapped = store.swap_ledger(&Version(Some("5".to_owned())), &Ledger::default()).await;
        assert!(matches!(swapped, Err(StoreError::BrokenLedger(_))), "{text}");
        let kept: String =
            store.connection().query_row("SELECT document FROM ledger", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, text);
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("store.sqlite3");
    std::fs::write(&path, "x".repeat(5_000)).unwrap();
    assert!(matches!(SqliteStore::open(&path), Err(StoreError::BrokenLedger(_))));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "x".repeat(5_000));
}

#[tokio::test]
async fn a_full_disk_changes_nothing() {
    let (_home, store) = open();
    let job = released(&store).await;
    {
        let connection = store.connection();
        let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        connection.pragma_update(None, "max_page_count", pages).unwrap();
    }
    let reason = "x".repeat(100_000);
    let end = JobEnd {
        at: Timestamp::UNIX_EPOCH,
        failure: Some(crate::domain::job::JobFailure { class: FailureClass::Agent, reason }),
    };
    store.take_over(&job.run, OTHER).unwrap().unwrap();
    assert!(matches!(store.finish(&job, OTHER, &end), Err(StoreError::Full(_))));
    assert_eq!(store.all_runs().unwrap()[0].supervisor, Some(OTHER));
}
