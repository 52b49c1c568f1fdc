//! What a delivered event says. Wire types stop here: whoever delivered it and however it was
//! wrapped, the rest of the program sees an [`Event`].
//!
//! Understood are a `repository_dispatch` event file whose `client_payload` is the relay's envelope
//! or a verbatim Plane body, a bare Plane body, and a `workflow_dispatch` event file, of which only
//! `inputs.task` is read. Facts about Plane's bodies: Plane 1.3.1, recorded in `fixtures/events`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::message::one_line;
use super::name::{ItemId, TaskKey};
use super::work_item::WorkItem;

mod fault;
mod wire;

pub use fault::EventFault;

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Something was delivered to us.
    Delivered(Box<Delivery>),
    /// A person started the workflow for a task.
    ByHand(TaskKey),
}

/// What was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// What it is about: `issue`, `issue_comment`, `project`, `cycle`, `module`, `astra-result`, …
    pub kind: String,
    /// What was done to it: `created`, `updated` or `deleted`; `create` and the like are read too.
    pub action: Option<String>,
    /// The field that was changed, in the words of Plane's API: the web app's `label_ids` is `labels`.
    pub field: Option<String>,
    /// Who did it.
    pub actor: Option<Actor>,
    /// The workspace.
    pub workspace: Option<Uuid>,
    /// The work item, if it is about one.
    pub subject: Subject,
    /// What the relay says about it; `None` for a verbatim body.
    pub relay: Option<Relay>,
}

/// What a delivery is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A work item, as it was when Plane sent the event.
    Item(WorkItem),
    /// A work item that was deleted. (Plane 1.3.1 sends no such event; other versions do.)
    Gone(ItemId),
    /// Something else.
    Other,
}

/// Who made a change.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Actor {
    /// Plane's id of the member.
    pub id: Uuid,
    /// Mail address.
    #[serde(default)]
    pub email: Option<String>,
    /// Shown name; untrusted.
    #[serde(default)]
    pub display_name: Option<String>,
}

/// The envelope's own key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relay {
    /// Always [`RELAY_VERSION`].
    pub version: u32,
    /// When the webhook arrived.
    pub received_at: Timestamp,
    /// SHA-256 of the body that Plane sent, in hexadecimal.
    pub body_sha256: String,
    /// The fields of further events of the same edit that this one stands for.
    #[serde(default)]
    pub coalesced: Vec<String>,
    /// JSON paths of strings that were cut.
    #[serde(default)]
    pub truncated: Vec<String>,
}

/// The one version of the envelope that this program reads.
pub const RELAY_VERSION: u32 = 1;

impl Delivery {
    /// The work item, if it is about one that exists.
    pub fn item(&self) -> Option<&WorkItem> {
        match &self.subject {
            Subject::Item(item) => Some(item),
            Subject::Gone(_) | Subject::Other => None,
        }
    }

    /// The event's workspace, if it is known to be another one than ours.
    pub fn other_workspace(&self, ours: Option<Uuid>) -> Option<Uuid> {
        self.workspace.filter(|workspace| ours.is_some_and(|ours| ours != *workspace))
    }
}

/// Reads a work item as Plane's REST API gives it, with labels, state and assignees expanded.
pub fn work_item_from_rest(json: &Value) -> Result<WorkItem, EventFault> {
    wire::work_item(json)
}

impl Event {
    /// Reads the JSON of an event.
    pub fn parse(json: &[u8]) -> Result<Self, EventFault> {
        let value: Value = serde_json::from_slice(json).map_err(|error| EventFault::NotJson {
            line: error.line(),
            column: error.column(),
            problem: error.to_string(),
        })?;
        let Value::Object(event) = &value else { return Err(EventFault::NoEvent { keys: Vec::new() }) };
        if let Some(payload) = event.get("client_payload") {
            return delivered(payload, "client_payload.");
        }
        if event.contains_key("event") && event.contains_key("data") {
            return delivered(&value, "");
        }
        if let Some(inputs) = event.get("inputs") {
            return by_hand(inputs);
        }
        let keys = event.keys().take(fault::KEYS_SHOWN).map(|key| one_line(key, fault::KEY_SHOWN)).collect();
        Err(EventFault::NoEvent { keys })
    }
}

fn delivered(body: &Value, place: &str) -> Result<Event, EventFault> {
    wire::delivery(body, place).map(|delivery| Event::Delivered(Box::new(delivery)))
}

fn by_hand(inputs: &Value) -> Result<Event, EventFault> {
    let task = inputs.get("task").and_then(Value::as_str).map(str::trim).filter(|task| !task.is_empty());
    let task = task.ok_or(EventFault::NoTask)?;
    task.parse()
        .map(Event::ByHand)
        .map_err(|_| EventFault::IllegalTask { task: one_line(task, fault::KEY_SHOWN) })
}
