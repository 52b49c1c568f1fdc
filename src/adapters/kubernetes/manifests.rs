//! What a run on a cluster is made from: the registry, the caller's settings, its credentials.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use k8s_openapi::api::batch::v1::Job as ClusterJob;
use secrecy::{ExposeSecret, SecretString};

use crate::adapters::git::Remote;
use crate::adapters::store::StoreError;
use crate::domain::kubernetes::job::{JobInput, job};
use crate::domain::kubernetes::secret::{
    KEY_DELIVER_SECRETS, KEY_DELIVER_TOKEN, KEY_PLAN, KEY_PREPARE_TOKEN, KEY_SYSTEM_PROMPT, KEY_TASK,
    agent_credential_key,
};
use crate::domain::matching::{Running, Workforce};
use crate::domain::pass::NewJob;
use crate::domain::prompt::{system_prompt, task_prompt};
use crate::domain::publish::Subject;
use crate::domain::registry::{Agent, Registry};
use crate::domain::run_plan::{RunPlan, Surroundings};
use crate::domain::secret_scan::SecretPrints;
use crate::domain::vault::GIT_TOKEN;

/// An agent's credentials by the names of their variables, as far as they are there.
pub type Credentials = BTreeMap<String, SecretString>;

/// Finds the credentials of an agent: those that its file lists, and its token for Git.
pub type CredentialSource =
    Box<dyn Fn(&Agent) -> BoxFuture<'_, Result<Credentials, NoCredentials>> + Send + Sync>;

/// Why an agent's credentials could not be read; never holds one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoCredentials {
    /// It would be so again: one sentence for the task.
    Refused(Unmakeable),
    /// A vault server did not answer: it may later.
    Unavailable(String),
}

/// Candidates that a Job remembers, at most: annotations have 256 KiB together.
const CANDIDATES: usize = 20;

/// Makes the manifests of runs.
pub struct RunMaker {
    workforce: Workforce,
    surroundings: Surroundings,
    credentials: CredentialSource,
}

impl std::fmt::Debug for RunMaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunMaker").field("surroundings", &self.surroundings).finish_non_exhaustive()
    }
}

/// Why a run cannot be made: one sentence for its task.
pub type Unmakeable = String;

impl RunMaker {
    /// `credentials` is asked when a run's Secret is written, and not before.
    pub fn new(registry: Arc<Registry>, surroundings: Surroundings, credentials: CredentialSource) -> Self {
        Self { workforce: Workforce::new(registry), surroundings, credentials }
    }

    fn agent(&self, new: &NewJob) -> Result<&Agent, Unmakeable> {
        let agent = self.workforce.registry().agents.get(&new.agent);
        agent.ok_or_else(|| format!("the registry has no agent {}", new.agent))
    }

    /// Where the agent of a run pushes to, with the credential that it does so with.
    pub(super) async fn remote(&self, subject: &Subject) -> Result<Remote, NoCredentials> {
        let token = match self.workforce.registry().agents.get(&subject.agent) {
            Some(agent) => (self.credentials)(agent).await?.remove(GIT_TOKEN),
            None => None,
        };
        Remote::new(&self.surroundings.git_base_url, &subject.repository, token)
            .map_err(|error| NoCredentials::Refused(error.to_string()))
    }

    fn plan(&self, new: &NewJob, agent: &Agent) -> RunPlan {
        RunPlan::new(new.run.clone(), &new.task, agent, self.workforce.registry(), &self.surroundings)
    }

    /// The suspended Job of a run; `running`: what counted against each agent when it was admitted.
    pub fn job(&self, new: &NewJob, running: &Running) -> Result<ClusterJob, Unmakeable> {
        let agent = self.agent(new)?;
        let plan = self.plan(new, agent);
        let mut subject = Subject::new(new, agent, &self.workforce, running);
        let mut decision = std::mem::take(&mut subject.decision);
        decision.sort_by_key(|candidate| !candidate.chosen);
        decision.truncate(CANDIDATES);
        let json = |value: serde_json::Result<String>| value.map_err(|error| error.to_string());
        let (subject, decision) =
            (json(serde_json::to_string(&subject))?, json(serde_json::to_string(&decision))?);
        let input = JobInput {
            plan: &plan,
            item: new.task.item,
            project: new.task.project,
            attempt: new.attempt,
            decision: &decision,
            subject: &subject,
            runtime: &agent.runtime,
            image: self.workforce.registry().kubernetes.image.as_deref(),
        };
        job(&input).map_err(|error| error.to_string())
    }

    /// The keys of a run's Secret, sorted.
    pub async fn secret_keys(&self, new: &NewJob) -> Result<Vec<String>, NoCredentials> {
        let mut keys: Vec<String> = self.secret_values(new).await?.into_iter().map(|(key, _)| key).collect();
        keys.sort();
        Ok(keys)
    }

    /// The keys and values of a run's Secret.
    pub async fn secret_values(&self, new: &NewJob) -> Result<Vec<(String, Vec<u8>)>, NoCredentials> {
        let agent = self.agent(new).map_err(NoCredentials::Refused)?;
        let found = (self.credentials)(agent).await?;
        self.secret_of(new, agent, &found).map_err(NoCredentials::Refused)
    }

    fn secret_of(
        &self,
        new: &NewJob,
        agent: &Agent,
        found: &Credentials,
    ) -> Result<Vec<(String, Vec<u8>)>, Unmakeable> {
        let plan = self.plan(new, agent);
        let git_token = found.get(GIT_TOKEN);
        let mut secrets: Vec<(&str, &SecretString)> = Vec::new();
        for name in &plan.credential_names {
            let value = found
                .get(name)
                .ok_or_else(|| format!("there is no credential {name} for agent {}", agent.name))?;
            secrets.push((name, value));
        }
        let shown = secrets.iter().map(|(name, value)| (*name, value.expose_secret()));
        let token = git_token.iter().map(|value| (GIT_TOKEN, value.expose_secret()));
        let prints = SecretPrints::new(rand::random(), shown.chain(token));
        let fence = format!("{:032x}", rand::random::<u128>());
        let json = |value: serde_json::Result<Vec<u8>>| value.map_err(|error| error.to_string());
        let mut values = vec![
            (KEY_PLAN.to_owned(), json(serde_json::to_vec(&plan))?),
            (
                KEY_SYSTEM_PROMPT.to_owned(),
                system_prompt(agent, &new.task, self.workforce.registry()).into_bytes(),
            ),
            (KEY_TASK.to_owned(), task_prompt(&new.task, &fence).text.into_bytes()),
            (KEY_DELIVER_SECRETS.to_owned(), json(serde_json::to_vec(&prints))?),
        ];
        let bytes = |value: &SecretString| value.expose_secret().as_bytes().to_vec();
        values.extend(secrets.iter().map(|(name, value)| (agent_credential_key(name), bytes(value))));
        for key in [KEY_PREPARE_TOKEN, KEY_DELIVER_TOKEN] {
            values.extend(git_token.iter().map(|value| (key.to_owned(), bytes(value))));
        }
        Ok(values)
    }
}

/// A store that was opened to read and stop runs only.
pub(super) fn no_maker() -> StoreError {
    StoreError::Denied("this command makes no runs".to_owned())
}
