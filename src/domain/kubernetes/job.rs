//! The Job of a run: one pod, one attempt, created suspended. Equal input gives an equal manifest.

use std::time::Duration;

use k8s_openapi::api::batch::v1::{
    Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::identity::JobIdentity;
use super::pod::pod_template;
use super::{ANNOTATION_DECISION, ANNOTATION_SUBJECT, string_map};
use crate::domain::name::{ItemId, ProjectId};
use crate::domain::registry::{Limits, Runtime};
use crate::domain::run_plan::RunPlan;

/// What a pod may take besides the agent's own time: pull and install 3 minutes, prepare 4,
/// collect 1, deliver 2.
pub const OVERHEAD: Duration = Duration::from_secs(10 * 60);

/// Everything that a Job is made from.
#[derive(Debug, Clone, Copy)]
pub struct JobInput<'a> {
    /// The run's plan.
    pub plan: &'a RunPlan,
    /// The work item.
    pub item: ItemId,
    /// Its project.
    pub project: ProjectId,
    /// Counted from 1.
    pub attempt: u32,
    /// The candidates as JSON, at most 20.
    pub decision: &'a str,
    /// What the run is for, as JSON.
    pub subject: &'a str,
    /// The agent's runtime: image, user, class.
    pub runtime: &'a Runtime,
    /// Our own image, by digest (`kubernetes.image` of `astra.yaml`).
    pub image: Option<&'a str>,
}

/// An image that the registry does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MissingImage {
    /// Ours.
    #[error(
        "`kubernetes.image` of astra.yaml is not set: it names the image that runs prepare, collect and deliver"
    )]
    Own,
    /// The agent's.
    #[error("`runtime.image` of the agent is not set: it names the image that the agent step runs in")]
    Agent,
}

/// The time that a run's pod may take, from its start on the node.
pub fn pod_deadline(limits: &Limits) -> Duration {
    limits.time + OVERHEAD
}

/// The time that a run's Job may take, from its release.
pub fn job_deadline(limits: &Limits) -> Duration {
    pod_deadline(limits) + limits.pending
}

/// The manifest of a run's Job.
pub fn job(input: &JobInput) -> Result<Job, MissingImage> {
    let plan = input.plan;
    let identity = JobIdentity {
        run: plan.run.clone(),
        task: plan.task.clone(),
        item: input.item,
        project: input.project,
        agent: plan.agent.clone(),
        role: plan.role.clone(),
        attempt: input.attempt,
        registry: plan.registry.clone(),
    };
    let mut annotations = identity.annotations();
    annotations.extend(string_map([
        (ANNOTATION_DECISION, input.decision.to_owned()),
        (ANNOTATION_SUBJECT, input.subject.to_owned()),
    ]));
    Ok(Job {
        metadata: ObjectMeta {
            name: Some(plan.run.to_string()),
            namespace: Some(plan.agent.namespace()),
            labels: Some(identity.job_labels()),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            suspend: Some(true),
            parallelism: Some(1),
            completions: Some(1),
            backoff_limit: Some(0),
            active_deadline_seconds: Some(seconds(job_deadline(&plan.limits))),
            pod_failure_policy: Some(fail_when_disrupted()),
            pod_replacement_policy: Some("Failed".to_owned()),
            template: pod_template(input, identity.pod_labels())?,
            ..JobSpec::default()
        }),
        status: None,
    })
}

/// A disrupted pod ends its Job. The action `Ignore` was seen to start further pods without limit;
/// attempts are ours to count.
fn fail_when_disrupted() -> PodFailurePolicy {
    PodFailurePolicy {
        rules: vec![PodFailurePolicyRule {
            action: "FailJob".to_owned(),
            on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
                type_: "DisruptionTarget".to_owned(),
                status: "True".to_owned(),
            }]),
            on_exit_codes: None,
        }],
    }
}

/// Whole seconds, as the cluster counts them.
pub(super) fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
