//! Every recorded event: what is understood of it, and what the sample registry makes of it while
//! nothing runs.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use astra_dispatch::adapters::registry_files;
use astra_dispatch::domain::decision::{Situation, Verdict, judge};
use astra_dispatch::domain::event::{Delivery, Event, Subject};
use astra_dispatch::domain::matching::{Running, Workforce};
use astra_dispatch::domain::report::{DecisionReport, Outcome};
use proptest::prelude::*;
use serde_json::Value;

fn fixtures(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

fn sample() -> Workforce {
    Workforce::new(Arc::new(registry_files::load(&fixtures("registry")).unwrap()))
}

/// One paragraph for every file of a directory, in the order of their names.
fn describe_all(directory: &str) -> String {
    let workforce = sample();
    let mut files: Vec<PathBuf> =
        fs::read_dir(fixtures(directory)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut text = String::new();
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy();
        writeln!(text, "{name}").unwrap();
        match Event::parse(&fs::read(&file).unwrap()) {
            Ok(Event::ByHand(key)) => writeln!(text, "  by hand: {key}").unwrap(),
            Ok(Event::Delivered(delivery)) => describe(&mut text, &delivery, &workforce),
            Err(fault) => writeln!(text, "  fault: {fault}\n  remedy: {}", fault.remedy()).unwrap(),
        }
    }
    text
}

fn describe(text: &mut String, delivery: &Delivery, workforce: &Workforce) {
    let shown = |part: &Option<String>| part.clone().unwrap_or_else(|| "-".to_owned());
    let actor = delivery.actor.as_ref().and_then(|actor| actor.email.clone());
    let (action, field) = (shown(&delivery.action), shown(&delivery.field));
    writeln!(text, "  {} {action} {field} by {}", delivery.kind, shown(&actor)).unwrap();
    if let Some(relay) = &delivery.relay {
        writeln!(text, "  relay: coalesced {:?}, cut {:?}", relay.coalesced, relay.truncated).unwrap();
    }
    if let Some(item) = delivery.item() {
        let assignees: Vec<&str> = item.assignees.iter().map(|member| member.email.as_str()).collect();
        let description: String = item.description.chars().take(160).collect();
        writeln!(text, "  item {} {:?} {:?}", item.sequence, item.name, item.labels).unwrap();
        writeln!(text, "    {:?} ({:?}), {:?}, {assignees:?}", item.state, item.group, item.priority)
            .unwrap();
        writeln!(text, "    {} bytes: {description:?}", item.description.len()).unwrap();
    }
    let running = Running::default();
    let verdict = match &delivery.subject {
        Subject::Item(item) => judge(Some(item), workforce, &Situation::fresh(&running)),
        Subject::Gone(_) => judge(None, workforce, &Situation::fresh(&running)),
        Subject::Other => return writeln!(text, "  ignored: not a work item").unwrap(),
    };
    match verdict {
        Verdict::Ignored { reason } => writeln!(text, "  ignored: {reason}"),
        Verdict::Cancelled { reason, .. } => writeln!(text, "  cancelled: {reason}"),
        Verdict::AlreadyRunning { run, .. } => writeln!(text, "  already running: {run}"),
        Verdict::Refused(refusal) => {
            writeln!(text, "  refused: {refusal}\n  {}", refusal.remedies().join(" "))
        }
        Verdict::Waiting { reason, .. } => writeln!(text, "  waiting: {reason}"),
        Verdict::Dispatched { task, agent, candidates } => {
            let scores: Vec<String> = candidates
                .iter()
                .filter(|candidate| candidate.failed.is_none())
                .map(|candidate| format!("{} {}", candidate.agent.name, candidate.score()))
                .collect();
            writeln!(
                text,
                "  dispatched: {} to {} in {} from {} ({})",
                task.key,
                agent.name,
                task.repository,
                task.base,
                scores.join(", ")
            )
        }
    }
    .unwrap();
}

#[test]
fn every_recorded_webhook_is_understood() {
    insta::assert_snapshot!(describe_all("events"));
}

#[test]
fn every_form_of_event_file_is_understood() {
    insta::assert_snapshot!(describe_all("github-events"));
}

/// The document that `explain` would print about an event, while nothing runs.
fn report(event: &Event, workforce: &Workforce) -> Option<DecisionReport> {
    let Event::Delivered(delivery) = event else { return None };
    let running = Running::default();
    let registry = workforce.registry();
    Some(match &delivery.subject {
        Subject::Other => DecisionReport::not_a_work_item(delivery, registry),
        Subject::Item(_) | Subject::Gone(_) => {
            let verdict = judge(delivery.item(), workforce, &Situation::fresh(&running));
            DecisionReport::new(&verdict, Some(delivery), delivery.item(), registry)
        }
    })
}

#[test]
fn every_report_keeps_to_the_schema() {
    let schema = fs::read_to_string(fixtures("schema/decision.json")).unwrap();
    let schema = jsonschema::validator_for(&serde_json::from_str::<Value>(&schema).unwrap()).unwrap();
    let workforce = sample();
    let mut outcomes = Vec::new();
    for entry in fs::read_dir(fixtures("events")).unwrap() {
        let event = Event::parse(&fs::read(entry.unwrap().path()).unwrap()).unwrap();
        let report = report(&event, &workforce).unwrap();
        outcomes.push(report.outcome);
        let json = serde_json::to_value(report).unwrap();
        let errors: Vec<String> = schema.iter_errors(&json).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?} in {json:#}");
    }
    for outcome in [Outcome::Dispatched, Outcome::Ignored, Outcome::Refused] {
        assert!(outcomes.contains(&outcome), "{}", outcome.name());
    }
}

/// All places of a JSON document.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), value)).collect(),
        Value::Array(values) => {
            values.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect()
        }
        _ => Vec::new(),
    };
    for (name, value) in inner {
        let place = format!("{at}/{name}");
        places(value, &place, found);
        found.push(place);
    }
}

proptest! {
    /// Whatever stands at one place of an event, there is one outcome or one fault that says where.
    #[test]
    fn a_changed_event_has_an_outcome_or_a_fault(
        place in any::<prop::sample::Index>(),
        value in prop::sample::select(vec![
            Value::Null, Value::Bool(true), Value::from(0), Value::from(-1), Value::from(u64::MAX), Value::from(1.5),
            Value::from(""), Value::from("agent:coder"), Value::from("\u{202e}::error::\u{1b}"), Value::from("a".repeat(70_000)),
            serde_json::json!([]), serde_json::json!({}), serde_json::json!([null]), serde_json::json!([{"name": "agent:coder"}]),
        ]),
        cut in any::<prop::sample::Index>(),
    ) {
        let json = fs::read(fixtures("github-events/repository-dispatch-envelope.json")).unwrap();
        let mut event: Value = serde_json::from_slice(&json).unwrap();
        let mut found = Vec::new();
        places(&event, "", &mut found);
        *event.pointer_mut(place.get(&found).as_str()).unwrap() = value;
        match Event::parse(&serde_json::to_vec(&event).unwrap()) {
            Ok(event) => {
                if let Some(report) = report(&event, &sample()) {
                    prop_assert!(!report.reason.is_empty());
                    prop_assert!(!report.reason.contains(['\u{202e}', '\u{1b}']), "{}", report.reason);
                }
            }
            Err(fault) => prop_assert!(fault.to_string().len() < 1_000 && !fault.remedy().is_empty(), "{fault}"),
        }
        // A file that breaks off is a fault too.
        let cut = cut.index(json.len() - 3);
        prop_assert!(Event::parse(&json[..cut]).is_err());
    }
}
