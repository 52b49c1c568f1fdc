//! What a run on a cluster brought: the copies of its result document, and its logs.

use std::fmt::Display;

use futures_util::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, LogParams};

use super::call::CallError;
use super::manifests::{NoCredentials, no_maker};
use super::{Cluster, KubernetesStore};
use crate::adapters::git::GitError;
use crate::adapters::result_ref;
use crate::adapters::store::{StoreError, StoreResult};
use crate::domain::job::JobRef;
use crate::domain::kubernetes::job_state::result_in_message;
use crate::domain::kubernetes::pod::Step;
use crate::domain::kubernetes::{ANNOTATION_DECISION, ANNOTATION_SUBJECT};
use crate::domain::publish::Subject;
use crate::domain::result::RunResult;
use crate::domain::result_copy::LOG_LINE_PREFIX;

/// The end of the log that is searched for it, in lines.
const LAST_LINES: i64 = 20;

impl Cluster {
    /// The result of a run from its pod: the termination message if it is whole, else the log's last
    /// line, else what there is of the message. `None`: the pod is gone or wrote none; then the
    /// repository has it.
    pub async fn result(&self, job: &JobRef) -> Result<Option<RunResult>, CallError> {
        let pods = self.pods_of_job(&job.namespace, &job.uid).await?;
        let message = pods.iter().find_map(result_in_message);
        if message.as_ref().is_some_and(|result| result.complete) {
            return Ok(message);
        }
        let Some(name) = pods.iter().find_map(|pod| pod.metadata.name.clone()) else { return Ok(message) };
        let parameters = LogParams { tail_lines: Some(LAST_LINES), ..of_step(Step::Deliver, false) };
        let log = match self.pods(&job.namespace).logs(&name, &parameters).await {
            Ok(log) => log,
            Err(kube::Error::Api(_)) => String::new(),
            Err(error) => return Err(CallError::Unavailable(error.to_string())),
        };
        let line = log.lines().rev().find_map(|line| line.strip_prefix(LOG_LINE_PREFIX));
        let logged = line.and_then(|line| serde_json::from_str::<RunResult>(line).ok());
        Ok(logged.filter(|result| result.complete).or(message))
    }

    /// What a run is for and how it came to be, as its Job says. `None`: the Job is gone, or is of a
    /// version that did not say it.
    pub async fn subject(&self, job: &JobRef) -> Result<Option<Subject>, CallError> {
        let found = match self.job(&job.namespace, &job.run).await {
            Err(CallError::NotFound(_)) => return Ok(None),
            found => found?.value,
        };
        let annotations = found.metadata.annotations.unwrap_or_default();
        let subject = annotations.get(ANNOTATION_SUBJECT).and_then(|text| serde_json::from_str(text).ok());
        let decision = annotations.get(ANNOTATION_DECISION).and_then(|text| serde_json::from_str(text).ok());
        Ok(subject.map(|subject| Subject { decision: decision.unwrap_or_default(), ..subject }))
    }

    /// Reads the log of one step, line by line. `follow`: until the step ends. `false`: the step has
    /// no log (yet).
    pub async fn log(
        &self,
        job: &JobRef,
        step: Step,
        follow: bool,
        mut line: impl FnMut(&str) -> anyhow::Result<()>,
    ) -> anyhow::Result<bool> {
        let pods = self.pods_of_job(&job.namespace, &job.uid).await?;
        let Some(name) = pods.iter().find_map(|pod| pod.metadata.name.clone()) else { return Ok(false) };
        let stream = match self.pods(&job.namespace).log_stream(&name, &of_step(step, follow)).await {
            Ok(stream) => stream,
            // A step that has not started has no log: the API server says so with 400.
            Err(kube::Error::Api(status)) if [400, 404].contains(&status.code) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let mut lines = stream.lines();
        while let Some(text) = lines.try_next().await? {
            line(&text)?;
        }
        Ok(true)
    }

    /// The end of the log of one step, a little more than `limit` bytes of a longer one; `None`: it has none.
    pub async fn log_end(&self, job: &JobRef, step: Step, limit: usize) -> anyhow::Result<Option<Vec<u8>>> {
        let mut end = Vec::new();
        let keep = |line: &str| {
            end.extend_from_slice(line.as_bytes());
            end.push(b'\n');
            if end.len() > 2 * limit {
                // One byte too much says that there was more.
                end.drain(..end.len() - limit - 1);
            }
            Ok(())
        };
        let found = self.log(job, step, false, keep).await?;
        Ok(found.then_some(end))
    }

    fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }
}

impl KubernetesStore {
    /// The result that a run pushed, as its agent's own credential may read it. What can never be read
    /// counts as none.
    pub(super) async fn pushed_result(&self, job: &JobRef) -> StoreResult<Option<RunResult>> {
        let maker = self.maker.as_ref().ok_or_else(no_maker)?;
        let Some(subject) = self.cluster.subject(job).await? else { return Ok(None) };
        let unreadable = |error: &dyn Display| {
            format!("whether run {} pushed to {} is not known: {error}", job.run, subject.repository)
        };
        let remote = match maker.remote(&subject).await {
            Ok(remote) => remote,
            Err(NoCredentials::Unavailable(why)) => return Err(StoreError::NoCredentials(why)),
            Err(NoCredentials::Refused(reason)) => {
                log::warn!("{}", unreadable(&reason));
                return Ok(None);
            }
        };
        match result_ref::fetch(remote, &job.run).await {
            Err(error) if error.downcast_ref::<GitError>().is_some_and(GitError::is_final) => {
                log::warn!("{}", unreadable(&error));
                Ok(None)
            }
            read => read.map_err(|error| StoreError::Unavailable(unreadable(&format_args!("{error:#}")))),
        }
    }
}

fn of_step(step: Step, follow: bool) -> LogParams {
    LogParams { container: Some(step.name().to_owned()), follow, ..LogParams::default() }
}
