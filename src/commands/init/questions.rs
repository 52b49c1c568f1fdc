//! Questions to whoever sits at the terminal. Without one, the option is named that answers.

use std::io::{self, BufRead, IsTerminal, StdinLock};

use crate::domain::escape;
use crate::error::UserError;
use crate::output;

/// Somebody to ask, perhaps.
pub(super) struct Questions<R> {
    input: R,
    is_open: bool,
}

impl Questions<StdinLock<'static>> {
    /// Whoever sits at the terminal, unless nothing is to be asked.
    pub(super) fn of_terminal(is_closed: bool) -> Self {
        let is_open = !is_closed && io::stdin().is_terminal() && io::stderr().is_terminal();
        Self { input: io::stdin().lock(), is_open }
    }
}

impl<R: BufRead> Questions<R> {
    /// The answer to a question; `option` is what answers it on the command line.
    pub(super) fn ask(&mut self, question: &str, option: &str) -> Result<String, UserError> {
        if self.is_open {
            output::say(&format!("{}:", escape::terminal(question)));
            let answer = self.line();
            if !answer.is_empty() {
                return Ok(answer);
            }
        }
        Err(UserError::usage("this is not known", format!("give it with {option}")).at(question))
    }

    /// Whether somebody says yes; without a word, nobody does.
    pub(super) fn agrees(&mut self, question: &str) -> bool {
        if !self.is_open {
            return false;
        }
        output::say(&format!("{question} [y/N]"));
        matches!(self.line().to_lowercase().as_str(), "y" | "yes")
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        // An input that ends or breaks has no answer.
        if self.input.read_line(&mut line).is_err() {
            line.clear();
        }
        line.trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_and_silence_is_none() {
        let mut questions = Questions { input: "acme/api\n\ny\nno\n".as_bytes(), is_open: true };
        assert_eq!(questions.ask("Which?", "--which").unwrap(), "acme/api");
        let silent = questions.ask("Which?", "--which").unwrap_err();
        assert_eq!(silent.remedy, "give it with --which");
        assert!(questions.agrees("Really?"));
        assert!(!questions.agrees("Really?"));
        assert!(!questions.agrees("At the end of the input?"));
        let mut closed = Questions { input: "y\ny\n".as_bytes(), is_open: false };
        assert!(closed.ask("Which?", "--which").is_err() && !closed.agrees("Really?"));
    }
}
