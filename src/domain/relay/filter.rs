//! Which events matter: those of work items in our projects, unless we caused them ourselves and
//! they cannot make a task eligible.
//!
//! Only what a decision needs is read. An event of an unexpected form goes through: `dispatch` names
//! what is wrong with it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use uuid::Uuid;

/// What the relay knows about an event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// What it is about, such as `issue`.
    pub kind: String,
    /// What was done, such as `updated`.
    pub action: String,
    /// The changed field, as the web app or the API calls it.
    pub field: Option<String>,
    /// Who made the change.
    pub actor: Option<Uuid>,
    /// The workspace.
    pub workspace: Option<Uuid>,
    /// The project of the work item.
    pub project: Option<Uuid>,
    /// The work item.
    pub item: Option<Uuid>,
    /// When the work item was last changed, as of this event.
    pub updated_at: Option<Timestamp>,
    /// The group of the work item's state, such as `unstarted`.
    pub group: Option<String>,
}

/// The members that are read. One of an unexpected form counts as absent.
#[derive(Deserialize)]
struct Body {
    #[serde(default, deserialize_with = "if_readable")]
    event: Option<String>,
    #[serde(default, deserialize_with = "if_readable")]
    action: Option<String>,
    #[serde(default, deserialize_with = "if_readable")]
    workspace_id: Option<Uuid>,
    #[serde(default, deserialize_with = "if_readable")]
    activity: Option<Activity>,
    #[serde(default, deserialize_with = "if_readable")]
    data: Option<Item>,
}

#[derive(Default, Deserialize)]
struct Activity {
    #[serde(default, deserialize_with = "if_readable")]
    field: Option<String>,
    #[serde(default, deserialize_with = "if_readable")]
    actor: Option<Actor>,
}

#[derive(Deserialize)]
struct Actor {
    #[serde(default, deserialize_with = "if_readable")]
    id: Option<Uuid>,
}

#[derive(Default, Deserialize)]
struct Item {
    #[serde(default, deserialize_with = "if_readable")]
    id: Option<Uuid>,
    #[serde(default, deserialize_with = "if_readable")]
    project: Option<Uuid>,
    #[serde(default, deserialize_with = "if_readable")]
    updated_at: Option<Timestamp>,
    #[serde(default, deserialize_with = "if_readable")]
    state: Option<State>,
}

#[derive(Deserialize)]
struct State {
    #[serde(default, deserialize_with = "if_readable")]
    group: Option<String>,
}

fn if_readable<'de, D: Deserializer<'de>, T: DeserializeOwned>(source: D) -> Result<Option<T>, D::Error> {
    let raw = <&RawValue>::deserialize(source)?;
    Ok(serde_json::from_str(raw.get()).ok())
}

impl Head {
    /// Reads what is there; `None` if the body is no event at all.
    pub fn read(body: &str) -> Option<Self> {
        // A list would be read as the members in their order.
        body.trim_ascii_start().strip_prefix('{')?;
        let body: Body = serde_json::from_str(body).ok()?;
        let (activity, data) = (body.activity.unwrap_or_default(), body.data.unwrap_or_default());
        Some(Self {
            kind: body.event?,
            action: body.action.unwrap_or_default(),
            field: activity.field,
            actor: activity.actor.and_then(|actor| actor.id),
            workspace: body.workspace_id,
            project: data.project,
            item: data.id,
            updated_at: data.updated_at,
            group: data.state.and_then(|state| state.group),
        })
    }
}

/// Which events are ours.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Our workspace, if the registry names it.
    pub workspace: Option<Uuid>,
    /// The projects that agents work for.
    pub projects: BTreeSet<Uuid>,
    /// The members whose API keys this platform uses.
    pub own_actors: BTreeSet<Uuid>,
}

/// Why an event does not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// It is about something else than a work item, such as a comment or a cycle.
    NoWorkItem,
    /// It comes from another workspace.
    OtherWorkspace,
    /// It comes from a project that no agent works for.
    OtherProject,
    /// We made the change ourselves, and it makes no task eligible.
    OwnActor,
}

impl Dropped {
    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoWorkItem => "no_work_item",
            Self::OtherWorkspace => "other_workspace",
            Self::OtherProject => "other_project",
            Self::OwnActor => "own_actor",
        }
    }
}

