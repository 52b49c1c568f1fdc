//! Names that other systems see: each is checked once, when it is made, and legal ever after.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A name that breaks the rules of the system that will see it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is no {what}: {rule}")]
pub struct InvalidName {
    /// What the value was meant to be, e.g. `agent name`.
    pub what: &'static str,
    /// The refused value.
    pub value: String,
    /// The rule that it breaks, in words.
    pub rule: &'static str,
}

/// Declares a string newtype whose only way in is its `check` function.
macro_rules! checked_name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(value: &str) -> Result<Self, InvalidName> {
                match $check(value) {
                    Ok(()) => Ok(Self(value.to_owned())),
                    Err(rule) => Err(InvalidName { what: $what, value: value.to_owned(), rule }),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(value: String) -> Result<Self, InvalidName> {
                value.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

checked_name!(
    /// An agent of the registry: a DNS label of at most 57 characters, so that the namespace
    /// `agent-<name>` is a DNS label too (RFC 1123, 63 characters).
    AgentName, "agent name", check_agent_name
);
checked_name!(
    /// What an agent is employed for, and the part of a Plane label after `agent:`.
    Role, "role", check_role
);
checked_name!(
    /// One run of one task: `<task key in lower case>-<5 drawn characters>`, at most 40
    /// characters. It names the Job, the Secret, the branch and the local directory.
    RunId, "run id", check_run_id
);
checked_name!(
    /// A Git branch name as `git check-ref-format --branch` accepts it; never starts with `-`.
    Branch, "branch name", check_branch
);

/// The characters that a run's suffix is drawn from: no vowels (no words), none that look alike.
pub const RUN_SUFFIX_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// How many characters a run's suffix has.
pub const RUN_SUFFIX_LENGTH: usize = 5;

/// A suffix of a run id, drawn beforehand by the caller (randomness is an argument).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RunSuffix([u8; RUN_SUFFIX_LENGTH]);

impl RunSuffix {
    /// Makes a suffix from any number; equal numbers modulo 27⁵ give equal suffixes.
    pub fn from_number(mut number: u64) -> Self {
        let base = RUN_SUFFIX_ALPHABET.len() as u64;
        let mut suffix = [0; RUN_SUFFIX_LENGTH];
        for place in &mut suffix {
            *place = RUN_SUFFIX_ALPHABET[(number % base) as usize];
            number /= base;
        }
        Self(suffix)
    }
}

impl RunId {
    /// The id of a run of `task`, with the suffix drawn for it.
    pub fn new(task: &TaskKey, suffix: RunSuffix) -> Self {
        let suffix = String::from_utf8_lossy(&suffix.0).into_owned();
        Self(format!("{}-{suffix}", task.to_string().to_ascii_lowercase()))
    }

    /// The branch that this run pushes: `astra/<run>`.
    pub fn branch(&self) -> Branch {
        Branch(format!("astra/{}", self.0))
    }

    /// The ref that keeps this run's result document: `refs/astra/results/<run>`.
    pub fn result_ref(&self) -> String {
        format!("refs/astra/results/{}", self.0)
    }

    /// The ref that keeps work which the gate refused: `refs/astra/refused/<run>`.
    pub fn refused_ref(&self) -> String {
        format!("refs/astra/refused/{}", self.0)
    }
}

impl AgentName {
    /// The Kubernetes namespace of this agent: `agent-<name>`.
    pub fn namespace(&self) -> String {
        format!("agent-{}", self.0)
    }
}

/// The key that people use for a Plane work item, `AST-12`: the project's identifier and the
/// item's sequence number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TaskKey {
    identifier: String,
    sequence: u64,
}

impl TaskKey {
    /// Joins a project identifier (1 to 12 ASCII letters and digits) and a sequence number.
    pub fn new(identifier: &str, sequence: u64) -> Result<Self, InvalidName> {
        format!("{identifier}-{sequence}").parse()
    }

    /// The project's part, in upper case.
    pub fn identifier(&self) -> &str {
        &self.identifier
    }

    /// The item's number within its project.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }
}

impl FromStr for TaskKey {
    type Err = InvalidName;

    fn from_str(value: &str) -> Result<Self, InvalidName> {
        let invalid = || InvalidName {
            what: "task key",
            value: value.to_owned(),
            rule: "a project identifier of 1 to 12 letters and digits, a dash and a number, such as AST-12",
        };
        let (identifier, sequence) = value.trim().split_once('-').ok_or_else(invalid)?;
        let legal =
            (1..=12).contains(&identifier.len()) && identifier.bytes().all(|b| b.is_ascii_alphanumeric());
        let digits = !sequence.is_empty() && sequence.bytes().all(|b| b.is_ascii_digit());
        if !legal || !digits {
            return Err(invalid());
        }
        Ok(Self {
            identifier: identifier.to_ascii_uppercase(),
            sequence: sequence.parse().map_err(|_| invalid())?,
        })
    }
}

impl TryFrom<String> for TaskKey {
    type Error = InvalidName;

    fn try_from(value: String) -> Result<Self, InvalidName> {
        value.parse()
    }
}

impl From<TaskKey> for String {
    fn from(key: TaskKey) -> String {
        key.to_string()
    }
}

impl fmt::Display for TaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.identifier, self.sequence)
    }
}

