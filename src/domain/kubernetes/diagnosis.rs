//! What a Job is doing or why it failed: one sentence, a failure class, and what to do next.
//! Every rule rests on a state recorded on a real cluster (`fixtures/cluster-status`).

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Event, Pod, PodStatus};

use super::identity;
use super::pod::Step;
use crate::domain::job::JobFailure;
use crate::domain::message;
use crate::domain::result::FailureClass;
use crate::domain::status::Hindrance;

/// A pod that was to be gone this long ago, and is not, has lost its node: the kubelet, which alone
/// can say that its containers ended, does not answer.
const NODE_LOST_AFTER: SignedDuration = SignedDuration::from_secs(60);
/// A pod on a node that has not started by then waits for something (a large image may, too).
const SLOW_START: SignedDuration = SignedDuration::from_secs(120);
/// Texts of the cluster are cut to this many characters.
const LONGEST_DETAIL: usize = 300;

/// How far a Job has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Suspended: not released yet.
    Queued,
    /// Released; no step runs yet. Something may keep it from running, then with the class that it
    /// will fail with if that does not change.
    Pending(Option<FailureClass>),
    /// This step runs.
    Running(Option<Step>),
    /// It is being stopped.
    Stopping,
    /// It was to be stopped, but its node does not answer: it keeps its slot.
    NodeLost,
    /// It ended, with a result.
    Completed,
    /// It ended without one.
    Failed(FailureClass),
}

/// What is to be said about a Job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// How far it has got.
    pub progress: Progress,
    /// One sentence.
    pub sentence: String,
    /// What to do, where something is to be done.
    pub next: Option<String>,
}

impl Diagnosis {
    fn new(progress: Progress, sentence: impl Into<String>) -> Self {
        Self { progress, sentence: sentence.into(), next: None }
    }

    fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// What keeps the run from going on, if something does.
    pub fn hindrance(self) -> Option<Hindrance> {
        let class = match self.progress {
            Progress::Pending(class) => class?,
            Progress::NodeLost => FailureClass::Infrastructure,
            _ => return None,
        };
        let is_waiting = self.progress != Progress::NodeLost;
        Some(Hindrance { class, sentence: self.sentence, next: self.next?, is_waiting })
    }

    fn failed(class: FailureClass, sentence: impl Into<String>) -> Self {
        let next = match class {
            FailureClass::Infrastructure => message::RETRIED,
            _ => message::class_next_step(class),
        };
        Self::new(Progress::Failed(class), sentence).next(next)
    }
}

/// Says what a Job is doing. `pods` are its own; `events` those about the Job itself, read only
/// where it has no pod.
pub fn diagnose(job: &Job, pods: &[Pod], events: &[Event], now: Timestamp) -> Diagnosis {
    let pod = pods.iter().max_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
    if let Some((reason, _)) = condition(job, "Complete") {
        return Diagnosis::new(Progress::Completed, format!("it ended with a result ({reason})"));
    }
    if let Some((reason, text)) = condition(job, "Failed") {
        return failure(job, &reason, &text, pod);
    }
    let suspended = job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true);
    match pod {
        Some(pod) if pod.metadata.deletion_timestamp.is_some() => stopping(pod, now),
        // While an init container runs, the phase is still `Pending`.
        Some(pod) if pod_phase(pod) == "Running" || all_statuses(pod).into_iter().any(is_running) => {
            running(pod)
        }
        Some(pod) if pod_phase(pod) == "Pending" => pending(pod, now),
        Some(pod) => Diagnosis::new(Progress::Stopping, format!("its pod has ended ({})", pod_phase(pod))),
        None if suspended => Diagnosis::new(Progress::Queued, "it is not released yet"),
        None => without_pod(events),
    }
}

fn stopping(pod: &Pod, now: Timestamp) -> Diagnosis {
    let due = pod.metadata.deletion_timestamp.as_ref().map_or(now, |time| time.0);
    let lost = super::job_state::is_alive(pod) && now.duration_since(due) > NODE_LOST_AFTER;
    if !lost {
        let why = disruption(pod).map_or_else(String::new, |(_, words)| format!(": {words}"));
        return Diagnosis::new(Progress::Stopping, format!("its pod is being stopped{why}"));
    }
    let name = |name: &Option<String>| name.clone().unwrap_or_default();
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
    Diagnosis::new(Progress::NodeLost, format!("node lost: its pod was to be gone by {due}, but node {node} does not answer"))
        .next(format!(
            "bring node {node} back; or, if you are sure that the machine is off, run `kubectl delete pod -n {} {} --grace-period=0 --force`",
            name(&pod.metadata.namespace),
            name(&pod.metadata.name)
        ))
}

