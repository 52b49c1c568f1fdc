//! Everything that a run needs to know, decided before it starts: plain data, and free of secrets.
//! The same document drives the phases in a pod and the child processes on one machine.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::name::{AgentName, Branch, Repository, Role, RunId, TaskKey};
use super::registry::{Agent, Limits, ModelSettings, Registry, RegistryStamp, RuntimeKind};
use super::task::Task;

/// The one version of the document that this program reads and writes.
pub const RUN_PLAN_VERSION: u32 = 1;

/// The plan of one run (`plan.json` of its directory).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunPlan {
    /// Always [`RUN_PLAN_VERSION`].
    pub version: u32,
    /// The run.
    pub run: RunId,
    /// Its task.
    pub task: TaskKey,
    /// The task's title, untrusted; the subject of the commit.
    pub title: String,
    /// The chosen agent.
    pub agent: AgentName,
    /// The agent's role.
    pub role: Role,
    /// Where it works.
    pub repository: Repository,
    /// The base of Git remotes; `<base>/<owner>/<name>.git` is the remote.
    pub git_base_url: String,
    /// The branch that the work starts from.
    pub base: Branch,
    /// The pull request to review, for reviewers.
    pub pull_request: Option<u64>,
    /// Author of the commit.
    pub author: Author,
    /// What runs in the agent step.
    pub runtime: RuntimePlan,
    /// Names of the environment variables that the agent step gets from the vault.
    pub credential_names: Vec<String>,
    /// The limits in force.
    pub limits: Limits,
    /// Paths that the work must not touch, besides the built-in ones.
    pub protected_paths: Vec<String>,
    /// The registry's directory within its repository: protected too.
    pub registry_path: String,
    /// The registry that decided all this.
    pub registry: RegistryStamp,
}

/// Where runs fetch from, and where the registry is: settings of the caller, not of the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// The base of Git remotes, e.g. `https://github.com`.
    pub git_base_url: String,
    /// The registry's directory within its repository, e.g. `.astra`.
    pub registry_path: String,
}

impl RunPlan {
    /// The plan of a run of this task by this agent.
    pub fn new(
        run: RunId,
        task: &Task,
        agent: &Agent,
        registry: &Registry,
        surroundings: &Surroundings,
    ) -> Self {
        let login = &agent.accounts.github;
        Self {
            version: RUN_PLAN_VERSION,
            run,
            task: task.key.clone(),
            title: task.title.clone(),
            agent: agent.name.clone(),
            role: agent.role.clone(),
            repository: task.repository.clone(),
            git_base_url: surroundings.git_base_url.clone(),
            base: task.base.clone(),
            pull_request: task.pull_request,
            author: Author { name: login.clone(), email: format!("{login}@users.noreply.github.com") },
            runtime: runtime(agent, task, registry),
            credential_names: agent.credentials.env.clone(),
            limits: agent.limits.clone(),
            protected_paths: agent.protected_paths.clone(),
            registry_path: surroundings.registry_path.clone(),
            registry: registry.stamp.clone(),
        }
    }

    /// The Git remote.
    pub fn remote(&self) -> String {
        format!("{}/{}.git", self.git_base_url.trim_end_matches('/'), self.repository)
    }

    /// How long the agent step may take.
    pub fn time_limit(&self) -> Duration {
        self.limits.time
    }
}

#[cfg(test)]
impl RunPlan {
    /// The plan of a run of `AST-1` by `vega`, for tests: one minute, one CPU, a command.
    pub(crate) fn sample() -> Self {
        let parsed = "the sample is legal";
        Self {
            version: RUN_PLAN_VERSION,
            run: "ast-1-x7k2p".parse().expect(parsed),
            task: "AST-1".parse().expect(parsed),
            title: "Add an endpoint".into(),
            agent: "vega".parse().expect(parsed),
            role: "coder".parse().expect(parsed),
            repository: "astra/api".parse().expect(parsed),
            git_base_url: "https://github.com".into(),
            base: "main".parse().expect(parsed),
            pull_request: None,
            author: Author { name: "astra-vega".into(), email: "astra-vega@users.noreply.github.com".into() },
            runtime: RuntimePlan::Command { command: vec!["true".into()] },
            credential_names: Vec::new(),
            limits: Limits {
                cpu: "1".into(),
                cpu_millis: 1000,
                memory: "1Gi".into(),
                memory_bytes: 1 << 30,
                time: Duration::from_secs(60),
                pending: Duration::from_secs(60),
            },
            protected_paths: Vec::new(),
            registry_path: ".astra".into(),
            registry: RegistryStamp::default(),
        }
    }
}

/// The agent's runtime with the model that the task asks for.
fn runtime(agent: &Agent, task: &Task, registry: &Registry) -> RuntimePlan {
    let plan = |settings: &ModelSettings| {
        let alias = task.model.as_ref().unwrap_or(&settings.model);
        ModelPlan {
            // An alias without a model is a fault of the registry, found when it was parsed.
            model: registry.models.get(alias).unwrap_or(alias).clone(),
            max_turns: settings.max_turns,
            max_cost_usd: settings.max_cost_usd,
            tools: settings.tools.clone(),
        }
    };
    match &agent.runtime.kind {
        RuntimeKind::Command { command } => RuntimePlan::Command { command: command.clone() },
        RuntimeKind::ClaudeCode(settings) => RuntimePlan::ClaudeCode(plan(settings)),
        RuntimeKind::Codex(settings) => RuntimePlan::Codex(plan(settings)),
    }
}

/// Author of the one commit that `collect` makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    /// The agent's GitHub login.
    pub name: String,
    /// `<login>@users.noreply.github.com`.
    pub email: String,
}

/// What runs in the agent step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum RuntimePlan {
    /// Any program that keeps the runtime interface.
    Command {
        /// Program and arguments.
        command: Vec<String>,
    },
    /// The Claude Code CLI.
    ClaudeCode(ModelPlan),
    /// The Codex CLI.
    Codex(ModelPlan),
}

/// The settings of a runtime that talks to a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelPlan {
    /// The provider's name of the model.
    pub model: String,
    /// Turns, at most.
    pub max_turns: Option<u32>,
    /// US dollars, at most.
    pub max_cost_usd: Option<f64>,
    /// The tools it may use.
    pub tools: Vec<String>,
}
