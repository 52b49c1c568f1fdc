use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::adapters::store::memory::MemoryStore;
use crate::domain::job::{Claim, JobEnd, JobPhase, JobRef};
use crate::domain::name::{ItemId, ProjectId, RunId};
use crate::domain::pass::{NewJob, Subject, Timing};
use crate::domain::work_item::{Priority, StateGroup, WorkItem};

/// Plane and the place of publications: counts what reaches it.
#[derive(Default)]
struct Outside {
    writes: AtomicU32,
    /// How important each was.
    asked: Mutex<Vec<Importance>>,
    deliveries: AtomicU32,
    is_mute: bool,
    /// No move is sent.
    is_spent: bool,
    /// What becomes of deliveries.
    refuses: bool,
    fails: bool,
    keeps_nothing: bool,
    /// Which runs were kept, and where their items were moved.
    kept: Mutex<Vec<(String, Option<String>)>>,
}

impl ItemStates for Outside {
    async fn write_state(
        &self,
        _item: ItemRef,
        to: &StateTarget,
        importance: Importance,
    ) -> Result<ItemState, Undelivered> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.asked.lock().unwrap().push(importance);
        if self.is_mute {
            std::future::pending::<()>().await;
        }
        if self.is_spent {
            return Err(Undelivered::Refused(anyhow::anyhow!("nothing left to spend")));
        }
        let StateTarget::Named(name) = to else {
            return Err(anyhow::anyhow!("states are named here").into());
        };
        Ok(ItemState {
            from: "Todo".to_owned(),
            to: name.clone(),
            written_at: Timestamp::now(),
            acknowledged: true,
        })
    }
}

impl Deliver for Outside {
    type Told = RunId;

    async fn deliver(&self, job: &Job) -> Result<Delivered<RunId>, Undelivered> {
        self.deliveries.fetch_add(1, Ordering::Relaxed);
        match (self.refuses, self.fails) {
            (true, _) => Err(Undelivered::Refused(anyhow::anyhow!("no right to"))),
            (_, true) => Err(Undelivered::Failed(anyhow::anyhow!("no answer"))),
            _ => {
                let outcome = Some(StateTarget::Named("In Review".to_owned()));
                Ok(Delivered { outcome, told: job.run.clone() })
            }
        }
    }

    async fn keep(&self, told: &RunId, moved: Option<&ItemState>) -> Result<(), Undelivered> {
        let kept = (told.to_string(), moved.map(|state| state.to.clone()));
        self.kept.lock().unwrap().push(kept);
        if self.keeps_nothing { Err(Undelivered::Failed(anyhow::anyhow!("no log"))) } else { Ok(()) }
    }
}

/// Plane, of which every read is counted, and remembered.
struct Remembering<'a> {
    plane: &'a MemoryStore,
    reads: AtomicU32,
    last: Option<(WorkItem, Instant)>,
}

impl Items for Remembering<'_> {
    async fn read(&self, items: &[ItemRef]) -> Vec<ItemRead> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.plane.read(items).await
    }

    fn last_read(&self, _item: ItemRef) -> Option<(WorkItem, Instant)> {
        self.last.clone()
    }
}

fn item() -> WorkItem {
    WorkItem {
        id: ItemId(uuid::Uuid::from_u128(1)),
        project: ProjectId(uuid::Uuid::from_u128(2)),
        sequence: 1,
        name: String::new(),
        description: String::new(),
        labels: vec!["agent:coder".to_owned()],
        state: "Todo".to_owned(),
        group: StateGroup::Unstarted,
        priority: Priority::None,
        assignees: Vec::new(),
        links: Vec::new(),
        updated_at: Timestamp::UNIX_EPOCH,
        withdrawn: false,
    }
}

/// A store with one released run.
async fn released() -> (MemoryStore, Subject) {
    let store = MemoryStore::default();
    store.put_item(item());
    let new = NewJob::sample("ast-1-x7k2p");
    let Creation::Created(uid) = store.create_job(&new).await.unwrap() else { panic!("not created") };
    let job = JobRef { namespace: new.namespace, run: new.run, uid };
    assert!(store.release(&job).await.unwrap());
    (store, Subject { job, item: item().reference() })
}

fn end(store: &MemoryStore, job: &JobRef, at: Timestamp) {
    assert!(store.change_job(job, |job| {
        job.end = Some(JobEnd { at, failure: None });
        job.pod_alive = false;
    }));
}

fn start_write(subject: &Subject) -> StartWrite {
    StartWrite::new(subject.clone(), StateTarget::Named("In Progress".to_owned()))
}

fn publication(subject: &Subject, holder: &str) -> Publication {
    let started = StateTarget::Named("In Progress".to_owned());
    Publication::new(subject.clone(), holder.to_owned(), Some(started), Timing::default())
}

