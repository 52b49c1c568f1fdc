//! A task: what a work item asks for, in the registry's words. Everything that a person wrote into
//! the item is checked here, and everything that is wrong is said at once.

use super::name::{Branch, ItemId, ProjectId, Repository, Role, TaskKey};
use super::registry::{Project, Registry};
use super::work_item::{Priority, WorkItem};

mod fault;
mod line;
#[cfg(test)]
pub(crate) mod tests;

pub use fault::{Refusal, TaskFault};
use line::TaskLines;

/// The role that judges a pull request instead of changing anything.
pub const REVIEWER: &str = "reviewer";

/// A work item that can be carried out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Task {
    /// What people call it, `AST-12`.
    pub key: TaskKey,
    /// The work item.
    pub item: ItemId,
    /// Its project.
    pub project: ProjectId,
    /// The title; untrusted.
    pub title: String,
    /// The description as text; untrusted.
    pub description: String,
    /// The role that it asks for.
    pub role: Role,
    /// Its priority.
    pub priority: Priority,
    /// Where it is worked on.
    pub repository: Repository,
    /// The branch that the work starts from.
    pub base: Branch,
    /// The pull request to review; `None` for every role but [`REVIEWER`].
    pub pull_request: Option<u64>,
    /// The skills that it asks for, in lower case.
    pub wishes: SkillWishes,
    /// The model alias that it asks for, spelt as in `astra.yaml`.
    pub model: Option<String>,
    /// Mail addresses of the people it is assigned to.
    pub assignees: Vec<String>,
}

/// The skills that a task asks for, by source, in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct SkillWishes {
    /// From `skill:x` labels.
    pub labels: Vec<String>,
    /// From `Skills:` lines.
    pub line: Vec<String>,
    /// The project's own.
    pub project: Vec<String>,
}

impl Task {
    /// Reads a work item. A [`Refusal`] names everything that has to be changed.
    pub fn from_item(item: &WorkItem, registry: &Registry) -> Result<Self, Refusal> {
        let mut faults = Vec::new();
        let role = found(&mut faults, role(item, registry));
        let model = found(&mut faults, model(item, registry)).flatten();
        let lines = TaskLines::read(&item.description, &mut faults);
        let mapped = task_key(item, registry).zip(registry.projects.get(&item.project));
        let Some((key, project)) = mapped else {
            faults.insert(0, TaskFault::UnknownProject { project: item.project });
            return Err(Refusal { faults });
        };
        let is_review = role.as_ref().is_some_and(|role| role.as_str() == REVIEWER);
        let pull_request = is_review.then(|| found(&mut faults, lines.pull_request(&item.links))).flatten();
        let repository = found(
            &mut faults,
            lines.repository(project, pull_request.as_ref().and_then(|pull| pull.repository.as_ref())),
        );
        match (role, repository) {
            (Some(role), Some(repository)) if faults.is_empty() => Ok(Self {
                key,
                item: item.id,
                project: item.project,
                title: item.name.clone(),
                description: item.description.clone(),
                role,
                priority: item.priority,
                repository,
                base: lines.base.unwrap_or_else(|| project.base.clone()),
                pull_request: pull_request.map(|pull| pull.number),
                wishes: SkillWishes {
                    labels: asked(item, "skill:").into_iter().filter(|skill| !skill.is_empty()).collect(),
                    line: lines.skills,
                    project: lower_case_skills(project),
                },
                model,
                assignees: item.assignees.iter().map(|member| member.email.clone()).collect(),
            }),
            _ => Err(Refusal { faults }),
        }
    }
}

/// The key of an item; `None` where its project is not mapped.
pub fn task_key(item: &WorkItem, registry: &Registry) -> Option<TaskKey> {
    let project = registry.projects.get(&item.project)?;
    TaskKey::new(&project.identifier, item.sequence).ok()
}

/// The roles that an item's labels ask for: what follows `agent:`, trimmed, in lower case (ASCII
/// only: a look-alike letter stays what it is), each once.
pub fn asked_roles(item: &WorkItem) -> Vec<String> {
    asked(item, "agent:")
}

/// What follows `prefix` in the labels that start with it, trimmed, in ASCII lower case, each once.
fn asked(item: &WorkItem, prefix: &str) -> Vec<String> {
    let mut asked: Vec<String> = Vec::new();
    for label in &item.labels {
        let label = label.trim().to_ascii_lowercase();
        if let Some(rest) = label.strip_prefix(prefix).map(str::trim)
            && !asked.iter().any(|known| known == rest)
        {
            asked.push(rest.to_owned());
        }
    }
    asked
}

fn role(item: &WorkItem, registry: &Registry) -> Result<Role, TaskFault> {
    let mut asked = asked_roles(item);
    match (asked.pop(), asked.is_empty()) {
        (None, _) => Err(TaskFault::NoRole),
        (Some(role), true) => match role.parse::<Role>() {
            Ok(role) if registry.roles.contains_key(&role) => Ok(role),
            _ => Err(TaskFault::UnknownRole {
                asked: role,
                known: registry.roles.keys().map(ToString::to_string).collect(),
            }),
        },
        (Some(last), false) => {
            asked.push(last);
            Err(TaskFault::SeveralRoles { asked })
        }
    }
}

fn model(item: &WorkItem, registry: &Registry) -> Result<Option<String>, TaskFault> {
    let mut asked = asked(item, "model:");
    let Some(alias) = asked.pop() else { return Ok(None) };
    if !asked.is_empty() {
        asked.push(alias);
        return Err(TaskFault::SeveralModels { asked });
    }
    match registry.models.keys().find(|known| known.eq_ignore_ascii_case(&alias)) {
        Some(known) => Ok(Some(known.clone())),
        None => {
            Err(TaskFault::UnknownModel { asked: alias, known: registry.models.keys().cloned().collect() })
        }
    }
}

fn lower_case_skills(project: &Project) -> Vec<String> {
    project.skills.iter().map(|skill| skill.to_lowercase()).collect()
}

/// Keeps the value, or the fault.
fn found<T>(faults: &mut Vec<TaskFault>, read: Result<T, TaskFault>) -> Option<T> {
    read.map_err(|fault| faults.push(fault)).ok()
}
