//! What `agents doctor` asks a live cluster, and what it makes of the answers. The registry says what
//! ought to be; every difference is a finding with its remedy.

use std::collections::BTreeSet;

use kube_quantity::ParsedQuantity;
use serde_json::Value;

use super::provision::dispatcher_rules;
use super::{AGENT_SERVICE_ACCOUNT, DISPATCHER_GROUP, LABEL_AGENT, LEDGER_NAME};
use crate::domain::name::AgentName;
use crate::domain::registry::Registry;

/// Who wants to do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// The dispatcher, as a workflow or a person is mapped to it.
    Dispatcher,
    /// What runs in an agent's pods.
    Agent(AgentName),
}

impl Who {
    /// User and groups, as the API server would see them.
    pub fn identity(&self) -> (Option<String>, Vec<String>) {
        let authenticated = "system:authenticated".to_owned();
        match self {
            Self::Dispatcher => (None, vec![DISPATCHER_GROUP.to_owned(), authenticated]),
            Self::Agent(name) => {
                let namespace = name.namespace();
                let groups = vec![
                    "system:serviceaccounts".to_owned(),
                    format!("system:serviceaccounts:{namespace}"),
                    authenticated,
                ];
                (Some(format!("system:serviceaccount:{namespace}:{AGENT_SERVICE_ACCOUNT}")), groups)
            }
        }
    }
}

/// One question to the authorizer, and the answer it ought to give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The namespace; empty for all of them.
    pub namespace: String,
    /// The verb.
    pub verb: String,
    /// The API group; empty for the core one.
    pub group: String,
    /// The resource, with its subresource after a slash.
    pub resource: String,
    /// One object, or any.
    pub name: Option<String>,
    /// What the answer ought to be.
    pub allowed: bool,
}

impl Access {
    fn new(namespace: &str, verb: &str, group: &str, resource: &str, allowed: bool) -> Self {
        Self {
            namespace: namespace.to_owned(),
            verb: verb.to_owned(),
            group: group.to_owned(),
            resource: resource.to_owned(),
            name: None,
            allowed,
        }
    }

    /// What is wrong where the answer was the other one.
    pub fn fault(&self, who: &Who) -> String {
        let subject = match who {
            Who::Dispatcher => "the dispatcher".to_owned(),
            Who::Agent(name) => format!("agent {name}"),
        };
        let place = if self.namespace.is_empty() { "all namespaces" } else { &self.namespace };
        let may = if self.allowed { "may not, but must," } else { "may, but must not," };
        format!("{subject} {may} {} {} in {place}", self.verb, self.resource)
    }
}

/// A check of several questions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessCheck {
    /// What it is about.
    pub check: String,
    /// Who asks.
    pub who: Who,
    /// The questions.
    pub questions: Vec<Access>,
}

/// Everything that dispatcher and agents must be able and unable to do.
pub fn access_checks(registry: &Registry) -> Vec<AccessCheck> {
    let system_namespace = &registry.kubernetes.system_namespace;
    let ledger = ["get", "update"].map(|verb| Access {
        name: Some(LEDGER_NAME.to_owned()),
        ..Access::new(system_namespace, verb, "", "configmaps", true)
    });
    let mut checks = vec![AccessCheck {
        check: "the dispatcher may use the ledger, and nothing else there".to_owned(),
        who: Who::Dispatcher,
        questions: ledger
            .into_iter()
            .chain(
                ["get", "list", "create"]
                    .map(|verb| Access::new(system_namespace, verb, "", "secrets", false)),
            )
            .chain([Access::new(system_namespace, "list", "", "configmaps", false)])
            .collect(),
    }];
    let names: Vec<&AgentName> = registry.agents.keys().collect();
    for (place, agent) in names.iter().enumerate() {
        checks.push(dispatcher_check(&agent.namespace()));
        // Every agent against the next one: all against all would be a million questions for a
        // thousand agents, and rights are given by the same manifests.
        let neighbour = names.get((place + 1) % names.len()).copied();
        checks.push(agent_check(agent, neighbour));
    }
    checks
}

