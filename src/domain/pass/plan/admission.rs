//! Who is admitted: lost attempts first, then everything that waits, in the order of the list.

use jiff::Timestamp;

use super::{Planner, start};
use crate::domain::decision::{Situation, Verdict, WaitingBecause, judge};
use crate::domain::job::Job;
use crate::domain::ledger::{Entry, EntryState, Waiting};
use crate::domain::name::{AgentName, ItemId, RunId, RunSuffix, TaskKey};
use crate::domain::pass::call::ItemRead;
use crate::domain::pass::fingerprint::fingerprint;
use crate::domain::pass::report::TaskOutcome;
use crate::domain::task::Task;
use crate::domain::work_item::{ItemRef, Priority, WorkItem};

/// The number and the begin of the count of a task's next attempt.
pub(super) struct Attempt {
    number: u32,
    since: Timestamp,
}

/// An item that may be admitted.
struct Applicant<'o> {
    item: &'o WorkItem,
    since: Timestamp,
}

impl<'o, 'w> Planner<'o, '_, 'w> {
    pub(super) fn is_by_hand(&self, item: ItemId) -> bool {
        self.hint(item).is_some_and(|hint| hint.by_hand)
    }

    /// The attempt after a lost one; `None`: there were as many as there may be.
    pub(super) fn next_attempt(&self, entry: &Entry, by_hand: bool) -> Option<Attempt> {
        let within = self.basis.timing.attempts_within.as_secs();
        let elapsed = u64::try_from(self.now().duration_since(entry.since).as_secs()).unwrap_or(0);
        if elapsed >= within {
            return Some(Attempt { number: 1, since: self.now() });
        }
        let has_another = entry.attempt < self.basis.workforce.registry().max_attempts;
        (has_another || by_hand)
            .then(|| Attempt { number: entry.attempt.saturating_add(1), since: entry.since })
    }

    /// Attempts that were lost to the infrastructure: each is replaced in this one swap, or stays
    /// until there is a slot.
    pub(super) fn replace_failed(&mut self) {
        for (reference, job) in std::mem::take(&mut self.failed) {
            let observed = self.observed;
            let ItemRead::Found(item) = observed.item(reference) else { continue };
            // Another Job of the task must go first.
            let verdict = self.judge_applicant(item, Some(job));
            let place = self.ledger.entries.iter().position(|entry| entry.run == job.run);
            let attempt = place
                .and_then(|place| self.next_attempt(&self.ledger.entries[place], self.is_by_hand(job.item)));
            match (verdict, place, attempt) {
                (Verdict::Dispatched { task, agent, candidates }, Some(place), Some(attempt)) => {
                    let backoff = self.basis.timing.backoff_before(attempt.number);
                    let not_before = (attempt.number > 1).then(|| self.now() + backoff);
                    let entry = self.reserve(&task, &agent.name, attempt, not_before);
                    self.effects.closes.push((job.reference(), job.item));
                    self.begin(&entry, item, (*task).clone());
                    let run = entry.run.clone();
                    self.ledger.entries[place] = entry;
                    self.outcomes.push(TaskOutcome {
                        item: reference,
                        hinted: self.hint(job.item).is_some(),
                        read: Some(item.clone()),
                        verdict: Some(Verdict::Dispatched { task, agent, candidates }),
                        run: Some(run),
                        replaces: Some(job.run.clone()),
                        refused: None,
                    });
                }
                (verdict, ..) => self.tell(reference, Some(verdict), Some(&job.run)),
            }
        }
    }

    /// Everything that was read and has no run that goes on.
    pub(super) fn admit_waiting(&mut self) {
        let mut applicants = Vec::new();
        let observed = self.observed;
        for (reference, read) in &observed.items {
            if self.settled.contains(&reference.item) {
                continue;
            }
            match read {
                ItemRead::Found(item) => {
                    let since = self.waiting.get(&item.id).map_or(self.now(), |hint| hint.since);
                    applicants.push(Applicant { item, since });
                }
                ItemRead::Gone => {
                    self.waiting.remove(&reference.item);
                    let verdict = judge(None, self.basis.workforce, &Situation::fresh(&self.running));
                    self.tell(*reference, Some(verdict), None);
                }
                ItemRead::Unread => {
                    // Nothing is lost: the next pass that can read it will find it.
                    if self.hint(reference.item).is_some() {
                        self.wait(*reference, 0);
                    }
                    self.tell(*reference, None, None);
                }
            }
        }
        applicants.sort_by_key(|one| (one.item.priority, one.since, one.item.sequence, one.item.id));
        for applicant in &applicants {
            self.weigh_applicant(applicant);
        }
    }

    /// Judges an item as one without a live run; `replaced` is the lost attempt that it had.
    fn judge_applicant(&self, item: &WorkItem, replaced: Option<&Job>) -> Verdict<'w> {
        let registry = self.basis.workforce.registry();
        let parked = self.ledger.parked.iter().find(|line| line.item == item.id);
        let blocked = self.ledger.blocked.iter().find(|line| {
            line.item == item.id
                && self.now() < line.retry_at
                && line.fingerprint == fingerprint(item, &registry.stamp)
        });
        let verdict = judge(
            Some(item),
            self.basis.workforce,
            &Situation {
                live: None,
                unpublished: self.unpublished.get(&item.id),
                parked: parked.is_some() || replaced.is_some(),
                blocked: blocked.map(|line| line.reason.as_str()),
                attempts_exhausted: parked.is_some_and(|line| line.attempt >= registry.max_attempts),
                by_hand: self.is_by_hand(item.id),
                running: &self.running,
            },
        );
        match verdict {
            Verdict::Dispatched { task, candidates, .. } if self.is_old_registry() => {
                Verdict::Waiting { reason: WaitingBecause::OldRegistry, task, candidates }
            }
            verdict => verdict,
        }
    }

    fn weigh_applicant(&mut self, applicant: &Applicant<'o>) {
        let item = applicant.item;
        let verdict = self.judge_applicant(item, None);
        match &verdict {
            Verdict::Dispatched { task, agent, .. } => {
                let run = self.admit(item, task, &agent.name);
                self.tell(item.reference(), Some(verdict), Some(&run));
            }
            Verdict::Waiting { .. } => {
                let hint = Waiting {
                    item: item.id,
                    project: item.project,
                    priority: item.priority,
                    since: applicant.since,
                    sequence: item.sequence,
                };
                self.waiting.insert(item.id, hint);
                if let Some(line) = self.ledger.blocked.iter().find(|line| line.item == item.id) {
                    self.wake_at(line.retry_at);
                }
                let run = self.unpublished.get(&item.id).cloned();
                self.tell(item.reference(), Some(verdict), run.as_ref());
            }
            Verdict::Ignored { .. } | Verdict::Refused(_) => {
                self.waiting.remove(&item.id);
                self.tell(item.reference(), Some(verdict), None);
            }
            // Only a live run is cancelled or goes on, and there is none.
            Verdict::Cancelled { .. } | Verdict::AlreadyRunning { .. } => {}
        }
    }

    /// Admits a task: its entry, and the Job to be created.
    fn admit(&mut self, item: &WorkItem, task: &Task, agent: &AgentName) -> RunId {
        let parked = self.ledger.parked.iter().find(|line| line.item == item.id);
        let number = parked.map_or(0, |line| line.attempt).saturating_add(1);
        let attempt = Attempt { number, since: self.now() };
        let entry = self.reserve(task, agent, attempt, None);
        self.begin(&entry, item, task.clone());
        let run = entry.run.clone();
        self.ledger.entries.push(entry);
        run
    }

    /// Takes a slot, and clears what the ledger had about the task.
    fn reserve(
        &mut self,
        task: &Task,
        agent: &AgentName,
        attempt: Attempt,
        not_before: Option<Timestamp>,
    ) -> Entry {
        let stamp = &self.basis.workforce.registry().stamp;
        if stamp.ordinal >= self.ledger.registry.ordinal {
            self.ledger.registry = stamp.clone();
        }
        self.ledger.parked.retain(|line| line.item != task.item);
        self.ledger.blocked.retain(|line| line.item != task.item);
        self.waiting.remove(&task.item);
        self.settled.insert(task.item);
        self.running.add(agent);
        Entry {
            run: self.draw(&task.key),
            task: task.key.clone(),
            item: task.item,
            project: task.project,
            agent: agent.clone(),
            namespace: agent.namespace(),
            attempt: attempt.number,
            registry: stamp.clone(),
            state: EntryState::Reserved,
            uid: None,
            since: attempt.since,
            not_before,
        }
    }

    fn begin(&mut self, entry: &Entry, item: &WorkItem, task: Task) {
        if self.is_due(entry.not_before) {
            self.effects.creates.push(start(entry, item, task, self.basis, self.now()));
        }
    }

    /// A name that nothing known to this pass has.
    fn draw(&self, task: &TaskKey) -> RunId {
        let mut number = self.basis.seed ^ task.sequence().rotate_left(32);
        loop {
            number = mixed(number);
            let run = RunId::new(task, RunSuffix::from_number(number));
            if !self.known_runs.contains(&run) {
                return run;
            }
        }
    }

    /// Adds a hint for a task of which no more is known.
    pub(super) fn wait(&mut self, item: ItemRef, sequence: u64) {
        let since = self.now();
        self.waiting.entry(item.item).or_insert(Waiting {
            item: item.item,
            project: item.project,
            priority: Priority::None,
            since,
            sequence,
        });
    }
}

/// One step of splitmix64: neighbouring numbers become unlike ones.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
