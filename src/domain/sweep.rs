//! The sweep: which work items the pass is to look at although no event told of them, and the document
//! of what was found and done.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

use super::decision::Verdict;
use super::job::{CancelReason, Job, JobPhase};
use super::ledger::{Ledger, WAITING_LIMIT};
use super::message;
use super::name::{ItemId, RunId};
use super::pass::{Hint, PassReport, TaskOutcome};
use super::registry::Registry;
use super::report::{AlsoReport, DecisionReport};
use super::task::{asked_roles, task_key};
use super::work_item::{ItemRef, StateGroup, WorkItem};

/// The one version of the document.
pub const SWEEP_VERSION: u32 = 1;

/// The document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SweepReport {
    /// Always 1.
    pub version: u32,
    /// How many work items were looked at.
    pub items: usize,
    /// How many runs were looked at, published ones too.
    pub runs: usize,
    /// How many tasks no event had told of.
    pub unannounced: usize,
    /// How many actions of each kind there are.
    pub counts: BTreeMap<Action, usize>,
    /// What was done, and what a person has to do.
    pub actions: Vec<SweepAction>,
}

impl SweepReport {
    /// Adds what was done besides.
    pub fn add(&mut self, actions: impl IntoIterator<Item = SweepAction>) {
        for action in actions {
            *self.counts.entry(action.action).or_default() += 1;
            self.unannounced += usize::from(action.unannounced);
            self.actions.push(action);
        }
    }
}

/// One thing that was done, or that a person has to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SweepAction {
    /// What.
    pub action: Action,
    /// The task's key, where it is known.
    pub task: Option<String>,
    /// The agent, where there is one.
    pub agent: Option<String>,
    /// The run, where there is one.
    pub run: Option<String>,
    /// Why, in one sentence.
    pub reason: Option<String>,
    /// No event had told of this task.
    pub unannounced: bool,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A run was started.
    Dispatched,
    /// A task was put on the waiting list.
    Waiting,
    /// A person has to change the item or the registry.
    Refused,
    /// A run was stopped: its task is not wanted any more.
    Cancelled,
    /// A run was published.
    Published,
    /// A run has ended and could not be published.
    Unpublished,
    /// An item is in progress, and no run of it is known: a person has to say what is to become of it.
    Stranded,
    /// A branch, or refused work, that nobody waits for was removed from its repository.
    BranchRemoved,
    /// The last traces of an old run were removed.
    Removed,
}

impl Action {
    /// Its name, as in the document.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dispatched => "dispatched",
            Self::Waiting => "waiting",
            Self::Refused => "refused",
            Self::Cancelled => "cancelled",
            Self::Published => "published",
            Self::Unpublished => "unpublished",
            Self::Stranded => "stranded",
            Self::BranchRemoved => "branch_removed",
            Self::Removed => "removed",
        }
    }
}

impl SweepAction {
    /// Something that was done about a run.
    pub fn of_run(action: Action, job: &Job, reason: Option<String>) -> Self {
        Self {
            action,
            task: Some(job.task.to_string()),
            agent: Some(job.agent.to_string()),
            run: Some(job.run.to_string()),
            reason,
            unannounced: false,
        }
    }
}

/// What the pass is called for.
#[derive(Debug, Default)]
pub struct Found {
    /// Items to look at: those that ask for an agent and of which the ledger has no line (those that wait
    /// are looked at anyway), and those of all live runs.
    pub hints: Vec<Hint>,
    /// Of these, those that no event told of.
    unannounced: BTreeSet<ItemId>,
    /// Keys of tasks, for people.
    keys: BTreeMap<ItemId, String>,
    /// Live runs, with task and agent.
    runs: BTreeMap<RunId, (String, String)>,
    /// Items in progress without a run.
    stranded: Vec<ItemId>,
    /// How many items and runs were looked at.
    looked_at: (usize, usize),
}

impl Found {
    /// From Plane's lists, the ledger and all runs that are kept. `runs`: `None` if they could not be read.
    pub fn new(listed: &[WorkItem], ledger: &Ledger, runs: Option<&[Job]>, registry: &Registry) -> Self {
        let looked_at = (listed.len(), runs.map_or(0, <[Job]>::len));
        let mut found = Self { looked_at, ..Self::default() };
        for entry in &ledger.entries {
            let item = ItemRef { project: entry.project, item: entry.item };
            found.hints.push(Hint { item, by_hand: false });
            found.keys.insert(entry.item, entry.task.to_string());
            found.runs.insert(entry.run.clone(), (entry.task.to_string(), entry.agent.to_string()));
        }
        let entries = ledger.entries.iter().map(|line| line.item);
        let waiting = ledger.waiting.iter().map(|line| line.item);
        let blocked = ledger.blocked.iter().map(|line| line.item);
        let known: BTreeSet<ItemId> = entries.chain(waiting).chain(blocked).collect();
        let parked: BTreeSet<ItemId> = ledger.parked.iter().map(|line| line.item).collect();
        // A full list has no room for what events told.
        let is_full = ledger.waiting.len() >= WAITING_LIMIT;
        for item in listed {
            if let Some(key) = task_key(item, registry) {
                found.keys.insert(item.id, key.to_string());
            }
            if known.contains(&item.id) {
                continue;
            }
            if !asks_for_agent(item, parked.contains(&item.id)) {
                let has_run = |runs: &[Job]| runs.iter().any(|job| job.item == item.id);
                if is_begun(item, registry) && runs.is_some_and(|runs| !has_run(runs)) {
                    found.stranded.push(item.id);
                }
                continue;
            }
            found.hints.push(Hint { item: item.reference(), by_hand: false });
            if !parked.contains(&item.id) && !is_full {
                found.unannounced.insert(item.id);
            }
        }
        found
    }

