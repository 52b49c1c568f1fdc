//! The agent registry, as the rest of the program sees it: parsed, checked and complete.
//! The only way to a [`Registry`] is [`parse`], which `agents check` and `dispatch` share.

mod agent;
mod astra;
mod endpoint;
mod fault;
mod field;
mod files;
mod forms;
mod parse;
mod reader;
mod schema;
mod template;
mod values;
mod yaml;

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use fault::suggestion;
pub use fault::{Fault, Place, Rule, Severity};
pub use forms::repository_glob;
pub use parse::{Content, Parsed, SourceFile, Sources, parse};
pub use schema::{agent_schema, astra_schema};
pub use template::{NewAgent, NewFile, new_agent};
pub(in crate::domain) use yaml::foreign as foreign_yaml;

use super::name::{AgentName, Branch, ProjectId, Repository, Role};

/// Which registry something was decided with.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RegistryStamp {
    /// Committer time of the registry's commit, in seconds; 0 = outside Git or with uncommitted changes.
    pub ordinal: i64,
    /// `sha256:` and the hash over the sorted (path, content) of the registry's files.
    pub hash: String,
}

/// The whole registry.
#[derive(Debug, Clone)]
pub struct Registry {
    /// Its revision.
    pub stamp: RegistryStamp,
    /// The executor that `astra.yaml` asks for.
    pub executor: Option<ExecutorKind>,
    /// The Plane workspace.
    pub plane: Plane,
    /// Mapped projects.
    pub projects: BTreeMap<ProjectId, Project>,
    /// What agents can be employed for.
    pub roles: BTreeMap<Role, RoleSettings>,
    /// Model aliases and the provider's names for them.
    pub models: BTreeMap<String, String>,
    /// The Plane states that we write.
    pub states: States,
    /// What the labeller may do.
    pub labels: LabelMode,
    /// Attempts of one task within 24 hours, the first included.
    pub max_attempts: u32,
    /// Defaults and maxima of a run.
    pub limits: Limits,
    /// Where and how runs live on a cluster.
    pub kubernetes: Kubernetes,
    /// Where the run log goes.
    pub run_log: RunLog,
    /// The workforce.
    pub agents: BTreeMap<AgentName, Agent>,
}

/// Where runs are carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExecutorKind {
    /// Child processes of a supervisor on this machine.
    Local,
    /// Jobs on a cluster.
    Kubernetes,
}

/// Host of `plane.url` where there is no Plane yet: nobody can have it (RFC 2606).
pub const NO_PLANE: &str = "plane.invalid";

/// `plane:` of `astra.yaml`.
#[derive(Debug, Clone)]
pub struct Plane {
    /// Base URL of the instance, without a trailing slash.
    pub url: String,
    /// The workspace's slug.
    pub workspace: String,
    /// The workspace's id, as webhooks carry it.
    pub workspace_id: Option<uuid::Uuid>,
}

/// One mapped Plane project.
#[derive(Debug, Clone)]
pub struct Project {
    /// Plane's id.
    pub id: ProjectId,
    /// The letters of its task keys.
    pub identifier: String,
    /// Where its tasks are worked on unless they say otherwise.
    pub repository: Repository,
    /// The branch that work starts from unless the task says otherwise.
    pub base: Branch,
    /// Skills that every task of the project asks for.
    pub skills: Vec<String>,
}

/// One role.
#[derive(Debug, Clone)]
pub struct RoleSettings {
    /// What it is for.
    pub description: String,
    /// Typical tasks.
    pub examples: Vec<String>,
}

/// Names of Plane states.
#[derive(Debug, Clone)]
pub struct States {
    /// Written when a run starts; `None` = first of the group `started`.
    pub started: Option<String>,
    /// Written when there is something to review; `None` = as `started`.
    pub review: Option<String>,
    /// Written when a run failed; `None` = stays as it is.
    pub failed: Option<String>,
}

/// What the labeller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LabelMode {
    /// Nothing.
    Off,
    /// Propose a label.
    Suggest,
    /// Set a label.
    Apply,
}

/// Limits of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// CPU, as Kubernetes writes it: `2`, `500m`.
    pub cpu: String,
    /// The same in thousandths of a CPU.
    pub cpu_millis: u64,
    /// Memory, as Kubernetes writes it: `4Gi`.
    pub memory: String,
    /// The same in bytes.
    pub memory_bytes: u64,
    /// Wall clock of the agent step.
    pub time: Duration,
    /// How long a Job may stay pending.
    pub pending: Duration,
}

