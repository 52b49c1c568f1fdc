//! What must hold in every state, and what must come of every state once nothing goes wrong any
//! more and one fresh dispatcher is left.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

use astra_dispatch::domain::job::{Job, JobPhase};

use crate::config::Mutation;
use crate::dispatcher::{Dispatcher, How};
use crate::search::fingerprint;
use crate::world::{FloatingWrite, World};

/// Rounds until which everything has settled.
const ROUNDS: usize = 24;

impl World {
    /// Safety: in every state, no task has two live runs, and no agent more than it may have.
    pub(crate) fn check(&mut self) {
        let mut of_item: BTreeMap<_, u32> = BTreeMap::new();
        let mut of_agent: BTreeMap<_, u32> = BTreeMap::new();
        let alive = self.jobs.iter().filter(|job| is_alive(job)).map(|job| (job.item, &job.agent));
        let orphans = self.orphans.iter().map(|pod| (pod.item, &pod.agent));
        for (item, agent) in alive.chain(orphans) {
            *of_item.entry(item).or_default() += 1;
            *of_agent.entry(agent.clone()).or_default() += 1;
        }
        if of_item.values().any(|count| *count > 1) {
            self.breaks("two runs of one task live at once");
        }
        if of_agent.values().any(|count| *count > 1) {
            self.breaks("an agent has more runs than it may have");
        }
    }

    /// Liveness: whatever happened, one fresh dispatcher brings everything to an end: what somebody
    /// waits for is carried out and published, and nothing is left over. Answers the broken rule.
    pub(crate) fn settles(&self, settled: &mut HashSet<u64>) -> Option<String> {
        let mut world = self.clone();
        world.dispatchers.iter_mut().for_each(Dispatcher::die);
        for FloatingWrite { item, to } in std::mem::take(&mut world.floating) {
            world.land(item, &to);
        }
        world.dispatchers.truncate(1);
        let fresh = &mut world.dispatchers[0];
        fresh.workforce = world.config.workforce;
        fresh.is_old = false;
        fresh.passes_left = 0;
        world.budget.clear();
        if !settled.insert(fingerprint(&world)) {
            return None;
        }
        let mut last = 0;
        for _ in 0..ROUNDS {
            world.run_pass();
            world.end_all();
            if world.broken.is_some() {
                return world.broken.map(|rule| format!("afterwards: {rule}"));
            }
            let now = fingerprint(&world);
            if now == last {
                return world.left_over();
            }
            last = now;
        }
        Some("afterwards: it never settles".to_owned())
    }

    /// One whole pass of the fresh dispatcher, and all that it leaves to be done.
    fn run_pass(&mut self) {
        self.dispatchers[0].passes_left = 1;
        while self.advance(0, How::Well) {
            self.check();
        }
    }

    /// Runs and pods come to their end.
    fn end_all(&mut self) {
        self.orphans.clear();
        let running: Vec<_> =
            self.jobs.iter().filter(|job| is_alive(job)).map(|job| job.reference()).collect();
        for job in running {
            let is_cancelled = self.jobs.iter().any(|known| known.uid == job.uid && known.cancel.is_some());
            if is_cancelled {
                if let Some(job) = self.job_mut(&job) {
                    job.pod_alive = false;
                }
            } else {
                self.end(&job, None);
            }
        }
    }

    /// What should not be there once everything has settled.
    fn left_over(&self) -> Option<String> {
        let ledger = self.ledger();
        for (task, ghost) in self.ghosts.iter().enumerate() {
            let item = self.items[task].id;
            let is_exhausted = ledger
                .parked
                .iter()
                .any(|line| line.item == item && line.attempt >= self.config.max_attempts);
            let is_blocked = ledger.blocked.iter().any(|line| line.item == item);
            if ghost.must && !is_exhausted && !is_blocked {
                return Some(format!("task {} is forgotten", task + 1));
            }
        }
        // A creator that is slower than the removal of its agent, and then dies, leaves a suspended
        // Job in a namespace that is forgotten. It never runs.
        let is_forgotten = |job: &Job| {
            let agents = &self.config.workforce.registry().agents;
            let is_unlisted = !agents.contains_key(&job.agent) && !ledger.namespaces.contains(&job.namespace);
            let is_ignored = self.config.mutation == Some(Mutation::UnnamedIgnored);
            job.phase == JobPhase::Queued && (is_unlisted || is_ignored)
        };
        let is_left = |job: &&Arc<Job>| job.phase != JobPhase::Published && !is_forgotten(job);
        if let Some(job) = self.jobs.iter().find(is_left) {
            return Some(format!("the Job {} is left in phase {:?} for ever", job.run, job.phase));
        }
        ledger.entries.first().map(|entry| format!("the entry of {} is left for ever", entry.run))
    }

    /// The world as a person sees it, for traces.
    pub(crate) fn picture(&self) -> String {
        let mut picture = String::new();
        let ledger = self.ledger();
        for item in &self.items {
            let _ = writeln!(picture, "  item {}: {} {:?}", item.sequence, item.state, item.labels);
        }
        for entry in &ledger.entries {
            let _ = writeln!(
                picture,
                "  entry {} {:?} {:?} attempt {}",
                entry.run, entry.state, entry.uid, entry.attempt
            );
        }
        for line in &ledger.parked {
            let _ = writeln!(picture, "  parked {} attempt {}", line.task, line.attempt);
        }
        for hint in &ledger.waiting {
            let _ = writeln!(picture, "  waiting {}", hint.sequence);
        }
        for job in &self.jobs {
            let _ = writeln!(
                picture,
                "  Job {} {} {:?} cancel {:?} end {:?} pod {} record {:?}",
                job.run,
                job.uid,
                job.phase,
                job.cancel.as_ref().map(|cancel| cancel.reason),
                job.end.as_ref().map(|_| job.failure_class()),
                job.pod_alive,
                job.item_state.as_ref().map(|state| &state.to)
            );
        }
        let _ = writeln!(picture, "  orphans {} ghosts {:?}", self.orphans.len(), self.ghosts);
        picture
    }
}

fn is_alive(job: &Arc<Job>) -> bool {
    job.pod_alive
}
