//! Which task a command is called for: `--task` beats `--event` beats `GITHUB_EVENT_PATH`.

use crate::adapters::event_file;
use crate::adapters::plane::PlaneClient;
use crate::cli::TaskArgs;
use crate::commands::local::{Local, store_error};
use crate::commands::on_cluster::OnCluster;
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

/// Finds out which task is meant on this machine.
pub(super) async fn meant(args: &TaskArgs, local: &Local) -> anyhow::Result<Meant> {
    match event(args)? {
        Event::ByHand(key) => Ok(Meant::ByHand { item: known_item(&key, local).await? }),
        Event::Delivered(delivery) => Ok(delivered(delivery, local.registry())),
    }
}

/// An event is a hint to look: with a key for Plane, the item is as it is there now. A pass reads it
/// itself; this is for what runs none. Where it cannot be read, it is as it was told.
pub(super) async fn fresh(meant: Meant, plane: Option<&PlaneClient>) -> Meant {
    let (Meant::Told { item, delivery }, Some(plane)) = (&meant, plane) else { return meant };
    match plane.item(item.project, item.id, Importance::Start).await {
        Ok(Some(item)) => Meant::Told { item, delivery: delivery.clone() },
        Ok(None) | Err(_) => meant,
    }
}

/// Finds out which task is meant on a cluster, which keeps no snapshots: a key is read from Plane.
pub(super) async fn meant_on_cluster(args: &TaskArgs, cluster: &OnCluster) -> anyhow::Result<Meant> {
    meant_without_cluster(args, cluster.registry(), cluster.items.plane.as_ref()).await
}

/// The same, where the cluster is not asked.
pub(super) async fn meant_without_cluster(
    args: &TaskArgs,
    registry: &Registry,
    plane: Option<&PlaneClient>,
) -> anyhow::Result<Meant> {
    match (event(args)?, plane) {
        (Event::Delivered(delivery), _) => Ok(delivered(delivery, registry)),
        (Event::ByHand(key), Some(plane)) => {
            project_of(&key, registry)?;
            Ok(Meant::ByHand { item: in_plane(&key, plane).await? })
        }
        (Event::ByHand(key), None) => Err(UserError::usage(
            format!("{key} cannot be read: PLANE_API_KEY is not set"),
            "set PLANE_API_KEY, or give the task's event with --event",
        )
        .at("--task")
        .into()),
    }
}

/// The event or key that the caller names.
fn event(args: &TaskArgs) -> anyhow::Result<Event> {
    Ok(match (&args.task, args.event.clone().or_else(event_file::of_workflow)) {
        (Some(key), _) => Event::ByHand(key.clone()),
        (None, Some(path)) => event_file::read(&path)?,
        (None, None) => {
            return Err(UserError::usage(
                "no task is named",
                "name an event file with --event, or a task with --task",
            )
            .into());
        }
    })
}

fn delivered(delivery: Box<Delivery>, registry: &Registry) -> Meant {
    match delivery.item() {
        _ if is_from_elsewhere(&delivery, registry) => Meant::NoItem { delivery },
        Some(item) => Meant::Told { item: item.clone(), delivery },
        None => Meant::NoItem { delivery },
    }
}

fn is_from_elsewhere(delivery: &Delivery, registry: &Registry) -> bool {
    delivery.other_workspace(registry.plane.workspace_id).is_some()
}

/// The item with this key: as it is in Plane now, or as events told it.
async fn known_item(key: &TaskKey, local: &Local) -> anyhow::Result<WorkItem> {
    let project = project_of(key, local.registry())?;
    let store = &local.executor.store;
    if let Some(plane) = &local.plane {
        let item = in_plane(key, plane).await?;
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

async fn in_plane(key: &TaskKey, plane: &PlaneClient) -> anyhow::Result<WorkItem> {
    let read = plane.item_by_key(key, Importance::Start).await.map_err(UserError::from)?;
    read.ok_or_else(|| {
        UserError::usage(format!("there is no {key} in Plane"), "check the key").at("--task").into()
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
