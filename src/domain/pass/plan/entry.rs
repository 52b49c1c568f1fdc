//! What becomes of each entry of the ledger.

use jiff::Timestamp;

use super::{Planner, reference, start, subject};
use crate::domain::decision::Verdict;
use crate::domain::job::{CancelReason, Job, JobPhase};
use crate::domain::ledger::{Entry, EntryState};
use crate::domain::pass::call::ItemRead;
use crate::domain::pass::edit;
use crate::domain::pass::observed::Seen;
use crate::domain::pass::report::StopOutcome;
use crate::domain::result::FailureClass;
use crate::domain::task::{Refusal, Task};
use crate::domain::work_item::WorkItem;

/// What an item that was read says about the run of its entry.
enum Wish<'o, 'w> {
    /// It could not be read: nothing follows.
    Unknown,
    /// It goes on.
    Wanted(&'o WorkItem, Verdict<'w>),
    /// It is to stop.
    Unwanted(Verdict<'w>),
}

/// The entry of a Job that may run or could have run. A ledger that says less is older than the
/// Job (restored from a copy), or a person cancelled the Job before it was confirmed: the Job is right.
fn started(entry: &Entry, job: &Job) -> Entry {
    Entry { state: EntryState::Started, uid: Some(job.uid.clone()), ..entry.clone() }
}

/// `not_before` of a started entry that a person stopped: it is never begun again.
const STOPPED: Timestamp = Timestamp::MAX;

fn is_stopped(entry: &Entry) -> bool {
    entry.state == EntryState::Started && entry.not_before == Some(STOPPED)
}

impl<'o, 'w> Planner<'o, '_, 'w> {
    pub(super) fn weigh_entries(&mut self) {
        let observed = self.observed;
        for entry in &observed.ledger.entries {
            let seen = self.index.seen(entry);
            let is_asked = self.basis.stop == Some(&entry.run);
            if (is_asked || is_stopped(entry)) && self.stop(entry, seen, is_asked) {
                continue;
            }
            match seen {
                Seen::Unknown => {
                    self.goes_on(entry.clone(), seen);
                    let item = self.observed.item(reference(entry));
                    let known = matches!(item, ItemRead::Found(_));
                    let verdict = known.then(|| self.already_running(entry));
                    self.tell(reference(entry), verdict, Some(&entry.run));
                }
                Seen::Gone { .. } if entry.state == EntryState::Reserved => self.weigh_unmade(entry, seen),
                Seen::Gone { pod_alive: true } => self.lingers(entry, seen),
                Seen::Gone { pod_alive: false } => self.prune_parked(entry, true),
                Seen::Job(job) if job.phase == JobPhase::Queued => self.weigh_queued(entry, job, seen),
                Seen::Job(job) => {
                    let entry = &started(entry, job);
                    match (job.phase, &job.end) {
                        (JobPhase::Cancelled, _) => self.weigh_cancelled(entry, job, seen),
                        _ if job.cancel.is_some() => self.weigh_cancelled(entry, job, seen),
                        (JobPhase::Queued | JobPhase::Released, None) => self.weigh_running(entry, job, seen),
                        (JobPhase::Queued | JobPhase::Released, Some(_)) => {
                            self.weigh_ended(entry, job, seen)
                        }
                        (JobPhase::Published, _) if !job.pod_alive => {}
                        (JobPhase::Claimed | JobPhase::Published, _) => {
                            self.take_over(job);
                            self.lingers(entry, seen);
                        }
                    }
                }
            }
        }
    }

    /// The entry stays, and so does its run.
    fn goes_on(&mut self, entry: Entry, seen: Seen) {
        self.settled.insert(entry.item);
        self.keep(entry, seen);
    }

    /// The entry stays; its run is over, and nothing is admitted for its task until it has gone.
    fn lingers(&mut self, entry: &Entry, seen: Seen) {
        self.unpublished.insert(entry.item, entry.run.clone());
        self.keep(entry.clone(), seen);
    }

    /// The entry goes; the task was begun and not published.
    fn prune_parked(&mut self, entry: &Entry, used: bool) {
        edit::park(&mut self.ledger, edit::parked(entry, used));
        let now = self.now();
        self.waiting.entry(entry.item).or_insert_with(|| edit::hint_of(entry, now));
        self.follow_up.again = true;
    }

