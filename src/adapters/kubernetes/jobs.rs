//! Jobs and pods as the API server has them: read, listed, changed, deleted. No decisions.

use http::Method;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job as ClusterJob;
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::{NamespaceResourceScope, Resource};
use kube::core::params::ListParams;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::Cluster;
use super::call::{Answer, Call, CallError, JSON, JSON_PATCH};
use super::patch::JobPatch;
use crate::domain::job::{Job, JobRef};
use crate::domain::kubernetes::job_state::{self, belongs_to, has_ended};
use crate::domain::kubernetes::{LABEL_CONTROLLER_UID, LABEL_PHASE, LABEL_RUN, LABEL_TASK};
use crate::domain::name::{RunId, TaskKey};

/// Objects of one page of a list.
const PAGE: u32 = 500;
/// How often a list is started again because its continue token grew too old.
const RESTARTS: u32 = 3;
/// Runs named in one label selector.
const RUNS_IN_SELECTOR: usize = 100;

/// One page of a list. `items` have no `kind` of their own.
#[derive(Debug, Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct Page<T> {
    metadata: PageMetadata,
    #[serde(default = "Vec::new")]
    items: Vec<T>,
}

#[derive(Debug, Default, Deserialize)]
struct PageMetadata {
    #[serde(rename = "continue", default)]
    continue_token: Option<String>,
}

/// The path of a namespace's objects of one kind, or of one of them.
pub(super) fn path<T>(namespace: &str, name: Option<&str>) -> Result<String, CallError>
where
    T: Resource<Scope = NamespaceResourceScope>,
{
    // Namespaces come from the ledger too, which may hold anything.
    let is_name = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte))
    };
    if !is_name(namespace) || !name.is_none_or(is_name) {
        return Err(CallError::Invalid(format!("{namespace}/{} is no legal name", name.unwrap_or_default())));
    }
    let group = if T::GROUP.is_empty() { "/api".to_owned() } else { format!("/apis/{}", T::GROUP) };
    let collection = format!("{group}/{}/namespaces/{namespace}/{}", T::VERSION, T::URL_PATH_SEGMENT);
    Ok(name.map_or_else(|| collection.clone(), |name| format!("{collection}/{name}")))
}

impl Cluster {
    /// All pages of a list, from the source and not from a cache. A continue token that has grown
    /// too old starts the list again.
    pub(super) async fn list<T>(
        &self,
        namespace: &str,
        parameters: &ListParams,
    ) -> Result<Answer<Vec<T>>, CallError>
    where
        T: Resource<Scope = NamespaceResourceScope> + DeserializeOwned,
    {
        let collection = path::<T>(namespace, None)?;
        for _ in 0..=RESTARTS {
            match self.list_once(&collection, parameters).await {
                Err(CallError::Gone) => {}
                done => return done,
            }
        }
        Err(CallError::Unavailable(format!("the list of {collection} had to be started again too often")))
    }

    async fn list_once<T: DeserializeOwned>(
        &self,
        collection: &str,
        parameters: &ListParams,
    ) -> Result<Answer<Vec<T>>, CallError> {
        let mut parameters = parameters.clone().limit(PAGE);
        let mut all = Vec::new();
        loop {
            let request = kube::core::Request::new(collection)
                .list(&parameters)
                .map_err(|error| CallError::Invalid(error.to_string()))?;
            let page: Answer<Page<T>> = self.call(&Call::get(request.uri().to_string())).await?;
            all.extend(page.value.items);
            match page.value.metadata.continue_token.filter(|token| !token.is_empty()) {
                Some(token) => parameters = parameters.continue_token(&token),
                None => return Ok(Answer { value: all, now: page.now, warnings: page.warnings }),
            }
        }
    }

    /// A namespace's Jobs of ours that are not published.
    pub(super) async fn unpublished_jobs(
        &self,
        namespace: &str,
    ) -> Result<Answer<Vec<ClusterJob>>, CallError> {
        let selector = format!("{LABEL_RUN},{LABEL_PHASE}!=published");
        self.list(namespace, &ListParams::default().labels(&selector)).await
    }

    /// All of a namespace's Jobs of ours.
    pub async fn all_jobs(&self, namespace: &str) -> Result<Answer<Vec<ClusterJob>>, CallError> {
        self.list(namespace, &ListParams::default().labels(LABEL_RUN)).await
    }