    /// What the pass did, and what it leaves to people.
    pub fn report(&self, pass: &PassReport<'_>, registry: &Registry) -> SweepReport {
        let mut report = SweepReport {
            version: SWEEP_VERSION,
            items: self.looked_at.0,
            runs: self.looked_at.1,
            unannounced: 0,
            counts: BTreeMap::new(),
            actions: Vec::new(),
        };
        report.add(pass.outcomes.iter().filter_map(|outcome| self.action(outcome, registry)));
        report.add(pass.published.iter().map(|run| self.of_run(Action::Published, run, None)));
        let unpublished = pass.unpublished.iter();
        report.add(unpublished.map(|(run, why)| self.of_run(Action::Unpublished, run, Some(why))));
        report.add(self.stranded.iter().map(|item| SweepAction {
            action: Action::Stranded,
            task: self.keys.get(item).cloned(),
            agent: None,
            run: None,
            reason: Some(STRANDED.to_owned()),
            unannounced: false,
        }));
        report
    }

    fn of_run(&self, action: Action, run: &RunId, reason: Option<&String>) -> SweepAction {
        let (task, agent) = self.runs.get(run).cloned().unzip();
        let reason = reason.map(|why| message::one_line(why, 500));
        SweepAction { action, task, agent, run: Some(run.to_string()), reason, unannounced: false }
    }

    fn action(&self, outcome: &TaskOutcome<'_>, registry: &Registry) -> Option<SweepAction> {
        let verdict = outcome.verdict.as_ref()?;
        let item = outcome.item.item;
        let action = match verdict {
            _ if outcome.refused.is_some() => Action::Waiting,
            Verdict::Dispatched { .. } => Action::Dispatched,
            Verdict::Waiting { .. } => Action::Waiting,
            Verdict::Refused(_) => Action::Refused,
            Verdict::Cancelled { .. } => Action::Cancelled,
            Verdict::Ignored { .. } | Verdict::AlreadyRunning { .. } => return None,
        };
        let decided = DecisionReport::new(verdict, None, None, registry);
        Some(SweepAction {
            action,
            task: self.keys.get(&item).cloned().or_else(|| AlsoReport::of(outcome)?.task),
            agent: decided.agent.filter(|_| action == Action::Dispatched),
            run: outcome.run.as_ref().map(ToString::to_string).or(decided.run),
            reason: Some(outcome.refused.clone().unwrap_or(decided.reason)),
            unannounced: self.unannounced.contains(&item)
                && matches!(action, Action::Dispatched | Action::Waiting),
        })
    }
}

/// It waits for an agent, or was begun and given up.
fn asks_for_agent(item: &WorkItem, parked: bool) -> bool {
    let waits = matches!(item.group, StateGroup::Backlog | StateGroup::Unstarted) || parked;
    waits && !item.withdrawn && !asked_roles(item).is_empty()
}

/// What a person is told of an item in progress without a run.
const STRANDED: &str = "it is in progress, and no run of it is known; if nobody works on it, move it back, and an agent takes it";

/// It is where a run's beginning moves it. Where publishing leaves it there, too, it may be one whose run
/// was published so long ago that nothing of it is kept: nobody can tell.
fn is_begun(item: &WorkItem, registry: &Registry) -> bool {
    let is = |name: &String| name.trim().eq_ignore_ascii_case(item.state.trim());
    let states = &registry.states;
    let is_result = |name: &Option<String>| name.as_ref().is_some_and(is);
    item.group == StateGroup::Started
        && !item.withdrawn
        && !asked_roles(item).is_empty()
        && states.review.is_some()
        && states.started.as_ref().is_none_or(is)
        && !is_result(&states.review)
        && !is_result(&states.failed)
}

/// A ref that an ended run left, and that nobody waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeftRef {
    /// The branch of a run that was cancelled: it never becomes a pull request.
    Branch(RunId),
    /// Work that the gate refused, when the run's traces go.
    Refused(RunId),
}

impl LeftRef {
    /// The ref's whole name.
    pub fn name(&self) -> String {
        match self {
            Self::Branch(run) => format!("refs/heads/{}", run.branch()),
            Self::Refused(run) => run.refused_ref(),
        }
    }

    /// Those that a run may have left.
    pub fn of(job: &Job, now: Timestamp, keep: SignedDuration) -> Vec<Self> {
        let mut left = Vec::new();
        // A lost attempt may have pushed before it was lost: whoever wants its work has until then.
        let is_replaced = job.cancel.as_ref().is_some_and(|cancel| cancel.reason == CancelReason::Replaced);
        let is_over = job.phase == JobPhase::Published && job.cancel.is_some() && !job.pod_alive;
        if is_over && (!is_replaced || is_old(job, now, keep)) {
            left.push(Self::Branch(job.run.clone()));
        }
        if is_old(job, now, keep) {
            left.push(Self::Refused(job.run.clone()));
        }
        left
    }
}

/// Whether the last traces of a run may go: it was published so long ago.
pub fn is_old(job: &Job, now: Timestamp, keep: SignedDuration) -> bool {
    let ended = job.end.as_ref().map_or(job.created_at, |end| end.at);
    job.phase == JobPhase::Published && now.duration_since(ended) > keep
}

/// What to say where no event told of tasks; `None`: nothing is amiss.
pub fn warning(report: &SweepReport) -> Option<String> {
    let count = report.unannounced;
    (count > 0).then(|| {
        format!(
            "no event had told of {count} of these tasks; without a relay that is as it should be, with one see \
             whether Plane has switched its webhook off (Workspace settings, Webhooks): it does so when one \
             event has failed six times, and a person has to switch it on again"
        )
    })
}

#[cfg(test)]
mod tests;
