//! Runs on a real node: pods as `dispatch` makes them, against a Git server on this machine.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/git_server.rs"]
mod git_server;

use std::time::{Duration, Instant};

use astra_dispatch::adapters::kubernetes::KubernetesStore;
use astra_dispatch::adapters::store::{Creation, SecretWrite, Store};
use astra_dispatch::domain::job::{CancelReason, Job, JobRef};
use astra_dispatch::domain::registry::{Registry, RuntimeKind};
use astra_dispatch::domain::result::{FailureClass, RunOutcome, RunResult};
use astra_dispatch::domain::result_copy::LOG_LINE_PREFIX;
use cluster::TestCluster;
use git_server::GitServer;

/// A cluster with one agent that is a shell script, and a Git server that its pods reach.
struct World {
    cluster: TestCluster,
    git: GitServer,
    store: KubernetesStore,
}

impl World {
    async fn new(script: &str, adapt: impl FnOnce(&mut Registry)) -> Self {
        let git = GitServer::new(cluster::host_address()).await;
        let images = cluster::images(Some(&git.authority()));
        let command = vec!["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()];
        let mut cluster = TestCluster::new(|registry, agent| {
            registry.kubernetes.image = Some(images.own);
            let agent = registry.agents.get_mut(agent).unwrap();
            agent.runtime.image = Some(images.agent);
            agent.runtime.kind = RuntimeKind::Command { command };
            agent.limits.memory = "256Mi".into();
            agent.limits.memory_bytes = 256 << 20;
            adapt(registry);
        })
        .await;
        cluster.git_base_url = git.base_url();
        let store = cluster.store().await;
        Self { cluster, git, store }
    }

    async fn start(&self, number: u64) -> JobRef {
        let new = self.cluster.new_job(number);
        let Creation::Created(uid) = self.store.create_job(&new).await.unwrap() else {
            panic!("not created")
        };
        let job = JobRef { namespace: new.namespace.clone(), run: new.run.clone(), uid };
        assert_eq!(self.store.write_secret(&new, &job).await.unwrap(), SecretWrite::Written);
        assert!(self.store.release(&job).await.unwrap());
        job
    }

    /// The Job, once it has ended.
    async fn ended(&self, job: &JobRef) -> Job {
        self.until(job, |job| job.end.is_some()).await
    }

    async fn until(&self, job: &JobRef, condition: impl Fn(&Job) -> bool) -> Job {
        let end = Instant::now() + Duration::from_secs(90);
        loop {
            let found = self.store.find_job(&job.namespace, &job.run).await.unwrap().0.unwrap();
            if condition(&found) {
                return found;
            }
            assert!(Instant::now() < end, "after 90 seconds: {found:?}");
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }
}

#[tokio::test]
#[ignore = "needs a cluster"]
async fn a_run_pushes_a_branch() {
    let world =
        World::new("echo hello > hello.txt; echo 'Said hello.' > $RUN_OUTPUT_DIR/summary.md", |_| ()).await;
    let job = world.start(1).await;
    let ended = world.ended(&job).await;
    assert_eq!(ended.end.unwrap().failure, None);
    assert_eq!(world.git.git(&["show", "astra/ast-1-x7k2p:hello.txt"]), "hello");
    // The same document three times: termination message, log, ref.
    // Right after a cluster came up, a pod was seen once that had not told it yet.
    let told = || async { world.store.cluster().result(&job).await.unwrap() };
    let result = cluster::eventually("the pod tells its result", told).await;
    assert_eq!((result.outcome, result.complete), (RunOutcome::Changed, true));
    assert_eq!(result.summary, "Said hello.");
    let kept = world.git.git(&["show", "refs/astra/results/ast-1-x7k2p:result.json"]);
    assert_eq!(serde_json::from_str::<RunResult>(&kept).unwrap(), result);
    let log = world.cluster.log_says(&job, "deliver", LOG_LINE_PREFIX).await;
    // Not the last line for sure: a container's log is two streams, which the node merges as they come.
    let line = log.lines().find_map(|line| line.strip_prefix(LOG_LINE_PREFIX)).unwrap();
    assert_eq!(serde_json::from_str::<RunResult>(line).unwrap(), result);
    world.cluster.remove().await;
}

#[tokio::test]
#[ignore = "needs a cluster"]
async fn a_run_is_cancelled_in_the_agent_step() {
    let world = World::new("trap 'exit 0' TERM; echo started; while :; do sleep 1; done", |_| ()).await;
    let job = world.start(1).await;
    world.until(&job, |job| job.pod_alive).await;
    world.cluster.step_runs(&job, "agent").await;
    let cancelled = Instant::now();
    assert!(world.store.cancel(&job, CancelReason::Person).await.unwrap());
    let stopping = world.store.find_job(&job.namespace, &job.run).await.unwrap().0.unwrap();
    assert!(stopping.pod_alive, "a suspended Job's pod runs out its grace period");
    let stopped = world.until(&job, |job| !job.pod_alive).await;
    assert!(cancelled.elapsed() < Duration::from_secs(40));
    assert_eq!(stopped.cancel.unwrap().reason, CancelReason::Person);
    assert_eq!(stopped.end, None, "a suspended Job has no ending");
    assert_eq!(world.git.git(&["branch", "--list", "astra/*"]), "");
    world.cluster.remove().await;
}

#[tokio::test]
#[ignore = "needs a cluster"]
async fn a_pod_that_is_deleted_or_evicted_is_the_machines_failure() {
    let world = World::new("sleep 600", |registry| {
        for agent in registry.agents.values_mut() {
            agent.max_concurrent_tasks = 2;
        }
    })
    .await;
    let (deleted, evicted) = (world.start(1).await, world.start(2).await);
    for job in [&deleted, &evicted] {
        world.cluster.step_runs(job, "agent").await;
    }
    world.cluster.delete_pod(&deleted).await;
    world.cluster.evict_pod(&evicted).await;
    for job in [&deleted, &evicted] {
        let failure = world.ended(job).await.end.unwrap().failure.unwrap();
        assert_eq!(failure.class, FailureClass::Infrastructure, "{failure:?}");
    }
    world.cluster.remove().await;
}

#[tokio::test]
#[ignore = "needs a cluster"]
async fn a_run_that_cannot_start_waits_and_can_be_cancelled() {
    let world = World::new("true", |registry| {
        for agent in registry.agents.values_mut() {
            agent.runtime.image = Some("127.0.0.1:1/none:1".into());
        }
    })
    .await;
    let job = world.start(1).await;
    let sentence =
        world.cluster.eventually_says(&world.store, &job, "the image of agent cannot be pulled").await;
    assert!(sentence.contains("127.0.0.1:1/none:1"), "{sentence}");
    assert!(world.store.cancel(&job, CancelReason::Person).await.unwrap());
    world.until(&job, |job| !job.pod_alive).await;
    world.cluster.remove().await;
}

/// What must hold of every pod, read from a running one.
#[tokio::test]
#[ignore = "needs a cluster"]
async fn no_step_has_more_than_its_own() {
    let script = "env > $RUN_OUTPUT_DIR/env; ls -R /var/run/secrets >> $RUN_OUTPUT_DIR/env 2>&1; id >> $RUN_OUTPUT_DIR/env; \
        for file in /proc/[0-9]*/environ; do cat $file; done > $RUN_OUTPUT_DIR/environs 2>&1; \
        touch /run/astra/plan.json /run/astra/prepare/x /opt/astra/x /usr/local/bin/x 2>> $RUN_OUTPUT_DIR/touched; \
        find / -xdev -type f -writable 2>/dev/null > $RUN_OUTPUT_DIR/writable; \
        cat $RUN_OUTPUT_DIR/env $RUN_OUTPUT_DIR/touched $RUN_OUTPUT_DIR/environs $RUN_OUTPUT_DIR/writable; sleep 600";
    let world = World::new(script, |_| ()).await;
    let job = world.start(1).await;
    let log = world.cluster.log_says(&job, "agent", "ANTHROPIC_API_KEY").await;
    for secret in ["value of GITHUB_TOKEN", "value of ANTHROPIC_API_KEY"] {
        assert!(!log.contains(secret), "{log}");
    }
    assert!(log.contains("uid=10001"), "{log}");
    assert!(log.contains("/var/run/secrets: No such file or directory"), "no service account token: {log}");
    let refused = log.matches("Read-only file system").count() + log.matches("Permission denied").count();
    assert!(refused >= 4, "{log}");
    let pod = world.cluster.pod(&job).await.to_string();
    assert!(!pod.contains("value of "), "no credential in the pod's manifest");
    world.cluster.remove().await;
}
