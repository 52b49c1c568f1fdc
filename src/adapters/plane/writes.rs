//! What is written to Plane: state, labels, comments, links. Each write can be repeated: the second
//! time changes nothing.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::catalog::{State, folded};
use super::{PlaneClient, PlaneError, PlaneFault, Request, Urgency};
use crate::domain::name::{ItemId, ProjectId};
use crate::domain::pass::StateTarget;
use crate::domain::plane_answer::PlaneRefusal;
use crate::domain::request_budget::Importance;
use crate::domain::work_item::ItemRef;

/// Marks our comments, so that each run has exactly one.
const EXTERNAL_SOURCE: &str = "astra-dispatch";
/// A move rests on what was read right before: it goes out soon, or not at all. It and the read of the states
/// before it wait no longer than this for the budget, together less than [`WRITE_TIMEOUT`].
///
/// [`WRITE_TIMEOUT`]: crate::domain::pass::WRITE_TIMEOUT
const MOVE_PATIENCE: Duration = Duration::from_secs(3);

impl PlaneClient {
    /// Moves an item to a state and returns that state's name.
    pub async fn set_state(
        &self,
        project: ProjectId,
        item: ItemId,
        target: &StateTarget,
        importance: Importance,
    ) -> Result<String, PlaneError> {
        let urgency = Urgency { importance, patience: MOVE_PATIENCE };
        if let Some(state) = self.known_state(project, target) {
            match self.move_to(project, item, &state, urgency).await {
                // It may have been deleted since it was read.
                Err(PlaneError { fault: PlaneFault::Refused(PlaneRefusal::Invalid { .. }), .. }) => {}
                moved => return moved.map(|()| state.name),
            }
        }
        let state = self.listed_state(project, target, urgency).await?.ok_or_else(|| PlaneError {
            action: format!("move work item {item}"),
            fault: PlaneFault::Lacking(match target {
                StateTarget::Named(name) => format!("state {name:?}"),
                StateTarget::FirstStarted => "state of the group started".to_owned(),
            }),
        })?;
        self.move_to(project, item, &state, urgency).await?;
        Ok(state.name)
    }

    async fn move_to(
        &self,
        project: ProjectId,
        item: ItemId,
        state: &State,
        urgency: Urgency,
    ) -> Result<(), PlaneError> {
        let (action, body) = (format!("move work item {item}"), json!({ "state": state.id }));
        let request = Request::write(Method::PATCH, action, urgency, item_path(project, item, ""), body);
        self.send(request).await.map(drop)
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
}

fn item_path(project: ProjectId, item: ItemId, rest: &str) -> String {
    format!("projects/{project}/work-items/{item}/{rest}")
}
