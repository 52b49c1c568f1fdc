//! Publishes one ended run: claim → deliver → re-read item → re-read Job → write → record → mark.
//! The claim is conditional and exclusive, so a run is published once; the mark comes last, so
//! nothing of it is lost.

use jiff::Timestamp;

use super::call::{ItemRead, Request, Response, StateTarget, Step};
use super::report::Subject;
use super::timing::Timing;
use crate::domain::job::{CancelReason, Claim, Job, JobPhase};
use crate::domain::work_item::{StateGroup, WorkItem};

/// One publication.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Publication {
    subject: Subject,
    /// Unique per process.
    holder: String,
    /// The state *started*: for an item that is still where it was before the run, so that it is
    /// not taken for a new request. `None`: there is no Plane.
    started: Option<StateTarget>,
    /// Where the run's outcome moves the item: known once it is delivered. `None`: it stays.
    outcome: Option<StateTarget>,
    timing: Timing,
    stage: Stage,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Stage {
    Begin,
    Look,
    Claim,
    Deliver(Box<Job>),
    /// Nothing of it is under way, and somebody may go on at once: why it is not over.
    LetGo(String),
    Item,
    Job {
        item: Option<Box<WorkItem>>,
    },
    Write(Box<Job>),
    Record,
    Mark,
}

/// How a publication ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PublicationEnd {
    /// Delivered and marked.
    Published,
    /// It was published before, or is gone.
    Over,
    /// It has not ended, or has a pod that has not.
    Unfinished,
    /// It may be claimed from this time on.
    TooEarly(Timestamp),
    /// Another publisher is at work on it.
    Taken {
        /// Who.
        holder: String,
    },
    /// Another publisher was quicker, or it was changed in between: nothing is missing.
    Overtaken,
    /// The world does not let it be told or its item be moved, or not now: why. Nothing of it is under way, so
    /// the claim was let go of: who mends that need not wait.
    Refused(String),
    /// No answer, or the claim is no longer ours: once the claim is old, somebody goes on. Why.
    Stopped(String),
}

impl Publication {
    /// A publication that has not begun.
    pub fn new(subject: Subject, holder: String, started: Option<StateTarget>, timing: Timing) -> Self {
        Self { subject, holder, started, outcome: None, timing, stage: Stage::Begin }
    }

    /// Takes the answers to the calls before (none at the beginning), and says what to do next.
    pub fn step(&mut self, mut responses: Vec<Response>) -> Step<PublicationEnd> {
        let response = responses.pop();
        match (std::mem::replace(&mut self.stage, Stage::Begin), response) {
            (Stage::Begin, _) => {
                let request = self.find();
                self.call(Stage::Look, request)
            }
            (Stage::Look, Some(Response::Job(job, now))) => self.looked_up(job, now),
            (Stage::Claim, Some(Response::Job(Some(job), _))) => {
                self.call(Stage::Deliver(job.clone()), Request::Deliver(job))
            }
            (Stage::Claim, Some(Response::Missed)) => Step::Done(PublicationEnd::Overtaken),
            (Stage::Deliver(job), Some(Response::Refused(why))) => self.let_go(&job, why),
            (Stage::LetGo(why), Some(_)) => Step::Done(PublicationEnd::Refused(why)),
            (Stage::Deliver(_), Some(Response::Delivered(outcome))) => match &self.started {
                None => self.mark(),
                Some(_) => {
                    self.outcome = outcome;
                    self.call(Stage::Item, Request::ReadItems(vec![self.subject.item]))
                }
            },
            (Stage::Item, Some(Response::Items(mut reads))) => match reads.pop() {
                Some(ItemRead::Found(item)) => {
                    let request = self.find();
                    self.call(Stage::Job { item: Some(item) }, request)
                }
                Some(ItemRead::Gone) => {
                    let request = self.find();
                    self.call(Stage::Job { item: None }, request)
                }
                Some(ItemRead::Unread) | None => stopped("the item could not be read"),
            },
            (Stage::Job { item }, Some(Response::Job(job, _))) => self.reread(item.as_deref(), job),
            (Stage::Write(_), Some(Response::Written(state))) => {
                self.call(Stage::Record, Request::RecordState(self.subject.job.clone(), state))
            }
            // Nothing was sent.
            (Stage::Write(job), Some(Response::Missed)) => {
                self.let_go(&job, "it was too late to move the item".to_owned())
            }
            (Stage::Write(job), Some(Response::Refused(why))) => self.let_go(&job, why),
            (Stage::Record, Some(Response::Done)) => self.mark(),
            (Stage::Mark, Some(Response::Done)) => Step::Done(PublicationEnd::Published),
            (_, Some(Response::Missed)) => stopped("the claim was lost"),
            (_, Some(other)) => stopped(&other.why()),
            (_, None) => stopped("there was no answer"),
        }
    }

