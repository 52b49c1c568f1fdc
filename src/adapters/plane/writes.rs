//! What is written to Plane: state, labels, comments, links. Each write can be repeated: the second
//! time changes nothing.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{PlaneClient, PlaneError, PlaneFault, Request, lock};
use crate::domain::name::{ItemId, ProjectId};
use crate::domain::pass::StateTarget;
use crate::domain::plane_answer::PlaneRefusal;
use crate::domain::request_budget::Importance;
use crate::domain::work_item::ItemRef;
use crate::domain::work_item::StateGroup;

/// Marks our comments, so that each run has exactly one.
const EXTERNAL_SOURCE: &str = "astra-dispatch";

/// What the projects have, by name: each list is read once per process.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    states: BTreeMap<ProjectId, Vec<State>>,
    labels: BTreeMap<ProjectId, BTreeMap<String, Uuid>>,
}

#[derive(Debug, Clone)]
struct State {
    id: Uuid,
    name: String,
    group: StateGroup,
}

impl PlaneClient {
    /// Moves an item to a state and returns that state's name.
    pub async fn set_state(
        &self,
        project: ProjectId,
        item: ItemId,
        target: &StateTarget,
        importance: Importance,
    ) -> Result<String, PlaneError> {
        let action = format!("move work item {item}");
        let states = self.states(project, importance).await?;
        let state = states.iter().find(|state| is_meant(target, state)).ok_or_else(|| PlaneError {
            action: action.clone(),
            fault: PlaneFault::Lacking(match target {
                StateTarget::Named(name) => format!("state {name:?}"),
                StateTarget::FirstStarted => "state of the group started".to_owned(),
            }),
        })?;
        let body = json!({ "state": state.id });
        self.send(Request::write(Method::PATCH, action, importance, item_path(project, item, ""), body))
            .await?;
        Ok(state.name.clone())
    }

    /// Replaces an item's labels by these names; unknown names are an error, nothing is written then.
    pub async fn set_labels(
        &self,
        project: ProjectId,
        item: ItemId,
        names: &[String],
        importance: Importance,
    ) -> Result<(), PlaneError> {
        let action = format!("label work item {item}");
        let labels = self.labels(project, importance).await?;
        let mut ids = Vec::new();
        for name in names {
            let id = labels.get(&folded(name)).ok_or_else(|| PlaneError {
                action: action.clone(),
                fault: PlaneFault::Lacking(format!("label {name:?}")),
            })?;
            ids.push(*id);
        }
        let body = json!({ "labels": ids });
        self.send(Request::write(Method::PATCH, action, importance, item_path(project, item, ""), body))
            .await?;
        Ok(())
    }

    /// Posts the one comment with this external id, or edits it where it exists. `html` must be
    /// escaped already: Plane does not sanitise what comes over its API.
    pub async fn write_comment(
        &self,
        project: ProjectId,
        item: ItemId,
        external_id: &str,
        html: &str,
        importance: Importance,
    ) -> Result<(), PlaneError> {
        let existing = match self.post_comment(project, item, external_id, html, importance).await {
            Err(PlaneError { fault: PlaneFault::Refused(PlaneRefusal::Exists { id: Some(id) }), .. }) => id,
            posted => return posted,
        };
        let action = format!("edit a comment on work item {item}");
        let path = item_path(project, item, &format!("comments/{existing}/"));
        let body = json!({ "comment_html": html });
        self.send(Request::write(Method::PATCH, action, importance, path, body)).await.map(drop)
    }

    /// Posts the one comment with this external id, unless it exists. `html` as above.
    pub async fn tell_once(
        &self,
        item: ItemRef,
        external_id: &str,
        html: &str,
        importance: Importance,
    ) -> Result<(), PlaneError> {
        match self.post_comment(item.project, item.item, external_id, html, importance).await {
            Err(PlaneError { fault: PlaneFault::Refused(PlaneRefusal::Exists { .. }), .. }) => Ok(()),
            posted => posted,
        }
    }