    fn already_running(&self, entry: &Entry) -> Verdict<'w> {
        Verdict::AlreadyRunning { run: entry.run.clone(), agent: entry.agent.clone() }
    }

    fn wish(&self, entry: &Entry) -> Wish<'o, 'w> {
        let observed = self.observed;
        let item = match observed.item(reference(entry)) {
            ItemRead::Unread => return Wish::Unknown,
            ItemRead::Gone => None,
            ItemRead::Found(item) => Some(&**item),
        };
        match (item, self.judge_live(item, entry)) {
            (Some(item), verdict @ Verdict::AlreadyRunning { .. }) => Wish::Wanted(item, verdict),
            (_, verdict) => Wish::Unwanted(verdict),
        }
    }

    /// Notes that a run is to stop, and that its task waits if another role is asked for.
    fn tell_unwanted(&mut self, entry: &Entry, verdict: Verdict<'w>) {
        self.waiting.remove(&entry.item);
        if let Verdict::Cancelled { wait_for_new_role: true, .. } = verdict {
            self.wait(reference(entry), entry.task.sequence());
        }
        self.tell(reference(entry), Some(verdict), Some(&entry.run));
    }

    /// The item can no longer be carried out as it is written: a person has to change it.
    fn tell_refused(&mut self, entry: &Entry, refusal: Refusal) {
        self.waiting.remove(&entry.item);
        self.tell(reference(entry), Some(Verdict::Refused(refusal)), Some(&entry.run));
    }

    /// Reserved, and no Job is there yet.
    fn weigh_unmade(&mut self, entry: &Entry, seen: Seen) {
        let (item, verdict) = match self.wish(entry) {
            Wish::Unknown => {
                self.tell(reference(entry), None, Some(&entry.run));
                return self.goes_on(entry.clone(), seen);
            }
            Wish::Unwanted(verdict) => {
                self.prune_parked(entry, false);
                self.settled.insert(entry.item);
                return self.tell_unwanted(entry, verdict);
            }
            Wish::Wanted(item, verdict) => (item, verdict),
        };
        let stamp = &self.basis.workforce.registry().stamp;
        if entry.registry != *stamp && !self.is_old_registry() {
            // Its agent, prompt and limits are those of another revision: admitted anew, in this pass.
            return self.prune_parked(entry, false);
        }
        if entry.registry == *stamp {
            match Task::from_item(item, self.basis.workforce.registry()) {
                Err(refusal) => {
                    self.prune_parked(entry, false);
                    self.settled.insert(entry.item);
                    return self.tell_refused(entry, refusal);
                }
                Ok(task) => {
                    if self.is_due(entry.not_before) {
                        self.effects.creates.push(start(entry, item, task, self.basis, self.now()));
                    }
                }
            }
        }
        self.waiting.remove(&entry.item);
        self.tell(reference(entry), Some(verdict), Some(&entry.run));
        self.goes_on(entry.clone(), seen);
    }

    /// Whether the time has come; if not, somebody has to come back for it.
    pub(super) fn is_due(&mut self, not_before: Option<Timestamp>) -> bool {
        match not_before {
            Some(at) if at > self.now() => {
                self.wake_at(at);
                false
            }
            _ => true,
        }
    }

    /// Its Job is there, suspended.
    fn weigh_queued(&mut self, entry: &Entry, job: &'o Job, seen: Seen) {
        match self.wish(entry) {
            Wish::Unknown => {
                self.tell(reference(entry), None, Some(&entry.run));
                self.goes_on(entry.clone(), seen);
            }
            Wish::Unwanted(verdict) => {
                self.give_up_queued(entry, job, seen);
                self.tell_unwanted(entry, verdict);
            }
            Wish::Wanted(item, verdict) => match Task::from_item(item, self.basis.workforce.registry()) {
                Err(refusal) => {
                    self.give_up_queued(entry, job, seen);
                    self.tell_refused(entry, refusal);
                }
                Ok(task) => {
                    let start = (start(entry, item, task, self.basis, self.now()), job.reference());
                    match entry.state {
                        EntryState::Reserved => self.effects.confirms.push(start),
                        EntryState::Started => self.effects.releases.push(start),
                    }
                    self.waiting.remove(&entry.item);
                    self.tell(reference(entry), Some(verdict), Some(&entry.run));
                    self.goes_on(entry.clone(), seen);
                }
            },
        }
    }

    /// A suspended Job that is not to run. Of a reserved run it can be deleted, because nobody can
    /// confirm it any more; of a started one only the mark on the Job stops a release.
    fn give_up_queued(&mut self, entry: &Entry, job: &Job, seen: Seen) {
        self.settled.insert(entry.item);
        match entry.state {
            EntryState::Reserved => {
                self.prune_parked(entry, false);
                self.running.add(&entry.agent);
                self.effects.deletes.push(job.reference());
            }
            EntryState::Started => {
                self.effects.cancels.push((job.reference(), CancelReason::Unwanted));
                self.keep(entry.clone(), seen);
            }
        }
    }

    /// It may run, and has not ended.
    fn weigh_running(&mut self, entry: &Entry, job: &'o Job, seen: Seen) {
        match self.wish(entry) {
            Wish::Unknown => self.tell(reference(entry), None, Some(&entry.run)),
            Wish::Unwanted(verdict) => {
                self.effects.cancels.push((job.reference(), CancelReason::Unwanted));
                self.tell_unwanted(entry, verdict);
            }
            Wish::Wanted(_, verdict) => {
                self.waiting.remove(&entry.item);
                self.tell(reference(entry), Some(verdict), Some(&entry.run));
            }
        }
        if job.item_state.as_ref().is_none_or(|state| !state.acknowledged) {
            self.follow_up.start_writes.push(subject(job));
        }
        self.goes_on(entry.clone(), seen);
    }

    /// It has ended, and nobody has claimed it: up to the claim the run is live.
    fn weigh_ended(&mut self, entry: &Entry, job: &'o Job, seen: Seen) {
        if job.pod_alive {
            // Not yet over after all: nothing follows from its end until no pod is left.
            return self.goes_on(entry.clone(), seen);
        }
        let may_retry = job.failure_class() == Some(FailureClass::Infrastructure)
            && self.next_attempt(entry, self.is_by_hand(entry.item)).is_some();
        match self.wish(entry) {
            Wish::Unwanted(verdict) => {
                self.effects.cancels.push((job.reference(), CancelReason::Unwanted));
                self.tell_unwanted(entry, verdict);
            }
            // Left until its item is read, and whether its work is done already.
            Wish::Unknown if may_retry => self.tell(reference(entry), None, Some(&entry.run)),
            Wish::Wanted(_, verdict) if may_retry && self.observed.unread_results.contains(&job.uid) => {
                self.tell(reference(entry), Some(verdict), Some(&entry.run));
            }
            Wish::Wanted(..) if may_retry => self.failed.push((reference(entry), job)),
            wish => {
                self.follow_up.publishable.push(subject(job));
                let verdict = match wish {
                    Wish::Wanted(_, verdict) => Some(verdict),
                    Wish::Unwanted(_) | Wish::Unknown => None,
                };
                self.tell(reference(entry), verdict, Some(&entry.run));
            }
        }
        self.goes_on(entry.clone(), seen);
    }

    /// Its Job carries our mark. The entry goes once no pod is left, not when the mark is asked for.
    fn weigh_cancelled(&mut self, entry: &Entry, job: &'o Job, seen: Seen) {
        let reason = job.cancel.as_ref().map(|cancel| cancel.reason);
        let is_published = job.phase == JobPhase::Published;
        if !is_published {
            self.unpublished.insert(entry.item, entry.run.clone());
            self.take_over(job);
            if !job.pod_alive && job.phase == JobPhase::Cancelled {
                self.follow_up.publishable.push(subject(job));
            }
        }
        if job.pod_alive {
            return self.lingers(entry, seen);
        }
        match reason {
            // A person stopped it: it ends like a run that ended by itself.
            Some(CancelReason::Person) if is_published => {}
            Some(CancelReason::Person) => self.lingers(entry, seen),
            _ => self.prune_parked(entry, true),
        }
    }

    /// A person wants this run stopped. The wish is kept in the entry, so that no pass that read
    /// the Jobs before the mark replaces a lost attempt, and so that any later pass makes the mark
    /// where this one dies before. `false`: the entry is weighed like any other.
    fn stop(&mut self, entry: &Entry, seen: Seen<'o>, is_asked: bool) -> bool {
        let (outcome, done) = match (entry.state, seen) {
            (_, Seen::Unknown) => (StopOutcome::Unreadable, false),
            (EntryState::Reserved, Seen::Gone { .. }) => (StopOutcome::Withdrawn, true),
            (EntryState::Started, Seen::Gone { .. }) => (StopOutcome::Ended, false),
            (EntryState::Reserved, Seen::Job(job)) if job.phase == JobPhase::Queued => {
                self.running.add(&entry.agent);
                self.effects.deletes.push(job.reference());
                (StopOutcome::Withdrawn, true)
            }
            (_, Seen::Job(job)) => {
                let is_lost = job.failure_class() == Some(FailureClass::Infrastructure);
                let goes_on = job.end.is_none() || is_lost;
                if goes_on && matches!(job.phase, JobPhase::Queued | JobPhase::Released) {
                    self.effects.cancels.push((job.reference(), CancelReason::Person));
                    let stopped = Entry { not_before: Some(STOPPED), ..started(entry, job) };
                    self.keep(stopped, seen);
                    (StopOutcome::Cancelled, true)
                } else {
                    (StopOutcome::Ended, false)
                }
            }
        };
        if is_asked {
            self.follow_up.stop = Some(outcome);
        }
        if done {
            self.settled.insert(entry.item);
            self.waiting.remove(&entry.item);
        }
        done
    }
}