    fn call(&mut self, stage: Stage, request: Request) -> Step<PublicationEnd> {
        self.stage = stage;
        Step::Call(vec![request])
    }

    fn find(&self) -> Request {
        let job = &self.subject.job;
        Request::FindJob { namespace: job.namespace.clone(), run: job.run.clone() }
    }

    fn mark(&mut self) -> Step<PublicationEnd> {
        let request = Request::MarkPublished(self.subject.job.clone(), self.holder.clone());
        self.call(Stage::Mark, request)
    }

    /// May it be claimed?
    fn looked_up(&mut self, job: Option<Box<Job>>, now: Timestamp) -> Step<PublicationEnd> {
        let job = match job {
            Some(job) if job.uid == self.subject.job.uid && job.phase != JobPhase::Published => job,
            _ => return Step::Done(PublicationEnd::Over),
        };
        let ended_at = match (&job.cancel, &job.end) {
            _ if job.pod_alive => None,
            (Some(cancel), end) => Some(end.as_ref().map_or(cancel.at, |end| end.at.max(cancel.at))),
            (None, Some(end)) => Some(end.at),
            (None, None) => None,
        };
        let Some(ended_at) = ended_at else { return Step::Done(PublicationEnd::Unfinished) };
        if let Some(claim) = &job.claim {
            if now < claim.at + self.timing.claim_takeover {
                return Step::Done(PublicationEnd::Taken { holder: claim.holder.clone() });
            }
        } else if self.started.is_some() && now < ended_at + self.timing.claim_margin {
            return Step::Done(PublicationEnd::TooEarly(ended_at + self.timing.claim_margin));
        }
        let claim = Claim { holder: self.holder.clone(), at: now };
        self.call(Stage::Claim, Request::Claim { job: job.reference(), seen: job.claim, claim })
    }

    /// Makes the claim one that is over, so that anybody may take it at once.
    fn let_go(&mut self, job: &Job, why: String) -> Step<PublicationEnd> {
        let over = Claim { holder: self.holder.clone(), at: Timestamp::UNIX_EPOCH };
        let request = Request::Claim { job: job.reference(), seen: job.claim.clone(), claim: over };
        self.call(Stage::LetGo(why), request)
    }

    /// Moves the item, if it is to be moved, as item and Job are now.
    fn reread(&mut self, item: Option<&WorkItem>, job: Option<Box<Job>>) -> Step<PublicationEnd> {
        let is_ours = |job: &Job| {
            job.uid == self.subject.job.uid
                && job.phase == JobPhase::Claimed
                && job.claim.as_ref().is_some_and(|claim| claim.holder == self.holder)
        };
        let Some(job) = job.filter(|job| is_ours(job)) else { return stopped("the claim was lost") };
        let (outcome, started) = (self.outcome.as_ref(), self.started.as_ref());
        let target = item.zip(started).and_then(|(item, started)| target(item, &job, outcome, started));
        match target.cloned() {
            Some(to) => self.call(Stage::Write(job), Request::WriteState { item: self.subject.item, to }),
            None => self.mark(),
        }
    }
}

fn stopped(why: &str) -> Step<PublicationEnd> {
    Step::Done(PublicationEnd::Stopped(why.to_owned()))
}

/// Where a published run's item goes. Nothing moves one that a person has completed, cancelled or
/// withdrawn, and nothing moves one back to before *started*. One that is (again) before *started*
/// is a person's request only if we are known to have moved it away; else it is moved now, once,
/// or it would be taken for a request that nobody made. A run that was cancelled because its item
/// was unwanted moves nothing: an item that is wanted again is wanted (moved to *started*, with
/// its parked line gone, it would be forgotten: the simulator found that in 18 steps).
fn target<'m>(
    item: &WorkItem,
    job: &Job,
    outcome: Option<&'m StateTarget>,
    started: &'m StateTarget,
) -> Option<&'m StateTarget> {
    let outcome = match job.cancel.as_ref().map(|cancel| cancel.reason) {
        None => outcome.filter(|to| *to != started),
        Some(CancelReason::Person) => None,
        Some(CancelReason::Unwanted | CancelReason::Replaced) => return None,
    };
    match item.group {
        _ if item.withdrawn => None,
        StateGroup::Backlog | StateGroup::Unstarted => {
            let was_moved = job.item_state.as_ref().is_some_and(|state| state.acknowledged);
            (!was_moved).then(|| outcome.unwrap_or(started))
        }
        StateGroup::Started => outcome.filter(|to| **to != StateTarget::Named(item.state.clone())),
        StateGroup::Completed | StateGroup::Cancelled | StateGroup::Triage => None,
    }
}
