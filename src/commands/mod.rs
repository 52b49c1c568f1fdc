//! One file a command: gather, decide, apply.

mod agents;
mod cancel;
mod cluster_result;
mod credentials;
mod demo;
mod dispatch;
mod explain;
mod history;
mod init;
mod kube_credential;
mod local;
mod logs;
mod meant;
mod on_cluster;
mod passes;
mod place;
mod publish;
mod readiness;
mod relay;
mod status;
mod sweep;
mod vault;
mod word;

use clap::CommandFactory;

use crate::cli::{Cli, Command, CompletionsArgs, ManArgs, RunCommand};
use crate::error::{Exit, UserError};

pub mod run;

/// Carries out a command.
pub async fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Agents(command) => agents::run(&command).await,
        Command::Completions(args) => completions(&args),
        Command::Init(args) => init::run(&args).await,
        Command::Man(args) => man(&args),
        Command::Demo(args) => demo::run(&args).await,
        Command::Dispatch(args) => dispatch::run(&args).await,
        Command::Explain(args) => explain::run(&args).await,
        Command::Cancel(args) => cancel::run(&args).await,
        Command::KubeCredential(args) => kube_credential::run(&args).await,
        Command::Logs(args) => logs::run(&args).await,
        Command::Publish(args) => publish::run(&args).await,
        Command::Relay(args) => relay::run(&args).await,
        Command::Status(args) => status::run(&args).await,
        Command::Sweep(args) => sweep::run(&args).await,
        Command::Vault(command) => vault::run(&command),
        Command::Run(RunCommand::Supervise(args)) => run::supervise::run(&args).await,
        Command::Run(RunCommand::Agent(args)) => run::agent::run(&args).await,
        Command::Run(RunCommand::Confine(args)) => run::confine::run(&args),
        Command::Run(RunCommand::Deliver(args)) => run::deliver::run(&args).await,
        Command::Run(RunCommand::Install(args)) => run::install::run(&args),
        Command::Run(RunCommand::Collect(args)) => run::collect::run(&args).await,
        Command::Run(RunCommand::Prepare(args)) => run::prepare::run(&args).await,
        Command::Run(RunCommand::Probe(args)) => run::probe::run(&args).await,
    }
}

fn completions(args: &CompletionsArgs) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "astra-dispatch", &mut script);
    crate::output::result(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Handled)
}

fn man(args: &ManArgs) -> anyhow::Result<Exit> {
    let directory = &args.directory;
    std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), directory))
        .map_err(|error| {
            UserError::failed(format!("the pages cannot be written: {error}"), "give a directory of your own")
                .at(directory.display().to_string())
        })?;
    crate::output::result(&directory.join("astra-dispatch.1").display().to_string())?;
    Ok(Exit::Handled)
}
