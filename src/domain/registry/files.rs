//! The two kinds of registry file, key by key. The derive drives the reader, the "did you mean" and
//! the JSON Schema, so there is no second list of keys.

use schemars::JsonSchema;
use serde::Deserialize;

use super::field::{Entries, Field};
use super::{ExecutorKind, LabelMode, Status, Trait};

/// The registry's settings: `astra.yaml`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AstraFile {
    /// Version of the format, always 1.
    pub(super) version: Field<u32>,
    /// Where runs are carried out, unless the command line says otherwise.
    pub(super) executor: Option<Field<ExecutorKind>>,
    /// The Plane workspace that tasks come from.
    pub(super) plane: Field<PlaneFile>,
    /// Plane projects that agents work for, and the repositories of their work.
    pub(super) projects: Field<Vec<Field<ProjectFile>>>,
    /// What agents can be employed for. A task asks for a role with the label `agent:<role>`.
    pub(super) roles: Field<Entries<RoleFile>>,
    /// Aliases of models and the provider's names for them.
    pub(super) models: Option<Field<Entries<String>>>,
    /// Names of the Plane states that a run moves its task to.
    pub(super) states: Option<Field<StatesFile>>,
    /// What the labeller may do.
    pub(super) labels: Option<Field<LabelsFile>>,
    /// Attempts of one task within 24 hours, the first included. Default 3.
    #[schemars(range(min = 1, max = 10))]
    pub(super) max_attempts: Option<Field<u32>>,
    /// Limits of every run, and what no agent's own may go beyond.
    pub(super) limits: Option<Field<LimitsFile>>,
    /// The cluster that runs are carried out on.
    pub(super) kubernetes: Option<Field<KubernetesFile>>,
    /// Where the record of past runs is kept.
    pub(super) run_log: Option<Field<RunLogFile>>,
}

/// A Plane workspace.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PlaneFile {
    /// Base URL of the instance.
    pub(super) url: Field<String>,
    /// The workspace's slug, as in its URL.
    pub(super) workspace: Field<String>,
    /// The workspace's id: events of another workspace are then ignored.
    #[schemars(extend("format" = "uuid"))]
    pub(super) workspace_id: Option<Field<String>>,
}

/// A mapped Plane project.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ProjectFile {
    /// Plane's id of the project.
    #[schemars(extend("format" = "uuid"))]
    pub(super) id: Field<String>,
    /// The letters of its task keys, `AST` in `AST-12`.
    pub(super) identifier: Field<String>,
    /// `owner/name` of the repository that its tasks are worked on in, unless they say otherwise.
    pub(super) repository: Field<String>,
    /// The branch that work starts from, unless the task says otherwise.
    pub(super) base: Field<String>,
    /// Skills that every task of the project asks for.
    pub(super) skills: Option<Field<Vec<Field<String>>>>,
}

/// A role.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RoleFile {
    /// What the role is for, in one line.
    pub(super) description: Field<String>,
    /// Typical tasks.
    pub(super) examples: Option<Field<Vec<Field<String>>>>,
}

/// Names of Plane states.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StatesFile {
    /// When a run starts. Default: the first state of the group `started`.
    pub(super) started: Option<Field<String>>,
    /// When there is something to review. Default: as `started`.
    pub(super) review: Option<Field<String>>,
    /// When a run failed. Default: stays as it is.
    pub(super) failed: Option<Field<String>>,
}

/// The labeller.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LabelsFile {
    /// Whether it stays silent, proposes a label or sets it.
    pub(super) mode: Field<LabelMode>,
}

/// Limits of a run.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsFile {
    /// CPU as Kubernetes writes it: `2`, `500m`. Default 2.
    pub(super) cpu: Option<Field<String>>,
    /// Memory as Kubernetes writes it: `4Gi`. Default 4Gi.
    pub(super) memory: Option<Field<String>>,
    /// Wall clock of the agent step: `30m`, `1h 10m`. Default 30m.
    pub(super) time: Option<Field<String>>,
    /// How long a run may wait for a place on the cluster: `10m`. Default 10m.
    pub(super) pending: Option<Field<String>>,
}

/// A cluster.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KubernetesFile {
    /// The kubeconfig context. Default: the current one.
    pub(super) context: Option<Field<String>>,
    /// The namespace that holds the ledger. Default astra-system.
    pub(super) system_namespace: Option<Field<String>>,
    /// Our own image, by digest, for every step but the agent's.
    pub(super) image: Option<Field<String>>,
}

