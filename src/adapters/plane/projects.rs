//! Looking around in a workspace: what `init` asks for.

use uuid::Uuid;

use super::{PlaneClient, PlaneError, PlaneFault};
use crate::domain::name::ProjectId;
use crate::domain::request_budget::Importance;

/// A project as the workspace lists it.
#[derive(Debug, Clone)]
pub struct ProjectRow {
    /// Its id.
    pub id: ProjectId,
    /// The letters of its task keys.
    pub identifier: String,
    /// Its name.
    pub name: String,
    /// The workspace's id.
    pub workspace: Option<Uuid>,
}

/// What a project calls things.
#[derive(Debug, Clone, Default)]
pub struct ProjectNames {
    /// Its states of the group `started`, in Plane's order.
    pub started: Vec<String>,
    /// Its labels, in lower case.
    pub labels: Vec<String>,
}

impl PlaneClient {
    /// The projects that the key's owner sees.
    pub async fn projects(&self) -> Result<Vec<ProjectRow>, PlaneError> {
        const ACTION: &str = "list the projects";
        let rows = self.all_pages("projects/", ACTION, Importance::Start).await?;
        let read = |row: &serde_json::Value| {
            let text = |key: &str| row[key].as_str();
            Some(ProjectRow {
                id: ProjectId(text("id")?.parse().ok()?),
                identifier: text("identifier")?.to_owned(),
                name: text("name").unwrap_or_default().to_owned(),
                workspace: text("workspace").and_then(|id| id.parse().ok()),
            })
        };
        let projects: Option<Vec<_>> = rows.iter().map(read).collect();
        projects.ok_or_else(|| PlaneError {
            action: ACTION.to_owned(),
            fault: PlaneFault::Unexpected("id and identifier of each project".to_owned()),
        })
    }

    /// Its states of work under way, and its labels.
    pub async fn project_names(&self, project: ProjectId) -> Result<ProjectNames, PlaneError> {
        Ok(ProjectNames {
            started: self.started_states(project, Importance::Start).await?,
            labels: self.label_names(project, Importance::Start).await?,
        })
    }
}
