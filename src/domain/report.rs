//! The document of `dispatch` and `explain` (a contract): what became of a work item, and why.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decision::{IgnoredBecause, Verdict};
use super::event::Delivery;
use super::matching::Candidate;
use super::name::RunId;
use super::pass::TaskOutcome;
use super::registry::{ExecutorKind, Registry};
use super::result::RunResult;
use super::task::{Task, asked_roles, task_key};
use super::work_item::{Priority, WorkItem};

mod candidate;
#[cfg(test)]
mod tests;

pub use candidate::{CandidateReport, GateReport, LoadReport, ScorePartReport, ScoreReport};

/// The one version of the document.
pub const DECISION_VERSION: u32 = 1;

/// The document.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct DecisionReport {
    /// Always 1.
    pub version: u32,
    /// What became of it.
    pub outcome: Outcome,
    /// Why, in one sentence.
    pub reason: String,
    /// What a person has to change, a sentence for each fault of a refused task.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remedies: Vec<String>,
    /// The event; null where a person asked by hand.
    pub event: Option<EventReport>,
    /// The task; null where there is no work item.
    pub task: Option<TaskReport>,
    /// The agent, where there is one.
    pub agent: Option<String>,
    /// The run, where there is one; always null in `explain`.
    pub run: Option<String>,
    /// `sha256:…` of the registry that decided.
    pub registry: String,
    /// Where the run is carried out.
    pub executor: Option<ExecutorReport>,
    /// Every agent, weighed; empty where it did not come to that.
    pub candidates: Vec<CandidateReport>,
    /// What else this pass did; always empty in `explain`.
    pub also: Vec<AlsoReport>,
    /// What the run brought, where `dispatch` waited for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<RunResult>,
}

/// What became of a work item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// An agent has it.
    Dispatched,
    /// It is wanted, and not its turn.
    Waiting,
    /// Nothing is to be done.
    Ignored,
    /// A person has to change the item or the registry.
    Refused,
    /// Its run is stopped.
    Cancelled,
    /// A run of it lives.
    AlreadyRunning,
}

impl Outcome {
    /// Its name, as in the document.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dispatched => "dispatched",
            Self::Waiting => "waiting",
            Self::Ignored => "ignored",
            Self::Refused => "refused",
            Self::Cancelled => "cancelled",
            Self::AlreadyRunning => "already_running",
        }
    }
}

impl From<&Verdict<'_>> for Outcome {
    fn from(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Ignored { .. } => Self::Ignored,
            Verdict::Cancelled { .. } => Self::Cancelled,
            Verdict::AlreadyRunning { .. } => Self::AlreadyRunning,
            Verdict::Refused(_) => Self::Refused,
            Verdict::Waiting { .. } => Self::Waiting,
            Verdict::Dispatched { .. } => Self::Dispatched,
        }
    }
}

/// The event that led here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct EventReport {
    /// What it was about, e.g. `issue`.
    pub kind: String,
    /// `created`, `updated`, `deleted`.
    pub action: Option<String>,
    /// The changed field, in the words of Plane's API.
    pub field: Option<String>,
}

impl From<&Delivery> for EventReport {
    fn from(delivery: &Delivery) -> Self {
        Self { kind: delivery.kind.clone(), action: delivery.action.clone(), field: delivery.field.clone() }
    }
}

/// The task, as far as it could be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TaskReport {
    /// `AST-1`; null where the project is not mapped.
    pub key: Option<String>,
    /// Plane's id of the work item.
    pub id: String,
    /// Plane's id of the project.
    pub project: String,
    /// The role; null where no label, or more than one, asks for one.
    pub role: Option<String>,
    /// `urgent`, `high`, `medium`, `low` or `none`.
    #[schemars(with = "String")]
    pub priority: Priority,
    /// Where it is worked on; null where that was not to be found out.
    pub repository: Option<String>,
    /// The branch that the work starts from; null where that was not to be found out.
    pub base: Option<String>,
    /// The pull request to review; null for every role but `reviewer`.
    pub pull_request: Option<u64>,
}

impl TaskReport {
    /// An item, as far as it can be read with the registry.
    pub fn new(item: &WorkItem, registry: &Registry) -> Self {
        let task = Task::from_item(item, registry).ok();
        let mut roles = asked_roles(item);
        Self {
            key: task_key(item, registry).map(|key| key.to_string()),
            id: item.id.to_string(),
            project: item.project.to_string(),
            role: roles.pop().filter(|_| roles.is_empty()),
            priority: item.priority,
            repository: task.as_ref().map(|task| task.repository.to_string()),
            base: task.as_ref().map(|task| task.base.to_string()),
            pull_request: task.as_ref().and_then(|task| task.pull_request),
        }
    }
}

/// Where a run is carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ExecutorReport {
    /// Which executor.
    #[schemars(with = "String")]
    pub kind: ExecutorKind,
    /// The kubeconfig context; null locally.
    pub context: Option<String>,
    /// The agent's namespace.
    pub namespace: Option<String>,
    /// The Job, once there is one; null locally.
    pub job: Option<String>,
}

