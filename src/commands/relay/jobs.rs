//! Raises `astra-result` the moment a run on the cluster ends, so that it is published without a sweep.

use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use serde_json::json;
use tokio::sync::{mpsc, watch};

use super::metrics::Metrics;
use super::receive::stopped;
use crate::adapters::github::dispatches::Dispatches;
use crate::adapters::kubernetes::Cluster;
use crate::domain::github_answer::GitHubFault;
use crate::domain::job::JobRef;
use crate::domain::registry::Registry;

/// The name of the event in the workflow.
const EVENT: &str = "astra-result";
/// Of its payload.
const RESULT_VERSION: u32 = 1;
/// Ended runs that wait to be raised.
const MOST_WAITING: usize = 1_000;
/// Between two attempts, at first and at last. Given up after some ten minutes: by then a sweep has
/// published the run.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LAST_DELAY: Duration = Duration::from_secs(120);
const MOST_ATTEMPTS: usize = 12;

/// Watches the Jobs of all agents until `stopping` says so.
pub(super) async fn watch_jobs(
    cluster: Cluster,
    registry: Registry,
    dispatches: Arc<Dispatches>,
    metrics: Arc<Metrics>,
    stopping: watch::Receiver<bool>,
) {
    let (sender, mut ended) = mpsc::channel(MOST_WAITING);
    let cluster = Arc::new(cluster);
    let mut watchers = tokio::task::JoinSet::new();
    for agent in registry.agents.keys() {
        let (cluster, sender, namespace) = (Arc::clone(&cluster), sender.clone(), agent.namespace());
        watchers.spawn(async move { cluster.watch_ended(&namespace, sender).await });
    }
    drop(sender);
    loop {
        let job = tokio::select! {
            job = ended.recv() => job,
            () = stopped(stopping.clone()) => None,
        };
        let Some(job) = job else { return };
        // One workflow publishes everything that has ended by then.
        while let Ok(other) = ended.try_recv() {
            log::info!("run {} has ended, too", other.run);
        }
        tokio::select! {
            () = raise(&job, &dispatches, &metrics) => {}
            () = stopped(stopping.clone()) => return,
        }
    }
}

async fn raise(job: &JobRef, dispatches: &Dispatches, metrics: &Metrics) {
    let payload = json!({"version": RESULT_VERSION, "run": job.run, "namespace": job.namespace});
    let pauses = ExponentialBuilder::new().with_min_delay(FIRST_DELAY).with_max_delay(LAST_DELAY);
    let raised = (|| dispatches.raise(EVENT, &payload))
        .retry(pauses.with_jitter().with_max_times(MOST_ATTEMPTS))
        .sleep(tokio::time::sleep)
        .when(GitHubFault::is_passing)
        .adjust(|fault, pause| match fault {
            // The sweep is there before such a limit is over.
            GitHubFault::RateLimited(wait) if *wait > LAST_DELAY => None,
            GitHubFault::RateLimited(wait) => pause.map(|pause| pause.max(*wait)),
            _ => pause,
        })
        .notify(|fault, _| {
            metrics.result(fault.name());
            log::warn!("{fault}; what to do: {}", fault.remedy());
        })
        .await;
    match raised {
        Ok(()) => {
            metrics.result("raised");
            log::info!("run {} has ended", job.run);
        }
        Err(fault) => {
            metrics.result(fault.name());
            log::error!(
                "run {} has ended, and no workflow is told: {fault}; the sweep publishes it",
                job.run
            );
        }
    }
}
