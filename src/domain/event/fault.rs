//! What can be wrong with an event, and what to do about it.

use crate::error::UserError;

/// How many keys of something unknown are named.
pub(super) const KEYS_SHOWN: usize = 8;
/// How many characters of a key are shown.
pub(super) const KEY_SHOWN: usize = 40;
/// How many characters of the parser's words are shown; they can repeat a value.
pub(super) const PROBLEM_SHOWN: usize = 200;

/// An event that cannot be read. The sentences are short, whatever is in it, and name places rather
/// than values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventFault {
    /// It is no JSON.
    #[error("the event is not JSON: {problem}")]
    NotJson {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// In the parser's words.
        problem: String,
    },
    /// It is JSON, and none of the events that are understood.
    #[error("the event is neither a Plane webhook's body nor a GitHub event that carries one{}", keys_seen(.keys))]
    NoEvent {
        /// The names of its first keys.
        keys: Vec<String>,
    },
    /// A `workflow_dispatch` event without a task.
    #[error("the workflow was started by hand without the input `task`")]
    NoTask,
    /// A `workflow_dispatch` event with a task that is none.
    #[error("the input `task` is {task:?}, which is no task key")]
    IllegalTask {
        /// What was typed.
        task: String,
    },
    /// A field is missing or has another type.
    #[error("the event cannot be read at {path}: {problem}")]
    Field {
        /// JSON path from the root of the file.
        path: String,
        /// What is wrong there.
        problem: String,
    },
    /// The relay is newer than this program.
    #[error("the event comes in version {version} of the relay's envelope, and this program reads version 1")]
    RelayVersion {
        /// Its version.
        version: u64,
    },
}

impl EventFault {
    /// What to do, in one sentence.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NotJson { .. } => {
                "Give the file that GITHUB_EVENT_PATH names, or a webhook's body as it was sent."
            }
            Self::NoEvent { .. } => {
                "Start the workflow by `repository_dispatch` (type plane-event) or `workflow_dispatch`, \
                 or name the task with --task."
            }
            Self::NoTask => "Start it again with the task's key, such as AST-12, in the input `task`.",
            Self::IllegalTask { .. } => {
                "A task key is the project's identifier, a dash and a number, such as AST-12."
            }
            Self::Field { .. } => {
                "Compare the event with a recorded one (fixtures/events); it has to be the body of a Plane \
                 webhook, version 1, with labels and state expanded."
            }
            Self::RelayVersion { .. } => "Update astra-dispatch to the version of the relay.",
        }
    }
}

impl From<EventFault> for UserError {
    fn from(fault: EventFault) -> Self {
        Self::usage(fault.to_string(), fault.remedy())
    }
}

fn keys_seen(keys: &[String]) -> String {
    if keys.is_empty() { String::new() } else { format!(" (its keys: {})", keys.join(", ")) }
}
