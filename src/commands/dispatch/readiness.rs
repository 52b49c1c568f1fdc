//! Before a run on this machine starts: whether what its agent needs is here.

use crate::adapters::checkout::has_program;
use crate::commands::credentials::{Held, find, remedy};
use crate::commands::local::Local;
use crate::domain::registry::{Agent, RuntimeKind, Status};
use crate::domain::runtime::{claude_code, codex, command};
use crate::domain::task::asked_roles;
use crate::domain::vault::GIT_TOKEN;
use crate::domain::work_item::{StateGroup, WorkItem};
use crate::error::UserError;
use crate::output;

/// Fails where no agent of the role that is asked for could work here; of some it only tells.
pub(super) async fn check(local: &Local, item: &WorkItem, by_hand: bool) -> anyhow::Result<()> {
    // A task that the ledger knows may have to be cancelled, whatever is lacking.
    if local.ledger().await?.entries.iter().any(|entry| entry.item == item.id) {
        return Ok(());
    }
    let is_to_do = by_hand || matches!(item.group, StateGroup::Backlog | StateGroup::Unstarted);
    let asked = asked_roles(item);
    let may_be_chosen = |agent: &&Agent| {
        is_to_do && agent.status == Status::Active && asked.iter().any(|role| role == agent.role.as_str())
    };
    let (mut lacking, mut is_any_ready) = (Vec::new(), false);
    for agent in local.registry().agents.values().filter(may_be_chosen) {
        let lacks = lacks(local, agent).await;
        is_any_ready |= lacks.is_empty();
        lacking.extend(lacks);
    }
    if lacking.is_empty() {
        return Ok(());
    }
    if is_any_ready {
        lacking.iter().for_each(|(cause, cure)| output::say(&format!("note: {cause}: {cure}")));
        return Ok(());
    }
    let (causes, cures): (Vec<_>, Vec<_>) = lacking.into_iter().unzip();
    Err(UserError::usage(format!("no agent can work here: {}", causes.join("; ")), cures.join("; ")).into())
}

/// What an agent lacks on this machine, and the cure.
async fn lacks(local: &Local, agent: &Agent) -> Vec<(String, String)> {
    let mut lacks = Vec::new();
    let (program, install) = match &agent.runtime.kind {
        RuntimeKind::ClaudeCode(_) => (claude_code::PROGRAM, claude_code::INSTALL),
        RuntimeKind::Codex(_) => (codex::PROGRAM, codex::INSTALL),
        RuntimeKind::Command { command } => (command.first().map_or("", String::as_str), command::INSTALL),
    };
    // A path may lead into the repository.
    if !program.contains('/') && !has_program(program) {
        lacks.push((format!("{} needs the program `{program}`", agent.name), install.to_owned()));
    }
    // A vault that cannot be opened is told by the run, as what it is.
    let Ok(held) = Held::of_agent(&local.executor.registry, agent).await else { return lacks };
    let needs_token = !local.executor.surroundings.git_base_url.starts_with("file:");
    let keys = agent.credentials.env.iter().map(String::as_str).chain(needs_token.then_some(GIT_TOKEN));
    for key in keys.filter(|key| find(&held, &agent.name, key).is_none()) {
        let cure = format!("`export {key}=…`, or {}", remedy(&held, &agent.name, key));
        lacks.push((format!("{} needs {key}", agent.name), cure));
    }
    lacks
}
