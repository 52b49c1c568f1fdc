use super::*;
use crate::domain::ledger::{Parked, Waiting};
use crate::domain::registry;
use crate::domain::task::tests::item;
use crate::domain::work_item::Priority;

fn numbered(number: u128, labels: &[&str]) -> WorkItem {
    WorkItem { id: ItemId(uuid::Uuid::from_u128(number)), ..item(labels) }
}

fn hinted(listed: &[WorkItem], ledger: &Ledger) -> (Vec<ItemId>, Vec<ItemId>) {
    let found = Found::new(listed, ledger, &registry::sample());
    (found.hints.iter().map(|hint| hint.item.item).collect(), found.unannounced.into_iter().collect())
}

#[test]
fn only_items_that_ask_for_an_agent_and_are_unknown_are_looked_at() {
    let coder = ["agent:coder"];
    let group = |number, group| WorkItem { group, ..numbered(number, &coder) };
    let listed = [
        numbered(1, &coder),
        numbered(2, &[]),
        WorkItem { withdrawn: true, ..numbered(3, &coder) },
        group(4, StateGroup::Backlog),
        group(5, StateGroup::Started),
        group(6, StateGroup::Completed),
        group(7, StateGroup::Cancelled),
        group(8, StateGroup::Started),
        numbered(9, &coder),
    ];
    let known = &listed[8];
    let mut ledger = Ledger::default();
    let parked = &listed[7];
    ledger.parked.push(Parked {
        task: "AST-8".parse().unwrap(),
        item: parked.id,
        project: parked.project,
        attempt: 1,
    });
    ledger.waiting.push(Waiting {
        item: known.id,
        project: known.project,
        priority: Priority::None,
        since: Timestamp::UNIX_EPOCH,
        sequence: 9,
    });
    let id = |number| ItemId(uuid::Uuid::from_u128(number));
    assert_eq!(hinted(&listed, &ledger), (vec![id(1), id(4), id(8)], vec![id(1), id(4)]));

    // A full list may have had no room for what was told.
    ledger.waiting = vec![ledger.waiting[0].clone(); WAITING_LIMIT];
    assert_eq!(hinted(&listed, &ledger).1, []);
}

/// The schema that scripts may rely on. `ASTRA_UPDATE_SCHEMAS=1 cargo test` writes it.
#[test]
fn the_schema_is_checked_in() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/schema/sweep.json");
    let schema = serde_json::to_string_pretty(&schemars::schema_for!(SweepReport)).unwrap() + "\n";
    if std::env::var_os("ASTRA_UPDATE_SCHEMAS").is_some() {
        std::fs::write(path, &schema).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), schema);
}
