//! Groups of options that several commands have.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::domain::name::TaskKey;

/// Where the registry is.
#[derive(Debug, Clone, Args)]
pub struct RegistryArgs {
    /// Directory of the agent registry
    #[arg(long, env = "ASTRA_REGISTRY", value_name = "DIR", default_value = ".astra")]
    pub registry: PathBuf,
}

/// Where state is kept, and what stays there.
#[derive(Debug, Clone, Args)]
pub struct StateArgs {
    /// Directory of the local store and of run directories
    /// [default: ${XDG_STATE_HOME:-~/.local/state}/astra-dispatch/<workspace>]
    #[arg(long, env = "ASTRA_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Open no pull requests and write no reviews: leave them as files in the state directory
    #[arg(long, env = "ASTRA_NO_GITHUB")]
    pub no_github: bool,
}

/// Which task is meant: `--task` beats `--event` beats GITHUB_EVENT_PATH.
#[derive(Debug, Clone, Args)]
pub struct TaskArgs {
    /// Event file, `-` for stdin: a repository_dispatch event, or a Plane webhook's body
    /// [default: GITHUB_EVENT_PATH]
    #[arg(long, env = "ASTRA_EVENT", value_name = "FILE|-")]
    pub event: Option<PathBuf>,
    /// Task to dispatch by hand, such as AST-12: also when it was begun before or has failed too often
    #[arg(long, env = "ASTRA_TASK", value_name = "KEY")]
    pub task: Option<TaskKey>,
}

/// Where runs are carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExecutorChoice {
    /// Child processes on this machine
    Local,
    /// Jobs on a cluster
    Kubernetes,
}

/// Where runs are carried out.
#[derive(Debug, Clone, Args)]
pub struct ExecutorArgs {
    /// Where runs are carried out
    /// [default: `executor` of astra.yaml, else kubernetes in GitHub Actions and local elsewhere]
    #[arg(long, env = "ASTRA_EXECUTOR", value_name = "KIND")]
    pub executor: Option<ExecutorChoice>,
}

/// Where new runs fetch from.
#[derive(Debug, Clone, Args)]
pub struct GitArgs {
    /// Base of Git remotes, <BASE>/<owner>/<name>.git; a file:// base needs no token
    /// [default: GITHUB_SERVER_URL, else https://github.com]
    #[arg(long, env = "ASTRA_GIT_BASE_URL", value_name = "BASE")]
    pub git_base_url: Option<String>,
}

/// The form of what goes to stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// For scripts; versioned
    Json,
}

/// The form of what goes to stdout.
#[derive(Debug, Clone, Args)]
pub struct FormatArgs {
    /// Form of what goes to stdout
    #[arg(long, env = "ASTRA_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub format: Format,
}

/// Where a command works: which registry, on this machine or a cluster, with which state.
#[derive(Debug, Clone, Args)]
pub struct PlaceArgs {
    /// Which registry.
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// Which executor.
    #[command(flatten)]
    pub executor: ExecutorArgs,
    /// Which state.
    #[command(flatten)]
    pub state: StateArgs,
}
