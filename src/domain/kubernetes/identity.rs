//! What a Job says about the run it carries out: labels and annotations, written and read back.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{
    ANNOTATION_ATTEMPT, ANNOTATION_CANCEL, ANNOTATION_CLAIM, ANNOTATION_ITEM, ANNOTATION_ITEM_STATE,
    ANNOTATION_PENDING, ANNOTATION_REGISTRY, LABEL_AGENT, LABEL_CONTROLLER_UID, LABEL_MANAGED_BY,
    LABEL_PHASE, LABEL_ROLE, LABEL_RUN, LABEL_TASK, MANAGED_BY, string_map,
};
use crate::domain::job::{CancelReason, Claim, ItemState, JobFailure, JobPhase};
use crate::domain::name::{AgentName, ItemId, ProjectId, Role, RunId, TaskKey};
use crate::domain::pass::OrphanPod;
use crate::domain::registry::RegistryStamp;

/// The run that a Job carries out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobIdentity {
    /// The run; also the Job's name.
    pub run: RunId,
    /// The task's key.
    pub task: TaskKey,
    /// The work item.
    pub item: ItemId,
    /// Its project.
    pub project: ProjectId,
    /// The agent.
    pub agent: AgentName,
    /// The agent's role.
    pub role: Role,
    /// Counted from 1.
    pub attempt: u32,
    /// The registry that it was admitted with.
    pub registry: RegistryStamp,
}

/// A Job in an agent's namespace that does not say what it is, or says it wrongly.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Job {namespace}/{name}: {what}")]
pub struct UnreadableJob {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What is missing or wrong.
    pub what: String,
}

impl JobIdentity {
    /// The labels of the Job's pods.
    pub fn pod_labels(&self) -> BTreeMap<String, String> {
        string_map([
            (LABEL_MANAGED_BY, MANAGED_BY.to_owned()),
            (LABEL_RUN, self.run.to_string()),
            (LABEL_TASK, self.task.to_string()),
            (LABEL_AGENT, self.agent.to_string()),
            (LABEL_ROLE, self.role.to_string()),
        ])
    }

    /// The labels of a new Job.
    pub fn job_labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.pod_labels();
        labels.insert(LABEL_PHASE.to_owned(), phase_label(JobPhase::Queued).to_owned());
        labels
    }

    /// The annotations of a new Job, but for its subject and decision.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        string_map([
            (ANNOTATION_ITEM, item_annotation(self.project, self.item)),
            (ANNOTATION_REGISTRY, format!("{}@{}", self.registry.hash, self.registry.ordinal)),
            (ANNOTATION_ATTEMPT, self.attempt.to_string()),
        ])
    }

    /// Reads back what [`job_labels`](Self::job_labels) and [`annotations`](Self::annotations) wrote.
    pub fn read(metadata: &ObjectMeta) -> Result<Self, UnreadableJob> {
        read(metadata).map_err(|what| UnreadableJob {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            what,
        })
    }
}

fn read(metadata: &ObjectMeta) -> Result<JobIdentity, String> {
    let run: RunId = parsed(label(metadata, LABEL_RUN)?, LABEL_RUN)?;
    if metadata.name.as_deref() != Some(run.as_str()) {
        return Err(format!("its name is not that of its run {run}"));
    }
    let (project, item) = item(metadata)?;
    let (hash, ordinal) = annotation(metadata, ANNOTATION_REGISTRY)?
        .rsplit_once('@')
        .ok_or_else(|| wrong(ANNOTATION_REGISTRY))?;
    Ok(JobIdentity {
        run,
        task: parsed(label(metadata, LABEL_TASK)?, LABEL_TASK)?,
        item,
        project,
        agent: parsed(label(metadata, LABEL_AGENT)?, LABEL_AGENT)?,
        role: parsed(label(metadata, LABEL_ROLE)?, LABEL_ROLE)?,
        attempt: parsed(annotation(metadata, ANNOTATION_ATTEMPT)?, ANNOTATION_ATTEMPT)?,
        registry: RegistryStamp { hash: hash.to_owned(), ordinal: parsed(ordinal, ANNOTATION_REGISTRY)? },
    })
}

/// The value of [`ANNOTATION_ITEM`].
pub fn item_annotation(project: ProjectId, item: ItemId) -> String {
    format!("{project}/{item}")
}

fn item(metadata: &ObjectMeta) -> Result<(ProjectId, ItemId), String> {
    let (project, item) =
        annotation(metadata, ANNOTATION_ITEM)?.split_once('/').ok_or_else(|| wrong(ANNOTATION_ITEM))?;
    Ok((ProjectId(parsed(project, ANNOTATION_ITEM)?), ItemId(parsed(item, ANNOTATION_ITEM)?)))
}

/// Reads a pod that outlives its Job; `None` for a pod that is not of a run.
pub fn orphan(metadata: &ObjectMeta) -> Option<OrphanPod> {
    Some(OrphanPod {
        job_uid: label(metadata, LABEL_CONTROLLER_UID).ok()?.to_owned(),
        run: label(metadata, LABEL_RUN).ok()?.parse().ok()?,
        item: item(metadata).ok()?.1,
        agent: label(metadata, LABEL_AGENT).ok()?.parse().ok()?,
    })
}

/// The value of [`LABEL_PHASE`].
pub fn phase_label(phase: JobPhase) -> &'static str {
    match phase {
        JobPhase::Queued => "queued",
        JobPhase::Released => "released",
        JobPhase::Cancelled => "cancelled",
        JobPhase::Claimed => "claimed",
        JobPhase::Published => "published",
    }
}

