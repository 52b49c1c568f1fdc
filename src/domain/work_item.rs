//! A Plane work item as it was at one moment, whoever delivered it (webhook, REST, stored snapshot).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::name::{ItemId, ProjectId};

/// A work item. Text in it comes from strangers and is never trusted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WorkItem {
    /// Plane's id of the item.
    pub id: ItemId,
    /// The project that it belongs to.
    pub project: ProjectId,
    /// Its number within the project, the `12` of `AST-12`.
    pub sequence: u64,
    /// Its title.
    pub name: String,
    /// Its description as plain text, one paragraph or list item a line.
    pub description: String,
    /// The names of its labels, as Plane has them.
    pub labels: Vec<String>,
    /// The name of its state, e.g. `In Progress`.
    pub state: String,
    /// The group that the state belongs to: what decisions look at.
    pub group: StateGroup,
    /// Its priority.
    pub priority: Priority,
    /// The people it is assigned to.
    pub assignees: Vec<Member>,
    /// URLs of the links attached to it (known only when read over REST).
    #[serde(default)]
    pub links: Vec<String>,
    /// When Plane last changed it: orders snapshots of one item.
    pub updated_at: Timestamp,
    /// Archived or a draft: not to be worked on.
    pub withdrawn: bool,
}

/// Names a work item: Plane reads it below its project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ItemRef {
    /// The project.
    pub project: ProjectId,
    /// The item.
    pub item: ItemId,
}

impl WorkItem {
    /// Names this item.
    pub fn reference(&self) -> ItemRef {
        ItemRef { project: self.project, item: self.id }
    }
}

/// A Plane member.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Member {
    /// Mail address, what `accounts.plane` of an agent names.
    pub email: String,
    /// Shown name.
    pub display_name: String,
}

/// Plane's groups of states. Source: Plane 1.3.1, `State.group`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StateGroup {
    /// Not yet planned.
    Backlog,
    /// Planned, nobody works on it.
    Unstarted,
    /// Somebody works on it.
    Started,
    /// Done.
    Completed,
    /// Given up.
    Cancelled,
    /// Intake not yet accepted; treated as withdrawn.
    Triage,
}

/// Plane's priorities, most urgent first (the order of the waiting list).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Before everything else.
    Urgent,
    /// High.
    High,
    /// Medium.
    Medium,
    /// Low.
    Low,
    /// None was set.
    None,
}
