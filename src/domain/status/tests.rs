use super::*;
use crate::adapters::registry_files;
use crate::domain::job::{Cancel, CancelReason, JobEnd, JobFailure};
use crate::domain::ledger::{Entry, Waiting};
use crate::domain::name::{ItemId, ProjectId};
use crate::domain::registry::RegistryStamp;
use crate::domain::work_item::Priority;

fn registry() -> Registry {
    registry_files::load(std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/registry")))
        .unwrap()
}

fn project() -> ProjectId {
    ProjectId("30b3e760-81ab-4c95-a0fe-f21adc376851".parse().unwrap())
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn job(run: &str, phase: JobPhase, created: i64) -> Job {
    Job {
        run: run.parse().unwrap(),
        uid: created.to_string(),
        task: "AST-1".parse().unwrap(),
        item: ItemId(uuid::Uuid::from_u128(1)),
        project: project(),
        agent: "vega".parse().unwrap(),
        namespace: "agent-vega".to_owned(),
        attempt: 1,
        registry: RegistryStamp::default(),
        phase,
        cancel: None,
        end: None,
        pod_alive: false,
        item_state: None,
        claim: None,
        created_at: at(created),
    }
}

fn known(job: Job) -> KnownRun {
    KnownRun { job, result: None, step: Some("agent".to_owned()), hindrance: None }
}

fn entry(job: &Job) -> Entry {
    Entry {
        run: job.run.clone(),
        task: job.task.clone(),
        item: job.item,
        project: job.project,
        agent: job.agent.clone(),
        namespace: job.namespace.clone(),
        attempt: 1,
        registry: RegistryStamp::default(),
        state: EntryState::Started,
        uid: Some(job.uid.clone()),
        since: job.created_at,
        not_before: None,
    }
}

#[test]
fn each_run_has_a_state() {
    let running = Job { pod_alive: true, ..job("ast-1-bbbbb", JobPhase::Released, 2) };
    let failure = JobFailure { class: FailureClass::Infrastructure, reason: "gone\u{1b}[31m".to_owned() };
    let failed = Job {
        end: Some(JobEnd { at: at(9), failure: Some(failure) }),
        ..job("ast-2-bbbbb", JobPhase::Released, 3)
    };
    let cancel = Some(Cancel { reason: CancelReason::Person, at: at(5) });
    let stopping = Job { cancel, pod_alive: true, ..job("ast-3-bbbbb", JobPhase::Cancelled, 4) };
    let reserved = Entry { state: EntryState::Reserved, ..entry(&job("ast-4-bbbbb", JobPhase::Queued, 5)) };
    let ledger = Ledger {
        entries: vec![entry(&running), entry(&failed), entry(&stopping), reserved],
        waiting: vec![Waiting {
            item: ItemId(uuid::Uuid::from_u128(9)),
            project: project(),
            priority: Priority::High,
            since: at(6),
            sequence: 12,
        }],
        ..Ledger::default()
    };
    let report = report(&ledger, &[known(running), known(failed), known(stopping)], &registry());
    let rows: Vec<_> = report
        .runs
        .iter()
        .map(|run| format!("{} {} | {}", run.run, run.state_words(), run.remark()))
        .collect();
    insta::assert_snapshot!(rows.join("\n"), @r"
    ast-4-bbbbb reserved | 
    ast-3-bbbbb stopping | The run was stopped by a person.
    ast-2-bbbbb finished: failed | gone[31m
    ast-1-bbbbb running (agent) | 
    ");
    assert_eq!(report.waiting[0].task.as_deref(), Some("AST-12"));
    let vega = report.agents.iter().find(|agent| agent.agent == "vega").unwrap();
    assert_eq!((vega.running, vega.max), (3, 1), "reserved, running and stopping count; ended does not");
}

#[test]
fn a_retry_says_what_it_waits_for() {
    let failure = JobFailure { class: FailureClass::Infrastructure, reason: "the node is gone".to_owned() };
    let lost = Job {
        cancel: Some(Cancel { reason: CancelReason::Replaced, at: at(9) }),
        end: Some(JobEnd { at: at(9), failure: Some(failure) }),
        ..job("ast-1-bbbbb", JobPhase::Published, 1)
    };
    // Of an earlier day, with more attempts.
    let old = Job { attempt: 3, created_at: at(0), run: "ast-1-ddddd".parse().unwrap(), ..lost.clone() };
    let next = Job { attempt: 2, ..job("ast-1-ccccc", JobPhase::Queued, 9) };
    let retry = Entry { state: EntryState::Reserved, not_before: Some(at(39)), ..entry(&next) };
    let ledger = Ledger { entries: vec![retry], ..Ledger::default() };
    let report = report(&ledger, &[known(lost), known(old)], &registry());
    let row = &report.runs[0];
    assert_eq!(row.remark(), "ast-1-bbbbb, the attempt before: the node is gone");
    assert_eq!(row.next.as_deref(), Some("It is tried again, not before 1970-01-01T00:00:39Z."));
}

#[test]
fn old_published_runs_are_left_out() {
    let runs: Vec<_> = (0..=PUBLISHED_SHOWN)
        .map(|number| {
            let run = format!("ast-{number}-bbbbb");
            known(job(&run, JobPhase::Published, i64::try_from(number).unwrap()))
        })
        .collect();
    let report = report(&Ledger::default(), &runs, &registry());
    assert_eq!(report.runs.len(), PUBLISHED_SHOWN);
    assert_eq!(report.runs[0].run, format!("ast-{PUBLISHED_SHOWN}-bbbbb"));
}

/// The schema that scripts may rely on. `ASTRA_UPDATE_SCHEMAS=1 cargo test` writes it.
#[test]
fn the_schema_is_checked_in() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/schema/status.json");
    let schema = serde_json::to_string_pretty(&schemars::schema_for!(StatusReport)).unwrap() + "\n";
    if std::env::var_os("ASTRA_UPDATE_SCHEMAS").is_some() {
        std::fs::write(path, &schema).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), schema);
}
