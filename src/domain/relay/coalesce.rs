//! Which events are forwarded as one. Plane sends an event for every changed key, from parallel
//! workers, and nothing joins them but the work item and the time; each carries the whole item. So
//! what is waiting for the same item goes out as one, and the newest stands for all.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

/// How long after its first event an edit is taken to be complete.
pub const SETTLE: Duration = Duration::from_secs(2);
/// How many fields of further events are named.
const MOST_FIELDS: usize = 40;
/// How long the name of a field may be.
const LONGEST_FIELD: usize = 40;

/// An event that waits to be forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Its number; later events have higher ones.
    pub id: i64,
    /// The work item; an event without one goes by itself.
    pub item: Option<Uuid>,
    /// The changed field.
    pub field: Option<String>,
    /// When the item was last changed, as of this event.
    pub updated_at: Option<Timestamp>,
    /// When it arrived.
    pub received_at: Timestamp,
}

/// Events that are forwarded as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// The event that stands for all.
    pub newest: i64,
    /// All of them.
    pub ids: Vec<i64>,
    /// The fields of the others, each once.
    pub fields: Vec<String>,
    /// When it may go: not before this.
    pub due: Timestamp,
}

/// Joins the events of the same item; the edit that is due first comes first.
pub fn edits(pending: &[Pending]) -> Vec<Edit> {
    let mut of_items: BTreeMap<Uuid, Vec<&Pending>> = BTreeMap::new();
    let mut edits = Vec::new();
    for event in pending {
        match event.item {
            Some(item) => of_items.entry(item).or_default().push(event),
            None => edits.extend(edit(&[event])),
        }
    }
    edits.extend(of_items.values().filter_map(|events| edit(events)));
    edits.sort_by_key(|edit| (edit.due, edit.newest));
    edits
}

fn edit(events: &[&Pending]) -> Option<Edit> {
    // Events of one edit have the same state of the item; then the first speaks.
    let newest = events.iter().max_by_key(|event| (event.updated_at, std::cmp::Reverse(event.id)))?;
    let first = events.iter().map(|event| event.received_at).min()?;
    let mut fields: Vec<String> = Vec::new();
    for event in events.iter().filter(|event| event.id != newest.id) {
        let Some(field) = event.field.as_deref().filter(|field| is_name(field)) else { continue };
        if fields.len() < MOST_FIELDS && !fields.iter().any(|known| known == field) {
            fields.push(field.to_owned());
        }
    }
    let due = first.checked_add(SETTLE).unwrap_or(first);
    Some(Edit { newest: newest.id, ids: events.iter().map(|event| event.id).collect(), fields, due })
}

fn is_name(field: &str) -> bool {
    (1..=LONGEST_FIELD).contains(&field.len())
        && field.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: i64, item: u128, field: &str, updated: i64, received: i64) -> Pending {
        Pending {
            id,
            item: (item > 0).then(|| Uuid::from_u128(item)),
            field: Some(field.to_owned()),
            updated_at: Some(Timestamp::from_second(updated).unwrap()),
            received_at: Timestamp::from_second(received).unwrap(),
        }
    }

    #[test]
    fn the_newest_state_of_an_item_stands_for_all_its_events() {
        let pending = [
            event(1, 7, "name", 10, 100),
            event(2, 7, "labels", 30, 101),
            event(3, 7, "state", 20, 102),
            event(4, 7, "name", 20, 103),
            event(5, 8, "name", 20, 99),
        ];
        let found = edits(&pending);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].ids, [5]);
        assert_eq!((found[1].newest, found[1].ids.as_slice()), (2, [1, 2, 3, 4].as_slice()));
        assert_eq!(found[1].fields, ["name", "state"]);
        assert_eq!(found[1].due.as_second(), 102);
    }

    #[test]
    fn events_without_an_item_go_by_themselves() {
        let found = edits(&[event(1, 0, "a", 1, 1), event(2, 0, "a", 1, 1)]);
        assert_eq!(found.iter().map(|edit| edit.ids.len()).collect::<Vec<_>>(), [1, 1]);
    }

    #[test]
    fn what_is_named_is_short() {
        let mut pending = vec![event(0, 7, "newest", 9, 9)];
        pending.extend((1..200).map(|id| event(id, 7, &format!("field_{id}"), 1, 1)));
        pending.push(event(500, 7, &"x".repeat(41), 1, 1));
        pending.push(event(501, 7, "\u{1b}[31m", 1, 1));
        let found = edits(&pending);
        assert_eq!(found[0].fields.len(), MOST_FIELDS);
        assert!(found[0].fields.iter().all(|field| field.starts_with("field_")));
    }

    #[test]
    fn nothing_waits_for_nothing() {
        assert!(edits(&[]).is_empty());
    }
}
