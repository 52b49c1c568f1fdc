//! Which task a command is called for: `--task` beats `--event` beats `GITHUB_EVENT_PATH`.

use crate::adapters::event_file;
use crate::adapters::plane::PlaneClient;
use crate::cli::TaskArgs;
use crate::commands::local::{Local, store_error};
use crate::domain::event::{Delivery, Event};
use crate::domain::name::TaskKey;
use crate::domain::registry::Registry;
use crate::domain::request_budget::Importance;
use crate::domain::work_item::WorkItem;
use crate::error::UserError;

/// What a command is called for.
pub(super) enum Meant {
    /// A work item, as an event told it just now.
    Told { item: WorkItem, delivery: Box<Delivery> },
    /// A work item that a person asks for, as an event told it before.
    ByHand { item: WorkItem },
    /// The event is not about a work item that exists, or it comes from another workspace.
    NoItem { delivery: Box<Delivery> },
}

impl Meant {
    pub(super) fn delivery(&self) -> Option<&Delivery> {
        match self {
            Self::Told { delivery, .. } | Self::NoItem { delivery } => Some(delivery),
            Self::ByHand { .. } => None,
        }
    }
}

/// Finds out which task is meant.
pub(super) async fn meant(args: &TaskArgs, local: &Local) -> anyhow::Result<Meant> {
    let event = match (&args.task, args.event.clone().or_else(event_file::of_workflow)) {
        (Some(key), _) => Event::ByHand(key.clone()),
        (None, Some(path)) => event_file::read(&path)?,
        (None, None) => {
            return Err(UserError::usage(
                "no task is named",
                "name an event file with --event, or a task with --task",
            )
            .into());
        }
    };
    match event {
        Event::ByHand(key) => Ok(Meant::ByHand { item: known_item(&key, local).await? }),
        Event::Delivered(delivery) => Ok(match delivery.item() {
            _ if is_from_elsewhere(&delivery, local.registry()) => Meant::NoItem { delivery },
            Some(item) => Meant::Told { item: item.clone(), delivery },
            None => Meant::NoItem { delivery },
        }),
    }
}

fn is_from_elsewhere(delivery: &Delivery, registry: &Registry) -> bool {
    delivery.other_workspace(registry.plane.workspace_id).is_some()
}

/// The item with this key: as it is in Plane now, or as events told it.
async fn known_item(key: &TaskKey, local: &Local) -> anyhow::Result<WorkItem> {
    let project = project_of(key, local.registry())?;
    let store = &local.executor.store;
    if let Some(plane) = PlaneClient::of_environment(&local.registry().plane)? {
        let read = plane.item_by_key(key, Importance::Start).await.map_err(UserError::from)?;
        let item = read.ok_or_else(|| {
            UserError::usage(format!("there is no {key} in Plane"), "check the key").at("--task")
        })?;
        store.store_snapshot(&item).map_err(store_error)?;
        return Ok(item);
    }
    store.snapshot_by_number(project, key.sequence()).map_err(store_error)?.ok_or_else(|| {
        UserError::usage(
            format!("{key} is not known here: no event has told of it"),
            "give its event with --event, or set PLANE_API_KEY so that it can be read from Plane",
        )
        .into()
    })
}

fn project_of(key: &TaskKey, registry: &Registry) -> Result<crate::domain::name::ProjectId, UserError> {
    let project =
        registry.projects.values().find(|project| project.identifier.eq_ignore_ascii_case(key.identifier()));
    project.map(|project| project.id).ok_or_else(|| {
        let known: Vec<&str> =
            registry.projects.values().map(|project| project.identifier.as_str()).collect();
        UserError::usage(
            format!("no project has the identifier {}", key.identifier()),
            format!("use one of {}, or add it to `projects` in astra.yaml", known.join(", ")),
        )
        .at("--task")
    })
}
