//! Everything of a cluster is killed but etcd and the containers, while a run is at work: it goes on, and
//! nothing is tried again.

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

const SCRIPT: &str = "sleep 8; echo survived > survived.txt";

/// They are started again by themselves (tests/cluster/init).
fn kill(program: &str) {
    let inside = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/inside");
    // The kernel keeps 15 characters of a process's name.
    let killed =
        Command::new(inside).args(["pkill", "-KILL", "-f", &format!("/bin/{program} ")]).output().unwrap();
    assert!(killed.status.success(), "{program}: {}", text(&killed.stderr));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster of its own"]
async fn a_run_survives_a_restart_of_the_cluster() {
    let world = ClusterSite::new(&[Worker::new("coder", SCRIPT)], |settings| settings).await;
    let report = world.ask("coder", 1);
    let run = report["run"].as_str().unwrap();
    world.cluster.step_runs(&world.job("coder", run), "agent").await;
    for program in ["kubelet", "kube-scheduler", "kube-controller-manager", "kube-apiserver"] {
        kill(program);
    }
    // Who asks now is told to try again, and never that it may not: an API server that has not loaded
    // its roles yet refuses everything.
    cluster::eventually("the cluster answers", || async {
        let output = world.run(&["status"]);
        let code = output.status.code();
        assert!([Some(0), Some(75)].contains(&code), "{code:?}: {}", text(&output.stderr));
        (code == Some(0)).then_some(())
    })
    .await;
    let seen = world.ended(run).await;
    assert_eq!((&seen["outcome"], &seen["attempt"]), (&json!("changed"), &json!(1)), "{seen:#}");
    assert_eq!(world.git.git(&["show", &format!("astra/{run}:survived.txt")]), "survived");
    world.published(run).await;
    assert_eq!(world.busy("coder"), 0);
    assert_eq!(world.status()["runs"].as_array().unwrap().len(), 1);
    world.cluster.remove().await;
}