fn running(pod: &Pod) -> Diagnosis {
    let step = Step::ALL.into_iter().find(|&step| status_of(pod, step).is_some_and(is_running));
    match step {
        Some(step) => Diagnosis::new(Progress::Running(Some(step)), format!("{} runs", step.name())),
        None => Diagnosis::new(Progress::Running(None), "it runs"),
    }
}

pub(super) fn is_running(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|state| state.running.is_some())
}

/// The reasons for which a container waits that do not pass by themselves.
/// Source: kubelet, `pkg/kubelet/images/types.go` and `kuberuntime/kuberuntime_container.go`.
fn pending(pod: &Pod, now: Timestamp) -> Diagnosis {
    let statuses = all_statuses(pod);
    if let Some(step) = short_of_memory(pod) {
        return Diagnosis::new(
            Progress::Pending(Some(by_step(step))),
            format!(
                "something in {step} was killed for want of memory, and the kubelet starts no step after that"
            ),
        )
        .next("raise `limits.memory` of the agent, or give it a smaller task");
    }
    let waiting = statuses.iter().find_map(|status| {
        let waiting = status.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.as_deref()?;
        (!["PodInitializing", "ContainerCreating"].contains(&reason))
            .then(|| (status, reason, detail(waiting.message.as_deref())))
    });
    if let Some((status, reason, text)) = waiting {
        return waiting_container(&status.name, reason, &status.image, &text);
    }
    match pod_condition(pod, "PodScheduled") {
        Some(("False", _, text)) => Diagnosis::new(
            Progress::Pending(Some(FailureClass::Infrastructure)),
            format!("no node has room for it: {}", detail(Some(text))),
        )
        .next("add a node, or lower `limits` of the agent; it starts by itself when there is room"),
        _ if now.duration_since(waits_since(pod, now)) > SLOW_START => Diagnosis::new(
            Progress::Pending(Some(FailureClass::Infrastructure)),
            "its pod does not start: its image, its volumes or its network are not ready",
        )
        .next("run `kubectl describe pod` in the agent's namespace; its events say what it waits for"),
        _ => Diagnosis::new(Progress::Pending(None), "its pod is starting"),
    }
}

/// The step in which a process was killed for want of memory. The kubelet takes it for failed even if
/// its exit code is 0, but does not end the pod then. Source: kubelet, `isInitContainerFailed`.
pub(super) fn short_of_memory(pod: &Pod) -> Option<&str> {
    let is_short = |status: &&ContainerStatus| {
        let ended = status.state.as_ref().and_then(|state| state.terminated.as_ref());
        ended.is_some_and(|ended| ended.reason.as_deref() == Some("OOMKilled"))
    };
    all_statuses(pod).into_iter().find(is_short).map(|status| status.name.as_str())
}

/// When its last step ended, or it was made.
fn waits_since(pod: &Pod, now: Timestamp) -> Timestamp {
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    super::pending::last_end(pod).or(created).unwrap_or(now)
}

fn waiting_container(container: &str, reason: &str, image: &str, text: &str) -> Diagnosis {
    match reason {
        "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "RegistryUnavailable" => Diagnosis::new(
            Progress::Pending(Some(FailureClass::Infrastructure)),
            format!("the image of {container} cannot be pulled: {text}"),
        )
        .next(format!("check that {image} exists and that `runtime.pull_secret` may read it")),
        "InvalidImageName" => Diagnosis::new(
            Progress::Pending(Some(FailureClass::Task)),
            format!("the image of {container} has no legal name: {image}"),
        )
        .next("correct `runtime.image` of the agent or `kubernetes.image` of astra.yaml"),
        "CreateContainerConfigError" => Diagnosis::new(
            Progress::Pending(Some(FailureClass::Credentials)),
            format!("{container} lacks a part of its Secret: {text}"),
        )
        .next("check `credentials.env` of the agent against its vault, and cancel the run"),
        _ => Diagnosis::new(
            Progress::Pending(Some(FailureClass::Infrastructure)),
            format!("{container} does not start ({reason}): {text}"),
        )
        .next("run `kubectl describe pod` in the agent's namespace"),
    }
}

