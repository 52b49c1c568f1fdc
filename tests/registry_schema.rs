//! The checked-in JSON Schemas of registry files: up to date, and right about the samples.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};

use astra_dispatch::domain::registry::{agent_schema, astra_schema};
use serde_json::Value;

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(path)
}

fn yaml(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn schema(of: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(fixture(&format!("schema/{of}.schema.json"))).unwrap()).unwrap()
}

#[test]
fn the_schemas_are_up_to_date() {
    for (of, current) in [("astra", astra_schema()), ("agent", agent_schema())] {
        assert_eq!(
            schema(of),
            Value::from(current),
            "run `cargo run -- agents schema {of} > fixtures/schema/{of}.schema.json`"
        );
    }
}

#[test]
fn the_samples_are_valid() {
    let astra = jsonschema::validator_for(&schema("astra")).unwrap();
    let agent = jsonschema::validator_for(&schema("agent")).unwrap();
    astra.validate(&yaml(&fixture("registry/astra.yaml"))).unwrap();
    for entry in fs::read_dir(fixture("registry/agents")).unwrap() {
        agent.validate(&yaml(&entry.unwrap().path())).unwrap();
    }
}

/// Faults of form, which a schema can know of.
#[test]
fn faults_of_form_are_invalid() {
    let agent = jsonschema::validator_for(&schema("agent")).unwrap();
    for fault in [
        "unknown-key",
        "unknown-key-nested",
        "missing-keys",
        "wrong-types",
        "unknown-trait",
        "unknown-status",
        "unknown-runtime-kind",
        "capacity-zero",
        "capacity-negative",
        "yaml-not-a-mapping",
    ] {
        let value = yaml(&fixture(&format!("registry-faults/{fault}/agents/vega.yaml")));
        assert!(!agent.is_valid(&value), "{fault}");
    }
    let astra = jsonschema::validator_for(&schema("astra")).unwrap();
    for fault in ["astra-missing-keys", "bad-settings"] {
        assert!(!astra.is_valid(&yaml(&fixture(&format!("registry-faults/{fault}/astra.yaml")))), "{fault}");
    }
}
