//! The commands of `agents` and their options.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{FormatArgs, RegistryArgs, StateArgs, TaskArgs, examples};
use crate::domain::name::{AgentName, Role};

/// The commands of `agents`.
#[derive(Debug, Subcommand)]
pub enum AgentsCommand {
    /// Report every fault of the registry, with place and cure
    #[command(after_help = examples::AGENTS_CHECK)]
    Check(AgentsCheckArgs),
    /// List the workforce
    #[command(after_help = examples::AGENTS_LIST)]
    List(AgentsListArgs),
    /// Write the files of a new agent; it starts inactive
    #[command(after_help = examples::AGENTS_NEW)]
    New(AgentsNewArgs),
    /// Print the exact prompts of a run
    #[command(after_help = examples::AGENTS_PROMPT)]
    Prompt(AgentsPromptArgs),
    /// Print the JSON Schema of a registry file
    #[command(after_help = examples::AGENTS_SCHEMA)]
    Schema(AgentsSchemaArgs),
    /// Print the manifests that the cluster needs, for `kubectl apply -f -`; with --vault, what a
    /// HashiCorp Vault or OpenBao server needs, for `sh`
    #[command(after_help = examples::AGENTS_PROVISION)]
    Provision(AgentsProvisionArgs),
    /// Check that the cluster, or GitHub, is as the registry says, and keeps apart what it must
    #[command(after_help = examples::AGENTS_DOCTOR)]
    Doctor(AgentsDoctorArgs),
}

/// The form of `agents check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CheckFormat {
    /// For people, with excerpts
    Text,
    /// For scripts; versioned
    Json,
    /// GitHub annotations
    Github,
    /// SARIF 2.1.0, for code scanning
    Sarif,
}

/// Options of `agents check`.
#[derive(Debug, Clone, Args)]
pub struct AgentsCheckArgs {
    /// Which registry.
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// Form of what goes to stdout [default: github in GitHub Actions, text elsewhere]
    #[arg(long, env = "ASTRA_FORMAT", value_name = "FORMAT")]
    pub format: Option<CheckFormat>,
}

/// Options of `agents list`.
#[derive(Debug, Clone, Args)]
pub struct AgentsListArgs {
    /// Which registry.
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// Which form.
    #[command(flatten)]
    pub format: FormatArgs,
}

/// Options of `agents new`.
#[derive(Debug, Clone, Args)]
pub struct AgentsNewArgs {
    /// The new agent's name
    pub name: AgentName,
    /// What it is employed for [default: the first by name of the roles in astra.yaml]
    #[arg(long, env = "ASTRA_ROLE", value_name = "ROLE")]
    pub role: Option<Role>,
    /// Which registry.
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// Options of `agents prompt`.
#[derive(Debug, Clone, Args)]
pub struct AgentsPromptArgs {
    /// The agent
    pub name: AgentName,
    /// Whose task: without one, only the system prompt is printed.
    #[command(flatten)]
    pub task: TaskArgs,
    /// Which registry.
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// Which state.
    #[command(flatten)]
    pub state: StateArgs,
}

/// The files that have a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SchemaOf {
    /// astra.yaml
    Astra,
    /// agents/NAME.yaml
    Agent,
}

/// Options of `agents schema`.
#[derive(Debug, Clone, Args)]
pub struct AgentsSchemaArgs {
    /// Which file
    #[arg(default_value = "agent")]
    pub of: SchemaOf,
}

/// Options of `agents provision`.
#[derive(Debug, Clone, Args)]
pub struct AgentsProvisionArgs {
    /// Only this agent's namespace [default: the system namespace and all agents]
    #[arg(long, env = "ASTRA_AGENT", value_name = "NAME")]
    pub agent: Option<AgentName>,
    /// Public addresses or CIDRs of the API server, which agents must not reach; several with commas
    #[arg(long, env = "ASTRA_API_SERVER", value_name = "ADDRESS", value_delimiter = ',')]
    pub api_server: Vec<String>,
    /// Write them into this directory instead, one file for each namespace and one for the admission policy, beside a kustomization.yaml
    #[arg(long, env = "ASTRA_KUSTOMIZE", value_name = "DIRECTORY", conflicts_with_all = ["agent", "vault"])]
    pub kustomize: Option<PathBuf>,
    /// The vault server's part.
    #[command(flatten)]
    pub vault: VaultRoleArgs,
    /// Which registry.
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// Which workflow may read the agents' credentials from a vault server.
#[derive(Debug, Clone, Args)]
pub struct VaultRoleArgs {
    /// Print policy and role of each agent for a vault server instead
    #[arg(long, env = "ASTRA_VAULT", requires_all = ["repository_id", "workflow_ref"])]
    pub vault: bool,
    /// With --vault: number of the repository whose workflow dispatches
    /// (`gh api repos/OWNER/NAME --jq .id`)
    #[arg(long, env = "ASTRA_REPOSITORY_ID", value_name = "NUMBER")]
    pub repository_id: Option<u64>,
    /// With --vault: that workflow, OWNER/NAME/.github/workflows/FILE@refs/heads/BRANCH
    #[arg(long, env = "ASTRA_WORKFLOW_REF", value_name = "REF")]
    pub workflow_ref: Option<String>,
    /// With --vault: the reference that it runs on
    #[arg(long, env = "ASTRA_REF", value_name = "REF", default_value = "refs/heads/main")]
    pub r#ref: String,
    /// With --vault: the GitHub environment of its job [default: any]
    #[arg(long, env = "ASTRA_ENVIRONMENT", value_name = "NAME")]
    pub environment: Option<String>,
}

/// Options of `agents doctor`.
#[derive(Debug, Clone, Args)]
pub struct AgentsDoctorArgs {
    /// What `agents provision` was given as --api-server
    #[arg(long, env = "ASTRA_API_SERVER", value_name = "ADDRESS", value_delimiter = ',')]
    pub api_server: Vec<String>,
    /// Also start a pod in each agent's namespace that tries what agents must not reach: the API
    /// server, another agent's pod, the metadata service
    #[arg(long, env = "ASTRA_PROBE")]
    pub probe: bool,
    /// Look at GitHub instead of the cluster: what the App (`ASTRA_APP_ID`, `ASTRA_APP_PRIVATE_KEY`) or
    /// GITHUB_TOKEN may do in the registry's repositories, and what keeps it to its own branches
    #[arg(long, env = "ASTRA_GITHUB", conflicts_with_all = ["probe", "api_server"])]
    pub github: bool,
    /// Which registry.
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// Which form.
    #[command(flatten)]
    pub format: FormatArgs,
}
