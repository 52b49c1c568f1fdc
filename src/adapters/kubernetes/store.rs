//! The store of a cluster: the ledger is a ConfigMap, runs are Jobs.

use std::collections::BTreeSet;
use std::sync::Mutex;

use http::Method;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job as ClusterJob;
use k8s_openapi::api::core::v1::{Event, Pod, Secret};

use super::Cluster;
use super::call::{Answer, Call, CallError, JSON};
use super::jobs::{as_run, ended_runs, path};
use super::ledger::ClusterLedger;
use super::manifests::{NoCredentials, RunMaker, no_maker};
use super::patch::JobPatch;
use crate::adapters::store::{Creation, SecretWrite, Store, StoreError, StoreResult};
use crate::domain::job::{CancelReason, Claim, ItemState, Job, JobFailure, JobPhase, JobRef};
use crate::domain::kubernetes::diagnosis::{Diagnosis, diagnose};
use crate::domain::kubernetes::identity;
use crate::domain::kubernetes::job_state::{has_ended, is_alive};
use crate::domain::kubernetes::secret::secret;
use crate::domain::ledger::Ledger;
use crate::domain::name::RunId;
use crate::domain::pass::{LedgerRead, Listing, NewJob, Version};

/// How often a change is tried again because the Job was changed in between.
const TRIES: u32 = 5;

/// The store.
#[derive(Debug)]
pub struct KubernetesStore {
    pub(super) cluster: Cluster,
    pub(super) ledger: ClusterLedger,
    pub(super) maker: Option<RunMaker>,
    /// Runs that did not start in time, by what passes listed.
    pub(super) overdue: Mutex<BTreeSet<JobRef>>,
}

impl KubernetesStore {
    /// A store on this cluster. Without a `maker` it creates nothing.
    pub fn new(cluster: Cluster, system_namespace: &str, maker: Option<RunMaker>) -> Self {
        Self { cluster, ledger: ClusterLedger::new(system_namespace), maker, overdue: Mutex::default() }
    }

    /// The cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// What a Job is doing or why it failed, for people. `None`: it is gone.
    pub async fn diagnose(&self, job: &JobRef) -> StoreResult<Option<Diagnosis>> {
        let Some(found) = self.this_job(job).await? else { return Ok(None) };
        let (pods, events) = self.around(job).await?;
        Ok(Some(diagnose(&found.value, &pods, &events, found.now)))
    }

    /// A Job's pods; where it has none, the events about it.
    pub(super) async fn around(&self, job: &JobRef) -> StoreResult<(Vec<Pod>, Vec<Event>)> {
        let pods = self.cluster.pods_of_job(&job.namespace, &job.uid).await?;
        let events = if pods.is_empty() {
            self.cluster.events_of_job(&job.namespace, &job.uid).await?
        } else {
            Vec::new()
        };
        Ok((pods, events))
    }

    /// Changes a Job: `patch` says how, or that the condition does not hold, by what the Job is now.
    /// The server checks the same condition once more, in one step with the change.
    pub(super) async fn change(
        &self,
        job: &JobRef,
        patch: impl Fn(&ClusterJob, JobPhase) -> Change,
    ) -> StoreResult<Option<Answer<ClusterJob>>> {
        for _ in 0..TRIES {
            let Some(now) = self.this_job(job).await? else { return Ok(None) };
            let phase = identity::phase(&now.value.metadata);
            let change = phase.map_or(Change::Missed, |phase| patch(&now.value, phase));
            let patch = match change {
                Change::Missed => return Ok(None),
                Change::AlreadyDone => return Ok(Some(now)),
                Change::Make(patch) => patch,
            };
            match self.patch(job, &patch).await? {
                Patched::Done(changed) => return Ok(Some(*changed)),
                Patched::Gone => return Ok(None),
                Patched::Otherwise => {}
            }
        }
        Err(StoreError::Unavailable(format!("Job {}/{} could not be changed", job.namespace, job.run)))
    }

