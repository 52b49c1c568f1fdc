//! Where an agent's credentials come from: a vault server where `VAULT_ADDR` names one, else the vault
//! beside the registry; never both.

use std::collections::BTreeMap;
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

use crate::adapters::vault_file::{self, IDENTITY_VARIABLE, Identities, VAULT};
use crate::adapters::vault_server::{ADDRESS_VARIABLE, VaultServer};
use crate::domain::name::AgentName;
use crate::domain::registry::Agent;
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
    /// One agent's credentials, from a vault server.
    OfServer(BTreeMap<String, SecretString>),
}

impl Held {
    /// Whatever there is for one agent.
    pub(crate) async fn of_agent(registry: &Path, agent: &Agent) -> anyhow::Result<Self> {
        match VaultServer::from_environment()? {
            Some(server) => {
                Ok(Self::OfServer(server.credentials_of(agent).await.map_err(|error| error.for_people())?))
            }
            None => Self::open(registry),
        }
    }

    /// Opens the vault if there is one and an identity is at hand. An identity that does not open it is
    /// an error: falling back to another source would hide that.
    pub(crate) fn open(registry: &Path) -> anyhow::Result<Self> {
        let is_elsewhere = std::env::var_os(ADDRESS_VARIABLE).is_some_and(|value| !value.is_empty());
        if is_elsewhere || !vault_file::exists(registry) {
            return Ok(Self::Absent);
        }
        let Some(identities) = Identities::from_environment()? else { return Ok(Self::Locked) };
        Ok(vault_file::read(registry, &identities)?.map_or(Self::Absent, Self::Open))
    }

    /// A credential of an agent.
    pub(crate) fn get(&self, agent: &AgentName, key: &str) -> Option<SecretString> {
        match self {
            Self::Open(vault) => vault.get(agent, key).map(|one| one.value.clone()),
            Self::OfServer(values) => values.get(key).cloned(),
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
        let source = if matches!(held, Held::OfServer(_)) { "the vault server" } else { "the vault" };
        return Some(Sourced { value, source });
    }
    let value = std::env::var(key).ok().filter(|value| !value.is_empty()).map(SecretString::from)?;
    Some(Sourced { value, source: "your environment" })
}

/// What to do about a credential that nobody has, in words.
pub(crate) fn remedy(held: &Held, agent: &AgentName, key: &str) -> String {
    match held {
        Held::Locked => format!("{VAULT} may hold it: set {IDENTITY_VARIABLE}"),
        Held::OfServer(_) => "write it to the agent's path in the vault server".to_owned(),
        Held::Absent | Held::Open(_) => format!("set it with `astra-dispatch vault set {agent} {key}`"),
    }
}

impl Sourced {
    /// The value, for the environment of the one phase that may have it.
    pub(crate) fn expose(&self) -> &str {
        self.value.expose_secret()
    }
}
