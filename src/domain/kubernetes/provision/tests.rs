use super::*;
use crate::domain::registry::sample;

fn yaml(manifests: &[Value]) -> String {
    manifests.iter().map(|manifest| format!("---\n{}", serde_saphyr::to_string(manifest).unwrap())).collect()
}

#[test]
fn the_whole_registry() {
    let registry = sample();
    let manifests = manifests(&registry, None, &[]).unwrap();
    let namespaces: Vec<_> = manifests
        .iter()
        .filter(|manifest| manifest["kind"] == "Namespace")
        .map(|manifest| manifest["metadata"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        namespaces,
        ["astra-system", "agent-altair", "agent-lyra", "agent-rigel", "agent-sirius", "agent-vega"]
    );
}

#[test]
fn the_system_namespace() {
    insta::assert_snapshot!(yaml(&system("astra-system")));
}

#[test]
fn an_agents_namespace() {
    let registry = sample();
    let mut vega = registry.agents[&"vega".parse().unwrap()].clone();
    vega.network.allow = vec!["10.0.0.5/32:8443".into(), "[fd00::5/128]:443".into()];
    insta::assert_snapshot!(yaml(
        &agent(&vega, "astra-system", &["203.0.113.7".into(), "2001:db8::1".into()]).unwrap()
    ));
}

/// What is in the ledger survives `kubectl apply`: the manifest does not speak of it.
#[test]
fn the_ledger_has_no_data() {
    let ledger = system("astra-system").into_iter().find(|manifest| manifest["kind"] == "ConfigMap").unwrap();
    assert!(ledger.get("data").is_none() && ledger.get("binaryData").is_none());
}

#[test]
fn an_agent_without_network_reaches_nothing_but_dns() {
    let registry = sample();
    let mut vega = registry.agents[&"vega".parse().unwrap()].clone();
    vega.network.ports.clear();
    vega.network.allow.clear();
    let names: Vec<_> =
        policies(&vega, &[]).unwrap().into_iter().map(|policy| policy.metadata.name.unwrap()).collect();
    assert_eq!(names, ["default-deny", "allow-dns"]);
}

#[test]
fn addresses_that_are_none_are_said() {
    let registry = sample();
    let mut vega = registry.agents[&"vega".parse().unwrap()].clone();
    for entry in
        ["10.0.0.5:8443", "10.0.0.5/33:1", "10.0.0.5/32:0", "10.0.0.5/32", "example.com/32:1", "fd00::/129:1"]
    {
        vega.network.allow = vec![entry.into()];
        assert_eq!(policies(&vega, &[]), Err(InvalidAddress::Allow(entry.into())), "{entry}");
    }
    vega.network.allow.clear();
    let named = policies(&vega, &["api.example.com".into()]);
    assert_eq!(named, Err(InvalidAddress::ApiServer("api.example.com".into())));
}

/// The dispatcher never reads a Secret, and nobody else gets any right.
#[test]
fn rights() {
    for rule in dispatcher_rules() {
        let resources = rule.resources.unwrap();
        if resources.contains(&"secrets".to_owned()) {
            assert_eq!(rule.verbs, ["create", "delete"]);
        }
        assert!(!rule.verbs.contains(&"*".to_owned()) && !resources.contains(&"*".to_owned()));
    }
    let registry = sample();
    for manifest in manifests(&registry, None, &[]).unwrap() {
        assert_ne!(manifest["kind"], "ClusterRole");
        assert_ne!(manifest["kind"], "Secret");
        for subject in manifest["subjects"].as_array().into_iter().flatten() {
            assert!(
                [DISPATCHER_SERVICE_ACCOUNT, DISPATCHER_GROUP].contains(&subject["name"].as_str().unwrap())
            );
        }
    }
}

/// kubectl reads YAML 1.1: names such as `no` and `on` must not become booleans, nor `1e3` a number.
#[test]
fn names_stay_names() {
    for name in [
        "no",
        "on",
        "y",
        "yes",
        "null",
        "1e3",
        "0x1",
        "12",
        "1_000",
        "0o7",
        "017",
        "true",
        ".inf",
        "2026-11-24",
    ] {
        let text = serde_saphyr::to_string(&serde_json::json!({ "name": name })).unwrap();
        assert_eq!(text.trim(), format!("name: \"{name}\""));
    }
}
