//! The token vault as a document: which agent has which credential since when. How it is encrypted is
//! the business of [`crate::adapters::vault_file`].

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};

use super::name::AgentName;
use super::registry::{Agent, Fault, Registry, Rule, Severity, Status, suggestion};
use super::secret_scan::SHORTEST_SECRET;
use crate::error::UserError;

mod merge;
mod wire;

pub use merge::{MergeNote, merge};
pub use wire::{Unreadable, decode, encode};

/// The one version of the document that this program reads and writes.
pub const VAULT_VERSION: u32 = 1;
/// The longest value in bytes: Linux takes no environment variable above 128 KiB.
pub const LARGEST_VALUE: usize = 64 * 1024;
/// The key that `prepare` and `deliver` use, and never the agent step.
pub const GIT_TOKEN: &str = "GITHUB_TOKEN";

/// What the vault holds.
#[derive(Debug, Clone, Default)]
pub struct Vault {
    /// The age recipients that it is encrypted to. Kept inside, so that nobody is let in by a line in
    /// `vault.recipients` alone.
    pub recipients: BTreeSet<String>,
    /// Every agent's credentials by the names of their variables.
    pub agents: BTreeMap<AgentName, BTreeMap<String, Credential>>,
}

/// One credential.
#[derive(Debug, Clone)]
pub struct Credential {
    /// The value.
    pub value: SecretString,
    /// When it was set.
    pub set_at: Timestamp,
}

impl Credential {
    fn is(&self, other: &Self) -> bool {
        self.value.expose_secret() == other.value.expose_secret()
    }
}

impl Vault {
    /// A credential of an agent.
    pub fn get(&self, agent: &AgentName, key: &str) -> Option<&Credential> {
        self.agents.get(agent)?.get(key)
    }

    /// Sets a credential and returns the one that it replaces. Its time is later than that one's, even
    /// where a clock went back: a merge takes the newest.
    pub fn set(
        &mut self,
        agent: &AgentName,
        key: &str,
        value: SecretString,
        now: Timestamp,
    ) -> Option<Credential> {
        let keys = self.agents.entry(agent.clone()).or_default();
        let before = keys.get(key).map(|old| old.set_at.saturating_add(SignedDuration::from_nanos(1)));
        let set_at = before.and_then(Result::ok).map_or(now, |least| now.max(least));
        keys.insert(key.to_owned(), Credential { value, set_at })
    }

    /// Removes a credential and returns it.
    pub fn remove(&mut self, agent: &AgentName, key: &str) -> Option<Credential> {
        let keys = self.agents.get_mut(agent)?;
        let removed = keys.remove(key);
        if keys.is_empty() {
            self.agents.remove(agent);
        }
        removed
    }

    /// All credentials in order: agent, key, credential.
    pub fn entries(&self) -> impl Iterator<Item = (&AgentName, &str, &Credential)> {
        self.agents
            .iter()
            .flat_map(|(agent, keys)| keys.iter().map(move |(key, one)| (agent, key.as_str(), one)))
    }
}

/// What is wrong with a value; never shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValueFault {
    /// Nothing, or only white space.
    #[error("the value is empty")]
    Empty,
    /// Shorter than [`SHORTEST_SECRET`]: it could not be hidden in logs nor looked for in an agent's work.
    #[error("the value is shorter than {} characters, too short to be guarded", SHORTEST_SECRET)]
    TooShort,
    /// Longer than [`LARGEST_VALUE`].
    #[error("the value is longer than {} KiB", LARGEST_VALUE / 1024)]
    TooLong,
    /// No environment variable can hold it.
    #[error("the value holds a NUL byte, which no environment variable can hold")]
    Nul,
    /// Not text.
    #[error("the value is not UTF-8 text")]
    NotText,
}

impl ValueFault {
    /// What to do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::TooShort => "use a longer secret; what is none belongs into the agent's image or prompt",
            Self::Empty => "give it on stdin or at the prompt; to take it away, use `vault remove`",
            Self::TooLong => {
                "give only the token itself, or keep a large file elsewhere and a key to it here"
            }
            Self::Nul | Self::NotText => "give it as text, for example in base64",
        }
    }
}

