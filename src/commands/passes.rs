//! The pass, carried out until nothing is left to do: the same for every executor.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::adapters::store::drive::{Deliver, ItemStates, drive, drive_publication, drive_start_write};
use crate::adapters::store::{Items, Store, StoreError, StoreResult};
use crate::domain::decision::Verdict;
use crate::domain::matching::Workforce;
use crate::domain::name::RunId;
use crate::domain::pass::{
    Hint, Pass, PassEnd, PassInput, PassReport, Publication, PublicationEnd, StartWrite, StartWriteEnd,
    StateTarget, Subject, TaskOutcome, Timing,
};
use crate::error::UserError;
use crate::output;

/// A pass that has more to do is repeated at once, but not for ever: the next event or the end of
/// a run goes on from there.
const MOST_PASSES: u32 = 20;
/// A publication that failed is tried again by the same process no sooner than this.
const TRY_AGAIN: Duration = Duration::from_secs(60);
/// A workflow starts quicker than a run may be published (its last move in Plane must be over): that is
/// waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(45);

/// Which moves of items are made, by where they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ItemMoves {
    /// In Plane: to *started* when a run begins, and by its outcome when it is published.
    InPlane,
    /// In this machine's own snapshots: out of the queue when a run is published.
    InSnapshots,
    /// None: there is no place for them.
    None,
}

/// Runs whose publication failed in this process, and when: a waiting command runs the pass every few
/// seconds, and must not ask GitHub for the same thing each time.
#[derive(Default)]
pub(crate) struct FailedPublications(Mutex<BTreeMap<RunId, Instant>>);

impl FailedPublications {
    fn failed_just_now(&self, run: &RunId) -> bool {
        self.lock().get(run).is_some_and(|at| at.elapsed() < TRY_AGAIN)
    }

    fn insert(&self, run: RunId) {
        self.lock().insert(run, Instant::now());
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RunId, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What passes work on.
pub(crate) struct World<'a, S, I, D> {
    pub(crate) workforce: &'a Workforce,
    /// Ledger and runs.
    pub(crate) store: &'a S,
    /// Where work items are read and moved.
    pub(crate) items: I,
    /// Who tells the world; `None`: runs that have ended are left to others.
    pub(crate) publisher: Option<D>,
    /// Which moves of items are made.
    pub(crate) moves: ItemMoves,
    /// Publications that failed in this process.
    pub(crate) failed: &'a FailedPublications,
    /// For publications: how long a late write of another publisher is waited for.
    pub(crate) timing: Timing,
    /// Done before each pass.
    pub(crate) before: fn(&S) -> StoreResult<()>,
    /// What a person can do about the store.
    pub(crate) remedy: fn(StoreError) -> UserError,
}

impl<'a, S: Store, I: Items + ItemStates, D: Deliver> World<'a, S, I, D> {
    /// Runs the pass, publishes what has ended, and goes on until nothing is left to do. The report
    /// is that of the first pass; what later ones did besides is added to it.
    pub(crate) async fn pass(&self, hints: Vec<Hint>, stop: Option<RunId>) -> anyhow::Result<PassReport<'a>> {
        let mut report = self.pass_once(hints, stop).await?;
        let mut again = self.publish_all(&mut report).await? || report.again;
        for _ in 1..MOST_PASSES {
            if !again {
                break;
            }
            let mut next = self.pass_once(Vec::new(), None).await?;
            again = self.publish_all(&mut next).await? || next.again;
            add(&mut report, next);
        }
        Ok(report)
    }

