//! From one event to the released Job, the whole process, against `kubectl create -f` of the same Job.
//! Goal: at most half of the time.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use astra_dispatch::domain::kubernetes::LABEL_RUN;
use http::Method;
use serde_json::Value;

use crate::cluster;
use crate::coders::Coders;
use crate::{median, ms, site};

const ROUNDS: u64 = 15;

pub(crate) async fn measure() {
    let program = assert_cmd::cargo::cargo_bin("astra-dispatch");
    // Each with a ledger of its own, so that none goes on with what another one left.
    let (by_plane, by_event) = (Coders::new(5, 10, ROUNDS).await, Coders::new(5, 10, ROUNDS).await);
    let (mut kubectl, mut with_plane, mut offline) = (Vec::new(), Vec::new(), Vec::new());
    for task in 1..=ROUNDS {
        let manifest = manifest(&by_plane, &program, task).await;
        kubectl.push(timed(create(&by_plane, &manifest)).await);
        // With a state of its own: the budget of requests to Plane is kept there.
        let dispatch = by_plane.dispatch(&program, &format!("state-{task}"), task);
        with_plane.push(timed_dispatch(dispatch).await);
        let mut dispatch = by_event.dispatch(&program, "state", task);
        dispatch.env_remove("PLANE_API_KEY");
        offline.push(timed_dispatch(dispatch).await);
    }
    let jobs = "/apis/batch/v1/namespaces/default/jobs?propagationPolicy=Background&labelSelector=";
    let ours = format!("{jobs}{}", LABEL_RUN.replace('/', "%2F"));
    by_plane.cluster.call(Method::DELETE, &ours, "application/json", &Value::Null).await;
    by_plane.cluster.remove().await;
    by_event.cluster.remove().await;
    let kubectl = median(kubectl);
    println!("one event to a released Job (median of {ROUNDS}; goal: at most 0.5 of kubectl)");
    println!("  kubectl create -f of the same Job   {}", ms(kubectl));
    for (name, times) in
        [("dispatch with Plane on loopback", with_plane), ("dispatch without Plane", offline)]
    {
        let time = median(times);
        println!("  {name:34}  {}, ratio {:.2}", ms(time), time.as_secs_f64() / kubectl.as_secs_f64());
    }
}

/// The Job of this task as `dispatch` would make it, suspended, for a namespace that no pass looks at.
async fn manifest(coders: &Coders, program: &Path, task: u64) -> PathBuf {
    let mut dispatch = coders.dispatch(program, "state", task);
    dispatch.env_remove("PLANE_API_KEY").args(["--dry-run", "client"]);
    let output = dispatch.output().await.unwrap();
    assert!(output.status.success(), "{}", site::text(&output.stderr));
    let text = site::text(&output.stdout);
    let job = text.split("---\n").find(|document| document.contains("\nkind: Job\n")).unwrap();
    let namespace = job.lines().find(|line| line.starts_with("  namespace: ")).unwrap();
    let path = coders.site.path("job.yaml");
    std::fs::write(&path, job.replace(namespace, "  namespace: default")).unwrap();
    path
}

/// With an administrator's rights, and with what it keeps about the server in `$HOME`.
fn create(coders: &Coders, manifest: &Path) -> tokio::process::Command {
    let kubeconfig = PathBuf::from(std::env::var_os("ASTRA_TEST_KUBECONFIG").unwrap());
    let mut command = coders.command(&cluster::kubectl(), "state", &["create", "-f"]);
    command.arg(manifest).env("KUBECONFIG", kubeconfig);
    command
}

async fn timed(mut command: tokio::process::Command) -> Duration {
    let begun = Instant::now();
    let output = command.output().await.unwrap();
    let time = begun.elapsed();
    assert!(output.status.success(), "{}", site::text(&output.stderr));
    time
}

async fn timed_dispatch(mut command: tokio::process::Command) -> Duration {
    let begun = Instant::now();
    let output = command.output().await.unwrap();
    let time = begun.elapsed();
    let report = site::text(&output.stdout);
    assert!(report.contains("\"dispatched\""), "{report} {}", site::text(&output.stderr));
    time
}