async fn job(store: &MemoryStore, subject: &Subject) -> Job {
    store.find_job(&subject.job.namespace, &subject.job.run).await.unwrap().0.unwrap()
}

#[tokio::test]
async fn a_started_write_is_recorded_once() {
    let (store, subject) = released().await;
    let outside = Outside::default();
    let first = drive_start_write(start_write(&subject), &store, &store, &outside).await.unwrap();
    assert_eq!(first, StartWriteEnd::Recorded);
    assert_eq!(job(&store, &subject).await.item_state.unwrap().to, "In Progress");
    let second = drive_start_write(start_write(&subject), &store, &store, &outside).await.unwrap();
    assert_eq!(second, StartWriteEnd::NotNeeded);
    assert_eq!(outside.writes.into_inner(), 1);
}

#[tokio::test]
async fn a_write_that_comes_too_late_is_not_sent() {
    let (store, subject) = released().await;
    let outside = Outside::default();
    let limits = Limits { send_within: Duration::ZERO, ..LIMITS };
    let ended = start_write_within(limits, start_write(&subject), &store, &store, &outside).await.unwrap();
    assert!(matches!(ended, StartWriteEnd::Dropped(why) if why.contains("too late")));
    assert_eq!(outside.writes.into_inner(), 0);
    assert_eq!(job(&store, &subject).await.item_state, None);
}

#[tokio::test]
async fn a_write_without_an_answer_is_given_up() {
    let (store, subject) = released().await;
    let outside = Outside { is_mute: true, ..Outside::default() };
    let limits = Limits { write_timeout: Duration::from_millis(5), ..LIMITS };
    let ended = start_write_within(limits, start_write(&subject), &store, &store, &outside).await.unwrap();
    assert!(matches!(ended, StartWriteEnd::Dropped(why) if why.contains("in time")));
    assert_eq!(job(&store, &subject).await.item_state, None);
}

#[tokio::test]
async fn an_ended_run_is_not_called_started() {
    let (store, subject) = released().await;
    end(&store, &subject.job, Timestamp::now());
    let outside = Outside::default();
    let ended = drive_start_write(start_write(&subject), &store, &store, &outside).await.unwrap();
    assert_eq!((ended, outside.writes.into_inner()), (StartWriteEnd::NotNeeded, 0));
}

#[tokio::test]
async fn a_run_is_published_once_and_not_at_once() {
    let (store, subject) = released().await;
    let outside = Outside::default();
    let publish =
        |holder| drive_publication(publication(&subject, holder), &store, &store, &outside, &outside);
    assert_eq!(publish("one").await.unwrap(), PublicationEnd::Unfinished);
    let now = Timestamp::now();
    end(&store, &subject.job, now);
    let margin = Timing::default().claim_margin;
    assert_eq!(publish("one").await.unwrap(), PublicationEnd::TooEarly(now + margin));
    end(&store, &subject.job, now - margin);
    assert_eq!(publish("one").await.unwrap(), PublicationEnd::Published);
    assert_eq!(job(&store, &subject).await.item_state.unwrap().to, "In Review");
    assert_eq!(publish("two").await.unwrap(), PublicationEnd::Over);
    assert_eq!((outside.writes.into_inner(), outside.deliveries.into_inner()), (1, 1));
    let kept = outside.kept.into_inner().unwrap();
    assert_eq!(kept, [("ast-1-x7k2p".to_owned(), Some("In Review".to_owned()))]);
}

#[tokio::test]
async fn what_cannot_be_kept_is_not_marked() {
    let (store, subject) = released().await;
    end(&store, &subject.job, Timestamp::UNIX_EPOCH);
    let outside = Outside { keeps_nothing: true, ..Outside::default() };
    let publication = publication(&subject, "one");
    let ended = drive_publication(publication, &store, &store, &outside, &outside).await.unwrap();
    assert_eq!(ended, PublicationEnd::Stopped("no log".to_owned()));
    assert_eq!(job(&store, &subject).await.phase, JobPhase::Claimed);
}

#[tokio::test]
async fn what_was_read_just_now_is_not_read_again_and_counts_from_then() {
    let now = Instant::now();
    let before = |seconds| now.checked_sub(Duration::from_secs(seconds)).unwrap();
    for (age, reuse_within, reads, end) in [
        (4, REUSE_WITHIN, 0, StartWriteEnd::Recorded),
        (6, REUSE_WITHIN, 1, StartWriteEnd::Recorded),
        // However old what is used may be: a write that rests on it is sent only so long after it.
        (11, Duration::MAX, 0, StartWriteEnd::Dropped("it was too late to send it".to_owned())),
    ] {
        let (store, subject) = released().await;
        let (reads_made, last) = (AtomicU32::new(0), Some((item(), before(age))));
        let plane = Remembering { plane: &store, reads: reads_made, last };
        let limits = Limits { reuse_within, ..LIMITS };
        let outside = Outside::default();
        let ended =
            start_write_within(limits, start_write(&subject), &store, &plane, &outside).await.unwrap();
        assert_eq!((ended, plane.reads.into_inner()), (end, reads), "{age} s");
    }
}

