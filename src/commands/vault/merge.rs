//! `vault merge`: what Git calls where two people changed the vault.

use std::path::{Path, PathBuf};

use crate::adapters::vault_file::{self, Identities};
use crate::cli::VaultMergeArgs;
use crate::domain::vault::{Vault, merge};
use crate::error::{Exit, UserError};
use crate::output;

pub(super) fn run(args: &VaultMergeArgs) -> anyhow::Result<Exit> {
    let identities = Identities::required()?;
    let base = read(&args.base, &identities)?;
    let ours = required(&args.ours, &identities)?;
    let theirs = required(&args.theirs, &identities)?;
    let (merged, notes) = merge(&base.unwrap_or_default(), &ours, &theirs);
    for recipient in merged.recipients.difference(&ours.recipients) {
        // Whoever knows our recipients can write a vault that adds one of their own.
        output::say(&format!("note: theirs lets {recipient} open the vault: make sure that you know them"));
    }
    for note in notes {
        output::say(&format!("note: {note}"));
    }
    let mut unfinished = args.ours.clone().into_os_string();
    unfinished.push(".unfinished");
    let bytes = vault_file::encrypt(&merged)?;
    vault_file::replace(&args.ours, &PathBuf::from(unfinished), &bytes)?;
    Ok(Exit::Handled)
}

/// `None` where there is none, or nothing in it, which is how Git says so.
fn read(path: &Path, identities: &Identities) -> anyhow::Result<Option<Vault>> {
    match vault_file::read_capped(path)?.filter(|bytes| !bytes.is_empty()) {
        None => Ok(None),
        Some(bytes) => Ok(Some(vault_file::decrypt(&bytes, identities, path)?)),
    }
}

fn required(path: &Path, identities: &Identities) -> anyhow::Result<Vault> {
    Ok(read(path, identities)?.ok_or_else(|| {
        UserError::usage("there is no vault to merge", "give the files that Git gives: %O %A %B")
            .at(path.display().to_string())
    })?)
}
