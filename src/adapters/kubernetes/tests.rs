//! Scenarios: each call that the API server must see, in order, and its scripted answer.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::*;
use crate::adapters::store::{Store, StoreError};
use crate::domain::job::{CancelReason, Claim, JobPhase, JobRef};
use crate::domain::kubernetes::identity::{JobIdentity, phase_label};
use crate::domain::kubernetes::{ANNOTATION_CLAIM, LABEL_PHASE};
use crate::domain::ledger::Ledger;
use crate::domain::pass::Version;

/// One expected call and its answer. Status 0: the connection is dropped.
struct Exchange {
    call: &'static str,
    status: u16,
    body: Value,
}

fn exchange(call: &'static str, status: u16, body: Value) -> Exchange {
    Exchange { call, status, body }
}

fn status(code: u16, message: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "message": message, "code": code})
}

#[derive(Clone, Default)]
struct Script {
    left: Arc<Mutex<VecDeque<Exchange>>>,
    surprises: Arc<Mutex<Vec<String>>>,
}

async fn answer(State(script): State<Script>, request: axum::extract::Request) -> Response {
    let call = format!("{} {}", request.method(), request.uri());
    let next = script.left.lock().unwrap().pop_front();
    let Some(next) = next.filter(|next| call.starts_with(next.call)) else {
        script.surprises.lock().unwrap().push(call);
        return Response::builder().status(418).body(Body::empty()).unwrap();
    };
    if next.status == 0 {
        // A body that fails breaks the connection off.
        let broken =
            futures_util::stream::once(async { Err::<Vec<u8>, _>(std::io::Error::other("dropped")) });
        return Response::builder().status(200).body(Body::from_stream(broken)).unwrap();
    }
    Response::builder()
        .status(next.status)
        .header("date", "Wed, 25 Nov 2026 10:00:00 GMT")
        .header("retry-after", "0")
        .body(Body::from(next.body.to_string()))
        .unwrap()
}

/// A store that talks to the script. Every exchange must take place.
struct Scenario {
    store: KubernetesStore,
    script: Script,
}

impl Scenario {
    async fn new(exchanges: Vec<Exchange>) -> Self {
        let script = Script::default();
        script.left.lock().unwrap().extend(exchanges);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(script.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let config = kube::Config::new(format!("http://{address}").parse().unwrap());
        let cluster = Cluster::from_config(config, "test").unwrap();
        Self { store: KubernetesStore::new(cluster, "astra-system", None), script }
    }

    fn done(self) {
        assert_eq!(*self.script.surprises.lock().unwrap(), Vec::<String>::new(), "unexpected calls");
        let left: Vec<_> = self.script.left.lock().unwrap().iter().map(|exchange| exchange.call).collect();
        assert_eq!(left, Vec::<&str>::new(), "calls that were not made");
    }
}

const LEDGER: &str = "GET /api/v1/namespaces/astra-system/configmaps/ledger";

fn reference() -> JobRef {
    JobRef { namespace: "agent-vega".into(), run: "ast-1-x7k2p".parse().unwrap(), uid: "u-1".into() }
}

fn cluster_job(phase: JobPhase) -> Value {
    let identity = JobIdentity::sample();
    let mut labels = identity.job_labels();
    labels.insert(LABEL_PHASE.into(), phase_label(phase).into());
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "ast-1-x7k2p", "namespace": "agent-vega", "uid": "u-1", "resourceVersion": "7",
            "creationTimestamp": "2026-11-25T09:00:00Z", "labels": labels, "annotations": identity.annotations()},
        "spec": {"suspend": phase == JobPhase::Queued, "template": {"spec": {"containers": []}}}
    })
}

fn list(items: Vec<Value>, token: &str) -> Value {
    json!({"metadata": {"continue": token}, "items": items})
}

fn ledger(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data,
        "metadata": {"name": "ledger", "namespace": "astra-system", "resourceVersion": "41", "annotations": {"keep": "me"}}})
}

#[tokio::test]
async fn the_ledger_is_read_with_the_servers_clock() {
    let scenario = Scenario::new(vec![exchange(LEDGER, 200, ledger(Value::Null))]).await;
    let read = scenario.store.read_ledger().await.unwrap();
    assert_eq!(read.ledger, Ledger::default());
    assert_eq!(read.version, Version(Some("41".into())));
    assert_eq!(read.now.to_string(), "2026-11-25T10:00:00Z");
    scenario.done();
}

