//! The forms that events have on the wire.

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use uuid::Uuid;

use super::fault::PROBLEM_SHOWN;
use super::{Actor, Delivery, EventFault, RELAY_VERSION, Relay, Subject};
use crate::domain::html_text::html_text;
use crate::domain::message::one_line;
use crate::domain::name::{ItemId, ProjectId};
use crate::domain::work_item::{Member, Priority, StateGroup, WorkItem};

/// Reads a Plane body, with or without the relay's key. `place` is where it is in the file.
pub(super) fn delivery(body: &Value, place: &str) -> Result<Delivery, EventFault> {
    if let Some(other) = body.get("relay").and_then(|relay| relay.get("version")).and_then(Value::as_u64)
        && other != u64::from(RELAY_VERSION)
    {
        return Err(EventFault::RelayVersion { version: other });
    }
    if is_result(body) {
        return Ok(result());
    }
    let head: Head = read(body, place)?;
    let action = past_tense(&head.action);
    let subject = match (head.event.as_str(), action) {
        ("issue", "deleted") => Subject::Gone(ItemId(read::<Identified>(body, place)?.data.id)),
        ("issue", _) => Subject::Item(read::<WithItem>(body, place)?.data.into()),
        _ => Subject::Other,
    };
    let activity = head.activity.unwrap_or_default();
    Ok(Delivery {
        kind: head.event,
        action: Some(action.to_owned()),
        field: activity.field.map(api_name),
        actor: activity.actor,
        workspace: head.workspace_id,
        subject,
        relay: head.relay,
    })
}

/// Reads a work item by itself.
pub(super) fn work_item(json: &Value) -> Result<WorkItem, EventFault> {
    Ok(read::<Item>(json, "")?.into())
}

/// An `astra-result` event: `{version, run, namespace}`. It is for `publish`.
fn is_result(body: &Value) -> bool {
    body.get("run").is_some() && body.get("event").is_none()
}

fn result() -> Delivery {
    Delivery {
        kind: "astra-result".to_owned(),
        action: None,
        field: None,
        actor: None,
        workspace: None,
        subject: Subject::Other,
        relay: None,
    }
}

/// Reads one view of a body; a fault names the place in the file.
fn read<T: DeserializeOwned>(body: &Value, place: &str) -> Result<T, EventFault> {
    serde_path_to_error::deserialize(body).map_err(|error| {
        let within = error.path().to_string();
        let path = match within.as_str() {
            "." if place.is_empty() => "the top".to_owned(),
            "." => place.trim_end_matches('.').to_owned(),
            _ => format!("{place}{within}"),
        };
        EventFault::Field { path, problem: one_line(&error.into_inner().to_string(), PROBLEM_SHOWN) }
    })
}

/// What every body has.
#[derive(Deserialize)]
struct Head {
    event: String,
    action: String,
    workspace_id: Option<Uuid>,
    activity: Option<Activity>,
    relay: Option<Relay>,
}

#[derive(Default, Deserialize)]
struct Activity {
    field: Option<String>,
    actor: Option<Actor>,
}

/// A body whose object is only named.
#[derive(Deserialize)]
struct Identified {
    data: Id,
}

#[derive(Deserialize)]
struct Id {
    id: Uuid,
}

/// A body with a work item.
#[derive(Deserialize)]
struct WithItem {
    data: Item,
}

#[derive(Deserialize)]
struct Item {
    id: ItemId,
    project: ProjectId,
    sequence_id: u64,
    name: String,
    description_html: Option<String>,
    labels: Vec<Label>,
    state: State,
    priority: Option<Priority>,
    #[serde(default)]
    assignees: Vec<Person>,
    updated_at: Timestamp,
    archived_at: Option<IgnoredAny>,
    deleted_at: Option<IgnoredAny>,
    #[serde(default)]
    is_draft: bool,
}

#[derive(Deserialize)]
#[serde(expecting = "a label with its name")]
struct Label {
    name: String,
}

#[derive(Deserialize)]
#[serde(expecting = "a state with its name and group")]
struct State {
    name: String,
    group: StateGroup,
}

#[derive(Deserialize)]
#[serde(expecting = "a member with mail address and name")]
struct Person {
    email: Option<String>,
    display_name: Option<String>,
}

impl From<Item> for WorkItem {
    fn from(item: Item) -> Self {
        Self {
            id: item.id,
            project: item.project,
            sequence: item.sequence_id,
            name: item.name,
            description: html_text(&item.description_html.unwrap_or_default()),
            labels: item.labels.into_iter().map(|label| label.name).collect(),
            state: item.state.name,
            group: item.state.group,
            priority: item.priority.unwrap_or(Priority::None),
            assignees: item.assignees.into_iter().map(Member::from).collect(),
            links: Vec::new(),
            updated_at: item.updated_at,
            withdrawn: item.archived_at.is_some() || item.deleted_at.is_some() || item.is_draft,
        }
    }
}

impl From<Person> for Member {
    fn from(person: Person) -> Self {
        Self {
            email: person.email.unwrap_or_default(),
            display_name: person.display_name.unwrap_or_default(),
        }
    }
}

/// Plane says `created`; its older documents say `create`.
fn past_tense(action: &str) -> &str {
    match action {
        "create" => "created",
        "update" => "updated",
        "delete" => "deleted",
        other => other,
    }
}

/// The web app's names of fields, as the API has them.
fn api_name(field: String) -> String {
    match field.as_str() {
        "label_ids" => "labels".to_owned(),
        "state_id" => "state".to_owned(),
        "assignee_ids" => "assignees".to_owned(),
        _ => field,
    }
}
