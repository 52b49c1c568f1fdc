//! A dispatcher: passes, and what each of them leaves to be done (started writes, publications).

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use astra_dispatch::domain::job::{Job, JobPhase, JobRef};
use astra_dispatch::domain::ledger::{Entry, EntryState, Ledger, Parked};
use astra_dispatch::domain::matching::Workforce;
use astra_dispatch::domain::name::{ItemId, RunId};
use astra_dispatch::domain::pass::{
    Hint, ItemRead, OrphanPod, Pass, PassEnd, PassInput, Publication, Request, Response, StartWrite,
    StateTarget, Step, Subject,
};
use astra_dispatch::domain::result::FailureClass;
use astra_dispatch::domain::work_item::WorkItem;

use crate::config::{Config, Mutation};
use crate::world::{Answer, Fault, NOW, World};

/// One dispatcher.
#[derive(Debug, Clone)]
pub(crate) struct Dispatcher {
    pub(crate) workforce: &'static Workforce,
    pub(crate) is_old: bool,
    pub(crate) passes_left: u8,
    pub(crate) activity: Option<Activity>,
    /// Calls that were asked for and not made yet, the next one last.
    pub(crate) pending: Vec<Request>,
    pub(crate) answers: Vec<Response>,
    pub(crate) queue: Vec<FollowUp>,
    /// Others changed the ledger since it was read.
    pub(crate) stale: bool,
    /// Tasks that were asked for when the items were read.
    pub(crate) asked_when_read: Vec<usize>,
    /// The main swap is done.
    pub(crate) is_past_swap: bool,
    /// For a mutation only: Jobs and pods from before the ledger was read.
    pub(crate) early: Option<(Vec<Arc<Job>>, Vec<OrphanPod>)>,
    /// For a mutation only: Jobs that are deleted after an admission.
    pub(crate) also_delete: Vec<JobRef>,
    /// For mutations only: the ledger as it was read.
    pub(crate) ledger_read: Option<Arc<Ledger>>,
    /// For mutations only: what was created last.
    pub(crate) last_created: Option<(RunId, String)>,
}

/// What a dispatcher is at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Activity {
    Pass(Box<Pass<'static>>),
    Start(Box<StartWrite>, Subject, Option<Early>),
    Publish(Box<Publication>, String),
}

/// For a mutation only: what was read long before it was needed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Early {
    item: Arc<WorkItem>,
    job: Option<Arc<Job>>,
}

/// What a pass left to be done.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum FollowUp {
    Start(Subject, Option<Early>),
    Publish(Subject),
}

impl Dispatcher {
    pub(crate) fn new(config: &'static Config, number: usize) -> Self {
        let old = config.old_workforce.filter(|_| number == 0);
        Self {
            workforce: old.unwrap_or(config.workforce),
            is_old: old.is_some(),
            passes_left: config.passes,
            activity: None,
            pending: Vec::new(),
            answers: Vec::new(),
            queue: Vec::new(),
            stale: false,
            asked_when_read: Vec::new(),
            is_past_swap: false,
            early: None,
            also_delete: Vec::new(),
            ledger_read: None,
            last_created: None,
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.activity.is_none()
    }

    /// Dies: what it was at is over, with everything that it had in mind.
    pub(crate) fn die(&mut self) {
        self.activity = None;
        self.pending.clear();
        self.answers.clear();
        self.queue.clear();
        self.forget();
    }

    fn forget(&mut self) {
        self.stale = false;
        self.asked_when_read.clear();
        self.is_past_swap = false;
        self.early = None;
        self.also_delete.clear();
        self.ledger_read = None;
        self.last_created = None;
    }

    pub(crate) fn next_request(&self) -> Option<&Request> {
        self.pending.last()
    }

    /// Whether it is between its last re-read and the landing of a write of this item.
    pub(crate) fn is_writing(&self, item: ItemId) -> bool {
        let is_late = matches!(self.activity, Some(Activity::Start(_, _, Some(_))));
        !is_late
            && matches!(self.next_request(), Some(Request::WriteState { item: at, .. }) if at.item == item)
    }

    /// Whether it has re-read this item and may still write it.
    pub(crate) fn is_in_window(&self, item: ItemId) -> bool {
        let subject = match &self.activity {
            Some(Activity::Start(_, subject, _)) => subject.item.item == item,
            Some(Activity::Publish(..)) => true,
            _ => false,
        };
        subject && matches!(self.next_request(), Some(Request::FindJob { .. } | Request::WriteState { .. }))
    }

    pub(crate) fn holds(&self, holder: &str) -> bool {
        matches!(&self.activity, Some(Activity::Publish(_, own)) if own == holder)
    }

    pub(crate) fn is_publishing(&self) -> bool {
        matches!(self.activity, Some(Activity::Publish(..)))
    }

    pub(crate) fn is_confirming(&self) -> bool {
        self.is_past_swap && matches!(self.activity, Some(Activity::Pass(_)))
    }

    /// For mutations: the ledger as a faulty program would understand it.
    pub(crate) fn misread(&mut self, mut ledger: Ledger, config: &Config) -> Ledger {
        if config.mutation == Some(Mutation::ConfirmByName)
            && self.is_confirming()
            && let Some((run, uid)) = &self.last_created
        {
            for entry in ledger.entries.iter_mut().filter(|entry| entry.run == *run && entry.uid.is_some()) {
                entry.uid = Some(uid.clone());
            }
        }
        if config.mutation == Some(Mutation::NoSwapWhereEqual) {
            self.ledger_read = Some(Arc::new(ledger.clone()));
        }
        ledger
    }

    /// For mutations: the ledger as a faulty program would write it.
    pub(crate) fn mutilated(&self, mut ledger: Ledger, world: &World) -> Ledger {
        match world.config.mutation {
            Some(Mutation::NoParked) => ledger.parked.clear(),
            Some(Mutation::PrunedWhenFinished) => {
                let is_finished = |job: &Job| {
                    job.end.is_some() && job.failure_class() != Some(FailureClass::Infrastructure)
                };
                ledger.entries.retain(|entry| {
                    !world.jobs.iter().any(|job| Some(&job.uid) == entry.uid.as_ref() && is_finished(job))
                });
            }
            Some(Mutation::PrunedWhenCancelAsked) => {
                let Some(Activity::Pass(pass)) = &self.activity else { return ledger };
                let Step::Call(requests) = pass.clone().step(vec![Response::Done]) else { return ledger };
                for request in requests {
                    let Request::Cancel(job, _) = request else { continue };
                    let asked = |entry: &Entry| entry.run == job.run;
                    ledger.parked.extend(
                        ledger.entries.extract_if(.., |entry| asked(entry)).map(|gone| parked(&gone)),
                    );
                }
            }
            _ => {}
        }
        ledger
    }
}

fn parked(entry: &Entry) -> Parked {
    Parked { task: entry.task.clone(), item: entry.item, project: entry.project, attempt: entry.attempt }
}

/// How a call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum How {
    Well,
    /// It is made, and its answer lost.
    AnswerLost,
    /// It cannot be made.
    Unread,
    /// It is refused for good.
    Refused,
}

