//! Where an agent's credentials come from: a vault server where `VAULT_ADDR` names one, else the vault
//! beside the registry; never both.

use std::collections::BTreeMap;
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

use crate::adapters::vault_file::{self, IDENTITY_VARIABLE, Identities, VAULT};
use crate::adapters::vault_server::{ADDRESS_VARIABLE, VaultServer};
use crate::domain::name::AgentName;
use crate::domain::registry::{Agent, Registry};
use crate::domain::vault::{GIT_TOKEN, Vault};
use crate::output::workflow;

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
            None => Self::unhidden(registry),
        }
    }

    /// Opens the vault if there is one and an identity is at hand. An identity that does not open it is
    /// an error: falling back to another source would hide that. In a workflow, the runner is told first
    /// of every value in it.
    pub(crate) fn open(registry: &Path) -> anyhow::Result<Self> {
        let held = Self::unhidden(registry)?;
        if let Self::Open(vault) = &held {
            workflow::hide(vault.entries().map(|(_, _, one)| one.value.expose_secret()));
        }
        Ok(held)
    }

    /// As `open`, for a supervisor: it writes to a run's log and not to the runner, and a log keeps what
    /// a runner would swallow.
    fn unhidden(registry: &Path) -> anyhow::Result<Self> {
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

/// In a workflow that carries runs out itself, tells the runner of every value that [`find`] would find for
/// them. Their supervisors say what is wrong with a vault that does not open.
pub(crate) fn hide_here(directory: &Path, registry: &Registry) {
    if !workflow::is_here() {
        return;
    }
    let held = Held::unhidden(directory).unwrap_or(Held::Absent);
    let of_agent = |agent: &Agent| {
        let keys = agent.credentials.env.iter().map(String::as_str).chain([GIT_TOKEN]);
        keys.filter_map(|key| find(&held, &agent.name, key)).collect::<Vec<_>>()
    };
    let found: Vec<Sourced> = registry.agents.values().flat_map(of_agent).collect();
    workflow::hide(found.iter().map(Sourced::expose));
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
