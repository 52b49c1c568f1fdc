//! The two ways out: stdout for machines, stderr for people.

use std::io::{self, IsTerminal, Write};

use anyhow::Context;

use crate::domain::escape;
use crate::environment;
use crate::error::{Exit, UserError};

pub mod decision_table;
pub mod findings;
pub mod workflow;

/// Writes a result to stdout, with a newline at its end. A reader that has gone away is no error.
pub fn result(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.trim_end_matches('\n').as_bytes()).and_then(|()| out.write_all(b"\n"));
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("write to stdout"),
        _ => Ok(()),
    }
}

/// Writes a value as one JSON document to stdout; in a workflow, it is the step's output `json` too.
pub fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let compact = serde_json::to_string(value).context("write the result as JSON")?;
    workflow::set_outputs(&[("json", compact)])?;
    result(&serde_json::to_string_pretty(value).context("write the result as JSON")?)
}

/// Says something to the person at the terminal. Nobody listening is no error.
pub fn say(text: &str) {
    let mut err = io::stderr().lock();
    let _ = err.write_all(text.trim_end_matches('\n').as_bytes()).and_then(|()| err.write_all(b"\n"));
}

/// Whether progress may redraw and colour: stderr is a terminal and `NO_COLOR` is not set.
pub fn is_fancy() -> bool {
    io::stderr().is_terminal() && environment::value("NO_COLOR").is_none()
}

/// Shows an error once, with all its causes and the remedy; in a workflow also as an annotation.
pub fn error(error: &anyhow::Error) -> Exit {
    let (text, exit) = describe(error);
    say(&escape::inert(&text));
    if workflow::is_here() {
        say(&format!("::error::{}", escape::workflow_data(&text)));
    }
    exit
}

fn describe(error: &anyhow::Error) -> (String, Exit) {
    let chain: Vec<String> =
        error.chain().map(|cause| escape::terminal(&cause.to_string()).into_owned()).collect();
    let mut text = format!("error: {}", chain.join(": "));
    match error.downcast_ref::<UserError>() {
        Some(user_error) => {
            text.push_str(&format!("\n help: {}", escape::terminal(&user_error.remedy)));
            (text, user_error.exit)
        }
        None => (text, Exit::Failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_error_keeps_its_remedy_and_exit_code_under_context() {
        let error = anyhow::Error::new(
            UserError::usage("no such agent \"vaga\"", "did you mean vega?").at("--agent"),
        )
        .context("print the prompts");
        let (text, exit) = describe(&error);
        assert_eq!(
            text,
            "error: print the prompts: --agent: no such agent \"vaga\"\n help: did you mean vega?"
        );
        assert_eq!(exit, Exit::Usage);
    }

    #[test]
    fn any_other_error_is_a_failure_with_all_its_causes() {
        let error = anyhow::anyhow!("connection \u{1b}[31mrefused").context("read task AST-1");
        assert_eq!(
            describe(&error),
            ("error: read task AST-1: connection �[31mrefused".to_owned(), Exit::Failed)
        );
    }
}