impl World {
    /// Lets a dispatcher make its next call. `false`: it has nothing to do.
    pub(crate) fn advance(&mut self, number: usize, how: How) -> bool {
        if self.dispatchers[number].is_idle() {
            if !self.begin(number, None) {
                return false;
            }
            if self.config.mutation == Some(Mutation::JobsBeforeLedger) {
                self.dispatchers[number].early = Some((self.jobs.clone(), self.orphans.clone()));
                return true;
            }
        }
        if let Some(job) = self.dispatchers[number].also_delete.pop() {
            self.perform(number, &Request::Delete(job));
            return true;
        }
        let Some(request) = self.dispatchers[number].pending.pop() else { return false };
        let answer = self.answer(number, &request, how);
        if matches!(request, Request::Swap { .. }) && answer == Response::Done {
            self.dispatchers[number].is_past_swap = true;
        }
        self.take(number, answer);
        true
    }

    fn answer(&mut self, number: usize, request: &Request, how: How) -> Response {
        match (how, request) {
            (How::Well, _) => {
                self.early_answer(number, request).unwrap_or_else(|| self.perform(number, request))
            }
            (How::AnswerLost, _) => {
                self.perform(number, request);
                Response::Failed("lost".to_owned())
            }
            (How::Unread, Request::ReadItems(items)) => {
                Response::Items(items.iter().map(|_| ItemRead::Unread).collect())
            }
            (How::Unread, _) => Response::Failed("unreadable".to_owned()),
            (How::Refused, _) => Response::Refused("not allowed".to_owned()),
        }
    }

    fn early_answer(&self, number: usize, request: &Request) -> Option<Response> {
        let Some(Activity::Start(_, _, Some(early))) = &self.dispatchers[number].activity else {
            return None;
        };
        match request {
            Request::ReadItems(_) => {
                Some(Response::Items(vec![ItemRead::Found(Box::new(WorkItem::clone(&early.item)))]))
            }
            Request::FindJob { .. } => {
                Some(Response::Job(early.job.as_ref().map(|job| Box::new(Job::clone(job))), NOW))
            }
            _ => None,
        }
    }

