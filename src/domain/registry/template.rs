//! The files of a new agent, with a comment at each key that somebody will want to change.

use std::collections::BTreeSet;

use super::super::name::{AgentName, Role};
use super::{Registry, Status};

/// A file to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFile {
    /// Path within the registry.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// GitHub's longest login.
const LONGEST_LOGIN: usize = 39;

/// An agent that is to be written.
#[derive(Debug, Clone, Copy)]
pub struct NewAgent<'a> {
    /// Its name.
    pub name: &'a AgentName,
    /// A role of the registry.
    pub role: &'a Role,
    /// Prompt files of the registry that every agent gets.
    pub guardrails: &'a [&'a str],
    /// Active: it is described by its role, so that nothing is left to fill in.
    pub status: Status,
    /// The image that it runs in on a cluster, by digest.
    pub image: Option<&'a str>,
}

/// The agent's file and its prompt.
pub fn new_agent(new: &NewAgent<'_>, registry: &Registry) -> [NewFile; 2] {
    let NewAgent { name, role, guardrails, status, image } = *new;
    let purpose = registry.roles.get(role).map(|settings| settings.description.trim_end_matches('.'));
    let purpose = purpose.unwrap_or_default();
    let (head, status, description) = match status {
        Status::Active => ("check it with `astra-dispatch agents check`.", "active  ", purpose),
        Status::Standby | Status::Inactive => (
            "check it with `astra-dispatch agents check`, and set `status: active` when it is ready.",
            "inactive",
            "Says in one line what it is good at",
        ),
    };
    let quoted = scalar(name.as_str());
    let repositories: BTreeSet<String> =
        registry.projects.values().map(|project| format!("\"{}/*\"", project.repository.owner())).collect();
    let repositories = repositories.into_iter().collect::<Vec<_>>().join(", ");
    let text = format!(
        "\
# {title}: {head}
name: {quoted}
role: {role}
trait: thorough                 # thorough | fast | creative
status: {status}                # active | standby | inactive
description: {description}
skills: []                      # such as [kotlin, database-migrations]
max_concurrent_tasks: 1         # raise it once the agent has proved itself
repositories: [{repositories}]
accounts:
  github: {login}
{plane:<31} # its Plane member: tasks assigned to it go to this agent
{runtime}prompt:
  personality: prompts/{name}.md
  guardrails: [{guardrails}]
  context: []                   # such as [\"Read ARCHITECTURE.md first\", docs/adr/]
credentials:
{vault:<31} # ends in the agent's name
  env: [{env}]
# limits: {{time: 20m}}           # within those of astra.yaml: cpu {cpu}, memory {memory}
# network: {{ports: [443], allow: [\"10.0.0.5/32:8443\"]}}
# protected_paths: [\"migrations/**\"]
",
        title = capitalised(name.as_str()),
        role = scalar(role.as_str()),
        login = scalar(&login(name)),
        runtime = runtime(registry, image),
        description = text_scalar(description),
        plane = format!("# plane: {name}@example.com"),
        vault = format!("  vault: astra/agents/{name}"),
        guardrails = guardrails.join(", "),
        env = if registry.models.is_empty() { "" } else { "ANTHROPIC_API_KEY" },
        cpu = registry.limits.cpu,
        memory = registry.limits.memory,
    );
    [
        NewFile { path: format!("agents/{name}.yaml"), text },
        NewFile { path: format!("prompts/{name}.md"), text: prompt(new, purpose) },
    ]
}

fn runtime(registry: &Registry, image: Option<&str>) -> String {
    let image = image.map_or_else(
        || "# image: …@sha256:…             # needed on a cluster".to_owned(),
        |image| format!("  image: {image}"),
    );
    let Some(model) = registry.models.keys().next() else {
        return format!(
            "\
runtime:
  kind: command
  command: [your-agent]         # a program that keeps the runtime interface
{image}
"
        );
    };
    let models: Vec<String> = registry.models.keys().map(|alias| scalar(alias)).collect();
    format!(
        "\
runtime:
  kind: claude-code             # claude-code | codex | command
{image}
  model: {model}
  models: [{models}]
  max_turns: 80
  max_cost_usd: 5
  tools: [Bash, Read, Edit, Write, Glob, Grep]
",
        model = scalar(model),
        models = models.join(", "),
    )
}

fn prompt(new: &NewAgent<'_>, purpose: &str) -> String {
    let watched = match new.status {
        Status::Active => "",
        Status::Standby | Status::Inactive => {
            "
What you watch for:

- Say here what a person in this role never lets pass.
"
        }
    };
    format!(
        "\
You are {title}, and your role is {role}. What the role is for: {purpose}.

How you work:

- Find out before you change: read what the task touches and what depends on it.
- Make the smallest change that solves the whole task, in the style of what is there.
- Check your work with the project's own tools, and say in the summary what you could not check.
{watched}",
        title = capitalised(new.name.as_str()),
        role = new.role,
    )
}

/// A GitHub login from the agent's name; the account has to be made, or corrected here.
fn login(name: &AgentName) -> String {
    name.as_str().chars().take(LONGEST_LOGIN).collect::<String>().trim_end_matches('-').to_owned()
}

fn capitalised(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// A sentence as YAML: as it is where that is plain text for every reader.
fn text_scalar(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && !text.contains([':', '#', '"', '\\'])
        && !text.contains(char::is_control);
    if plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

/// A word as YAML; in quotes where some reader of YAML would take it for something else.
fn scalar(word: &str) -> String {
    const TAKEN: &[&str] = &["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    let plain = word.starts_with(|c: char| c.is_ascii_alphabetic())
        && !word.contains(['#', '+'])
        && !TAKEN.contains(&word);
    if plain { word.to_owned() } else { format!("\"{word}\"") }
}
