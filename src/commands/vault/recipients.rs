//! `vault recipients`: who can open the vault.

use serde::Serialize;

use super::list;
use crate::adapters::vault_file::{self, Edit, Identities, RECIPIENTS, VAULT, check_recipient};
use crate::cli::{Format, RecipientArgs, RecipientsCommand, VaultListArgs};
use crate::domain::vault::not_admitted;
use crate::error::{Exit, UserError};
use crate::output;

pub(super) fn run(command: &RecipientsCommand) -> anyhow::Result<Exit> {
    match command {
        RecipientsCommand::List(args) => show(args),
        RecipientsCommand::Add(args) => add(args),
        RecipientsCommand::Remove(args) => remove(args),
    }
}

#[derive(Debug, Serialize)]
struct RecipientList<'v> {
    version: u32,
    recipients: Vec<&'v str>,
    /// Named in `vault.recipients`, but not able to open the vault.
    not_admitted: Vec<&'v str>,
}

fn show(args: &VaultListArgs) -> anyhow::Result<Exit> {
    let vault = list::open(&args.registry)?;
    let text = vault_file::recipients_text(&args.registry.registry)?;
    let list = RecipientList {
        version: 1,
        recipients: vault.recipients.iter().map(String::as_str).collect(),
        not_admitted: not_admitted(&text, &vault.recipients),
    };
    match args.format.format {
        Format::Text => output::result(&list.recipients.join("\n"))?,
        Format::Json => output::json(&list)?,
    }
    for one in &list.not_admitted {
        output::say(&format!(
            "note: {RECIPIENTS} names {one}, who cannot open the vault: \
             `vault recipients add {one}`, or remove the line"
        ));
    }
    Ok(Exit::Handled)
}

fn add(args: &RecipientArgs) -> anyhow::Result<Exit> {
    check_recipient(&args.recipient)?;
    let mut edit = Edit::begin(&args.registry.registry, &Identities::required()?)?;
    let (is_new, added) = (edit.is_new, edit.vault.recipients.insert(args.recipient.clone()));
    edit.commit(None)?;
    output::say(match (is_new, added) {
        (true, false) => "the vault is made; the recipient, who is you, can open it",
        (true, true) => {
            "the vault is made; the recipient can open it, as you can, and so read all agents' values"
        }
        (false, true) => "the recipient can open the vault now, and so read all agents' values",
        (false, false) => "the recipient could open the vault already",
    });
    output::say(&format!("commit {VAULT} and {RECIPIENTS}"));
    Ok(Exit::Handled)
}

fn remove(args: &RecipientArgs) -> anyhow::Result<Exit> {
    check_recipient(&args.recipient)?;
    let identities = Identities::required()?;
    let mut edit = Edit::begin(&args.registry.registry, &identities)?;
    if edit.vault.recipients == [args.recipient.clone()].into() {
        return Err(UserError::usage(
            "this is the only recipient, and nobody could open the vault any more",
            "add another one first with `vault recipients add`",
        )
        .into());
    }
    if !edit.vault.recipients.remove(&args.recipient) {
        let known: Vec<&str> = edit.vault.recipients.iter().map(String::as_str).collect();
        return Err(UserError::usage(
            "this is not one of the vault's recipients",
            format!("give one of {}", known.join(", ")),
        )
        .into());
    }
    let own = identities.recipients();
    let is_locked_out = !own.iter().any(|one| edit.vault.recipients.contains(one));
    let count = edit.vault.entries().count();
    edit.commit(Some(&args.recipient))?;
    output::say(&format!(
        "the recipient cannot open the vault from now on, but knows what it held: \
         rotate its {count} value(s) with `vault rotate`"
    ));
    if is_locked_out {
        output::say("note: your own identity does not open it any more either");
    }
    output::say(&format!("commit {VAULT} and {RECIPIENTS}"));
    Ok(Exit::Handled)
}
