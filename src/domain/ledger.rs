//! The ledger: what is reserved and what waits. One document, changed only by compare-and-swap.
//! Its JSON form is a contract (design: `ledger.json`, key of the ConfigMap `ledger`).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::name::{AgentName, ItemId, ProjectId, RunId, TaskKey};
use super::registry::RegistryStamp;
use super::work_item::Priority;

/// The one version of the document that this program reads and writes.
pub const LEDGER_VERSION: u32 = 1;
/// The waiting list is a cache of Plane, cut to the head of its order.
pub const WAITING_LIMIT: usize = 1_000;

/// The whole document.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    /// Always [`LEDGER_VERSION`].
    pub version: u32,
    /// The newest registry that a pass has admitted with.
    pub registry: RegistryStamp,
    /// Runs that are reserved or started and not yet published.
    pub entries: Vec<Entry>,
    /// Hints to tasks that wait, in the order of admission.
    pub waiting: Vec<Waiting>,
    /// Tasks whose run ended in any way but *published*.
    pub parked: Vec<Parked>,
    /// Namespaces that something was ever admitted into.
    pub namespaces: Vec<String>,
    /// Tasks that were refused for good, until their item or the registry changes.
    pub blocked: Vec<Blocked>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            version: LEDGER_VERSION,
            registry: RegistryStamp::default(),
            entries: Vec::new(),
            waiting: Vec::new(),
            parked: Vec::new(),
            namespaces: Vec::new(),
            blocked: Vec::new(),
        }
    }
}

/// One admitted run.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// The run's id, fixed at admission.
    pub run: RunId,
    /// The task's key.
    pub task: TaskKey,
    /// The work item.
    pub item: ItemId,
    /// Its project.
    pub project: ProjectId,
    /// The chosen agent.
    pub agent: AgentName,
    /// The namespace of its Job.
    pub namespace: String,
    /// Counted from 1, within 24 hours.
    pub attempt: u32,
    /// The registry that the run was admitted with.
    pub registry: RegistryStamp,
    /// How far it has got.
    pub state: EntryState,
    /// The Job's UID, once confirmed.
    pub uid: Option<String>,
    /// When the first attempt was admitted.
    pub since: Timestamp,
    /// Not to be created before this time (a retry's back-off); on a started entry the end of time
    /// (9999): a person stopped it.
    pub not_before: Option<Timestamp>,
}

/// How far an entry has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryState {
    /// The slot is taken; its Job may or may not exist, suspended.
    Reserved,
    /// The Job with the entry's UID may run.
    Started,
}

/// A hint that a task waits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Waiting {
    /// The work item.
    pub item: ItemId,
    /// Its project.
    pub project: ProjectId,
    /// Its priority when last seen.
    pub priority: Priority,
    /// Since when it waits.
    pub since: Timestamp,
    /// Its sequence number, the last tie-break.
    pub sequence: u64,
}

/// A task that was begun and whose run ended without being published.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Parked {
    /// The task's key.
    pub task: TaskKey,
    /// The work item.
    pub item: ItemId,
    /// Its project.
    pub project: ProjectId,
    /// The last attempt's number.
    pub attempt: u32,
}

/// A task that the world refused for good.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Blocked {
    /// The work item.
    pub item: ItemId,
    /// Its project.
    pub project: ProjectId,
    /// Why, in one sentence.
    pub reason: String,
    /// Of item and registry revision: another one lifts the block.
    pub fingerprint: String,
    /// When to try again all the same.
    pub retry_at: Timestamp,
}
