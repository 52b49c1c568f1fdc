//! What can happen next: a call of a dispatcher, its death, an event of the world.

use std::fmt;
use std::sync::Arc;

use astra_dispatch::domain::job::{Job, JobPhase, JobRef};
use astra_dispatch::domain::ledger::Entry;
use astra_dispatch::domain::name::RunId;
use astra_dispatch::domain::pass::Request;
use astra_dispatch::domain::result::FailureClass;
use astra_dispatch::domain::work_item::StateGroup;

use crate::dispatcher::{Activity, How};
use crate::world::{Answer, Fault, FloatingWrite, World};

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// A dispatcher makes its next call.
    Call(u8, How),
    /// A dispatcher dies; with `true`, the write that it was about to send is under way.
    Crash(u8, bool),
    /// A dispatcher begins a pass that stops the run of a task's entry.
    Stop(u8, u8),
    /// A run ends well.
    Ends(u8),
    /// A run is lost to the infrastructure; with `true`, when it had pushed its result.
    Lost(u8, bool),
    /// The pod of a cancelled run ends.
    PodEnds(u8),
    /// The pod of a deleted Job ends.
    OrphanEnds(u8),
    /// A person deletes a Job.
    HandDeletes(u8),
    /// The ledger is lost.
    LedgerLost,
    /// A write of a dead dispatcher lands.
    Lands(u8),
    /// A person changes an item.
    Person(u8, Fault),
}

const MUTATING: fn(&Request) -> bool = |request| {
    matches!(
        request,
        Request::Swap { .. }
            | Request::Create(_)
            | Request::Release(_)
            | Request::Cancel(..)
            | Request::Delete(_)
            | Request::Close(_)
            | Request::Claim { .. }
            | Request::WriteState { .. }
            | Request::RecordState(..)
            | Request::MarkPublished(..)
    )
};