/// A released Job without a pod: the Job controller's events say why it got none.
fn without_pod(events: &[Event]) -> Diagnosis {
    let refused = events
        .iter()
        .filter(|event| event.reason.as_deref() == Some("FailedCreate"))
        .max_by_key(|event| event.last_timestamp.as_ref().map(|time| time.0))
        .and_then(|event| event.message.as_deref());
    let Some(text) = refused else {
        return Diagnosis::new(Progress::Pending(None), "its pod is not created yet");
    };
    let pending = |class, sentence: &str| {
        Diagnosis::new(Progress::Pending(Some(class)), format!("{sentence}: {}", detail(Some(text))))
    };
    if text.contains("exceeded quota") {
        pending(FailureClass::Infrastructure, "the namespace's quota has no room for its pod")
            .next("wait until a pod of this namespace ends, or remove pods that are not ours; `agents provision` prints the right quota")
    } else if text.contains("violates PodSecurity") {
        pending(FailureClass::Task, "Pod Security refuses its pod")
            .next("check `runtime` of the agent; its pod must keep the level `restricted`")
    } else {
        pending(FailureClass::Infrastructure, "the cluster refuses its pod")
            .next("run `agents provision | kubectl apply -f -`, then `agents doctor`")
    }
}

/// Why a Job failed, from its condition and its last pod.
fn failure(job: &Job, reason: &str, text: &str, pod: Option<&Pod>) -> Diagnosis {
    use FailureClass::Infrastructure;
    if let Some(JobFailure { class, reason }) = identity::pending_failure(&job.metadata) {
        return Diagnosis::failed(class, message::one_line(&reason, 2 * LONGEST_DETAIL));
    }
    if let Some((_, words)) = pod.and_then(disruption) {
        return Diagnosis::failed(Infrastructure, format!("its pod was disrupted: {words}"));
    }
    match reason {
        "DeadlineExceeded" => {
            return Diagnosis::failed(
                Infrastructure,
                "the Job's time was up before its pod had its own: it stayed pending too long",
            );
        }
        "PodFailurePolicy" if text.contains("DisruptionTarget") => {
            return Diagnosis::failed(Infrastructure, "its pod was disrupted, and is gone");
        }
        _ => {}
    }
    match pod {
        Some(pod) => pod_failure(pod),
        None => {
            Diagnosis::failed(Infrastructure, format!("its pod is gone, and what it ended with ({reason})"))
        }
    }
}

fn pod_failure(pod: &Pod) -> Diagnosis {
    use FailureClass::{Agent, Infrastructure};
    let text = pod.status.as_ref().and_then(|status| status.message.as_deref());
    match pod.status.as_ref().and_then(|status| status.reason.as_deref()) {
        // Without a disruption this is the pod's own doing: its volume or its log was over its limit.
        Some("Evicted") => return Diagnosis::failed(Agent, format!("it was evicted: {}", detail(text))),
        Some("DeadlineExceeded") => return deadline(pod),
        Some(other) => {
            return Diagnosis::failed(
                Infrastructure,
                format!("the node ended its pod ({other}): {}", detail(text)),
            );
        }
        None => {}
    }
    if pod.metadata.deletion_timestamp.is_some() {
        return Diagnosis::failed(Infrastructure, "its pod was deleted while it ran");
    }
    let culprit = all_statuses(pod).into_iter().find_map(|status| {
        let ended = status.state.as_ref()?.terminated.as_ref()?;
        (ended.exit_code != 0).then_some((status, ended))
    });
    match culprit {
        Some((status, ended)) => container_failure(&status.name, ended),
        None => Diagnosis::failed(Infrastructure, "its pod failed without a failed step"),
    }
}

/// The pod's time was up: the agent has its own, shorter clock, so only a stuck step gets here.
fn deadline(pod: &Pod) -> Diagnosis {
    let cut = all_statuses(pod).into_iter().find_map(|status| {
        let ended = status.state.as_ref()?.terminated.as_ref()?;
        // A container that never was has an unknown status and an exit code all the same.
        let was_there = ended.reason.as_deref() != Some("ContainerStatusUnknown");
        (ended.exit_code != 0 && was_there).then_some(status)
    });
    match cut {
        Some(status) => Diagnosis::failed(
            by_step(&status.name),
            format!("the pod's time was up while {} ran", status.name),
        ),
        None => match last_ended(pod) {
            Some(step) => Diagnosis::failed(
                by_step(step),
                format!("the pod's time was up, and {step} was the last step that ran"),
            ),
            None => Diagnosis::failed(
                FailureClass::Infrastructure,
                "the pod's time was up before a step could start",
            ),
        },
    }
}

