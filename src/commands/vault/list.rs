//! `vault list`: agents, keys and ages.

use comfy_table::{Table, presets};
use jiff::Timestamp;
use serde::Serialize;

use crate::adapters::vault_file::{self, Identities, VAULT};
use crate::cli::{Format, RegistryArgs, VaultListArgs};
use crate::domain::escape;
use crate::domain::name::AgentName;
use crate::domain::vault::{Vault, age};
use crate::error::{Exit, UserError};
use crate::output;

pub(super) fn run(args: &VaultListArgs) -> anyhow::Result<Exit> {
    let vault = open(&args.registry)?;
    let now = Timestamp::now();
    match args.format.format {
        Format::Text => output::result(&table(&vault, now))?,
        Format::Json => output::json(&list(&vault, now))?,
    }
    Ok(Exit::Handled)
}

/// The vault, which must be there.
pub(super) fn open(registry: &RegistryArgs) -> anyhow::Result<Vault> {
    let identities = Identities::required()?;
    let vault = vault_file::read(&registry.registry, &identities)?;
    Ok(vault.ok_or_else(|| {
        UserError::usage("there is no vault yet", "make it with `vault set AGENT KEY`").at(registry
            .registry
            .join(VAULT)
            .display()
            .to_string())
    })?)
}

fn table(vault: &Vault, now: Timestamp) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["AGENT", "KEY", "SET"]);
    for (agent, key, one) in vault.entries() {
        table.add_row([agent.to_string(), key.to_owned(), age(one.set_at, now)]);
    }
    let lines: Vec<String> = table.lines().map(|line| escape::terminal(line.trim()).into_owned()).collect();
    lines.join("\n")
}

/// For scripts.
#[derive(Debug, Serialize)]
struct KeyList<'v> {
    version: u32,
    keys: Vec<KeyOfAgent<'v>>,
}

#[derive(Debug, Serialize)]
struct KeyOfAgent<'v> {
    agent: &'v AgentName,
    key: &'v str,
    set_at: Timestamp,
    age_seconds: i64,
}

fn list(vault: &Vault, now: Timestamp) -> KeyList<'_> {
    let keys = vault.entries().map(|(agent, key, one)| KeyOfAgent {
        agent,
        key,
        set_at: one.set_at,
        age_seconds: now.duration_since(one.set_at).as_secs(),
    });
    KeyList { version: 1, keys: keys.collect() }
}
