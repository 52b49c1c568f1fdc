//! What each call does to the world, and what the mutations make of it.

use std::sync::Arc;

use astra_dispatch::domain::job::{Cancel, CancelReason, Claim, Job, JobPhase, JobRef};
use astra_dispatch::domain::ledger::{EntryState, Ledger};
use astra_dispatch::domain::pass::{
    ItemRead, LedgerRead, Listing, NewJob, Request, Response, StateTarget, Version,
};
use astra_dispatch::domain::work_item::{ItemRef, WorkItem};

use crate::config::Mutation;
use crate::dispatcher::Activity;
use crate::world::{Answer, Fault, NOW, World, long_ago, written};

impl World {
    /// Makes a call for a dispatcher.
    pub(crate) fn perform(&mut self, dispatcher: usize, request: &Request) -> Response {
        match request {
            Request::ReadLedger => {
                self.dispatchers[dispatcher].stale = false;
                let ledger = self.ledger();
                let ledger = self.dispatchers[dispatcher].misread(ledger, self.config);
                Response::Ledger(LedgerRead { ledger, version: Version(None), now: NOW })
            }
            Request::ListJobs(namespace) => Response::Jobs(self.list(dispatcher, namespace)),
            Request::FindJob { namespace, .. } if self.is_unseen(dispatcher, namespace) => {
                Response::Job(None, NOW)
            }
            Request::FindJob { namespace, run } => {
                let found = self.jobs.iter().find(|job| job.namespace == *namespace && job.run == *run);
                Response::Job(found.map(|job| Box::new(self.aged(dispatcher, job))), NOW)
            }
            Request::FindResult(job) => {
                let is_read = self.config.mutation != Some(Mutation::ResultNotRead);
                done(is_read && self.pushed.contains(&job.uid))
            }
            Request::ReadItems(items) => self.read_items(dispatcher, items),
            Request::Swap { ledger, .. } => self.swap(dispatcher, ledger),
            Request::Create(new) => self.create(dispatcher, new),
            Request::WriteSecret(..) | Request::Pause(_) => Response::Done,
            Request::Release(job) => self.release(job),
            Request::Cancel(job, reason) => {
                self.excuse_stale(dispatcher, job);
                self.cancel(job, *reason)
            }
            Request::Delete(job) => self.delete(job),
            Request::Close(job) => {
                self.excuse_stale(dispatcher, job);
                self.close(job)
            }
            Request::Claim { job, seen, claim } => self.claim(job, seen.as_ref(), claim),
            Request::Deliver(job) => self.deliver(job),
            Request::WriteState { item, to } => self.land(item.item, to),
            Request::RecordState(job, state) => {
                if self.config.mutation == Some(Mutation::NoRecord) {
                    return Response::Done;
                }
                let change = self.job_mut(job).map(|job| job.item_state = Some(state.clone()));
                done(change.is_some())
            }
            Request::MarkPublished(job, holder) => self.mark_published(job, holder),
        }
    }

    fn create(&mut self, dispatcher: usize, new: &NewJob) -> Response {
        let is_same = |job: &&Arc<Job>| job.namespace == new.namespace && job.run == new.run;
        if let Some(job) = self.jobs.iter().find(is_same) {
            return Response::Exists(Box::new(Job::clone(job)));
        }
        let uid = format!("u:{}", self.draw());
        let mut job = new.queued(uid.clone(), NOW);
        if self.config.mutation == Some(Mutation::CreatedRunning) {
            job.phase = JobPhase::Released;
            job.pod_alive = true;
        }
        let place = self.jobs.partition_point(|other| other.item <= job.item);
        self.jobs.insert(place, Arc::new(job));
        if self.config.mutation == Some(Mutation::ConfirmByName) {
            self.dispatchers[dispatcher].last_created = Some((new.run.clone(), uid.clone()));
        }
        Response::Created(uid)
    }

    fn deliver(&mut self, job: &Job) -> Response {
        let known = self.jobs.iter().find(|known| known.uid == job.uid);
        if known.is_some_and(|known| known.cancel.is_some() && job.cancel.is_none()) {
            self.breaks("a cancelled run is published as if it were not");
        }
        Response::Delivered(Some(StateTarget::Named("In Review".to_owned())))
    }

    /// What was decided on a ledger that is lost since takes its only trace with it.
    fn excuse_stale(&mut self, dispatcher: usize, job: &JobRef) {
        if self.ledger_was_lost && self.dispatchers[dispatcher].stale {
            let item = self.jobs.iter().find(|known| known.uid == job.uid).map(|known| known.item);
            if let Some(place) = item.map(|item| self.place_of(item)) {
                self.ghosts[place].excuse();
            }
        }
    }

