//! The registry's agents, prepared once so that each of many decisions is quick: skills as numbers,
//! repository patterns compiled, mails looked up.

use std::collections::BTreeMap;
use std::sync::Arc;

use globset::{GlobSet, GlobSetBuilder};

use super::{ScorePart, SkillSource, fnv1a};
use crate::domain::name::{AgentName, Repository};
use crate::domain::registry::{Agent, Registry, repository_glob};
use crate::domain::task::Task;

/// Start value of FNV-1a, 64 bits.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

/// A registry, prepared for matching.
#[derive(Debug, Clone)]
pub struct Workforce {
    registry: Arc<Registry>,
    /// In the order of `registry.agents`.
    members: Vec<Member>,
    /// All distinct repository patterns; a member names them by place.
    patterns: GlobSet,
    /// Number of a skill by its words, joined by spaces.
    skills: BTreeMap<String, usize>,
    /// The skills that start with a word, each with its further words.
    mentions: BTreeMap<String, Vec<(usize, Vec<String>)>>,
    /// Place of the agent with a Plane mail address (lower case).
    mails: BTreeMap<String, usize>,
}

/// What matching needs to know of one agent.
#[derive(Debug, Clone)]
pub(super) struct Member {
    /// Numbers of its skills, each with its spelling, each once.
    skills: Vec<(usize, String)>,
    /// Places of its repository patterns.
    pub(super) patterns: Vec<usize>,
    /// FNV-1a of its name.
    pub(super) name_hash: u64,
    /// What it needs and does not find on this machine.
    pub(super) lacks: Option<String>,
}

/// What one task asks of the workforce.
pub(super) struct Wanted {
    /// By number of the skill, its strongest source.
    sources: Vec<Option<SkillSource>>,
    /// Places of the patterns that the repository matches.
    pub(super) patterns: Vec<usize>,
    /// Places of the agents that the item is assigned to.
    pub(super) assigned: Vec<usize>,
}

impl Workforce {
    /// Prepares a registry. A pattern that is none matches nothing; `agents check` reports it.
    pub fn new(registry: Arc<Registry>) -> Self {
        let mut skills = BTreeMap::new();
        let mut mentions: BTreeMap<String, Vec<(usize, Vec<String>)>> = BTreeMap::new();
        let mut patterns: BTreeMap<&str, usize> = BTreeMap::new();
        let mut globs = GlobSetBuilder::new();
        let mut places = 0;
        let mut members = Vec::with_capacity(registry.agents.len());
        let mut mails = BTreeMap::new();
        for (index, agent) in registry.agents.values().enumerate() {
            let mut member = Member {
                skills: Vec::new(),
                patterns: Vec::new(),
                name_hash: fnv1a(FNV_OFFSET, agent.name.as_str().as_bytes()),
                lacks: None,
            };
            for skill in &agent.skills {
                let number = number_of(skill, &mut skills, &mut mentions);
                if !member.skills.iter().any(|(known, _)| *known == number) {
                    member.skills.push((number, skill.clone()));
                }
            }
            for pattern in &agent.repositories {
                if let Some(&place) = patterns.get(pattern.as_str()) {
                    member.patterns.push(place);
                } else if let Ok(glob) = repository_glob(pattern) {
                    globs.add(glob);
                    patterns.insert(pattern, places);
                    member.patterns.push(places);
                    places += 1;
                }
            }
            if let Some(mail) = &agent.accounts.plane {
                mails.insert(mail.to_lowercase(), index);
            }
            members.push(member);
        }
        let patterns = globs.build().unwrap_or_default();
        Self { registry, members, patterns, skills, mentions, mails }
    }

    /// Notes what agents need and do not find on this machine: none of these takes a task here.
    #[must_use]
    pub fn lacking(mut self, lacks: &BTreeMap<AgentName, String>) -> Self {
        for (name, member) in self.registry.agents.keys().zip(&mut self.members) {
            member.lacks = lacks.get(name).cloned();
        }
        self
    }

    /// The registry that it was made from.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// How many agents there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are no agents.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether a project is mapped to the repository or any agent may work in it.
    pub fn knows(&self, repository: &Repository) -> bool {
        self.registry.projects.values().any(|project| project.repository == *repository)
            || self.patterns.is_match(repository.to_string())
    }

    pub(super) fn members(&self) -> impl Iterator<Item = (&Agent, &Member)> {
        self.registry.agents.values().zip(&self.members)
    }

    pub(super) fn wanted(&self, task: &Task) -> Wanted {
        let mut sources = vec![None; self.skills.len()];
        self.mark_mentions(&task.title, &mut sources);
        self.mark_mentions(&task.description, &mut sources);
        let wishes = [
            (&task.wishes.project, SkillSource::Project),
            (&task.wishes.line, SkillSource::Line),
            (&task.wishes.labels, SkillSource::Label),
        ];
        for (wished, source) in wishes {
            for number in wished.iter().filter_map(|skill| self.skills.get(&phrase(skill))) {
                sources[*number] = sources[*number].max(Some(source));
            }
        }
        Wanted {
            sources,
            patterns: self.patterns.matches(task.repository.to_string()),
            assigned: task
                .assignees
                .iter()
                .filter_map(|mail| self.mails.get(&mail.to_lowercase()).copied())
                .collect(),
        }
    }

    /// Marks the skills that a text mentions with all their words, one after the other.
    fn mark_mentions(&self, text: &str, sources: &mut [Option<SkillSource>]) {
        let text = text.to_lowercase();
        let words: Vec<&str> = words(&text).collect();
        for (place, word) in words.iter().enumerate() {
            for (number, further) in self.mentions.get(*word).into_iter().flatten() {
                let follows = words[place + 1..].iter().take(further.len());
                if follows.eq(further.iter()) {
                    sources[*number] = sources[*number].max(Some(SkillSource::Mention));
                }
            }
        }
    }
}

impl Wanted {
    /// The skills of a member that the task asks for.
    pub(super) fn parts<'w>(&self, member: &'w Member) -> Vec<ScorePart<'w>> {
        let part = |(number, skill): &'w (usize, String)| {
            self.sources[*number].map(|source| ScorePart { skill, source })
        };
        member.skills.iter().filter_map(part).collect()
    }
}

/// The number of a skill; a new one is also made known to the search for mentions.
fn number_of(
    skill: &str,
    skills: &mut BTreeMap<String, usize>,
    mentions: &mut BTreeMap<String, Vec<(usize, Vec<String>)>>,
) -> usize {
    let phrase = phrase(skill);
    if let Some(number) = skills.get(&phrase) {
        return *number;
    }
    let number = skills.len();
    let mut parts: Vec<String> = words(&phrase).map(str::to_owned).collect();
    if !parts.is_empty() {
        let first = parts.remove(0);
        mentions.entry(first).or_default().push((number, parts));
    }
    skills.insert(phrase, number);
    number
}

/// A skill as its words in lower case: `database-migrations` and `Database migrations` are one skill.
fn phrase(skill: &str) -> String {
    let lower = skill.to_lowercase();
    let phrase = words(&lower).collect::<Vec<_>>().join(" ");
    if phrase.is_empty() { lower } else { phrase }
}

/// The words of a text; `+` and `#` belong to them (C++, C#).
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '+' || c == '#')).filter(|word| !word.is_empty())
}
