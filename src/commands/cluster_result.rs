//! What a run on a cluster brought: from its pod, or from the repository where the pod has no whole copy.

use secrecy::SecretString;

use crate::adapters::git::{GitError, Remote};
use crate::adapters::result_ref;
use crate::adapters::store::StoreError;
use crate::commands::on_cluster::OnCluster;
use crate::commands::word::Forge;
use crate::domain::job::Job;
use crate::domain::publish::Subject;
use crate::domain::result::{FailureClass, RunResult};
use crate::domain::vault::GIT_TOKEN;

/// The result may be in the repository, which cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "the pod of {run} is gone, and the result that it may have pushed to {repository} cannot be read: {source}"
)]
pub(crate) struct Unreadable {
    run: String,
    repository: String,
    source: GitError,
}

impl Unreadable {
    /// It may be readable later without anybody doing anything.
    pub(crate) fn is_passing(&self) -> bool {
        !self.source.is_final()
    }
}

/// Not only for the moment: what was pushed cannot be read.
fn is_final(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Unreadable>().is_some_and(|unreadable| !unreadable.is_passing())
}

impl OnCluster {
    /// The result of a run that has ended: the first whole copy of termination message, log and
    /// repository; else a cut one. `None`: it left none.
    pub(crate) async fn result(&self, job: &Job) -> anyhow::Result<Option<RunResult>> {
        let of_pod = self.store.cluster().result(&job.reference()).await.map_err(StoreError::from)?;
        if of_pod.as_ref().is_some_and(|result| result.complete) || !may_have_pushed(job) {
            return Ok(of_pod);
        }
        match self.pushed_result(job).await {
            Ok(pushed) => Ok(pushed.or(of_pod)),
            // Its outcome is known: a cut copy, or a failure that stands for itself.
            Err(error) if is_final(&error) && (of_pod.is_some() || job.failure_class().is_some()) => {
                log::warn!("{error:#}");
                Ok(of_pod)
            }
            Err(error) => Err(error),
        }
    }

    /// The same, as far as can be seen from here: looking must be possible where Git is not.
    pub(crate) async fn seen_result(&self, job: &Job) -> anyhow::Result<Option<RunResult>> {
        match self.result(job).await {
            Err(error) if !error.is::<StoreError>() => {
                log::warn!("{error:#}");
                Ok(None)
            }
            result => result,
        }
    }

    async fn pushed_result(&self, job: &Job) -> anyhow::Result<Option<RunResult>> {
        let subject = self.store.cluster().subject(&job.reference()).await.map_err(StoreError::from)?;
        let Some(subject) = subject else { return Ok(None) };
        let repository = &subject.repository;
        let token = self.reading_token(&subject).await?;
        let remote = Remote::new(&self.git_base_url, repository, token)?;
        result_ref::fetch(remote, &job.run).await.map_err(|error| match error.downcast() {
            Ok(source) => {
                Unreadable { run: job.run.to_string(), repository: repository.to_string(), source }.into()
            }
            Err(error) => error,
        })
    }

    /// The agent's own token, with which the result was pushed; else that of whoever opens pull requests.
    async fn reading_token(&self, subject: &Subject) -> anyhow::Result<Option<SecretString>> {
        if let Some(agent) = self.registry().agents.get(&subject.agent)
            && let Some(own) = self.held.credentials(agent).await?.remove(GIT_TOKEN)
        {
            return Ok(Some(own));
        }
        match &self.forge {
            Forge::GitHub(github) => Ok(Some(github.pulls.reading_token(&subject.repository).await?)),
            Forge::Files | Forge::Closed => Ok(None),
        }
    }
}

/// A run pushes its result as the last thing that it does: one that failed before has none, and what a
/// cancelled one pushed does not count.
fn may_have_pushed(job: &Job) -> bool {
    let stood_in_the_way = job.failure_class().is_some_and(|class| class != FailureClass::Infrastructure);
    job.end.is_some() && job.cancel.is_none() && !stood_in_the_way
}