impl Filter {
    /// Whether the event is to be forwarded.
    pub fn judge(&self, head: &Head) -> Result<(), Dropped> {
        let is_other = |ours: Option<Uuid>, theirs: Option<Uuid>| matches!((ours, theirs), (Some(ours), Some(theirs)) if ours != theirs);
        if head.kind != "issue" {
            return Err(Dropped::NoWorkItem);
        }
        if is_other(self.workspace, head.workspace) {
            return Err(Dropped::OtherWorkspace);
        }
        if head.project.is_some_and(|project| !self.projects.contains(&project)) {
            return Err(Dropped::OtherProject);
        }
        let is_own = head.actor.is_some_and(|actor| self.own_actors.contains(&actor));
        if is_own && !can_make_eligible(head) { Err(Dropped::OwnActor) } else { Ok(()) }
    }
}

/// Whether a task can become eligible by this change: a new item, an item that went away and freed
/// its agent, what the task is read from, or a state in which work can begin.
fn can_make_eligible(head: &Head) -> bool {
    if !head.action.starts_with("update") {
        return true;
    }
    match head.field.as_deref() {
        Some("state" | "state_id") => {
            !matches!(head.group.as_deref(), Some("started" | "completed" | "cancelled"))
        }
        Some("labels" | "label_ids" | "assignees" | "assignee_ids" | "name" | "description_html") | None => {
            true
        }
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADA: Uuid = Uuid::from_u128(1);
    const BOT: Uuid = Uuid::from_u128(2);
    const OURS: Uuid = Uuid::from_u128(3);

    fn filter() -> Filter {
        Filter { workspace: Some(OURS), projects: [OURS].into(), own_actors: [BOT].into() }
    }

    fn head(actor: Uuid, action: &str, field: Option<&str>, group: &str) -> Head {
        Head {
            kind: "issue".to_owned(),
            action: action.to_owned(),
            field: field.map(str::to_owned),
            actor: Some(actor),
            workspace: Some(OURS),
            project: Some(OURS),
            group: Some(group.to_owned()),
            ..Head::default()
        }
    }

    #[test]
    fn our_own_changes_matter_only_where_they_can_make_a_task_eligible() {
        for (actor, action, field, group, passes) in [
            (ADA, "updated", Some("state"), "started", true),
            (ADA, "updated", Some("sort_order"), "unstarted", true),
            (BOT, "updated", Some("state"), "started", false),
            (BOT, "updated", Some("state_id"), "completed", false),
            (BOT, "updated", Some("state"), "cancelled", false),
            (BOT, "updated", Some("state"), "unstarted", true),
            (BOT, "updated", Some("state"), "backlog", true),
            (BOT, "updated", Some("labels"), "unstarted", true),
            (BOT, "updated", Some("label_ids"), "started", true),
            (BOT, "updated", Some("description_html"), "unstarted", true),
            (BOT, "updated", Some("priority"), "unstarted", false),
            (BOT, "updated", Some("target_date"), "unstarted", false),
            (BOT, "update", Some("target_date"), "unstarted", false),
            (BOT, "updated", None, "unstarted", true),
            (BOT, "created", None, "unstarted", true),
            (BOT, "deleted", None, "started", true),
        ] {
            let expected = if passes { Ok(()) } else { Err(Dropped::OwnActor) };
            assert_eq!(filter().judge(&head(actor, action, field, group)), expected, "{action} {field:?}");
        }
    }

    #[test]
    fn strangers_are_dropped_and_what_is_unknown_goes_through() {
        let base = head(ADA, "created", None, "unstarted");
        let kind = |kind: &str| Head { kind: kind.to_owned(), ..base.clone() };
        for other in ["issue_comment", "project", "cycle", "module", ""] {
            assert_eq!(filter().judge(&kind(other)), Err(Dropped::NoWorkItem));
        }
        let elsewhere = Head { workspace: Some(ADA), ..base.clone() };
        assert_eq!(filter().judge(&elsewhere), Err(Dropped::OtherWorkspace));
        let elsewhere = Head { project: Some(ADA), ..base.clone() };
        assert_eq!(filter().judge(&elsewhere), Err(Dropped::OtherProject));
        assert_eq!(filter().judge(&Head { project: None, workspace: None, ..base }), Ok(()));
    }

    #[test]
    fn a_body_that_is_no_event_has_no_head() {
        for body in ["", "{", "[]", r#" ["issue"]"#, "{}", "1", r#"{"event": 3}"#] {
            assert_eq!(Head::read(body), None, "{body}");
        }
        for strange in [
            r#"{"event": "issue"}"#,
            r#"{"event": "issue", "data": {"id": "no id", "state": []}}"#,
            r#"{"event": "issue", "data": [], "activity": {"actor": null, "field": 1}, "workspace_id": {}}"#,
        ] {
            let head = Head { kind: "issue".to_owned(), ..Head::default() };
            assert_eq!(Head::read(strange), Some(head), "{strange}");
        }
    }
}
