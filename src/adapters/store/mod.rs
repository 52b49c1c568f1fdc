//! Where ledger and runs are kept. Three products of one trait (SQLite, Kubernetes, memory) under
//! one conformance suite; all conditions are checked where the data is, in one step with the change.

use std::future::Future;
use std::time::Instant;

use jiff::Timestamp;

use crate::domain::job::{CancelReason, Claim, ItemState, Job, JobRef};
use crate::domain::ledger::Ledger;
use crate::domain::name::RunId;
use crate::domain::pass::{ItemRead, LedgerRead, Listing, NewJob, Version};
use crate::domain::work_item::{ItemRef, WorkItem};

pub mod drive;
pub mod memory;
pub mod sqlite;

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The ledger is garbage or of an unknown version; nothing was changed (exit 2).
    #[error("the ledger cannot be used: {0}")]
    BrokenLedger(String),
    /// It does not let us: no credential, no right, not set up. A person has to mend it (exit 2).
    #[error("{0}")]
    Denied(String),
    /// There is no room left; nothing was changed (exit 1).
    #[error("the store is full: {0}")]
    Full(String),
    /// It did not answer, or not in a way that says anything: the call may have been carried out
    /// or not (exit 75).
    #[error("the store did not answer: {0}")]
    Unavailable(String),
    /// The agent's credentials, which a vault server keeps, could not be read now (exit 75).
    #[error("{0}")]
    NoCredentials(String),
}

/// The result of a call to a store.
pub type StoreResult<T> = Result<T, StoreError>;

/// What became of a Job that was to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Creation {
    /// It is there, suspended, with this UID.
    Created(String),
    /// One of that name was there already.
    Exists(Box<Job>),
    /// Refused, and it would be refused again.
    Refused(String),
}

/// What became of a Secret that was to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretWrite {
    /// It is there.
    Written,
    /// Refused, and it would be refused again.
    Refused(String),
}

/// Ledger and Jobs. `bool` answers whether the condition held and so the change was made; every
/// change names the Job's UID, so a newer Job of the same name is never touched.
pub trait Store: Sync {
    /// Reads the ledger; an absent one is empty. What this store wrote a moment ago may stand for it, once: a
    /// swap tells whether it still is so.
    fn read_ledger(&self) -> impl Future<Output = StoreResult<LedgerRead>> + Send;

    /// Replaces the ledger if its version is still `version`. An equal ledger is compared too, and
    /// does not change the version.
    fn swap_ledger(
        &self,
        version: &Version,
        ledger: &Ledger,
    ) -> impl Future<Output = StoreResult<bool>> + Send;

    /// All unpublished Jobs of a namespace, then its pods that outlive their Jobs.
    fn list_jobs(&self, namespace: &str) -> impl Future<Output = StoreResult<Listing>> + Send;

    /// A Job by its run, published or not, and the server's time.
    fn find_job(
        &self,
        namespace: &str,
        run: &RunId,
    ) -> impl Future<Output = StoreResult<(Option<Job>, Timestamp)>> + Send;

    /// Whether a run whose Job failed had pushed a result before, and one that counts.
    fn has_pushed(&self, job: &JobRef) -> impl Future<Output = StoreResult<bool>> + Send;

    /// Creates a Job, suspended.
    fn create_job(&self, new: &NewJob) -> impl Future<Output = StoreResult<Creation>> + Send;

    /// Writes what the run needs to start. Repeated, it changes nothing.
    fn write_secret(
        &self,
        new: &NewJob,
        job: &JobRef,
    ) -> impl Future<Output = StoreResult<SecretWrite>> + Send;

    /// Lets a queued Job run.
    fn release(&self, job: &JobRef) -> impl Future<Output = StoreResult<bool>> + Send;

    /// Marks a queued or released Job cancelled, ended or not, and stops it.
    fn cancel(&self, job: &JobRef, reason: CancelReason) -> impl Future<Output = StoreResult<bool>> + Send;

    /// Deletes a queued Job; one that is gone already counts as deleted.
    fn delete(&self, job: &JobRef) -> impl Future<Output = StoreResult<bool>> + Send;

    /// Marks a released and ended Job published and replaced; one that is published or gone
    /// already counts as closed.
    fn close(&self, job: &JobRef) -> impl Future<Output = StoreResult<bool>> + Send;

    /// Claims a Job that is released or cancelled, or whose claim is still `seen`. The Job as it is
    /// after that, and the server's time; `None` where the condition does not hold.
    fn claim(
        &self,
        job: &JobRef,
        seen: Option<&Claim>,
        claim: &Claim,
    ) -> impl Future<Output = StoreResult<Option<(Job, Timestamp)>>> + Send;

    /// Notes which Plane state we wrote for it.
    fn record_item_state(
        &self,
        job: &JobRef,
        state: &ItemState,
    ) -> impl Future<Output = StoreResult<bool>> + Send;

    /// Marks a Job published that `holder` has claimed.
    fn mark_published(&self, job: &JobRef, holder: &str) -> impl Future<Output = StoreResult<bool>> + Send;
}

/// Where work items are read: Plane, or the snapshots of events.
pub trait Items: Sync {
    /// One answer for each item, in their order.
    fn read(&self, items: &[ItemRef]) -> impl Future<Output = Vec<ItemRead>> + Send;

    /// An item as this process read it last, and since when that read was under way; `None`: it did not,
    /// or has moved the item since, or reading costs nothing.
    fn last_read(&self, _item: ItemRef) -> Option<(WorkItem, Instant)> {
        None
    }
}

impl<T: Items> Items for &T {
    fn read(&self, items: &[ItemRef]) -> impl Future<Output = Vec<ItemRead>> + Send {
        (**self).read(items)
    }

    fn last_read(&self, item: ItemRef) -> Option<(WorkItem, Instant)> {
        (**self).last_read(item)
    }
}
