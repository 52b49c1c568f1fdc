//! One file a command: gather, decide, apply.

mod agents;

use clap::CommandFactory;

use crate::cli::{Cli, Command, CompletionsArgs, RunCommand};
use crate::error::{Exit, UserError};

pub mod run;

/// Carries out a command.
pub async fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Agents(command) => agents::run(&command).await,
        Command::Completions(args) => completions(&args),
        Command::Run(RunCommand::Agent(args)) => run::agent::run(&args).await,
        Command::Run(RunCommand::Confine(args)) => run::confine::run(&args),
        Command::Run(RunCommand::Deliver(args)) => run::deliver::run(&args).await,
        Command::Run(RunCommand::Install(args)) => run::install::run(&args),
        Command::Run(RunCommand::Collect(args)) => run::collect::run(&args).await,
        Command::Run(RunCommand::Prepare(args)) => run::prepare::run(&args).await,
        other => Err(UserError::failed(format!("{other:?} is not built yet"), "use a later version").into()),
    }
}

fn completions(args: &CompletionsArgs) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "astra-dispatch", &mut script);
    crate::output::result(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Handled)
}
