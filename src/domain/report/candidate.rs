//! One agent of a decision, in words.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::matching::{Candidate, Gate, SkillSource};
use crate::domain::registry::Status;
use crate::domain::task::Task;

/// One agent, weighed for the task.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct CandidateReport {
    /// The agent.
    pub agent: String,
    /// The gates that it came to, in their order; at most the last one failed.
    pub gates: Vec<GateReport>,
    /// How well its skills fit.
    pub score: ScoreReport,
    /// How busy it is.
    pub load: LoadReport,
    /// It is the one.
    pub chosen: bool,
}

/// One gate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct GateReport {
    /// `role`, `assignee`, `status`, `repository`, `model`, `equipment` (only of an agent that lacks
    /// something on this machine) or `capacity`.
    pub gate: String,
    /// It goes on from here.
    pub pass: bool,
    /// Why, or why not.
    pub why: String,
}

/// How well an agent's skills fit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct ScoreReport {
    /// The sum.
    pub total: u32,
    /// What it is made of.
    pub parts: Vec<ScorePartReport>,
}

/// One skill that the task asks for and the agent has.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct ScorePartReport {
    /// The skill.
    pub skill: String,
    /// Where the task asks for it: `label`, `line`, `project` or `mention`.
    pub source: String,
    /// What that counts.
    pub points: u32,
}

/// How busy an agent is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct LoadReport {
    /// Tasks that count against its capacity.
    pub running: u32,
    /// Tasks that it may work on at once.
    pub max: u32,
}

impl CandidateReport {
    /// One candidate of a decision about a task.
    pub fn new(candidate: &Candidate, task: &Task) -> Self {
        let asked =
            Gate::ALL.into_iter().take_while(|gate| candidate.failed.is_none_or(|failed| *gate <= failed));
        let asked = asked.filter(|gate| *gate != Gate::Equipment || candidate.lacks.is_some());
        Self {
            agent: candidate.agent.name.to_string(),
            gates: asked.map(|gate| GateReport::new(gate, candidate, task)).collect(),
            score: ScoreReport {
                total: candidate.score(),
                parts: candidate
                    .parts
                    .iter()
                    .map(|part| ScorePartReport {
                        skill: part.skill.to_owned(),
                        source: part.source.name().to_owned(),
                        points: part.source.points(),
                    })
                    .collect(),
            },
            load: LoadReport { running: candidate.running, max: candidate.agent.max_concurrent_tasks },
            chosen: candidate.chosen,
        }
    }

    /// The gate that stopped it.
    pub fn failed(&self) -> Option<&GateReport> {
        self.gates.iter().find(|gate| !gate.pass)
    }

    /// Why it was chosen or not, in a few words.
    pub fn why(&self) -> String {
        match self.failed() {
            Some(gate) => gate.why.clone(),
            None if self.chosen => format!("chosen, with a score of {}", self.score.total),
            None => format!("fits as well, with a score of {}", self.score.total),
        }
    }
}

impl GateReport {
    fn new(gate: Gate, candidate: &Candidate, task: &Task) -> Self {
        let pass = candidate.failed != Some(gate);
        let agent = candidate.agent;
        let not = if pass { "" } else { " not" };
        let why = match gate {
            Gate::Role => format!("has the role {}", agent.role),
            Gate::Assignee if !pass => "the item is assigned to another agent".to_owned(),
            Gate::Assignee => match &agent.accounts.plane {
                Some(mail) if task.assignees.iter().any(|one| one.to_lowercase() == mail.to_lowercase()) => {
                    "the item is assigned to it".to_owned()
                }
                _ => "the item is assigned to no agent".to_owned(),
            },
            Gate::Status => match agent.status {
                Status::Active => "active".to_owned(),
                Status::Standby => "on standby".to_owned(),
                Status::Inactive => "inactive".to_owned(),
            },
            Gate::Repository => format!("may{not} work in {}", task.repository),
            Gate::Model => match &task.model {
                Some(model) => format!("may{not} use the model {model}"),
                None => "no model is asked for".to_owned(),
            },
            Gate::Equipment => format!("needs {}", candidate.lacks.unwrap_or("nothing")),
            Gate::Capacity if !candidate.readable => "its namespace could not be read".to_owned(),
            Gate::Capacity => {
                format!("works on {} of at most {}", candidate.running, agent.max_concurrent_tasks)
            }
        };
        Self { gate: gate.name().to_owned(), pass, why }
    }
}

/// Why the chosen agent got the task: the first thing that set it apart from the next best.
pub(super) fn why_chosen(candidates: &[Candidate]) -> String {
    let fits = |candidate: &&Candidate| candidate.failed.is_none();
    let Some(chosen) = candidates.iter().find(|candidate| candidate.chosen) else {
        return "no agent was chosen".to_owned();
    };
    let name = &chosen.agent.name;
    let others = || candidates.iter().filter(fits).filter(|candidate| !candidate.chosen);
    let score = chosen.score();
    if others().next().is_none() {
        format!("{name} is the only agent that fits and is free")
    } else if others().all(|other| other.score() < score) {
        format!("{name} has the skills that fit best: {}", skills(chosen))
    } else if others()
        .filter(|other| other.score() == score)
        .all(|other| load(chosen, other) < load(other, chosen))
    {
        format!("{name} is the least busy of the agents that fit best")
    } else {
        format!("{name} fits as well as others, and the task's key breaks the tie")
    }
}

/// running / max, to be compared without division.
fn load(this: &Candidate, that: &Candidate) -> u64 {
    u64::from(this.running) * u64::from(that.agent.max_concurrent_tasks)
}

fn skills(candidate: &Candidate) -> String {
    let parts = candidate.parts.iter();
    let parts: Vec<String> = parts.map(|part| format!("{} ({})", part.skill, words(part.source))).collect();
    parts.join(", ")
}

fn words(source: SkillSource) -> &'static str {
    match source {
        SkillSource::Label => "a label",
        SkillSource::Line => "a Skills line",
        SkillSource::Project => "the project",
        SkillSource::Mention => "a mention",
    }
}
