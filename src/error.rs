//! Errors that a person can do something about, and the exit codes of the contract.

use std::fmt;

/// The exit codes: part of the contract with scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Handled: dispatched, waiting, ignored and refused are all recorded outcomes.
    Handled = 0,
    /// Failed.
    Failed = 1,
    /// Wrong usage or invalid configuration.
    Usage = 2,
    /// Nothing was lost, but a needed service did not answer: try again.
    Retry = 75,
}

/// An error with cause, place and remedy, shown to the person who can mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct UserError {
    /// What is wrong, in one sentence.
    pub cause: String,
    /// Where: a file, an option, an object.
    pub place: Option<String>,
    /// What to do next.
    pub remedy: String,
    /// The exit code it ends the program with.
    pub exit: Exit,
}

impl UserError {
    /// Wrong usage or invalid configuration (exit 2).
    pub fn usage(cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { cause: cause.into(), place: None, remedy: remedy.into(), exit: Exit::Usage }
    }

    /// Something else that a person can mend (exit 1).
    pub fn failed(cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, ..Self::usage(cause, remedy) }
    }

    /// A service did not answer; nothing was lost (exit 75).
    pub fn retry(cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { exit: Exit::Retry, ..Self::usage(cause, remedy) }
    }

    /// Names the place.
    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.place = Some(place.into());
        self
    }
}

impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{place}: {}", self.cause),
            None => f.write_str(&self.cause),
        }
    }
}
