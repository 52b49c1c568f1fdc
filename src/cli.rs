//! The command line: every option, with the environment variable that mirrors it.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::builder::{NonEmptyStringValueParser, Resettable};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::domain::name::{RunId, TaskKey};

mod agents;
mod relay;
mod run;
mod vault;

pub use agents::{
    AgentsCheckArgs, AgentsCommand, AgentsDoctorArgs, AgentsListArgs, AgentsNewArgs, AgentsPromptArgs,
    AgentsProvisionArgs, AgentsSchemaArgs, CheckFormat, SchemaOf, VaultRoleArgs,
};
pub use relay::RelayArgs;
pub use run::{
    RunAgentArgs, RunCommand, RunConfineArgs, RunDeliverArgs, RunInstallArgs, RunPhaseArgs, RunProbeArgs,
    RunSuperviseArgs,
};
pub use vault::{
    RecipientArgs, RecipientsCommand, VaultCommand, VaultKeyArgs, VaultListArgs, VaultMergeArgs,
};

/// Turns a labelled task in Plane into a reviewed pull request made by an AI agent in isolation.
///
/// stdout is for machines, stderr for people. Every long option can be given as ASTRA_<OPTION>;
/// an empty variable counts as unset.
#[derive(Debug, Parser)]
#[command(name = "astra-dispatch", version, propagate_version = true, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  astra-dispatch demo                              see a task become a reviewed branch, on this machine
  astra-dispatch agents check                      check the registry in .astra
  astra-dispatch explain --event event.json        what would happen, and why
  astra-dispatch dispatch --event event.json       make it happen
  astra-dispatch status --watch                    what everyone is doing

Exit codes:
  0   handled (dispatched, waiting, ignored, refused: all recorded)
  1   failed
  2   wrong usage or invalid configuration
  75  nothing was lost, but a needed service did not answer: try again";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Dispatch the task of an event, and everything else that fits
    ///
    /// On this machine (--executor local) each run has a work tree, an environment and a process
    /// session of its own. The agent has no capabilities, and Landlock keeps it to the files of its run
    /// and read-only system files; it shares your user, the network and, on older kernels, local sockets.
    /// Where the kernel has no Landlock the agent has all your rights; the output says which it is.
    /// Ctrl-C cancels the run that is waited for; the death of this process stops no run.
    Dispatch(DispatchArgs),
    /// Say what `dispatch` would do, and why; changes nothing
    Explain(ExplainArgs),
    /// Publish finished runs: the pull request and the word to Plane
    Publish(PublishArgs),
    /// Look at everything: tasks that no event told of, runs to publish or to stop, old traces
    ///
    /// Repeated, it changes nothing. Run it on a schedule: it finds what a lost event or a dead workflow
    /// left behind. Without a relay it alone is enough; a task then waits for the next sweep.
    Sweep(SweepArgs),
    /// Stop a run
    Cancel(CancelArgs),
    /// Show runs, waiting tasks and agents
    Status(StatusArgs),
    /// Show the log of a run
    Logs(LogsArgs),
    /// Watch a recorded task become a reviewed branch, without accounts or cluster
    Demo(DemoArgs),
    /// Check, list and make agents
    #[command(subcommand)]
    Agents(AgentsCommand),
    /// Keep the agents' credentials, encrypted beside the registry
    ///
    /// The vault is the file vault.age of the registry, which the program `age` opens too. Who holds one
    /// of its identities reads all agents' values. ASTRA_VAULT_IDENTITY is the path of your identity's
    /// file, or the identity itself; `age-keygen -o FILE` makes one.
    #[command(subcommand)]
    Vault(VaultCommand),
    /// Receive Plane's webhooks, and start the workflow for those that matter
    ///
    /// Plane posts to http://ADDR/plane. An event is on the disk before it is answered; then it goes to
    /// the repository as `plane-event` (repository_dispatch), the events of one edit as one.
    /// ASTRA_WEBHOOK_SECRET holds the webhook's secret; while it is changed, the old and the new one, one
    /// a line. ASTRA_APP_ID and ASTRA_APP_PRIVATE_KEY sign in as a GitHub App, else GITHUB_TOKEN does.
    /// /healthz says that it runs, /readyz that it can store, /metrics is for Prometheus.
    Relay(RelayArgs),
    /// Sign in to a cluster as this GitHub workflow: a credential plugin of a kubeconfig
    ///
    /// Called by the program and by kubectl, where `users[].user.exec` of the kubeconfig says so. Prints an
    /// ExecCredential (client.authentication.k8s.io/v1) with the job's own identity token and the time when
    /// that expires; then it is called again. No key is kept anywhere. The job needs
    /// `permissions: {id-token: write}`, and the API server must trust the token: see docs/keyless.md.
    KubeCredential(KubeCredentialArgs),
    /// The phases of a run (called by the executors, not by people)
    #[command(subcommand)]
    Run(RunCommand),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
}

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

/// How a cluster's run is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DryRun {
    /// Print the manifests; the cluster is not asked
    Client,
    /// Let the API server check them; it keeps nothing
    Server,
}

/// Options of `dispatch`.
#[derive(Debug, Clone, Args)]
pub struct DispatchArgs {
    /// Which task.
    #[command(flatten)]
    pub task: TaskArgs,
    /// Which registry.
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// Which executor.
    #[command(flatten)]
    pub executor: ExecutorArgs,
    /// Which Git server.
    #[command(flatten)]
    pub git: GitArgs,
    /// Which state.
    #[command(flatten)]
    pub state: StateArgs,
    /// Which form.
    #[command(flatten)]
    pub format: FormatArgs,
    /// Do not wait for the run to end; on a cluster nobody waits
    #[arg(long, env = "ASTRA_DETACH")]
    pub detach: bool,
    /// Change nothing; show the run's manifests (client), or ask the cluster whether it would take them
    /// (server)
    #[arg(long, env = "ASTRA_DRY_RUN", value_name = "WHERE")]
    pub dry_run: Option<DryRun>,
}

