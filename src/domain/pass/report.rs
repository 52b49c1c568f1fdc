//! What a pass leaves to its caller.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::domain::decision::Verdict;
use crate::domain::job::JobRef;
use crate::domain::name::RunId;
use crate::domain::work_item::{ItemRef, WorkItem};

/// How a pass ended.
#[derive(Debug, Clone)]
pub enum PassEnd<'w> {
    /// It went through; single effects may have failed (see [`PassReport::problems`]).
    Complete(Box<PassReport<'w>>),
    /// The ledger is garbage or of an unknown version: nothing was changed (exit 2).
    LedgerBroken(String),
    /// A needed service did not answer, or others changed the ledger again and again. Nothing was
    /// lost: a later pass goes on from there (exit 75).
    Unfinished(String),
}

/// What a pass did, and what is to be done after it.
#[derive(Debug, Clone, Default)]
pub struct PassReport<'w> {
    /// The hinted tasks, and what else was admitted, cancelled, or could not be carried out.
    pub outcomes: Vec<TaskOutcome<'w>>,
    /// Runs whose item is to be moved to *started*, if it still should: one `StartWrite` each.
    pub start_writes: Vec<Subject>,
    /// Ended runs that wait for publication: one `Publication` each.
    pub publishable: Vec<Subject>,
    /// Runs that were let go in this pass.
    pub released: Vec<JobRef>,
    /// Another pass, right after this one, would get further.
    pub again: bool,
    /// When another pass would get further (a back-off ends), if nothing else happens before.
    pub wake_at: Option<Timestamp>,
    /// What became of the run that a person wanted stopped.
    pub stop: Option<StopOutcome>,
    /// Effects that had no answer: a later pass repeats them (exit 75). One sentence each.
    pub problems: Vec<String>,
    /// Runs that were published: filled in by who publishes.
    pub published: Vec<RunId>,
    /// When the first of those may be published that may not yet: filled in by who publishes.
    pub publishable_at: Option<Timestamp>,
    /// Ended runs that could not be published, and why: filled in by who publishes.
    pub unpublished: BTreeMap<RunId, String>,
    /// The ledger as this pass left it in its main swap.
    pub ledger: crate::domain::ledger::Ledger,
    /// Namespaces that could not be read.
    pub unreadable: Vec<String>,
}

/// What became of one task.
#[derive(Debug, Clone)]
pub struct TaskOutcome<'w> {
    /// Its item.
    pub item: ItemRef,
    /// The pass was called for it.
    pub hinted: bool,
    /// The item as the pass read it, where it did.
    pub read: Option<Box<WorkItem>>,
    /// The verdict; `None`: its item could not be read, or its run's cancellation had no answer: a later pass
    /// will tell.
    pub verdict: Option<Verdict<'w>>,
    /// The run, where it has one.
    pub run: Option<RunId>,
    /// A lost run is replaced by this one.
    pub replaces: Option<RunId>,
    /// It was to be admitted, and the world refused it for good: why. It waits, blocked.
    pub refused: Option<String>,
}

/// A Job, and the item that it works for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    /// The Job.
    pub job: JobRef,
    /// The item.
    pub item: ItemRef,
}

/// What became of a run that a person wanted stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopOutcome {
    /// It had not begun and never will.
    Withdrawn,
    /// It is marked cancelled and stops.
    Cancelled,
    /// It has ended already.
    Ended,
    /// No such run lives.
    Unknown,
    /// Its namespace or Job could not be read.
    Unreadable,
}

/// Carried along and shown, but no part of what a machine *is*: two machines that differ only in
/// this act alike. Keeps the simulator's states few.
#[derive(Debug, Clone, Default)]
pub(super) struct Aside<T>(pub(super) T);

impl<T> PartialEq for Aside<T> {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl<T> Eq for Aside<T> {}

impl<T> std::hash::Hash for Aside<T> {
    fn hash<H: std::hash::Hasher>(&self, _state: &mut H) {}
}
