use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::Event;

use super::*;
use crate::domain::kubernetes::diagnosis::diagnose;
use crate::domain::kubernetes::pending::overdue;
use crate::domain::kubernetes::{ANNOTATION_CANCEL, ANNOTATION_PENDING, LABEL_PHASE};
use crate::domain::result::RESULT_VERSION;

/// `kubectl get events -o json` calls its list `List`.
#[derive(serde::Deserialize)]
struct Events {
    items: Vec<Event>,
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/cluster-status")
}

/// A recorded file. The recordings have other step names than our pods: `fetch`, `prepare`, `main`,
/// or `main` alone.
fn recorded<T: serde::de::DeserializeOwned>(file: &str) -> T {
    let text = fs::read_to_string(directory().join(file)).unwrap();
    let text = if text.contains("\"fetch\"") {
        text.replace("\"prepare\"", "\"agent\"")
            .replace("\"fetch\"", "\"prepare\"")
            .replace("\"main\"", "\"deliver\"")
    } else {
        text.replace("\"main\"", "\"agent\"")
    };
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Makes a recorded Job one of ours.
fn ours(mut job: ClusterJob) -> ClusterJob {
    let identity = JobIdentity::sample();
    job.metadata.name = Some(identity.run.to_string());
    job.metadata.labels = Some(identity.job_labels());
    job.metadata.labels.as_mut().unwrap().insert(LABEL_PHASE.into(), "released".into());
    job.metadata.annotations = Some(identity.annotations());
    job
}

/// The recorded files by the name before their first dot.
fn recordings() -> BTreeMap<String, Vec<String>> {
    let mut recordings: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in fs::read_dir(directory()).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let (name, _) = file.split_once('.').unwrap();
        recordings.entry(name.to_owned()).or_default().push(file.clone());
    }
    recordings.values_mut().for_each(|files| files.sort());
    recordings
}

