//! Ends runs that do not start in time. Passes find them in what they list anyhow.

use std::sync::PoisonError;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job as ClusterJob;
use k8s_openapi::api::core::v1::Pod;

use super::KubernetesStore;
use super::patch::JobPatch;
use super::store::{Change, uid};
use crate::adapters::store::StoreResult;
use crate::domain::job::{Job, JobPhase};
use crate::domain::kubernetes::job_state::belongs_to;
use crate::domain::kubernetes::pending::overdue;
use crate::domain::name::RunId;

impl KubernetesStore {
    /// Remembers which of these Jobs (`jobs`: the same, as runs) are to be ended.
    pub(super) fn note_overdue(&self, listed: &[ClusterJob], jobs: &[Job], pods: &[Pod], now: Timestamp) {
        let mut noted = self.overdue.lock().unwrap_or_else(PoisonError::into_inner);
        for (cluster_job, job) in listed.iter().zip(jobs) {
            let own: Vec<Pod> = pods.iter().filter(|pod| belongs_to(pod, &job.uid)).cloned().collect();
            if overdue(cluster_job, &own, &[], now).is_some() {
                noted.insert(job.reference());
            }
        }
    }

    /// Ends the runs that the passes of this store found overdue. Returns those that it ended: each
    /// fails within a second or two, with what it waited for as the reason. One that starts at this
    /// very moment is ended, too; it is tried again.
    pub async fn end_overdue(&self) -> StoreResult<Vec<RunId>> {
        let noted = std::mem::take(&mut *self.overdue.lock().unwrap_or_else(PoisonError::into_inner));
        let mut ended = Vec::new();
        for job in noted {
            let Some(found) = self.this_job(&job).await? else { continue };
            let (pods, events) = self.around(&job).await?;
            let deadline = found.value.spec.as_ref().and_then(|spec| spec.active_deadline_seconds);
            let (Some(failure), Some(deadline)) =
                (overdue(&found.value, &pods, &events, found.now), deadline)
            else {
                continue;
            };
            let changed = self.change(&job, |now, phase| match phase {
                JobPhase::Released if overdue(now, &pods, &events, found.now).is_some() => {
                    Change::Make(JobPatch::new(uid(now)).time_is_up(deadline, &failure))
                }
                _ => Change::Missed,
            });
            if changed.await?.is_some() {
                ended.push(job.run);
            }
        }
        Ok(ended)
    }
}