fn dispatcher_check(namespace: &str) -> AccessCheck {
    let mut questions = Vec::new();
    for rule in dispatcher_rules() {
        let groups = rule.api_groups.unwrap_or_default();
        for resource in rule.resources.unwrap_or_default() {
            for verb in &rule.verbs {
                let group = groups.first().map(String::as_str).unwrap_or_default();
                questions.push(Access::new(namespace, verb, group, &resource, true));
            }
        }
    }
    let denied = [
        ("get", "secrets"),
        ("list", "secrets"),
        ("watch", "secrets"),
        ("patch", "secrets"),
        ("update", "secrets"),
        ("create", "pods"),
        ("create", "pods/exec"),
        ("create", "pods/ephemeralcontainers"),
        ("create", "serviceaccounts/token"),
    ];
    questions.extend(denied.map(|(verb, resource)| Access::new(namespace, verb, "", resource, false)));
    AccessCheck {
        check: format!(
            "{namespace}: the dispatcher may do what it needs, and not read Secrets or enter pods"
        ),
        who: Who::Dispatcher,
        questions,
    }
}

fn agent_check(agent: &AgentName, neighbour: Option<&AgentName>) -> AccessCheck {
    let mut places = vec![agent.namespace(), String::new()];
    places.extend(neighbour.filter(|neighbour| *neighbour != agent).map(AgentName::namespace));
    let denied = [
        ("get", "", "secrets"),
        ("list", "", "secrets"),
        ("list", "", "pods"),
        ("get", "", "pods/log"),
        ("create", "", "pods"),
        ("create", "", "pods/exec"),
        ("list", "batch", "jobs"),
        ("create", "batch", "jobs"),
    ];
    let questions = places
        .iter()
        .flat_map(|place| {
            denied.map(|(verb, group, resource)| Access::new(place, verb, group, resource, false))
        })
        .collect();
    AccessCheck {
        check: format!("{}: the agent has no rights, here or elsewhere", agent.namespace()),
        who: Who::Agent(agent.clone()),
        questions,
    }
}

/// Compares what ought to be with what there is (`None`: nothing).
pub fn drift(manifest: &Value, live: Option<&Value>) -> Vec<String> {
    let text = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let name = format!("{} {}", text("/kind"), text("/metadata/name"));
    let Some(live) = live else { return vec![format!("{name} is missing")] };
    let mut faults = Vec::new();
    compare(manifest, live, &name, false, &mut faults);
    faults
}

/// `exact`: what there is more, is a fault too. So it is wherever more would mean more rights.
fn compare(expected: &Value, live: &Value, place: &str, exact: bool, faults: &mut Vec<String>) {
    match (expected, live) {
        (Value::Object(expected), Value::Object(live)) => {
            for (key, value) in expected {
                let place = format!("{place}.{key}");
                let exact = exact || ["spec", "rules", "subjects", "roleRef"].contains(&key.as_str());
                match live.get(key) {
                    Some(found) => compare(value, found, &place, exact, faults),
                    None => faults.push(format!("{place} is missing")),
                }
            }
            if exact {
                let more = live.keys().filter(|key| !expected.contains_key(*key));
                faults.extend(more.map(|key| format!("{place}.{key} is there and ought not to be")));
            }
        }
        (Value::Array(expected), Value::Array(live)) if expected.len() == live.len() => {
            for (number, (expected, live)) in expected.iter().zip(live).enumerate() {
                compare(expected, live, &format!("{place}[{number}]"), exact, faults);
            }
        }
        (Value::String(expected), Value::String(live)) if is_same_quantity(expected, live) => {}
        _ if expected == live => {}
        _ => faults.push(format!("{place} is {live} and ought to be {expected}")),
    }
}

fn is_same_quantity(one: &str, other: &str) -> bool {
    match (ParsedQuantity::try_from(one), ParsedQuantity::try_from(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

/// Network policies add up: one that is not ours can only let more through.
pub fn foreign_policies(ours: &[Value], live: &[String]) -> Vec<String> {
    let ours: BTreeSet<&str> = ours
        .iter()
        .filter(|manifest| manifest["kind"] == "NetworkPolicy")
        .filter_map(|manifest| manifest["metadata"]["name"].as_str())
        .collect();
    live.iter()
        .filter(|name| !ours.contains(name.as_str()))
        .map(|name| format!("NetworkPolicy {name} is not ours, and can only let more through"))
        .collect()
}

/// Namespaces of agents that are no longer in the registry, but for those that are being deleted.
pub fn removed_agents(registry: &Registry, namespaces: &[Value]) -> Vec<String> {
    namespaces
        .iter()
        .filter(|namespace| namespace["metadata"]["deletionTimestamp"].is_null())
        .filter_map(|namespace| {
            let agent = namespace["metadata"]["labels"][LABEL_AGENT].as_str()?;
            let known = registry.agents.keys().any(|name| name.as_str() == agent);
            (!known).then(|| namespace["metadata"]["name"].as_str().map(str::to_owned))?
        })
        .collect()
}

#[cfg(test)]
mod tests;
