//! The phases of a run and their options: called by the executors, not by people.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{RegistryArgs, StateArgs, examples};
use crate::domain::kubernetes::probe::Attempt;
use crate::domain::name::RunId;

/// The phases of a run.
#[derive(Debug, Subcommand)]
pub enum RunCommand {
    /// Carry out a released run on this machine, phase by phase
    #[command(after_help = examples::RUN_SUPERVISE)]
    Supervise(RunSuperviseArgs),
    /// Copy this program to where the agent's container finds it
    #[command(after_help = examples::RUN_INSTALL)]
    Install(RunInstallArgs),
    /// Make a fresh clone of the right branch
    #[command(after_help = examples::RUN_PREPARE)]
    Prepare(RunPhaseArgs),
    /// Run the agent within its limits
    #[command(after_help = examples::RUN_AGENT)]
    Agent(RunAgentArgs),
    /// Confine itself and become the agent's program
    #[command(hide = true)]
    Confine(RunConfineArgs),
    /// Turn the work tree into one commit
    #[command(after_help = examples::RUN_COLLECT)]
    Collect(RunPhaseArgs),
    /// Gate the work, push it and write the result
    #[command(after_help = examples::RUN_DELIVER)]
    Deliver(RunDeliverArgs),
    /// Try what an agent's pods must not reach, for `agents doctor --probe`
    #[command(hide = true)]
    Probe(RunProbeArgs),
}

/// Options of `run supervise`.
#[derive(Debug, Clone, Args)]
pub struct RunSuperviseArgs {
    /// The run
    pub run: RunId,
    /// Which registry.
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// Which state.
    #[command(flatten)]
    pub state: StateArgs,
    /// Base of Git remotes, as `dispatch` was given it
    #[arg(long, env = "ASTRA_GIT_BASE_URL", value_name = "BASE")]
    pub git_base_url: Option<String>,
}

/// Options of `run install`.
#[derive(Debug, Clone, Args)]
pub struct RunInstallArgs {
    /// The directory
    #[arg(long, env = "ASTRA_TO", value_name = "DIR")]
    pub to: PathBuf,
}

/// Options of a phase.
#[derive(Debug, Clone, Args)]
pub struct RunPhaseArgs {
    /// The run's directory, with its plan.json
    #[arg(long, env = "ASTRA_RUN_DIR", value_name = "DIR", default_value = "/run/astra")]
    pub run_dir: PathBuf,
}

/// Options of `run agent`.
#[derive(Debug, Clone, Args)]
pub struct RunAgentArgs {
    /// The run's directory.
    #[command(flatten)]
    pub phase: RunPhaseArgs,
    /// The container is the confinement: leave Landlock out
    #[arg(long, env = "ASTRA_CONTAINED")]
    pub contained: bool,
}

/// Options of `run confine`, which only `run agent` calls.
#[derive(Debug, Clone, Args)]
pub struct RunConfineArgs {
    /// The run's directory
    #[arg(long, value_name = "DIR")]
    pub run_dir: PathBuf,
    /// The process that called
    #[arg(long, value_name = "PID")]
    pub parent: u32,
    /// The level of confinement that was promised
    #[arg(long, value_name = "LEVEL")]
    pub level: String,
    /// The container is the confinement
    #[arg(long)]
    pub contained: bool,
    /// The program
    #[arg(value_name = "PROGRAM")]
    pub program: PathBuf,
    /// Its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    pub arguments: Vec<OsString>,
}

/// Options of `run deliver`.
#[derive(Debug, Clone, Args)]
pub struct RunDeliverArgs {
    /// The run's directory.
    #[command(flatten)]
    pub phase: RunPhaseArgs,
    /// Also write the result here, cut to 4096 bytes
    #[arg(long, env = "ASTRA_TERMINATION_MESSAGE", value_name = "FILE")]
    pub termination_message: Option<PathBuf>,
}

/// Options of `run probe`, which only `agents doctor` calls.
#[derive(Debug, Clone, Args)]
pub struct RunProbeArgs {
    /// Only take connections on this port, until it is stopped
    #[arg(long, value_name = "PORT", conflicts_with = "targets")]
    pub listen: Option<u16>,
    /// Something to try; may be repeated
    #[arg(long = "target", value_name = "TARGET=HOST:PORT")]
    pub targets: Vec<Attempt>,
}
