//! Which agent takes a task: filter, then score. Every candidate keeps its verdict, so that the
//! choice can be shown as a table.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet};

use super::name::{AgentName, TaskKey};
use super::registry::{Agent, RuntimeKind, Status};
use super::task::Task;

#[cfg(test)]
mod tests;
mod workforce;

pub use workforce::Workforce;
use workforce::{Member, Wanted};

/// The filters, in the order in which they are asked; a candidate stops at the first that it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Gate {
    /// It has the role that the label asks for.
    Role,
    /// If the item is assigned to an agent's Plane member, it is that agent.
    Assignee,
    /// Its status is `active`.
    Status,
    /// It may work in the repository.
    Repository,
    /// It may use the model that the label asks for.
    Model,
    /// What it needs is on the machine that would carry out its run; of a cluster this is not asked.
    Equipment,
    /// It runs fewer tasks than it may, and its namespace can be read.
    Capacity,
}

impl Gate {
    /// All of them, in order.
    pub const ALL: [Self; 7] = [
        Self::Role,
        Self::Assignee,
        Self::Status,
        Self::Repository,
        Self::Model,
        Self::Equipment,
        Self::Capacity,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Role => "role",
            Self::Assignee => "assignee",
            Self::Status => "status",
            Self::Repository => "repository",
            Self::Model => "model",
            Self::Equipment => "equipment",
            Self::Capacity => "capacity",
        }
    }
}

/// Where a task asks for a skill, the weakest source first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SkillSource {
    /// A whole-word mention in title or description.
    Mention,
    /// The project's skills in `astra.yaml`.
    Project,
    /// The `Skills:` line.
    Line,
    /// A `skill:x` label.
    Label,
}

impl SkillSource {
    /// What a skill asked for in this way counts.
    pub fn points(self) -> u32 {
        match self {
            Self::Mention => 1,
            Self::Project => 2,
            Self::Line => 4,
            Self::Label => 8,
        }
    }

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mention => "mention",
            Self::Project => "project",
            Self::Line => "line",
            Self::Label => "label",
        }
    }
}

/// A skill that a candidate has and the task asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ScorePart<'w> {
    /// The skill, as the agent's file spells it.
    pub skill: &'w str,
    /// Its strongest source.
    pub source: SkillSource,
}

/// What counts against the agents' capacity right now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Running {
    counts: BTreeMap<AgentName, u32>,
    unreadable: BTreeSet<AgentName>,
}

impl Running {
    /// Counts one more task against an agent.
    pub fn add(&mut self, agent: &AgentName) {
        match self.counts.get_mut(agent) {
            Some(count) => *count += 1,
            None => {
                self.counts.insert(agent.clone(), 1);
            }
        }
    }

    /// Notes that an agent's namespace could not be read: it has no free slot.
    pub fn set_unreadable(&mut self, agent: &AgentName) {
        self.unreadable.insert(agent.clone());
    }

    /// How many tasks count against an agent.
    pub fn of(&self, agent: &AgentName) -> u32 {
        self.counts.get(agent).copied().unwrap_or(0)
    }

    /// Whether an agent's namespace could be read.
    pub fn is_readable(&self, agent: &AgentName) -> bool {
        self.unreadable.is_empty() || !self.unreadable.contains(agent)
    }
}

/// One agent, weighed for one task.
#[derive(Debug, Clone)]
pub struct Candidate<'w> {
    /// The agent.
    pub agent: &'w Agent,
    /// The first gate that it fails; `None` = it could take the task.
    pub failed: Option<Gate>,
    /// What its score is made of; empty for another role.
    pub parts: Vec<ScorePart<'w>>,
    /// How many tasks count against its capacity.
    pub running: u32,
    /// Its namespace could be read.
    pub readable: bool,
    /// What it needs and does not find on this machine.
    pub lacks: Option<&'w str>,
    /// It is the one.
    pub chosen: bool,
}

impl Candidate<'_> {
    /// The sum of its parts.
    pub fn score(&self) -> u32 {
        self.parts.iter().map(|part| part.source.points()).sum()
    }
}

