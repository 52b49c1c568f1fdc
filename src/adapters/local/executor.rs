//! The executor of one machine: the SQLite store, plus what a cluster's node would do. A released
//! run gets a supervisor process; a run whose processes are gone has failed.

use std::path::PathBuf;

use anyhow::Context;
use jiff::Timestamp;

use super::phase_process::end_orphan;
use super::{StateDirectory, start_supervisor};
use crate::adapters::process_identity::ProcessIdentity;
use crate::adapters::run_directory::{PLAN, RESULT, SUBJECT, SYSTEM_PROMPT, TASK};
use crate::adapters::store::sqlite::{LocalRun, SqliteStore};
use crate::adapters::store::{Creation, SecretWrite, Store, StoreError, StoreResult};
use crate::domain::job::{CancelReason, Claim, ItemState, Job, JobEnd, JobFailure, JobPhase, JobRef};
use crate::domain::ledger::Ledger;
use crate::domain::matching::{Running, Workforce};
use crate::domain::name::RunId;
use crate::domain::pass::{LedgerRead, Listing, NewJob, Version};
use crate::domain::prompt;
use crate::domain::publish::Subject;
use crate::domain::result::{FailureClass, RunResult};
use crate::domain::run_plan::{RunPlan, Surroundings};

/// Runs on this machine.
pub struct LocalExecutor {
    /// Ledger, runs and snapshots.
    pub store: SqliteStore,
    /// Where they are, and the directories of runs.
    pub state: StateDirectory,
    /// The registry in use.
    pub workforce: Workforce,
    /// Where the registry is; supervisors read it again.
    pub registry: PathBuf,
    /// Where runs fetch from.
    pub surroundings: Surroundings,
    /// Supervisors open no pull requests.
    pub no_github: bool,
}

impl LocalExecutor {
    /// Does what a node does by itself: starts supervisors that are missing, and notes the end of
    /// runs whose supervisor is gone. Called before each pass.
    pub fn reconcile(&self) -> StoreResult<()> {
        let mut full = Ok(());
        for run in self.store.unpublished_runs()? {
            if run.job.end.is_some() || matches!(run.job.phase, JobPhase::Queued | JobPhase::Published) {
                continue;
            }
            let mended = match run.supervisor {
                Some(supervisor) if supervisor.is_alive() => Ok(()),
                Some(supervisor) => self.note_lost(&run, supervisor),
                None if run.job.phase == JobPhase::Released => self.start(&run.job.run),
                None => Ok(()),
            };
            // One bad run must not keep the others from going on; on a full disk nothing goes on.
            match mended {
                Err(error) if is_full(&error) => full = Err(unwritten(&error)),
                Err(error) => log::warn!("run {}: {error:#}", run.job.run),
                Ok(()) => {}
            }
        }
        full
    }

    /// The supervisor was killed: its phase is ended too, and then the run counts as lost.
    fn note_lost(&self, run: &LocalRun, supervisor: ProcessIdentity) -> anyhow::Result<()> {
        if !end_orphan(&self.state.run(&run.job.run))? {
            // It was told to end just now; the next pass sees it gone.
            return Ok(());
        }
        // It may have been killed after its last phase: then the run has its result.
        let result: Option<RunResult> = self.state.run(&run.job.run).read(RESULT)?;
        let failure = match result {
            None => Some(JobFailure {
                class: FailureClass::Infrastructure,
                reason: "its supervisor process is gone: killed, or the machine was restarted".to_owned(),
            }),
            Some(result) => JobFailure::of_result(&result),
        };
        let end = JobEnd { at: Timestamp::now(), failure };
        self.store.finish(&run.job.reference(), supervisor, &end).context("note the end of a lost run")?;
        Ok(())
    }

    fn start(&self, run: &RunId) -> anyhow::Result<()> {
        start_supervisor(&self.state, &self.registry, &self.surroundings.git_base_url, self.no_github, run)
    }

