//! From the texts of a registry's files to a [`Registry`], or to all their faults at once.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use super::agent::{Context, PromptTexts, agent};
use super::astra::{Settings, settings};
use super::fault::{Fault, Findings, Place, Rule, Severity, quoted_list};
use super::field::Field;
use super::files::{AgentFile, AstraFile};
use super::forms::repository_glob;
use super::{Agent, Registry, RegistryStamp, Status, reader, yaml};

/// The settings' file.
const ASTRA: &str = "astra.yaml";
/// Where agents are.
const AGENTS: &str = "agents/";
/// Where prompts are.
const PROMPTS: &str = "prompts/";

/// The files of a registry as they were found.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `astra.yaml`, `vault.age` and everything below `agents/` and `prompts/`, in any order.
    pub files: Vec<SourceFile>,
    /// Committer time of the registry's commit, in seconds; 0 = outside Git or with uncommitted changes.
    pub ordinal: i64,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Path within the registry, with `/`.
    pub path: String,
    /// What is in it.
    pub content: Content,
}

/// What is in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Its bytes.
    Bytes(Vec<u8>),
    /// A symbolic link, which was not followed: it could lead out of the registry.
    Link,
    /// More bytes than a registry file may have.
    TooLarge {
        /// The most that it may have.
        limit: u64,
    },
    /// It could not be read.
    Unreadable {
        /// Why.
        reason: String,
    },
}

impl Sources {
    /// The registry's hash: `sha256:` over all files in the order of their paths, for each the path,
    /// a zero byte, the content's length in decimal, a zero byte and the content.
    pub fn hash(&self) -> String {
        let mut files: Vec<(&str, &[u8])> = self
            .files
            .iter()
            .map(|file| match &file.content {
                Content::Bytes(bytes) => (file.path.as_str(), bytes.as_slice()),
                _ => (file.path.as_str(), [].as_slice()),
            })
            .collect();
        files.sort_unstable();
        let mut hash = Sha256::new();
        for (path, content) in files {
            hash.update(path.as_bytes());
            hash.update([0]);
            hash.update(content.len().to_string().as_bytes());
            hash.update([0]);
            hash.update(content);
        }
        format!("sha256:{}", hex::encode(hash.finalize()))
    }

    /// The text of a file, for excerpts.
    pub fn text(&self, path: &str) -> Option<&str> {
        match &self.files.iter().find(|file| file.path == path)?.content {
            Content::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }
}

/// A registry that can be used.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// The registry.
    pub registry: Registry,
    /// What somebody should look at all the same.
    pub warnings: Vec<Fault>,
}

/// An agent and where its file says what it says.
struct Listed<'a> {
    agent: Option<Agent>,
    file: AgentFile,
    findings: Findings<'a>,
}

/// Checks all files and makes a registry of them; otherwise all faults, in the order of files and lines.
pub fn parse(sources: &Sources) -> Result<Parsed, Vec<Fault>> {
    let mut files: Vec<&SourceFile> = sources.files.iter().collect();
    files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    let mut faults = Vec::new();
    let mut texts: BTreeMap<&str, Option<&str>> = BTreeMap::new();
    for file in files {
        let findings = Findings::new(&file.path);
        texts.insert(&file.path, text_of(file, &findings));
        faults.extend(findings.into_faults());
    }
    let prompts: PromptTexts<'_> = texts
        .iter()
        .filter(|(path, _)| path.starts_with(PROMPTS))
        .map(|(path, text)| (*path, *text))
        .collect();
    let findings = Findings::new(ASTRA);
    let settings = read_settings(&texts, &findings);
    let context = Context { settings: &settings, prompts: &prompts };
    let listed = read_agents(&texts, &context, &mut faults);
    check_accounts(&listed);
    check_repositories(&listed, &settings);
    // Nobody knows what a faulty agent is employed for and which prompts it uses.
    let unread = |fault: &Fault| fault.severity == Severity::Error && fault.file.starts_with(AGENTS);
    if listed.iter().all(|entry| entry.agent.is_some()) && !faults.iter().any(unread) {
        check_roles(&listed, &settings, &findings);
        faults.extend(unused_prompts(&listed, &prompts));
    }
    faults.extend(findings.into_faults());
    let mut agents = BTreeMap::new();
    for entry in listed {
        faults.extend(entry.findings.into_faults());
        agents.extend(entry.agent.map(|agent| (agent.name.clone(), agent)));
    }
    faults.sort_by(|a, b| (&a.file, a.place, a.rule, &a.cause).cmp(&(&b.file, b.place, b.rule, &b.cause)));
    let stamp = RegistryStamp { ordinal: sources.ordinal, hash: sources.hash() };
    let usable = faults.iter().all(|fault| fault.severity == Severity::Warning);
    match assemble(stamp, settings, agents) {
        Some(registry) if usable => Ok(Parsed { registry, warnings: faults }),
        _ => Err(faults),
    }
}

