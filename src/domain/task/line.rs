//! The task lines of a description: `Repository:`, `Base:`, `Pull request:` and `Skills:`, each
//! alone on a line, in any case. Everything else is text.

use super::fault::TaskFault;
use crate::domain::name::{Branch, Repository};
use crate::domain::registry::Project;

const REPOSITORY: &str = "Repository";
const BASE: &str = "Base";
const PULL_REQUEST: &str = "Pull request";
const SKILLS: &str = "Skills";

/// A pull request, as a task names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PullRequest {
    /// Its number.
    pub(super) number: u64,
    /// Where it is, if it was given as a URL.
    pub(super) repository: Option<Repository>,
}

/// What the task lines of one description say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct TaskLines {
    /// `Repository: owner/name`
    repository: Option<Repository>,
    /// `Base: branch`
    pub(super) base: Option<Branch>,
    /// `Pull request: …`, not yet read: only a reviewer's matters.
    pull_request: Option<String>,
    /// All `Skills:` lines together, in lower case, each skill once.
    pub(super) skills: Vec<String>,
}

impl TaskLines {
    /// Reads a description. A line with an empty value says nothing: it is a template's.
    pub(super) fn read(description: &str, faults: &mut Vec<TaskFault>) -> Self {
        let mut repository = None;
        let mut base = None;
        let mut pull_request = None;
        let mut skills: Vec<String> = Vec::new();
        for (name, value) in description.lines().filter_map(task_line) {
            match name {
                REPOSITORY => once(name, &mut repository, value, faults),
                BASE => once(name, &mut base, value, faults),
                PULL_REQUEST => once(name, &mut pull_request, value, faults),
                _ => {
                    for skill in value.split(',').map(|skill| skill.trim().to_lowercase()) {
                        if !skill.is_empty() && !skills.contains(&skill) {
                            skills.push(skill);
                        }
                    }
                }
            }
        }
        Self {
            repository: legal(REPOSITORY, repository, "owner/name of a repository", faults),
            base: legal(BASE, base, "the name of a branch", faults),
            pull_request,
            skills,
        }
    }

    /// The pull request of the line, else the one that the item links to.
    pub(super) fn pull_request(&self, links: &[String]) -> Result<PullRequest, TaskFault> {
        if let Some(value) = &self.pull_request {
            return pull_request(value).ok_or_else(|| TaskFault::IllegalLine {
                line: PULL_REQUEST,
                value: value.clone(),
                rule: "`#12` or the URL of a pull request",
            });
        }
        let mut linked = links.iter().filter_map(|link| Some((link, pull_request_url(link)?)));
        let Some((link, pull)) = linked.next() else { return Err(TaskFault::NoPullRequest) };
        match linked.find(|(_, other)| *other != pull) {
            Some((other, _)) => Err(TaskFault::SeveralPullRequests { links: [link.clone(), other.clone()] }),
            None => Ok(pull),
        }
    }

    /// Where the task is worked on: the line, else where the pull request is, else the project's.
    pub(super) fn repository(
        &self,
        project: &Project,
        of_pull_request: Option<&Repository>,
    ) -> Result<Repository, TaskFault> {
        match (&self.repository, of_pull_request) {
            (Some(line), Some(pull)) if line != pull => {
                Err(TaskFault::PullRequestElsewhere { pull_request: pull.clone(), repository: line.clone() })
            }
            (Some(repository), _) | (None, Some(repository)) => Ok(repository.clone()),
            (None, None) => Ok(project.repository.clone()),
        }
    }
}

/// The name and value of a task line; `None` for any other text.
fn task_line(line: &str) -> Option<(&'static str, &str)> {
    let (name, value) = bare(line).split_once(':')?;
    let name = name.trim_end();
    let known = [REPOSITORY, BASE, PULL_REQUEST, SKILLS];
    let name = known.into_iter().find(|known| known.eq_ignore_ascii_case(name))?;
    let value = without_link_target(value.trim());
    (!value.is_empty()).then_some((name, value))
}

/// The line without space around it and without the bullet that a list item's text is shown with.
fn bare(line: &str) -> &str {
    let line = line.trim();
    line.strip_prefix("* ").or_else(|| line.strip_prefix("- ")).unwrap_or(line).trim_start()
}

/// Drops the ` (https://…)` that a link's target is shown as.
fn without_link_target(value: &str) -> &str {
    match value.strip_suffix(')').and_then(|value| value.split_once(" (http")) {
        Some((text, rest)) if !rest.contains([' ', '(', ')']) => text.trim_end(),
        _ => value,
    }
}

/// Remembers the value of a line that may stand there once.
fn once(name: &'static str, known: &mut Option<String>, value: &str, faults: &mut Vec<TaskFault>) {
    match known {
        Some(first) if first != value => {
            faults.push(TaskFault::TwoValues { line: name, values: [first.clone(), value.to_owned()] });
        }
        _ => *known = Some(value.to_owned()),
    }
}

/// Checks a value; an illegal one is a fault.
fn legal<T: std::str::FromStr>(
    line: &'static str,
    value: Option<String>,
    rule: &'static str,
    faults: &mut Vec<TaskFault>,
) -> Option<T> {
    let value = value?;
    value.parse().map_err(|_| faults.push(TaskFault::IllegalLine { line, value, rule })).ok()
}

/// `#12`, `12` or a URL.
fn pull_request(value: &str) -> Option<PullRequest> {
    let number = value.strip_prefix('#').unwrap_or(value);
    positive(number)
        .map(|number| PullRequest { number, repository: None })
        .or_else(|| pull_request_url(value))
}

/// `https://HOST/owner/name/pull/12`, with whatever may follow.
fn pull_request_url(url: &str) -> Option<PullRequest> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let path = rest.split(['?', '#']).next()?;
    let mut parts = path.split('/').skip(1);
    let (owner, name) = (parts.next()?, parts.next()?);
    if parts.next()? != "pull" {
        return None;
    }
    let number = positive(parts.next()?)?;
    Some(PullRequest { number, repository: Some(format!("{owner}/{name}").parse().ok()?) })
}

/// A number from 1, in plain digits.
fn positive(digits: &str) -> Option<u64> {
    let plain = digits.bytes().all(|digit| digit.is_ascii_digit());
    digits.parse().ok().filter(|number| plain && *number > 0)
}