/// A value as it came in. One line end at its end is no part of it: `echo` and editors add it.
pub fn value_of(bytes: Vec<u8>) -> Result<SecretString, ValueFault> {
    // The line end is no part of the value, and so none of its length.
    if bytes.len() > LARGEST_VALUE + 2 {
        return Err(ValueFault::TooLong);
    }
    let mut text = String::from_utf8(bytes).map_err(|_| ValueFault::NotText)?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    check_value(&text)?;
    Ok(SecretString::from(text))
}

/// Whether a value can be a credential of a run, wherever it is kept.
pub fn check_value(text: &str) -> Result<(), ValueFault> {
    if text.trim().is_empty() {
        return Err(ValueFault::Empty);
    }
    if text.trim().len() < SHORTEST_SECRET {
        return Err(ValueFault::TooShort);
    }
    if text.len() > LARGEST_VALUE {
        return Err(ValueFault::TooLong);
    }
    if text.contains('\0') {
        return Err(ValueFault::Nul);
    }
    Ok(())
}

/// The keys that an agent's runs have a use for: those that its file lists, and its token for Git.
pub fn keys_of(agent: &Agent) -> impl Iterator<Item = &str> {
    agent.credentials.env.iter().map(String::as_str).chain([GIT_TOKEN])
}

/// Whether the agent's runs have a use for the key. A wrong key is not shown: it may be a value.
pub fn check_key(agent: &Agent, key: &str) -> Result<(), UserError> {
    let known: Vec<&str> = keys_of(agent).collect();
    if known.contains(&key) {
        return Ok(());
    }
    let is_name = !key.starts_with(|first: char| first.is_ascii_digit())
        && (1..=128).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let remedy = suggestion(key, known.iter().copied());
    if !is_name {
        return Err(UserError::usage("this is no name of an environment variable", remedy).at("KEY"));
    }
    Err(UserError::usage(
        format!("agents/{}.yaml does not list this key", agent.name),
        format!("{remedy}; or add it to `credentials.env` there first"),
    )
    .at("KEY"))
}

/// Which agents that take tasks lack which of their keys.
pub fn missing(vault: &Vault, registry: &Registry) -> Vec<Fault> {
    let active = registry.agents.values().filter(|agent| agent.status == Status::Active);
    let lacked = active.flat_map(|agent| {
        let keys = agent.credentials.env.iter();
        keys.filter(|key| vault.get(&agent.name, key).is_none()).map(move |key| (&agent.name, key))
    });
    lacked
        .map(|(agent, key)| Fault {
            file: format!("agents/{agent}.yaml"),
            place: None,
            severity: Severity::Warning,
            rule: Rule::MissingCredential,
            cause: format!("the vault has no {key} for {agent}"),
            cure: format!("set it with `astra-dispatch vault set {agent} {key}`"),
        })
        .collect()
}

/// How long ago something was set, for people: the largest unit only.
pub fn age(set_at: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(set_at).as_secs();
    let (count, unit) = match seconds {
        ..0 => return "in the future: a clock was wrong".to_owned(),
        0..60 => return "just now".to_owned(),
        60..3_600 => (seconds / 60, "minute"),
        3_600..86_400 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" })
}

/// The lines of `vault.recipients` after a change: comments stay, lines of `removed` go, and whom the
/// vault knows is added where missing.
pub fn recipient_lines(text: &str, recipients: &BTreeSet<String>, removed: Option<&str>) -> String {
    let mut lines: Vec<&str> =
        text.lines().map(str::trim).filter(|line| removed.is_none_or(|gone| *line != gone)).collect();
    let missing: Vec<&str> =
        recipients.iter().map(String::as_str).filter(|one| !lines.contains(one)).collect();
    lines.extend(missing);
    lines.join("\n") + "\n"
}

/// The recipients that `vault.recipients` names, and who cannot open the vault all the same.
pub fn not_admitted<'t>(text: &'t str, recipients: &BTreeSet<String>) -> Vec<&'t str> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#') && !recipients.contains(*line))
        .collect()
}

#[cfg(test)]
mod tests;