    /// All of a namespace's Jobs of one task.
    pub(super) async fn jobs_of_task(
        &self,
        namespace: &str,
        task: &TaskKey,
    ) -> Result<Answer<Vec<ClusterJob>>, CallError> {
        let selector = format!("{LABEL_RUN},{LABEL_TASK}={task}");
        self.list(namespace, &ListParams::default().labels(&selector)).await
    }

    /// A namespace's pods of ours that have not ended.
    pub(super) async fn living_pods(&self, namespace: &str) -> Result<Vec<Pod>, CallError> {
        let parameters =
            ListParams::default().labels(LABEL_RUN).fields("status.phase!=Succeeded,status.phase!=Failed");
        Ok(self.list(namespace, &parameters).await?.value)
    }

    /// All pods that are left of these runs.
    pub(super) async fn pods_of_runs(&self, namespace: &str, runs: &[String]) -> Result<Vec<Pod>, CallError> {
        let mut pods = Vec::new();
        for some in runs.chunks(RUNS_IN_SELECTOR) {
            let selector = format!("{LABEL_RUN} in ({})", some.join(","));
            pods.extend(self.list(namespace, &ListParams::default().labels(&selector)).await?.value);
        }
        Ok(pods)
    }

    /// All pods that are left of one Job.
    pub(super) async fn pods_of_job(&self, namespace: &str, uid: &str) -> Result<Vec<Pod>, CallError> {
        let selector = format!("{LABEL_CONTROLLER_UID}={uid}");
        Ok(self.list(namespace, &ListParams::default().labels(&selector)).await?.value)
    }

    /// The events about one Job.
    pub async fn events_of_job(&self, namespace: &str, uid: &str) -> Result<Vec<Event>, CallError> {
        let fields = format!("involvedObject.uid={uid}");
        Ok(self.list(namespace, &ListParams::default().fields(&fields)).await?.value)
    }

    /// One Job.
    pub(super) async fn job(&self, namespace: &str, run: &RunId) -> Result<Answer<ClusterJob>, CallError> {
        self.call(&Call::get(path::<ClusterJob>(namespace, Some(run.as_str()))?)).await
    }

    /// Reads one Job as a run, with its pods.
    pub(super) async fn read_job(&self, job: &ClusterJob, now: Timestamp) -> Result<Job, CallError> {
        let namespace = job.metadata.namespace.as_deref().unwrap_or_default();
        let uid = job.metadata.uid.as_deref().unwrap_or_default();
        let pods = self.pods_of_job(namespace, uid).await?;
        as_run(job, &pods, now)
    }

    /// Changes a Job if all tests of the patch hold.
    pub(super) async fn patch_job(
        &self,
        job: &JobRef,
        patch: &JobPatch,
    ) -> Result<Answer<ClusterJob>, CallError> {
        let path = path::<ClusterJob>(&job.namespace, Some(job.run.as_str()))?;
        self.call(&Call::with_json(Method::PATCH, path, JSON_PATCH, &patch.operations())?).await
    }

    /// Deletes an object if it is still this one, its dependents after it.
    pub(super) async fn delete<T>(
        &self,
        namespace: &str,
        name: &str,
        preconditions: Option<(&str, &str)>,
    ) -> Result<(), CallError>
    where
        T: Resource<Scope = NamespaceResourceScope>,
    {
        let mut options =
            json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"});
        if let Some((uid, version)) = preconditions {
            options["preconditions"] = json!({"uid": uid, "resourceVersion": version});
        }
        let call = Call::with_json(Method::DELETE, path::<T>(namespace, Some(name))?, JSON, &options)?;
        self.call::<serde_json::Value>(&call).await.map(|_| ())
    }
}

/// Reads a Job as a run; one that cannot be read makes its whole namespace unreadable, since it may
/// stand for anything.
pub(super) fn as_run(job: &ClusterJob, pods: &[Pod], now: Timestamp) -> Result<Job, CallError> {
    let uid = job.metadata.uid.as_deref().unwrap_or_default();
    let own: Vec<Pod> = pods.iter().filter(|pod| belongs_to(pod, uid)).cloned().collect();
    job_state::read(job, &own, now).map_err(|error| {
        CallError::Unavailable(format!("{error}; mend its labels and annotations, or delete it"))
    })
}

/// The runs of those Jobs that have ended: only for them ended pods matter.
pub(super) fn ended_runs(jobs: &[ClusterJob]) -> Vec<String> {
    jobs.iter().filter(|job| has_ended(job)).filter_map(|job| job.metadata.name.clone()).collect()
}
