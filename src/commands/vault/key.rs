//! `vault set`, `vault rotate` and `vault remove`: one credential.

use std::io::{self, IsTerminal, Read};

use anyhow::Context;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use crate::adapters::registry_files;
use crate::adapters::vault_file::{Edit, Identities, RECIPIENTS, VAULT};
use crate::cli::VaultKeyArgs;
use crate::domain::registry::suggestion;
use crate::domain::vault::{LARGEST_VALUE, age, check_key, value_of};
use crate::error::{Exit, UserError};
use crate::output;

pub(super) fn set(args: &VaultKeyArgs) -> anyhow::Result<Exit> {
    check(args)?;
    let identities = Identities::required()?;
    let value = read_value(args)?;
    let mut edit = Edit::begin(&args.registry.registry, &identities)?;
    let now = Timestamp::now();
    let old = edit.vault.set(&args.agent, &args.key, value, now);
    let (is_new, recipients) = (edit.is_new, edit.vault.recipients.len());
    edit.commit(None)?;
    let which = format!("{} {}", args.agent, args.key);
    if is_new {
        let them =
            if recipients == 1 { "one recipient".to_owned() } else { format!("{recipients} recipients") };
        output::say(&format!("a new vault for {them} ({RECIPIENTS})"));
    }
    match old {
        Some(old) => output::say(&format!(
            "{which} is set; it replaces a value set {}: revoke that one at its provider",
            age(old.set_at, now)
        )),
        None => output::say(&format!("{which} is set")),
    }
    say_what_is_next();
    Ok(Exit::Handled)
}

pub(super) fn rotate(args: &VaultKeyArgs) -> anyhow::Result<Exit> {
    check(args)?;
    let identities = Identities::required()?;
    let value = read_value(args)?;
    let mut edit = Edit::begin(&args.registry.registry, &identities)?;
    let now = Timestamp::now();
    let Some(old) = edit.vault.get(&args.agent, &args.key) else {
        return Err(UserError::usage(
            format!("{} has no {} that could be rotated", args.agent, args.key),
            format!("set it with `vault set {} {}`", args.agent, args.key),
        )
        .into());
    };
    if old.value.expose_secret() == value.expose_secret() {
        return Err(UserError::usage(
            "this is the value that is there already",
            "make a new one at the provider, and give that",
        )
        .into());
    }
    let old_age = age(old.set_at, now);
    edit.vault.set(&args.agent, &args.key, value, now);
    edit.commit(None)?;
    output::say(&format!(
        "{} {} is rotated; now revoke the old value (set {old_age}) at its provider: Git's history keeps it",
        args.agent, args.key
    ));
    say_what_is_next();
    Ok(Exit::Handled)
}

/// Also for an agent or a key that the registry no longer has.
pub(super) fn remove(args: &VaultKeyArgs) -> anyhow::Result<Exit> {
    refuse_more(args)?;
    let identities = Identities::required()?;
    let mut edit = Edit::begin(&args.registry.registry, &identities)?;
    if edit.vault.remove(&args.agent, &args.key).is_none() {
        let known = edit.vault.entries().map(|(agent, key, _)| format!("{agent} {key}"));
        let known: Vec<String> = known.collect();
        let asked = format!("{} {}", args.agent, args.key);
        let remedy = if known.is_empty() {
            "it is empty".to_owned()
        } else {
            suggestion(&asked, known.iter().map(String::as_str))
        };
        // The key is not shown: it may be a value.
        return Err(UserError::usage(format!("the vault has no such key of {}", args.agent), remedy).into());
    }
    edit.commit(None)?;
    output::say(&format!(
        "{} {} is removed. Git's history keeps the value for everybody with an identity: revoke it at its provider",
        args.agent, args.key
    ));
    say_what_is_next();
    Ok(Exit::Handled)
}

fn say_what_is_next() {
    output::say(&format!("commit {VAULT} and {RECIPIENTS}"));
}

/// Before anything is asked for.
fn check(args: &VaultKeyArgs) -> anyhow::Result<()> {
    refuse_more(args)?;
    let registry = registry_files::load(&args.registry.registry)?;
    let Some(agent) = registry.agents.get(&args.agent) else {
        let names = registry.agents.keys().map(|name| name.as_str());
        let remedy = suggestion(args.agent.as_str(), names);
        return Err(UserError::usage(format!("there is no agent {}", args.agent), remedy).into());
    };
    Ok(check_key(agent, &args.key)?)
}

fn refuse_more(args: &VaultKeyArgs) -> Result<(), UserError> {
    if args.rest.is_empty() {
        return Ok(());
    }
    Err(UserError::usage(
        "a value is never an argument: it is now in your shell's history and was in the list of processes",
        "make a new one at its provider, and give that on stdin or at the prompt",
    ))
}

fn read_value(args: &VaultKeyArgs) -> anyhow::Result<SecretString> {
    let place = format!("{} {}", args.agent, args.key);
    let bytes = if io::stdin().is_terminal() {
        let prompt = format!("{} of {} (not shown): ", args.key, args.agent);
        rpassword::prompt_password(prompt).context("read the value from the terminal")?.into_bytes()
    } else {
        let mut bytes = Vec::new();
        // One more than fits tells too long from just fitting.
        let most = LARGEST_VALUE as u64 + 3;
        io::stdin().lock().take(most).read_to_end(&mut bytes).context("read the value from stdin")?;
        bytes
    };
    Ok(value_of(bytes).map_err(|fault| UserError::usage(fault.to_string(), fault.remedy()).at(place))?)
}