fn select(files: &[String], kind: &str) -> Vec<String> {
    files.iter().filter(|file| file.contains(&format!(".{kind}"))).cloned().collect()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Every recorded state, alone and as a run: the snapshot is the table to review.
#[test]
fn every_recorded_state() {
    let mut table = String::new();
    for (name, files) in recordings() {
        let now = match name.as_str() {
            "tainted-node" => at("2026-11-23T09:56:00Z"),
            "missing-secret" => at("2026-11-25T03:40:00Z"),
            _ => at("2026-11-23T09:48:20Z"),
        };
        let events = select(&files, "events");
        let events: Vec<Event> = events.iter().flat_map(|file| recorded::<Events>(file).items).collect();
        let mut jobs = select(&files, "job");
        // A pod whose Job was deleted, or recorded at another moment.
        if jobs.is_empty() {
            jobs.push("running.job.json".to_owned());
        }
        let mut pods: Vec<Option<String>> = select(&files, "pod").into_iter().map(Some).collect();
        if pods.is_empty() {
            pods.push(None);
        }
        for job_file in &jobs {
            for pod_file in &pods {
                let job = ours(recorded(job_file));
                let mut these: Vec<Pod> = pod_file.iter().map(|file| recorded(file)).collect();
                for pod in &mut these {
                    let uid = job.metadata.uid.clone().unwrap();
                    pod.metadata
                        .labels
                        .as_mut()
                        .unwrap()
                        .insert(super::super::LABEL_CONTROLLER_UID.into(), uid);
                }
                let diagnosis = diagnose(&job, &these, &events, now);
                let run = read(&job, &these, now).unwrap();
                table.push_str(&format!(
                    "{job_file} + {}\n  {:?}: {}\n",
                    pod_file.as_deref().unwrap_or("no pod"),
                    diagnosis.progress,
                    diagnosis.sentence
                ));
                if let Some(next) = diagnosis.next {
                    table.push_str(&format!("  next: {next}\n"));
                }
                table.push_str(&format!(
                    "  ended: {}, alive: {}\n",
                    run.end.map_or("no".to_owned(), |end| match end.failure {
                        None => format!("{}, with a result", end.at),
                        Some(failure) => format!("{}, {:?}", end.at, failure.class),
                    }),
                    run.pod_alive
                ));
            }
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn a_cancel_outranks_and_has_a_time() {
    let mut job = ours(recorded("suspended.job.json"));
    job.metadata.annotations.as_mut().unwrap().insert(ANNOTATION_CANCEL.into(), "person".into());
    let now = at("2026-11-23T10:00:00Z");
    assert_eq!(read(&job, &[], now).unwrap().cancel.unwrap().at, at("2026-11-23T09:47:13Z"));
    let mut job = ours(recorded("complete.job.json"));
    job.metadata.annotations.as_mut().unwrap().insert(ANNOTATION_CANCEL.into(), "unwanted".into());
    assert_eq!(
        read(&job, &[], now).unwrap().cancel.unwrap().at,
        at("2026-11-23T09:46:45Z"),
        "ended before it"
    );
    let mut job = ours(recorded("running.job.json"));
    job.metadata.annotations.as_mut().unwrap().insert(ANNOTATION_CANCEL.into(), "unwanted".into());
    assert_eq!(read(&job, &[], now).unwrap().cancel.unwrap().at, now, "the controller has not seen it yet");
}

/// A pod of a run whose `deliver` left this message.
fn pod_with_message(message: &str) -> Pod {
    let mut pod: Pod = recorded("complete.pod.json");
    let statuses = pod.status.as_mut().unwrap().container_statuses.as_mut().unwrap();
    statuses[0].state.as_mut().unwrap().terminated.as_mut().unwrap().message = Some(message.to_owned());
    pod
}

fn result_message(outcome: &str, class: &str) -> String {
    format!(
        r#"{{"version": {RESULT_VERSION}, "run": "ast-1-x7k2p", "outcome": "{outcome}", "partial": false, "branch": null,
        "head": null, "base": null, "summary": "", "review": null, "tokens": {{"input": 0, "output": 0, "cache_read": 0,
        "cache_write": 0}}, "cost_usd": null, "durations": {{"prepare": 0, "agent": 0, "collect": 0, "deliver": 0}},
        "model": null, "class": {class}, "reason": "529 from the model", "findings": [], "complete": true}}"#
    )
}

fn failure_of(job: &str, message: &str) -> Option<JobFailure> {
    let now = at("2026-11-23T10:00:00Z");
    read(&ours(recorded(job)), &[pod_with_message(message)], now).unwrap().end.unwrap().failure
}

#[test]
fn a_result_that_blames_the_machine_is_tried_again() {
    let failure = failure_of("complete.job.json", &result_message("failed", r#""infrastructure""#)).unwrap();
    assert_eq!(
        (failure.class, failure.reason.as_str()),
        (FailureClass::Infrastructure, "529 from the model")
    );
    assert_eq!(failure_of("complete.job.json", &result_message("failed", r#""agent""#)), None);
    assert_eq!(failure_of("complete.job.json", &result_message("changed", "null")), None);
    assert_eq!(failure_of("complete.job.json", "cut off"), None);
}

#[test]
fn a_pod_that_was_ended_after_delivery_brings_its_result() {
    let job = "evicted-api-no-policy.job.json";
    assert_eq!(failure_of(job, &result_message("changed", "null")), None);
    // `deliver` ended with 0, but said nothing: as a process does that takes SIGTERM for its end.
    assert!(failure_of(job, "").is_some());
}

/// A released Job waits so long for its pod to get on, and no longer.
#[test]
fn the_pending_clock() {
    let mut table = String::new();
    for (name, pod) in [
        ("unschedulable", true),
        ("imagepull", true),
        ("imagepull-init", true),
        ("createerror", true),
        ("quota-blocked", false),
        ("oom-child", true),
        ("running", true),
        ("running-init", true),
        ("suspended", false),
        ("deadline-job", false),
    ] {
        let mut job = ours(recorded(&format!("{name}.job.json")));
        let spec = job.spec.as_mut().unwrap();
        spec.active_deadline_seconds = Some(700);
        spec.template.spec.as_mut().unwrap().active_deadline_seconds = Some(600);
        let pods: Vec<Pod> = pod.then(|| recorded(&format!("{name}.pod.json"))).into_iter().collect();
        let file = directory().join(format!("{name}.events.json"));
        let events =
            if file.exists() { recorded::<Events>(&format!("{name}.events.json")).items } else { vec![] };
        let start = job.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0);
        let after = |seconds| start.map(|start| start + Duration::from_secs(seconds));
        let early = after(98).and_then(|now| overdue(&job, &pods, &events, now));
        assert_eq!(early.is_some(), name == "oom-child", "{name}");
        let failure = after(120).and_then(|now| overdue(&job, &pods, &events, now));
        let line = failure.as_ref().map(|failure| format!("{:?}: {}", failure.class, failure.reason));
        table.push_str(&format!("{name}: {}\n", line.as_deref().unwrap_or("goes on")));
        let Some(failure) = failure else { continue };
        // Ended by this clock, it says the same, and is not ended once more.
        job.spec.as_mut().unwrap().active_deadline_seconds = Some(1);
        let note = serde_json::to_string(&failure).unwrap();
        job.metadata.annotations.as_mut().unwrap().insert(ANNOTATION_PENDING.into(), note);
        assert_eq!(after(200).and_then(|now| overdue(&job, &pods, &events, now)), None, "{name}");
        let ended: ClusterJob = recorded("deadline-job.job.json");
        job.status = ended.status;
        assert_eq!(
            read(&job, &[], after(200).unwrap()).unwrap().end.unwrap().failure,
            Some(failure),
            "{name}"
        );
    }
    insta::assert_snapshot!(table);
}
