//! The heart: from what was observed to a new ledger and the effects that follow from it. A pure
//! function; the effects are applied only after the swap to the new ledger succeeded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::call::{Hint, ItemRead, NewJob};
use super::candidates::reference;
use super::edit;
use super::observed::{Index, Observed, Seen, counts};
use super::report::{StopOutcome, Subject, TaskOutcome};
use super::timing::Timing;
use crate::domain::decision::{LiveRun, Situation, Verdict, judge};
use crate::domain::job::{CancelReason, Job, JobPhase, JobRef};
use crate::domain::ledger::{Blocked, Entry, Ledger, Waiting};
use crate::domain::matching::{Running, Workforce};
use crate::domain::name::{ItemId, RunId};
use crate::domain::task::Task;
use crate::domain::work_item::{ItemRef, StateGroup, WorkItem};

mod admission;
mod entry;
mod unnamed;

/// What a plan is made from.
pub(super) struct Basis<'o, 'w> {
    pub(super) observed: &'o Observed,
    pub(super) workforce: &'w Workforce,
    pub(super) timing: &'o Timing,
    pub(super) hints: &'o [Hint],
    /// The run that a person wants stopped.
    pub(super) stop: Option<&'o RunId>,
    /// Drawn beforehand: names of new runs are made from it.
    pub(super) seed: u64,
}

/// What is to be done.
#[derive(Debug)]
pub(super) struct Plan<'w> {
    pub(super) ledger: Ledger,
    pub(super) effects: Effects,
    pub(super) follow_up: FollowUp,
    pub(super) outcomes: Vec<TaskOutcome<'w>>,
}

/// Calls to make once the swap succeeded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Effects {
    pub(super) cancels: Vec<(JobRef, CancelReason)>,
    pub(super) deletes: Vec<JobRef>,
    /// Attempts that another one takes the place of, with their item: its next Job is created only
    /// once they are closed, so that an unclosed one says that none came after it.
    pub(super) closes: Vec<(JobRef, ItemId)>,
    pub(super) creates: Vec<Start>,
    /// Jobs that are there, suspended, and whose entry is still reserved.
    pub(super) confirms: Vec<(Start, JobRef)>,
    /// Confirmed Jobs that are still suspended.
    pub(super) releases: Vec<(Start, JobRef)>,
}

/// A run to be begun.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Start {
    pub(super) new: NewJob,
    /// The line that the ledger gets if the world refuses it for good; its reason is still empty.
    pub(super) blocked: Blocked,
}

/// What the caller is told besides the outcomes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct FollowUp {
    pub(super) start_writes: Vec<Subject>,
    pub(super) publishable: Vec<Subject>,
    pub(super) again: bool,
    pub(super) wake_at: Option<Timestamp>,
    pub(super) stop: Option<StopOutcome>,
}

/// Makes the plan.
pub(super) fn plan<'w>(basis: &Basis<'_, 'w>) -> Plan<'w> {
    let index = basis.observed.index();
    let mut planner = Planner::new(basis, &index);
    planner.weigh_entries();
    planner.weigh_unnamed();
    planner.replace_failed();
    planner.admit_waiting();
    planner.finish()
}

/// A plan in the making.
struct Planner<'o, 'i, 'w> {
    basis: &'i Basis<'o, 'w>,
    observed: &'o Observed,
    index: &'i Index<'o>,
    hints: BTreeMap<ItemId, &'i Hint>,
    /// Names that are taken.
    known_runs: BTreeSet<&'o RunId>,
    /// Entries, parked and blocked lines are changed as the plan grows.
    ledger: Ledger,
    /// Hints by item.
    waiting: BTreeMap<ItemId, Waiting>,
    running: Running,
    /// Items with a verdict, or with an entry that goes on: not to be admitted in this pass.
    settled: BTreeSet<ItemId>,
    /// Items with a run that has ended and is not published, or a Job that must go first.
    unpublished: BTreeMap<ItemId, RunId>,
    /// Items and Jobs of attempts that were lost to the infrastructure and may be replaced.
    failed: Vec<(ItemRef, &'o Job)>,
    effects: Effects,
    follow_up: FollowUp,
    outcomes: Vec<TaskOutcome<'w>>,
}

