//! What the machines of the protocol ask of the world, and what the world answers.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::job::{CancelReason, Claim, ItemState, Job, JobPhase, JobRef};
use crate::domain::ledger::Ledger;
use crate::domain::name::{AgentName, ItemId, RunId};
use crate::domain::registry::RegistryStamp;
use crate::domain::task::Task;
use crate::domain::work_item::{ItemRef, WorkItem};

/// What a machine does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<Report> {
    /// Make these calls, in any order or at once, and come back with their answers in this order.
    Call(Vec<Request>),
    /// It is over.
    Done(Report),
}

/// One call. Each says which [`Response`] answers it; every one may also be answered
/// [`Response::Failed`], and then may or may not have happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Request {
    /// Read the ledger: [`Response::Ledger`] or [`Response::LedgerBroken`].
    ReadLedger,
    /// List the unpublished Jobs of a namespace (all pages, no cache), then its pods that have not
    /// ended and whose Job is not in that list: [`Response::Jobs`].
    ListJobs(String),
    /// Look a Job up by its run, published or not: [`Response::Job`].
    FindJob {
        /// The namespace.
        namespace: String,
        /// The run.
        run: RunId,
    },
    /// Look whether a run whose Job failed had pushed a result that counts before: [`Response::Done`] or
    /// [`Response::Missed`].
    FindResult(JobRef),
    /// Read work items: [`Response::Items`], in this order.
    ReadItems(Vec<ItemRef>),
    /// Replace the ledger if its version is still this one: [`Response::Done`] or
    /// [`Response::Missed`]. Asked also with an unchanged ledger; then the version stays.
    Swap {
        /// The version that was read.
        version: Version,
        /// The new ledger.
        ledger: Box<Ledger>,
    },
    /// Create a Job, suspended: [`Response::Created`], [`Response::Exists`] or
    /// [`Response::Refused`] (for good).
    Create(NewJob),
    /// Write what the run needs to start, for the Job with this UID: [`Response::Done`] or
    /// [`Response::Refused`] (for good). Repeated, it changes nothing.
    WriteSecret(NewJob, JobRef),
    /// Let it run. Only if it is queued: else [`Response::Missed`].
    Release(JobRef),
    /// Mark it cancelled and stop it. Only if it is queued or released: else [`Response::Missed`].
    Cancel(JobRef, CancelReason),
    /// Delete it. Only if it is queued: else [`Response::Missed`]. Gone already is done.
    Delete(JobRef),
    /// Mark an ended attempt published (and replaced). Only if it is released and ended: else
    /// [`Response::Missed`]. Published or gone already is done.
    Close(JobRef),
    /// Claim it for publishing. Only if it is released or cancelled, or its claim is still the one
    /// that was seen: [`Response::Job`] as it is now, else [`Response::Missed`].
    Claim {
        /// The Job.
        job: JobRef,
        /// The claim that it had when it was read.
        seen: Option<Claim>,
        /// The new claim.
        claim: Claim,
    },
    /// Publish what the run brought (pull request, comment, or files): [`Response::Delivered`].
    /// Repeated, it changes nothing.
    Deliver(Box<Job>),
    /// Move a work item, no later than [`super::SEND_WITHIN`] after the answer before:
    /// [`Response::Written`], or [`Response::Missed`] if it was too late to send it.
    WriteState {
        /// The item.
        item: ItemRef,
        /// Where to.
        to: StateTarget,
    },
    /// Note on the Job which state we wrote: [`Response::Done`], or [`Response::Missed`] if the
    /// Job is gone.
    RecordState(JobRef, ItemState),
    /// Mark it published. Only if it is claimed by this holder: else [`Response::Missed`].
    MarkPublished(JobRef, String),
    /// Wait a moment: the longer, the higher the round (from 1), with jitter: [`Response::Done`].
    Pause(u32),
}

