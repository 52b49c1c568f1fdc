//! The pending clock: a run whose pod does not get on is ended, so that its slot is free again.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};

use super::diagnosis::{Progress, all_statuses, diagnose, is_running, short_of_memory};
use super::identity;
use super::job_state::{has_ended, is_alive};
use crate::domain::job::{JobFailure, JobPhase};
use crate::domain::result::FailureClass;

/// Why a run is to be ended: it was released longer ago than `limits.pending` of its agent, and since
/// then, or since its last step ended, none of its steps has started; or the kubelet will start none any
/// more. `None`: it is not to be ended, or is being ended. `pods` are the Job's own, `events` those about
/// the Job itself.
pub fn overdue(job: &Job, pods: &[Pod], events: &[Event], now: Timestamp) -> Option<JobFailure> {
    let released = identity::phase(&job.metadata) == Some(JobPhase::Released);
    let started = job.status.as_ref()?.start_time.as_ref()?.0;
    let going = pods.iter().any(|pod| {
        !is_alive(pod)
            || pod.metadata.deletion_timestamp.is_some()
            || all_statuses(pod).into_iter().any(is_running)
    });
    let is_noted = identity::pending_failure(&job.metadata).is_some();
    if !released || going || is_noted || has_ended(job) {
        return None;
    }
    let waits_since = pods.iter().filter_map(last_end).fold(started, Timestamp::max);
    let waited = Duration::try_from(now.duration_since(waits_since)).unwrap_or_default();
    let is_hopeless = pods.iter().any(|pod| short_of_memory(pod).is_some());
    if !is_hopeless && waited < limit(job)? {
        return None;
    }
    let diagnosis = diagnose(job, pods, events, now);
    let class = match diagnosis.progress {
        Progress::Pending(class) => class.unwrap_or(FailureClass::Infrastructure),
        _ => return None,
    };
    let next = diagnosis.next.map(|next| format!(" ({next})")).unwrap_or_default();
    let late = if is_hopeless { "" } else { "it did not start in time: " };
    let reason = format!("{late}{}{next}", diagnosis.sentence);
    Some(JobFailure { class, reason })
}

/// `limits.pending` of the agent: what the Job may take beyond its pod.
fn limit(job: &Job) -> Option<Duration> {
    let spec = job.spec.as_ref()?;
    let of_pod = spec.template.spec.as_ref()?.active_deadline_seconds?;
    let seconds = u64::try_from(spec.active_deadline_seconds? - of_pod).ok()?;
    Some(Duration::from_secs(seconds))
}

/// When the pod's last step ended.
pub(super) fn last_end(pod: &Pod) -> Option<Timestamp> {
    let end =
        |status: &ContainerStatus| Some(status.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?.0);
    all_statuses(pod).into_iter().filter_map(end).max()
}
