//! The manifests of `agents provision`: plain objects that a person can read and apply, twice if
//! they like. What runs in them is made by `dispatch`; nothing in here holds a secret.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMap, LimitRange, LimitRangeItem, LimitRangeSpec, Namespace, ResourceQuota, ResourceQuotaSpec,
    ServiceAccount,
};
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::admission;
use super::network::{InvalidAddress, policies};
use super::pod::{OWN_CPU, OWN_CPU_MILLIS, OWN_MEMORY, OWN_MEMORY_BYTES};
use super::{
    AGENT_SERVICE_ACCOUNT, DISPATCHER_GROUP, DISPATCHER_SERVICE_ACCOUNT, LABEL_AGENT, LABEL_MANAGED_BY,
    LEDGER_NAME, MANAGED_BY, string_map,
};
use crate::domain::name::AgentName;
use crate::domain::registry::{Agent, Limits, Registry};

/// The name of the dispatcher's Role and RoleBinding, of quota and limits in each namespace.
const DISPATCHER: &str = "astra-dispatcher";
const RUNS: &str = "runs";

/// The system namespace: the dispatcher's identity, and the ledger.
pub fn system(system_namespace: &str) -> Vec<Value> {
    let within = |name: &str| metadata(name, Some(system_namespace), None);
    vec![
        value(&namespace(system_namespace, None)),
        value(&ServiceAccount {
            metadata: within(DISPATCHER_SERVICE_ACCOUNT),
            // A pod that needs the token mounts it by itself.
            automount_service_account_token: Some(false),
            ..ServiceAccount::default()
        }),
        value(&ledger(system_namespace)),
        value(&Role {
            metadata: within("astra-ledger"),
            rules: Some(vec![PolicyRule {
                resource_names: Some(vec![LEDGER_NAME.to_owned()]),
                ..rule("", &["configmaps"], &["get", "update"])
            }]),
        }),
        value(&binding(within("astra-ledger"), "astra-ledger", system_namespace)),
    ]
}

/// An agent's namespace.
pub fn agent(
    agent: &Agent,
    system_namespace: &str,
    api_server: &[String],
) -> Result<Vec<Value>, InvalidAddress> {
    let name = agent.name.namespace();
    let within = |object: &str| metadata(object, Some(&name), Some(&agent.name));
    let mut manifests = vec![
        value(&namespace(&name, Some(&agent.name))),
        value(&ServiceAccount {
            metadata: within(AGENT_SERVICE_ACCOUNT),
            automount_service_account_token: Some(false),
            ..ServiceAccount::default()
        }),
        value(&ResourceQuota {
            metadata: within(RUNS),
            spec: Some(ResourceQuotaSpec { hard: Some(quota(agent)), ..ResourceQuotaSpec::default() }),
            status: None,
        }),
        value(&LimitRange { metadata: within(RUNS), spec: Some(limit_range(&agent.limits)) }),
    ];
    manifests.extend(policies(agent, api_server)?.iter().map(value));
    manifests.push(value(&Role { metadata: within(DISPATCHER), rules: Some(dispatcher_rules()) }));
    manifests.push(value(&binding(within(DISPATCHER), DISPATCHER, system_namespace)));
    Ok(manifests)
}

/// Everything that a registry needs, or what one of its agents needs (the system namespace and the
/// admission policy, which are shared, are left out then).
pub fn manifests(
    registry: &Registry,
    only: Option<&AgentName>,
    api_server: &[String],
) -> Result<Vec<Value>, InvalidAddress> {
    let system_namespace = &registry.kubernetes.system_namespace;
    let mut manifests = if only.is_none() { system(system_namespace) } else { Vec::new() };
    for one in registry.agents.values().filter(|agent| only.is_none_or(|only| *only == agent.name)) {
        manifests.extend(agent(one, system_namespace, api_server)?);
    }
    if only.is_none() {
        manifests.extend(admission::policy(system_namespace));
    }
    Ok(manifests)
}

/// The same by file, `<namespace>.yaml`; what is in none has its own name.
pub fn by_namespace(manifests: &[Value]) -> BTreeMap<String, Vec<&Value>> {
    let mut files: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for manifest in manifests {
        let name = |pointer| manifest.pointer(pointer).and_then(Value::as_str);
        let namespace = name("/metadata/namespace").or(name("/metadata/name")).unwrap_or_default();
        files.entry(format!("{namespace}.yaml")).or_default().push(manifest);
    }
    files
}

/// The file that names the others, for `kubectl apply -k` and what builds on it.
pub fn kustomization<'a>(files: impl Iterator<Item = &'a String>) -> Value {
    serde_json::json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": files.collect::<Vec<_>>(),
    })
}

/// What the dispatcher may do in an agent's namespace. Secrets may be made and deleted, never read:
/// `list` and `patch` would return their content.
pub fn dispatcher_rules() -> Vec<PolicyRule> {
    vec![
        rule("batch", &["jobs"], &["get", "list", "watch", "create", "patch", "delete"]),
        rule("", &["pods", "events"], &["list", "watch"]),
        rule("", &["pods/log"], &["get"]),
        rule("", &["secrets"], &["create", "delete"]),
    ]
}

