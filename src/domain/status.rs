//! What everyone is doing: the document of `status` (a contract) and its page for people.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::escape;
use super::job::{CancelReason, Job, JobPhase};
use super::ledger::{Entry, EntryState, Ledger};
use super::message;
use super::name::{AgentName, TaskKey};
use super::registry::{Agent, Registry, Status};
use super::result::{FailureClass, RunOutcome, RunResult};

/// The one version of the document.
pub const STATUS_VERSION: u32 = 1;
/// Published runs that are shown, newest first; all others are always shown.
pub const PUBLISHED_SHOWN: usize = 50;

/// A run as the store has it, and what it brought.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownRun {
    /// Its Job.
    pub job: Job,
    /// Its result document, if it wrote one.
    pub result: Option<RunResult>,
    /// The step that it is at, while it runs.
    pub step: Option<String>,
    /// What keeps it from going on, while it does not.
    pub hindrance: Option<Hindrance>,
}

/// Something that keeps a run from starting or from ending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hindrance {
    /// The class that it will fail with if that does not change.
    pub class: FailureClass,
    /// One sentence.
    pub sentence: String,
    /// What to do.
    pub next: String,
    /// It waits for its next step; else it cannot end.
    pub is_waiting: bool,
}

/// The document.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct StatusReport {
    /// Always 1.
    pub version: u32,
    /// Runs, the newest first.
    pub runs: Vec<RunStatus>,
    /// Tasks that wait, in the order of admission.
    pub waiting: Vec<WaitingStatus>,
    /// The workforce, by name.
    pub agents: Vec<AgentStatus>,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct RunStatus {
    /// Its id.
    pub run: String,
    /// The task's key.
    pub task: String,
    /// The agent.
    pub agent: String,
    /// Counted from 1.
    pub attempt: u32,
    /// How far it has got.
    pub state: RunState,
    /// `prepare`, `agent`, `collect` or `deliver`, while it runs.
    pub step: Option<String>,
    /// How it ended.
    pub outcome: Option<RunOutcome>,
    /// The work was cut short but delivered.
    pub partial: bool,
    /// Why it failed or was refused, or what it will fail with if what it waits for does not come.
    pub class: Option<FailureClass>,
    /// One sentence about its ending, or about what it waits for.
    pub reason: Option<String>,
    /// What to do about that.
    pub next: Option<String>,
    /// The pushed branch.
    pub branch: Option<String>,
    /// When it was admitted, RFC 3339.
    pub since: String,
    /// When it ended, RFC 3339.
    pub ended: Option<String>,
}

/// How far a run has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Its slot is reserved; it may not run yet.
    Reserved,
    /// It may run, and does not yet.
    Starting,
    /// It runs.
    Running,
    /// It has ended and is not published.
    Finished,
    /// It was cancelled and has not ended yet.
    Stopping,
    /// It was cancelled.
    Cancelled,
    /// Somebody publishes it.
    Publishing,
    /// Nothing more is to be done.
    Published,
}

/// A task that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct WaitingStatus {
    /// The task's key; null where its project is not mapped any more.
    pub task: Option<String>,
    /// The work item's id.
    pub item: String,
    /// Its priority when last seen.
    pub priority: String,
    /// Since when it waits, RFC 3339.
    pub since: String,
}

/// An agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AgentStatus {
    /// Its name.
    pub agent: String,
    /// Its role.
    pub role: String,
    /// Its trait.
    #[serde(rename = "trait")]
    pub trait_: String,
    /// `active`, `standby` or `inactive`.
    pub status: String,
    /// Tasks that count against its capacity.
    pub running: u32,
    /// Its capacity.
    pub max: u32,
}