/// The run log.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RunLogFile {
    /// `owner/name` of another repository than the registry's own.
    pub(super) repository: Option<Field<String>>,
    /// Whether a public repository may hold it. Default false.
    pub(super) public: Option<Field<bool>>,
}

/// An agent: `agents/NAME.yaml`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AgentFile {
    /// The agent's name: that of the file without `.yaml`.
    pub(super) name: Field<String>,
    /// A role of `astra.yaml`.
    pub(super) role: Field<String>,
    /// How it works.
    #[serde(rename = "trait")]
    pub(super) trait_: Field<Trait>,
    /// Whether it takes tasks. Default inactive.
    pub(super) status: Option<Field<Status>>,
    /// One line for the catalog.
    pub(super) description: Field<String>,
    /// What it is good at: lower-case words, dashes within.
    pub(super) skills: Option<Field<Vec<Field<String>>>>,
    /// How many tasks it works on at once. Default 1.
    #[schemars(range(min = 1))]
    pub(super) max_concurrent_tasks: Option<Field<u32>>,
    /// Patterns of the repositories that it may work in: `astra/*`.
    pub(super) repositories: Field<Vec<Field<String>>>,
    /// Its accounts elsewhere.
    pub(super) accounts: Field<AccountsFile>,
    /// What runs in the agent step.
    pub(super) runtime: Field<RuntimeFile>,
    /// What it is told.
    pub(super) prompt: Field<PromptFiles>,
    /// Where its credentials are.
    pub(super) credentials: Field<CredentialsFile>,
    /// Its own limits, within those of `astra.yaml`.
    pub(super) limits: Option<Field<LimitsFile>>,
    /// What it may reach over the network.
    pub(super) network: Option<Field<NetworkFile>>,
    /// Patterns of paths that its work must not touch, besides the built-in ones.
    pub(super) protected_paths: Option<Field<Vec<Field<String>>>>,
}

/// Accounts of an agent.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AccountsFile {
    /// GitHub login, the author of its commits.
    pub(super) github: Field<String>,
    /// Mail address of its Plane member: tasks assigned to it go to this agent.
    pub(super) plane: Option<Field<String>>,
}

/// The agent's program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// The Claude Code CLI.
    ClaudeCode,
    /// The Codex CLI.
    Codex,
    /// Any program that keeps the runtime interface.
    Command,
}

/// What runs in the agent step.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RuntimeFile {
    /// Which program.
    pub(super) kind: Field<Kind>,
    /// The image that has it, by digest. Needed on a cluster.
    pub(super) image: Option<Field<String>>,
    /// Kind command: program and arguments.
    pub(super) command: Option<Field<Vec<Field<String>>>>,
    /// Model alias of `astra.yaml`, used unless the task asks for another.
    pub(super) model: Option<Field<String>>,
    /// Aliases that a task may ask for. Default: only `model`.
    pub(super) models: Option<Field<Vec<Field<String>>>>,
    /// Turns, at most.
    #[schemars(range(min = 1))]
    pub(super) max_turns: Option<Field<u32>>,
    /// US dollars a run, at most.
    pub(super) max_cost_usd: Option<Field<f64>>,
    /// The tools that it may use. Default: the runtime's own.
    pub(super) tools: Option<Field<Vec<Field<String>>>>,
    /// A writable root file system. Default false.
    pub(super) writable_root: Option<Field<bool>>,
    /// User and group of every container. Default 10001.
    #[schemars(range(min = 1))]
    pub(super) uid: Option<Field<u32>>,
    /// Name of the image pull secret.
    pub(super) pull_secret: Option<Field<String>>,
    /// Kubernetes runtime class.
    pub(super) runtime_class: Option<Field<String>>,
}

/// What the agent is told.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PromptFiles {
    /// File below `prompts/`: who it is.
    pub(super) personality: Field<String>,
    /// Files below `prompts/`: what it must not do.
    pub(super) guardrails: Option<Field<Vec<Field<String>>>>,
    /// What to read in the repository before it starts: instructions or paths.
    pub(super) context: Option<Field<Vec<Field<String>>>>,
}

/// Credentials of an agent.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CredentialsFile {
    /// Path in the vault; its last part is the agent's name.
    pub(super) vault: Field<String>,
    /// Environment variables of the agent step, read from the vault.
    pub(super) env: Option<Field<Vec<Field<String>>>>,
}

/// What an agent may reach.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NetworkFile {
    /// Ports of public addresses. Default 443.
    pub(super) ports: Option<Field<Vec<Field<u16>>>>,
    /// Internal addresses as `CIDR:port`.
    pub(super) allow: Option<Field<Vec<Field<String>>>>,
}
