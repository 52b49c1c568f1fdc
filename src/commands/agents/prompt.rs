//! `agents prompt`: the exact prompts of a run, before there is one.

use crate::adapters::plane::PlaneClient;
use crate::adapters::{event_file, registry_files};
use crate::cli::{AgentsPromptArgs, TaskArgs};
use crate::domain::event::{Event, Subject};
use crate::domain::name::TaskKey;
use crate::domain::prompt;
use crate::domain::registry::{Agent, Registry};
use crate::domain::request_budget::Importance;
use crate::domain::task::Task;
use crate::domain::work_item::WorkItem;
use crate::error::{Exit, UserError};
use crate::output;

pub(super) async fn run(args: &AgentsPromptArgs) -> anyhow::Result<Exit> {
    let registry = registry_files::load(&args.registry.registry)?;
    let agent = agent(args, &registry)?;
    let Some(task) = task(&args.task, &registry).await? else {
        output::result(&prompt::standing_prompt(agent, &registry))?;
        return Ok(Exit::Handled);
    };
    if task.role != agent.role {
        let (name, role) = (&agent.name, &agent.role);
        output::say(&format!(
            "note: {} asks for the role {}; {name} has the role {role}",
            task.key, task.role
        ));
    }
    let told = prompt::task_prompt(&task, &prompt::fence(rand::random()));
    output::result(&format!(
        "===== system prompt\n{}\n===== task prompt (its marker is drawn anew for each run)\n{}",
        prompt::system_prompt(agent, &task, &registry),
        told.text
    ))?;
    if told.removed > 0 {
        output::say(&format!("note: {} invisible or control characters were removed", told.removed));
    }
    if told.cut {
        output::say("note: title or description were too long and have been cut");
    }
    Ok(Exit::Handled)
}

fn agent<'a>(args: &AgentsPromptArgs, registry: &'a Registry) -> Result<&'a Agent, UserError> {
    registry.agents.get(&args.name).ok_or_else(|| {
        let names: Vec<&str> = registry.agents.keys().map(|name| name.as_str()).collect();
        let near = names.iter().max_by(|a, b| {
            let likeness = |name: &str| strsim::jaro_winkler(name, args.name.as_str());
            likeness(a).total_cmp(&likeness(b))
        });
        let remedy = match near {
            Some(near) if strsim::jaro_winkler(near, args.name.as_str()) > 0.8 => {
                format!("did you mean {near}?")
            }
            _ => format!("choose one of {}", names.join(", ")),
        };
        UserError::usage(format!("there is no agent {}", args.name), remedy)
    })
}

/// The task that is meant, if one is: `--task` beats `--event` beats `GITHUB_EVENT_PATH`.
async fn task(args: &TaskArgs, registry: &Registry) -> anyhow::Result<Option<Task>> {
    let event = match (&args.task, args.event.clone().or_else(event_file::of_workflow)) {
        (Some(key), _) => Event::ByHand(key.clone()),
        (None, Some(path)) => event_file::read(&path)?,
        (None, None) => return Ok(None),
    };
    let plane = PlaneClient::of_environment(&registry.plane, None)?;
    let item = match event {
        Event::ByHand(key) => by_key(&key, plane.as_ref()).await?,
        Event::Delivered(delivery) => match delivery.subject {
            Subject::Item(item) => as_it_is_now(item, plane.as_ref()).await?,
            Subject::Gone(_) | Subject::Other => {
                let remedy = "choose the event of a work item";
                return Err(UserError::usage("the event holds no work item", remedy).into());
            }
        },
    };
    Task::from_item(&item, registry)
        .map(Some)
        .map_err(|refusal| UserError::usage(refusal.to_string(), refusal.remedies().join(" ")).into())
}

async fn by_key(key: &TaskKey, plane: Option<&PlaneClient>) -> Result<WorkItem, UserError> {
    let Some(plane) = plane else {
        let remedy = "set PLANE_API_KEY, or name a file with the task's event with --event";
        return Err(UserError::usage(format!("{key} is not known here"), remedy));
    };
    plane.item_by_key(key, Importance::FinalWord).await?.ok_or_else(|| {
        UserError::usage(format!("Plane has no work item {key}"), "check the key; it may have been deleted")
    })
}

/// An event is a hint: with a key for Plane, what stands there now counts.
async fn as_it_is_now(item: WorkItem, plane: Option<&PlaneClient>) -> Result<WorkItem, UserError> {
    let Some(plane) = plane else { return Ok(item) };
    plane.item(item.project, item.id, Importance::FinalWord).await?.ok_or_else(|| {
        UserError::usage("the event's work item was deleted", "choose the event of another work item")
    })
}
