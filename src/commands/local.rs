//! What every command on this machine shares: the state, the pass, and publishing without GitHub
//! and Plane.

use std::time::Duration;

use crate::adapters::local::executor::LocalExecutor;
use crate::adapters::local::phase_process::Phase;
use crate::adapters::run_directory::{PUBLISH_PAGE, PUBLISH_PLAN, RESULT, SUBJECT};
use crate::adapters::store::drive::Deliver;
use crate::adapters::store::sqlite::SqliteStore;
use crate::adapters::store::{Store, StoreError};
use crate::cli::{RegistryArgs, StateArgs};
use crate::commands::passes::World;
use crate::commands::place::Opened;
use crate::domain::job::Job;
use crate::domain::matching::Workforce;
use crate::domain::message;
use crate::domain::name::RunId;
use crate::domain::pass::{Hint, PassReport, Timing};
use crate::domain::publish::{self, Ending, Subject};
use crate::domain::registry::Registry;
use crate::domain::result::{FailureClass, RunResult};
use crate::error::UserError;

/// The local executor with everything that it needs.
pub(crate) struct Local {
    pub(crate) executor: LocalExecutor,
}

impl Local {
    /// Reads the registry and opens the state.
    pub(crate) fn open(
        registry: &RegistryArgs,
        state: &StateArgs,
        git_base_url: Option<&str>,
    ) -> anyhow::Result<Self> {
        Self::with(Opened::new(registry, state, git_base_url)?)
    }

    /// Opens the store.
    pub(crate) fn with(opened: Opened) -> anyhow::Result<Self> {
        let Opened { registry, directory, state, surroundings } = opened;
        let store = SqliteStore::open(&state.store()).map_err(store_error)?;
        let workforce = Workforce::new(registry);
        Ok(Self { executor: LocalExecutor { store, state, workforce, registry: directory, surroundings } })
    }

    /// The registry in use.
    pub(crate) fn registry(&self) -> &Registry {
        self.executor.workforce.registry()
    }

    /// Runs the pass, publishes what has ended, and goes on until nothing is left to do.
    pub(crate) async fn pass(&self, hints: Vec<Hint>, stop: Option<RunId>) -> anyhow::Result<PassReport<'_>> {
        self.world().pass(hints, stop).await
    }

    fn world(&self) -> World<'_, LocalExecutor, SqliteStore, Offline<'_>> {
        World {
            workforce: &self.executor.workforce,
            store: &self.executor,
            items: &self.executor.store,
            deliver: Offline(self),
            moves: true,
            // Nobody but this machine moves a snapshot: no late write has to be waited for.
            timing: Timing { claim_margin: Duration::ZERO, ..Timing::default() },
            before: LocalExecutor::reconcile,
            remedy: store_error,
        }
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

    /// The ledger as it is now.
    pub(crate) async fn ledger(&self) -> anyhow::Result<crate::domain::ledger::Ledger> {
        Ok(self.executor.read_ledger().await.map_err(store_error)?.ledger)
    }
}

/// Publishing without GitHub and Plane: the plan is written into the run's directory.
struct Offline<'a>(&'a Local);

impl Deliver for Offline<'_> {
    async fn deliver(&self, job: &Job) -> anyhow::Result<()> {
        let directory = self.0.executor.state.run(&job.run);
        // A run that never got a directory has nothing to tell.
        let Some(subject) = directory.read::<Subject>(SUBJECT)? else { return Ok(()) };
        let (result, lost) = (self.0.result(&job.run)?, message::without_result());
        let ending = Ending::of(job, result.as_ref(), &lost);
        let plan = publish::plan(&subject, ending, &self.0.registry().states);
        directory.write(PUBLISH_PLAN, &plan)?;
        directory.write_bytes(PUBLISH_PAGE, plan.to_markdown().as_bytes())
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
        StoreError::Unavailable(_) => UserError::retry(error_text, "try again; nothing was lost"),
    }
}
