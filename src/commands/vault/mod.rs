//! `vault`: the agents' credentials. No value leaves these commands.

mod key;
mod list;
mod merge;
mod recipients;

use crate::cli::VaultCommand;
use crate::error::Exit;

/// Carries out a command of `vault`.
pub(super) fn run(command: &VaultCommand) -> anyhow::Result<Exit> {
    match command {
        VaultCommand::Set(args) => key::set(args),
        VaultCommand::Rotate(args) => key::rotate(args),
        VaultCommand::Remove(args) => key::remove(args),
        VaultCommand::List(args) => list::run(args),
        VaultCommand::Recipients(command) => recipients::run(command),
        VaultCommand::Merge(args) => merge::run(args),
    }
}
