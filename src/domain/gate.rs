//! The gate: what an agent's work may not contain. Rules over plain values; they decide alone, and
//! nothing that an agent reports can relax one.

use std::collections::BTreeSet;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::escape;
use super::result::Finding;
use super::run_plan::RunPlan;
use super::secret_scan::{Scanner, line_ends, tokens};

mod path;

/// Largest changed file, in bytes. (GitHub warns at 50 MiB and refuses at 100 MiB.)
pub const MAX_FILE_BYTES: u64 = 20 << 20;
/// All changed files together, in bytes.
pub const MAX_TOTAL_BYTES: u64 = 100 << 20;
/// Changed files. Nobody reviews more.
pub const MAX_CHANGED_FILES: usize = 5_000;
/// Longest excerpt of a path in a finding, in characters.
const PATH_EXCERPT: usize = 300;
/// Findings that are kept.
pub const MAX_FINDINGS: usize = 50;

/// Git's mode of a file.
pub const MODE_FILE: u32 = 0o100_644;
/// Git's mode of an executable file.
pub const MODE_EXECUTABLE: u32 = 0o100_755;
/// Git's mode of a symbolic link.
pub const MODE_LINK: u32 = 0o120_000;
/// Git's mode of a submodule.
pub const MODE_SUBMODULE: u32 = 0o160_000;

/// Protected in every repository: what GitHub obeys, and what changes how Git reads the rest.
const PROTECTED: &[&str] =
    &[".github", ".github/**", "CODEOWNERS", "docs/CODEOWNERS", "**/.gitmodules", "**/.gitattributes"];

/// Names of the rules, as findings carry them.
pub mod rule {
    /// The work is not exactly one commit of ours on the prepared base.
    pub const COMMIT: &str = "commit";
    /// `collect` could not take the work tree along.
    pub const WORK_TREE: &str = "work-tree";
    /// A path that agents may not touch.
    pub const PROTECTED_PATH: &str = "protected-path";
    /// A path that means something else on another file system, or hides characters.
    pub const PATH_NAME: &str = "path-name";
    /// A link, a submodule, or a mode that is neither file nor executable.
    pub const MODE: &str = "mode";
    /// A file that is too large.
    pub const FILE_SIZE: &str = "file-size";
    /// Too much altogether.
    pub const TOTAL_SIZE: &str = "total-size";
    /// Too many files.
    pub const FILE_COUNT: &str = "file-count";
    /// A secret of the run.
    pub const SECRET: &str = "secret";
    /// The shape of a well-known token.
    pub const TOKEN: &str = "token";
}

/// One changed path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The path within the repository, as Git has it: bytes.
    pub path: Vec<u8>,
    /// What was there.
    pub old: Option<Version>,
    /// What is there now.
    pub new: Option<Version>,
}

/// One side of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Git's mode.
    pub mode: u32,
    /// The object's name.
    pub id: String,
    /// Its size in bytes (0 for a submodule).
    pub bytes: u64,
}

/// The rules for one run.
#[derive(Debug, Clone)]
pub struct Gate {
    protected: GlobSet,
    scanners: Vec<Scanner>,
}

impl Gate {
    /// The rules of this plan, and the secrets to look for.
    pub fn new(plan: &RunPlan, scanners: Vec<Scanner>) -> Result<Self, globset::Error> {
        let registry = plan.registry_path.trim_start_matches("./").trim_matches('/');
        let registry: Vec<String> = if registry.is_empty() || registry == "." {
            ["astra.yaml", "vault.age", "vault.recipients", "agents", "prompts"].map(str::to_owned).to_vec()
        } else {
            vec![globset::escape(registry)]
        };
        let built_in = PROTECTED.iter().map(|&pattern| pattern.to_owned());
        let own = plan.protected_paths.iter().map(|pattern| pattern.trim_matches('/').to_owned());
        let mut protected = GlobSetBuilder::new();
        for pattern in built_in.chain(registry).chain(own) {
            // A directory means what is in it, and what is in it means the directory: a file or link
            // in its place would do away with it.
            let directory = pattern.strip_suffix("/**").unwrap_or(&pattern);
            for pattern in [directory.to_owned(), format!("{directory}/**")] {
                protected
                    .add(GlobBuilder::new(&pattern).literal_separator(true).case_insensitive(true).build()?);
            }
        }
        Ok(Self { protected: protected.build()?, scanners })
    }

    /// What is wrong with the changes, without looking into the files.
    pub fn check_changes(&self, changes: &[Change]) -> Vec<Finding> {
        let mut findings = Vec::new();
        if changes.len() > MAX_CHANGED_FILES {
            let message = format!("{} files are changed; at most {MAX_CHANGED_FILES} may be", changes.len());
            findings.push(finding(rule::FILE_COUNT, None, message));
        }
        let total: u64 = changes.iter().filter_map(|change| change.new.as_ref()).map(|new| new.bytes).sum();
        if total > MAX_TOTAL_BYTES {
            let message = format!(
                "the changed files have {} together; at most {} may be",
                size(total),
                size(MAX_TOTAL_BYTES)
            );
            findings.push(finding(rule::TOTAL_SIZE, None, message));
        }
        findings.extend(changes.iter().flat_map(|change| self.check_change(change)));
        findings
    }