    fn list(&self, dispatcher: usize, namespace: &str) -> Listing {
        let mutation = self.config.mutation;
        if self.is_unseen(dispatcher, namespace) {
            return Listing::default();
        }
        let (jobs, orphans) = match &self.dispatchers[dispatcher].early {
            Some(early) => (&early.0, &early.1),
            None => (&self.jobs, &self.orphans),
        };
        let jobs = jobs
            .iter()
            .filter(|job| job.namespace == namespace && job.phase != JobPhase::Published)
            .filter(|job| mutation != Some(Mutation::UnnamedIgnored) || !self.is_unnamed_queued(job))
            .map(|job| Job { claim: self.aged(dispatcher, job).claim, ..Job::clone(job) })
            .collect();
        let orphans = match mutation {
            Some(Mutation::OrphanPodsIgnored) => Vec::new(),
            _ => orphans.iter().filter(|pod| pod.agent.namespace() == namespace).cloned().collect(),
        };
        Listing { jobs, orphans }
    }

    /// For a mutation: the namespace of an agent that has left is not looked at.
    fn is_unseen(&self, dispatcher: usize, namespace: &str) -> bool {
        let dispatcher = &self.dispatchers[dispatcher];
        self.config.mutation == Some(Mutation::RemovedNamespaceNotListed)
            && matches!(dispatcher.activity, Some(Activity::Pass(_)))
            && !dispatcher.workforce.registry().agents.keys().any(|agent| agent.namespace() == namespace)
    }

    fn is_unnamed_queued(&self, job: &Job) -> bool {
        job.phase == JobPhase::Queued
            && !self.ledger.as_ref().is_some_and(|ledger| ledger.entries.iter().any(|e| e.run == job.run))
    }

    /// A Job as a publisher reads it: times count as long past unless somebody may still be at work
    /// in the time that the margins are made for.
    fn aged(&self, dispatcher: usize, job: &Job) -> Job {
        let mut job = job.clone();
        let aged = if self.is_being_written(job.item) { NOW } else { long_ago() };
        if let Some(end) = &mut job.end {
            end.at = aged;
        }
        if let Some(cancel) = &mut job.cancel {
            cancel.at = aged;
        }
        if let Some(claim) = &mut job.claim {
            let is_held = self.dispatchers.iter().any(|other| other.holds(&claim.holder));
            claim.at = if is_held || self.is_being_written(job.item) { NOW } else { long_ago() };
        }
        if self.config.mutation == Some(Mutation::NoRecord) && self.dispatchers[dispatcher].is_publishing() {
            job.item_state = Some(written("Todo", "In Progress"));
        }
        job
    }

    fn read_items(&mut self, dispatcher: usize, items: &[ItemRef]) -> Response {
        let allowed =
            items.iter().map(|item| self.place_of(item.item)).filter(|place| self.ghosts[*place].may);
        let allowed: Vec<usize> = allowed.collect();
        self.dispatchers[dispatcher].asked_when_read = allowed;
        let read = |item: &ItemRef| {
            ItemRead::Found(Box::new(WorkItem::clone(&self.items[self.place_of(item.item)])))
        };
        Response::Items(items.iter().map(read).collect())
    }

    fn swap(&mut self, dispatcher: usize, ledger: &Ledger) -> Response {
        let mutation = self.config.mutation;
        let is_equal = self.dispatchers[dispatcher].ledger_read.as_deref() == Some(ledger);
        let is_blind = mutation == Some(Mutation::BlindSwap)
            || (mutation == Some(Mutation::NoSwapWhereEqual) && is_equal)
            || (mutation == Some(Mutation::ConfirmIgnored) && self.dispatchers[dispatcher].is_confirming());
        if mutation == Some(Mutation::ConfirmSkipped) && self.dispatchers[dispatcher].is_confirming() {
            return Response::Done;
        }
        if self.dispatchers[dispatcher].stale {
            if !is_blind {
                return Response::Missed;
            }
            if mutation != Some(Mutation::BlindSwap) {
                return Response::Done;
            }
        }
        let old = self.ledger();
        let ledger = self.dispatchers[dispatcher].mutilated(ledger.clone(), self);
        if old == ledger {
            return Response::Done;
        }
        if mutation == Some(Mutation::UnnamedIgnored) && !self.dispatchers[dispatcher].is_confirming() {
            let unnamed = self.jobs.iter().filter(|job| self.is_unnamed_queued(job));
            let unnamed: Vec<JobRef> = unnamed.map(|job| job.reference()).collect();
            self.dispatchers[dispatcher].also_delete = unnamed;
        }
        self.check_admissions(dispatcher, &old, &ledger);
        self.ledger = Some(Arc::new(ledger));
        for (number, other) in self.dispatchers.iter_mut().enumerate() {
            other.stale |= number != dispatcher;
        }
        Response::Done
    }

    /// Whatever is admitted was asked for when the pass read it.
    fn check_admissions(&mut self, dispatcher: usize, old: &Ledger, new: &Ledger) {
        for entry in &new.entries {
            let place = self.place_of(entry.item);
            let is_new = !old.entries.iter().any(|other| other.run == entry.run);
            let is_adopted = entry.uid.is_some();
            if is_new && !is_adopted && !self.dispatchers[dispatcher].asked_when_read.contains(&place) {
                self.breaks(format!("a run of task {} is admitted that nobody asked for", place + 1));
            }
            if entry.attempt > self.config.max_attempts {
                self.breaks(format!("attempt {} of task {}", entry.attempt, place + 1));
            }
        }
    }

