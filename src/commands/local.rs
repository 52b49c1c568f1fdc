//! What every command on this machine shares: the state, the pass, and publishing.

use std::time::{Duration, Instant};

use crate::adapters::local::executor::LocalExecutor;
use crate::adapters::local::phase_process::Phase;
use crate::adapters::plane::PlaneClient;
use crate::adapters::run_directory::{AGENT_TRANSCRIPT, RESULT, SUBJECT};
use crate::adapters::store::drive::{Deliver, Delivered, ItemStates, Undelivered};
use crate::adapters::store::sqlite::SqliteStore;
use crate::adapters::store::{Items, Store, StoreError};
use crate::cli::{RegistryArgs, StateArgs};
use crate::commands::passes::{FailedPublications, ItemMoves, World};
use crate::commands::place::{Opened, remember_git_base};
use crate::commands::readiness;
use crate::commands::word::{Forge, Spoken, Word};
use crate::domain::job::{ItemState, Job};
use crate::domain::matching::Workforce;
use crate::domain::message;
use crate::domain::name::RunId;
use crate::domain::pass::{Hint, ItemRead, PassReport, StateTarget, Timing};
use crate::domain::publish::{Ending, Subject};
use crate::domain::registry::Registry;
use crate::domain::request_budget::Importance;
use crate::domain::result::{FailureClass, RunResult};
use crate::domain::runtime::TRANSCRIPT_LIMIT;
use crate::domain::work_item::{ItemRef, WorkItem};
use crate::error::UserError;

/// The local executor with everything that it needs.
pub(crate) struct Local {
    pub(crate) executor: LocalExecutor,
    /// Where there is a key for it.
    pub(crate) plane: Option<PlaneClient>,
    /// Where pull requests go.
    pub(crate) forge: Forge,
    failed: FailedPublications,
}

impl Local {
    /// Reads the registry and opens the state.
    pub(crate) fn open(
        registry: &RegistryArgs,
        state: &StateArgs,
        git_base_url: Option<&str>,
    ) -> anyhow::Result<Self> {
        let local = Self::with(Opened::new(registry, state, git_base_url)?)?;
        remember_git_base(&local.executor.state, git_base_url)?;
        Ok(local)
    }

    /// Opens the store.
    pub(crate) fn with(opened: Opened) -> anyhow::Result<Self> {
        let Opened { registry, directory, state, surroundings, forge, no_github } = opened;
        let store = SqliteStore::open(&state.store()).map_err(store_error)?;
        let plane = PlaneClient::of_environment(&registry.plane, Some(state.root()))?;
        let lacks = readiness::lacks(&registry, &directory, &surroundings);
        let workforce = Workforce::new(registry).lacking(&lacks);
        let executor =
            LocalExecutor { store, state, workforce, registry: directory, surroundings, no_github };
        Ok(Self { executor, plane, forge, failed: FailedPublications::default() })
    }

    /// The registry in use.
    pub(crate) fn registry(&self) -> &Registry {
        self.executor.workforce.registry()
    }

    /// Runs the pass, publishes what has ended, and goes on until nothing is left to do.
    pub(crate) async fn pass(&self, hints: Vec<Hint>, stop: Option<RunId>) -> anyhow::Result<PassReport<'_>> {
        self.world().pass(hints, stop).await
    }

    fn world(&self) -> World<'_, LocalExecutor, LocalItems<'_>, Teller<'_>> {
        World {
            workforce: &self.executor.workforce,
            store: &self.executor,
            items: self.items(),
            publisher: Some(Teller(self)),
            moves: if self.plane.is_some() { ItemMoves::InPlane } else { ItemMoves::InSnapshots },
            failed: &self.failed,
            timing: Timing { claim_margin: self.claim_margin(), ..Timing::default() },
            before: LocalExecutor::reconcile,
            remedy: store_error,
        }
    }

    /// How long after its end a run may not be published yet.
    pub(crate) fn claim_margin(&self) -> Duration {
        // Nobody but this machine moves a snapshot: no late write has to be waited for.
        self.plane.as_ref().map_or(Duration::ZERO, |_| Timing::default().claim_margin)
    }

    /// How often a process that waits runs the pass meanwhile, if nothing tells it when to.
    pub(crate) fn look_again(&self) -> Duration {
        // A pass reads every item that is not decided, and Plane allows 60 requests a minute.
        Duration::from_secs(if self.plane.is_some() { 30 } else { 2 })
    }

    /// Work items, as far as this machine can read them.
    pub(crate) fn items(&self) -> LocalItems<'_> {
        LocalItems { plane: self.plane.as_ref(), snapshots: &self.executor.store }
    }

    /// What publishing a run tells; `None`: it never got a directory, so there is nothing to tell.
    fn word(&self, job: &Job) -> anyhow::Result<Option<Word>> {
        let Some(subject) = self.executor.state.run(&job.run).read::<Subject>(SUBJECT)? else {
            return Ok(None);
        };
        let (result, lost) = (self.result(&job.run)?, message::without_result());
        let ending = Ending::of(job, result.as_ref(), &lost);
        Ok(Some(Word::new(job, &subject, ending, &self.registry().states)))
    }

    /// What a run brought, if it got that far.
    pub(crate) fn result(&self, run: &RunId) -> anyhow::Result<Option<RunResult>> {
        self.executor.state.run(run).read(RESULT)
    }

    /// The last phase of a run that has begun: each makes its directory when it starts.
    pub(crate) fn step(&self, run: &RunId) -> Option<&'static str> {
        let directory = self.executor.state.run(run);
        Phase::ALL.iter().rev().map(|phase| phase.name()).find(|name| directory.path(name).is_dir())
    }

    /// How a run that is over ended: its result document, or what is known of it without one.
    pub(crate) fn ending(&self, run: &RunId) -> anyhow::Result<RunResult> {
        let without = |class, reason: &str| RunResult::without_work(run.clone(), class, reason);
        let Some(job) = self.job(run)? else {
            return Ok(without(FailureClass::Cancelled, "it was withdrawn before it began"));
        };
        let (result, lost) = (self.result(run)?, message::without_result());
        Ok(match Ending::of(&job, result.as_ref(), &lost) {
            Ending::Result(result) => result.clone(),
            Ending::Cancelled(reason) => without(FailureClass::Cancelled, message::cancel_sentence(reason)),
            Ending::Failure(failure) => without(failure.class, &failure.reason),
        })
    }

    /// One run as the store has it.
    pub(crate) fn job(&self, run: &RunId) -> anyhow::Result<Option<Job>> {
        Ok(self.executor.store.run(run).map_err(store_error)?.map(|known| known.job))
    }

    /// One run that must be there.
    pub(crate) fn known_job(&self, run: &RunId) -> anyhow::Result<Job> {
        self.job(run)?.ok_or_else(|| {
            UserError::usage(format!("there is no run {run} here"), "see `astra-dispatch status`")
                .at(self.executor.state.root().display().to_string())
                .into()
        })
    }

    /// The ledger, for people to see.
    pub(crate) async fn ledger(&self) -> anyhow::Result<crate::domain::ledger::Ledger> {
        Ok(self.executor.read_ledger().await.map_err(store_error)?.ledger)
    }
}

