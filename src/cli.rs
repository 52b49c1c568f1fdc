//! The command line: every option, with the environment variable that mirrors it.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::builder::{BoolishValueParser, NonEmptyStringValueParser, Resettable, StyledStr};
use clap::error::{ContextKind, ContextValue};
use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::domain::name::RunId;

mod agents;
mod examples;
mod groups;
mod init;
mod relay;
mod run;
mod vault;

pub use agents::{
    AgentsCheckArgs, AgentsCommand, AgentsDoctorArgs, AgentsListArgs, AgentsNewArgs, AgentsPromptArgs,
    AgentsProvisionArgs, AgentsSchemaArgs, CheckFormat, SchemaOf, VaultRoleArgs,
};
pub use groups::{
    ExecutorArgs, ExecutorChoice, Format, FormatArgs, GitArgs, PlaceArgs, RegistryArgs, StateArgs, TaskArgs,
};
pub use init::InitArgs;
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
#[command(name = "astra-dispatch", version, propagate_version = true, after_help = examples::PROGRAM)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Dispatch the task of an event, and everything else that fits
    ///
    /// On this machine (--executor local) each run has a work tree, an environment and a process
    /// session of its own. The agent has no capabilities, and Landlock keeps it to the files of its run
    /// and read-only system files; it shares your user, the network and, on older kernels, local sockets.
    /// Where the kernel has no Landlock the agent has all your rights; the output says which it is.
    /// Ctrl-C cancels the run that is waited for; the death of this process stops no run. How the run ended
    /// does not change the exit code: with --format json it is `result.outcome`.
    #[command(after_help = examples::DISPATCH)]
    Dispatch(DispatchArgs),
    /// Say what `dispatch` would do, and why; changes nothing
    #[command(after_help = examples::EXPLAIN)]
    Explain(ExplainArgs),
    /// Publish finished runs: the pull request and the word to Plane
    #[command(after_help = examples::PUBLISH)]
    Publish(PublishArgs),
    /// Look at everything: tasks that no event told of, runs to publish or to stop, old traces
    ///
    /// Repeated, it changes nothing. Run it on a schedule: it finds what a lost event or a dead workflow
    /// left behind. Without a relay it alone is enough; a task then waits for the next sweep.
    #[command(after_help = examples::SWEEP)]
    Sweep(SweepArgs),
    /// Stop a run
    #[command(after_help = examples::CANCEL)]
    Cancel(CancelArgs),
    /// Show runs, waiting tasks and agents
    #[command(after_help = examples::STATUS)]
    Status(StatusArgs),
    /// Show the log of a run
    #[command(after_help = examples::LOGS)]
    Logs(LogsArgs),
    /// Set up a repository: a registry with one agent, and for a cluster the workflows
    ///
    /// Every credential at hand (PLANE_API_KEY, GITHUB_TOKEN or the App's, ANTHROPIC_API_KEY, the
    /// kubeconfig) is tried with one call that changes nothing and costs nothing; if one does not do, nothing
    /// is written. Names of projects, states and labels come from Plane. Repeated, it changes nothing; a
    /// file that is there is changed only with --force, or by your word after its difference was shown.
    #[command(after_help = examples::INIT)]
    Init(InitArgs),
    /// Watch a recorded task become a reviewed branch, without accounts or cluster
    #[command(after_help = examples::DEMO)]
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
    #[command(after_help = examples::RELAY)]
    Relay(RelayArgs),
    /// Sign in to a cluster as this GitHub workflow: a credential plugin of a kubeconfig
    ///
    /// Called by the program and by kubectl, where `users[].user.exec` of the kubeconfig says so. Prints an
    /// ExecCredential (client.authentication.k8s.io/v1) with the job's own identity token and the time when
    /// that expires; then it is called again. No key is kept anywhere. The job needs
    /// `permissions: {id-token: write}`, and the API server must trust the token: see docs/keyless.md.
    #[command(after_help = examples::KUBE_CREDENTIAL)]
    KubeCredential(KubeCredentialArgs),
    /// The phases of a run (called by the executors, not by people)
    #[command(subcommand)]
    Run(RunCommand),
    /// Print a completion script for a shell
    #[command(after_help = examples::COMPLETIONS)]
    Completions(CompletionsArgs),
    /// Write the manual pages into a directory
    #[command(after_help = examples::MAN)]
    Man(ManArgs),
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
    /// Where.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Which Git server.
    #[command(flatten)]
    pub git: GitArgs,
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
    /// Where.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Which Git server.
    #[command(flatten)]
    pub git: GitArgs,
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
    /// Where.
    #[command(flatten)]
    pub place: PlaceArgs,
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
    /// Where.
    #[command(flatten)]
    pub place: PlaceArgs,
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
    /// Where.
    #[command(flatten)]
    pub place: PlaceArgs,
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
    /// Where.
    #[command(flatten)]
    pub place: PlaceArgs,
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
    /// Where.
    #[command(flatten)]
    pub place: PlaceArgs,
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

