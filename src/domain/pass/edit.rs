//! Changes of the ledger that more than one place makes.

use jiff::Timestamp;

use crate::domain::ledger::{Blocked, Entry, EntryState, Ledger, Parked, WAITING_LIMIT, Waiting};
use crate::domain::name::RunId;
use crate::domain::work_item::Priority;

/// What an entry leaves behind that ends in any way but *published*: the ledger remembers what it
/// has begun. An attempt that was never let go is not used up.
pub(super) fn parked(entry: &Entry, used: bool) -> Parked {
    Parked {
        task: entry.task.clone(),
        item: entry.item,
        project: entry.project,
        attempt: if used { entry.attempt } else { entry.attempt.saturating_sub(1) },
    }
}

/// Adds a parked line; there is one for a task.
pub(super) fn park(ledger: &mut Ledger, line: Parked) {
    ledger.parked.retain(|other| other.item != line.item);
    ledger.parked.push(line);
}

/// The hint that an entry leaves behind, when its item is not at hand.
pub(super) fn hint_of(entry: &Entry, now: Timestamp) -> Waiting {
    Waiting {
        item: entry.item,
        project: entry.project,
        priority: Priority::None,
        since: now,
        sequence: entry.task.sequence(),
    }
}

/// Puts the waiting list in the order of admission and cuts it to the head.
pub(super) fn order_waiting(waiting: &mut Vec<Waiting>) {
    waiting.sort_by_key(|hint| (hint.priority, hint.since, hint.sequence, hint.item));
    waiting.truncate(WAITING_LIMIT);
}

/// A change that is made after the main swap, in a swap of its own: what it means is decided on
/// the ledger as it is then.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Edit {
    /// The Job of a reserved run is there: `reserved → started{uid}`.
    Confirm { run: RunId, uid: String },
    /// The run cannot be begun: its entry goes, unless somebody else has begun it.
    Retract {
        run: RunId,
        /// The UID of its Job, if it had been confirmed (the Job is deleted).
        uid: Option<String>,
        /// The world refused it for good.
        blocked: Option<Blocked>,
    },
}

/// Makes one change. Answers whether the ledger now says what the change wanted it to say: that
/// the run is started with that UID, or that its entry is gone.
pub(super) fn apply(ledger: &mut Ledger, edit: &Edit, now: Timestamp) -> bool {
    match edit {
        Edit::Confirm { run, uid } => {
            let Some(entry) = ledger.entries.iter_mut().find(|entry| entry.run == *run) else { return false };
            if entry.state == EntryState::Reserved {
                entry.state = EntryState::Started;
                entry.uid = Some(uid.clone());
            }
            entry.uid.as_ref() == Some(uid)
        }
        Edit::Retract { run, uid, blocked } => {
            let Some(place) = ledger.entries.iter().position(|entry| entry.run == *run) else { return true };
            if ledger.entries[place].uid != *uid {
                return false;
            }
            let entry = ledger.entries.remove(place);
            park(ledger, parked(&entry, false));
            ledger.waiting.retain(|hint| hint.item != entry.item);
            ledger.waiting.push(hint_of(&entry, now));
            order_waiting(&mut ledger.waiting);
            if let Some(blocked) = blocked {
                ledger.blocked.retain(|other| other.item != blocked.item);
                ledger.blocked.push(blocked.clone());
            }
            true
        }
    }
}
