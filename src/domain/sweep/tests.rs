use super::*;
use crate::domain::job::{Cancel, CancelReason};
use crate::domain::ledger::{Parked, Waiting};
use crate::domain::pass::NewJob;
use crate::domain::registry;
use crate::domain::task::tests::item;
use crate::domain::work_item::Priority;

fn numbered(number: u128, labels: &[&str]) -> WorkItem {
    WorkItem { id: ItemId(uuid::Uuid::from_u128(number)), ..item(labels) }
}

fn hinted(listed: &[WorkItem], ledger: &Ledger) -> (Vec<ItemId>, Vec<ItemId>) {
    let found = Found::new(listed, ledger, None, &registry::sample());
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

#[test]
fn an_item_in_progress_is_stranded_only_where_nothing_else_can_be_meant() {
    let mut registry = registry::sample();
    let coder = ["agent:coder"];
    let in_state = |number, state: &str| WorkItem {
        group: StateGroup::Started,
        state: state.to_owned(),
        ..numbered(number, &coder)
    };
    let withdrawn = WorkItem { withdrawn: true, ..in_state(4, "In Progress") };
    let unlabelled = WorkItem { labels: Vec::new(), ..in_state(5, "In Progress") };
    let listed =
        [in_state(1, " in progress"), in_state(2, "In Review"), in_state(3, "Broken"), withdrawn, unlabelled];
    let stranded = |registry: &Registry, ledger: &Ledger, runs: Option<&[Job]>| {
        Found::new(&listed, ledger, runs, registry).stranded
    };
    let (ledger, first) = (Ledger::default(), vec![listed[0].id]);
    assert_eq!(stranded(&registry, &ledger, Some(&[])), [], "a published run may have left it so");
    registry.states.review = Some("In review".to_owned());
    registry.states.failed = Some("Broken".to_owned());
    assert_eq!(stranded(&registry, &ledger, Some(&[])), first);
    assert_eq!(stranded(&registry, &ledger, None), [], "there may be a run that cannot be seen");
    let job = |item| Job { item, ..NewJob::sample("ast-1-bbbbb").queued("u".into(), Timestamp::UNIX_EPOCH) };
    assert_eq!(stranded(&registry, &ledger, Some(&[job(listed[0].id)])), []);
    let parked =
        Parked { task: "AST-1".parse().unwrap(), item: listed[0].id, project: listed[0].project, attempt: 1 };
    assert_eq!(stranded(&registry, &Ledger { parked: vec![parked], ..ledger }, Some(&[])), []);
    registry.states.started = Some("Doing".to_owned());
    assert_eq!(stranded(&registry, &Ledger::default(), Some(&[])), []);
}

#[test]
fn a_run_leaves_a_branch_only_where_it_was_cancelled_and_is_over() {
    let at = Timestamp::UNIX_EPOCH;
    let queued = NewJob::sample("ast-1-bbbbb").queued("u".into(), at);
    let cancel = Some(Cancel { reason: CancelReason::Unwanted, at });
    let left = |job: &Job, days: i64| {
        let now = at + SignedDuration::from_hours(24 * days);
        let refs = LeftRef::of(job, now, SignedDuration::from_hours(24 * 7));
        refs.iter().map(LeftRef::name).collect::<Vec<_>>()
    };
    let published = Job { phase: JobPhase::Published, ..queued.clone() };
    let cancelled = Job { cancel: cancel.clone(), ..published.clone() };
    let (branch, refused) = ("refs/heads/astra/ast-1-bbbbb", "refs/astra/refused/ast-1-bbbbb");
    assert_eq!(left(&cancelled, 0), [branch]);
    assert_eq!(left(&cancelled, 8), [branch, refused]);
    assert_eq!(left(&published, 8), [refused]);
    let lost = Some(Cancel { reason: CancelReason::Replaced, at });
    let replaced = Job { cancel: lost, ..published.clone() };
    assert_eq!(left(&replaced, 6), Vec::<String>::new());
    assert_eq!(left(&replaced, 8), [branch, refused]);
    for job in
        [published, Job { phase: JobPhase::Claimed, cancel, ..queued }, Job { pod_alive: true, ..cancelled }]
    {
        assert_eq!(left(&job, 0), Vec::<String>::new(), "{job:?}");
    }
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
