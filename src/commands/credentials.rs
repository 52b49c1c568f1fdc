//! Where an agent's credentials come from: a vault server where `VAULT_ADDR` names one, else the vault
//! beside the registry; never both.

use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

use crate::adapters::kubernetes::manifests::{Credentials, NoCredentials};
use crate::adapters::vault_file::{self, IDENTITY_VARIABLE, Identities, VAULT};
use crate::adapters::vault_server::{ADDRESS_VARIABLE, VaultServer};
use crate::domain::name::AgentName;
use crate::domain::registry::{Agent, Registry};
use crate::domain::vault::{Vault, keys_of};
use crate::environment;
use crate::error::{Exit, UserError};
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
    /// They are in a vault server, which is asked for one agent at a time, when its run begins.
    Elsewhere,
    /// One agent's credentials, from a vault server.
    OfServer(Credentials),
}

impl Held {
    /// Whatever there is for one agent.
    pub(crate) async fn of_agent(registry: &Path, agent: &Agent) -> anyhow::Result<Self> {
        match Self::open(registry)? {
            Self::Elsewhere => Ok(Self::OfServer(from_server(agent).await?)),
            held => Ok(held),
        }
    }

    /// The credentials of an agent, its token for Git among them, as far as they are there.
    pub(crate) async fn credentials(&self, agent: &Agent) -> anyhow::Result<Credentials> {
        if let Self::Elsewhere = self {
            return from_server(agent).await;
        }
        let found = |key: &str| Some((key.to_owned(), self.get(&agent.name, key)?));
        Ok(keys_of(agent).filter_map(found).collect())
    }

    /// Opens the vault if there is one and an identity is at hand. An identity that does not open it is
    /// an error: falling back to another source would hide that. In a workflow, the runner is told of every
    /// value in it.
    pub(crate) fn open(registry: &Path) -> anyhow::Result<Self> {
        let is_elsewhere = environment::value(ADDRESS_VARIABLE).is_some();
        if is_elsewhere {
            return Ok(Self::Elsewhere);
        }
        if !vault_file::exists(registry) {
            return Ok(Self::Absent);
        }
        let Some(identities) = Identities::from_environment()? else { return Ok(Self::Locked) };
        let Some(vault) = vault_file::read(registry, &identities)? else { return Ok(Self::Absent) };
        workflow::hide(vault.entries().map(|(_, _, one)| one.value.expose_secret()));
        Ok(Self::Open(vault))
    }

    fn get(&self, agent: &AgentName, key: &str) -> Option<SecretString> {
        match self {
            Self::Open(vault) => vault.get(agent, key).map(|one| one.value.clone()),
            Self::OfServer(values) => values.get(key).cloned(),
            Self::Absent | Self::Locked | Self::Elsewhere => None,
        }
    }
}

/// In a workflow, the runner is told of what the server gave.
async fn from_server(agent: &Agent) -> anyhow::Result<Credentials> {
    let server = VaultServer::from_environment()?;
    let found = server.credentials_of(agent).await.map_err(|error| error.for_people())?;
    workflow::hide(found.values().map(ExposeSecret::expose_secret));
    Ok(found)
}

/// What a run on a cluster is given: all that its agent's file lists. Only the vault counts: whoever
/// dispatches onto a cluster does so for everybody.
pub(crate) async fn for_cluster(held: &Held, agent: &Agent) -> Result<Credentials, NoCredentials> {
    let found = held.credentials(agent).await.map_err(|error| match in_a_sentence(&error) {
        (text, true) => NoCredentials::Unavailable(text),
        (text, false) => NoCredentials::Refused(text),
    })?;
    let name = &agent.name;
    match agent.credentials.env.iter().find(|key| !found.contains_key(*key)) {
        Some(key) => Err(NoCredentials::Refused(format!(
            "there is no credential {key} for agent {name}; {}",
            remedy(held, name, key)
        ))),
        None => Ok(found),
    }
}

/// Why there are no credentials and what to do, and whether trying again later may help.
pub(crate) fn in_a_sentence(error: &anyhow::Error) -> (String, bool) {
    let known = error.downcast_ref::<UserError>();
    let remedy = known.map(|error| format!("; {}", error.remedy)).unwrap_or_default();
    (format!("{error:#}{remedy}"), known.is_some_and(|error| error.exit == Exit::Retry))
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
    Some(Sourced { value: of_environment(key)?, source: "your environment" })
}

fn of_environment(key: &str) -> Option<SecretString> {
    environment::text(key).map(SecretString::from)
}

/// In a workflow that carries runs out itself, tells the runner of every value that [`find`] would find for
/// them. Their supervisors say what is wrong with a vault that does not open.
pub(crate) fn hide_here(directory: &Path, registry: &Registry) {
    if !workflow::is_here() {
        return;
    }
    // Opening it hides what is in it.
    let _ = Held::open(directory);
    let found: Vec<SecretString> =
        registry.agents.values().flat_map(keys_of).filter_map(of_environment).collect();
    workflow::hide(found.iter().map(ExposeSecret::expose_secret));
}

/// What to do about a credential that nobody has, in words.
pub(crate) fn remedy(held: &Held, agent: &AgentName, key: &str) -> String {
    match held {
        Held::Locked => format!("{VAULT} may hold it: set {IDENTITY_VARIABLE}"),
        Held::Elsewhere | Held::OfServer(_) => "write it to the agent's path in the vault server".to_owned(),
        Held::Absent | Held::Open(_) => format!("set it with `astra-dispatch vault set {agent} {key}`"),
    }
}

impl Sourced {
    /// The value, for the environment of the one phase that may have it.
    pub(crate) fn expose(&self) -> &str {
        self.value.expose_secret()
    }
}
