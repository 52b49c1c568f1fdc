//! Reading work items.

use std::time::Instant;

use serde_json::Value;

use super::{PlaneClient, PlaneError, PlaneFault, Request, Urgency, lock};
use crate::domain::event::work_item_from_rest;
use crate::domain::name::{ItemId, ProjectId, TaskKey};
use crate::domain::plane_answer::PlaneRefusal;
use crate::domain::request_budget::Importance;
use crate::domain::task::{REVIEWER, asked_roles};
use crate::domain::work_item::WorkItem;

/// Rows a page: the most that Plane gives.
const PAGE: u32 = 1_000;
/// No list is followed further: a page number that never ends is a fault of Plane's.
const MOST_PAGES: u32 = 200;
/// What a decision looks at, spelled out so that lists stay small.
const FIELDS: &str = "id,project,sequence_id,name,description_html,labels,state,priority,assignees,updated_at,archived_at,is_draft";
const EXPAND: &str = "labels,state,assignees";

impl PlaneClient {
    /// Reads an item by its id; `None` where it is gone.
    pub async fn item(
        &self,
        project: ProjectId,
        item: ItemId,
        importance: Importance,
    ) -> Result<Option<WorkItem>, PlaneError> {
        let path = format!("projects/{project}/work-items/{item}/");
        let read = self.read_item(format!("read work item {item}"), path, importance).await;
        if matches!(read, Ok(None)) {
            lock(&self.seen).remove(&item);
        }
        read
    }

    /// Reads an item by its key; `None` where there is none.
    pub async fn item_by_key(
        &self,
        key: &TaskKey,
        importance: Importance,
    ) -> Result<Option<WorkItem>, PlaneError> {
        self.read_item(format!("read work item {key}"), format!("work-items/{key}/"), importance).await
    }

    /// Reads all items of a project: one request for each 1,000. Plane pages by number, so an item
    /// that is created meanwhile can move one across a page's edge: rows are merged by id.
    pub async fn items(
        &self,
        project: ProjectId,
        importance: Importance,
    ) -> Result<Vec<WorkItem>, PlaneError> {
        let action = format!("list the work items of project {project}");
        let begun = Instant::now();
        let rows = self.all_pages(&format!("projects/{project}/work-items/"), &action, importance).await?;
        let mut items = std::collections::BTreeMap::new();
        for row in &rows {
            let item = read_item(row).map_err(|fault| PlaneError { action: action.clone(), fault })?;
            lock(&self.seen).insert(item.id, (item.clone(), begun));
            items.insert(item.id, item);
        }
        Ok(items.into_values().collect())
    }

    /// The URLs linked to an item.
    pub async fn links(
        &self,
        project: ProjectId,
        item: ItemId,
        importance: Importance,
    ) -> Result<Vec<String>, PlaneError> {
        let path = format!("projects/{project}/work-items/{item}/links/");
        let rows = self.all_pages(&path, &format!("read the links of work item {item}"), importance).await?;
        Ok(rows.iter().filter_map(|row| row["url"].as_str().map(str::to_owned)).collect())
    }

    async fn read_item(
        &self,
        action: String,
        path: String,
        importance: Importance,
    ) -> Result<Option<WorkItem>, PlaneError> {
        let begun = Instant::now();
        let request =
            Request::get(action.clone(), importance, path).query("fields", FIELDS).query("expand", EXPAND);
        let row = match self.send(request).await {
            Ok(row) => row,
            Err(PlaneError { fault: PlaneFault::Refused(PlaneRefusal::NotFound), .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut item = read_item(&row).map_err(|fault| PlaneError { action, fault })?;
        // A reviewer's pull request may be a link of the item; nobody else's decision needs links.
        if asked_roles(&item).iter().any(|role| role == REVIEWER) {
            item.links = self.links(item.project, item.id, importance).await?;
        }
        lock(&self.seen).insert(item.id, (item.clone(), begun));
        Ok(Some(item))
    }

    /// Follows a list to its end. `next_cursor` is never null; only `next_page_results` tells.
    pub(super) async fn all_pages(
        &self,
        path: &str,
        action: &str,
        urgency: impl Into<Urgency>,
    ) -> Result<Vec<Value>, PlaneError> {
        let urgency = urgency.into();
        let unexpected =
            |what: String| PlaneError { action: action.to_owned(), fault: PlaneFault::Unexpected(what) };
        let mut rows = Vec::new();
        for page in 0..MOST_PAGES {
            let mut request = Request::get(action, urgency, path)
                .query("per_page", PAGE.to_string())
                .query("cursor", format!("{PAGE}:{page}:0"));
            if path.ends_with("work-items/") {
                request = request.query("fields", FIELDS).query("expand", EXPAND);
            }
            let mut answer = self.send(request).await?;
            match answer["results"].take() {
                Value::Array(results) => rows.extend(results),
                _ => return Err(unexpected("`results` is no list".to_owned())),
            }
            if answer["next_page_results"] != Value::Bool(true) {
                return Ok(rows);
            }
        }
        Err(unexpected(format!("the list does not end after {MOST_PAGES} pages")))
    }
}

fn read_item(row: &Value) -> Result<WorkItem, PlaneFault> {
    work_item_from_rest(row).map_err(|fault| PlaneFault::Unexpected(fault.to_string()))
}
