//! Why a work item got its verdict: one sentence each.

use std::fmt;

use crate::domain::matching::{Candidate, Gate};
use crate::domain::name::{AgentName, Role, RunId};
use crate::domain::task::Task;

/// Why nobody wants an item to be worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unwanted {
    /// Deleted, or no longer to be seen.
    Gone,
    /// Archived, a draft, or intake that is not accepted.
    Withdrawn,
    /// Its state is in the group *completed*.
    Completed,
    /// Its state is in the group *cancelled*.
    Cancelled,
    /// No label asks for an agent.
    NoLabel,
}

impl fmt::Display for Unwanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gone => "the work item is gone",
            Self::Withdrawn => "the work item is archived, a draft or not accepted",
            Self::Completed => "the work item is completed",
            Self::Cancelled => "the work item is cancelled",
            Self::NoLabel => "no label asks for an agent",
        })
    }
}

/// Why nothing is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum IgnoredBecause {
    /// The event is not about a work item.
    NotAWorkItem {
        /// What it is about, e.g. `project`.
        kind: String,
    },
    /// The event comes from another workspace than `plane.workspace_id` of `astra.yaml`.
    OtherWorkspace {
        /// The event's workspace.
        id: uuid::Uuid,
    },
    /// Nobody wants it to be worked on.
    Unwanted(Unwanted),
    /// Somebody is at work on it already, and it was not us.
    State {
        /// The state's name; untrusted.
        name: String,
    },
    /// A newer snapshot of the item is known already (offline).
    Stale {
        /// The run that the item led to, if any.
        run: Option<RunId>,
    },
}

impl fmt::Display for IgnoredBecause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAWorkItem { kind } => write!(f, "a {kind:?} event is not about a work item"),
            Self::OtherWorkspace { id } => {
                write!(f, "it comes from the workspace {id}, which is not plane.workspace_id of astra.yaml")
            }
            Self::Unwanted(unwanted) => unwanted.fmt(f),
            Self::State { name } => write!(f, "its state {name:?} says that work on it has begun elsewhere"),
            Self::Stale { run: None } => {
                f.write_str("its `updated_at` is no newer than what is known of the work item")
            }
            Self::Stale { run: Some(run) } => write!(
                f,
                "its `updated_at` is no newer than what is known of the work item, which led to the run {run}; \
                 to have it worked on again, dispatch it by hand"
            ),
        }
    }
}

/// Why a live run is to be stopped.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CancelledBecause {
    /// Nobody wants the item to be worked on any more.
    Unwanted(Unwanted),
    /// The label asks for another role.
    RoleChanged {
        /// The role of the run's agent.
        from: Role,
        /// The roles that the labels ask for.
        to: Vec<String>,
    },
}

impl fmt::Display for CancelledBecause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unwanted(unwanted) => unwanted.fmt(f),
            Self::RoleChanged { from, to } => {
                write!(f, "its label no longer asks for the role {from} but for {}", quoted_list(to))
            }
        }
    }
}

/// Why a wanted task has to wait.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum WaitingBecause {
    /// Its last run has ended and is not yet published.
    Unpublished {
        /// The run.
        run: RunId,
    },
    /// It was tried as often as it may be within 24 hours.
    Attempts {
        /// `max_attempts`.
        max: u32,
    },
    /// The world refused it for good, until the item or the registry changes.
    Blocked {
        /// Why.
        reason: String,
    },
    /// No agent can take it now.
    NoAgent(NoFit),
    /// The registry is older than the one that the ledger was last changed with.
    OldRegistry,
}

impl fmt::Display for WaitingBecause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unpublished { run } => write!(f, "its last run {run} is not yet published"),
            Self::Attempts { max } => {
                write!(f, "it was tried {max} times within 24 hours; dispatch it by hand to try again")
            }
            Self::Blocked { reason } => write!(f, "it was refused until something changes: {reason}"),
            Self::NoAgent(no_fit) => no_fit.fmt(f),
            Self::OldRegistry => f.write_str("a newer registry is in use; a pass with that one will take it"),
        }
    }
}

/// Why no agent can take a task: the last gate that any of them came to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NoFit {
    /// The gate.
    pub gate: Gate,
    /// The first of the agents that failed it, in the order of their names; at most [`NAMED`].
    pub agents: Vec<AgentName>,
    /// How many more failed it.
    pub more: usize,
    /// Some of them have a namespace that could not be read.
    pub unreadable: bool,
    /// What the gate asked for: the role, the repository, the model, or what the first agents lack.
    pub wanted: String,
    /// The role that the task asks for.
    pub role: Role,
}

impl NoFit {
    pub(super) fn new(task: &Task, candidates: &[Candidate]) -> Self {
        let gate = candidates.iter().filter_map(|candidate| candidate.failed).max().unwrap_or(Gate::Role);
        let failed = || candidates.iter().filter(|candidate| candidate.failed == Some(gate));
        Self {
            gate,
            agents: failed().take(NAMED).map(|candidate| candidate.agent.name.clone()).collect(),
            more: failed().skip(NAMED).count(),
            unreadable: failed().any(|candidate| !candidate.readable),
            wanted: match gate {
                Gate::Repository => task.repository.to_string(),
                Gate::Model => task.model.clone().unwrap_or_default(),
                Gate::Equipment => lacks(failed()),
                _ => task.role.to_string(),
            },
            role: task.role.clone(),
        }
    }
}

impl fmt::Display for NoFit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, wanted, .. } = self;
        let agents = names(&self.agents, self.more);
        match self.gate {
            Gate::Role => write!(f, "no agent has the role {role}"),
            Gate::Assignee => write!(f, "it is assigned to an agent that does not have the role {role}"),
            Gate::Status => write!(f, "no agent of the role {role} is active ({agents})"),
            Gate::Repository => {
                write!(f, "no active agent of the role {role} may work in {wanted} ({agents})")
            }
            Gate::Model => {
                write!(f, "no fitting agent of the role {role} may use the model {wanted} ({agents})")
            }
            Gate::Equipment => write!(
                f,
                "no fitting agent of the role {role} can work on the machine that dispatches: {wanted}"
            ),
            Gate::Capacity if self.unreadable => {
                write!(
                    f,
                    "no fitting agent of the role {role} is free, or its namespace could not be read ({agents})"
                )
            }
            Gate::Capacity => write!(f, "every fitting agent of the role {role} is busy ({agents})"),
        }
    }
}

/// How many agents a sentence names.
pub const NAMED: usize = 5;

/// What the first of these agents lack: `vega needs the program …; rigel needs …`.
fn lacks<'c>(candidates: impl Iterator<Item = &'c Candidate<'c>>) -> String {
    let lack = |candidate: &Candidate| Some(format!("{} needs {}", candidate.agent.name, candidate.lacks?));
    candidates.take(NAMED).filter_map(lack).collect::<Vec<_>>().join("; ")
}

fn names(agents: &[AgentName], more: usize) -> String {
    let names: Vec<&str> = agents.iter().map(AgentName::as_str).collect();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    names.join(", ") + &more
}

fn quoted_list(values: &[String]) -> String {
    values.iter().map(|value| format!("{value:?}")).collect::<Vec<_>>().join(", ")
}
