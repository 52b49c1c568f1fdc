//! Limits and faults on a real node, with the real program: what each is called, what is to be done
//! about it, that its slot is free afterwards, and that the machine's faults are tried again, bounded.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/cluster_site.rs"]
mod cluster_site;
#[path = "support/git_server.rs"]
mod git_server;
#[path = "support/site.rs"]
mod site;

use cluster_site::{ClusterSite, Worker};
use http::Method;
use serde_json::{Value, json};
use site::text;

const SLEEP: &str = "trap 'exit 1' TERM; echo begun; while :; do sleep 1; done";

/// The run that a report began.
fn begun(report: &Value) -> String {
    assert_eq!(report["outcome"], "dispatched", "{report:#}");
    report["run"].as_str().unwrap().to_owned()
}

/// Changes an object as a person with all rights may.
async fn patch(world: &ClusterSite, path: &str, change: Value) {
    let answered = world.cluster.call(Method::PATCH, path, "application/merge-patch+json", &change).await;
    assert!(answered.status < 300, "{path}: {}", answered.body);
}

fn assert_says(told: &Value, words: &[&str]) {
    let told = told.to_string();
    for word in words {
        assert!(told.contains(word), "{word:?} is missing in {told}");
    }
}

/// A run that failed by its agent's fault: it says so, its slot is free, and it is not tried again.
async fn check_own_fault(world: &ClusterSite, role: &str, run: &str, outcome: &str, words: &str) {
    let seen = world.ended(run).await;
    assert_eq!((&seen["outcome"], &seen["class"]), (&json!(outcome), &json!("agent")), "{role}: {seen:#}");
    assert!(seen["reason"].as_str().unwrap().contains(words), "{role}: {seen:#}");
    assert!(seen["next"].as_str().unwrap().contains("log of the run"), "{role}: {seen:#}");
    assert_eq!(world.busy(role), 0, "{role}");
    let told = world.published(run).await;
    match role {
        "time" => {
            assert_eq!(told["pull_request"]["draft"], true, "{told:#}");
            assert_eq!(world.git.git(&["show", &format!("astra/{run}:half.txt")]), "half");
        }
        _ => {
            assert!(told["pull_request"].is_null(), "{told:#}");
            assert_says(&told["tracker"], &["The agent itself failed", "Read the log of the run"]);
        }
    }
    // Its own fault is not tried again.
    assert_eq!(
        world.status()["runs"].as_array().unwrap().iter().filter(|one| one["agent"] == seen["agent"]).count(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn an_agent_that_goes_beyond_its_limits_fails_by_itself_and_frees_its_slot() {
    let world = ClusterSite::new(
        &[
            Worker {
                limits: "time: 4s, memory: 256Mi, cpu: 400m",
                ..Worker::new("time", "echo half > half.txt; sleep 600")
            },
            Worker {
                limits: "memory: 96Mi, cpu: 400m",
                ..Worker::new("memory", "awk 'BEGIN { s = \"x\"; while (1) s = s s }'")
            },
            Worker::new("disk", "fallocate -l 5G $TMPDIR/big; sleep 600"),
            Worker::new("exit", "echo no idea >&2; exit 7"),
            Worker::new("stuck", SLEEP),
        ],
        |settings| settings,
    )
    .await;
    let roles = ["time", "memory", "disk", "exit", "stuck"];
    let runs: Vec<String> =
        roles.iter().zip(1..).map(|(role, number)| begun(&world.ask(role, number))).collect();
    // The agent's own clock ends it long before; so the pod's is moved.
    let stuck = world.job("stuck", &runs[4]);
    world.cluster.step_runs(&stuck, "agent").await;
    let pod = world.cluster.pod(&stuck).await;
    let path =
        format!("/api/v1/namespaces/{}/pods/{}", stuck.namespace, pod["metadata"]["name"].as_str().unwrap());
    patch(&world, &path, json!({"spec": {"activeDeadlineSeconds": 1}})).await;

    for (role, run, outcome, words) in [
        ("time", &runs[0], "timed_out", "time"),
        ("memory", &runs[1], "failed", "memory"),
        ("disk", &runs[2], "failed", "files took more than"),
        ("exit", &runs[3], "failed", "exit code 7"),
        ("stuck", &runs[4], "failed", "the pod's time was up"),
    ] {
        check_own_fault(&world, role, run, outcome, words).await;
    }
    world.cluster.remove().await;
}

/// Attempts of a task whose machine fails each time.
struct Task<'a> {
    world: &'a ClusterSite,
    role: &'static str,
    number: u64,
}

impl Task<'_> {
    fn ask(&self) -> Value {
        self.world.ask(self.role, self.number)
    }

    /// The run of the second attempt, once it has been made. Passes are what events and the sweep cause.
    async fn second_attempt(&self) -> String {
        let look = || {
            let status = self.world.status();
            let task = format!("AST-{}", self.number);
            let ours = |row: &&Value| {
                row["task"] == task.as_str() && row["attempt"] == 2 && row["state"] != "reserved"
            };
            let row = status["runs"].as_array().unwrap().iter().find(ours)?;
            Some(row["run"].as_str().unwrap().to_owned())
        };
        cluster::eventually(&format!("a second attempt of {}", self.role), || async {
            look().or_else(|| {
                self.ask();
                look()
            })
        })
        .await
    }
}

/// Lets the attempts of four tasks fail: two wait for what does not come, and say so; two run until
/// somebody ends them. `is_last`: there will be no other.
async fn fail_all(world: &ClusterSite, tasks: &[Task<'_>; 4], runs: &[String], is_last: bool) {
    for (run, words, next) in [
        (&runs[0], "the image of agent cannot be pulled", "pull_secret"),
        (&runs[1], "no node has room for it", "add a node"),
    ] {
        let seen = world.until(run, "waits", |row| row["class"] == "infrastructure").await;
        if seen["ended"].is_null() {
            assert_eq!(seen["state"], "starting", "{seen:#}");
        }
        assert!(seen["reason"].as_str().unwrap().contains(words), "{seen:#}");
        assert!(seen["ended"].is_string() || seen["next"].as_str().unwrap().contains(next), "{seen:#}");
    }
    let (deleted, late) = (world.job("pod", &runs[2]), world.job("late", &runs[3]));
    world.cluster.step_runs(&deleted, "agent").await;
    world.cluster.delete_pod(&deleted).await;
    world.cluster.step_runs(&late, "agent").await;
    let path = format!("/apis/batch/v1/namespaces/{}/jobs/{}", late.namespace, late.run);
    patch(world, &path, json!({"spec": {"activeDeadlineSeconds": 1}})).await;
    for (task, run, words) in [
        (&tasks[0], &runs[0], "it did not start in time: the image of agent cannot be pulled"),
        (&tasks[1], &runs[1], "it did not start in time: no node has room for it"),
        (&tasks[2], &runs[2], "its pod is gone"),
        (&tasks[3], &runs[3], "time was up before its pod"),
    ] {
        // Passes end what is overdue.
        let seen = cluster::eventually(&format!("{run} has ended"), || async {
            world.json(&["publish", "--format", "json"]);
            let status = world.status();
            status["runs"]
                .as_array()
                .unwrap()
                .iter()
                .find(|row| row["run"] == run.as_str() && row["ended"].is_string())
                .cloned()
        })
        .await;
        let reason = seen["reason"].as_str().unwrap();
        assert!(seen["class"] == "infrastructure" && reason.contains(words), "{seen:#}");
        if is_last {
            let told = world.published(run).await;
            assert_says(&told["tracker"], &["service failed", "as often as `max_attempts` allows", words]);
            assert_eq!(world.busy(task.role), 0, "{}", task.role);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn what_the_cluster_does_to_a_run_is_tried_again_and_not_for_ever() {
    let digest = "127.0.0.1:1/none@sha256:0000000000000000000000000000000000000000000000000000000000000000";
    let world = ClusterSite::new(
        &[
            Worker { image: Some(digest), ..Worker::new("image", "true") },
            Worker { limits: "memory: 256Mi, cpu: \"1000\"", ..Worker::new("room", "true") },
            Worker::new("pod", SLEEP),
            Worker::new("late", SLEEP),
        ],
        |settings| {
            let settings =
                settings.replace("cpu: \"2\"", "cpu: \"1000\"").replace("pending: 10m", "pending: 8s");
            settings.replace("max_attempts: 3", "max_attempts: 2")
        },
    )
    .await;
    let task = |role, number| Task { world: &world, role, number };
    let tasks = [task("image", 1), task("room", 2), task("pod", 3), task("late", 4)];
    let first: Vec<String> = tasks.iter().map(|task| begun(&task.ask())).collect();
    fail_all(&world, &tasks, &first, false).await;
    // Each back-off begins when a pass has seen the item.
    tasks.iter().for_each(|task| drop(task.ask()));
    let mut second = Vec::new();
    for task in &tasks {
        second.push(task.second_attempt().await);
    }
    fail_all(&world, &tasks, &second, true).await;
    let jobs = world.status()["runs"].as_array().unwrap().len();
    assert_eq!(jobs, 8, "two attempts each: {:#}", world.status());
    world.cluster.remove().await;
}

/// Its result is in the repository, and nowhere else.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn work_that_was_pushed_before_its_pod_was_lost_is_not_done_again() {
    let world = ClusterSite::new(&[Worker::new("coder", "echo work > work.txt")], |settings| settings).await;
    // The push is received, and the pod does not hear of it.
    world.git.hook("post-receive", "#!/bin/sh\nif grep -q refs/astra/results/; then sleep 30; fi\n");
    let run = begun(&world.ask("coder", 1));
    cluster::eventually("the result is pushed", || async {
        let refs = world.git.git(&["for-each-ref", "refs/astra/results"]);
        (!refs.is_empty()).then_some(())
    })
    .await;
    world.cluster.evict_pod(&world.job("coder", &run)).await;
    let lost = world.ended(&run).await;
    assert_eq!(lost["class"], "infrastructure", "{lost:#}");
    world.ask("coder", 1);
    let told = world.published(&run).await;
    assert_eq!(told["pull_request"]["head"], format!("astra/{run}"), "{told:#}");
    let status = world.status();
    assert_eq!(status["runs"].as_array().unwrap().len(), 1, "no other attempt: {status:#}");
    assert_eq!(status["runs"][0]["outcome"], "changed", "{status:#}");
    let branches = world.git.git(&["for-each-ref", "--format=%(refname:short)", "refs/heads/astra"]);
    assert_eq!(branches, format!("astra/{run}"));
    assert_eq!(world.busy("coder"), 0);
    world.cluster.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn what_a_person_stops_or_deletes_frees_its_slot_and_opens_no_pull_request() {
    let world = ClusterSite::new(
        &[
            Worker::new("agent", SLEEP),
            Worker::new("deliver", "echo work > work.txt"),
            Worker::new("job", SLEEP),
        ],
        |settings| settings,
    )
    .await;
    // The push of one task takes long.
    world.git.hook("pre-receive", "#!/bin/sh\nif grep -q refs/heads/astra/ast-2-; then sleep 8; fi\n");
    let roles = ["agent", "deliver", "job"];
    let runs: Vec<String> =
        roles.iter().zip(1..).map(|(role, number)| begun(&world.ask(role, number))).collect();
    for (role, run, step) in [("agent", &runs[0], "agent"), ("deliver", &runs[1], "deliver")] {
        let seen = world.until(run, "runs its step", |row| row["step"] == step).await;
        assert_eq!(seen["state"], "running", "{seen:#}");
        let said = text(&world.run(&["cancel", run]).stdout);
        assert!(said.contains("cancelled"), "{said}");
        assert_eq!(world.busy(role), 1, "its pod still runs out its grace period");
    }
    let job = world.job("job", &runs[2]);
    world.cluster.step_runs(&job, "agent").await;
    let path =
        format!("/apis/batch/v1/namespaces/{}/jobs/{}?propagationPolicy=Background", job.namespace, job.run);
    let answered = world.cluster.call(Method::DELETE, &path, "application/json", &Value::Null).await;
    assert!(answered.status < 300, "{}", answered.body);

    for (role, run) in [("agent", &runs[0]), ("deliver", &runs[1])] {
        let told = world.published(run).await;
        assert!(told["pull_request"].is_null(), "{told:#}");
        assert_says(&told["tracker"], &["stopped by a person"]);
        let seen = world.until(run, "is published", |row| row["state"] == "published").await;
        assert_eq!((&seen["class"], &seen["branch"]), (&json!("cancelled"), &Value::Null), "{seen:#}");
        assert_eq!(world.busy(role), 0, "{role}");
    }
    // Nothing is known of a run whose Job is gone; its task can be asked for again.
    cluster::eventually("the slot of the deleted Job is free", || async {
        world.json(&["publish", "--format", "json"]);
        (world.busy("job") == 0).then_some(())
    })
    .await;
    let again = world.ask("job", 3);
    assert_ne!(begun(&again), runs[2]);
    world.cluster.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster"]
async fn a_quota_without_room_is_said_and_the_run_can_be_cancelled() {
    let world = ClusterSite::new(&[Worker::new("coder", "true")], |settings| settings).await;
    let path = format!("/api/v1/namespaces/{}/resourcequotas", world.namespace("coder"));
    let quotas = world.cluster.get(&path).await.body;
    let name = quotas["items"][0]["metadata"]["name"].as_str().unwrap();
    patch(&world, &format!("{path}/{name}"), json!({"spec": {"hard": {"pods": "0"}}})).await;
    let run = begun(&world.ask("coder", 1));
    let seen = world.until(&run, "says why it waits", |row| row["class"] == "infrastructure").await;
    assert_eq!(seen["state"], "starting", "{seen:#}");
    assert!(seen["reason"].as_str().unwrap().contains("quota has no room for its pod"), "{seen:#}");
    assert!(seen["next"].as_str().unwrap().contains("agents provision"), "{seen:#}");
    assert!(text(&world.run(&["cancel", &run]).stdout).contains("cancelled"));
    world.published(&run).await;
    assert_eq!(world.busy("coder"), 0);
    world.cluster.remove().await;
}