    async fn post_comment(
        &self,
        project: ProjectId,
        item: ItemId,
        external_id: &str,
        html: &str,
        importance: Importance,
    ) -> Result<(), PlaneError> {
        let action = format!("comment on work item {item}");
        let body = json!({
            "comment_html": html,
            "external_source": EXTERNAL_SOURCE,
            "external_id": external_id,
        });
        let path = item_path(project, item, "comments/");
        self.send(Request::write(Method::POST, action, importance, path, body)).await.map(drop)
    }

    /// Links a URL to an item; a link that is there already is left as it is.
    pub async fn add_link(
        &self,
        project: ProjectId,
        item: ItemId,
        url: &str,
        title: &str,
        importance: Importance,
    ) -> Result<(), PlaneError> {
        let body = json!({ "url": url, "title": title });
        let request = Request::write(
            Method::POST,
            format!("link {url} to work item {item}"),
            importance,
            item_path(project, item, "links/"),
            body,
        );
        match self.send(request).await {
            // Plane has no status of its own for this: 400 and these words.
            Err(PlaneError { fault: PlaneFault::Refused(PlaneRefusal::Invalid { words, .. }), .. })
                if words.contains("URL already exists") =>
            {
                Ok(())
            }
            other => other.map(|_| ()),
        }
    }

    /// The names of the states of the group `started`, in Plane's order.
    pub(super) async fn started_states(
        &self,
        project: ProjectId,
        importance: Importance,
    ) -> Result<Vec<String>, PlaneError> {
        let states = self.states(project, importance).await?;
        let started = states.into_iter().filter(|state| state.group == StateGroup::Started);
        Ok(started.map(|state| state.name).collect())
    }

    /// The names of the labels, in lower case.
    pub(super) async fn label_names(
        &self,
        project: ProjectId,
        importance: Importance,
    ) -> Result<Vec<String>, PlaneError> {
        Ok(self.labels(project, importance).await?.into_keys().collect())
    }

    async fn states(&self, project: ProjectId, importance: Importance) -> Result<Vec<State>, PlaneError> {
        if let Some(known) = lock(&self.catalog).states.get(&project) {
            return Ok(known.clone());
        }
        let path = format!("projects/{project}/states/");
        let rows = self.all_pages(&path, "read the states", importance).await?;
        let states: Vec<State> = rows.iter().filter_map(read_state).collect();
        lock(&self.catalog).states.insert(project, states.clone());
        Ok(states)
    }

    async fn labels(
        &self,
        project: ProjectId,
        importance: Importance,
    ) -> Result<BTreeMap<String, Uuid>, PlaneError> {
        if let Some(known) = lock(&self.catalog).labels.get(&project) {
            return Ok(known.clone());
        }
        let path = format!("projects/{project}/labels/");
        let rows = self.all_pages(&path, "read the labels", importance).await?;
        let named = |row: &Value| Some((folded(row["name"].as_str()?), id_of(row)?));
        let labels: BTreeMap<String, Uuid> = rows.iter().filter_map(named).collect();
        lock(&self.catalog).labels.insert(project, labels.clone());
        Ok(labels)
    }
}

/// Names are compared trimmed and case-insensitively; of a group the first in Plane's order counts.
fn is_meant(target: &StateTarget, state: &State) -> bool {
    match target {
        StateTarget::Named(name) => folded(&state.name) == folded(name),
        StateTarget::FirstStarted => state.group == StateGroup::Started,
    }
}

fn read_state(row: &Value) -> Option<State> {
    Some(State {
        id: id_of(row)?,
        name: row["name"].as_str()?.to_owned(),
        group: serde_json::from_value(row["group"].clone()).ok()?,
    })
}

fn id_of(row: &Value) -> Option<Uuid> {
    row["id"].as_str()?.parse().ok()
}

fn folded(name: &str) -> String {
    name.trim().to_lowercase()
}

fn item_path(project: ProjectId, item: ItemId, rest: &str) -> String {
    format!("projects/{project}/work-items/{item}/{rest}")
}