#[tokio::test]
async fn a_ledger_that_cannot_be_used_is_said() {
    for (data, expected) in [
        (json!({"ledger.json": "garbage"}), "ledger.json is no JSON"),
        (json!({"ledger.json": "{}"}), "has no version"),
        (json!({"ledger.json": "{\"version\": 2}"}), "has version 2, this program knows 1"),
        (json!({"ledger.json": "{\"version\": 1}"}), "cannot be read: missing field"),
    ] {
        let scenario = Scenario::new(vec![exchange(LEDGER, 200, ledger(data))]).await;
        let error = scenario.store.read_ledger().await.unwrap_err();
        assert!(matches!(&error, StoreError::BrokenLedger(text) if text.contains(expected)), "{error}");
        scenario.done();
    }
}

#[tokio::test]
async fn what_keeps_us_from_the_ledger_is_told_apart() {
    let refused = || exchange(LEDGER, 403, status(403, "forbidden here"));
    let ready = || exchange("GET /readyz", 200, Value::Null);
    for (code, exchanges, expected) in [
        (404, vec![exchange(LEDGER, 404, status(404, "not found"))], "agents provision"),
        (401, vec![exchange(LEDGER, 401, status(401, "who?"))], "does not accept our credential"),
        // Believed from a server that had been ready before it was asked.
        (403, vec![refused(), ready(), refused()], "forbidden here"),
        (
            403,
            vec![refused(), exchange("GET /readyz", 500, Value::Null), refused(), ready(), refused()],
            "forbidden here",
        ),
    ] {
        let scenario = Scenario::new(exchanges).await;
        let error = scenario.store.read_ledger().await.unwrap_err();
        assert!(matches!(&error, StoreError::Denied(text) if text.contains(expected)), "{code}: {error}");
        scenario.done();
    }
}

/// Until it has loaded its roles, it refuses everything.
#[tokio::test]
async fn a_refusal_of_a_server_that_is_starting_is_no_answer() {
    let refused = || exchange(LEDGER, 403, status(403, "forbidden"));
    let scenario = Scenario::new(vec![
        refused(),
        exchange("GET /readyz", 500, Value::Null),
        refused(),
        exchange("GET /readyz", 200, Value::Null),
        exchange(LEDGER, 200, ledger(Value::Null)),
    ])
    .await;
    scenario.store.read_ledger().await.unwrap();
    scenario.done();
}

/// But not at once: it may have been started again while nobody asked.
#[tokio::test]
async fn a_refusal_of_a_server_that_has_long_answered_is_believed_where_nobody_may_ask_for_readiness() {
    let refused = || exchange(LEDGER, 403, status(403, "forbidden"));
    let hidden = || exchange("GET /readyz", 403, status(403, "forbidden"));
    // One look at once, and one each half second for three seconds.
    let script: Vec<_> = (0..7).flat_map(|_| [refused(), hidden()]).chain([refused()]).collect();
    let scenario = Scenario::new(script).await;
    scenario.store.cluster().answering.began_before(std::time::Duration::from_secs(15));
    let error = scenario.store.read_ledger().await.unwrap_err();
    assert!(matches!(error, StoreError::Denied(_)), "{error}");
    scenario.done();
}

#[tokio::test]
async fn reads_are_repeated_and_then_given_up() {
    let again = vec![
        exchange(LEDGER, 500, status(500, "etcdserver: request timed out")),
        exchange(LEDGER, 0, Value::Null),
        exchange(LEDGER, 429, status(429, "too many requests")),
        exchange(LEDGER, 200, ledger(Value::Null)),
    ];
    let scenario = Scenario::new(again).await;
    scenario.store.read_ledger().await.unwrap();
    scenario.done();
    let scenario = Scenario::new((0..4).map(|_| exchange(LEDGER, 503, Value::Null)).collect()).await;
    let error = scenario.store.read_ledger().await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    scenario.done();
}

#[tokio::test]
async fn a_swap_keeps_what_is_not_ours_and_answers_by_its_version() {
    const PUT: &str = "PUT /api/v1/namespaces/astra-system/configmaps/ledger";
    let next = Ledger { namespaces: vec!["agent-vega".into()], ..Ledger::default() };
    let version = Version(Some("41".into()));
    for (code, body, expected) in [
        (200, ledger(Value::Null), "Ok(true)"),
        (409, status(409, "the object has been modified"), "Ok(false)"),
        (422, status(422, "Too long: may not be more than 1048576 bytes"), "Err(Full"),
        (500, status(500, "no"), "Err(Unavailable"),
        // A write is not repeated: it may have been carried out.
        (0, Value::Null, "Err(Unavailable"),
    ] {
        let scenario =
            Scenario::new(vec![exchange(LEDGER, 200, ledger(Value::Null)), exchange(PUT, code, body)]).await;
        scenario.store.read_ledger().await.unwrap();
        let swapped = scenario.store.swap_ledger(&version, &next).await;
        assert!(format!("{swapped:?}").starts_with(expected), "{code}: {swapped:?}");
        scenario.done();
    }
    let scenario = Scenario::new(vec![exchange(LEDGER, 200, ledger(Value::Null))]).await;
    assert!(
        !scenario.store.swap_ledger(&Version(Some("40".into())), &next).await.unwrap(),
        "an older version"
    );
    scenario.done();
}

