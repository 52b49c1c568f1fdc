//! What a pass has to read: namespaces, Jobs that are missing from a list, work items.

use std::collections::{BTreeMap, BTreeSet};

use super::call::Hint;
use super::fingerprint;
use super::observed::{Index, Observed, Seen, counts};
use crate::domain::job::{Job, JobPhase, JobRef};
use crate::domain::ledger::{Entry, EntryState, Ledger};
use crate::domain::name::{AgentName, RunId};
use crate::domain::registry::{Registry, Status};
use crate::domain::result::FailureClass;
use crate::domain::work_item::ItemRef;

/// The namespaces of the registry, of entries, and those that were ever admitted into: an agent
/// that has left the registry may still have a Job.
pub(super) fn namespaces(ledger: &Ledger, registry: &Registry) -> BTreeSet<String> {
    registry
        .agents
        .keys()
        .map(AgentName::namespace)
        .chain(ledger.entries.iter().map(|entry| entry.namespace.clone()))
        .chain(ledger.namespaces.iter().cloned())
        .collect()
}

/// Started entries whose Job is in no list: published and gone differ.
pub(super) fn missing(observed: &Observed) -> Vec<(String, RunId)> {
    let index = observed.index();
    observed
        .ledger
        .entries
        .iter()
        .filter(|entry| entry.uid.is_some() && index.is_readable(&entry.namespace))
        .filter(|entry| index.listed(entry).is_none())
        .map(|entry| (entry.namespace.clone(), entry.run.clone()))
        .collect()
}

/// Started entries whose Job failed by the machine's fault: what it pushed before need not be done again.
pub(super) fn lost(observed: &Observed) -> Vec<JobRef> {
    let index = observed.index();
    let is_lost = |job: &&Job| {
        job.phase == JobPhase::Released
            && job.cancel.is_none()
            && !job.pod_alive
            && job.failure_class() == Some(FailureClass::Infrastructure)
    };
    let seen = observed.ledger.entries.iter().filter_map(|entry| match index.seen(entry) {
        Seen::Job(job) => Some(job),
        Seen::Unknown | Seen::Gone { .. } => None,
    });
    seen.filter(is_lost).map(Job::reference).collect()
}

/// The items to read: the hinted ones, those of every entry that may have to be decided about,
/// and, where an agent has a free slot, all that wait (one list request brings them all, and the
/// head alone may be of another role than the free slot). A blocked one is left alone until its
/// time or another registry has come.
pub(super) fn items(observed: &Observed, hints: &[Hint], registry: &Registry) -> Vec<ItemRef> {
    let index = observed.index();
    let ledger = &observed.ledger;
    let mut items: BTreeSet<ItemRef> = hints.iter().map(|hint| hint.item).collect();
    let undecided = |entry: &&Entry| is_undecided(entry, index.seen(entry));
    items.extend(ledger.entries.iter().filter(undecided).map(reference));
    if has_free_slot(ledger, &index, registry) {
        let blocked: BTreeSet<ItemRef> = ledger
            .blocked
            .iter()
            .filter(|blocked| {
                observed.now < blocked.retry_at
                    && fingerprint::is_of_registry(&blocked.fingerprint, &registry.stamp)
            })
            .map(|blocked| ItemRef { project: blocked.project, item: blocked.item })
            .collect();
        let waiting = ledger.waiting.iter().map(|hint| ItemRef { project: hint.project, item: hint.item });
        items.extend(waiting.filter(|item| !blocked.contains(item)));
    }
    items.into_iter().collect()
}

pub(super) fn reference(entry: &Entry) -> ItemRef {
    ItemRef { project: entry.project, item: entry.item }
}

/// Everything but a run that simply goes on, or that a publisher is at work on.
fn is_undecided(entry: &Entry, seen: Seen) -> bool {
    match seen {
        Seen::Unknown => false,
        Seen::Gone { .. } => true,
        Seen::Job(job) => match job.phase {
            JobPhase::Queued | JobPhase::Cancelled => true,
            JobPhase::Released => job.end.is_some() || entry.state == EntryState::Reserved,
            JobPhase::Claimed | JobPhase::Published => false,
        },
    }
}

fn has_free_slot(ledger: &Ledger, index: &Index, registry: &Registry) -> bool {
    let mut taken: BTreeMap<&AgentName, u32> = BTreeMap::new();
    for entry in ledger.entries.iter().filter(|entry| counts(entry, index.seen(entry))) {
        *taken.entry(&entry.agent).or_default() += 1;
    }
    registry.agents.values().any(|agent| {
        agent.status == Status::Active
            && taken.get(&agent.name).copied().unwrap_or(0) < agent.max_concurrent_tasks
    })
}