/// Options of `explain`.
#[derive(Debug, Clone, Args)]
pub struct ExplainArgs {
    /// Which task.
    #[command(flatten)]
    pub task: TaskArgs,
    /// Which registry.
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// Which executor.
    #[command(flatten)]
    pub executor: ExecutorArgs,
    /// Which Git server.
    #[command(flatten)]
    pub git: GitArgs,
    /// Which state.
    #[command(flatten)]
    pub state: StateArgs,
    /// Which form.
    #[command(flatten)]
    pub format: FormatArgs,
}

/// Options of `publish`.
#[derive(Debug, Clone, Args)]
pub struct PublishArgs {
    /// Only this run [default: all that are finished and not yet published]
    #[arg(long, env = "ASTRA_RUN", value_name = "RUN")]
    pub run: Option<RunId>,
    /// Which Git: the next task may begin.
    #[command(flatten)]
    pub git: GitArgs,
    /// Which registry.
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// Which executor.
    #[command(flatten)]
    pub executor: ExecutorArgs,
    /// Which state.
    #[command(flatten)]
    pub state: StateArgs,
    /// Which form.
    #[command(flatten)]
    pub format: FormatArgs,
}

/// Options of `sweep`.
#[derive(Debug, Clone, Args)]
pub struct SweepArgs {
    /// Published runs older than this are removed (Jobs, or directories of this machine)
    #[arg(long, env = "ASTRA_KEEP_DAYS", value_name = "DAYS", default_value_t = 7)]
    pub keep_days: u16,
    /// Which Git.
    #[command(flatten)]
    pub git: GitArgs,
    /// Which registry.
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// Which executor.
    #[command(flatten)]
    pub executor: ExecutorArgs,
    /// Which state.
    #[command(flatten)]
    pub state: StateArgs,
    /// Which form.
    #[command(flatten)]
    pub format: FormatArgs,
}

/// Options of `cancel`.
#[derive(Debug, Clone, Args)]
pub struct CancelArgs {
    /// The run, such as ast-12-x7k2p
    pub run: RunId,
    /// Which Git: the next task may begin.
    #[command(flatten)]
    pub git: GitArgs,
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

/// Options of `status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// Show changes as they happen
    #[arg(long, env = "ASTRA_WATCH")]
    pub watch: bool,
    /// Show the newest runs of the run log instead (the branch astra-log), from any machine
    #[arg(long, env = "ASTRA_HISTORY", value_name = "COUNT", num_args = 0..=1, default_missing_value = "20", conflicts_with = "watch")]
    pub history: Option<u8>,
    /// Which registry.
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// Which executor.
    #[command(flatten)]
    pub executor: ExecutorArgs,
    /// Which state.
    #[command(flatten)]
    pub state: StateArgs,
    /// Which form.
    #[command(flatten)]
    pub format: FormatArgs,
}

/// Options of `logs`.
#[derive(Debug, Clone, Args)]
pub struct LogsArgs {
    /// The run, such as ast-12-x7k2p
    pub run: RunId,
    /// Go on until the run ends
    #[arg(short = 'f', long, env = "ASTRA_FOLLOW")]
    pub follow: bool,
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

/// The agent of a demonstration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DemoRuntime {
    /// A scripted agent: needs nothing
    Script,
    /// The Claude Code CLI: needs `claude` and ANTHROPIC_API_KEY
    ClaudeCode,
}

/// Options of `demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Who does the work
    #[arg(long, env = "ASTRA_RUNTIME", value_name = "KIND", default_value = "script")]
    pub runtime: DemoRuntime,
}

/// Options of `kube-credential`.
#[derive(Debug, Clone, Args)]
pub struct KubeCredentialArgs {
    /// Whom the token is for: what the API server's configuration lists under `audiences`. With several
    /// clusters, one for each: a token for one then opens no other
    #[arg(long, env = "ASTRA_AUDIENCE", value_name = "NAME", default_value = "astra-dispatch",
        value_parser = NonEmptyStringValueParser::new())]
    pub audience: String,
}

/// Options of `completions`.
#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

impl Cli {
    /// Reads the command line and its environment mirrors.
    ///
    /// An Action passes inputs that were not given as empty variables, and clap takes `""` for a
    /// value: such variables are left out of account.
    pub fn parse_from_environment(
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Self, clap::Error> {
        let command = ignore_empty_variables(Self::command());
        Self::from_arg_matches(&command.try_get_matches_from(arguments)?)
    }
}

fn ignore_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    command
        .mut_args(|argument| {
            if argument.get_env().is_some_and(is_empty) { argument.env(Resettable::Reset) } else { argument }
        })
        .mut_subcommands(ignore_empty_variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_long_option_has_its_variable() {
        fn check(command: &clap::Command) {
            // An internal step has the agent's environment, which must not steer it.
            if command.is_hide_set() {
                return;
            }
            for argument in command.get_arguments() {
                let Some(long) = argument.get_long().filter(|long| !["help", "version"].contains(long))
                else {
                    continue;
                };
                let expected = format!("ASTRA_{}", long.to_uppercase().replace('-', "_"));
                let actual = argument.get_env().map(|name| name.to_string_lossy().into_owned());
                assert_eq!(actual, Some(expected), "--{long} of {}", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
