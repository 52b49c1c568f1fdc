//! What the projects have, by name: states and labels. Plane's writes want their ids, and its lists cost
//! requests: each is read once by a process, and states are kept between processes where there is a place.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{PlaneClient, PlaneError, Urgency, lock};
use crate::adapters::run_directory::RunDirectory;
use crate::domain::name::ProjectId;
use crate::domain::pass::StateTarget;
use crate::domain::request_budget::Importance;
use crate::domain::work_item::StateGroup;

/// States that were kept longer ago are read again: they may have other names by now.
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(1);

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    /// Where states are kept between processes.
    kept: Option<RunDirectory>,
    states: BTreeMap<ProjectId, Vec<State>>,
    labels: BTreeMap<ProjectId, BTreeMap<String, Uuid>>,
}

/// A state of a project.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) id: Uuid,
    pub(super) name: String,
    group: StateGroup,
}

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    read_at: Timestamp,
    states: Vec<State>,
}

impl Catalog {
    pub(super) fn kept_in(directory: Option<PathBuf>) -> Self {
        Self { kept: directory.map(RunDirectory::new), ..Self::default() }
    }

    fn states(&mut self, project: ProjectId) -> Option<&Vec<State>> {
        if !self.states.contains_key(&project) {
            let kept = self.kept.as_ref()?.read::<Kept>(&file_of(project)).unwrap_or_default()?;
            let age = Timestamp::now().duration_since(kept.read_at);
            if age.is_negative() || age > KEPT_FOR {
                return None;
            }
            self.states.insert(project, kept.states);
        }
        self.states.get(&project)
    }

    fn set_states(&mut self, project: ProjectId, states: Vec<State>) {
        let kept = Kept { read_at: Timestamp::now(), states };
        if let Some(directory) = &self.kept
            && let Err(error) = directory.write(&file_of(project), &kept)
        {
            log::warn!("the states of project {project} are not kept: {error:#}");
        }
        self.states.insert(project, kept.states);
    }
}

fn file_of(project: ProjectId) -> String {
    format!("plane/{project}.states.json")
}

impl PlaneClient {
    /// The state that is meant, as far as it is known without asking Plane.
    pub(super) fn known_state(&self, project: ProjectId, target: &StateTarget) -> Option<State> {
        let mut catalog = lock(&self.catalog);
        catalog.states(project)?.iter().find(|state| is_meant(target, state)).cloned()
    }

    /// The state that is meant, as Plane has it now; `None`: the project has none.
    pub(super) async fn listed_state(
        &self,
        project: ProjectId,
        target: &StateTarget,
        urgency: impl Into<Urgency>,
    ) -> Result<Option<State>, PlaneError> {
        let states = self.listed_states(project, urgency).await?;
        let meant = states.iter().find(|state| is_meant(target, state)).cloned();
        lock(&self.catalog).set_states(project, states);
        Ok(meant)
    }

    async fn listed_states(
        &self,
        project: ProjectId,
        urgency: impl Into<Urgency>,
    ) -> Result<Vec<State>, PlaneError> {
        let path = format!("projects/{project}/states/");
        let rows = self.all_pages(&path, "read the states", urgency).await?;
        Ok(rows.iter().filter_map(read_state).collect())
    }

    /// The names of the states of the group `started`, in Plane's order.
    pub(super) async fn started_states(
        &self,
        project: ProjectId,
        importance: Importance,
    ) -> Result<Vec<String>, PlaneError> {
        let states = self.listed_states(project, importance).await?;
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

    /// The ids of a project's labels, by their names.
    pub(super) async fn labels(
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

/// A name as it is compared.
pub(super) fn folded(name: &str) -> String {
    name.trim().to_lowercase()
}
