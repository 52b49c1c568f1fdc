use std::sync::Arc;

use super::*;
use crate::domain::decision::{Situation, judge};
use crate::domain::matching::{Running, Workforce};
use crate::domain::registry;
use crate::domain::task::tests::item;

fn report(item: &WorkItem, running: &Running) -> DecisionReport {
    let workforce = Workforce::new(Arc::new(registry::sample()));
    let verdict = judge(Some(item), &workforce, &Situation::fresh(running));
    let mut report = DecisionReport::new(&verdict, None, Some(item), workforce.registry());
    report.registry = "sha256:0".to_owned();
    report
}

#[test]
fn a_dispatched_task_is_reported_with_every_candidate() {
    let mut item = item(&["agent:coder", "skill:protobuf", "model:opus"]);
    item.description = "A Kotlin service.".to_owned();
    let mut report = report(&item, &Running::default());
    report.event =
        Some(EventReport { kind: "issue".to_owned(), action: Some("updated".to_owned()), field: None });
    report.run = Some("ast-12-bcdfg".to_owned());
    report.executor = Some(ExecutorReport {
        kind: ExecutorKind::Local,
        context: None,
        namespace: Some("agent-vega".to_owned()),
        job: None,
    });
    report.also = vec![AlsoReport {
        task: Some("AST-7".to_owned()),
        agent: Some("rigel".to_owned()),
        run: Some("ast-7-bcdfg".to_owned()),
        outcome: Outcome::Dispatched,
        replaces: None,
    }];
    insta::assert_json_snapshot!(report);
}

#[test]
fn a_refused_item_is_reported_as_far_as_it_was_read() {
    let report = report(&item(&["agent:coder", "agent:docs"]), &Running::default());
    insta::assert_json_snapshot!(report);
}

#[test]
fn the_reason_names_what_set_the_chosen_agent_apart() {
    let mut busy = Running::default();
    busy.add(&"vega".parse().unwrap());
    let plain = item(&["agent:coder"]);
    let equal = item(&["agent:coder", "skill:react", "skill:typescript", "skill:kotlin", "skill:protobuf"]);
    let reasons = [
        report(&plain, &Running::default()).reason,
        report(&plain, &busy).reason,
        report(&equal, &Running::default()).reason,
    ];
    insta::assert_snapshot!(reasons.join("\n"), @r"
    vega has the skills that fit best: kotlin (the project)
    rigel is the only agent that fits and is free
    vega fits as well as others, and the task's key breaks the tie
    ");
}

/// The schema that scripts may rely on. `ASTRA_UPDATE_SCHEMAS=1 cargo test` writes it.
#[test]
fn the_schema_is_checked_in() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/schema/decision.json");
    let generator = schemars::generate::SchemaSettings::default().for_serialize().into_generator();
    let schema = generator.into_root_schema_for::<DecisionReport>();
    let schema = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    if std::env::var_os("ASTRA_UPDATE_SCHEMAS").is_some() {
        std::fs::write(path, &schema).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), schema);
}
