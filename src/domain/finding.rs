//! What the checks of `agents doctor` find.

use schemars::JsonSchema;
use serde::Serialize;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Finding {
    /// What was looked at, in a few words.
    pub check: String,
    /// What came out.
    pub state: State,
    /// What is wrong, one sentence each.
    pub faults: Vec<String>,
    /// How to mend it.
    pub remedy: Option<String>,
}

/// What came out of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As it ought to be.
    Passed,
    /// Not as it ought to be.
    Failed,
    /// It works, and could be safer.
    Warned,
    /// It could not be looked at: this person may not.
    Unknown,
    /// It could not be looked at: whoever was asked did not answer, and may do next time.
    Unanswered,
}

impl Finding {
    /// Passed where there is no fault.
    pub fn new(check: impl Into<String>, faults: Vec<String>, remedy: impl Into<String>) -> Self {
        if faults.is_empty() {
            return Self { check: check.into(), state: State::Passed, faults, remedy: None };
        }
        Self { check: check.into(), state: State::Failed, faults, remedy: Some(remedy.into()) }
    }

    /// Passed where there is no fault; what there is else is only a warning.
    pub fn warning(check: impl Into<String>, faults: Vec<String>, remedy: impl Into<String>) -> Self {
        let finding = Self::new(check, faults, remedy);
        match finding.state {
            State::Failed => Self { state: State::Warned, ..finding },
            _ => finding,
        }
    }

    /// Whoever was asked did not answer, and may do next time.
    pub fn unanswered(check: impl Into<String>, why: impl Into<String>) -> Self {
        Self { state: State::Unanswered, ..Self::unknown(check, why, "run this again later") }
    }

    /// It could not be looked at.
    pub fn unknown(check: impl Into<String>, why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            check: check.into(),
            state: State::Unknown,
            faults: vec![why.into()],
            remedy: Some(remedy.into()),
        }
    }
}