impl<'o, 'i, 'w> Planner<'o, 'i, 'w> {
    fn new(basis: &'i Basis<'o, 'w>, index: &'i Index<'o>) -> Self {
        let observed = basis.observed;
        let ledger = Ledger { entries: Vec::new(), waiting: Vec::new(), ..observed.ledger.clone() };
        let mut running = Running::default();
        for agent in basis.workforce.registry().agents.keys() {
            if !index.is_readable(&agent.namespace()) {
                running.set_unreadable(agent);
            }
        }
        let mut follow_up = FollowUp::default();
        if basis.stop.is_some() {
            follow_up.stop = Some(StopOutcome::Unknown);
        }
        Self {
            basis,
            observed,
            index,
            hints: basis.hints.iter().map(|hint| (hint.item.item, hint)).collect(),
            known_runs: index.runs().chain(observed.ledger.entries.iter().map(|entry| &entry.run)).collect(),
            ledger,
            waiting: observed.ledger.waiting.iter().map(|hint| (hint.item, hint.clone())).collect(),
            running,
            settled: BTreeSet::new(),
            unpublished: BTreeMap::new(),
            failed: Vec::new(),
            effects: Effects::default(),
            follow_up,
            outcomes: Vec::new(),
        }
    }

    fn now(&self) -> Timestamp {
        self.observed.now
    }

    /// The ledger knows a newer registry: this pass may complete and cancel, not admit. Without a
    /// place in history (ordinal 0, on one machine only) a registry is never old.
    fn is_old_registry(&self) -> bool {
        let ordinal = self.basis.workforce.registry().stamp.ordinal;
        ordinal != 0 && ordinal < self.observed.ledger.registry.ordinal
    }