fn assemble(
    stamp: RegistryStamp,
    settings: Settings,
    agents: BTreeMap<crate::domain::name::AgentName, Agent>,
) -> Option<Registry> {
    Some(Registry {
        stamp,
        executor: settings.executor,
        plane: settings.plane?,
        projects: settings.projects?,
        roles: settings.roles?,
        models: settings.models?,
        states: settings.states?,
        labels: settings.labels?,
        max_attempts: settings.max_attempts?,
        limits: settings.limits?,
        kubernetes: settings.kubernetes?,
        run_log: settings.run_log?,
        agents,
    })
}

/// A file's text. `vault.age` is none and is only hashed.
fn text_of<'a>(file: &'a SourceFile, findings: &Findings<'_>) -> Option<&'a str> {
    match &file.content {
        Content::Bytes(_) if file.path == "vault.age" => None,
        Content::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Some(text),
            Err(error) => {
                let line = 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
                let cause = format!("line {line} has bytes that are not UTF-8");
                findings.of_file(Rule::Files, cause, "save the file as UTF-8");
                None
            }
        },
        Content::Link => {
            let cause = "this is a symbolic link, and links are not followed";
            findings.of_file(Rule::Files, cause, "put the file itself here");
            None
        }
        Content::TooLarge { limit } => {
            let cause = format!("this file is larger than {} KiB", limit / 1024);
            findings.of_file(Rule::Files, cause, "shorten it");
            None
        }
        Content::Unreadable { reason } => {
            findings.of_file(Rule::Files, format!("this file cannot be read: {reason}"), "make it readable");
            None
        }
    }
}

fn read_settings(texts: &BTreeMap<&str, Option<&str>>, findings: &Findings<'_>) -> Settings {
    let text = match texts.get(ASTRA) {
        None => {
            findings.of_file(
                Rule::Files,
                "there is no astra.yaml",
                "make one, or give the registry's directory with --registry",
            );
            return Settings::default();
        }
        Some(text) => *text,
    };
    text.and_then(|text| yaml::parse(text, findings))
        .and_then(|root| reader::read::<AstraFile>(&root, findings))
        .map_or_else(Settings::default, |file| settings(&file, findings))
}

fn read_agents<'a>(
    texts: &BTreeMap<&'a str, Option<&str>>,
    context: &Context<'_>,
    faults: &mut Vec<Fault>,
) -> Vec<Listed<'a>> {
    let mut listed = Vec::new();
    for (path, text) in texts.iter().filter(|(path, _)| path.starts_with(AGENTS)) {
        let findings = Findings::new(path);
        let is_agent = path.ends_with(".yaml") && !path[AGENTS.len()..].contains('/');
        if !is_agent {
            let cause = "this file is not read: agents are in agents/NAME.yaml";
            // Another ending or a subdirectory is an agent that somebody would miss.
            if path.ends_with(".yaml") || path.ends_with(".yml") {
                findings.of_file(Rule::FileName, cause, "rename it to agents/NAME.yaml");
            } else {
                findings.file_warning(Rule::Unused, cause, "move it elsewhere");
            }
        }
        let file = text
            .filter(|_| is_agent)
            .and_then(|text| yaml::parse(text, &findings))
            .and_then(|root| reader::read::<AgentFile>(&root, &findings));
        match file {
            Some(file) => {
                let agent = agent(&file, context, &findings);
                listed.push(Listed { agent, file, findings });
            }
            None => faults.extend(findings.into_faults()),
        }
    }
    listed
}

