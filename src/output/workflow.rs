//! Outputs of a workflow step: what later steps of a GitHub workflow read.

use std::io::Write;

use anyhow::Context;

/// Sets outputs of the step, in the file that `GITHUB_OUTPUT` names; without one, sets nothing.
pub fn set_outputs(outputs: &[(&str, String)]) -> anyhow::Result<()> {
    let Some(path) = std::env::var_os("GITHUB_OUTPUT").filter(|path| !path.is_empty()) else {
        return Ok(());
    };
    // Values hold the words of strangers, who must not be able to end theirs and begin another.
    let delimiter = format!("astra-{:032x}", rand::random::<u128>());
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(assignments(outputs, &delimiter).as_bytes()))
        .with_context(|| format!("write the step's outputs to {}", path.display()))
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
    fn a_value_cannot_begin_another_output() {
        let outputs = [("reason", "x\nEOF\nagent=mallory".to_owned()), ("agent", String::new())];
        assert_eq!(
            assignments(&outputs, "astra-1"),
            "reason<<astra-1\nx\nEOF\nagent=mallory\nastra-1\nagent<<astra-1\n\nastra-1\n"
        );
    }
}
