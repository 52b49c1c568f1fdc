//! The vault's JSON, which only ever exists in memory.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::{Credential, VAULT_VERSION, Vault};
use crate::domain::name::AgentName;

#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadVault {
    #[serde(rename = "version")]
    _version: u32,
    recipients: BTreeSet<String>,
    agents: BTreeMap<AgentName, BTreeMap<String, ReadCredential>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadCredential {
    value: SecretValue,
    set_at: Timestamp,
}

struct SecretValue(SecretString);

impl<'de> Deserialize<'de> for SecretValue {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|value| Self(SecretString::from(value)))
    }
}

#[derive(Serialize)]
struct WrittenVault<'v> {
    version: u32,
    recipients: &'v BTreeSet<String>,
    agents: BTreeMap<&'v AgentName, BTreeMap<&'v str, WrittenCredential<'v>>>,
}

#[derive(Serialize)]
struct WrittenCredential<'v> {
    value: &'v str,
    set_at: Timestamp,
}

/// Why a document is no vault. Says nothing of what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Another version of this program wrote it.
    #[error("the vault has version {0}, and this program reads version {VAULT_VERSION}")]
    Version(u32),
    /// Not our JSON.
    #[error("what is encrypted in it is no vault (line {line}, column {column})")]
    NoVault {
        /// Line of the fault, from 1.
        line: usize,
        /// Column of the fault, from 1.
        column: usize,
    },
}

/// Reads the document. The parser's own words are dropped: they may quote a value.
pub fn decode(text: &[u8]) -> Result<Vault, Unreadable> {
    let no_vault =
        |error: serde_json::Error| Unreadable::NoVault { line: error.line(), column: error.column() };
    let Version { version } = serde_json::from_slice(text).map_err(no_vault)?;
    if version != VAULT_VERSION {
        return Err(Unreadable::Version(version));
    }
    let read: ReadVault = serde_json::from_slice(text).map_err(no_vault)?;
    let credential = |one: ReadCredential| Credential { value: one.value.0, set_at: one.set_at };
    let agents = read.agents.into_iter().map(|(agent, keys)| {
        (agent, keys.into_iter().map(|(key, one)| (key, credential(one))).collect::<BTreeMap<_, _>>())
    });
    Ok(Vault { recipients: read.recipients, agents: agents.collect() })
}

/// Writes the document.
pub fn encode(vault: &Vault) -> Result<SecretString, serde_json::Error> {
    let mut agents: BTreeMap<&AgentName, BTreeMap<&str, WrittenCredential<'_>>> = BTreeMap::new();
    for (agent, key, one) in vault.entries() {
        let written = WrittenCredential { value: one.value.expose_secret(), set_at: one.set_at };
        agents.entry(agent).or_default().insert(key, written);
    }
    let document = WrittenVault { version: VAULT_VERSION, recipients: &vault.recipients, agents };
    serde_json::to_string(&document).map(SecretString::from)
}