    /// Begins what is next: what the last pass left, else another pass.
    pub(crate) fn begin(&mut self, number: usize, stop: Option<RunId>) -> bool {
        let seed = self.draw();
        let holder = format!("h:{seed}");
        let hints = self.items.iter().map(|item| Hint { item: item.reference(), by_hand: false }).collect();
        let timing = self.config.timing;
        let dispatcher = &mut self.dispatchers[number];
        dispatcher.forget();
        let activity = if stop.is_none() && !dispatcher.queue.is_empty() {
            match dispatcher.queue.remove(0) {
                FollowUp::Start(subject, early) => {
                    let target = StateTarget::Named("In Progress".to_owned());
                    Activity::Start(Box::new(StartWrite::new(subject.clone(), target)), subject, early)
                }
                FollowUp::Publish(subject) => {
                    let started = StateTarget::Named("In Progress".to_owned());
                    let publication = Publication::new(subject, holder.clone(), Some(started), timing);
                    Activity::Publish(Box::new(publication), holder)
                }
            }
        } else if dispatcher.passes_left > 0 {
            dispatcher.passes_left -= 1;
            dispatcher.queue.clear();
            let workforce = dispatcher.workforce;
            Activity::Pass(Box::new(Pass::new(PassInput { workforce, timing, hints, stop, seed })))
        } else {
            return false;
        };
        dispatcher.activity = Some(activity);
        self.go_on(number, Vec::new());
        true
    }

    /// Takes an answer; calls that change nothing in this world are answered at once.
    fn take(&mut self, number: usize, answer: Response) {
        self.dispatchers[number].answers.push(answer);
        loop {
            let dispatcher = &mut self.dispatchers[number];
            match dispatcher.pending.last() {
                Some(Request::WriteSecret(..)) if self.config.has(Fault::Refusal) => return,
                Some(Request::WriteSecret(..) | Request::Pause(_) | Request::Deliver(_)) => {
                    let Some(request) = dispatcher.pending.pop() else { return };
                    let answer = self.perform(number, &request);
                    self.dispatchers[number].answers.push(answer);
                }
                Some(_) => return,
                None if dispatcher.activity.is_none() => return,
                None => {
                    let answers = std::mem::take(&mut dispatcher.answers);
                    self.go_on(number, answers);
                }
            }
        }
    }

    /// Gives a machine its answers and takes its next calls, or its end.
    fn go_on(&mut self, number: usize, answers: Vec<Response>) {
        let requests = match &mut self.dispatchers[number].activity {
            None => return,
            Some(Activity::Pass(pass)) => match pass.step(answers) {
                Step::Call(requests) => Some(requests),
                Step::Done(end) => {
                    self.pass_done(number, end);
                    None
                }
            },
            Some(Activity::Start(write, ..)) => match write.step(answers) {
                Step::Call(requests) => Some(requests),
                Step::Done(_) => None,
            },
            Some(Activity::Publish(publication, _)) => match publication.step(answers) {
                Step::Call(requests) => Some(requests),
                Step::Done(_) => None,
            },
        };
        let dispatcher = &mut self.dispatchers[number];
        match requests {
            Some(mut requests) => {
                requests.reverse();
                dispatcher.pending = requests;
            }
            None => {
                dispatcher.activity = None;
                dispatcher.forget();
            }
        }
    }

    fn pass_done(&mut self, number: usize, end: PassEnd<'static>) {
        let PassEnd::Complete(report) = end else { return };
        let is_late = self.config.mutation == Some(Mutation::LateStart);
        let early = |subject: &Subject| {
            is_late.then(|| Early {
                item: self.items[self.place_of(subject.item.item)].clone(),
                job: self.jobs.iter().find(|job| job.uid == subject.job.uid).cloned(),
            })
        };
        let starts =
            report.start_writes.iter().map(|subject| FollowUp::Start(subject.clone(), early(subject)));
        let publications = report.publishable.iter().cloned().map(FollowUp::Publish);
        let queue: Vec<FollowUp> = starts.chain(publications).collect();
        self.dispatchers[number].queue = queue;
    }

    /// Whether a run of an item lives or is being published, and so will be the answer to a wish.
    pub(crate) fn has_live_run(&self, item: ItemId) -> bool {
        let named = |job: &Job| {
            self.ledger.as_ref().is_some_and(|ledger| ledger.entries.iter().any(|entry| entry.run == job.run))
        };
        let lives = |job: &Job| match job.phase {
            JobPhase::Published => false,
            JobPhase::Queued => named(job),
            _ => job.is_answer(),
        };
        let is_reserved = self.ledger.as_ref().is_some_and(|ledger| {
            ledger.entries.iter().any(|entry| entry.item == item && entry.state == EntryState::Reserved)
        });
        is_reserved || self.jobs.iter().any(|job| job.item == item && lives(job))
    }
}

impl Hash for Dispatcher {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.is_old.hash(state);
        self.passes_left.hash(state);
        self.activity.hash(state);
        // Which calls they are follows from the machine.
        self.pending.len().hash(state);
        self.answers.hash(state);
        self.queue.hash(state);
        self.stale.hash(state);
        self.asked_when_read.hash(state);
        self.early.hash(state);
        self.also_delete.hash(state);
        self.ledger_read.hash(state);
        self.last_created.hash(state);
    }
}