    fn release(&mut self, job: &JobRef) -> Response {
        let unconditional = self.config.mutation == Some(Mutation::ReleaseUnconditional);
        let is_started = self.ledger.as_ref().is_some_and(|ledger| {
            ledger.entries.iter().any(|entry| {
                entry.run == job.run
                    && entry.state == EntryState::Started
                    && entry.uid.as_ref() == Some(&job.uid)
            })
        });
        let lost = self.ledger_was_lost;
        let Some(found) = self.job_mut(job) else { return Response::Missed };
        if found.phase != JobPhase::Queued && !unconditional {
            return Response::Missed;
        }
        let was = found.phase;
        found.phase = JobPhase::Released;
        found.pod_alive = found.end.is_none();
        if was == JobPhase::Published {
            self.breaks("a published Job is released");
        }
        if was == JobPhase::Cancelled {
            self.breaks("a cancelled Job is released");
        }
        if !is_started && !lost && was == JobPhase::Queued {
            self.breaks("a Job is released that the ledger does not call started with its UID");
        }
        Response::Done
    }

    fn cancel(&mut self, job: &JobRef, reason: CancelReason) -> Response {
        let unconditional = self.config.mutation == Some(Mutation::CancelUnconditional);
        let Some(found) = self.job_mut(job) else { return Response::Missed };
        if !matches!(found.phase, JobPhase::Queued | JobPhase::Released) && !unconditional {
            return Response::Missed;
        }
        let was_published = found.phase == JobPhase::Published;
        found.phase = JobPhase::Cancelled;
        found.cancel = Some(Cancel { reason, at: NOW });
        let item = found.item;
        if was_published {
            self.breaks("a published Job is cancelled");
        }
        if reason == CancelReason::Person {
            let place = self.place_of(item);
            self.ghosts[place].stop();
        }
        Response::Done
    }

    fn delete(&mut self, job: &JobRef) -> Response {
        let unconditional = self.config.mutation == Some(Mutation::DeleteUnconditional);
        let is_named = self.ledger.as_ref().is_some_and(|ledger| {
            let names = |uid: &Option<String>| uid.as_ref().is_none_or(|uid| *uid == job.uid);
            ledger.entries.iter().any(|entry| entry.run == job.run && names(&entry.uid))
        });
        // A Job whose Secret is refused is deleted before its entry goes.
        let is_queued = self.job_mut(job).is_some_and(|job| job.phase == JobPhase::Queued);
        if is_named && is_queued && !unconditional && !self.config.has(Fault::Refusal) {
            self.breaks("a Job is deleted that the ledger names");
        }
        let by_name = self.jobs.iter().find(|known| known.run == job.run).map(|known| known.reference());
        if let (true, Some(job)) = (unconditional, by_name) {
            return self.remove(&job);
        }
        match self.job_mut(job).map(|job| job.phase) {
            None => Response::Done,
            Some(JobPhase::Queued) => self.remove(job),
            Some(_) => Response::Missed,
        }
    }

    fn close(&mut self, job: &JobRef) -> Response {
        let Some(found) = self.job_mut(job) else { return Response::Done };
        match found.phase {
            JobPhase::Published => Response::Done,
            JobPhase::Released if found.end.is_some() => {
                found.phase = JobPhase::Published;
                found.cancel = Some(Cancel { reason: CancelReason::Replaced, at: NOW });
                if self.pushed.contains(&job.uid) {
                    self.breaks("work that was done is done again");
                }
                Response::Done
            }
            _ => Response::Missed,
        }
    }

    fn claim(&mut self, job: &JobRef, seen: Option<&Claim>, claim: &Claim) -> Response {
        let is_shared = self.config.mutation == Some(Mutation::ClaimShared);
        let Some(found) = self.job_mut(job) else { return Response::Missed };
        let may = match found.phase {
            JobPhase::Released | JobPhase::Cancelled => seen.is_none(),
            JobPhase::Claimed => {
                is_shared
                    || seen.is_some_and(|seen| found.claim.as_ref().is_some_and(|c| c.holder == seen.holder))
            }
            JobPhase::Queued | JobPhase::Published => false,
        };
        if !may {
            return Response::Missed;
        }
        found.phase = JobPhase::Claimed;
        found.claim = Some(claim.clone());
        Response::Job(Some(Box::new(found.clone())), NOW)
    }

    fn mark_published(&mut self, job: &JobRef, holder: &str) -> Response {
        let is_shared = self.config.mutation == Some(Mutation::ClaimShared);
        let Some(found) = self.job_mut(job) else { return Response::Missed };
        let is_held = found.claim.as_ref().is_some_and(|claim| claim.holder == holder);
        if found.phase != JobPhase::Claimed || !(is_held || is_shared) {
            return Response::Missed;
        }
        found.phase = JobPhase::Published;
        let (item, is_answer) = (found.item, found.is_answer());
        if is_answer {
            let place = self.place_of(item);
            self.ghosts[place].answer();
        }
        Response::Done
    }
}

fn done(done: bool) -> Response {
    if done { Response::Done } else { Response::Missed }
}
