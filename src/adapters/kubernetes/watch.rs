//! Ended runs, the moment they end.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use futures_util::TryStreamExt;
use k8s_openapi::api::batch::v1::Job as ClusterJob;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use tokio::sync::mpsc;

use super::Cluster;
use crate::domain::job::{JobPhase, JobRef};
use crate::domain::kubernetes::identity;
use crate::domain::kubernetes::job_state::has_ended;
use crate::domain::kubernetes::{LABEL_PHASE, LABEL_RUN};

/// The API server ends a watch after this many seconds (at most 294 are allowed); the next one begins
/// with a list, so nothing is missed for longer.
const WATCH_SECONDS: u32 = 280;
/// A connection that died in silence is given up after this.
const LONGEST_ROUND: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 30);
/// Between two attempts, at first and at last.
const FIRST_DELAY: Duration = Duration::from_millis(500);
const LAST_DELAY: Duration = Duration::from_secs(30);

impl Cluster {
    /// Sends every run of this namespace that has ended and is not published, once, and goes on doing so
    /// until nobody listens any more.
    pub async fn watch_ended(&self, namespace: &str, ended: mpsc::Sender<JobRef>) {
        let backoff = ExponentialBuilder::default()
            .with_min_delay(FIRST_DELAY)
            .with_max_delay(LAST_DELAY)
            .with_jitter()
            .without_max_times();
        let mut delays = backoff.build();
        let mut sent = BTreeSet::new();
        while !ended.is_closed() {
            let begun = Instant::now();
            let round = self.watch_once(namespace, &ended, &mut sent);
            match tokio::time::timeout(LONGEST_ROUND, round).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => log::warn!("the Jobs of {namespace} cannot be watched: {error}"),
                Err(_) => log::warn!("the watch of {namespace} does not answer any more"),
            }
            // One that lasted was healthy; one that ends at once must not be begun anew without end.
            if begun.elapsed() > LAST_DELAY {
                delays = backoff.build();
            }
            tokio::time::sleep(delays.next().unwrap_or(LAST_DELAY)).await;
        }
    }

    /// One list, and one watch that goes on from there.
    async fn watch_once(
        &self,
        namespace: &str,
        ended: &mpsc::Sender<JobRef>,
        sent: &mut BTreeSet<String>,
    ) -> Result<(), kube::Error> {
        let jobs: Api<ClusterJob> = Api::namespaced(self.client.clone(), namespace);
        let selector = format!("{LABEL_RUN},{LABEL_PHASE}!=published");
        let listed = jobs.list(&ListParams::default().labels(&selector)).await?;
        // Those that are gone or published need not be remembered.
        sent.retain(|uid| listed.items.iter().any(|job| job.metadata.uid.as_ref() == Some(uid)));
        for job in &listed.items {
            send(namespace, job, ended, sent).await;
        }
        let version = listed.metadata.resource_version.unwrap_or_default();
        let parameters = WatchParams::default().labels(&selector).timeout(WATCH_SECONDS);
        let events = jobs.watch(&parameters, &version).await?;
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.try_next().await? {
            match event {
                WatchEvent::Added(job) | WatchEvent::Modified(job) => {
                    send(namespace, &job, ended, sent).await
                }
                WatchEvent::Deleted(_) | WatchEvent::Bookmark(_) => {}
                // Too old a version, as a rule: the next list begins anew.
                WatchEvent::Error(_) => return Ok(()),
            }
        }
        Ok(())
    }
}

async fn send(namespace: &str, job: &ClusterJob, ended: &mpsc::Sender<JobRef>, sent: &mut BTreeSet<String>) {
    let is_ours = identity::phase(&job.metadata) == Some(JobPhase::Released) && has_ended(job);
    let run = job.metadata.name.as_deref().and_then(|name| name.parse().ok());
    let (true, Some(uid), Some(run)) = (is_ours, job.metadata.uid.clone(), run) else { return };
    if sent.insert(uid.clone()) {
        // Nobody listens: the caller sees that.
        let _ = ended.send(JobRef { namespace: namespace.to_owned(), run, uid }).await;
    }
}
