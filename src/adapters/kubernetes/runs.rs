//! Looking at runs on a cluster, and asking whether it would take one: nothing here changes anything.

use http::Method;
use k8s_openapi::api::batch::v1::Job as ClusterJob;
use k8s_openapi::api::core::v1::Secret;

use super::KubernetesStore;
use super::call::{Call, CallError, JSON};
use super::jobs::{as_run, ended_runs, path};
use super::manifests::{NoCredentials, no_maker};
use super::store::no_namespace;
use crate::adapters::store::{StoreError, StoreResult};
use crate::domain::job::{Job, JobPhase};
use crate::domain::kubernetes::identity;
use crate::domain::kubernetes::secret::{NO_UID, secret};
use crate::domain::name::TaskKey;
use crate::domain::pass::NewJob;
use crate::domain::status::PUBLISHED_SHOWN;

impl KubernetesStore {
    /// All runs of a namespace, published ones as well. A Job that cannot be read is left out, and
    /// the log says so.
    pub async fn all_runs(&self, namespace: &str) -> StoreResult<Vec<Job>> {
        let listed = self.cluster.all_jobs(namespace).await?;
        let published = |job: &ClusterJob| identity::phase(&job.metadata) == Some(JobPhase::Published);
        let (mut old, mut shown): (Vec<ClusterJob>, Vec<_>) =
            listed.value.iter().cloned().partition(published);
        // How the newest of those that are over ended is shown, too.
        old.sort_by_key(|job| job.metadata.creation_timestamp.as_ref().map(|time| time.0));
        shown.extend(old.split_off(old.len().saturating_sub(PUBLISHED_SHOWN)));
        let mut pods = self.cluster.living_pods(namespace).await?;
        pods.extend(self.cluster.pods_of_runs(namespace, &ended_runs(&shown)).await?);
        let read = |job| as_run(job, &pods, listed.now).inspect_err(|error| log::warn!("{error}")).ok();
        Ok(listed.value.iter().filter_map(read).collect())
    }

    /// The runs of one task in a namespace, published ones as well. Nobody looks at their pods: of a run
    /// that has ended it is not known why.
    pub async fn runs_of_task(&self, namespace: &str, task: &TaskKey) -> StoreResult<Vec<Job>> {
        let listed = self.cluster.jobs_of_task(namespace, task).await?;
        let read = |job| as_run(job, &[], listed.now).inspect_err(|error| log::warn!("{error}")).ok();
        Ok(listed.value.iter().filter_map(read).collect())
    }

    /// Asks the server whether it would take a run's Job and Secret; nothing is kept. Per object: its
    /// kind, and why it would be refused.
    pub async fn try_run(&self, new: &NewJob) -> StoreResult<Vec<(&'static str, Option<String>)>> {
        let maker = self.maker.as_ref().ok_or_else(no_maker)?;
        let unmakeable = |reason: String| vec![("Job", Some(reason))];
        let job = match maker.job(new, &self.ledger.running()) {
            Ok(job) => job,
            Err(reason) => return Ok(unmakeable(reason)),
        };
        let secret_manifest = match maker.secret_values(new).await {
            Ok(values) => secret(&new.run, &new.agent, NO_UID, values),
            Err(NoCredentials::Refused(reason)) => return Ok(vec![("Secret", Some(reason))]),
            Err(NoCredentials::Unavailable(why)) => return Err(StoreError::NoCredentials(why)),
        };
        let dry = |path: String| format!("{path}?dryRun=All");
        let job = Call::with_json(Method::POST, dry(path::<ClusterJob>(&new.namespace, None)?), JSON, &job)?;
        let secret = dry(path::<Secret>(&new.namespace, None)?);
        let secret = Call::with_json(Method::POST, secret, JSON, &secret_manifest)?;
        let mut answers = Vec::new();
        for (kind, call) in [("Job", job), ("Secret", secret)] {
            let answer = match self.cluster.call::<serde_json::Value>(&call).await {
                Ok(answer) if answer.warnings.is_empty() => None,
                Ok(answer) => Some(answer.warnings.join("; ")),
                Err(CallError::NotFound(_)) => Some(no_namespace(&new.namespace)),
                Err(error) if error.is_refusal() => Some(error.to_string()),
                Err(error) => return Err(error.into()),
            };
            answers.push((kind, answer));
        }
        Ok(answers)
    }
}
