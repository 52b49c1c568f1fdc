//! What becomes of a work item: one function with the verdict order of the contract. `explain` asks
//! it, and the pass asks it for every candidate.

use super::matching::{Candidate, Running, Workforce, choose};
use super::name::{AgentName, Role, RunId};
use super::registry::Agent;
use super::task::{Refusal, Task, TaskFault, asked_roles};
use super::work_item::{StateGroup, WorkItem};

mod reason;
#[cfg(test)]
mod tests;

pub use reason::{CancelledBecause, IgnoredBecause, NAMED, NoFit, Unwanted, WaitingBecause};

/// What is known about a task's runs when it is judged.
#[derive(Debug, Clone)]
pub struct Situation<'a> {
    /// A reserved or started entry, an unfinished Job, or a finished one that nobody has claimed.
    pub live: Option<LiveRun<'a>>,
    /// The last run, if it is finished or cancelled and not yet published.
    pub unpublished: Option<&'a RunId>,
    /// The ledger remembers that the task was begun and not published.
    pub parked: bool,
    /// Why the world refused the task for good, while that still holds.
    pub blocked: Option<&'a str>,
    /// `max_attempts` is reached.
    pub attempts_exhausted: bool,
    /// A person asks by hand (`--task`): waives the state group and `max_attempts`, nothing else.
    pub by_hand: bool,
    /// What counts against the agents' capacity.
    pub running: &'a Running,
}

impl<'a> Situation<'a> {
    /// Nothing is known about the task: it has no run and never had one.
    pub fn fresh(running: &'a Running) -> Self {
        Self {
            live: None,
            unpublished: None,
            parked: false,
            blocked: None,
            attempts_exhausted: false,
            by_hand: false,
            running,
        }
    }
}

/// A run of the task that lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveRun<'a> {
    /// The run.
    pub run: &'a RunId,
    /// The role of its agent; `None` where the agent has left the registry (such a run goes on).
    pub role: Option<&'a Role>,
    /// Its agent.
    pub agent: &'a AgentName,
}

/// What becomes of a work item. Exactly one holds.
#[derive(Debug, Clone)]
pub enum Verdict<'w> {
    /// Nothing is to be done.
    Ignored {
        /// Why.
        reason: IgnoredBecause,
    },
    /// Its live run is to be stopped.
    Cancelled {
        /// The run.
        run: RunId,
        /// Why.
        reason: CancelledBecause,
        /// The task is otherwise eligible for its new role: leave a hint in the waiting list.
        wait_for_new_role: bool,
    },
    /// A run of it lives.
    AlreadyRunning {
        /// The run.
        run: RunId,
        /// Who is at work.
        agent: AgentName,
    },
    /// A person has to change the item or the registry.
    Refused(Refusal),
    /// It is wanted, and not its turn.
    Waiting {
        /// Why.
        reason: WaitingBecause,
        /// The task.
        task: Box<Task>,
        /// Every agent, weighed; empty where that was not asked.
        candidates: Vec<Candidate<'w>>,
    },
    /// It would be admitted with the load that is given.
    Dispatched {
        /// The task.
        task: Box<Task>,
        /// The chosen agent.
        agent: &'w Agent,
        /// Every agent, weighed.
        candidates: Vec<Candidate<'w>>,
    },
}

/// Judges a work item (`None` = it is gone). Rule 1 of the order, "not a work item event", is the
/// event's own: such an event has no item to judge.
pub fn judge<'w>(item: Option<&WorkItem>, workforce: &'w Workforce, situation: &Situation) -> Verdict<'w> {
    let item = match unwanted(item) {
        Ok(item) => item,
        Err(unwanted) => {
            return match situation.live {
                Some(live) => cancelled(live, CancelledBecause::Unwanted(unwanted), false),
                None => Verdict::Ignored { reason: IgnoredBecause::Unwanted(unwanted) },
            };
        }
    };
    if let Some(live) = situation.live {
        return judge_live(item, live, workforce);
    }
    let is_new = matches!(item.group, StateGroup::Backlog | StateGroup::Unstarted);
    let is_resumed = item.group == StateGroup::Started && situation.parked;
    if !(is_new || is_resumed || situation.by_hand) {
        return Verdict::Ignored { reason: IgnoredBecause::State { name: item.state.clone() } };
    }
    match task(item, workforce) {
        Ok(task) => judge_task(Box::new(task), workforce, situation),
        Err(refusal) => Verdict::Refused(refusal),
    }
}

/// Rule 2: whether anybody wants the item to be worked on.
fn unwanted(item: Option<&WorkItem>) -> Result<&WorkItem, Unwanted> {
    let item = item.ok_or(Unwanted::Gone)?;
    if item.withdrawn || item.group == StateGroup::Triage {
        return Err(Unwanted::Withdrawn);
    }
    match item.group {
        StateGroup::Completed => Err(Unwanted::Completed),
        StateGroup::Cancelled => Err(Unwanted::Cancelled),
        _ if asked_roles(item).is_empty() => Err(Unwanted::NoLabel),
        _ => Ok(item),
    }
}

/// Rules 3 and 4: a live run goes on as long as its role is among the labels.
fn judge_live<'w>(item: &WorkItem, live: LiveRun, workforce: &Workforce) -> Verdict<'w> {
    let roles = asked_roles(item);
    match live.role {
        Some(role) if !roles.iter().any(|asked| asked == role.as_str()) => {
            let reason = CancelledBecause::RoleChanged { from: role.clone(), to: roles };
            cancelled(live, reason, task(item, workforce).is_ok())
        }
        _ => Verdict::AlreadyRunning { run: live.run.clone(), agent: live.agent.clone() },
    }
}

fn cancelled<'w>(live: LiveRun, reason: CancelledBecause, wait_for_new_role: bool) -> Verdict<'w> {
    Verdict::Cancelled { run: live.run.clone(), reason, wait_for_new_role }
}

/// Rule 6: reads the task, and sees whether the registry knows its repository.
fn task(item: &WorkItem, workforce: &Workforce) -> Result<Task, Refusal> {
    let task = Task::from_item(item, workforce.registry())?;
    if workforce.knows(&task.repository) {
        Ok(task)
    } else {
        Err(Refusal { faults: vec![TaskFault::UnknownRepository { repository: task.repository }] })
    }
}

/// Rules 7 and 8.
fn judge_task<'w>(task: Box<Task>, workforce: &'w Workforce, situation: &Situation) -> Verdict<'w> {
    let hindrance = if let Some(run) = situation.unpublished {
        Some(WaitingBecause::Unpublished { run: run.clone() })
    } else if situation.attempts_exhausted && !situation.by_hand {
        Some(WaitingBecause::Attempts { max: workforce.registry().max_attempts })
    } else {
        situation.blocked.map(|reason| WaitingBecause::Blocked { reason: reason.to_owned() })
    };
    if let Some(reason) = hindrance {
        return Verdict::Waiting { reason, task, candidates: Vec::new() };
    }
    let found = choose(&task, workforce, situation.running);
    match found.chosen {
        Some(agent) => Verdict::Dispatched { task, agent, candidates: found.candidates },
        None => {
            let reason = WaitingBecause::NoAgent(NoFit::new(&task, &found.candidates));
            Verdict::Waiting { reason, task, candidates: found.candidates }
        }
    }
}