/// Puts the document together.
pub fn report(ledger: &Ledger, runs: &[KnownRun], registry: &Registry) -> StatusReport {
    let mut rows: Vec<(Timestamp, RunStatus)> =
        runs.iter().map(|run| (run.job.created_at, row(run))).collect();
    for entry in &ledger.entries {
        if entry.state == EntryState::Reserved && !runs.iter().any(|known| known.job.run == entry.run) {
            let lost = entry.not_before.and_then(|_| lost_before(entry, runs));
            rows.push((entry.since, reserved(entry, lost)));
        }
    }
    rows.sort_by(|one, other| (other.0, &other.1.run).cmp(&(one.0, &one.1.run)));
    let mut published = 0;
    rows.retain(|(_, row)| {
        published += usize::from(row.state == RunState::Published);
        row.state != RunState::Published || published <= PUBLISHED_SHOWN
    });
    let running = running(ledger, runs);
    StatusReport {
        version: STATUS_VERSION,
        runs: rows.into_iter().map(|(_, row)| row).collect(),
        waiting: waiting(ledger, registry),
        agents: registry.agents.values().map(|agent| agent_row(agent, &running)).collect(),
    }
}

/// Every entry counts, until its Job has ended and nothing of it runs any more.
fn running(ledger: &Ledger, runs: &[KnownRun]) -> BTreeMap<AgentName, u32> {
    let mut running = BTreeMap::new();
    for entry in &ledger.entries {
        let job = runs.iter().map(|known| &known.job).find(|job| job.run == entry.run);
        let over = job.is_some_and(|job| (job.end.is_some() || job.cancel.is_some()) && !job.pod_alive);
        if !over {
            *running.entry(entry.agent.clone()).or_insert(0) += 1;
        }
    }
    running
}

fn state(job: &Job) -> RunState {
    match job.phase {
        JobPhase::Queued => RunState::Reserved,
        JobPhase::Released if job.end.is_some() => RunState::Finished,
        JobPhase::Released if job.pod_alive => RunState::Running,
        JobPhase::Released => RunState::Starting,
        JobPhase::Cancelled if job.pod_alive => RunState::Stopping,
        JobPhase::Cancelled => RunState::Cancelled,
        JobPhase::Claimed => RunState::Publishing,
        JobPhase::Published => RunState::Published,
    }
}

fn row(known: &KnownRun) -> RunStatus {
    let KnownRun { job, result, step, hindrance } = known;
    let waits = hindrance.as_ref().is_some_and(|it| it.is_waiting);
    let state = match state(job) {
        RunState::Running if waits => RunState::Starting,
        state => state,
    };
    let failure = job.end.as_ref().and_then(|end| end.failure.as_ref());
    // A cancelled run may have written a result all the same: it does not count.
    let result = result.as_ref().filter(|_| job.cancel.is_none());
    let (class, reason) = match (&job.cancel, failure, result) {
        (Some(cancel), ..) => {
            (Some(FailureClass::Cancelled), Some(message::cancel_sentence(cancel.reason).to_owned()))
        }
        (None, Some(failure), _) => (Some(failure.class), Some(failure.reason.clone())),
        (None, None, Some(result)) => (result.class, Some(result.reason.clone())),
        (None, None, None) => {
            (hindrance.as_ref().map(|it| it.class), hindrance.as_ref().map(|it| it.sentence.clone()))
        }
    };
    RunStatus {
        run: job.run.to_string(),
        task: job.task.to_string(),
        agent: job.agent.to_string(),
        attempt: job.attempt,
        state,
        step: step.clone().filter(|_| state == RunState::Running),
        outcome: result.map(|result| result.outcome).or_else(|| failure.map(|_| RunOutcome::Failed)),
        partial: result.is_some_and(|result| result.partial),
        class,
        reason,
        next: hindrance.as_ref().map(|it| it.next.clone()).or_else(|| next_step(class?, state)),
        branch: result.and_then(|result| result.branch.as_ref()).map(ToString::to_string),
        since: whole_seconds(job.created_at),
        ended: job.end.as_ref().map(|end| whole_seconds(end.at)),
    }
}

/// A time as people read it: nobody looks for nanoseconds.
fn whole_seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

