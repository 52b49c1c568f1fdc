//! The workforce: checked, listed and added to.

mod check;
mod doctor;
mod doctor_github;
mod fault_report;
mod list;
mod new;
mod probe;
mod prompt;
mod provision;
mod sarif;

pub(super) use doctor_github::github_access;

use crate::cli::{AgentsCommand, AgentsSchemaArgs, SchemaOf};
use crate::domain::registry::{agent_schema, astra_schema};
use crate::error::Exit;
use crate::output;

/// Carries out a command of `agents`.
pub(super) async fn run(command: &AgentsCommand) -> anyhow::Result<Exit> {
    match command {
        AgentsCommand::Doctor(args) => doctor::run(args).await,
        AgentsCommand::Check(args) => check::run(args),
        AgentsCommand::List(args) => list::run(args),
        AgentsCommand::New(args) => new::run(args),
        AgentsCommand::Schema(args) => schema(args),
        AgentsCommand::Prompt(args) => prompt::run(args).await,
        AgentsCommand::Provision(args) => provision::run(args),
    }
}

fn schema(args: &AgentsSchemaArgs) -> anyhow::Result<Exit> {
    output::json(&match args.of {
        SchemaOf::Astra => astra_schema(),
        SchemaOf::Agent => agent_schema(),
    })?;
    Ok(Exit::Handled)
}