impl World {
    /// Everything that can happen now.
    pub(crate) fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        for number in 0..self.dispatchers.len() {
            self.dispatcher_actions(number, &mut actions);
        }
        for (number, job) in self.jobs.iter().enumerate() {
            self.job_actions(number as u8, job, &mut actions);
        }
        actions.extend((0..self.orphans.len()).map(|pod| Action::OrphanEnds(pod as u8)));
        actions.extend((0..self.floating.len()).map(|write| Action::Lands(write as u8)));
        if self.can(Fault::LedgerLost) && self.ledger.is_some() {
            actions.push(Action::LedgerLost);
        }
        for task in 0..self.items.len() {
            self.person_actions(task, &mut actions);
        }
        actions
    }

    fn can(&self, fault: Fault) -> bool {
        self.budget.get(&fault).is_some_and(|left| *left > 0)
    }

    fn spend(&mut self, fault: Fault) {
        if let Some(left) = self.budget.get_mut(&fault) {
            *left -= 1;
        }
    }

    fn dispatcher_actions(&self, number: usize, actions: &mut Vec<Action>) {
        let (dispatcher, name) = (&self.dispatchers[number], number as u8);
        if dispatcher.is_idle() {
            if dispatcher.passes_left > 0 || !dispatcher.queue.is_empty() {
                actions.push(Action::Call(name, How::Well));
            }
            if dispatcher.passes_left > 0 && self.can(Fault::StopRun) {
                actions.extend((0..self.items.len()).map(|task| Action::Stop(name, task as u8)));
            }
            return;
        }
        actions.push(Action::Call(name, How::Well));
        let Some(request) = dispatcher.next_request() else { return };
        if self.can(Fault::AnswerLost) && MUTATING(request) {
            actions.push(Action::Call(name, How::AnswerLost));
        }
        if self.can(Fault::Unread)
            && matches!(
                request,
                Request::ListJobs(_)
                    | Request::ReadItems(_)
                    | Request::FindJob { .. }
                    | Request::FindResult(_)
            )
        {
            actions.push(Action::Call(name, How::Unread));
        }
        if self.can(Fault::Refusal)
            && matches!(request, Request::Create(_) | Request::WriteSecret(..) | Request::WriteState { .. })
        {
            actions.push(Action::Call(name, How::Refused));
        }
        if self.can(Fault::Crash) {
            actions.push(Action::Crash(name, false));
            if matches!(request, Request::WriteState { .. }) {
                actions.push(Action::Crash(name, true));
            }
        }
    }

    fn job_actions(&self, number: u8, job: &Job, actions: &mut Vec<Action>) {
        let runs = job.pod_alive && job.end.is_none() && job.phase == JobPhase::Released;
        if runs {
            actions.push(Action::Ends(number));
            if self.can(Fault::Infrastructure) {
                actions.push(Action::Lost(number, false));
            }
            if self.can(Fault::LostAfterPush) {
                actions.push(Action::Lost(number, true));
            }
        }
        if job.pod_alive && job.cancel.is_some() {
            actions.push(Action::PodEnds(number));
        }
        // A finalizer keeps it from the claim on; a published one may go when it is old.
        if self.can(Fault::HandDeletion) && !matches!(job.phase, JobPhase::Claimed | JobPhase::Published) {
            actions.push(Action::HandDeletes(number));
        }
    }

    fn person_actions(&self, task: usize, actions: &mut Vec<Action>) {
        let item = &self.items[task];
        let person = |fault| Action::Person(task as u8, fault);
        let is_open = matches!(item.group, StateGroup::Unstarted | StateGroup::Started);
        // The window in which a person's cancel may be overwritten is known and accepted.
        let is_in_window = self.floating.iter().any(|write| write.item == item.id)
            || self.dispatchers.iter().any(|dispatcher| dispatcher.is_in_window(item.id));
        if self.can(Fault::CancelItem) && is_open && !is_in_window {
            actions.push(person(Fault::CancelItem));
        }
        if self.can(Fault::Reopen) && item.group != StateGroup::Unstarted {
            actions.push(person(Fault::Reopen));
        }
        if self.can(Fault::ToggleLabel) {
            actions.push(person(Fault::ToggleLabel));
        }
        if self.can(Fault::ChangeRole) && !item.labels.is_empty() {
            actions.push(person(Fault::ChangeRole));
        }
        if self.can(Fault::Drag) && item.group == StateGroup::Unstarted {
            actions.push(person(Fault::Drag));
        }
    }

    /// Lets it happen.
    pub(crate) fn happen(&mut self, action: Action) {
        match action {
            Action::Call(number, how) => {
                match how {
                    How::Well => {}
                    How::AnswerLost => self.spend(Fault::AnswerLost),
                    How::Unread => self.spend(Fault::Unread),
                    How::Refused => self.spend(Fault::Refusal),
                }
                self.advance(usize::from(number), how);
            }
            Action::Crash(number, is_sent) => {
                self.spend(Fault::Crash);
                let dispatcher = &mut self.dispatchers[usize::from(number)];
                if let (true, Some(Request::WriteState { item, to })) = (is_sent, dispatcher.pending.last()) {
                    self.floating.push(FloatingWrite { item: item.item, to: to.clone() });
                }
                dispatcher.die();
            }
            Action::Stop(number, task) => {
                self.spend(Fault::StopRun);
                let run = self.run_of(usize::from(task));
                if run.is_some() {
                    self.ghosts[usize::from(task)].excuse();
                }
                self.begin(usize::from(number), run);
            }
            Action::Ends(job) => self.end(&self.jobs[usize::from(job)].reference(), None),
            Action::Lost(job, has_pushed) => {
                self.spend(if has_pushed { Fault::LostAfterPush } else { Fault::Infrastructure });
                let job = self.jobs[usize::from(job)].reference();
                self.pushed.extend(has_pushed.then(|| job.uid.clone()));
                self.end(&job, Some(FailureClass::Infrastructure));
            }
            Action::PodEnds(job) => Arc::make_mut(&mut self.jobs[usize::from(job)]).pod_alive = false,
            Action::OrphanEnds(pod) => {
                self.orphans.remove(usize::from(pod));
            }
            Action::HandDeletes(job) => self.hand_deletes(&self.jobs[usize::from(job)].reference()),
            Action::LedgerLost => self.lose_ledger(),
            Action::Lands(write) => {
                let write = self.floating.remove(usize::from(write));
                self.land(write.item, &write.to);
            }
            Action::Person(task, fault) => {
                self.spend(fault);
                self.person(usize::from(task), fault);
            }
        }
        self.check();
    }

    fn run_of(&self, task: usize) -> Option<RunId> {
        let item = self.items[task].id;
        let entries = &self.ledger.as_ref()?.entries;
        entries.iter().find(|entry| entry.item == item).map(|entry| entry.run.clone())
    }

    /// A Job that the lost ledger knew and nothing else knows leaves no trace.
    fn hand_deletes(&mut self, job: &JobRef) {
        self.spend(Fault::HandDeletion);
        let is_named = self
            .ledger
            .as_ref()
            .is_some_and(|ledger| ledger.entries.iter().any(|entry| entry.run == job.run));
        let item = self.jobs.iter().find(|known| known.uid == job.uid).map(|known| known.item);
        if let (false, true, Some(item)) = (is_named, self.ledger_was_lost, item) {
            let place = self.place_of(item);
            self.ghosts[place].excuse();
        }
        self.remove(job);
    }

    /// What only the ledger knew cannot be asked for: a task that was begun, and has no Job that
    /// says so.
    fn lose_ledger(&mut self) {
        self.spend(Fault::LedgerLost);
        self.ledger = None;
        self.ledger_was_lost = true;
        self.dispatchers.iter_mut().for_each(|dispatcher| dispatcher.stale = true);
        for task in 0..self.items.len() {
            let item = &self.items[task];
            let has_job = self
                .jobs
                .iter()
                .any(|job| job.item == item.id && job.phase == JobPhase::Released && job.cancel.is_none());
            let is_begun = item.group == StateGroup::Started || self.is_being_written(item.id);
            if is_begun && !has_job {
                self.ghosts[task].excuse();
            }
        }
    }

    fn person(&mut self, task: usize, fault: Fault) {
        let has_live_run = self.has_live_run(self.items[task].id);
        let item = Arc::make_mut(&mut self.items[task]);
        let ghost = &mut self.ghosts[task];
        let mut move_to = |state: &str, group| {
            item.state = state.to_owned();
            item.group = group;
        };
        match fault {
            Fault::CancelItem => {
                move_to("Cancelled", StateGroup::Cancelled);
                ghost.withdraw();
            }
            Fault::Reopen => {
                move_to("Todo", StateGroup::Unstarted);
                if !item.labels.is_empty() {
                    ghost.ask(has_live_run);
                }
            }
            Fault::Drag => {
                move_to("In Progress", StateGroup::Started);
                ghost.excuse();
            }
            Fault::ToggleLabel if item.labels.is_empty() => {
                item.labels = vec!["agent:coder".to_owned()];
                if item.group != StateGroup::Cancelled {
                    self.label_put_back(task, has_live_run);
                }
            }
            Fault::ToggleLabel => {
                item.labels.clear();
                ghost.withdraw();
            }
            Fault::ChangeRole => {
                item.labels = vec!["agent:ops".to_owned()];
                if item.group != StateGroup::Cancelled {
                    self.label_put_back(task, has_live_run);
                }
            }
            _ => {}
        }
    }

    /// A label on an item that is to do, or that we have begun, is a wish; on one that somebody
    /// else (or a published run) has moved, it is none.
    fn label_put_back(&mut self, task: usize, has_live_run: bool) {
        let item = &self.items[task];
        let is_parked = self.ledger.as_ref().is_some_and(|ledger| {
            let is_published = |entry: &Entry| {
                self.jobs
                    .iter()
                    .any(|job| job.run == entry.run && job.phase == JobPhase::Published && job.is_answer())
            };
            ledger.parked.iter().any(|line| line.item == item.id)
                || ledger.entries.iter().any(|entry| entry.item == item.id && !is_published(entry))
        });
        if item.group == StateGroup::Unstarted || has_live_run || is_parked {
            self.ghosts[task].ask(has_live_run);
        }
    }

    /// What a step looks like, for a trace.
    pub(crate) fn describe(&self, action: Action) -> String {
        let job = |number: u8| {
            self.jobs
                .get(usize::from(number))
                .map_or_else(String::new, |job| format!("{} {}", job.run, job.uid))
        };
        match action {
            Action::Call(number, how) => {
                let dispatcher = &self.dispatchers[usize::from(number)];
                let at = match &dispatcher.activity {
                    None => "begins",
                    Some(Activity::Pass(_)) => "pass",
                    Some(Activity::Start(..)) => "started write",
                    Some(Activity::Publish(..)) => "publish",
                };
                let request = dispatcher.next_request().map_or_else(String::new, brief);
                format!("D{number} {at}: {request} {how:?}")
            }
            Action::Crash(number, is_sent) => format!("D{number} dies (write under way: {is_sent})"),
            Action::Stop(number, task) => format!("D{number} is told to stop the run of task {}", task + 1),
            Action::Ends(number) => format!("{} ends well", job(number)),
            Action::Lost(number, false) => format!("{} is lost to the infrastructure", job(number)),
            Action::Lost(number, true) => format!("{} is lost after its push", job(number)),
            Action::PodEnds(number) => format!("the pod of {} ends", job(number)),
            Action::OrphanEnds(_) => "the pod of a deleted Job ends".to_owned(),
            Action::HandDeletes(number) => format!("a person deletes {}", job(number)),
            Action::LedgerLost => "the ledger is lost".to_owned(),
            Action::Lands(_) => "a write of a dead dispatcher lands".to_owned(),
            Action::Person(task, fault) => format!("a person: {fault:?} on task {}", task + 1),
        }
    }
}

