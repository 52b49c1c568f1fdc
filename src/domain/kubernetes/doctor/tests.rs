use serde_json::json;

use super::*;
use crate::domain::registry::sample;

#[test]
fn what_is_as_it_ought_to_be_is_no_drift() {
    let expected = json!({"kind": "ResourceQuota", "metadata": {"name": "runs", "labels": {"a": "b"}},
        "spec": {"hard": {"limits.cpu": "4", "pods": "2"}}});
    let mut live = json!({"kind": "ResourceQuota", "metadata": {"name": "runs", "uid": "1", "labels": {"a": "b", "c": "d"}},
        "spec": {"hard": {"pods": "2", "limits.cpu": "4000m"}}, "status": {"used": {}}});
    assert_eq!(drift(&expected, Some(&live)), Vec::<String>::new());
    live["spec"]["hard"]["pods"] = json!("20");
    assert_eq!(
        drift(&expected, Some(&live)),
        [r#"ResourceQuota runs.spec.hard.pods is "20" and ought to be "2""#]
    );
    assert_eq!(drift(&expected, None), ["ResourceQuota runs is missing"]);
}

#[test]
fn more_rights_are_drift_too() {
    let expected =
        json!({"kind": "NetworkPolicy", "metadata": {"name": "default-deny"}, "spec": {"podSelector": {}}});
    let live = json!({"kind": "NetworkPolicy", "metadata": {"name": "default-deny"},
        "spec": {"podSelector": {}, "ingress": [{}]}});
    assert_eq!(
        drift(&expected, Some(&live)),
        ["NetworkPolicy default-deny.spec.ingress is there and ought not to be"]
    );
    let role =
        |verbs: &[&str]| json!({"kind": "Role", "metadata": {"name": "r"}, "rules": [{"verbs": verbs}]});
    let faults = drift(&role(&["create"]), Some(&role(&["create", "get"])));
    assert_eq!(faults, [r#"Role r.rules[0].verbs is ["create","get"] and ought to be ["create"]"#]);
    let ours = [json!({"kind": "NetworkPolicy", "metadata": {"name": "default-deny"}})];
    assert_eq!(foreign_policies(&ours, &["default-deny".into(), "open".into()]).len(), 1);
}

#[test]
fn an_agent_that_left_is_noticed() {
    let namespace =
        |name: &str, agent: &str| json!({"metadata": {"name": name, "labels": {LABEL_AGENT: agent}}});
    let mut going = namespace("agent-going", "going");
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let namespaces = [
        namespace("agent-vega", "vega"),
        namespace("agent-gone", "gone"),
        going,
        json!({"metadata": {"name": "x"}}),
    ];
    assert_eq!(removed_agents(&sample(), &namespaces), ["agent-gone"]);
}

/// Every right of the manifests is asked for, and every agent is kept out of every Secret.
#[test]
fn the_questions() {
    let checks = access_checks(&sample());
    let asked = |allowed: bool, namespace: &str, verb: &str, resource: &str| {
        checks.iter().flat_map(|check| &check.questions).any(|access| {
            (access.allowed, access.namespace.as_str(), access.verb.as_str(), access.resource.as_str())
                == (allowed, namespace, verb, resource)
        })
    };
    assert!(asked(true, "agent-vega", "create", "secrets") && asked(true, "agent-vega", "get", "pods/log"));
    assert!(asked(false, "agent-vega", "get", "secrets") && asked(false, "", "get", "secrets"));
    let vega = checks.iter().find(|check| check.who == Who::Agent("vega".parse().unwrap())).unwrap();
    assert!(vega.questions.iter().all(|access| !access.allowed));
    assert!(vega.questions.iter().any(|access| access.namespace == "agent-altair"), "the next one");
    let fault = vega.questions[0].fault(&vega.who);
    assert_eq!(fault, "agent vega may, but must not, get secrets in agent-vega");
}
