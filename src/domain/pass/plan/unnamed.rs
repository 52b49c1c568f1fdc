//! Jobs that no entry names: a creator was too slow, or the ledger was lost. They are put right
//! first: nothing is admitted for their tasks, or into their slots, in the same pass.

use super::{Planner, subject};
use crate::domain::job::{CancelReason, Job, JobPhase};
use crate::domain::ledger::{Entry, EntryState};
use crate::domain::result::FailureClass;

impl<'o> Planner<'o, '_, '_> {
    pub(super) fn weigh_unnamed(&mut self) {
        let observed = self.observed;
        for orphan in self.index.unnamed_orphans(&observed.ledger) {
            self.running.add(&orphan.agent);
            self.unpublished.insert(orphan.item, orphan.run.clone());
        }
        for job in self.index.unnamed(&observed.ledger) {
            self.unpublished.entry(job.item).or_insert_with(|| job.run.clone());
            let is_unfinished = job.cancel.is_none() && job.end.is_none();
            if job.pod_alive || is_unfinished {
                self.running.add(&job.agent);
            }
            self.weigh_unnamed_job(job);
        }
    }

    fn weigh_unnamed_job(&mut self, job: &'o Job) {
        match (job.phase, &job.end) {
            (JobPhase::Claimed | JobPhase::Published, _) => self.take_over(job),
            (JobPhase::Cancelled, _) => {
                if !job.pod_alive {
                    self.follow_up.publishable.push(subject(job));
                }
            }
            (JobPhase::Queued, _) => self.effects.deletes.push(job.reference()),
            (JobPhase::Released, end) => {
                let has_entry = self.observed.ledger.entries.iter().any(|entry| entry.item == job.item);
                let is_infrastructure = job.failure_class() == Some(FailureClass::Infrastructure);
                if is_infrastructure && (has_entry || self.is_parked(job.item)) {
                    // Another attempt has taken its place.
                    self.effects.closes.push((job.reference(), job.item));
                    self.follow_up.again = true;
                } else if !has_entry {
                    self.adopt(job);
                } else if end.is_none() {
                    // A task has one run: the one that the ledger names.
                    self.effects.cancels.push((job.reference(), CancelReason::Replaced));
                } else if !job.pod_alive {
                    self.follow_up.publishable.push(subject(job));
                }
            }
        }
    }

    /// The ledger was lost: the Job is taken back into it. What follows from it, a later pass sees.
    fn adopt(&mut self, job: &Job) {
        self.settled.insert(job.item);
        self.follow_up.again = true;
        self.ledger.entries.push(Entry {
            run: job.run.clone(),
            task: job.task.clone(),
            item: job.item,
            project: job.project,
            agent: job.agent.clone(),
            namespace: job.namespace.clone(),
            attempt: job.attempt,
            registry: job.registry.clone(),
            state: EntryState::Started,
            uid: Some(job.uid.clone()),
            since: job.created_at,
            not_before: None,
        });
    }
}
