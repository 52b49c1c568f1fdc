//! Where an agent's credentials come from: the vault beside the registry.

use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

use crate::adapters::vault_file::{self, IDENTITY_VARIABLE, Identities, VAULT};
use crate::domain::name::AgentName;
use crate::domain::vault::Vault;

/// The vault as far as this caller can look into it.
#[derive(Debug)]
pub(crate) enum Held {
    /// The registry has none.
    Absent,
    /// There is one, and no identity to open it with.
    Locked,
    /// Opened.
    Open(Vault),
}

impl Held {
    /// Opens the vault if there is one and an identity is at hand. An identity that does not open it is
    /// an error: falling back to another source would hide that.
    pub(crate) fn open(registry: &Path) -> anyhow::Result<Self> {
        if !vault_file::exists(registry) {
            return Ok(Self::Absent);
        }
        let Some(identities) = Identities::from_environment()? else { return Ok(Self::Locked) };
        Ok(vault_file::read(registry, &identities)?.map_or(Self::Absent, Self::Open))
    }

    /// A credential of an agent.
    pub(crate) fn get(&self, agent: &AgentName, key: &str) -> Option<SecretString> {
        match self {
            Self::Open(vault) => vault.get(agent, key).map(|one| one.value.clone()),
            Self::Absent | Self::Locked => None,
        }
    }
}

/// A value and where it came from.
#[derive(Debug, Clone)]
pub(crate) struct Sourced {
    /// The value.
    pub(crate) value: SecretString,
    /// In words, for the run's log.
    pub(crate) source: &'static str,
}

/// On one machine: the vault first, then the caller's environment.
pub(crate) fn find(held: &Held, agent: &AgentName, key: &str) -> Option<Sourced> {
    if let Some(value) = held.get(agent, key) {
        return Some(Sourced { value, source: "the vault" });
    }
    let value = std::env::var(key).ok().filter(|value| !value.is_empty()).map(SecretString::from)?;
    Some(Sourced { value, source: "your environment" })
}

/// What to do about a credential that nobody has, in words.
pub(crate) fn remedy(held: &Held, agent: &AgentName, key: &str) -> String {
    match held {
        Held::Locked => format!("{VAULT} may hold it: set {IDENTITY_VARIABLE}"),
        Held::Absent | Held::Open(_) => format!("set it with `astra-dispatch vault set {agent} {key}`"),
    }
}

impl Sourced {
    /// The value, for the environment of the one phase that may have it.
    pub(crate) fn expose(&self) -> &str {
        self.value.expose_secret()
    }
}