/// A GitHub repository, `owner/name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Repository {
    owner: String,
    name: String,
}

impl Repository {
    /// The account or organisation.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The repository's own name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for Repository {
    type Err = InvalidName;

    fn from_str(value: &str) -> Result<Self, InvalidName> {
        let owner_legal = |owner: &str| {
            (1..=39).contains(&owner.len())
                && !owner.starts_with('-')
                && !owner.ends_with('-')
                && owner.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        let name_legal = |name: &str| {
            (1..=100).contains(&name.len())
                && !name.starts_with(['-', '.'])
                && !name.ends_with(".git")
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        match value.split_once('/') {
            Some((owner, name)) if owner_legal(owner) && name_legal(name) => {
                Ok(Self { owner: owner.to_owned(), name: name.to_owned() })
            }
            _ => Err(InvalidName {
                what: "repository",
                value: value.to_owned(),
                rule: "owner/name with letters, digits, dots, dashes and underscores, without .git",
            }),
        }
    }
}

impl TryFrom<String> for Repository {
    type Error = InvalidName;

    fn try_from(value: String) -> Result<Self, InvalidName> {
        value.parse()
    }
}

impl From<Repository> for String {
    fn from(repository: Repository) -> String {
        repository.to_string()
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

/// Declares a newtype over the UUIDs that Plane gives to its objects.
macro_rules! plane_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

plane_id!(
    /// A Plane work item.
    ItemId
);
plane_id!(
    /// A Plane project.
    ProjectId
);

fn is_dns_label(value: &str, longest: usize) -> bool {
    (1..=longest).contains(&value.len())
        && !value.starts_with('-')
        && !value.ends_with('-')
        && value.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn check_agent_name(value: &str) -> Result<(), &'static str> {
    is_dns_label(value, 57).then_some(()).ok_or("1 to 57 lower-case letters, digits and inner dashes")
}

fn check_role(value: &str) -> Result<(), &'static str> {
    is_dns_label(value, 40).then_some(()).ok_or("1 to 40 lower-case letters, digits and inner dashes")
}

fn check_run_id(value: &str) -> Result<(), &'static str> {
    let drawn = |suffix: &str| {
        suffix.len() == RUN_SUFFIX_LENGTH && suffix.bytes().all(|b| RUN_SUFFIX_ALPHABET.contains(&b))
    };
    value
        .rsplit_once('-')
        .is_some_and(|(key, suffix)| {
            drawn(suffix) && key.parse::<TaskKey>().is_ok() && value == value.to_ascii_lowercase()
        })
        .then_some(())
        .ok_or("a task key in lower case, a dash and five of bcdfghjklmnpqrstvwxz2456789")
}

fn check_branch(value: &str) -> Result<(), &'static str> {
    let forbidden = |c: char| c.is_control() || " ~^:?*[\\\u{7f}".contains(c);
    let component_legal = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    let legal = (1..=200).contains(&value.len())
        && !value.starts_with('-')
        && !value.ends_with('.')
        && value != "@"
        && value != "HEAD"
        && !value.contains("..")
        && !value.contains("@{")
        && !value.contains(forbidden)
        && value.split('/').all(component_legal);
    legal.then_some(()).ok_or("at most 200 bytes that `git check-ref-format --branch` accepts")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn legal_and_illegal_names() {
        let longest = "a".repeat(57);
        for name in ["vega", "a", "data-2", longest.as_str()] {
            assert!(name.parse::<AgentName>().is_ok(), "{name}");
        }
        for name in ["", "-a", "a-", "Vega", "a.b", "a_b", "véga", &"a".repeat(58)] {
            assert!(name.parse::<AgentName>().is_err(), "{name}");
        }
        for name in ["main", "feature/x-1", "release-1.2", "astra/ast-1-x7k2p"] {
            assert!(name.parse::<Branch>().is_ok(), "{name}");
        }
        for name in [
            "",
            "--upload-pack=x",
            "a..b",
            "a b",
            "a/",
            "/a",
            "a//b",
            ".a",
            "a.lock",
            "a@{1}",
            "@",
            "HEAD",
            "a\n",
        ] {
            assert!(name.parse::<Branch>().is_err(), "{name}");
        }
        for name in ["astra/api", "a/b.c_d-e"] {
            assert!(name.parse::<Repository>().is_ok(), "{name}");
        }
        for name in
            ["../x", "a/..", "a/b/c", "a", "/a", "a/", "-a/b", "a/-b", "a/b.git", "a/b c", "https://x/y"]
        {
            assert!(name.parse::<Repository>().is_err(), "{name}");
        }
        for key in ["AST-12", "ast-1", " AST-1 ", "P2P-7"] {
            assert!(key.parse::<TaskKey>().is_ok(), "{key}");
        }
        for key in [
            "",
            "AST",
            "AST-",
            "-1",
            "AST--1",
            "AST-+1",
            "AST-1x",
            "ÄST-1",
            "ABCDEFGHIJKLM-1",
            "AST-99999999999999999999",
        ] {
            assert!(key.parse::<TaskKey>().is_err(), "{key}");
        }
    }

    #[test]
    fn the_longest_run_id_fits() {
        let key = TaskKey::new("ABCDEFGHIJKL", u64::MAX).unwrap();
        assert_eq!(RunId::new(&key, RunSuffix::from_number(0)).as_str().len(), 39);
    }

    proptest! {
        #[test]
        fn run_ids_are_dns_labels_and_refs_and_parse_back(identifier in "[A-Z0-9]{1,12}", sequence: u64, number: u64) {
            let key = TaskKey::new(&identifier, sequence).unwrap();
            let run = RunId::new(&key, RunSuffix::from_number(number));
            prop_assert!(is_dns_label(run.as_str(), 40));
            prop_assert!(check_branch(run.branch().as_str()).is_ok());
            prop_assert_eq!(run.as_str().parse::<RunId>().unwrap(), run);
        }

        #[test]
        fn run_ids_of_different_tasks_or_draws_never_collide(
            a in ("[A-Z0-9]{1,12}", any::<u64>(), 0..27u64.pow(5)),
            b in ("[A-Z0-9]{1,12}", any::<u64>(), 0..27u64.pow(5)),
        ) {
            let id = |(identifier, sequence, number): &(String, u64, u64)| {
                RunId::new(&TaskKey::new(identifier, *sequence).unwrap(), RunSuffix::from_number(*number))
            };
            prop_assert_eq!(a == b, id(&a) == id(&b));
        }

        #[test]
        fn names_read_from_anything_render_back_to_it(text in "\\PC{0,30}") {
            if let Ok(repository) = text.parse::<Repository>() {
                prop_assert_eq!(repository.to_string(), text.clone());
            }
            if let Ok(branch) = text.parse::<Branch>() {
                prop_assert_eq!(branch.to_string(), text);
            }
        }
    }
}