    /// Writes the run's directory: what its phases need to start, and none of it secret.
    fn write_run(&self, new: &NewJob) -> anyhow::Result<()> {
        let registry = self.workforce.registry();
        let agent = registry.agents.get(&new.agent).context("the agent has left the registry")?;
        let task = &new.task;
        let directory = self.state.run(&new.run);
        let plan = RunPlan::new(new.run.clone(), task, agent, registry, &self.surroundings);
        directory.write(PLAN, &plan)?;
        directory.write(SUBJECT, &Subject::new(new, agent, &self.workforce, &self.running()?))?;
        directory.write_bytes(SYSTEM_PROMPT, prompt::system_prompt(agent, task, registry).as_bytes())?;
        let told = prompt::task_prompt(task, &prompt::fence(rand::random()));
        directory.write_bytes(TASK, told.text.as_bytes())
    }

    /// What counts against each agent, for the decision that is kept with the run.
    fn running(&self) -> anyhow::Result<Running> {
        let mut running = Running::default();
        for run in self.store.unpublished_runs()? {
            if run.job.end.is_none() && matches!(run.job.phase, JobPhase::Released | JobPhase::Cancelled) {
                running.add(&run.job.agent);
            }
        }
        Ok(running)
    }
}

/// Something of a run could not be written.
fn unwritten(error: &anyhow::Error) -> StoreError {
    let text = format!("{error:#}");
    match error.downcast_ref() {
        Some(StoreError::Full(inner)) => StoreError::Full(inner.clone()),
        _ if is_full(error) => StoreError::Full(text),
        _ => StoreError::Unavailable(text),
    }
}

/// There is no room left, in the store or in a run's directory.
fn is_full(error: &anyhow::Error) -> bool {
    let is_full = |cause: &(dyn std::error::Error + 'static)| {
        let io = cause.downcast_ref::<std::io::Error>();
        io.is_some_and(|io| io.kind() == std::io::ErrorKind::StorageFull)
            || matches!(cause.downcast_ref(), Some(StoreError::Full(_)))
    };
    error.chain().any(is_full)
}

impl Store for LocalExecutor {
    async fn read_ledger(&self) -> StoreResult<LedgerRead> {
        self.store.read_ledger().await
    }

    async fn swap_ledger(&self, version: &Version, ledger: &Ledger) -> StoreResult<bool> {
        self.store.swap_ledger(version, ledger).await
    }

    async fn list_jobs(&self, namespace: &str) -> StoreResult<Listing> {
        self.store.list_jobs(namespace).await
    }

    async fn find_job(&self, namespace: &str, run: &RunId) -> StoreResult<(Option<Job>, Timestamp)> {
        self.store.find_job(namespace, run).await
    }

    async fn has_pushed(&self, job: &JobRef) -> StoreResult<bool> {
        self.store.has_pushed(job).await
    }

    async fn create_job(&self, new: &NewJob) -> StoreResult<Creation> {
        self.store.create_job(new).await
    }

    async fn write_secret(&self, new: &NewJob, _job: &JobRef) -> StoreResult<SecretWrite> {
        // Locally nothing secret is written: the supervisor inherits the caller's environment. A credential
        // that is not there fails the run at once (class `credentials`) and blocks nothing, so that the task
        // can be dispatched again as soon as the variable is set.
        match self.write_run(new) {
            Ok(()) => Ok(SecretWrite::Written),
            Err(error) => Err(unwritten(&error)),
        }
    }

    /// Whoever lets a run go starts its supervisor. If this process dies in between, the next pass
    /// of anybody does it.
    async fn release(&self, job: &JobRef) -> StoreResult<bool> {
        let released = self.store.release(job).await?;
        if released {
            self.start(&job.run).map_err(|error| unwritten(&error))?;
        }
        Ok(released)
    }

    async fn cancel(&self, job: &JobRef, reason: CancelReason) -> StoreResult<bool> {
        self.store.cancel(job, reason).await
    }

    async fn delete(&self, job: &JobRef) -> StoreResult<bool> {
        self.store.delete(job).await
    }

    async fn close(&self, job: &JobRef) -> StoreResult<bool> {
        self.store.close(job).await
    }

    async fn claim(
        &self,
        job: &JobRef,
        seen: Option<&Claim>,
        claim: &Claim,
    ) -> StoreResult<Option<(Job, Timestamp)>> {
        self.store.claim(job, seen, claim).await
    }

    async fn record_item_state(&self, job: &JobRef, state: &ItemState) -> StoreResult<bool> {
        self.store.record_item_state(job, state).await
    }

    async fn mark_published(&self, job: &JobRef, holder: &str) -> StoreResult<bool> {
        self.store.mark_published(job, holder).await
    }
}