/// Work items: Plane's where there is a key; else as events told them.
pub(crate) struct LocalItems<'a> {
    plane: Option<&'a PlaneClient>,
    snapshots: &'a SqliteStore,
}

impl Items for LocalItems<'_> {
    async fn read(&self, items: &[ItemRef]) -> Vec<ItemRead> {
        match self.plane {
            Some(plane) => plane.read(items).await,
            None => self.snapshots.read(items).await,
        }
    }

    fn last_read(&self, item: ItemRef) -> Option<(WorkItem, Instant)> {
        self.plane?.last_read(item)
    }
}

impl ItemStates for LocalItems<'_> {
    async fn write_state(
        &self,
        item: ItemRef,
        to: &StateTarget,
        importance: Importance,
    ) -> Result<ItemState, Undelivered> {
        match self.plane {
            Some(plane) => plane.write_state(item, to, importance).await,
            None => self.snapshots.write_state(item, to, importance).await,
        }
    }
}

/// Tells what a run brought, as far as there are ways to do so.
struct Teller<'a>(&'a Local);

impl Deliver for Teller<'_> {
    type Told = Option<Spoken>;

    async fn deliver(&self, job: &Job) -> Result<Delivered<Option<Spoken>>, Undelivered> {
        let word = self.0.word(job).map_err(Undelivered::Refused)?;
        let Some(word) = word else { return Ok(Delivered { outcome: None, told: None }) };
        let directory = self.0.executor.state.run(&job.run);
        let plane = self.0.plane.as_ref();
        let mut delivered = word.tell(&directory, &self.0.forge, plane).await?;
        // A snapshot only leaves the queue.
        delivered.outcome = delivered.outcome.filter(|_| plane.is_some());
        Ok(delivered)
    }

    async fn keep(&self, told: &Option<Spoken>, moved: Option<&ItemState>) -> Result<(), Undelivered> {
        let Some(spoken) = told else { return Ok(()) };
        let run = self.0.executor.state.run(spoken.run());
        // Its last line says that it is full.
        let transcript = async { run.read_bytes(AGENT_TRANSCRIPT, TRANSCRIPT_LIMIT + 1_000) };
        // Nobody else sees a snapshot.
        let moved = moved.filter(|_| self.0.plane.is_some());
        spoken.keep(&self.0.forge, moved, transcript).await
    }
}

/// Says what a person can do about the store.
pub(crate) fn store_error(error: StoreError) -> UserError {
    let error_text = error.to_string();
    match error {
        StoreError::BrokenLedger(_) => UserError::usage(
            error_text,
            "use the version of astra-dispatch that wrote it; if it is damaged, stop all runs and move it away",
        ),
        StoreError::Full(_) => UserError::failed(error_text, "make room on the disk; nothing was changed"),
        StoreError::Denied(_) => UserError::usage(error_text, "check whose the state directory is"),
        StoreError::Unavailable(_) | StoreError::NoCredentials(_) => {
            UserError::retry(error_text, "try again; nothing was lost")
        }
    }
}
