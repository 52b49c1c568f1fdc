//! A cluster's Job and its pods, read as a run.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job as ClusterJob;
use k8s_openapi::api::core::v1::Pod;

use super::diagnosis::{self, Progress};
use super::identity::{self, JobIdentity, UnreadableJob};
use super::pod::Step;
use crate::domain::job::{Cancel, Job, JobEnd, JobFailure};
use crate::domain::result::{FailureClass, RunOutcome, RunResult};

/// Reads a Job as a run. `pods` are the Job's own, all that are still there for a Job that has
/// ended; for others those that have not ended are enough. `now` is the server's time.
pub fn read(job: &ClusterJob, pods: &[Pod], now: Timestamp) -> Result<Job, UnreadableJob> {
    let identity = JobIdentity::read(&job.metadata)?;
    let uid = job.metadata.uid.clone().unwrap_or_default();
    let phase = identity::phase(&job.metadata).ok_or_else(|| UnreadableJob {
        namespace: job.metadata.namespace.clone().unwrap_or_default(),
        name: job.metadata.name.clone().unwrap_or_default(),
        what: format!("the label {} is missing or unknown", super::LABEL_PHASE),
    })?;
    let end = end(job, pods, now);
    let pods_of_it = pods.iter().filter(|pod| belongs_to(pod, &uid));
    let cancel = identity::cancel_reason(&job.metadata).map(|reason| {
        // A Job that had ended before is never marked `Suspended`.
        let at = suspended_since(job).or(end.as_ref().map(|end| end.at)).unwrap_or(now);
        Cancel { reason, at }
    });
    Ok(Job {
        run: identity.run,
        uid: uid.clone(),
        task: identity.task,
        item: identity.item,
        project: identity.project,
        agent: identity.agent,
        namespace: job.metadata.namespace.clone().unwrap_or_default(),
        attempt: identity.attempt,
        registry: identity.registry,
        phase,
        cancel,
        end,
        pod_alive: pods_of_it.filter(|pod| is_alive(pod)).count() > 0,
        item_state: identity::item_state(&job.metadata),
        claim: identity::claim(&job.metadata),
        created_at: job.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0),
    })
}

/// Whether a Job has ended: its condition `Complete` or `Failed` is true. `SuccessCriteriaMet` and
/// `FailureTarget` come before its pods are gone and do not count.
pub fn has_ended(job: &ClusterJob) -> bool {
    condition(job, "Complete").or(condition(job, "Failed")).is_some()
}

/// Whether a pod has not ended yet.
pub fn is_alive(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    !matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether a pod is one of the Job with this UID.
pub fn belongs_to(pod: &Pod, job_uid: &str) -> bool {
    let labels = pod.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(super::LABEL_CONTROLLER_UID)).is_some_and(|uid| uid == job_uid)
}

/// The time of the Job's condition, if it is true.
fn condition(job: &ClusterJob, type_: &str) -> Option<Option<Timestamp>> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|condition| condition.type_ == type_ && condition.status == "True")?;
    Some(found.last_transition_time.as_ref().map(|time| time.0))
}

fn suspended_since(job: &ClusterJob) -> Option<Timestamp> {
    condition(job, "Suspended").flatten()
}

fn end(job: &ClusterJob, pods: &[Pod], now: Timestamp) -> Option<JobEnd> {
    let result = pods.iter().find_map(result_in_message);
    if let Some(at) = condition(job, "Complete") {
        return Some(JobEnd { at: at.unwrap_or(now), failure: result.and_then(to_be_retried) });
    }
    let at = condition(job, "Failed")?.unwrap_or(now);
    if result.is_some() {
        // The last step had done its work before the pod was ended from outside.
        return Some(JobEnd { at, failure: result.and_then(to_be_retried) });
    }
    let diagnosis = diagnosis::diagnose(job, pods, &[], now);
    let class = match diagnosis.progress {
        Progress::Failed(class) => class,
        _ => FailureClass::Infrastructure,
    };
    Some(JobEnd { at, failure: Some(JobFailure { class, reason: diagnosis.sentence }) })
}

/// The result in the termination message of a `deliver` that ended well. A process that exits 0 on
/// SIGTERM would look the same but for its message.
pub fn result_in_message(pod: &Pod) -> Option<RunResult> {
    let ended = diagnosis::terminated(pod, Step::Deliver).filter(|ended| ended.exit_code == 0)?;
    serde_json::from_str(ended.message.as_deref()?).ok()
}

/// A result that says that the machine or a service failed is tried again; any other stands.
fn to_be_retried(result: RunResult) -> Option<JobFailure> {
    let retried = result.outcome == RunOutcome::Failed && result.class == Some(FailureClass::Infrastructure);
    retried.then_some(JobFailure { class: FailureClass::Infrastructure, reason: result.reason })
}

#[cfg(test)]
mod tests;
