//! `agents list`: who there is.

use comfy_table::{Table, presets};
use serde::Serialize;

use crate::adapters::registry_files;
use crate::cli::{AgentsListArgs, Format};
use crate::domain::escape;
use crate::domain::registry::{Agent, ModelSettings, Registry, RuntimeKind, Status, Trait};
use crate::error::Exit;
use crate::output;

pub(super) fn run(args: &AgentsListArgs) -> anyhow::Result<Exit> {
    let registry = registry_files::load(&args.registry.registry)?;
    match args.format.format {
        Format::Text => output::result(&table(&registry))?,
        Format::Json => output::json(&list(&registry))?,
    }
    Ok(Exit::Handled)
}

fn table(registry: &Registry) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["AGENT", "STATUS", "AT ONCE", "RUNTIME", "REPOSITORIES", "SKILLS"]);
    for agent in registry.agents.values() {
        let (kind, model) = runtime(&agent.runtime.kind);
        table.add_row([
            format!(
                "{} · {} · {:?}",
                capitalised(agent.name.as_str()),
                capitalised(agent.role.as_str()),
                agent.trait_
            ),
            format!("{:?}", agent.status).to_lowercase(),
            agent.max_concurrent_tasks.to_string(),
            model.map_or_else(|| kind.to_owned(), |model| format!("{kind} ({})", model.model)),
            agent.repositories.join(", "),
            agent.skills.join(", "),
        ]);
    }
    let lines: Vec<String> = table.lines().map(|line| escape::terminal(line.trim()).into_owned()).collect();
    lines.join("\n")
}

fn capitalised(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn runtime(kind: &RuntimeKind) -> (&'static str, Option<&ModelSettings>) {
    match kind {
        RuntimeKind::Command { .. } => ("command", None),
        RuntimeKind::ClaudeCode(model) => ("claude-code", Some(model)),
        RuntimeKind::Codex(model) => ("codex", Some(model)),
    }
}

/// For scripts.
#[derive(Debug, Serialize)]
struct ListJson<'a> {
    /// Of this document: 1.
    version: u32,
    /// `sha256:…` of the registry's files.
    registry: &'a str,
    agents: Vec<AgentJson<'a>>,
}

#[derive(Debug, Serialize)]
struct AgentJson<'a> {
    name: &'a str,
    role: &'a str,
    r#trait: Trait,
    status: Status,
    description: &'a str,
    skills: &'a [String],
    max_concurrent_tasks: u32,
    repositories: &'a [String],
    accounts: AccountsJson<'a>,
    runtime: RuntimeJson<'a>,
    limits: LimitsJson<'a>,
}

#[derive(Debug, Serialize)]
struct AccountsJson<'a> {
    github: &'a str,
    plane: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct RuntimeJson<'a> {
    kind: &'static str,
    image: Option<&'a str>,
    model: Option<&'a str>,
    models: &'a [String],
}

#[derive(Debug, Serialize)]
struct LimitsJson<'a> {
    cpu: &'a str,
    memory: &'a str,
    time_seconds: u64,
    pending_seconds: u64,
}

fn list(registry: &Registry) -> ListJson<'_> {
    let agents = registry.agents.values().map(agent).collect();
    ListJson { version: 1, registry: &registry.stamp.hash, agents }
}

fn agent(agent: &Agent) -> AgentJson<'_> {
    let (kind, model) = runtime(&agent.runtime.kind);
    AgentJson {
        name: agent.name.as_str(),
        role: agent.role.as_str(),
        r#trait: agent.trait_,
        status: agent.status,
        description: &agent.description,
        skills: &agent.skills,
        max_concurrent_tasks: agent.max_concurrent_tasks,
        repositories: &agent.repositories,
        accounts: AccountsJson { github: &agent.accounts.github, plane: agent.accounts.plane.as_deref() },
        runtime: RuntimeJson {
            kind,
            image: agent.runtime.image.as_deref(),
            model: model.map(|model| model.model.as_str()),
            models: model.map_or(&[], |model| &model.models),
        },
        limits: LimitsJson {
            cpu: &agent.limits.cpu,
            memory: &agent.limits.memory,
            time_seconds: agent.limits.time.as_secs(),
            pending_seconds: agent.limits.pending.as_secs(),
        },
    }
}