/// Reads [`LABEL_PHASE`].
pub fn phase(metadata: &ObjectMeta) -> Option<JobPhase> {
    [JobPhase::Queued, JobPhase::Released, JobPhase::Cancelled, JobPhase::Claimed, JobPhase::Published]
        .into_iter()
        .find(|&phase| label(metadata, LABEL_PHASE) == Ok(phase_label(phase)))
}

/// The value of [`ANNOTATION_CANCEL`].
pub fn cancel_annotation(reason: CancelReason) -> &'static str {
    match reason {
        CancelReason::Unwanted => "unwanted",
        CancelReason::Person => "person",
        CancelReason::Replaced => "replaced",
    }
}

/// Reads [`ANNOTATION_CANCEL`].
pub fn cancel_reason(metadata: &ObjectMeta) -> Option<CancelReason> {
    [CancelReason::Unwanted, CancelReason::Person, CancelReason::Replaced]
        .into_iter()
        .find(|&reason| annotation(metadata, ANNOTATION_CANCEL) == Ok(cancel_annotation(reason)))
}

/// The value of [`ANNOTATION_CLAIM`].
pub fn claim_annotation(claim: &Claim) -> String {
    format!("{} {}", claim.holder, claim.at)
}

/// Reads [`ANNOTATION_CLAIM`].
pub fn claim(metadata: &ObjectMeta) -> Option<Claim> {
    let (holder, at) = annotation(metadata, ANNOTATION_CLAIM).ok()?.rsplit_once(' ')?;
    Some(Claim { holder: holder.to_owned(), at: at.parse().ok()? })
}

/// Reads [`ANNOTATION_PENDING`].
pub fn pending_failure(metadata: &ObjectMeta) -> Option<JobFailure> {
    serde_json::from_str(annotation(metadata, ANNOTATION_PENDING).ok()?).ok()
}

/// Reads [`ANNOTATION_ITEM_STATE`].
pub fn item_state(metadata: &ObjectMeta) -> Option<ItemState> {
    serde_json::from_str(annotation(metadata, ANNOTATION_ITEM_STATE).ok()?).ok()
}

fn label<'a>(metadata: &'a ObjectMeta, name: &str) -> Result<&'a str, String> {
    let found = metadata.labels.as_ref().and_then(|labels| labels.get(name));
    found.map(String::as_str).ok_or_else(|| format!("the label {name} is missing"))
}

fn annotation<'a>(metadata: &'a ObjectMeta, name: &str) -> Result<&'a str, String> {
    let found = metadata.annotations.as_ref().and_then(|annotations| annotations.get(name));
    found.map(String::as_str).ok_or_else(|| format!("the annotation {name} is missing"))
}

fn parsed<T: std::str::FromStr>(text: &str, name: &str) -> Result<T, String> {
    text.parse().map_err(|_| wrong(name))
}

fn wrong(name: &str) -> String {
    format!("{name} is not as this program writes it")
}

#[cfg(test)]
impl JobIdentity {
    /// The first attempt at `AST-1` by `vega`, for tests.
    pub(crate) fn sample() -> Self {
        let parsed = "the sample is legal";
        Self {
            run: "ast-1-x7k2p".parse().expect(parsed),
            task: "AST-1".parse().expect(parsed),
            item: ItemId(uuid::Uuid::from_u128(1)),
            project: ProjectId(uuid::Uuid::from_u128(2)),
            agent: "vega".parse().expect(parsed),
            role: "coder".parse().expect(parsed),
            attempt: 1,
            registry: RegistryStamp { ordinal: 1, hash: "sha256:ab".into() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> JobIdentity {
        JobIdentity {
            attempt: 2,
            registry: RegistryStamp { ordinal: 1_760_000_000, hash: "sha256:ab".into() },
            ..JobIdentity::sample()
        }
    }

    fn metadata() -> ObjectMeta {
        let identity = identity();
        ObjectMeta {
            name: Some("ast-1-x7k2p".into()),
            namespace: Some("agent-vega".into()),
            labels: Some(identity.job_labels()),
            annotations: Some(identity.annotations()),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(JobIdentity::read(&metadata()), Ok(identity()));
        assert_eq!(phase(&metadata()), Some(JobPhase::Queued));
        let claimed = Claim { holder: "a b".into(), at: "2026-11-24T10:00:00Z".parse().unwrap() };
        let mut metadata = metadata();
        let annotations = metadata.annotations.as_mut().unwrap();
        annotations.insert(ANNOTATION_CLAIM.into(), claim_annotation(&claimed));
        annotations.insert(ANNOTATION_CANCEL.into(), "person".into());
        assert_eq!(claim(&metadata), Some(claimed));
        assert_eq!(cancel_reason(&metadata), Some(CancelReason::Person));
    }

    #[test]
    fn a_job_that_says_too_little_is_named() {
        for name in [LABEL_RUN, LABEL_TASK, LABEL_AGENT, LABEL_ROLE] {
            let mut metadata = metadata();
            metadata.labels.as_mut().unwrap().remove(name);
            let error = JobIdentity::read(&metadata).unwrap_err().to_string();
            assert_eq!(error, format!("Job agent-vega/ast-1-x7k2p: the label {name} is missing"));
        }
        let mut metadata = metadata();
        metadata.name = Some("ast-2-x7k2p".into());
        assert!(JobIdentity::read(&metadata).unwrap_err().to_string().contains("not that of its run"));
    }
}
