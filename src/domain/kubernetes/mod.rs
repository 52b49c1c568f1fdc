//! What a run, an agent and the ledger are on a cluster: manifests, and what their states mean.
//! Plain values in and out; the cluster's own types come from `k8s-openapi` and carry no client.

pub mod admission;
pub mod diagnosis;
pub mod doctor;
pub mod identity;
pub mod job;
pub mod job_state;
pub mod network;
pub mod pending;
pub mod pod;
pub mod probe;
pub mod provision;
pub mod secret;

use std::collections::BTreeMap;

/// The prefix of our labels and annotations.
pub const PREFIX: &str = "dispatch.astra.dev";
/// Label: the run.
pub const LABEL_RUN: &str = "dispatch.astra.dev/run";
/// Label: the task's key.
pub const LABEL_TASK: &str = "dispatch.astra.dev/task";
/// Label: the agent.
pub const LABEL_AGENT: &str = "dispatch.astra.dev/agent";
/// Label: the agent's role.
pub const LABEL_ROLE: &str = "dispatch.astra.dev/role";
/// Label of a Job: how far it has got, see [`JobPhase`](super::job::JobPhase).
pub const LABEL_PHASE: &str = "dispatch.astra.dev/phase";
/// Label that says who made an object, by the convention of kubernetes.io.
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The value of [`LABEL_MANAGED_BY`].
pub const MANAGED_BY: &str = "astra-dispatch";
/// Annotation: `<project uuid>/<item uuid>`.
pub const ANNOTATION_ITEM: &str = "dispatch.astra.dev/item";
/// Annotation: `<hash>@<ordinal>` of the registry.
pub const ANNOTATION_REGISTRY: &str = "dispatch.astra.dev/registry";
/// Annotation: the attempt, from 1.
pub const ANNOTATION_ATTEMPT: &str = "dispatch.astra.dev/attempt";
/// Annotation: the candidates as JSON, at most 20.
pub const ANNOTATION_DECISION: &str = "dispatch.astra.dev/decision";
/// Annotation: what the run is for, as JSON ([`Subject`](crate::domain::publish::Subject) without its decision).
pub const ANNOTATION_SUBJECT: &str = "dispatch.astra.dev/subject";
/// Annotation: `{from, to, written_at, acknowledged}`.
pub const ANNOTATION_ITEM_STATE: &str = "dispatch.astra.dev/item-state";
/// Annotation: `unwanted`, `person` or `replaced`.
pub const ANNOTATION_CANCEL: &str = "dispatch.astra.dev/cancel";
/// Annotation: `<holder> <RFC 3339>`.
pub const ANNOTATION_CLAIM: &str = "dispatch.astra.dev/claim";
/// Annotation of a run that did not start in time: `{class, reason}`.
pub const ANNOTATION_PENDING: &str = "dispatch.astra.dev/pending";
/// Finalizer from claim to mark: a deletion by hand does not open the slot in between.
pub const FINALIZER: &str = "dispatch.astra.dev/publishing";
/// Label that the Job controller puts on the pods of a Job: the Job's UID.
pub const LABEL_CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";
/// The name of every agent's ServiceAccount: it has no token and no rights.
pub const AGENT_SERVICE_ACCOUNT: &str = "agent";
/// The ServiceAccount of the dispatcher, in the system namespace.
pub const DISPATCHER_SERVICE_ACCOUNT: &str = "astra-dispatcher";
/// The group that a dispatcher from outside (a workflow, a person) is mapped to.
pub const DISPATCHER_GROUP: &str = "astra:dispatchers";
/// The ledger's ConfigMap, in the system namespace.
pub const LEDGER_NAME: &str = "ledger";
/// The key of the ledger's document.
pub const LEDGER_KEY: &str = "ledger.json";

/// Builds labels or annotations.
fn string_map<const N: usize>(pairs: [(&str, String); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}