/// Names and accounts belong to one agent each; the first file that is named after its agent keeps them.
fn check_accounts(listed: &[Listed<'_>]) {
    let named_after = |entry: &&Listed<'_>| {
        let name = entry.file.name.get().map_or("", String::as_str);
        entry.findings.file == format!("{AGENTS}{name}.yaml")
    };
    let (named, misnamed): (Vec<_>, Vec<_>) = listed.iter().partition(named_after);
    let mut owners: BTreeMap<(&str, String), String> = BTreeMap::new();
    for Listed { file, findings, .. } in named.into_iter().chain(misnamed) {
        let accounts = file.accounts.get();
        let claims = [
            ("agent name", Some(&file.name)),
            ("GitHub account", accounts.map(|accounts| &accounts.github)),
            ("Plane account", accounts.and_then(|accounts| accounts.plane.as_ref())),
        ];
        for (what, field) in claims {
            let Some((field, value)) = field.and_then(|field| field.get().map(|value| (field, value))) else {
                continue;
            };
            // Both services compare without regard to case.
            match owners.entry((what, value.to_lowercase())) {
                std::collections::btree_map::Entry::Vacant(entry) => {
                    entry.insert(findings.file.to_owned());
                }
                std::collections::btree_map::Entry::Occupied(entry) => findings.error(
                    Rule::Duplicate,
                    field.at,
                    format!("{what} `{value}` is already that of {}", entry.get()),
                    "give each agent its own",
                ),
            }
        }
    }
}

/// Each pattern should match a mapped repository; without any, no task can reach the agent.
fn check_repositories(listed: &[Listed<'_>], settings: &Settings) {
    let Some(projects) = &settings.projects else { return };
    let mapped: BTreeSet<String> = projects.values().map(|project| project.repository.to_string()).collect();
    let known: Vec<&str> = mapped.iter().map(String::as_str).collect();
    let cure = format!("correct it, or map a project in astra.yaml; mapped: {}", quoted_list(&known));
    // Most agents share a few patterns, and compiling one takes longer than matching it.
    let mut verdicts: BTreeMap<&str, bool> = BTreeMap::new();
    for Listed { file, findings, .. } in listed {
        let Some(fields) = file.repositories.get() else { continue };
        let mut unmatched = Vec::new();
        for field in fields {
            let Some(pattern) = field.get() else { continue };
            if !*verdicts.entry(pattern).or_insert_with(|| matches_any(pattern, &known)) {
                unmatched.push((field, pattern));
            }
        }
        let never = unmatched.len() == fields.len();
        let consequence = if never { ", so this agent can never be chosen" } else { "" };
        for (field, pattern) in unmatched {
            let cause = format!("`{pattern}` matches no repository of the mapped projects{consequence}");
            findings.error(Rule::UnmatchedRepository, field.at, cause, &cure);
        }
    }
}

/// A pattern that is none was reported where it is.
fn matches_any(pattern: &str, repositories: &[&str]) -> bool {
    repository_glob(pattern).map_or(true, |glob| {
        let matcher = glob.compile_matcher();
        repositories.iter().any(|repository| matcher.is_match(repository))
    })
}

/// Warns of roles whose tasks would wait for ever.
fn check_roles(listed: &[Listed<'_>], settings: &Settings, findings: &Findings<'_>) {
    for (role, at) in &settings.role_places {
        let staffed = listed
            .iter()
            .filter_map(|entry| entry.agent.as_ref())
            .any(|agent| agent.role == *role && agent.status == Status::Active);
        if !staffed {
            let cause = format!("no active agent has the role `{role}`, so its tasks would wait for ever");
            findings.warning(Rule::Unused, *at, cause, "activate or add an agent, or remove the role");
        }
    }
}

fn unused_prompts(listed: &[Listed<'_>], prompts: &PromptTexts<'_>) -> Vec<Fault> {
    let mut unused: BTreeSet<&str> = prompts.keys().copied().collect();
    for prompt in listed.iter().filter_map(|entry| entry.file.prompt.get()) {
        let guardrails = prompt.guardrails.as_ref().and_then(Field::get);
        for field in std::iter::once(&prompt.personality).chain(guardrails.into_iter().flatten()) {
            if let Some(path) = field.get() {
                unused.remove(path.as_str());
            }
        }
    }
    unused
        .into_iter()
        .map(|path| Fault {
            file: path.to_owned(),
            place: Some(Place::TOP),
            severity: Severity::Warning,
            rule: Rule::Unused,
            cause: "no agent uses this prompt".to_owned(),
            cure: "name it in an agent's file, or remove it".to_owned(),
        })
        .collect()
}
