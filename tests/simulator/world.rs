//! The world of the simulator: a ledger, Jobs, pods and work items, and what each call does to them.

use std::collections::BTreeMap;
use std::sync::Arc;

use astra_dispatch::domain::job::{CancelReason, ItemState, Job, JobEnd, JobFailure, JobRef};
use astra_dispatch::domain::ledger::Ledger;
use astra_dispatch::domain::name::ItemId;
use astra_dispatch::domain::pass::{OrphanPod, Response, StateTarget};
use astra_dispatch::domain::result::FailureClass;
use astra_dispatch::domain::work_item::{StateGroup, WorkItem};
use jiff::{SignedDuration, Timestamp};

use crate::config::Config;
use crate::dispatcher::Dispatcher;
use crate::ghost::Ghost;

/// Time stands still; what counts is whether something is recent or long ago.
pub(crate) const NOW: Timestamp = Timestamp::UNIX_EPOCH;
/// Longer ago than every margin.
pub(crate) fn long_ago() -> Timestamp {
    NOW - SignedDuration::from_hours(1)
}

/// A Plane write that was sent and has not landed, and whose sender has died.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct FloatingWrite {
    pub(crate) item: ItemId,
    pub(crate) to: StateTarget,
}

/// Everything there is.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) config: &'static Config,
    pub(crate) ledger: Option<Arc<Ledger>>,
    /// In the order of their items, then of their creation.
    pub(crate) jobs: Vec<Arc<Job>>,
    pub(crate) orphans: Vec<OrphanPod>,
    pub(crate) items: Vec<Arc<WorkItem>>,
    pub(crate) floating: Vec<FloatingWrite>,
    /// UIDs of lost Jobs that had pushed their result.
    pub(crate) pushed: Vec<String>,
    pub(crate) dispatchers: Vec<Dispatcher>,
    pub(crate) budget: BTreeMap<Fault, u8>,
    pub(crate) ghosts: Vec<Ghost>,
    /// The ledger was lost: what it knew cannot be asked for.
    pub(crate) ledger_was_lost: bool,
    /// Makes names that were never there; names themselves mean nothing.
    pub(crate) drawn: u64,
    /// The first rule that was broken on the way here.
    pub(crate) broken: Option<String>,
}

/// What may go wrong, or a person may do: each as often as the world's budget says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Fault {
    /// A dispatcher dies.
    Crash,
    /// A change is made and its answer lost.
    AnswerLost,
    /// A namespace or the items cannot be read.
    Unread,
    /// An attempt is lost to the infrastructure.
    Infrastructure,
    /// The same, when it had pushed its result already.
    LostAfterPush,
    /// A person deletes a Job.
    HandDeletion,
    /// The ledger is lost.
    LedgerLost,
    /// A person gives the item up.
    CancelItem,
    /// A person puts it back to do.
    Reopen,
    /// A person takes the label off or puts it back.
    ToggleLabel,
    /// A person asks for another role.
    ChangeRole,
    /// A person moves the item to *started*.
    Drag,
    /// A person stops a run.
    StopRun,
    /// Creating a Job, or writing its Secret, is refused for good.
    Refusal,
}

impl World {
    pub(crate) fn new(config: &'static Config) -> Self {
        let items: Vec<Arc<WorkItem>> =
            (1..=config.tasks).map(|number| Arc::new(crate::small_world::item(number, "coder"))).collect();
        Self {
            config,
            ledger: None,
            jobs: Vec::new(),
            orphans: Vec::new(),
            ghosts: vec![Ghost::asked(); items.len()],
            items,
            floating: Vec::new(),
            pushed: Vec::new(),
            dispatchers: (0..config.dispatchers).map(|number| Dispatcher::new(config, number)).collect(),
            budget: config.budget.iter().copied().collect(),
            ledger_was_lost: false,
            drawn: 0,
            broken: None,
        }
    }

    pub(crate) fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.drawn
    }

    pub(crate) fn breaks(&mut self, rule: impl Into<String>) {
        self.broken.get_or_insert(rule.into());
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.ledger.as_deref().cloned().unwrap_or_default()
    }

    pub(crate) fn place_of(&self, item: ItemId) -> usize {
        self.items.iter().position(|known| known.id == item).unwrap_or(usize::MAX)
    }

    pub(crate) fn job_mut(&mut self, wanted: &JobRef) -> Option<&mut Job> {
        self.jobs.iter_mut().find(|job| job.uid == wanted.uid && job.run == wanted.run).map(Arc::make_mut)
    }

    /// Whether a *started* or final write of this item is under way: sent or about to be.
    pub(crate) fn is_being_written(&self, item: ItemId) -> bool {
        self.floating.iter().any(|write| write.item == item)
            || self.dispatchers.iter().any(|dispatcher| dispatcher.is_writing(item))
    }

    /// Deletes a Job; its pod, if it has one, ends a little later.
    pub(crate) fn remove(&mut self, job: &JobRef) -> Response {
        let Some(place) = self.jobs.iter().position(|other| other.uid == job.uid) else {
            return Response::Done;
        };
        let gone = self.jobs.remove(place);
        if gone.pod_alive {
            self.orphans.push(OrphanPod {
                job_uid: gone.uid.clone(),
                run: gone.run.clone(),
                item: gone.item,
                agent: gone.agent.clone(),
            });
        }
        Response::Done
    }

    /// A write reaches Plane.
    pub(crate) fn land(&mut self, item: ItemId, to: &StateTarget) -> Response {
        let place = self.place_of(item);
        // A person's change inside the window of a write may be overwritten. The ledger remembers
        // that the task was begun; a lost one does not, nor does it of a run that a person withdrew.
        let is_forgetful = self.ledger_was_lost || self.config.has(Fault::StopRun);
        if is_forgetful && !self.has_live_run(item) {
            self.ghosts[place].excuse();
        }
        let item = Arc::make_mut(&mut self.items[place]);
        let StateTarget::Named(name) = to else { panic!("states are named here") };
        let from = std::mem::replace(&mut item.state, name.clone());
        item.group = StateGroup::Started;
        Response::Written(written(&from, name))
    }

    pub(crate) fn end(&mut self, job: &JobRef, class: Option<FailureClass>) {
        if let Some(job) = self.job_mut(job) {
            job.pod_alive = false;
            let failure = class.map(|class| JobFailure { class, reason: String::new() });
            job.end = Some(JobEnd { at: NOW, failure });
        }
    }
}

/// Whether publishing a Job answers what somebody asked for.
pub(crate) trait Answer {
    /// It was carried out, or a person stopped it.
    fn is_answer(&self) -> bool;
}

impl Answer for Job {
    fn is_answer(&self) -> bool {
        self.cancel.as_ref().is_none_or(|cancel| cancel.reason == CancelReason::Person)
    }
}

/// The record of an acknowledged write.
pub(crate) fn written(from: &str, to: &str) -> ItemState {
    ItemState { from: from.to_owned(), to: to.to_owned(), written_at: NOW, acknowledged: true }
}
