//! The store of a cluster, against a real API server and with the dispatcher's rights only.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/cluster.rs"]
mod cluster;

use astra_dispatch::adapters::kubernetes::KubernetesStore;
use astra_dispatch::adapters::store::{Creation, SecretWrite, Store, StoreError};
use std::time::Duration;

use astra_dispatch::domain::job::{CancelReason, Claim, ItemState, Job, JobPhase, JobRef};
use astra_dispatch::domain::ledger::{Blocked, Ledger};
use astra_dispatch::domain::matching::Running;
use astra_dispatch::domain::name::{ItemId, ProjectId};
use astra_dispatch::domain::pass::{NewJob, Version};
use astra_dispatch::domain::result::FailureClass;
use cluster::TestCluster;
use http::Method;
use serde_json::{Value, json};

async fn created(store: &KubernetesStore, new: &NewJob) -> JobRef {
    let Creation::Created(uid) = store.create_job(new).await.unwrap() else { panic!("not created") };
    JobRef { namespace: new.namespace.clone(), run: new.run.clone(), uid }
}

async fn phase(store: &KubernetesStore, job: &JobRef) -> JobPhase {
    store.find_job(&job.namespace, &job.run).await.unwrap().0.unwrap().phase
}

/// The Jobs of a namespace, once all of them have ended.
async fn ended(store: &KubernetesStore, namespace: &str) -> Vec<Job> {
    for _ in 0..240 {
        let jobs = store.list_jobs(namespace).await.unwrap().jobs;
        if jobs.iter().all(|job| job.end.is_some()) {
            return jobs;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    panic!("the Jobs of {namespace} did not end within a minute")
}

fn claim(holder: &str) -> Claim {
    Claim { holder: holder.into(), at: "2026-01-01T00:00:00Z".parse().unwrap() }
}

#[tokio::test]
#[ignore = "needs a cluster"]
async fn the_ledger_is_swapped_only_where_it_was_read() {
    let cluster = TestCluster::new(|_, _| ()).await;
    let (one, other) = (cluster.store().await, cluster.store().await);
    let empty = one.read_ledger().await.unwrap();
    assert_eq!(empty.ledger, Ledger::default());
    let ledger = Ledger { namespaces: vec!["agent-vega".into()], ..Ledger::default() };
    assert!(one.swap_ledger(&empty.version, &ledger).await.unwrap());
    assert!(!other.swap_ledger(&empty.version, &Ledger::default()).await.unwrap(), "it was changed since");
    let read = other.read_ledger().await.unwrap();
    assert_eq!(read.ledger, ledger);
    assert!(other.swap_ledger(&read.version, &ledger).await.unwrap());
    let third = cluster.store().await;
    assert_eq!(third.read_ledger().await.unwrap().version, read.version, "the same again changes nothing");

    let long = Blocked {
        item: ItemId(uuid::Uuid::from_u128(1)),
        project: ProjectId(uuid::Uuid::from_u128(1)),
        reason: "x".repeat(1 << 20),
        fingerprint: String::new(),
        retry_at: read.now,
    };
    let too_long = Ledger { blocked: vec![long], ..Ledger::default() };
    let full = one.swap_ledger(&read.version, &too_long).await;
    assert!(matches!(full, Err(StoreError::Full(_))), "{full:?}");

    // Provisioning again and again leaves it alone; deleting it is noticed.
    let path = format!("/api/v1/namespaces/{}/configmaps/ledger", cluster.system_namespace);
    assert_eq!(cluster.get(&path).await.body["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    cluster.call(Method::DELETE, &path, "application/json", &Value::Null).await;
    let missing = third.read_ledger().await.unwrap_err();
    assert!(matches!(missing, StoreError::Denied(_)), "{missing}");
    assert!(!one.swap_ledger(&read.version, &ledger).await.unwrap_or(false));
    cluster.remove().await;
}

#[tokio::test]
#[ignore = "needs a cluster"]
async fn twenty_swap_at_once_and_one_wins() {
    let cluster = TestCluster::new(|_, _| ()).await;
    let version = cluster.store().await.read_ledger().await.unwrap().version;
    let swaps = (0..20).map(|number| {
        let (cluster, version) = (&cluster, version.clone());
        async move {
            let store = cluster.store().await;
            let ledger = Ledger { namespaces: vec![format!("agent-{number}")], ..Ledger::default() };
            store.swap_ledger(&version, &ledger).await.unwrap()
        }
    });
    let won = futures_util::future::join_all(swaps).await.into_iter().filter(|won| *won).count();
    assert_eq!(won, 1);
    cluster.remove().await;
}

#[tokio::test]
#[ignore = "needs a cluster"]
async fn a_run_from_creation_to_published() {
    let cluster = TestCluster::new(|_, _| ()).await;
    let store = cluster.store().await;
    let new = cluster.new_job(1);
    let job = created(&store, &new).await;
    let again = store.create_job(&new).await.unwrap();
    assert!(matches!(again, Creation::Exists(found) if found.uid == job.uid));
    let listed = store.list_jobs(&job.namespace).await.unwrap();
    assert_eq!(listed.jobs, [store.find_job(&job.namespace, &job.run).await.unwrap().0.unwrap()]);
    assert_eq!((listed.jobs[0].phase, listed.jobs[0].pod_alive), (JobPhase::Queued, false));

    assert_eq!(store.write_secret(&new, &job).await.unwrap(), SecretWrite::Written);
    assert_eq!(store.write_secret(&new, &job).await.unwrap(), SecretWrite::Written, "as it is");
    let secret = format!("/api/v1/namespaces/{}/secrets/{}", job.namespace, job.run);
    assert_eq!(cluster.get(&secret).await.body["metadata"]["ownerReferences"][0]["uid"], job.uid.as_str());

    assert_eq!(store.claim(&job, None, &claim("a")).await.unwrap(), None, "it is not released");
    assert!(!store.close(&job).await.unwrap());
    assert!(store.release(&job).await.unwrap());
    assert!(!store.release(&job).await.unwrap());
    assert!(!store.delete(&job).await.unwrap(), "it is released");
    assert!(!store.close(&job).await.unwrap(), "it has not ended");
    let state = ItemState {
        from: "Todo".into(),
        to: "In Progress".into(),
        written_at: "2026-01-01T00:00:00Z".parse().unwrap(),
        acknowledged: true,
    };
    assert!(store.record_item_state(&job, &state).await.unwrap());
    assert_eq!(store.find_job(&job.namespace, &job.run).await.unwrap().0.unwrap().item_state, Some(state));

    let (claimed, _) = store.claim(&job, None, &claim("a")).await.unwrap().unwrap();
    assert_eq!((claimed.phase, claimed.claim), (JobPhase::Claimed, Some(claim("a"))));
    assert_eq!(cluster.get(&secret).await.status, 404, "the Secret is gone");
    assert!(!store.cancel(&job, CancelReason::Person).await.unwrap(), "it is claimed");
    assert_eq!(store.claim(&job, None, &claim("b")).await.unwrap(), None);
    assert!(!store.mark_published(&job, "b").await.unwrap());
    assert!(store.claim(&job, Some(&claim("a")), &claim("b")).await.unwrap().is_some(), "taken over");
    assert!(!store.mark_published(&job, "a").await.unwrap());

    // A deletion by hand waits for the mark.
    let path = format!("/apis/batch/v1/namespaces/{}/jobs/{}", job.namespace, job.run);
    cluster.call(Method::DELETE, &path, "application/json", &Value::Null).await;
    assert_eq!(cluster.get(&path).await.status, 200);
    assert!(store.mark_published(&job, "b").await.unwrap());
    assert_eq!(store.list_jobs(&job.namespace).await.unwrap().jobs, []);
    cluster.remove().await;
}

#[tokio::test]
#[ignore = "needs a cluster"]
async fn of_release_and_delete_one_wins_and_a_cancel_stays() {
    let cluster = TestCluster::new(|_, _| ()).await;
    let store = cluster.store().await;
    for number in 1..=20 {
        let job = created(&store, &cluster.new_job(number)).await;
        let deleter = cluster.store().await;
        let (released, deleted) = tokio::join!(store.release(&job), deleter.delete(&job));
        assert_ne!(released.unwrap(), deleted.unwrap(), "run {number}");
    }
    for number in 21..=40 {
        let job = created(&store, &cluster.new_job(number)).await;
        let other = cluster.store().await;
        let (released, cancelled) =
            tokio::join!(store.release(&job), other.cancel(&job, CancelReason::Unwanted));
        // A cancel may follow a release, never the other way round.
        assert!(cancelled.unwrap());
        released.unwrap();
        assert_eq!(phase(&store, &job).await, JobPhase::Cancelled);
        assert!(!store.release(&job).await.unwrap());
        let (found, _) = store.find_job(&job.namespace, &job.run).await.unwrap();
        assert_eq!(found.unwrap().cancel.unwrap().reason, CancelReason::Unwanted);
    }
    cluster.remove().await;
}

#[tokio::test]
#[ignore = "needs a cluster"]
async fn ended_runs_are_closed_cancelled_and_claimed() {
    let cluster = TestCluster::new(|registry, agent| {
        registry.agents.get_mut(agent).unwrap().max_concurrent_tasks = 3;
    })
    .await;
    let store = cluster.store().await;
    let mut jobs = Vec::new();
    for number in 1..=3 {
        let new = cluster.new_job(number);
        let job = created(&store, &new).await;
        assert_eq!(store.write_secret(&new, &job).await.unwrap(), SecretWrite::Written);
        assert!(store.release(&job).await.unwrap());
        jobs.push(job);
    }
    // The image has no such program: the first step cannot start.
    let listed = ended(&store, &cluster.namespace()).await;
    for job in &listed {
        let failure = job.end.as_ref().unwrap().failure.as_ref().unwrap();
        assert_eq!(failure.class, FailureClass::Task);
        assert!(failure.reason.starts_with("install cannot be started from its image"), "{}", failure.reason);
        assert!(!job.pod_alive);
    }
    assert!(store.close(&jobs[0]).await.unwrap());
    assert!(store.close(&jobs[0]).await.unwrap(), "closed is closed");
    assert_eq!(phase(&store, &jobs[0]).await, JobPhase::Published);
    // A finished run that is no longer wanted is cancelled, not published.
    assert!(store.cancel(&jobs[2], CancelReason::Unwanted).await.unwrap());
    assert_eq!(phase(&store, &jobs[2]).await, JobPhase::Cancelled);
    assert!(store.claim(&jobs[2], None, &claim("a")).await.unwrap().is_some());
    assert!(store.mark_published(&jobs[2], "a").await.unwrap());
    let (gone, _) = store.find_job(&cluster.namespace(), &"ast-9-x7k2p".parse().unwrap()).await.unwrap();
    assert_eq!(gone, None);
    cluster.remove().await;
}

#[tokio::test]
#[ignore = "needs a cluster"]
async fn what_the_cluster_refuses_is_said() {
    let cluster = TestCluster::new(|_, _| ()).await;
    let store = cluster.store().await;
    let forbidden = store.list_jobs("kube-system").await.unwrap_err();
    assert!(matches!(&forbidden, StoreError::Denied(text) if text.contains("cannot list")), "{forbidden}");
    let elsewhere = NewJob { namespace: "kube-system".into(), ..cluster.new_job(1) };
    let refused = store.create_job(&elsewhere).await.unwrap();
    assert!(
        matches!(&refused, Creation::Refused(text) if text.contains("does not match") || text.contains("forbidden")),
        "{refused:?}"
    );
    let unknown = Version(Some("1".into()));
    assert!(!store.swap_ledger(&unknown, &Ledger::default()).await.unwrap());
    cluster.remove().await;
}

/// Creates a Job with all rights; what the API server says against it.
async fn let_in(cluster: &TestCluster, job: &Value) -> String {
    let path = format!("/apis/batch/v1/namespaces/{}/jobs?dryRun=All", cluster.namespace());
    let answered = cluster.call(Method::POST, &path, "application/json", job).await;
    answered.body["message"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
#[ignore = "needs a cluster"]
async fn only_jobs_of_our_shape_get_into_an_agents_namespace() {
    let cluster = TestCluster::new(|_, _| ()).await;
    let maker = cluster.maker(|_, name| format!("value of {name}"));
    let ours = serde_json::to_value(maker.job(&cluster.new_job(1), &Running::default()).unwrap()).unwrap();
    let foreign = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "miner"}, "spec": {
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "none.invalid/x:1"}]}}}});
    for _ in 0..100 {
        if !let_in(&cluster, &foreign).await.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(let_in(&cluster, &ours).await, "");
    let refusal = let_in(&cluster, &foreign).await;
    assert!(refusal.contains("only Jobs of astra-dispatch for this namespace's agent run here"), "{refusal}");
    let pod = "/spec/template/spec";
    for (place, value, words) in [
        (
            "/metadata/labels/dispatch.astra.dev~1agent".to_owned(),
            json!("another"),
            "only Jobs of astra-dispatch",
        ),
        ("/metadata/name".to_owned(), json!("another"), "the run's name"),
        ("/metadata/annotations".to_owned(), json!({}), "the run's name, labels and annotations"),
        ("/spec/parallelism".to_owned(), json!(2), "one pod, and one attempt"),
        ("/spec/suspend".to_owned(), json!(false), "created suspended"),
        (format!("{pod}/serviceAccountName"), json!("default"), "service account, and not its token"),
        (format!("{pod}/automountServiceAccountToken"), json!(true), "service account, and not its token"),
        (format!("{pod}/volumes/0"), json!({"name": "bin", "hostPath": {"path": "/"}}), "empty volumes"),
        (
            format!("{pod}/volumes/0"),
            json!({"name": "bin", "secret": {"secretName": "another"}}),
            "empty volumes",
        ),
        (format!("{pod}/hostNetwork"), json!(true), "what is the node's"),
        (
            format!("{pod}/containers/0/ports"),
            json!([{"containerPort": 80, "hostPort": 80}]),
            "what is the node's",
        ),
        (
            format!("{pod}/initContainers/1/envFrom"),
            json!([{"secretRef": {"name": "another"}}]),
            "from nothing else",
        ),
    ] {
        let mut job = ours.clone();
        let (parent, key) = place.rsplit_once('/').unwrap();
        let parent = job.pointer_mut(parent).unwrap();
        match key.parse::<usize>() {
            Ok(number) => parent[number] = value,
            Err(_) => parent[key.replace("~1", "/")] = value,
        }
        let refusal = let_in(&cluster, &job).await;
        assert!(
            refusal.contains("ValidatingAdmissionPolicy") && refusal.contains(words),
            "{place}: {refusal}"
        );
    }
    cluster.remove().await;
}