    fn hint(&self, item: ItemId) -> Option<&'i Hint> {
        self.hints.get(&item).copied()
    }

    fn is_parked(&self, item: ItemId) -> bool {
        self.ledger.parked.iter().any(|line| line.item == item)
    }

    /// Judges the item of a live run.
    fn judge_live(&self, item: Option<&WorkItem>, entry: &Entry) -> Verdict<'w> {
        let agents = &self.basis.workforce.registry().agents;
        let role = agents.get(&entry.agent).map(|agent| &agent.role);
        let live = Some(LiveRun { run: &entry.run, role, agent: &entry.agent });
        judge(item, self.basis.workforce, &Situation { live, ..Situation::fresh(&self.running) })
    }

    /// Keeps an entry as it is or was changed, counting it or not.
    fn keep(&mut self, entry: Entry, seen: Seen) {
        if counts(&entry, seen) {
            self.running.add(&entry.agent);
        }
        self.ledger.entries.push(entry);
    }

    /// Notes a verdict: always for a hinted task, else only where something was done.
    fn tell(&mut self, item: ItemRef, verdict: Option<Verdict<'w>>, run: Option<&RunId>) {
        let hinted = self.hint(item.item).is_some();
        let acted = matches!(verdict, Some(Verdict::Cancelled { .. } | Verdict::Dispatched { .. }));
        if hinted || acted {
            self.outcomes.push(TaskOutcome {
                item,
                hinted,
                read: self.read(item),
                verdict,
                run: run.cloned(),
                replaces: None,
                refused: None,
            });
        }
    }

    /// The item as it was read.
    fn read(&self, item: ItemRef) -> Option<Box<WorkItem>> {
        match self.observed.item(item) {
            ItemRead::Found(item) => Some(item.clone()),
            ItemRead::Gone | ItemRead::Unread => None,
        }
    }

    /// A publisher that has had its time is dead: somebody else goes on with what it claimed.
    fn take_over(&mut self, job: &Job) {
        let Some(claim) = job.claim.as_ref().filter(|_| job.phase == JobPhase::Claimed) else { return };
        let free_at = claim.at + self.basis.timing.claim_takeover;
        if free_at <= self.now() {
            self.follow_up.publishable.push(subject(job));
        } else {
            self.wake_at(free_at);
        }
    }

    fn wake_at(&mut self, at: Timestamp) {
        self.follow_up.wake_at = Some(self.follow_up.wake_at.map_or(at, |other| other.min(at)));
    }

    /// The waiting list, parked and blocked lines, namespaces and registry as they are to be.
    fn finish(mut self) -> Plan<'w> {
        let observed = self.observed;
        let items = &observed.items;
        let outside = |item: ItemRef| match items.get(&item) {
            None | Some(ItemRead::Unread) => false,
            Some(ItemRead::Gone) => true,
            Some(ItemRead::Found(item)) => {
                !matches!(item.group, StateGroup::Backlog | StateGroup::Unstarted | StateGroup::Started)
            }
        };
        self.ledger.parked.retain(|line| !outside(ItemRef { project: line.project, item: line.item }));
        let mut blocked = std::mem::take(&mut self.ledger.blocked);
        blocked.retain(|line| self.holds(line, &outside));
        self.ledger.blocked = blocked;
        self.ledger.waiting = std::mem::take(&mut self.waiting).into_values().collect();
        edit::order_waiting(&mut self.ledger.waiting);
        self.forget_namespaces();
        let follow_up = &mut self.follow_up;
        follow_up.again |= !self.effects.cancels.is_empty() || !self.effects.deletes.is_empty();
        Plan {
            ledger: self.ledger,
            effects: self.effects,
            follow_up: self.follow_up,
            outcomes: self.outcomes,
        }
    }

    /// Whether a blocked line stays: as long as the item is what it was, and might be wanted.
    fn holds(&self, line: &Blocked, outside: &impl Fn(ItemRef) -> bool) -> bool {
        let item = ItemRef { project: line.project, item: line.item };
        match self.observed.item(item) {
            ItemRead::Found(found) => {
                let registry = &self.basis.workforce.registry().stamp;
                !outside(item) && super::fingerprint::fingerprint(found, registry) == line.fingerprint
            }
            ItemRead::Gone => false,
            ItemRead::Unread => true,
        }
    }

    /// A namespace is remembered until its agent has left the registry, no entry is or was in it,
    /// and a complete list shows nothing of ours.
    fn forget_namespaces(&mut self) {
        let registry = self.basis.workforce.registry();
        let mut known: BTreeSet<String> = std::mem::take(&mut self.ledger.namespaces).into_iter().collect();
        known.extend(self.ledger.entries.iter().map(|entry| entry.namespace.clone()));
        let employed: BTreeSet<String> = registry.agents.keys().map(|agent| agent.namespace()).collect();
        let entries = self.ledger.entries.iter().chain(&self.observed.ledger.entries);
        let used: BTreeSet<&str> = entries.map(|entry| entry.namespace.as_str()).collect();
        known.retain(|namespace| {
            employed.contains(namespace)
                || used.contains(namespace.as_str())
                || !self.index.is_empty(namespace, self.observed)
        });
        self.ledger.namespaces = known.into_iter().collect();
    }
}

/// What is needed to begin the run of an entry.
fn start(entry: &Entry, item: &WorkItem, task: Task, basis: &Basis, now: Timestamp) -> Start {
    Start {
        new: NewJob {
            run: entry.run.clone(),
            task: Arc::new(task),
            agent: entry.agent.clone(),
            namespace: entry.namespace.clone(),
            attempt: entry.attempt,
            registry: entry.registry.clone(),
        },
        blocked: Blocked {
            item: entry.item,
            project: entry.project,
            reason: String::new(),
            fingerprint: super::fingerprint::fingerprint(item, &basis.workforce.registry().stamp),
            retry_at: now + basis.timing.block,
        },
    }
}

fn subject(job: &Job) -> Subject {
    Subject { job: job.reference(), item: job.item_ref() }
}