/// A call without its contents.
fn brief(request: &Request) -> String {
    struct Job<'a>(&'a JobRef);
    impl fmt::Display for Job<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{} {}", self.0.run, self.0.uid)
        }
    }
    match request {
        Request::ReadLedger => "read ledger".to_owned(),
        Request::ListJobs(namespace) => format!("list {namespace}"),
        Request::FindJob { run, .. } => format!("find {run}"),
        Request::FindResult(job) => format!("find the result of {}", Job(job)),
        Request::ReadItems(items) => format!("read {} items", items.len()),
        Request::Swap { ledger, .. } => {
            let entries: Vec<String> = ledger
                .entries
                .iter()
                .map(|entry| {
                    format!("{} {:?} {}", entry.run, entry.state, entry.uid.as_deref().unwrap_or("-"))
                })
                .collect();
            format!(
                "swap to [{}] waiting {} parked {}",
                entries.join(", "),
                ledger.waiting.len(),
                ledger.parked.len()
            )
        }
        Request::Create(new) => format!("create {}", new.run),
        Request::WriteSecret(_, job) => format!("write secret of {}", Job(job)),
        Request::Release(job) => format!("release {}", Job(job)),
        Request::Cancel(job, reason) => format!("cancel {} {reason:?}", Job(job)),
        Request::Delete(job) => format!("delete {}", Job(job)),
        Request::Close(job) => format!("close {}", Job(job)),
        Request::Claim { job, .. } => format!("claim {}", Job(job)),
        Request::Deliver(job) => format!("deliver {}", job.run),
        Request::WriteState { to, .. } => format!("write {to:?}"),
        Request::RecordState(job, _) => format!("record on {}", Job(job)),
        Request::MarkPublished(job, _) => format!("mark {}", Job(job)),
        Request::Pause(round) => format!("pause {round}"),
    }
}
