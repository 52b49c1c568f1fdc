//! Which task a command is called for: `--task` beats `--event` beats `GITHUB_EVENT_PATH`.

use crate::adapters::event_file;
use crate::cli::TaskArgs;
use crate::commands::local::{Local, store_error};
use crate::domain::event::{Delivery, Event};
use crate::domain::name::TaskKey;
use crate::domain::pass::Hint;
use crate::domain::registry::Registry;
use crate::domain::work_item::WorkItem;
use crate::error::UserError;

/// What a command is called for.
pub(super) enum Meant {
    /// A work item, as an event told it just now.
    Told { item: WorkItem, delivery: Box<Delivery> },
    /// A work item that a person asks for, as an event told it before.
    ByHand { item: WorkItem },
    /// The event is not about a work item that exists.
    NoItem { delivery: Box<Delivery> },
}

impl Meant {
    pub(super) fn item(&self) -> Option<&WorkItem> {
        match self {
            Self::Told { item, .. } | Self::ByHand { item } => Some(item),
            Self::NoItem { .. } => None,
        }
    }

    pub(super) fn delivery(&self) -> Option<&Delivery> {
        match self {
            Self::Told { delivery, .. } | Self::NoItem { delivery } => Some(delivery),
            Self::ByHand { .. } => None,
        }
    }

    /// How the pass is told about it.
    pub(super) fn hint(&self) -> Option<Hint> {
        let by_hand = matches!(self, Self::ByHand { .. });
        self.item().map(|item| Hint { item: item.reference(), by_hand })
    }
}

/// Finds out which task is meant.
pub(super) fn meant(args: &TaskArgs, local: &Local) -> anyhow::Result<Meant> {
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
        Event::ByHand(key) => Ok(Meant::ByHand { item: known_item(&key, local)? }),
        Event::Delivered(delivery) => Ok(match delivery.item() {
            Some(item) => Meant::Told { item: item.clone(), delivery },
            None => Meant::NoItem { delivery },
        }),
    }
}

/// The newest snapshot of the item with this key.
pub(super) fn known_item(key: &TaskKey, local: &Local) -> anyhow::Result<WorkItem> {
    let project = project_of(key, local.registry())?;
    let kept = local.executor.store.snapshot_by_number(project, key.sequence()).map_err(store_error)?;
    kept.ok_or_else(|| {
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