/// The last step that ended well: one that was told to end may do that, too.
fn last_ended(pod: &Pod) -> Option<&str> {
    let ended_well = |status: &&ContainerStatus| {
        let ended = status.state.as_ref().and_then(|state| state.terminated.as_ref());
        ended.is_some_and(|ended| ended.exit_code == 0)
    };
    all_statuses(pod).into_iter().rfind(ended_well).map(|status| status.name.as_str())
}

fn container_failure(container: &str, ended: &ContainerStateTerminated) -> Diagnosis {
    let text = detail(ended.message.as_deref());
    match ended.reason.as_deref() {
        Some("OOMKilled") => Diagnosis::failed(by_step(container), format!("{container} ran out of memory")),
        Some("StartError" | "ContainerCannotRun") => Diagnosis::failed(
            FailureClass::Task,
            format!("{container} cannot be started from its image: {text}"),
        ),
        Some("ContainerStatusUnknown") => Diagnosis::failed(
            FailureClass::Infrastructure,
            format!("what became of {container} is not known: {text}"),
        ),
        _ => Diagnosis::failed(
            by_step(container),
            format!("{container} failed with exit code {}", ended.exit_code),
        ),
    }
}

/// Whose failure it is when a step ends badly: `agent` and `collect` work beside hostile code, and
/// so does what they do to themselves; the others fail with the machine or with Git.
fn by_step(container: &str) -> FailureClass {
    match Step::ALL.into_iter().find(|step| step.name() == container) {
        Some(Step::Agent | Step::Collect) => FailureClass::Agent,
        _ => FailureClass::Infrastructure,
    }
}

/// Why a pod was disrupted, if it was. Source: kubernetes.io, "Pod disruption conditions".
fn disruption(pod: &Pod) -> Option<(&str, &'static str)> {
    let (status, reason, _) = pod_condition(pod, "DisruptionTarget")?;
    (status == "True").then(|| {
        let words = match reason {
            "EvictionByEvictionAPI" => "it was evicted, as when its node is drained",
            "PreemptionByScheduler" => "a pod of higher priority took its place",
            "DeletionByTaintManager" => "its node was lost or tainted",
            "DeletionByPodGC" => "its node is gone",
            "TerminationByKubelet" => "its node shut down or ran short of memory or disk",
            _ => "the cluster ended it",
        };
        (reason, words)
    })
}

/// The terminated state of a step, if it has one.
pub(super) fn terminated(pod: &Pod, step: Step) -> Option<&ContainerStateTerminated> {
    status_of(pod, step)?.state.as_ref()?.terminated.as_ref()
}

fn status_of(pod: &Pod, step: Step) -> Option<&ContainerStatus> {
    all_statuses(pod).into_iter().find(|status| status.name == step.name())
}

/// The statuses of all containers, in the order that they run in.
pub(super) fn all_statuses(pod: &Pod) -> Vec<&ContainerStatus> {
    let Some(PodStatus { init_container_statuses, container_statuses, .. }) = pod.status.as_ref() else {
        return Vec::new();
    };
    init_container_statuses.iter().flatten().chain(container_statuses.iter().flatten()).collect()
}

fn pod_phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// Status, reason and message of a pod's condition.
fn pod_condition<'a>(pod: &'a Pod, type_: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|condition| condition.type_ == type_)?;
    let text = |text: &'a Option<String>| text.as_deref().unwrap_or_default();
    Some((&found.status, text(&found.reason), text(&found.message)))
}

/// Reason and message of a Job's condition, if it is true.
fn condition(job: &Job, type_: &str) -> Option<(String, String)> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|condition| condition.type_ == type_ && condition.status == "True")?;
    Some((found.reason.clone().unwrap_or_default(), found.message.clone().unwrap_or_default()))
}

/// A text of the cluster on one line, cut.
fn detail(text: Option<&str>) -> String {
    message::one_line(text.unwrap_or("no details"), LONGEST_DETAIL)
}