    async fn patch(&self, job: &JobRef, patch: &JobPatch) -> StoreResult<Patched> {
        match self.cluster.patch_job(job, patch).await {
            Ok(changed) => Ok(Patched::Done(Box::new(changed))),
            Err(CallError::NotFound(_)) => Ok(Patched::Gone),
            // A test failed (422), or the Job was changed at the same moment.
            Err(CallError::Invalid(text) | CallError::Conflict(text)) => {
                log::debug!("Job {}/{}: {text}; looking again", job.namespace, job.run);
                Ok(Patched::Otherwise)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The Job of this name, if it has this UID.
    pub(super) async fn this_job(&self, job: &JobRef) -> StoreResult<Option<Answer<ClusterJob>>> {
        match self.cluster.job(&job.namespace, &job.run).await {
            Ok(found) => Ok(Some(found).filter(|found| found.value.metadata.uid.as_ref() == Some(&job.uid))),
            Err(CallError::NotFound(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes a Job, and what is left of its Secret, if it is in this phase; `false`: it is not.
    pub async fn remove(&self, job: &JobRef, phase: JobPhase) -> StoreResult<bool> {
        for _ in 0..TRIES {
            let Some(now) = self.this_job(job).await? else { return Ok(true) };
            if identity::phase(&now.value.metadata) != Some(phase) {
                return Ok(false);
            }
            let version = now.value.metadata.resource_version.as_deref().unwrap_or_default();
            let deleted = self
                .cluster
                .delete::<ClusterJob>(&job.namespace, job.run.as_str(), Some((&job.uid, version)))
                .await;
            match deleted {
                Ok(()) | Err(CallError::NotFound(_)) => {
                    self.drop_secret(job).await;
                    return Ok(true);
                }
                Err(CallError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Unavailable(format!("Job {}/{} could not be deleted", job.namespace, job.run)))
    }

    /// A run's Secret goes as soon as it is over. Its owner reference is the second way.
    async fn drop_secret(&self, job: &JobRef) {
        match self.cluster.delete::<Secret>(&job.namespace, job.run.as_str(), None).await {
            Ok(()) | Err(CallError::NotFound(_)) => {}
            Err(error) => log::warn!("Secret {}/{} could not be deleted: {error}", job.namespace, job.run),
        }
    }

    async fn existing(&self, new: &NewJob, conflict: &str) -> StoreResult<Creation> {
        match self.find_job(&new.namespace, &new.run).await? {
            (Some(job), _) => Ok(Creation::Exists(Box::new(job))),
            (None, _) => Err(StoreError::Unavailable(conflict.to_owned())),
        }
    }
}

/// What is to become of a Job.
pub(super) enum Change {
    /// The condition does not hold.
    Missed,
    /// Nothing is to be changed.
    AlreadyDone,
    /// This.
    Make(JobPatch),
}

/// What became of a patch.
enum Patched {
    Done(Box<Answer<ClusterJob>>),
    Gone,
    /// The Job is not as its tests say.
    Otherwise,
}

pub(super) fn uid(job: &ClusterJob) -> &str {
    job.metadata.uid.as_deref().unwrap_or_default()
}

fn finalizers(job: &ClusterJob) -> &[String] {
    job.metadata.finalizers.as_deref().unwrap_or_default()
}

impl Store for KubernetesStore {
    async fn read_ledger(&self) -> StoreResult<LedgerRead> {
        self.ledger.read(&self.cluster).await
    }

    async fn swap_ledger(&self, version: &Version, ledger: &Ledger) -> StoreResult<bool> {
        self.ledger.swap(&self.cluster, version, ledger).await
    }

    async fn list_jobs(&self, namespace: &str) -> StoreResult<Listing> {
        let listed = self.cluster.unpublished_jobs(namespace).await?;
        let mut pods = self.cluster.living_pods(namespace).await?;
        pods.extend(self.cluster.pods_of_runs(namespace, &ended_runs(&listed.value)).await?);
        let jobs =
            listed.value.iter().map(|job| as_run(job, &pods, listed.now)).collect::<Result<Vec<_>, _>>()?;
        self.note_overdue(&listed.value, &jobs, &pods, listed.now);
        let orphans = pods
            .iter()
            .filter(|pod| is_alive(pod))
            .filter_map(|pod| identity::orphan(&pod.metadata))
            .filter(|orphan| !jobs.iter().any(|job| job.uid == orphan.job_uid))
            .collect();
        Ok(Listing { jobs, orphans })
    }

    async fn find_job(&self, namespace: &str, run: &RunId) -> StoreResult<(Option<Job>, Timestamp)> {
        match self.cluster.job(namespace, run).await {
            Ok(found) => Ok((Some(self.cluster.read_job(&found.value, found.now).await?), found.now)),
            Err(CallError::NotFound(now)) => Ok((None, now)),
            Err(error) => Err(error.into()),
        }
    }

    async fn has_pushed(&self, job: &JobRef) -> StoreResult<bool> {
        Ok(self.pushed_result(job).await?.is_some_and(|result| JobFailure::of_result(&result).is_none()))
    }

    async fn create_job(&self, new: &NewJob) -> StoreResult<Creation> {
        let manifest = match self.maker.as_ref().ok_or_else(no_maker)?.job(new, &self.ledger.running()) {
            Ok(manifest) => manifest,
            Err(reason) => return Ok(Creation::Refused(reason)),
        };
        let call = Call::with_json(Method::POST, path::<ClusterJob>(&new.namespace, None)?, JSON, &manifest)?;
        match self.cluster.call::<ClusterJob>(&call).await {
            Ok(created) => {
                for warning in created.warnings {
                    log::warn!("Job {}/{}: {warning}", new.namespace, new.run);
                }
                Ok(Creation::Created(uid(&created.value).to_owned()))
            }
            Err(CallError::Conflict(text)) => self.existing(new, &text).await,
            Err(CallError::NotFound(_)) => Ok(Creation::Refused(no_namespace(&new.namespace))),
            Err(error) if error.is_refusal() => Ok(Creation::Refused(refused("Job", &error))),
            Err(error) => Err(error.into()),
        }
    }

    async fn write_secret(&self, new: &NewJob, job: &JobRef) -> StoreResult<SecretWrite> {
        let values = match self.maker.as_ref().ok_or_else(no_maker)?.secret_values(new).await {
            Ok(values) => values,
            Err(NoCredentials::Refused(reason)) => return Ok(SecretWrite::Refused(reason)),
            Err(NoCredentials::Unavailable(why)) => return Err(StoreError::NoCredentials(why)),
        };
        let manifest = secret(&new.run, &new.agent, &job.uid, values);
        let call = Call::with_json(Method::POST, path::<Secret>(&new.namespace, None)?, JSON, &manifest)?;
        match self.cluster.call::<serde_json::Value>(&call).await {
            Ok(_) => Ok(SecretWrite::Written),
            // Another pass wrote it for this very Job: a Secret is written only once the ledger names
            // the Job's UID, and such a run's name is never given to another Job. Making it anew could
            // end between delete and create, and leave a pod that waits for it (seen in
            // tests/kubernetes_race.rs).
            Err(CallError::Conflict(text)) if text.contains("already exists") => Ok(SecretWrite::Written),
            Err(CallError::NotFound(_)) => Ok(SecretWrite::Refused(no_namespace(&new.namespace))),
            Err(error) if error.is_refusal() => Ok(SecretWrite::Refused(refused("Secret", &error))),
            Err(error) => Err(error.into()),
        }
    }

    async fn release(&self, job: &JobRef) -> StoreResult<bool> {
        // As a rule nobody was quicker, and the patch itself says what must hold: nothing is read before.
        match self.patch(job, &JobPatch::new(&job.uid).release()).await? {
            Patched::Done(_) => return Ok(true),
            Patched::Gone => return Ok(false),
            Patched::Otherwise => {}
        }
        let changed = self
            .change(job, |now, phase| match phase {
                JobPhase::Queued => Change::Make(JobPatch::new(uid(now)).release()),
                _ => Change::Missed,
            })
            .await?;
        Ok(changed.is_some())
    }

    async fn cancel(&self, job: &JobRef, reason: CancelReason) -> StoreResult<bool> {
        let changed = self
            .change(job, |now, phase| match phase {
                JobPhase::Queued | JobPhase::Released => {
                    Change::Make(JobPatch::new(uid(now)).cancel(phase, reason))
                }
                _ => Change::Missed,
            })
            .await?;
        if changed.is_some() {
            self.drop_secret(job).await;
        }
        Ok(changed.is_some())
    }

    async fn delete(&self, job: &JobRef) -> StoreResult<bool> {
        self.remove(job, JobPhase::Queued).await
    }

    async fn close(&self, job: &JobRef) -> StoreResult<bool> {
        if self.this_job(job).await?.is_none() {
            return Ok(true);
        }
        let changed = self
            .change(job, |now, phase| match phase {
                JobPhase::Published => Change::AlreadyDone,
                // An ended Job stays ended, so this needs no test in the patch.
                JobPhase::Released if has_ended(now) => Change::Make(JobPatch::new(uid(now)).close()),
                _ => Change::Missed,
            })
            .await?;
        if changed.is_some() {
            self.drop_secret(job).await;
        }
        Ok(changed.is_some())
    }

    async fn claim(
        &self,
        job: &JobRef,
        seen: Option<&Claim>,
        claim: &Claim,
    ) -> StoreResult<Option<(Job, Timestamp)>> {
        let changed = self
            .change(job, |now, phase| {
                let may = match phase {
                    JobPhase::Released | JobPhase::Cancelled => seen.is_none(),
                    JobPhase::Claimed => seen.is_some() && identity::claim(&now.metadata).as_ref() == seen,
                    JobPhase::Queued | JobPhase::Published => false,
                };
                // A Job that is being deleted takes no finalizer any more.
                if !may || now.metadata.deletion_timestamp.is_some() {
                    return Change::Missed;
                }
                Change::Make(JobPatch::new(uid(now)).claim(phase, seen, claim, finalizers(now)))
            })
            .await?;
        let Some(changed) = changed else { return Ok(None) };
        self.drop_secret(job).await;
        Ok(Some((self.cluster.read_job(&changed.value, changed.now).await?, changed.now)))
    }

    async fn record_item_state(&self, job: &JobRef, state: &ItemState) -> StoreResult<bool> {
        // It rests on nothing but the UID, which the patch itself tests.
        match self.patch(job, &JobPatch::new(&job.uid).item_state(state)).await? {
            Patched::Done(_) => return Ok(true),
            Patched::Gone => return Ok(false),
            Patched::Otherwise => {}
        }
        let changed =
            self.change(job, |now, _| Change::Make(JobPatch::new(uid(now)).item_state(state))).await?;
        Ok(changed.is_some())
    }

    async fn mark_published(&self, job: &JobRef, holder: &str) -> StoreResult<bool> {
        let changed = self
            .change(job, |now, phase| {
                let claim = identity::claim(&now.metadata).filter(|claim| claim.holder == holder);
                match (phase, claim) {
                    (JobPhase::Claimed, Some(claim)) => {
                        Change::Make(JobPatch::new(uid(now)).publish(&claim, finalizers(now)))
                    }
                    _ => Change::Missed,
                }
            })
            .await?;
        Ok(changed.is_some())
    }
}

/// Why a run cannot be made, where a right is missing or a policy of the cluster is against it.
fn refused(kind: &str, error: &CallError) -> String {
    format!(
        "the cluster refuses its {kind}: {error}; change what is named there (`astra-dispatch agents doctor` \
         says which rights are missing), then the task or the registry, or wait until it is tried again"
    )
}

pub(super) fn no_namespace(namespace: &str) -> String {
    format!("there is no namespace {namespace}: run `astra-dispatch agents provision | kubectl apply -f -`")
}
