//! The pass, carried out until nothing is left to do: the same for every executor.

use crate::adapters::store::drive::{Deliver, ItemStates, drive, drive_publication};
use crate::adapters::store::{Items, Store, StoreError, StoreResult};
use crate::domain::matching::Workforce;
use crate::domain::name::RunId;
use crate::domain::pass::{
    Hint, Moves, Pass, PassEnd, PassInput, PassReport, Publication, PublicationEnd, StateTarget, Subject,
    Timing,
};
use crate::error::UserError;

/// A pass that has more to do is repeated at once, but not for ever: the next event or the end of
/// a run goes on from there.
const MOST_PASSES: u32 = 20;

/// What passes work on.
pub(crate) struct World<'a, S, I, D> {
    pub(crate) workforce: &'a Workforce,
    /// Ledger and runs.
    pub(crate) store: &'a S,
    /// Where work items are read and moved.
    pub(crate) items: &'a I,
    /// Who tells the world.
    pub(crate) deliver: D,
    /// Whether published items are moved by `items`.
    pub(crate) moves: bool,
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
        let mut again = self.publish_all(&report.publishable, &mut report.problems).await? || report.again;
        for _ in 1..MOST_PASSES {
            if !again {
                break;
            }
            let next = self.pass_once(Vec::new(), None).await?;
            again = self.publish_all(&next.publishable, &mut report.problems).await? || next.again;
            report.outcomes.extend(next.outcomes);
            report.released.extend(next.released);
            report.problems.extend(next.problems);
            report.wake_at = next.wake_at;
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
        match drive(Pass::new(input), self.store, self.items).await.map_err(self.remedy)? {
            PassEnd::Complete(report) => Ok(*report),
            PassEnd::LedgerBroken(why) => Err((self.remedy)(StoreError::BrokenLedger(why)).into()),
            PassEnd::Unfinished(why) => Err(UserError::retry(why, "try again; nothing was lost").into()),
        }
    }

    /// Publishes runs that have ended. `true`: at least one was.
    async fn publish_all(&self, runs: &[Subject], problems: &mut Vec<String>) -> anyhow::Result<bool> {
        let mut published = false;
        for run in runs {
            match self.publish(run.clone()).await? {
                PublicationEnd::Published => published = true,
                PublicationEnd::Stopped(why) => {
                    problems.push(format!("run {} is not published yet: {why}", run.job.run));
                }
                PublicationEnd::Over
                | PublicationEnd::Unfinished
                | PublicationEnd::TooEarly(_)
                | PublicationEnd::Taken { .. } => {}
            }
        }
        Ok(published)
    }

    /// Publishes one run.
    async fn publish(&self, run: Subject) -> anyhow::Result<PublicationEnd> {
        let holder = format!("{}-{:08x}", std::process::id(), rand::random::<u32>());
        let named = self.workforce.registry().states.started.clone().map(StateTarget::Named);
        let moves =
            self.moves.then(|| Moves { outcome: None, started: named.unwrap_or(StateTarget::FirstStarted) });
        let publication = Publication::new(run, holder, moves, self.timing);
        drive_publication(publication, self.store, self.items, self.items, &self.deliver)
            .await
            .map_err(|error| (self.remedy)(error).into())
    }
}
