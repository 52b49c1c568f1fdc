//! A run as the world has it: a Kubernetes Job, or a row of the local store. The pass reads these.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::name::{AgentName, ItemId, ProjectId, RunId, TaskKey};
use super::registry::RegistryStamp;
use super::result::{FailureClass, RunOutcome, RunResult};
use super::work_item::ItemRef;

/// The state of one run's Job.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Job {
    /// The run that it carries out; also the Job's name.
    pub run: RunId,
    /// Given by the store when it was created; never used twice.
    pub uid: String,
    /// The task's key.
    pub task: TaskKey,
    /// The work item.
    pub item: ItemId,
    /// Its project.
    pub project: ProjectId,
    /// The agent.
    pub agent: AgentName,
    /// The namespace.
    pub namespace: String,
    /// Counted from 1.
    pub attempt: u32,
    /// The registry that it was admitted with.
    pub registry: RegistryStamp,
    /// Our own label on it.
    pub phase: JobPhase,
    /// Why and when it was cancelled, if it was: outranks any ending.
    pub cancel: Option<Cancel>,
    /// How it ended, once it has.
    pub end: Option<JobEnd>,
    /// A pod of it (locally: its supervisor) has not ended yet.
    pub pod_alive: bool,
    /// The Plane state that we wrote for it.
    pub item_state: Option<ItemState>,
    /// Who publishes it.
    pub claim: Option<Claim>,
    /// When it was created.
    pub created_at: Timestamp,
}

/// One Job and no other: the name may come again, the UID never does. All changes are made on it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobRef {
    /// The namespace.
    pub namespace: String,
    /// The run, which is the Job's name.
    pub run: RunId,
    /// The Job's UID.
    pub uid: String,
}

impl Job {
    /// Names this Job.
    pub fn reference(&self) -> JobRef {
        JobRef { namespace: self.namespace.clone(), run: self.run.clone(), uid: self.uid.clone() }
    }

    /// Why it brought no result of its own, if that is so.
    pub fn failure_class(&self) -> Option<FailureClass> {
        self.end.as_ref()?.failure.as_ref().map(|failure| failure.class)
    }

    /// The item that it works for.
    pub fn item_ref(&self) -> ItemRef {
        ItemRef { project: self.project, item: self.item }
    }
}

/// Our own label on a Job (`dispatch.astra.dev/phase`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobPhase {
    /// Created, suspended: may not run yet.
    Queued,
    /// May run, runs or has run.
    Released,
    /// Stopped by us; outranks any ending.
    Cancelled,
    /// A publisher is at work on it.
    Claimed,
    /// Nothing more is to be done for it.
    Published,
}

/// How a Job ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct JobEnd {
    /// The server's time.
    pub at: Timestamp,
    /// `None`: it brought a result (of any outcome); else what kept it from one.
    pub failure: Option<JobFailure>,
}

/// Why a Job brought no result of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct JobFailure {
    /// Decides whether it is tried again.
    pub class: FailureClass,
    /// One sentence.
    pub reason: String,
}

impl JobFailure {
    /// What the machine or the model's service is to blame for: another attempt may do better.
    /// `None`: the result counts.
    pub fn of_result(result: &RunResult) -> Option<Self> {
        let class = result.class.filter(|class| *class == FailureClass::Infrastructure)?;
        (result.outcome == RunOutcome::Failed).then(|| Self { class, reason: result.reason.clone() })
    }
}

/// That a run was cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cancel {
    /// Why.
    pub reason: CancelReason,
    /// The server's time (on a cluster: when its condition `Suspended` became true).
    pub at: Timestamp,
}

/// Why a run was cancelled (annotation `dispatch.astra.dev/cancel`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CancelReason {
    /// The item is no longer to be worked on.
    Unwanted,
    /// A person said so.
    Person,
    /// Another attempt takes its place.
    Replaced,
}

/// What we wrote into Plane (annotation `dispatch.astra.dev/item-state`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ItemState {
    /// The state that the item had before, by name.
    pub from: String,
    /// The state that we wrote.
    pub to: String,
    /// When.
    pub written_at: Timestamp,
    /// Plane answered that it was done.
    pub acknowledged: bool,
}

/// Who publishes a Job, since when (annotation `dispatch.astra.dev/claim`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Claim {
    /// The publisher's own name for itself, unique per process.
    pub holder: String,
    /// The server's time when it claimed.
    pub at: Timestamp,
}