/// What to do about a run that has ended in this way.
fn next_step(class: FailureClass, state: RunState) -> Option<String> {
    match class {
        FailureClass::Cancelled => None,
        FailureClass::Infrastructure if state != RunState::Published => Some(message::RETRIED.to_owned()),
        class => Some(message::class_next_step(class).to_owned()),
    }
}

/// The attempt whose place an entry took.
fn lost_before<'r>(entry: &Entry, runs: &'r [KnownRun]) -> Option<&'r Job> {
    let is_replaced = |job: &&Job| {
        job.item == entry.item
            && job.cancel.as_ref().is_some_and(|cancel| cancel.reason == CancelReason::Replaced)
    };
    runs.iter().map(|known| &known.job).filter(is_replaced).max_by_key(|job| job.created_at)
}

/// A run without a Job: it is about to get one, or it waits out the back-off after a lost attempt.
fn reserved(entry: &Entry, lost: Option<&Job>) -> RunStatus {
    let failure = lost.and_then(|job| job.end.as_ref()?.failure.as_ref());
    let reason = lost.map(|job| {
        let why = failure.map_or("it was lost", |failure| failure.reason.as_str());
        format!("{}, the attempt before: {why}", job.run)
    });
    let next = entry.not_before.map(|at| format!("It is tried again, not before {}.", whole_seconds(at)));
    RunStatus {
        run: entry.run.to_string(),
        task: entry.task.to_string(),
        agent: entry.agent.to_string(),
        attempt: entry.attempt,
        state: RunState::Reserved,
        step: None,
        outcome: None,
        partial: false,
        class: failure.map(|failure| failure.class),
        reason,
        next,
        branch: None,
        since: whole_seconds(entry.since),
        ended: None,
    }
}

fn waiting(ledger: &Ledger, registry: &Registry) -> Vec<WaitingStatus> {
    let task = |hint: &super::ledger::Waiting| {
        let project = registry.projects.get(&hint.project)?;
        TaskKey::new(&project.identifier, hint.sequence).ok().map(String::from)
    };
    let row = |hint| WaitingStatus {
        task: task(hint),
        item: hint.item.to_string(),
        priority: message::priority_name(hint.priority).to_owned(),
        since: whole_seconds(hint.since),
    };
    ledger.waiting.iter().map(row).collect()
}

fn agent_row(agent: &Agent, running: &BTreeMap<AgentName, u32>) -> AgentStatus {
    let status = match agent.status {
        Status::Active => "active",
        Status::Standby => "standby",
        Status::Inactive => "inactive",
    };
    AgentStatus {
        agent: agent.name.to_string(),
        role: agent.role.to_string(),
        trait_: message::trait_name(agent.trait_).to_lowercase(),
        status: status.to_owned(),
        running: running.get(&agent.name).copied().unwrap_or(0),
        max: agent.max_concurrent_tasks,
    }
}

impl RunStatus {
    /// Its state in a word or two: `running (agent)`, `finished: changed`.
    pub fn state_words(&self) -> String {
        let state = match self.state {
            RunState::Reserved => "reserved",
            RunState::Starting => "starting",
            RunState::Running => "running",
            RunState::Finished => "finished",
            RunState::Stopping => "stopping",
            RunState::Cancelled => "cancelled",
            RunState::Publishing => "publishing",
            RunState::Published => "published",
        };
        match (&self.step, self.outcome) {
            (Some(step), _) => format!("{state} ({step})"),
            (None, Some(outcome)) => format!("{state}: {}", message::outcome_name(outcome)),
            (None, None)
                if self.class == Some(FailureClass::Cancelled) && self.state == RunState::Published =>
            {
                format!("{state}: cancelled")
            }
            (None, None) => state.to_owned(),
        }
    }

    /// What there is to say about its ending, safe for a terminal.
    pub fn remark(&self) -> String {
        let text = match (&self.branch, &self.reason) {
            (Some(branch), _) => branch.clone(),
            (None, Some(reason)) => message::one_line(reason, 100),
            (None, None) => String::new(),
        };
        escape::terminal(&text).into_owned()
    }
}

#[cfg(test)]
mod tests;