#[tokio::test]
async fn only_an_old_claim_is_taken_over() {
    let (store, subject) = released().await;
    end(&store, &subject.job, Timestamp::UNIX_EPOCH);
    let outside = Outside::default();
    let publish = || drive_publication(publication(&subject, "two"), &store, &store, &outside, &outside);
    let takeover = Timing::default().claim_takeover;
    let young = Claim { holder: "one".to_owned(), at: Timestamp::now() };
    assert!(store.claim(&subject.job, None, &young).await.unwrap().is_some());
    assert_eq!(publish().await.unwrap(), PublicationEnd::Taken { holder: "one".to_owned() });
    let old = Claim { at: young.at - takeover, ..young };
    store.change_job(&subject.job, |job| job.claim = Some(old));
    assert_eq!(publish().await.unwrap(), PublicationEnd::Published);
}

#[tokio::test]
async fn a_holder_is_silent_when_its_time_is_over() {
    let (store, subject) = released().await;
    end(&store, &subject.job, Timestamp::UNIX_EPOCH);
    let outside = Outside::default();
    let limits = Limits { claim_use: Duration::ZERO, ..LIMITS };
    let publication = publication(&subject, "one");
    let ended = publication_within(limits, publication, &store, &store, &outside, &outside).await.unwrap();
    assert!(matches!(ended, PublicationEnd::Stopped(why) if why.contains("too old")));
    assert_eq!((outside.writes.into_inner(), outside.deliveries.into_inner()), (0, 0));
    assert_eq!(job(&store, &subject).await.phase, JobPhase::Claimed);
}

#[tokio::test]
async fn only_who_was_refused_lets_go_of_its_claim() {
    let (store, subject) = released().await;
    end(&store, &subject.job, Timestamp::UNIX_EPOCH);
    let publish = async |holder: &str, refuses: bool, fails: bool| {
        let outside = Outside { refuses, fails, ..Outside::default() };
        drive_publication(publication(&subject, holder), &store, &store, &outside, &outside).await.unwrap()
    };
    assert_eq!(publish("one", true, false).await, PublicationEnd::Refused("no right to".to_owned()));
    assert_eq!(publish("two", false, true).await, PublicationEnd::Stopped("no answer".to_owned()));
    assert_eq!(publish("three", false, false).await, PublicationEnd::Taken { holder: "two".to_owned() });
}

#[tokio::test]
async fn who_may_not_send_a_move_now_lets_go_of_its_claim() {
    let (store, subject) = released().await;
    end(&store, &subject.job, Timestamp::UNIX_EPOCH);
    let publish = async |is_spent: bool, limits: Limits| {
        let outside = Outside { is_spent, ..Outside::default() };
        let publication = publication(&subject, if is_spent { "one" } else { "two" });
        let end = publication_within(limits, publication, &store, &store, &outside, &outside).await.unwrap();
        (end, outside.asked.into_inner().unwrap())
    };
    let refused = |why: &str| PublicationEnd::Refused(why.to_owned());
    let asked = vec![Importance::FinalWord];
    assert_eq!(publish(true, LIMITS).await, (refused("nothing left to spend"), asked.clone()));
    let late = Limits { send_within: Duration::ZERO, ..LIMITS };
    assert_eq!(publish(false, late).await, (refused("it was too late to move the item"), Vec::new()));
    assert_eq!(publish(false, LIMITS).await, (PublicationEnd::Published, asked));
}

#[tokio::test]
async fn who_was_overtaken_has_nothing_to_complain_of() {
    let (store, subject) = released().await;
    end(&store, &subject.job, Timestamp::UNIX_EPOCH);
    let mut slow = publication(&subject, "slow");
    slow.step(Vec::new());
    let seen = store.find_job(&subject.job.namespace, &subject.job.run).await.unwrap();
    let Step::Call(claim) = slow.step(vec![found(seen)]) else { panic!("it may be claimed") };
    let outside = Outside::default();
    let quick = publication(&subject, "quick");
    let ended = drive_publication(quick, &store, &store, &outside, &outside).await.unwrap();
    assert_eq!(ended, PublicationEnd::Published);
    let missed = answer(&claim[0], &store, &store).await.unwrap();
    assert_eq!(slow.step(vec![missed]), Step::Done(PublicationEnd::Overtaken));
}