/// Metadata with our labels.
pub(super) fn metadata(name: &str, namespace: Option<&str>, agent: Option<&AgentName>) -> ObjectMeta {
    let mut labels = string_map([(LABEL_MANAGED_BY, MANAGED_BY.to_owned())]);
    if let Some(agent) = agent {
        labels.extend(string_map([(LABEL_AGENT, agent.to_string())]));
    }
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: namespace.map(str::to_owned),
        labels: Some(labels),
        ..ObjectMeta::default()
    }
}

fn namespace(name: &str, agent: Option<&AgentName>) -> Namespace {
    let mut metadata = metadata(name, None, agent);
    let security = ["enforce", "audit", "warn"]
        .map(|mode| (format!("pod-security.kubernetes.io/{mode}"), "restricted".to_owned()));
    metadata.labels.get_or_insert_default().extend(security);
    Namespace { metadata, ..Namespace::default() }
}

/// The ledger, without its `data`: applied again, it keeps what the dispatcher wrote; and the tools
/// that prune or delete leave it alone.
fn ledger(system_namespace: &str) -> ConfigMap {
    let mut metadata = metadata(LEDGER_NAME, Some(system_namespace), None);
    metadata.annotations = Some(string_map([
        ("argocd.argoproj.io/sync-options", "Prune=false,Delete=false".to_owned()),
        ("kustomize.toolkit.fluxcd.io/prune", "disabled".to_owned()),
        ("helm.sh/resource-policy", "keep".to_owned()),
    ]));
    ConfigMap { metadata, ..ConfigMap::default() }
}

/// A second wall against bugs, not the counter: one more than may run, since a pod that is being
/// stopped counts too.
fn quota(agent: &Agent) -> BTreeMap<String, Quantity> {
    let pods = u64::from(agent.max_concurrent_tasks) + 1;
    let memory = agent.limits.memory_bytes.max(OWN_MEMORY_BYTES);
    let cpu = agent.limits.cpu_millis.max(OWN_CPU_MILLIS);
    quantities([
        ("pods", pods.to_string()),
        ("limits.cpu", canonical_cpu(pods * cpu)),
        ("limits.memory", (pods * memory).to_string()),
        ("persistentvolumeclaims", "0".to_owned()),
        ("services", "0".to_owned()),
    ])
}

/// As the API server writes it, so that applying it again changes nothing.
fn canonical_cpu(millis: u64) -> String {
    if millis.is_multiple_of(1000) { (millis / 1000).to_string() } else { format!("{millis}m") }
}

fn limit_range(limits: &Limits) -> LimitRangeSpec {
    let larger = |agents: (u64, &str), ours: (u64, &str)| {
        if agents.0 > ours.0 { agents.1.to_owned() } else { ours.1.to_owned() }
    };
    let cpu = larger((limits.cpu_millis, &limits.cpu), (OWN_CPU_MILLIS, OWN_CPU));
    let memory = larger((limits.memory_bytes, &limits.memory), (OWN_MEMORY_BYTES, OWN_MEMORY));
    LimitRangeSpec {
        limits: vec![LimitRangeItem {
            type_: "Container".to_owned(),
            max: Some(quantities([("cpu", cpu), ("memory", memory)])),
            default: Some(quantities([("cpu", OWN_CPU.to_owned()), ("memory", OWN_MEMORY.to_owned())])),
            default_request: Some(quantities([
                ("cpu", "100m".to_owned()),
                ("memory", OWN_MEMORY.to_owned()),
            ])),
            ..LimitRangeItem::default()
        }],
    }
}

fn quantities<const N: usize>(pairs: [(&str, String); N]) -> BTreeMap<String, Quantity> {
    pairs.into_iter().map(|(name, quantity)| (name.to_owned(), Quantity(quantity))).collect()
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> PolicyRule {
    let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(owned(resources)),
        verbs: owned(verbs),
        ..PolicyRule::default()
    }
}

/// Binds a Role of the same namespace to the dispatcher: its ServiceAccount inside the cluster, and
/// the group that workflows and people are mapped to.
fn binding(metadata: ObjectMeta, role: &str, system_namespace: &str) -> RoleBinding {
    RoleBinding {
        metadata,
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".to_owned(),
            kind: "Role".to_owned(),
            name: role.to_owned(),
        },
        subjects: Some(vec![
            Subject {
                kind: "ServiceAccount".to_owned(),
                name: DISPATCHER_SERVICE_ACCOUNT.to_owned(),
                namespace: Some(system_namespace.to_owned()),
                api_group: None,
            },
            Subject {
                kind: "Group".to_owned(),
                name: DISPATCHER_GROUP.to_owned(),
                namespace: None,
                api_group: Some("rbac.authorization.k8s.io".to_owned()),
            },
        ]),
    }
}

/// A manifest as a value, so that objects of different kinds make one list.
pub(super) fn value(object: &impl serde::Serialize) -> Value {
    // The cluster's own types serialise to plain JSON objects; there is nothing in them that could fail.
    serde_json::to_value(object).unwrap_or_default()
}

#[cfg(test)]
mod tests;
