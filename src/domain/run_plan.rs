//! Everything that a run needs to know, decided before it starts: plain data, and free of secrets.
//! The same document drives the phases in a pod and the child processes on one machine.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::name::{AgentName, Branch, Repository, Role, RunId, TaskKey};
use super::registry::{Limits, RegistryStamp};

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

impl RunPlan {
    /// The Git remote.
    pub fn remote(&self) -> String {
        format!("{}/{}.git", self.git_base_url.trim_end_matches('/'), self.repository)
    }

    /// How long the agent step may take.
    pub fn time_limit(&self) -> Duration {
        self.limits.time
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