/// The world's answer to a [`Request`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Response {
    /// The ledger.
    Ledger(LedgerRead),
    /// The ledger is garbage or of an unknown version: nothing may be changed.
    LedgerBroken(String),
    /// The Jobs of a namespace.
    Jobs(Listing),
    /// A Job (`None`: there is none of that name) and the server's time.
    Job(Option<Box<Job>>, Timestamp),
    /// Work items, one answer for each that was asked for.
    Items(Vec<ItemRead>),
    /// The Job was created and has this UID.
    Created(String),
    /// A Job of that name is there already.
    Exists(Box<Job>),
    /// The item was moved, from this state to that one, at this time.
    Written(ItemState),
    /// What the run brought is published, and its outcome moves the item there (`None`: nowhere).
    Delivered(Option<StateTarget>),
    /// It was done.
    Done,
    /// Its condition does not hold (any more): nothing was done.
    Missed,
    /// Refused: nothing was done. Why, in one sentence.
    Refused(String),
    /// No answer, or none that says anything: it may have been done or not. Why.
    Failed(String),
}

impl Response {
    /// What it says, where it is not the answer that was hoped for.
    pub(super) fn why(self) -> String {
        match self {
            Self::Failed(why) | Self::Refused(why) | Self::LedgerBroken(why) => why,
            other => format!("an answer to another question: {other:?}"),
        }
    }
}

/// Which state of the ledger was read; compared, never ordered. `None`: there was no ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Version(pub Option<String>);

/// The ledger as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LedgerRead {
    /// The document; empty if there is none.
    pub ledger: Ledger,
    /// Its version.
    pub version: Version,
    /// The server's time.
    pub now: Timestamp,
}

/// Everything unpublished in one namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Listing {
    /// All Jobs that are not published.
    pub jobs: Vec<Job>,
    /// Pods that have not ended and whose Job is not among `jobs`.
    pub orphans: Vec<OrphanPod>,
}

/// A pod that outlives its Job.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OrphanPod {
    /// The UID of the Job that it belonged to.
    pub job_uid: String,
    /// The run.
    pub run: RunId,
    /// The work item that it is for.
    pub item: ItemId,
    /// The agent.
    pub agent: AgentName,
}

/// A Job to be created, under the name that the ledger fixed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NewJob {
    /// The run.
    pub run: RunId,
    /// The task.
    pub task: Arc<Task>,
    /// The agent.
    pub agent: AgentName,
    /// The namespace.
    pub namespace: String,
    /// Counted from 1.
    pub attempt: u32,
    /// The registry that admitted it.
    pub registry: RegistryStamp,
}

/// A work item as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ItemRead {
    /// There it is.
    Found(Box<WorkItem>),
    /// There is none (any more).
    Gone,
    /// It could not be read: it is unknown, never unwanted.
    Unread,
}

/// A task that the pass was called for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Hint {
    /// Its item.
    pub item: ItemRef,
    /// A person asks by hand (`--task`).
    pub by_hand: bool,
}

/// A Plane state that we write.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateTarget {
    /// The state of this name.
    Named(String),
    /// The project's first state of the group *started*.
    FirstStarted,
}

#[cfg(test)]
impl NewJob {
    /// A job of the task `AST-1` for the agent `vega`, for tests.
    pub(crate) fn sample(run: &str) -> Self {
        let parsed = "the sample is legal";
        let task = Task {
            key: "AST-1".parse().expect(parsed),
            item: ItemId(uuid::Uuid::from_u128(1)),
            project: crate::domain::name::ProjectId(uuid::Uuid::from_u128(2)),
            title: String::new(),
            description: String::new(),
            role: "coder".parse().expect(parsed),
            priority: crate::domain::work_item::Priority::None,
            repository: "astra/api".parse().expect(parsed),
            base: "main".parse().expect(parsed),
            pull_request: None,
            wishes: crate::domain::task::SkillWishes::default(),
            model: None,
            assignees: Vec::new(),
        };
        Self {
            run: run.parse().expect(parsed),
            task: Arc::new(task),
            agent: "vega".parse().expect(parsed),
            namespace: "agent-vega".to_owned(),
            attempt: 1,
            registry: RegistryStamp::default(),
        }
    }
}

impl NewJob {
    /// The Job as it is right after its creation: suspended, with the UID that the store gave it.
    pub fn queued(&self, uid: String, created_at: Timestamp) -> Job {
        Job {
            run: self.run.clone(),
            uid,
            task: self.task.key.clone(),
            item: self.task.item,
            project: self.task.project,
            agent: self.agent.clone(),
            namespace: self.namespace.clone(),
            attempt: self.attempt,
            registry: self.registry.clone(),
            phase: JobPhase::Queued,
            cancel: None,
            end: None,
            pod_alive: false,
            item_state: None,
            claim: None,
            created_at,
        }
    }
}