    async fn pass_once(&self, hints: Vec<Hint>, stop: Option<RunId>) -> anyhow::Result<PassReport<'a>> {
        (self.before)(self.store).map_err(self.remedy)?;
        let input = PassInput {
            workforce: self.workforce,
            timing: Timing::default(),
            hints,
            stop,
            seed: rand::random(),
        };
        match drive(Pass::new(input), self.store, &self.items).await.map_err(self.remedy)? {
            PassEnd::Complete(mut report) => {
                self.write_starts(&mut report).await?;
                Ok(*report)
            }
            PassEnd::LedgerBroken(why) => Err((self.remedy)(StoreError::BrokenLedger(why)).into()),
            PassEnd::Unfinished(why) => Err(UserError::retry(why, "try again; nothing was lost").into()),
        }
    }

    fn started(&self) -> StateTarget {
        let named = self.workforce.registry().states.started.clone();
        named.map_or(StateTarget::FirstStarted, StateTarget::Named)
    }

    /// Moves the items of runs that have begun. What is dropped is asked for again by the next pass.
    async fn write_starts(&self, report: &mut PassReport<'a>) -> anyhow::Result<()> {
        if self.moves != ItemMoves::InPlane {
            return Ok(());
        }
        for subject in std::mem::take(&mut report.start_writes) {
            let run = subject.job.run.clone();
            let write = StartWrite::new(subject, self.started());
            let end = drive_start_write(write, self.store, &self.items, &self.items).await;
            if let StartWriteEnd::Dropped(why) = end.map_err(self.remedy)? {
                report.problems.push(format!("the item of run {run} is not moved to started yet: {why}"));
            }
        }
        Ok(())
    }

    /// Publishes the runs that have ended, each tried once. `true`: another pass would see something new.
    async fn publish_all(&self, report: &mut PassReport<'_>) -> anyhow::Result<bool> {
        let Some(publisher) = &self.publisher else { return Ok(false) };
        let mut news = false;
        for ended in &report.publishable {
            // Where one cannot be published, others may still.
            if self.failed.failed_just_now(&ended.job.run) {
                continue;
            }
            match self.publish(ended.clone(), publisher).await? {
                PublicationEnd::Published => {
                    news = true;
                    report.published.push(ended.job.run.clone());
                }
                PublicationEnd::Stopped(why) | PublicationEnd::Refused(why) => {
                    news = true;
                    let run = &ended.job.run;
                    self.failed.insert(run.clone());
                    report.problems.push(format!("run {run} is not published yet: {why}"));
                    report.unpublished.insert(run.clone(), why);
                }
                PublicationEnd::TooEarly(at) => {
                    let sooner = report.publishable_at.map_or(at, |other| other.min(at));
                    report.publishable_at = Some(sooner);
                }
                PublicationEnd::Over
                | PublicationEnd::Unfinished
                | PublicationEnd::Taken { .. }
                | PublicationEnd::Overtaken => {}
            }
        }
        Ok(news)
    }

    /// Publishes one run.
    async fn publish(&self, run: Subject, publisher: &D) -> anyhow::Result<PublicationEnd> {
        let holder = format!("{}-{:08x}", std::process::id(), rand::random::<u32>());
        let started = (self.moves != ItemMoves::None).then(|| self.started());
        let publication = Publication::new(run, holder, started, self.timing);
        drive_publication(publication, self.store, &self.items, &self.items, publisher)
            .await
            .map_err(|error| (self.remedy)(error).into())
    }
}

/// Adds what a later pass did.
pub(crate) fn add<'w>(report: &mut PassReport<'w>, next: PassReport<'w>) {
    next.outcomes.into_iter().for_each(|outcome| add_outcome(report, outcome));
    report.released.extend(next.released);
    report.problems.extend(next.problems);
    report.published.extend(next.published);
    report.unpublished.extend(next.unpublished);
    report.unpublished.retain(|run, _| !report.published.contains(run));
    report.wake_at = next.wake_at;
    report.publishable_at = next.publishable_at;
}

/// Waits until a run may be published, if that is still to come and worth waiting for. `true`: it was waited.
pub(crate) async fn wait_for(at: Option<Timestamp>) -> bool {
    let wait = at.and_then(|at| Duration::try_from(at.duration_since(Timestamp::now())).ok());
    let Some(wait) = wait.filter(|wait| !wait.is_zero() && *wait <= LONGEST_WAIT) else { return false };
    output::say(&format!("a run may be published in {} s: waiting", wait.as_secs() + 1));
    tokio::time::sleep(wait).await;
    true
}

/// A task that waited in one pass and was begun in the next has the later outcome.
fn add_outcome<'w>(report: &mut PassReport<'w>, mut outcome: TaskOutcome<'w>) {
    let waited = |known: &&mut TaskOutcome<'_>| {
        known.item == outcome.item && matches!(known.verdict, Some(Verdict::Waiting { .. }))
    };
    match report.outcomes.iter_mut().find(waited) {
        Some(known) => {
            outcome.hinted |= known.hinted;
            *known = outcome;
        }
        None => report.outcomes.push(outcome),
    }
}