    fn check_change(&self, change: &Change) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut object = |rule, message: String| findings.push(finding(rule, Some(&change.path), message));
        if let Some(reason) = path::fault(&change.path) {
            object(rule::PATH_NAME, reason.to_owned());
        }
        if self.protected.is_match(path::canonical(&change.path)) {
            object(rule::PROTECTED_PATH, "only people change this path".to_owned());
        }
        let modes = [&change.old, &change.new].map(|version| version.as_ref().map(|version| version.mode));
        if let Some(reason) = mode_fault(modes[0], modes[1]) {
            object(rule::MODE, reason);
        }
        if let Some(new) = change.new.as_ref().filter(|new| new.bytes > MAX_FILE_BYTES) {
            object(rule::FILE_SIZE, format!("{}; a file may have {}", size(new.bytes), size(MAX_FILE_BYTES)));
        }
        let in_path = self.check_text(&change.path, "a path has");
        if !in_path.is_empty() {
            // Such a path is not repeated: it would carry the secret on.
            findings.extend(in_path);
            findings.iter_mut().for_each(|finding| finding.path = None);
        }
        findings
    }

    /// What is wrong with the content of a changed file. A token that was there before is not the
    /// agent's doing; a secret of the run is never right.
    pub fn check_content(&self, path: &[u8], old: Option<&[u8]>, new: &[u8]) -> Vec<Finding> {
        // A path that holds a secret is not repeated here either.
        let path = self.check_text(path, "a path has").is_empty().then_some(path);
        let mut findings: Vec<Finding> = self
            .secrets(new)
            .map(|(line, what)| Finding {
                line: Some(line),
                ..finding(rule::SECRET, path, format!("here is {what}"))
            })
            .collect();
        let before: BTreeSet<&[u8]> =
            old.map(tokens).unwrap_or_default().iter().map(|token| token.text).collect();
        let new_tokens = tokens(new).into_iter().filter(|token| !before.contains(token.text));
        let (mut line, mut counted) = (1, 0);
        // No more than can be kept: a file may be full of them.
        for token in new_tokens.take(MAX_FINDINGS) {
            line += line_ends(&new[counted..token.at]);
            counted = token.at;
            let message = format!("this looks like a {}", token.shape);
            findings.push(Finding { line: Some(line), ..finding(rule::TOKEN, path, message) });
        }
        findings
    }

    /// Secrets and tokens in words that the result carries (`place`: whose words they are).
    pub fn check_words(&self, place: &str, words: &str) -> Vec<Finding> {
        self.check_text(words.as_bytes(), place)
    }

    fn check_text(&self, text: &[u8], place: &str) -> Vec<Finding> {
        let secrets =
            self.secrets(text).map(|(_, what)| finding(rule::SECRET, None, format!("{place} {what}")));
        let tokens = tokens(text)
            .into_iter()
            .map(|token| finding(rule::TOKEN, None, format!("{place} what looks like a {}", token.shape)));
        secrets.chain(tokens).collect()
    }

    fn secrets(&self, text: &[u8]) -> impl Iterator<Item = (u32, String)> {
        let hits: Vec<_> = self.scanners.iter().flat_map(|scanner| scanner.scan(text)).collect();
        hits.into_iter().map(|hit| (hit.line, format!("{} of the run, {}", hit.name, hit.encoding)))
    }
}

/// A finding about the delivered commit itself.
pub fn commit_finding(message: &str) -> Finding {
    finding(rule::COMMIT, None, message.to_owned())
}

/// A finding of `collect`, which does not even take such work along.
pub fn work_tree_finding(message: &str) -> Finding {
    finding(rule::WORK_TREE, None, message.to_owned())
}

/// One sentence about a refusal.
pub fn refusal(findings: &[Finding]) -> String {
    if findings.iter().any(is_secret) {
        return "the work has a secret in it, so nothing was pushed: replace that secret".to_owned();
    }
    let first = findings.first().map(|finding| match &finding.path {
        Some(path) => format!("{} ({path}): {}", finding.rule, finding.message),
        None => format!("{}: {}", finding.rule, finding.message),
    });
    match findings.len() {
        0 | 1 => format!("the gate refused the work: {}", first.unwrap_or_default()),
        more => format!("the gate refused the work for {more} reasons, first {}", first.unwrap_or_default()),
    }
}

/// Whether the work was refused for a secret: then it is not even kept.
pub fn is_secret(finding: &Finding) -> bool {
    finding.rule == rule::SECRET || finding.rule == rule::TOKEN
}

/// The findings that are kept. Those about secrets come first.
pub fn kept(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by_key(|finding| !is_secret(finding));
    let more = findings.len().saturating_sub(MAX_FINDINGS);
    if more > 0 {
        findings.truncate(MAX_FINDINGS - 1);
        let last = findings.first().map(|first| first.rule.clone()).unwrap_or_default();
        findings.push(Finding {
            rule: last,
            path: None,
            line: None,
            message: format!("and {} more", more + 1),
        });
    }
    findings
}

fn mode_fault(old: Option<u32>, new: Option<u32>) -> Option<String> {
    if old == Some(MODE_SUBMODULE) || new == Some(MODE_SUBMODULE) {
        return Some("this changes a submodule".to_owned());
    }
    match new {
        None | Some(MODE_FILE | MODE_EXECUTABLE) => None,
        Some(MODE_LINK) => Some("this is a symbolic link, which may lead anywhere".to_owned()),
        Some(mode) => Some(format!("mode {mode:o} is neither that of a file nor of an executable")),
    }
}

fn finding(rule: &str, path: Option<&[u8]>, message: String) -> Finding {
    let shown = |path: &[u8]| {
        let text = String::from_utf8_lossy(path).replace(['\n', '\t'], " ");
        escape::terminal(&text).chars().take(PATH_EXCERPT).collect()
    };
    Finding { rule: rule.to_owned(), path: path.map(shown), line: None, message }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..0x400 => format!("{bytes} bytes"),
        0x400..0x10_0000 => format!("{} KiB", bytes >> 10),
        0x10_0000..0x4000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}

#[cfg(test)]
mod tests;
