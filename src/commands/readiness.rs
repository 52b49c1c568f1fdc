//! Whether what an agent needs is on this machine. One that lacks something takes no task here, and
//! `dispatch` says so before it starts anything.

use std::collections::BTreeMap;
use std::path::Path;

use crate::adapters::checkout::has_program;
use crate::commands::credentials::{Held, find, in_a_sentence, remedy};
use crate::commands::local::Local;
use crate::domain::ledger::Ledger;
use crate::domain::name::AgentName;
use crate::domain::registry::{Agent, Registry, RuntimeKind, Status};
use crate::domain::run_plan::Surroundings;
use crate::domain::runtime::{claude_code, codex, command};
use crate::domain::task::asked_roles;
use crate::domain::vault::GIT_TOKEN;
use crate::domain::work_item::{StateGroup, WorkItem};
use crate::error::UserError;
use crate::output;

/// Something that an agent needs and that is not here.
struct Lack {
    /// `the program …` or the name of a variable.
    what: String,
    cure: String,
}

/// Where credentials may be, besides the environment. `None`: in a vault server, which is asked only about the
/// agents of a task, by [`check`].
///
/// # Errors
/// Why the vault does not open, and what to do.
fn vault(directory: &Path) -> Result<Option<Held>, String> {
    match Held::open(directory) {
        Ok(Held::Elsewhere) => Ok(None),
        Ok(held) => Ok(Some(held)),
        Err(error) => Err(in_a_sentence(&error).0),
    }
}

/// What each active agent lacks, in words.
pub(super) fn lacks(
    registry: &Registry,
    directory: &Path,
    surroundings: &Surroundings,
) -> BTreeMap<AgentName, String> {
    let vault = vault(directory);
    let active = registry.agents.values().filter(|agent| agent.status == Status::Active);
    let words = |agent: &Agent| {
        let lacks = lacks_of(agent, &vault, surroundings);
        let words: Vec<String> =
            lacks.into_iter().map(|lack| format!("{} ({})", lack.what, lack.cure)).collect();
        (!words.is_empty()).then(|| (agent.name.clone(), words.join(", ")))
    };
    active.filter_map(words).collect()
}

/// Fails where no agent of the role that is asked for could work here; of some it only tells.
pub(super) async fn check(
    local: &Local,
    ledger: &Ledger,
    item: &WorkItem,
    by_hand: bool,
) -> anyhow::Result<()> {
    // A task that the ledger knows may have changed or have to be cancelled, whatever is lacking.
    let is_known = ledger.entries.iter().any(|entry| entry.item == item.id)
        || ledger.waiting.iter().any(|waiting| waiting.item == item.id);
    if is_known {
        return Ok(());
    }
    let is_to_do = by_hand || matches!(item.group, StateGroup::Backlog | StateGroup::Unstarted);
    let asked = asked_roles(item);
    let may_be_chosen = |agent: &&Agent| {
        is_to_do && agent.status == Status::Active && asked.iter().any(|role| role == agent.role.as_str())
    };
    let directory = &local.executor.registry;
    let mut vault = vault(directory);
    let is_elsewhere = matches!(vault, Ok(None));
    let (mut lacking, mut is_any_ready) = (Vec::new(), false);
    for agent in local.registry().agents.values().filter(may_be_chosen) {
        if is_elsewhere {
            // What a server does not answer is told by the run, as what it is.
            vault = Ok(Held::of_agent(directory, agent).await.ok());
        }
        let lacks = lacks_of(agent, &vault, &local.executor.surroundings);
        is_any_ready |= lacks.is_empty();
        let words = |lack: Lack| (format!("{} needs {}", agent.name, lack.what), lack.cure);
        lacking.extend(lacks.into_iter().map(words));
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

fn lacks_of(agent: &Agent, vault: &Result<Option<Held>, String>, surroundings: &Surroundings) -> Vec<Lack> {
    let mut lacks = Vec::new();
    let (program, install) = match &agent.runtime.kind {
        RuntimeKind::ClaudeCode(_) => (claude_code::PROGRAM, claude_code::INSTALL),
        RuntimeKind::Codex(_) => (codex::PROGRAM, codex::INSTALL),
        RuntimeKind::Command { command } => (command.first().map_or("", String::as_str), command::INSTALL),
    };
    // A path may lead into the repository.
    if !program.contains('/') && !has_program(program) {
        lacks.push(Lack { what: format!("the program `{program}`"), cure: install.to_owned() });
    }
    let held = match vault {
        Ok(Some(held)) => held,
        Ok(None) => return lacks,
        Err(why) => {
            lacks.push(Lack { what: "the vault".to_owned(), cure: why.clone() });
            return lacks;
        }
    };
    let needs_token = !surroundings.git_base_url.starts_with("file:");
    let keys = agent.credentials.env.iter().map(String::as_str).chain(needs_token.then_some(GIT_TOKEN));
    for key in keys.filter(|key| find(held, &agent.name, key).is_none()) {
        let cure = format!("`export {key}=…`, or {}", remedy(held, &agent.name, key));
        lacks.push(Lack { what: key.to_owned(), cure });
    }
    lacks
}
