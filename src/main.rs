//! The program: logger, command line, command, exit code.

use std::process::ExitCode;

use anyhow::Context;
use astra_dispatch::cli::Cli;
use astra_dispatch::error::Exit;
use astra_dispatch::{commands, output};

fn main() -> ExitCode {
    // To stderr, one line an event; `ASTRA_LOG=debug` shows more.
    // kube logs as an error what the caller is told, or tries again.
    env_logger::Builder::from_env(env_logger::Env::new().filter_or("ASTRA_LOG", "warn,kube_client=off"))
        .init();
    let cli = match Cli::parse_from_environment(std::env::args_os()) {
        Ok(cli) => cli,
        // clap's own text: help and version to stdout, wrong usage to stderr, exit code 2.
        Err(error) => error.exit(),
    };
    let exit = start(cli).unwrap_or_else(|error| output::error(&error));
    ExitCode::from(exit as u8)
}

fn start(cli: Cli) -> anyhow::Result<Exit> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(commands::run(cli.command))
}
