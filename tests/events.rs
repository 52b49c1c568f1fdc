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