#[tokio::test]
async fn what_was_written_just_now_is_read_once_without_a_call() {
    const PUT: &str = "PUT /api/v1/namespaces/astra-system/configmaps/ledger";
    let written = |version: &str| {
        let mut written = ledger(Value::Null);
        written["metadata"]["resourceVersion"] = json!(version);
        written
    };
    let next = Ledger { namespaces: vec!["agent-vega".into()], ..Ledger::default() };
    let scenario = Scenario::new(vec![
        exchange(LEDGER, 200, ledger(Value::Null)),
        exchange(PUT, 200, written("42")),
        exchange(PUT, 409, status(409, "the object has been modified")),
        exchange(LEDGER, 200, written("43")),
        exchange(PUT, 200, written("44")),
        exchange(LEDGER, 200, written("45")),
    ])
    .await;
    let store = &scenario.store;
    let first = store.read_ledger().await.unwrap();
    assert!(store.swap_ledger(&first.version, &next).await.unwrap());
    let read = store.read_ledger().await.unwrap();
    assert_eq!((&read.ledger, read.version.0.as_deref()), (&next, Some("42")));
    assert!(!store.swap_ledger(&read.version, &next).await.unwrap(), "others were quicker");
    let read = store.read_ledger().await.unwrap();
    assert_eq!(read.version.0.as_deref(), Some("43"));
    assert!(store.swap_ledger(&read.version, &next).await.unwrap());
    tokio::time::sleep(std::time::Duration::from_millis(2_100)).await;
    assert_eq!(store.read_ledger().await.unwrap().version.0.as_deref(), Some("45"), "too long ago");
    scenario.done();
}

#[tokio::test]
async fn a_list_has_all_its_pages_and_starts_again_when_it_grew_too_old() {
    const JOBS: &str = "GET /apis/batch/v1/namespaces/agent-vega/jobs?";
    const PODS: &str = "GET /api/v1/namespaces/agent-vega/pods?";
    let mut second = cluster_job(JobPhase::Released);
    second["metadata"]["name"] = json!("ast-2-x7k2p");
    second["metadata"]["labels"]["dispatch.astra.dev/run"] = json!("ast-2-x7k2p");
    second["metadata"]["uid"] = json!("u-2");
    let pod = |uid: &str, phase: &str| {
        json!({"metadata": {"name": "p", "annotations": cluster_job(JobPhase::Queued)["metadata"]["annotations"],
            "labels": {"batch.kubernetes.io/controller-uid": uid, "dispatch.astra.dev/agent": "vega", "dispatch.astra.dev/run": "ast-9-x7k2p"}},
            "status": {"phase": phase}})
    };
    let scenario = Scenario::new(vec![
        exchange(JOBS, 200, list(vec![cluster_job(JobPhase::Queued)], "more")),
        exchange(JOBS, 410, status(410, "the provided continue parameter is too old")),
        exchange(JOBS, 200, list(vec![cluster_job(JobPhase::Queued)], "more")),
        exchange(JOBS, 200, list(vec![second], "")),
        exchange(PODS, 200, list(vec![pod("u-2", "Running"), pod("u-9", "Running")], "")),
    ])
    .await;
    let listing = scenario.store.list_jobs("agent-vega").await.unwrap();
    let jobs: Vec<_> = listing.jobs.iter().map(|job| (job.run.as_str(), job.phase, job.pod_alive)).collect();
    assert_eq!(jobs, [("ast-1-x7k2p", JobPhase::Queued, false), ("ast-2-x7k2p", JobPhase::Released, true)]);
    assert_eq!(listing.orphans.len(), 1, "the pod of a Job that is gone");
    assert_eq!(listing.orphans[0].job_uid, "u-9");
    scenario.done();
}

