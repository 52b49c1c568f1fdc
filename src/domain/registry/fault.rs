//! Faults of a registry: what is wrong, where, and what cures it.

use std::cell::RefCell;
use std::fmt;

use serde::Serialize;

/// Where something is in a file. Line and column count from 1, the column in characters; the
/// range counts bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
    /// The first byte.
    pub start: u32,
    /// The byte after the last.
    pub end: u32,
}

impl Place {
    /// The very beginning of a file.
    pub const TOP: Self = Self { line: 1, column: 1, start: 0, end: 0 };
}

/// Whether a registry can be used in spite of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can, but somebody should look at it.
    Warning,
}

/// The rules that a registry can break. Their names are shown to people and are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Files are there, readable, of a sensible size and no links.
    Files,
    /// Files are YAML, without anchors, aliases, tags and second documents.
    Syntax,
    /// Only keys that mean something.
    UnknownKey,
    /// Each key once.
    DuplicateKey,
    /// All keys that are needed.
    MissingKey,
    /// The kind of value that a key takes.
    WrongType,
    /// A value that has the right form.
    InvalidValue,
    /// A version that this program reads.
    Version,
    /// An agent's file is named after the agent.
    FileName,
    /// What must be unique is unique.
    Duplicate,
    /// Roles are those of `astra.yaml`.
    UnknownRole,
    /// Model aliases are those of `astra.yaml`.
    UnknownModel,
    /// An agent's limits stay within those of `astra.yaml`.
    LimitTooHigh,
    /// A run ends while its token is good.
    RunTooLong,
    /// Patterns of repositories match a mapped one.
    UnmatchedRepository,
    /// Every agent can be chosen for something.
    NeverChosen,
    /// Prompts are there and say something.
    MissingPrompt,
    /// Paths stay inside the registry.
    PathEscapes,
    /// An agent reads its own credentials only.
    VaultPath,
    /// Variables that an agent step may get.
    ForbiddenVariable,
    /// Credentials are in the vault.
    MissingCredential,
    /// Images are pinned by digest.
    UnpinnedImage,
    /// Nothing lies about unused.
    Unused,
}

impl Rule {
    /// The rule's stable name, e.g. `unknown-key`.
    pub fn name(self) -> &'static str {
        self.describe().0
    }

    /// What holds where the rule is kept.
    pub fn promise(self) -> &'static str {
        self.describe().1
    }

    fn describe(self) -> (&'static str, &'static str) {
        match self {
            Self::Files => ("files", "Files are there, readable, of a sensible size and no links"),
            Self::Syntax => ("syntax", "Files are YAML, without anchors, aliases, tags and second documents"),
            Self::UnknownKey => ("unknown-key", "Only keys that mean something"),
            Self::DuplicateKey => ("duplicate-key", "Each key once"),
            Self::MissingKey => ("missing-key", "All keys that are needed"),
            Self::WrongType => ("wrong-type", "The kind of value that a key takes"),
            Self::InvalidValue => ("invalid-value", "A value that has the right form"),
            Self::Version => ("version", "A version that this program reads"),
            Self::FileName => ("file-name", "An agent's file is named after the agent"),
            Self::Duplicate => ("duplicate", "What must be unique is unique"),
            Self::UnknownRole => ("unknown-role", "Roles are those of astra.yaml"),
            Self::UnknownModel => ("unknown-model", "Model aliases are those of astra.yaml"),
            Self::LimitTooHigh => ("limit-too-high", "An agent's limits stay within those of astra.yaml"),
            Self::RunTooLong => ("run-too-long", "A run ends while its token is good"),
            Self::UnmatchedRepository => {
                ("unmatched-repository", "Patterns of repositories match a mapped one")
            }
            Self::NeverChosen => ("never-chosen", "Every agent can be chosen for something"),
            Self::MissingPrompt => ("missing-prompt", "Prompts are there and say something"),
            Self::PathEscapes => ("path-escapes", "Paths stay inside the registry"),
            Self::VaultPath => ("vault-path", "An agent reads its own credentials only"),
            Self::ForbiddenVariable => ("forbidden-variable", "Variables that an agent step may get"),
            Self::MissingCredential => {
                ("missing-credential", "The vault holds what agents that take tasks are to get")
            }
            Self::UnpinnedImage => ("unpinned-image", "Images are pinned by digest"),
            Self::Unused => ("unused", "Nothing lies about unused"),
        }
    }
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Path within the registry.
    pub file: String,
    /// Where in the file; `None` for the file as a whole.
    pub place: Option<Place>,
    /// Whether the registry can be used all the same.
    pub severity: Severity,
    /// The rule that it breaks.
    pub rule: Rule,
    /// What is wrong, in one sentence. May quote the file: escape it at the exit.
    pub cause: String,
    /// What to do, in one sentence. May quote the file: escape it at the exit.
    pub cure: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(place) = self.place {
            write!(f, ":{}:{}", place.line, place.column)?;
        }
        write!(f, ": {}; {}", self.cause, self.cure)
    }
}