/// Options of `man`.
#[derive(Debug, Clone, Args)]
pub struct ManArgs {
    /// The directory, such as ~/.local/share/man/man1; made where it is missing
    pub directory: PathBuf,
}

impl Cli {
    /// Reads the command line and its environment mirrors.
    ///
    /// An Action passes inputs that were not given as empty variables, and clap takes `""` for a
    /// value: such variables are left out of account.
    pub fn parse_from_environment(
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Self, clap::Error> {
        let command = take_variables(Self::command());
        let matches = command.clone().try_get_matches_from(arguments);
        Self::from_arg_matches(&matches.map_err(|error| with_variable(error, &command))?)
    }
}

/// Leaves empty variables out of account, and takes `1`, `yes` and the like for `true`.
fn take_variables(command: clap::Command) -> clap::Command {
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    command
        .mut_args(|argument| match argument.get_action() {
            _ if argument.get_env().is_some_and(is_empty) => argument.env(Resettable::Reset),
            ArgAction::SetTrue => argument.value_parser(BoolishValueParser::new()),
            _ => argument,
        })
        .mut_subcommands(take_variables)
}

/// Names the variable that a refused value comes from: clap names only the option.
fn with_variable(mut error: clap::Error, command: &clap::Command) -> clap::Error {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let option = text(ContextKind::InvalidArg).split(' ').next().and_then(|word| word.strip_prefix("--"));
    let variable = option.map(|option| format!("ASTRA_{}", option.to_uppercase().replace('-', "_")));
    let value = text(ContextKind::InvalidValue);
    if let Some(variable) = variable.filter(|name| std::env::var(name).is_ok_and(|known| known == value)) {
        let tip = StyledStr::from(format!("the value comes from the variable {variable}"));
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
    }
    error.with_cmd(command)
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

    /// Every line of the examples, but for what a shell does with it.
    #[test]
    fn every_command_has_examples_that_parse() {
        fn check(command: &clap::Command, path: &str) {
            if command.is_hide_set() || command.get_name() == "help" {
                return;
            }
            let path = format!("{path} {}", command.get_name());
            let path = path.trim_start();
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples: Vec<&str> = help
                .lines()
                .filter_map(|line| line.strip_prefix("  "))
                .filter(|line| line.starts_with("astra-dispatch "))
                .collect();
            assert!(command.has_subcommands() || !examples.is_empty(), "{path} has no example");
            for example in examples {
                let command_line = example.split(['|', '<', '>']).next().unwrap_or_default();
                let command_line = command_line.split("  ").next().unwrap_or_default();
                let parsed = Cli::command().try_get_matches_from(command_line.split_whitespace());
                assert!(parsed.is_ok(), "{example}: {}", parsed.unwrap_err());
                assert!(path == "astra-dispatch" || example.starts_with(path), "{path}: {example}");
            }
            command.get_subcommands().for_each(|command| check(command, path));
        }
        check(&Cli::command(), "");
    }
}
