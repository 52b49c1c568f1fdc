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

use cluster_site::{ClusterSite, Worker};
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
    world.cluster.call(http::Method::DELETE, &path, "application/json", &Value::Null).await;
    let output = world.run(&["dispatch", "--event", &event, "--format", "json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    assert_ne!(report["outcome"], "dispatched", "{report:#}{}", text(&output.stderr));
    world.cluster.remove().await;
}
