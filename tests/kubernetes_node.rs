//! What a node does to a run, as administrators know it: `kubectl drain`, and an eviction by the kubelet.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/cluster_site.rs"]
mod cluster_site;
#[path = "support/git_server.rs"]
mod git_server;
#[path = "support/site.rs"]
mod site;

use std::path::Path;
use std::process::Command;

use cluster_site::{ClusterSite, Worker};
use serde_json::json;
use site::text;

/// A program in the cluster's namespaces (tests/cluster/inside).
fn command(arguments: &[&str]) -> Command {
    let mut inside = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/inside"));
    inside.args(arguments);
    inside
}

fn inside(arguments: &[&str]) {
    let output = command(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
}

/// The node takes pods again, whatever becomes of the test.
struct Cordoned;

impl Drop for Cordoned {
    fn drop(&mut self) {
        let _ = command(&["kubectl", "uncordon", "node"]).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster of its own"]
async fn a_run_on_a_drained_node_is_tried_again_once_there_is_one() {
    let script = "sleep 15; echo done > done.txt";
    let world = ClusterSite::new(&[Worker::new("coder", script)], |settings| settings).await;
    let first = world.ask("coder", 1)["run"].as_str().unwrap().to_owned();
    world.cluster.step_runs(&world.job("coder", &first), "agent").await;
    let cordoned = Cordoned;
    // As the handbook says: pods with an emptyDir and pods of no controller go, too.
    inside(&[
        "kubectl",
        "drain",
        "node",
        "--ignore-daemonsets",
        "--delete-emptydir-data",
        "--force",
        "--timeout=80s",
    ]);
    let lost = world.ended(&first).await;
    assert_eq!(lost["class"], "infrastructure", "{lost:#}");
    assert!(lost["reason"].as_str().unwrap().contains("disrupted"), "{lost:#}");

    let second = cluster::eventually("a second attempt", || async {
        world.ask("coder", 1);
        let status = world.status();
        let rows = status["runs"].as_array().unwrap();
        let row = rows.iter().find(|row| row["attempt"] == 2 && row["state"] != "reserved")?;
        Some(row["run"].as_str().unwrap().to_owned())
    })
    .await;
    let waits = world.until(&second, "says why it waits", |row| row["class"] == "infrastructure").await;
    assert!(waits["reason"].as_str().unwrap().contains("unschedulable"), "{waits:#}");
    drop(cordoned);
    assert_eq!(world.ended(&second).await["outcome"], "changed");
    world.published(&second).await;
    let branches = world.git.git(&["for-each-ref", "--format=%(refname:short)", "refs/heads/astra"]);
    assert_eq!(branches, format!("astra/{second}"));
    assert_eq!(world.busy("coder"), 0);
    world.cluster.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster of its own"]
async fn a_run_that_the_kubelet_evicts_is_its_agents_fault() {
    let script = "echo begun; sleep 5; fallocate -l 5G $TMPDIR/big; sleep 600";
    let world = ClusterSite::new(&[Worker::new("coder", script)], |settings| settings).await;
    let run = world.ask("coder", 1)["run"].as_str().unwrap().to_owned();
    let job = world.job("coder", &run);
    world.cluster.log_says(&job, "agent", "begun").await;
    // Our own watch would be quicker than the kubelet's, which looks every ten seconds.
    inside(&["pkill", "-STOP", "-f", "astra-dispatch run agent"]);
    let pod = cluster::eventually("the kubelet evicts it", || async {
        Some(world.cluster.pod(&job).await).filter(|pod| pod["status"]["reason"] == "Evicted")
    })
    .await;
    let conditions = pod["status"]["conditions"].to_string();
    assert!(!conditions.contains("EvictionByEvictionAPI"), "{conditions}");
    let seen = world.ended(&run).await;
    assert_eq!((&seen["outcome"], &seen["class"]), (&json!("failed"), &json!("agent")), "{seen:#}");
    assert!(seen["reason"].as_str().unwrap().contains("evicted"), "{seen:#}");
    let told = world.published(&run).await;
    assert!(told["pull_request"].is_null(), "{told:#}");
    // Its own fault is not tried again.
    assert_eq!(world.status()["runs"].as_array().unwrap().len(), 1);
    assert_eq!(world.busy("coder"), 0);
    world.cluster.remove().await;
}