/// Every agent, weighed for one task.
#[derive(Debug, Clone)]
pub struct Match<'w> {
    /// All agents of the registry, in the order of their names.
    pub candidates: Vec<Candidate<'w>>,
    /// The one that takes the task; `None` = nobody can now.
    pub chosen: Option<&'w Agent>,
}

/// Weighs every agent for a task, with the load that is given.
pub fn choose<'w>(task: &Task, workforce: &'w Workforce, running: &Running) -> Match<'w> {
    let wanted = workforce.wanted(task);
    let mut candidates = Vec::with_capacity(workforce.len());
    let mut best: Option<(usize, u32, u64)> = None;
    for (index, (agent, member)) in workforce.members().enumerate() {
        let candidate = weigh(task, agent, member, index, &wanted, running);
        if candidate.failed.is_none() {
            let rank = (candidate.score(), tie_break(&task.key, member));
            let beats = best.is_none_or(|(chosen, score, tie)| {
                compare((rank.0, &candidate, rank.1), (score, &candidates[chosen], tie)) == Ordering::Less
            });
            if beats {
                best = Some((index, rank.0, rank.1));
            }
        }
        candidates.push(candidate);
    }
    let chosen = best.map(|(index, ..)| {
        candidates[index].chosen = true;
        candidates[index].agent
    });
    Match { candidates, chosen }
}

/// Higher score first, then lower load, then the stable hash.
fn compare(one: (u32, &Candidate, u64), other: (u32, &Candidate, u64)) -> Ordering {
    // running / max, compared without division.
    let load = |this: &Candidate, that: &Candidate| {
        u64::from(this.running) * u64::from(that.agent.max_concurrent_tasks)
    };
    Reverse(one.0)
        .cmp(&Reverse(other.0))
        .then_with(|| load(one.1, other.1).cmp(&load(other.1, one.1)))
        .then_with(|| one.2.cmp(&other.2))
        .then_with(|| one.1.agent.name.cmp(&other.1.agent.name))
}

fn weigh<'w>(
    task: &Task,
    agent: &'w Agent,
    member: &'w Member,
    index: usize,
    wanted: &Wanted,
    running: &Running,
) -> Candidate<'w> {
    let is_of_role = agent.role == task.role;
    let readable = running.is_readable(&agent.name);
    let load = running.of(&agent.name);
    let failed = if !is_of_role {
        Some(Gate::Role)
    } else if !wanted.assigned.is_empty() && !wanted.assigned.contains(&index) {
        Some(Gate::Assignee)
    } else if agent.status != Status::Active {
        Some(Gate::Status)
    } else if !member.patterns.iter().any(|pattern| wanted.patterns.contains(pattern)) {
        Some(Gate::Repository)
    } else if !allows_model(agent, task.model.as_deref()) {
        Some(Gate::Model)
    } else if member.lacks.is_some() {
        Some(Gate::Equipment)
    } else if !readable || load >= agent.max_concurrent_tasks {
        Some(Gate::Capacity)
    } else {
        None
    };
    let parts = if is_of_role { wanted.parts(member) } else { Vec::new() };
    let lacks = member.lacks.as_deref();
    Candidate { agent, failed, parts, running: load, readable, lacks, chosen: false }
}

fn allows_model(agent: &Agent, alias: Option<&str>) -> bool {
    alias.is_none_or(|alias| match &agent.runtime.kind {
        RuntimeKind::Command { .. } => false,
        RuntimeKind::ClaudeCode(settings) | RuntimeKind::Codex(settings) => {
            settings.models.iter().any(|allowed| allowed == alias)
        }
    })
}

/// A stable hash of (task, agent): the same on every machine and in every version.
fn tie_break(task: &TaskKey, member: &Member) -> u64 {
    // FNV-1a of the task's key, on top of the agent's, then a finaliser (splitmix64), because
    // FNV alone leaves neighbouring keys in neighbouring places.
    let mut hash = fnv1a(member.name_hash, task.identifier().as_bytes());
    hash = fnv1a(hash, &task.sequence().to_be_bytes());
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// FNV-1a, 64 bits, going on from `hash`.
fn fnv1a(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
