//! What can be wrong with a task, each in a sentence that says what to change.

use std::fmt;

use crate::domain::name::{ProjectId, Repository};

/// A work item that asks for something that cannot be carried out as it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{}", .faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct Refusal {
    /// Everything that is wrong with it; never empty.
    pub faults: Vec<TaskFault>,
}

impl Refusal {
    /// What to change, one sentence for each fault.
    pub fn remedies(&self) -> Vec<String> {
        self.faults.iter().map(TaskFault::remedy).collect()
    }
}

/// One thing that is wrong with a task. Values in it were written by strangers; the sentences
/// show them quoted and cut, with control and invisible characters spelt out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TaskFault {
    /// The project is not in `astra.yaml`.
    UnknownProject {
        /// Plane's id of the project.
        project: ProjectId,
    },
    /// No label asks for an agent.
    NoRole,
    /// More than one label asks for an agent.
    SeveralRoles {
        /// The roles asked for.
        asked: Vec<String>,
    },
    /// The label names a role that the registry does not have.
    UnknownRole {
        /// The role asked for.
        asked: String,
        /// The registry's roles.
        known: Vec<String>,
    },
    /// More than one label asks for a model.
    SeveralModels {
        /// The aliases asked for.
        asked: Vec<String>,
    },
    /// The label names a model alias that the registry does not have.
    UnknownModel {
        /// The alias asked for.
        asked: String,
        /// The registry's aliases.
        known: Vec<String>,
    },
    /// A task line has a value that is not one.
    IllegalLine {
        /// The line's name, as in `Repository:`.
        line: &'static str,
        /// The value.
        value: String,
        /// What the value has to be.
        rule: &'static str,
    },
    /// A task line stands there twice, with two values.
    TwoValues {
        /// The line's name.
        line: &'static str,
        /// The two values.
        values: [String; 2],
    },
    /// No agent of the registry may work in the repository, and no project is mapped to it.
    UnknownRepository {
        /// The repository.
        repository: Repository,
    },
    /// A reviewer's task without a pull request to review.
    NoPullRequest,
    /// The item links to several pull requests and no line says which.
    SeveralPullRequests {
        /// The first two.
        links: [String; 2],
    },
    /// The pull request is in another repository than the `Repository:` line.
    PullRequestElsewhere {
        /// Where the pull request is.
        pull_request: Repository,
        /// What the line says.
        repository: Repository,
    },
}

impl fmt::Display for TaskFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownProject { project } => {
                write!(f, "the registry maps no repository to the Plane project {project}")
            }
            Self::NoRole => f.write_str("no label asks for an agent"),
            Self::SeveralRoles { asked } => {
                write!(f, "more than one label asks for an agent: {}", labels("agent", asked))
            }
            Self::UnknownRole { asked, .. } => {
                write!(f, "the registry has no role {}{}", quoted(asked), look_alike(asked))
            }
            Self::SeveralModels { asked } => {
                write!(f, "more than one label asks for a model: {}", labels("model", asked))
            }
            Self::UnknownModel { asked, .. } => {
                write!(f, "the registry has no model {}{}", quoted(asked), look_alike(asked))
            }
            Self::IllegalLine { line, value, rule } => {
                write!(f, "the line `{line}: …` has the value {}, which is not {rule}", quoted(value))
            }
            Self::TwoValues { line, values: [first, second] } => {
                write!(f, "the line `{line}: …` is there twice: {} and {}", quoted(first), quoted(second))
            }
            Self::UnknownRepository { repository } => {
                write!(f, "no agent of the registry may work in the repository {repository}")
            }
            Self::NoPullRequest => f.write_str("a reviewer needs a pull request, and the task names none"),
            Self::SeveralPullRequests { links: [first, second] } => {
                write!(f, "the item links to several pull requests: {} and {}", quoted(first), quoted(second))
            }
            Self::PullRequestElsewhere { pull_request, repository } => write!(
                f,
                "the pull request is in {pull_request}, but the line `Repository: …` says {repository}"
            ),
        }
    }
}

impl TaskFault {
    /// What to change, in one sentence.
    pub fn remedy(&self) -> String {
        match self {
            Self::UnknownProject { project } => {
                format!("Add the project {project} to `projects` of astra.yaml, or move the item.")
            }
            Self::NoRole => "Put one label `agent:<role>` on the item.".to_owned(),
            Self::SeveralRoles { .. } => "Leave one `agent:` label on the item.".to_owned(),
            Self::UnknownRole { asked, known } => {
                format!("Use {}.{}", one_of("agent:", known), did_you_mean("agent:", asked, known))
            }
            Self::SeveralModels { .. } => "Leave one `model:` label on the item, or none.".to_owned(),
            Self::UnknownModel { asked, known } => {
                format!("Use {}.{}", one_of("model:", known), did_you_mean("model:", asked, known))
            }
            Self::IllegalLine { line, rule, .. } => {
                format!("Change the line `{line}: …` of the description to {rule}, or remove it.")
            }
            Self::TwoValues { line, .. } => format!("Leave one line `{line}: …` in the description."),
            Self::UnknownRepository { repository } => format!(
                "Change the line `Repository: …`, or let an agent work there: `repositories: [\"{repository}\"]`."
            ),
            Self::NoPullRequest => {
                "Add the line `Pull request: #12` (or its URL), or link the pull request.".to_owned()
            }
            Self::SeveralPullRequests { .. } => {
                "Add the line `Pull request: …` with the one that is meant.".to_owned()
            }
            Self::PullRequestElsewhere { .. } => {
                "Make the lines `Pull request: …` and `Repository: …` agree, or remove the second.".to_owned()
            }
        }
    }
}

/// How much of a stranger's value a sentence shows, in characters.
const SHOWN: usize = 80;

/// The value in quotes, cut, with everything unprintable or invisible spelt out (`\u{202e}`).
fn quoted(value: &str) -> String {
    match value.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}…", &value[..end]),
        None => format!("{value:?}"),
    }
}

fn labels(prefix: &str, asked: &[String]) -> String {
    asked.iter().map(|value| quoted(&format!("{prefix}:{value}"))).collect::<Vec<_>>().join(", ")
}

/// Says so when a name has letters that only look like the ones meant.
fn look_alike(asked: &str) -> &'static str {
    if asked.is_ascii() { "" } else { " (it has characters outside plain ASCII)" }
}

fn one_of(prefix: &str, known: &[String]) -> String {
    match known {
        [] => "no such label: the registry has none".to_owned(),
        known => {
            let known: Vec<String> = known.iter().map(|name| format!("`{prefix}{name}`")).collect();
            format!("one of {}", known.join(", "))
        }
    }
}

fn did_you_mean(prefix: &str, asked: &str, known: &[String]) -> String {
    known
        .iter()
        .map(|name| (strsim::jaro_winkler(asked, name), name))
        .filter(|(similarity, _)| *similarity > 0.8)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, name)| format!(" Did you mean `{prefix}{name}`?"))
        .unwrap_or_default()
}
