//! What a step tells the runner of a GitHub workflow: its outputs, which later steps read, its summary for
//! people, and what must not be seen in the log.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use anyhow::Context;

use crate::domain::{escape, mask};
use crate::environment;

/// The variable by which a program knows that it is a step of a GitHub workflow.
pub const WORKFLOW_VARIABLE: &str = "GITHUB_ACTIONS";

/// Whether this is such a step.
pub fn is_here() -> bool {
    std::env::var_os(WORKFLOW_VARIABLE).is_some_and(|value| value == "true")
}

/// Has the runner show these values, and each of their lines, as stars from now on, whoever prints them.
/// To be called before anything else could. Outside a workflow nothing is printed.
pub fn hide<'a>(values: impl IntoIterator<Item = &'a str>) {
    if !is_here() {
        return;
    }
    let commands = masks(values);
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    let new: Vec<&str> = commands.lines().filter(|line| told.insert(hash(line))).collect();
    if !new.is_empty() {
        super::say(&new.join("\n"));
    }
}

/// What the runner was told already.
static TOLD: Mutex<BTreeSet<u64>> = Mutex::new(BTreeSet::new());

fn hash(line: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    line.hash(&mut hasher);
    hasher.finish()
}

/// The commands, each once. Source: "Masking a value in a log" of GitHub's page "Workflow commands".
fn masks<'a>(values: impl IntoIterator<Item = &'a str>) -> String {
    let mut hidden = BTreeSet::new();
    for value in values {
        hidden.extend(mask::secret_lines(value));
        if mask::secret_lines(value).next().is_some() {
            hidden.insert(value);
        }
    }
    hidden.iter().map(|value| format!("::add-mask::{}\n", escape::workflow_data(value))).collect()
}

/// Sets outputs of the step, in the file that `GITHUB_OUTPUT` names; without one, sets nothing.
pub fn set_outputs(outputs: &[(&str, String)]) -> anyhow::Result<()> {
    // Values hold the words of strangers, who must not be able to end theirs and begin another.
    let delimiter = format!("astra-{:032x}", rand::random::<u128>());
    append("GITHUB_OUTPUT", &assignments(outputs, &delimiter))
}

/// Adds to the page that GitHub shows for the step (Markdown), in the file that `GITHUB_STEP_SUMMARY`
/// names; without one, adds nothing.
pub fn add_summary(markdown: &str) -> anyhow::Result<()> {
    append("GITHUB_STEP_SUMMARY", &format!("{}\n\n", markdown.trim_end()))
}

/// Adds to the file that a variable names, if it is set.
fn append(variable: &str, text: &str) -> anyhow::Result<()> {
    let Some(path) = environment::value(variable) else { return Ok(()) };
    let file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("write to the file of {variable}, {}", path.display()))
}

/// The lines of that file. Source: "Setting an output parameter" and "Multiline strings" of GitHub's
/// page "Workflow commands".
fn assignments(outputs: &[(&str, String)], delimiter: &str) -> String {
    outputs.iter().map(|(name, value)| format!("{name}<<{delimiter}\n{value}\n{delimiter}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_and_each_of_its_lines_are_hidden_once() {
        let key = "-----BEGIN KEY-----\n  bGluZS1vbmU=\nab\n-----END KEY-----\n";
        assert_eq!(
            masks(["50%-token", key, "50%-token", "short", ""]),
            "::add-mask::-----BEGIN KEY-----\n\
             ::add-mask::-----BEGIN KEY-----%0A  bGluZS1vbmU=%0Aab%0A-----END KEY-----%0A\n\
             ::add-mask::-----END KEY-----\n\
             ::add-mask::50%25-token\n\
             ::add-mask::bGluZS1vbmU=\n"
        );
        assert_eq!(masks([]), "");
    }

    #[test]
    fn a_value_cannot_begin_another_output() {
        let outputs = [("reason", "x\nEOF\nagent=mallory".to_owned()), ("agent", String::new())];
        assert_eq!(
            assignments(&outputs, "astra-1"),
            "reason<<astra-1\nx\nEOF\nagent=mallory\nastra-1\nagent<<astra-1\n\nastra-1\n"
        );
    }
}
