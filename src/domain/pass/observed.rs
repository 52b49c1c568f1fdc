//! What a pass has gathered, and which Job belongs to which entry.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::call::{ItemRead, Listing, OrphanPod};
use crate::domain::job::{Job, JobRef};
use crate::domain::ledger::{Entry, EntryState, Ledger};
use crate::domain::name::RunId;
use crate::domain::work_item::ItemRef;

/// Everything that was read, in the order in which it was read: ledger, Jobs, look-ups, results, items.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Observed {
    pub(super) ledger: Ledger,
    /// The server's time.
    pub(super) now: Timestamp,
    /// By namespace; `None` where it could not be read.
    pub(super) listings: BTreeMap<String, Option<Listing>>,
    /// Entries whose Job was not listed, looked up by name.
    pub(super) lookups: Vec<(RunId, Lookup)>,
    /// UIDs of failed Jobs of which it could not be read whether they had pushed their result before.
    pub(super) unread_results: BTreeSet<String>,
    pub(super) items: BTreeMap<ItemRef, ItemRead>,
}

/// A Job that was looked up because the list did not have it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Lookup {
    Found(Box<Job>),
    Absent,
    Unknown,
}

/// What is known about the Job of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen<'o> {
    /// It could not be read: nothing follows.
    Unknown,
    /// This is it.
    Job(&'o Job),
    /// There is none (or one of the same name that is not it).
    Gone {
        /// A pod of it has not ended.
        pod_alive: bool,
    },
}

impl Observed {
    pub(super) fn new(ledger: Ledger, now: Timestamp) -> Self {
        Self {
            ledger,
            now,
            listings: BTreeMap::new(),
            lookups: Vec::new(),
            unread_results: BTreeSet::new(),
            items: BTreeMap::new(),
        }
    }

    /// Notes that this Job had done its work before it failed.
    pub(super) fn has_result(&mut self, wanted: &JobRef) {
        let listed = self.listings.values_mut().flatten().flat_map(|listing| &mut listing.jobs);
        let looked_up = self.lookups.iter_mut().filter_map(|(_, lookup)| match lookup {
            Lookup::Found(job) => Some(&mut **job),
            Lookup::Absent | Lookup::Unknown => None,
        });
        for end in
            listed.chain(looked_up).filter(|job| job.uid == wanted.uid).filter_map(|job| job.end.as_mut())
        {
            end.failure = None;
        }
    }

    pub(super) fn index(&self) -> Index<'_> {
        let mut index = Index::default();
        for (namespace, listing) in &self.listings {
            let Some(listing) = listing else { continue };
            index.readable.insert(namespace);
            index.orphans.extend(&listing.orphans);
            for job in &listing.jobs {
                index.jobs.insert((namespace, &job.run), job);
            }
        }
        index.lookups = self.lookups.iter().map(|(run, lookup)| (run, lookup)).collect();
        index.orphan_uids = index.orphans.iter().map(|orphan| orphan.job_uid.as_str()).collect();
        index
    }

    pub(super) fn item(&self, item: ItemRef) -> &ItemRead {
        self.items.get(&item).unwrap_or(&ItemRead::Unread)
    }
}

/// Quick ways into what was observed.
#[derive(Debug, Default)]
pub(super) struct Index<'o> {
    readable: BTreeSet<&'o str>,
    /// Listed Jobs by namespace and name.
    jobs: BTreeMap<(&'o str, &'o RunId), &'o Job>,
    lookups: BTreeMap<&'o RunId, &'o Lookup>,
    orphans: Vec<&'o OrphanPod>,
    orphan_uids: BTreeSet<&'o str>,
}

impl<'o> Index<'o> {
    pub(super) fn is_readable(&self, namespace: &str) -> bool {
        self.readable.contains(namespace)
    }

    /// The names of all listed Jobs.
    pub(super) fn runs(&self) -> impl Iterator<Item = &'o RunId> {
        self.jobs.keys().map(|(_, run)| *run)
    }

    /// The listed Job of an entry's name, whatever its UID.
    pub(super) fn listed(&self, entry: &'o Entry) -> Option<&'o Job> {
        self.jobs.get(&(entry.namespace.as_str(), &entry.run)).copied()
    }

    /// The Job of an entry. Only a UID makes it the entry's own; until there is one, the name does,
    /// because the ledger fixed the name for it.
    pub(super) fn seen(&self, entry: &'o Entry) -> Seen<'o> {
        if !self.is_readable(&entry.namespace) {
            return Seen::Unknown;
        }
        let is_own = |job: &Job| entry.uid.as_ref().is_none_or(|uid| *uid == job.uid);
        if let Some(job) = self.listed(entry) {
            return if is_own(job) { Seen::Job(job) } else { self.gone(entry) };
        }
        match self.lookups.get(&entry.run) {
            Some(Lookup::Found(job)) if is_own(job) => Seen::Job(job),
            Some(Lookup::Unknown) => Seen::Unknown,
            // Not looked up: a reserved entry without a listed Job; creating it will tell.
            Some(Lookup::Found(_) | Lookup::Absent) | None => self.gone(entry),
        }
    }

    fn gone(&self, entry: &Entry) -> Seen<'o> {
        let pod_alive = entry.uid.as_ref().is_some_and(|uid| self.orphan_uids.contains(uid.as_str()));
        Seen::Gone { pod_alive }
    }

    /// Listed Jobs that no entry names.
    pub(super) fn unnamed(&self, ledger: &Ledger) -> Vec<&'o Job> {
        let names: BTreeMap<(&str, &RunId), Option<&String>> = ledger
            .entries
            .iter()
            .map(|entry| ((entry.namespace.as_str(), &entry.run), entry.uid.as_ref()))
            .collect();
        let is_named = |job: &Job| {
            names
                .get(&(job.namespace.as_str(), &job.run))
                .is_some_and(|uid| uid.is_none_or(|uid| *uid == job.uid))
        };
        self.jobs.values().copied().filter(|job| !is_named(job)).collect()
    }

    /// Pods that outlive a Job which no entry names.
    pub(super) fn unnamed_orphans(&self, ledger: &Ledger) -> Vec<&'o OrphanPod> {
        let uids: BTreeSet<&str> = ledger.entries.iter().filter_map(|entry| entry.uid.as_deref()).collect();
        self.orphans.iter().copied().filter(|orphan| !uids.contains(orphan.job_uid.as_str())).collect()
    }

    /// Whether a namespace was read completely and has nothing of ours.
    pub(super) fn is_empty(&self, namespace: &str, observed: &Observed) -> bool {
        let listing = observed.listings.get(namespace).and_then(Option::as_ref);
        listing.is_some_and(|listing| listing.jobs.is_empty() && listing.orphans.is_empty())
    }
}

/// Whether an entry counts against its agent's capacity: reserved, unfinished, not to be read, or
/// with a pod that has not ended.
pub(super) fn counts(entry: &Entry, seen: Seen) -> bool {
    match seen {
        Seen::Unknown => true,
        Seen::Gone { pod_alive } => pod_alive || entry.state == EntryState::Reserved,
        Seen::Job(job) => job.pod_alive || (job.cancel.is_none() && job.end.is_none()),
    }
}