/// `kubernetes:` of `astra.yaml`.
#[derive(Debug, Clone)]
pub struct Kubernetes {
    /// The kubeconfig context; `None` = the current one.
    pub context: Option<String>,
    /// The namespace of the ledger.
    pub system_namespace: String,
    /// Our own image, for install, prepare, collect and deliver.
    pub image: Option<String>,
}

/// `run_log:` of `astra.yaml`.
#[derive(Debug, Clone)]
pub struct RunLog {
    /// Another repository than the registry's own.
    pub repository: Option<Repository>,
    /// Allowed on a public repository.
    pub public: bool,
}

/// One agent.
#[derive(Debug, Clone)]
pub struct Agent {
    /// Its name.
    pub name: AgentName,
    /// What it is employed for.
    pub role: Role,
    /// How it works.
    pub trait_: Trait,
    /// Whether it takes tasks.
    pub status: Status,
    /// One line for the catalog.
    pub description: String,
    /// What it is good at, in lower case.
    pub skills: Vec<String>,
    /// How many tasks it works on at once, at least 1.
    pub max_concurrent_tasks: u32,
    /// Patterns of repositories that it may work in.
    pub repositories: Vec<String>,
    /// Its accounts elsewhere.
    pub accounts: Accounts,
    /// What runs in the agent step.
    pub runtime: Runtime,
    /// Its prompts, with their texts.
    pub prompt: Prompt,
    /// Where its credentials are and which of them the agent step gets.
    pub credentials: Credentials,
    /// The limits in force: its own within those of `astra.yaml`.
    pub limits: Limits,
    /// What it may reach.
    pub network: Network,
    /// Paths that its work must not touch, added to the built-in ones.
    pub protected_paths: Vec<String>,
}

/// How an agent works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Trait {
    /// Takes its time.
    Thorough,
    /// Gets it done.
    Fast,
    /// Finds another way.
    Creative,
}

/// Whether an agent takes tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Takes tasks.
    Active,
    /// Ready, but takes none for now.
    Standby,
    /// Not set up; the status of a new agent.
    Inactive,
}

/// An agent's accounts.
#[derive(Debug, Clone)]
pub struct Accounts {
    /// GitHub login: the author of its commits.
    pub github: String,
    /// Mail address of its Plane member.
    pub plane: Option<String>,
}

/// What runs in the agent step.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// Which program, with what is its own.
    pub kind: RuntimeKind,
    /// The image that has it, by digest; not needed locally.
    pub image: Option<String>,
    /// A writable root file system.
    pub writable_root: bool,
    /// The user and group of every container.
    pub uid: u32,
    /// Name of the image pull secret.
    pub pull_secret: Option<String>,
    /// Kubernetes runtime class.
    pub runtime_class: Option<String>,
}

/// The agent's program.
#[derive(Debug, Clone, PartialEq)]
pub enum RuntimeKind {
    /// Any program that keeps the runtime interface.
    Command {
        /// Program and arguments.
        command: Vec<String>,
    },
    /// The Claude Code CLI.
    ClaudeCode(ModelSettings),
    /// The Codex CLI.
    Codex(ModelSettings),
}

/// Settings of a runtime that talks to a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSettings {
    /// The alias used unless the task asks for another.
    pub model: String,
    /// The aliases that a task may ask for; contains `model`.
    pub models: Vec<String>,
    /// Turns, at most.
    pub max_turns: Option<u32>,
    /// US dollars, at most.
    pub max_cost_usd: Option<f64>,
    /// The tools it may use.
    pub tools: Vec<String>,
}

/// An agent's prompts.
#[derive(Debug, Clone)]
pub struct Prompt {
    /// Who it is.
    pub personality: PromptFile,
    /// What it must not do.
    pub guardrails: Vec<PromptFile>,
    /// What to read before it starts.
    pub context: Vec<String>,
}

/// A prompt file of the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptFile {
    /// Path within the registry.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// Where an agent's credentials are.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Path in the vault, ending in the agent's name.
    pub vault: String,
    /// Environment variables of the agent step.
    pub env: Vec<String>,
}

/// What an agent may reach.
#[derive(Debug, Clone)]
pub struct Network {
    /// Ports of public addresses.
    pub ports: Vec<u16>,
    /// Internal addresses, `CIDR:port`.
    pub allow: Vec<String>,
}

/// The sample registry of `fixtures/registry`, for tests.
#[cfg(test)]
pub(crate) fn sample() -> Registry {
    parse(&tests::sample_sources()).expect("the sample registry has no fault").registry
}

#[cfg(test)]
mod tests;
