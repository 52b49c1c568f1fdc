//! `dispatch` onto a real cluster, with the real program: from an event to a branch, beyond capacity,
//! cancelled, tried without effect, and where something is missing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/cluster_site.rs"]
mod cluster_site;
#[path = "support/git_server.rs"]
mod git_server;
#[path = "support/relay.rs"]
mod relay;
#[path = "support/site.rs"]
mod site;

use std::process::Command;

use cluster_site::{ClusterSite, Worker};
use http::Method;
use serde_json::{Value, json};
use site::{runs_in, text};

/// A task with "slow" in its text takes long.
const SCRIPT: &str = "if grep -q slow $RUN_TASK_FILE; then sleep 600; fi; echo hello > hello.txt; \
                      echo 'Said hello.' > $RUN_OUTPUT_DIR/summary.md";

/// One agent.
async fn world() -> ClusterSite {
    ClusterSite::new(&[Worker::new("coder", SCRIPT)], |settings| settings).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn an_event_becomes_a_branch_and_frees_its_slot() {
    let world = world().await;
    let event = world.site.event(7, 1, &json!({}));
    let explained = world.json(&["explain", "--event", &event, "--format", "json"]);
    assert_eq!(
        (&explained["outcome"], &explained["executor"]["kind"]),
        (&json!("dispatched"), &json!("kubernetes"))
    );
    let tried = world.run(&["dispatch", "--event", &event, "--dry-run", "server"]);
    let said = text(&tried.stdout);
    assert_eq!(
        (tried.status.code(), said.matches("would be taken").count()),
        (Some(0), 2),
        "{said}{}",
        text(&tried.stderr)
    );
    assert_eq!(world.status()["runs"], json!([]), "nothing was changed");

    let first = world.dispatch(&event);
    assert_eq!(first["outcome"], "dispatched", "{first:#}");
    let run = first["run"].as_str().unwrap();
    assert_eq!(
        (&first["executor"]["job"], &first["executor"]["namespace"]),
        (&json!(run), &json!(world.cluster.namespace()))
    );
    let again = world.dispatch(&event);
    assert_eq!((&again["outcome"], &again["run"]), (&json!("ignored"), &json!(run)), "{again:#}");
    let second = world.site.event(8, 1, &json!({}));
    assert_eq!(world.dispatch(&second)["outcome"], "waiting");
    assert_eq!(world.status()["waiting"][0]["task"], "AST-8");

    let plan = world.published(run).await;
    assert_eq!(plan["pull_request"]["base"], "main", "{plan:#}");
    assert!(plan.to_string().contains("Said hello."), "{plan:#}");
    assert_eq!(world.git.git(&["show", &format!("astra/{run}:hello.txt")]), "hello");
    let status = world.status();
    assert_eq!(
        (runs_in(&status, "published"), &status["runs"][0]["outcome"]),
        (1, &json!("changed")),
        "{status:#}"
    );
    let log = text(&world.run(&["logs", run]).stdout);
    assert!(log.contains("prepare: at ") && log.contains("agent: "), "{log}");
    // Its slot is free.
    let second = world.dispatch(&second);
    assert_eq!(second["outcome"], "dispatched", "{second:#}");
    // Its pod is removed before anybody reads its result: the repository has a copy.
    let run = second["run"].as_str().unwrap();
    world.ended(run).await;
    let job = world.job("coder", run);
    world.cluster.delete_pod(&job).await;
    cluster::eventually("the pod is gone", || async {
        world.cluster.pod(&job).await.is_null().then_some(())
    })
    .await;
    let seen = world.status();
    assert_eq!(seen["runs"][0]["outcome"], "changed", "{seen:#}");
    let plan = world.published(run).await;
    assert!(plan.to_string().contains("Said hello."), "{plan:#}");
    world.cluster.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn the_relay_tells_of_a_run_the_moment_it_ends() {
    let world = world().await;
    let github = relay::GitHubFake::start();
    let kubeconfig = world.site.path("kubeconfig").display().to_string();
    let variables = [("KUBECONFIG", kubeconfig.as_str()), ("ASTRA_WATCH_JOBS", "true")];
    let mut first = relay::Relay::start(&world.site, &github, &variables);
    let report = world.dispatch(&world.site.event(7, 1, &json!({})));
    let run = report["run"].as_str().unwrap();
    let raised = cluster::eventually("the workflow is told", || async { github.raised().pop() }).await;
    assert_eq!(raised["event_type"], "astra-result");
    let expected = json!({"version": 1, "run": run, "namespace": world.namespace("coder")});
    assert_eq!(raised["client_payload"], expected);
    world.ended(run).await;
    // Whoever was away when it ended is told by the next relay; once it is published, by none.
    first.kill();
    let mut second = relay::Relay::start(&world.site, &github, &variables);
    github.wait_for(2);
    world.published(run).await;
    second.kill();
    let third = relay::Relay::start(&world.site, &github, &variables);
    github.stays_at(2);
    let metrics = third.get("/metrics").1;
    assert_eq!(relay::counter(&metrics, "results", "raised"), 0, "{metrics}");
    world.cluster.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_run_is_cancelled_and_an_item_that_is_gone_takes_its_run_with_it() {
    let world = world().await;
    let slow = world.site.event(7, 1, &json!({"name": "A slow task"}));
    let first = world.dispatch(&slow);
    let run = first["run"].as_str().unwrap();
    let cancelled = world.run(&["cancel", run]);
    assert!(text(&cancelled.stdout).contains("cancelled"), "{}", text(&cancelled.stderr));
    let plan = world.published(run).await;
    assert!(plan["pull_request"].is_null(), "{plan:#}");
    assert!(text(&world.run(&["cancel", run]).stdout).contains("has ended already"));

    let slow = world.site.event(8, 1, &json!({"name": "Another slow task"}));
    let second = world.dispatch(&slow);
    assert_eq!(second["outcome"], "dispatched", "{second:#}");
    let mut gone: Value =
        serde_json::from_str(&std::fs::read_to_string(world.site.path(&slow)).unwrap()).unwrap();
    gone["action"] = json!("deleted");
    world.site.write("gone.json", &gone.to_string());
    let report = world.dispatch("gone.json");
    assert_eq!((&report["outcome"], &report["run"]), (&json!("cancelled"), &second["run"]), "{report:#}");
    world.published(second["run"].as_str().unwrap()).await;
    world.cluster.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn what_is_missing_is_said() {
    let world = world().await;
    let event = world.site.event(7, 1, &json!({}));
    let settings = std::fs::read_to_string(world.site.path(".astra/astra.yaml")).unwrap();
    let elsewhere = settings.replace("system_namespace: astra-", "system_namespace: nowhere-");
    world.site.write(".astra/astra.yaml", &elsewhere);
    let output = world.run(&["dispatch", "--event", &event]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("agents doctor") || said.contains("agents provision"), "{said}");
    world.site.write(".astra/astra.yaml", &settings);

    // An agent whose namespace is gone refuses; nothing is left behind.
    let path = format!("/api/v1/namespaces/{}", world.cluster.namespace());
    world.cluster.call(Method::DELETE, &path, "application/json", &Value::Null).await;
    let output = world.run(&["dispatch", "--event", &event, "--format", "json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    assert_ne!(report["outcome"], "dispatched", "{report:#}{}", text(&output.stderr));
    world.cluster.remove().await;
}

/// A policy that lets no Job into a namespace.
async fn forbid_jobs(world: &ClusterSite, namespace: &str) {
    let meta = json!({"name": namespace});
    let version = "admissionregistration.k8s.io/v1";
    world
        .cluster
        .apply(&json!({
            "apiVersion": version, "kind": "ValidatingAdmissionPolicy", "metadata": meta,
            "spec": {
                "matchConstraints": {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                    "resourceRules": [{"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"],
                        "resources": ["jobs"]}],
                },
                "validations": [{"expression": "false", "message": "no Jobs today"}],
            }
        }))
        .await;
    world
        .cluster
        .apply(&json!({
            "apiVersion": version, "kind": "ValidatingAdmissionPolicyBinding", "metadata": meta,
            "spec": {"policyName": namespace, "validationActions": ["Deny"]}
        }))
        .await;
}

async fn allow_jobs(world: &ClusterSite, namespace: &str) {
    for kind in ["validatingadmissionpolicybindings", "validatingadmissionpolicies"] {
        let path = format!("/apis/admissionregistration.k8s.io/v1/{kind}/{namespace}");
        let answered = world.cluster.call(Method::DELETE, &path, "application/json", &Value::Null).await;
        assert_eq!(answered.status, 200, "{}", answered.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_job_that_a_policy_of_the_cluster_refuses_waits_and_others_go_on() {
    let world =
        ClusterSite::new(&[Worker::new("coder", SCRIPT), Worker::new("other", SCRIPT)], |settings| settings)
            .await;
    let namespace = world.namespace("coder");
    let untouched = world.site.event(1, 1, &json!({}));
    let tried = || text(&world.run(&["dispatch", "--event", &untouched, "--dry-run", "server"]).stdout);
    forbid_jobs(&world, &namespace).await;
    cluster::eventually("the policy is in force", || async {
        tried().contains("no Jobs today").then_some(())
    })
    .await;

    let report = world.dispatch(&world.site.event(2, 1, &json!({})));
    let reason = report["reason"].as_str().unwrap();
    assert_eq!((&report["outcome"], &report["run"]), (&json!("waiting"), &Value::Null), "{report:#}");
    for words in ["the cluster refuses its Job: ", "no Jobs today; ", "agents doctor"] {
        assert!(reason.contains(words), "{words:?} is missing in {reason}");
    }
    assert_eq!(world.status()["runs"], json!([]), "nothing is left of it");
    assert_eq!(world.busy("coder"), 0);
    assert_eq!(world.ask("other", 3)["outcome"], "dispatched");

    allow_jobs(&world, &namespace).await;
    cluster::eventually("the policy is gone", || async {
        (!tried().contains("no Jobs today")).then_some(())
    })
    .await;
    let changed = world.site.event(2, 2, &json!({"name": "Another name"}));
    let report = world.dispatch(&changed);
    assert_eq!(report["outcome"], "dispatched", "{report:#}");
    world.cluster.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_ledger_that_is_full_takes_no_more_and_loses_nothing() {
    let world = world().await;
    let slow = world.site.event(7, 1, &json!({"name": "A slow task"}));
    let first = world.dispatch(&slow);
    let run = first["run"].as_str().unwrap();
    let path = format!("/api/v1/namespaces/{}/configmaps/ledger", world.cluster.system_namespace);
    let document = || async {
        let read = world.cluster.get(&path).await.body;
        read["data"]["ledger.json"].as_str().unwrap().to_owned()
    };
    // A ConfigMap holds 1 MiB. There is room to note that a run is to stop, and not for another task.
    let mut ledger: Value = serde_json::from_str(&document().await).unwrap();
    let id = |number: u128| uuid::Uuid::from_u128(number);
    let blocked = |number: u128, reason: usize| {
        json!({"item": id(number), "project": id(1), "reason": "x".repeat(reason), "fingerprint": "f",
            "retry_at": "2099-01-01T00:00:00Z"})
    };
    ledger["blocked"] = (0..1000).map(|number| blocked(1_000 + number, 800)).collect();
    let left = (1 << 20) - 60 - ledger.to_string().len();
    ledger["blocked"][0] = blocked(1_000, 800 + left);
    let full = ledger.to_string();
    let data = json!({"data": {"ledger.json": full}});
    let written = world.cluster.call(Method::PATCH, &path, "application/merge-patch+json", &data).await;
    assert_eq!(written.status, 200, "{}", written.body["message"]);

    let event = world.site.event(8, 1, &json!({}));
    let output = world.run(&["dispatch", "--event", &event]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the store is full") && said.contains("cancel runs"), "{said}");
    assert_eq!(document().await, full);
    let known = text(&world.run(&["dispatch", "--event", &slow, "--format", "json"]).stdout);
    assert!(known.contains(run), "its run goes on: {known}");

    // The remedy.
    assert!(text(&world.run(&["cancel", run]).stdout).contains("cancelled"));
    world.published(run).await;
    let report = world.dispatch(&event);
    assert_eq!(report["outcome"], "dispatched", "{report:#}");
    world.cluster.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn the_kustomization_makes_what_is_there_already() {
    let world = world().await;
    let written = world.run(&["agents", "provision", "--kustomize", "manifests"]);
    assert!(written.status.success(), "{}", text(&written.stderr));
    let apply = || {
        let mut kubectl = Command::new(cluster::kubectl());
        kubectl
            .env("KUBECONFIG", std::env::var_os("ASTRA_TEST_KUBECONFIG").unwrap())
            .env("HOME", world.site.path("home"));
        let output =
            kubectl.args(["apply", "--kustomize"]).arg(world.site.path("manifests")).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let (first, again) = (apply(), apply());
    assert!(!first.contains(" created"), "{first}");
    assert!(again.lines().count() > 10 && again.lines().all(|line| line.ends_with(" unchanged")), "{again}");
    world.cluster.remove().await;
}