/// What a pass did with another task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AlsoReport {
    /// The task's key; null where its project is not mapped any more.
    pub task: Option<String>,
    /// The agent, where there is one.
    pub agent: Option<String>,
    /// The run, where there is one.
    pub run: Option<String>,
    /// What became of it.
    pub outcome: Outcome,
    /// The lost run whose place this one takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
}

impl AlsoReport {
    /// Of an outcome that has a verdict: the item could be read.
    pub fn of(outcome: &TaskOutcome<'_>) -> Option<Self> {
        let verdict = outcome.verdict.as_ref()?;
        let is_refused = outcome.refused.is_some();
        let (task, agent) = match verdict {
            Verdict::Dispatched { task, agent, .. } => (Some(task), Some(agent.name.to_string())),
            Verdict::Waiting { task, .. } => (Some(task), None),
            _ => (None, None),
        };
        let run = outcome.run.as_ref().filter(|_| !is_refused);
        Some(Self {
            task: task.map(|task| task.key.to_string()),
            agent: agent.filter(|_| !is_refused),
            run: run.map(ToString::to_string),
            outcome: if is_refused { Outcome::Waiting } else { Outcome::from(verdict) },
            replaces: outcome.replaces.as_ref().filter(|_| !is_refused).map(ToString::to_string),
        })
    }
}

impl DecisionReport {
    /// What a verdict says; `run`, `executor`, `also` and `result` are for the caller to add.
    pub fn new(
        verdict: &Verdict,
        event: Option<&Delivery>,
        item: Option<&WorkItem>,
        registry: &Registry,
    ) -> Self {
        let none: &[Candidate] = &[];
        let (reason, agent, run, candidates) = match verdict {
            Verdict::Ignored { reason } => (reason.to_string(), None, stale_run(reason), none),
            Verdict::Cancelled { run, reason, .. } => (reason.to_string(), None, Some(run), none),
            Verdict::AlreadyRunning { run, agent } => {
                (format!("{agent} is at work on it already"), Some(agent), Some(run), none)
            }
            Verdict::Refused(refusal) => (refusal.to_string(), None, None, none),
            Verdict::Waiting { reason, candidates, .. } => {
                (reason.to_string(), None, None, candidates.as_slice())
            }
            Verdict::Dispatched { agent, candidates, .. } => {
                (candidate::why_chosen(candidates), Some(&agent.name), None, candidates.as_slice())
            }
        };
        Self {
            version: DECISION_VERSION,
            outcome: Outcome::from(verdict),
            reason,
            remedies: match verdict {
                Verdict::Refused(refusal) => refusal.remedies(),
                _ => Vec::new(),
            },
            event: event.map(EventReport::from),
            task: item.map(|item| TaskReport::new(item, registry)),
            agent: agent.map(ToString::to_string),
            run: run.map(RunId::to_string),
            registry: registry.stamp.hash.clone(),
            executor: None,
            candidates: match verdict {
                Verdict::Waiting { task, .. } | Verdict::Dispatched { task, .. } => {
                    candidates.iter().map(|candidate| CandidateReport::new(candidate, task)).collect()
                }
                _ => Vec::new(),
            },
            also: Vec::new(),
            result: None,
        }
    }

    /// The outputs of a workflow's step (`action.yml`); what does not apply is empty.
    pub fn step_outputs(&self) -> Vec<(&'static str, String)> {
        let executor = self.executor.as_ref();
        let task = self.task.as_ref();
        let text = |value: Option<&String>| value.cloned().unwrap_or_default();
        let pull_request = task.and_then(|task| task.pull_request).map(|number| number.to_string());
        vec![
            ("outcome", self.outcome.name().to_owned()),
            ("reason", self.reason.clone()),
            ("task", text(task.and_then(|task| task.key.as_ref()))),
            ("agent", text(self.agent.as_ref())),
            ("run", text(self.run.as_ref())),
            ("namespace", text(executor.and_then(|executor| executor.namespace.as_ref()))),
            ("job", text(executor.and_then(|executor| executor.job.as_ref()))),
            ("pull-request", pull_request.unwrap_or_default()),
        ]
    }

    /// Rule 1 of the order: the event is not about a work item, or not about one of ours.
    pub fn not_a_work_item(event: &Delivery, registry: &Registry) -> Self {
        let reason = match event.other_workspace(registry.plane.workspace_id) {
            Some(id) => IgnoredBecause::OtherWorkspace { id },
            None => IgnoredBecause::NotAWorkItem { kind: event.kind.clone() },
        };
        Self::new(&Verdict::Ignored { reason }, Some(event), None, registry)
    }
}

fn stale_run(reason: &IgnoredBecause) -> Option<&RunId> {
    match reason {
        IgnoredBecause::Stale { run } => run.as_ref(),
        _ => None,
    }
}
