//! The commands of `vault` and their options.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{FormatArgs, RegistryArgs, examples};
use crate::domain::name::AgentName;

/// The commands of `vault`.
#[derive(Debug, Subcommand)]
pub enum VaultCommand {
    /// Set a credential of an agent; the value comes from stdin or a hidden prompt
    ///
    /// One line end at the end of the value is no part of it. The key is one that the agent's file lists
    /// in `credentials.env`, or GITHUB_TOKEN, which only `prepare` and `deliver` get.
    #[command(after_help = examples::VAULT_SET)]
    Set(VaultKeyArgs),
    /// List agents, keys and their ages; never values
    #[command(after_help = examples::VAULT_LIST)]
    List(VaultListArgs),
    /// Replace a credential that is there; the value comes from stdin or a hidden prompt
    #[command(after_help = examples::VAULT_ROTATE)]
    Rotate(VaultKeyArgs),
    /// Remove a credential; Git's history keeps it, so revoke it at its provider too
    #[command(after_help = examples::VAULT_REMOVE)]
    Remove(VaultKeyArgs),
    /// Who can open the vault
    #[command(subcommand)]
    Recipients(RecipientsCommand),
    /// Merge two changed vaults into OURS; Git calls it
    ///
    /// Set up once in a clone, and once in the registry's repository:
    ///
    ///   git config merge.astra-vault.driver 'astra-dispatch vault merge %O %A %B'
    ///   echo 'vault.age merge=astra-vault' >> .gitattributes
    ///
    /// Nothing is lost: what only one side changed is taken from it. Where both sides set the same key,
    /// the newer value is taken and the output says so; the older one stays in Git's history.
    #[command(verbatim_doc_comment)]
    #[command(after_help = examples::VAULT_MERGE)]
    Merge(VaultMergeArgs),
}

/// Which credential.
#[derive(Debug, Clone, Args)]
pub struct VaultKeyArgs {
    /// The agent
    pub agent: AgentName,
    /// Name of the environment variable, such as ANTHROPIC_API_KEY
    pub key: String,
    /// What is too much: most likely the value itself, which no error may show.
    #[arg(hide = true, num_args = 0..)]
    pub rest: Vec<OsString>,
    /// Which registry.
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// Options of `vault list`.
#[derive(Debug, Clone, Args)]
pub struct VaultListArgs {
    /// Which registry.
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// Which form.
    #[command(flatten)]
    pub format: FormatArgs,
}

/// The commands of `vault recipients`.
#[derive(Debug, Subcommand)]
pub enum RecipientsCommand {
    /// List who can open the vault
    #[command(after_help = examples::RECIPIENTS_LIST)]
    List(VaultListArgs),
    /// Let somebody open the vault: it is encrypted anew
    #[command(after_help = examples::RECIPIENTS_ADD)]
    Add(RecipientArgs),
    /// Let somebody no longer open the vault: it is encrypted anew, and what they saw must be rotated
    #[command(after_help = examples::RECIPIENTS_REMOVE)]
    Remove(RecipientArgs),
}

/// Which recipient.
#[derive(Debug, Clone, Args)]
pub struct RecipientArgs {
    /// A public key, age1…, as `age-keygen -y FILE` prints it
    pub recipient: String,
    /// Which registry.
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// Options of `vault merge`.
#[derive(Debug, Clone, Args)]
pub struct VaultMergeArgs {
    /// What both come from (%O); may be empty
    pub base: PathBuf,
    /// Our file (%A), which becomes the merged one
    pub ours: PathBuf,
    /// Their file (%B)
    pub theirs: PathBuf,
}
