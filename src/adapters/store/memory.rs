//! A store that lives and dies with the process: what `explain` tries a pass on, and tests.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::{Creation, Items, SecretWrite, Store, StoreResult};
use crate::domain::job::{Cancel, CancelReason, Claim, ItemState, Job, JobPhase, JobRef};
use crate::domain::ledger::Ledger;
use crate::domain::name::RunId;
use crate::domain::pass::{ItemRead, LedgerRead, Listing, NewJob, Version};
use crate::domain::work_item::{ItemRef, WorkItem};

/// The store; its clock is the machine's.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ledger: Option<Ledger>,
    version: u64,
    created: u64,
    jobs: Vec<Job>,
    items: BTreeMap<ItemRef, WorkItem>,
}

impl State {
    fn version(&self) -> Version {
        Version(self.ledger.as_ref().map(|_| self.version.to_string()))
    }

    fn job(&mut self, wanted: &JobRef) -> Option<&mut Job> {
        self.jobs.iter_mut().find(|job| job.uid == wanted.uid && job.run == wanted.run)
    }

    /// Changes a Job if there is one and it is as it should be.
    fn change(&mut self, job: &JobRef, change: impl FnOnce(&mut Job) -> bool) -> bool {
        self.job(job).is_some_and(change)
    }
}

impl MemoryStore {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic under the lock leaves the state whole: every change is a single assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of another store: what is done to it changes nothing there.
    pub fn copy_of(ledger: Ledger, jobs: Vec<Job>) -> Self {
        let created = jobs.len() as u64;
        Self {
            state: Mutex::new(State {
                ledger: Some(ledger),
                version: 1,
                created,
                jobs,
                items: BTreeMap::new(),
            }),
        }
    }

    /// Puts a work item there, or changes it.
    pub fn put_item(&self, item: WorkItem) {
        self.state().items.insert(item.reference(), item);
    }

    /// Changes a Job as the world would: it ends, its pod dies. `false` if there is none.
    pub fn change_job(&self, job: &JobRef, change: impl FnOnce(&mut Job)) -> bool {
        self.state().change(job, |job| {
            change(job);
            true
        })
    }
}

impl Items for MemoryStore {
    async fn read(&self, items: &[ItemRef]) -> Vec<ItemRead> {
        let state = self.state();
        items
            .iter()
            .map(|item| match state.items.get(item) {
                Some(item) => ItemRead::Found(Box::new(item.clone())),
                None => ItemRead::Gone,
            })
            .collect()
    }
}

impl Store for MemoryStore {
    async fn read_ledger(&self) -> StoreResult<LedgerRead> {
        let state = self.state();
        Ok(LedgerRead {
            ledger: state.ledger.clone().unwrap_or_default(),
            version: state.version(),
            now: Timestamp::now(),
        })
    }

    async fn swap_ledger(&self, version: &Version, ledger: &Ledger) -> StoreResult<bool> {
        let mut state = self.state();
        if state.version() != *version {
            return Ok(false);
        }
        if state.ledger.as_ref() != Some(ledger) {
            state.ledger = Some(ledger.clone());
            state.version += 1;
        }
        Ok(true)
    }

    async fn list_jobs(&self, namespace: &str) -> StoreResult<Listing> {
        let is_listed = |job: &&Job| job.namespace == namespace && job.phase != JobPhase::Published;
        Ok(Listing {
            jobs: self.state().jobs.iter().filter(is_listed).cloned().collect(),
            orphans: Vec::new(),
        })
    }

    async fn find_job(&self, namespace: &str, run: &RunId) -> StoreResult<(Option<Job>, Timestamp)> {
        let state = self.state();
        let job = state.jobs.iter().find(|job| job.namespace == namespace && job.run == *run);
        Ok((job.cloned(), Timestamp::now()))
    }

    /// Here nothing is pushed: a run's result is in the Job's end.
    async fn has_pushed(&self, _job: &JobRef) -> StoreResult<bool> {
        Ok(false)
    }

    async fn create_job(&self, new: &NewJob) -> StoreResult<Creation> {
        let mut state = self.state();
        if let Some(job) = state.jobs.iter().find(|job| job.namespace == new.namespace && job.run == new.run)
        {
            return Ok(Creation::Exists(Box::new(job.clone())));
        }
        state.created += 1;
        let job = new.queued(format!("uid-{}", state.created), Timestamp::now());
        state.jobs.push(job);
        Ok(Creation::Created(format!("uid-{}", state.created)))
    }

    async fn write_secret(&self, _new: &NewJob, _job: &JobRef) -> StoreResult<SecretWrite> {
        Ok(SecretWrite::Written)
    }

    async fn release(&self, job: &JobRef) -> StoreResult<bool> {
        Ok(self.state().change(job, |job| {
            let may = job.phase == JobPhase::Queued;
            if may {
                job.phase = JobPhase::Released;
                job.pod_alive = true;
            }
            may
        }))
    }

    async fn cancel(&self, job: &JobRef, reason: CancelReason) -> StoreResult<bool> {
        Ok(self.state().change(job, |job| {
            let may = matches!(job.phase, JobPhase::Queued | JobPhase::Released);
            if may {
                job.phase = JobPhase::Cancelled;
                job.cancel = Some(Cancel { reason, at: Timestamp::now() });
            }
            may
        }))
    }

    async fn delete(&self, job: &JobRef) -> StoreResult<bool> {
        let mut state = self.state();
        match state.job(job).map(|job| job.phase) {
            None => Ok(true),
            Some(JobPhase::Queued) => {
                state.jobs.retain(|other| other.uid != job.uid);
                Ok(true)
            }
            Some(_) => Ok(false),
        }
    }

    async fn close(&self, job: &JobRef) -> StoreResult<bool> {
        let mut state = self.state();
        let Some(job) = state.job(job) else { return Ok(true) };
        match job.phase {
            JobPhase::Published => Ok(true),
            JobPhase::Released if job.end.is_some() => {
                job.phase = JobPhase::Published;
                job.cancel = Some(Cancel { reason: CancelReason::Replaced, at: Timestamp::now() });
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    async fn claim(
        &self,
        job: &JobRef,
        seen: Option<&Claim>,
        claim: &Claim,
    ) -> StoreResult<Option<(Job, Timestamp)>> {
        let mut state = self.state();
        let Some(job) = state.job(job) else { return Ok(None) };
        let may = match job.phase {
            JobPhase::Released | JobPhase::Cancelled => seen.is_none(),
            JobPhase::Claimed => seen.is_some() && job.claim.as_ref() == seen,
            JobPhase::Queued | JobPhase::Published => false,
        };
        if !may {
            return Ok(None);
        }
        job.phase = JobPhase::Claimed;
        job.claim = Some(claim.clone());
        Ok(Some((job.clone(), Timestamp::now())))
    }

    async fn record_item_state(&self, job: &JobRef, item_state: &ItemState) -> StoreResult<bool> {
        Ok(self.state().change(job, |job| {
            job.item_state = Some(item_state.clone());
            true
        }))
    }

    async fn mark_published(&self, job: &JobRef, holder: &str) -> StoreResult<bool> {
        Ok(self.state().change(job, |job| {
            let may = job.phase == JobPhase::Claimed
                && job.claim.as_ref().is_some_and(|claim| claim.holder == holder);
            if may {
                job.phase = JobPhase::Published;
            }
            may
        }))
    }
}
