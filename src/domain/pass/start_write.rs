//! Moves the item of a run that has begun to *started*: re-read item, re-read Job, write, record.
//! A run that ends, is cancelled or published meanwhile is not moved any more; one whose write is
//! under way is not claimed before it is over (see [`Timing::claim_margin`](super::Timing)).

use super::call::{ItemRead, Request, Response, StateTarget, Step};
use super::report::Subject;
use crate::domain::job::{Job, JobPhase};
use crate::domain::work_item::{StateGroup, WorkItem};

/// One *started* write.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StartWrite {
    subject: Subject,
    target: StateTarget,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Stage {
    Begin,
    Item,
    Job,
    Write,
    Record,
}

/// How a *started* write ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum StartWriteEnd {
    /// Written and recorded.
    Recorded,
    /// There is nothing (more) to be written.
    NotNeeded,
    /// No answer, or too late: the next pass asks for it again if it is still needed. Why.
    Dropped(String),
}

impl StartWrite {
    /// A write that has not begun.
    pub fn new(subject: Subject, target: StateTarget) -> Self {
        Self { subject, target, stage: Stage::Begin }
    }

    /// Takes the answers to the calls before (none at the beginning), and says what to do next.
    pub fn step(&mut self, mut responses: Vec<Response>) -> Step<StartWriteEnd> {
        let item = self.subject.item;
        match (self.stage, responses.pop()) {
            (Stage::Begin, _) => self.call(Stage::Item, Request::ReadItems(vec![item])),
            (Stage::Item, Some(Response::Items(reads))) => match reads.first() {
                Some(ItemRead::Found(item)) if may_be_started(item) => {
                    let request = Request::FindJob {
                        namespace: self.subject.job.namespace.clone(),
                        run: self.subject.job.run.clone(),
                    };
                    self.call(Stage::Job, request)
                }
                Some(ItemRead::Found(_) | ItemRead::Gone) => Step::Done(StartWriteEnd::NotNeeded),
                Some(ItemRead::Unread) | None => dropped("the item could not be read"),
            },
            (Stage::Job, Some(Response::Job(job, _))) => match job {
                Some(job) if job.uid == self.subject.job.uid && needs_start(&job) => {
                    // Also where the item is there already: an answer may have been lost, and only
                    // an acknowledged write is recorded.
                    self.call(Stage::Write, Request::WriteState { item, to: self.target.clone() })
                }
                _ => Step::Done(StartWriteEnd::NotNeeded),
            },
            (Stage::Write, Some(Response::Written(state))) => {
                self.call(Stage::Record, Request::RecordState(self.subject.job.clone(), state))
            }
            (Stage::Write, Some(Response::Missed)) => dropped("it was too late to send it"),
            (Stage::Record, Some(Response::Done)) => Step::Done(StartWriteEnd::Recorded),
            (Stage::Record, Some(Response::Missed)) => Step::Done(StartWriteEnd::NotNeeded),
            (_, Some(other)) => dropped(&other.why()),
            (_, None) => dropped("there was no answer"),
        }
    }

    fn call(&mut self, stage: Stage, request: Request) -> Step<StartWriteEnd> {
        self.stage = stage;
        Step::Call(vec![request])
    }
}

fn dropped(why: &str) -> Step<StartWriteEnd> {
    Step::Done(StartWriteEnd::Dropped(why.to_owned()))
}

/// Nobody has ended or withdrawn it.
fn may_be_started(item: &WorkItem) -> bool {
    !item.withdrawn && matches!(item.group, StateGroup::Backlog | StateGroup::Unstarted | StateGroup::Started)
}

/// Released, unfinished, and no acknowledged write yet.
fn needs_start(job: &Job) -> bool {
    job.phase == JobPhase::Released
        && job.end.is_none()
        && job.cancel.is_none()
        && job.item_state.as_ref().is_none_or(|state| !state.acknowledged)
}