#[tokio::test]
async fn a_job_that_cannot_be_read_makes_its_namespace_unreadable() {
    let mut broken = cluster_job(JobPhase::Queued);
    broken["metadata"]["annotations"] = Value::Null;
    let scenario = Scenario::new(vec![
        exchange("GET /apis/batch/v1/namespaces/agent-vega/jobs?", 200, list(vec![broken], "")),
        exchange("GET /api/v1/namespaces/agent-vega/pods?", 200, list(vec![], "")),
    ])
    .await;
    let error = scenario.store.list_jobs("agent-vega").await.unwrap_err().to_string();
    assert!(error.contains("Job agent-vega/ast-1-x7k2p: the annotation"), "{error}");
    scenario.done();
}

/// Whatever else changes a Job, release and cancel go by its phase and look again.
#[tokio::test]
async fn a_change_whose_test_failed_looks_again() {
    const GET: &str = "GET /apis/batch/v1/namespaces/agent-vega/jobs/ast-1-x7k2p";
    const PATCH: &str = "PATCH /apis/batch/v1/namespaces/agent-vega/jobs/ast-1-x7k2p";
    let scenario = Scenario::new(vec![
        exchange(PATCH, 422, status(422, "the server rejected our request due to an error in our request")),
        exchange(GET, 200, cluster_job(JobPhase::Queued)),
        exchange(PATCH, 409, status(409, "the object has been modified")),
        exchange(GET, 200, cluster_job(JobPhase::Cancelled)),
    ])
    .await;
    assert!(!scenario.store.release(&reference()).await.unwrap());
    scenario.done();
    let scenario = Scenario::new(vec![
        exchange(GET, 200, cluster_job(JobPhase::Queued)),
        exchange(PATCH, 422, status(422, "test failed")),
        exchange(GET, 200, cluster_job(JobPhase::Released)),
        exchange(PATCH, 200, cluster_job(JobPhase::Cancelled)),
        exchange("DELETE /api/v1/namespaces/agent-vega/secrets/ast-1-x7k2p", 404, status(404, "gone")),
    ])
    .await;
    assert!(scenario.store.cancel(&reference(), CancelReason::Unwanted).await.unwrap());
    scenario.done();
}

#[tokio::test]
async fn another_job_of_that_name_is_not_touched() {
    let mut other = cluster_job(JobPhase::Queued);
    other["metadata"]["uid"] = json!("u-2");
    let get = || exchange("GET /apis/batch/v1/namespaces/agent-vega/jobs/ast-1-x7k2p", 200, other.clone());
    let patch = exchange(
        "PATCH /apis/batch/v1/namespaces/agent-vega/jobs/ast-1-x7k2p",
        422,
        status(422, "test failed"),
    );
    let scenario = Scenario::new(vec![patch, get(), get(), get()]).await;
    assert!(!scenario.store.release(&reference()).await.unwrap());
    assert!(!scenario.store.cancel(&reference(), CancelReason::Person).await.unwrap());
    assert!(scenario.store.delete(&reference()).await.unwrap(), "gone counts as deleted");
    scenario.done();
}

#[tokio::test]
async fn a_claim_that_somebody_else_took_over_is_lost() {
    let claim = |holder: &str| Claim { holder: holder.into(), at: "2026-11-25T09:30:00Z".parse().unwrap() };
    let mut claimed = cluster_job(JobPhase::Claimed);
    claimed["metadata"]["annotations"][ANNOTATION_CLAIM] = json!("b 2026-11-25T09:30:00Z");
    let get = || exchange("GET /apis/batch/v1/namespaces/agent-vega/jobs/ast-1-x7k2p", 200, claimed.clone());
    let scenario = Scenario::new(vec![get(), get(), get()]).await;
    assert_eq!(scenario.store.claim(&reference(), None, &claim("c")).await.unwrap(), None);
    assert_eq!(scenario.store.claim(&reference(), Some(&claim("a")), &claim("c")).await.unwrap(), None);
    assert!(!scenario.store.mark_published(&reference(), "a").await.unwrap());
    scenario.done();
}

#[tokio::test]
async fn a_job_that_is_not_there_is_an_answer() {
    let scenario = Scenario::new(vec![exchange("GET /apis/batch/v1", 404, status(404, "not found"))]).await;
    let (job, now) = scenario.store.find_job("agent-vega", &reference().run).await.unwrap();
    assert_eq!((job, now.to_string().as_str()), (None, "2026-11-25T10:00:00Z"));
    scenario.done();
}

#[tokio::test]
async fn a_namespace_that_is_no_name_is_not_asked_for() {
    let scenario = Scenario::new(vec![]).await;
    for namespace in ["", "../secrets", "a/b", "A", "a?x"] {
        assert!(scenario.store.list_jobs(namespace).await.is_err(), "{namespace}");
    }
    scenario.done();
}