/// Collects the faults of one file.
#[derive(Debug)]
pub(super) struct Findings<'a> {
    /// Path within the registry.
    pub(super) file: &'a str,
    faults: RefCell<Vec<Fault>>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(file: &'a str) -> Self {
        Self { file, faults: RefCell::default() }
    }

    /// Notes an error.
    pub(super) fn error(&self, rule: Rule, at: Place, cause: impl Into<String>, cure: impl Into<String>) {
        self.note(Severity::Error, rule, Some(at), cause.into(), cure.into());
    }

    /// Notes something that does not keep the registry from being used.
    pub(super) fn warning(&self, rule: Rule, at: Place, cause: impl Into<String>, cure: impl Into<String>) {
        self.note(Severity::Warning, rule, Some(at), cause.into(), cure.into());
    }

    /// Notes an error of the file as a whole.
    pub(super) fn of_file(&self, rule: Rule, cause: impl Into<String>, cure: impl Into<String>) {
        self.note(Severity::Error, rule, None, cause.into(), cure.into());
    }

    /// Notes something about the file as a whole that does not keep the registry from being used.
    pub(super) fn file_warning(&self, rule: Rule, cause: impl Into<String>, cure: impl Into<String>) {
        self.note(Severity::Warning, rule, None, cause.into(), cure.into());
    }

    fn note(&self, severity: Severity, rule: Rule, place: Option<Place>, cause: String, cure: String) {
        self.faults.borrow_mut().push(Fault {
            file: self.file.to_owned(),
            place,
            severity,
            rule,
            cause,
            cure,
        });
    }

    pub(super) fn into_faults(self) -> Vec<Fault> {
        self.faults.into_inner()
    }
}

/// What cures a word that is not among `known`: the nearest of them, else the list of all.
pub(crate) fn suggestion<'k>(wrong: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    match nearest(wrong, known.iter().copied()) {
        Some(candidate) => format!("did you mean `{candidate}`?"),
        None => format!("use one of {}", quoted_list(&known)),
    }
}

/// The one of `known` that somebody may have meant.
pub(super) fn nearest<'k>(wrong: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    /// Below this similarity a suggestion confuses more than it helps.
    const SIMILAR: f64 = 0.75;
    let lower = wrong.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(a.1)))
        .map(|(_, candidate)| candidate)
}

/// `` `a`, `b` and `c` ``, cut after the first fifteen.
pub(super) fn quoted_list(items: &[&str]) -> String {
    const MOST: usize = 15;
    let mut text = String::new();
    for (index, item) in items.iter().take(MOST).enumerate() {
        let separator = match index {
            0 => "",
            _ if index + 1 == items.len() => " and ",
            _ => ", ",
        };
        text.push_str(separator);
        text.push_str(&format!("`{item}`"));
    }
    if items.len() > MOST {
        text.push_str(&format!(" and {} more", items.len() - MOST));
    }
    text
}
