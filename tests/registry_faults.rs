//! Each directory of `fixtures/registry-faults` is laid over the sample registry; the report of
//! `agents check` is a snapshot of its name.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The program in `directory`, with nothing of the test's environment.
fn program(directory: &Path, arguments: &[&str]) -> std::process::Output {
    Command::cargo_bin("astra-dispatch")
        .unwrap()
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .current_dir(directory)
        .args(arguments)
        .output()
        .unwrap()
}

fn sample_in(directory: &Path) -> PathBuf {
    let registry = directory.join(".astra");
    copy(&fixtures().join("registry"), &registry);
    registry
}

#[test]
fn each_fault_is_reported_with_place_cause_and_cure() {
    let mut cases: Vec<PathBuf> = fs::read_dir(fixtures().join("registry-faults"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.sort();
    assert!(cases.len() > 50, "the fixtures are there");
    for case in cases {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let directory = tempfile::tempdir().unwrap();
        copy(&case, &sample_in(directory.path()));
        let output = program(directory.path(), &["agents", "check"]);
        let report = String::from_utf8(output.stdout).unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{name}");
        let expected = if report.contains("error[") { 2 } else { 0 };
        assert_eq!(output.status.code(), Some(expected), "{name}");
        assert_ne!(
            report.lines().last(),
            Some("5 agents, 4 roles, 1 project: 0 errors, 0 warnings"),
            "{name}"
        );
        insta::assert_snapshot!(name, report);
    }
}

#[test]
fn the_sample_is_clean_in_every_format() {
    let directory = tempfile::tempdir().unwrap();
    sample_in(directory.path());
    for format in ["text", "json", "github", "sarif"] {
        let output = program(directory.path(), &["agents", "check", "--format", format]);
        assert_eq!(output.status.code(), Some(0), "{format}");
    }
}

/// The schema is that of OASIS, draft 2.1.0, as the crate serde-sarif ships it.
#[test]
fn sarif_keeps_to_its_schema() {
    let schema = fs::read_to_string(fixtures().join("sarif/sarif-schema-2.1.0.json")).unwrap();
    let mut schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    // Its pattern is no regular expression (an unopened bracket), and we write no language.
    for object in ["run", "toolComponent"] {
        schema["definitions"][object]["properties"]["language"].as_object_mut().unwrap().remove("pattern");
    }
    let schema = jsonschema::validator_for(&schema).unwrap();
    for case in ["several-files-at-once", "wrong-types", "not-utf-8", "unused-prompt"] {
        let directory = tempfile::tempdir().unwrap();
        copy(&fixtures().join("registry-faults").join(case), &sample_in(directory.path()));
        let output = program(directory.path(), &["agents", "check", "--format", "sarif"]);
        let log: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        schema.validate(&log).unwrap();
        assert!(!log["runs"][0]["results"].as_array().unwrap().is_empty(), "{case}");
        if case == "several-files-at-once" {
            insta::assert_snapshot!("sarif", String::from_utf8(output.stdout).unwrap());
        }
    }
}

#[test]
fn without_a_registry_the_remedy_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let output = program(directory.path(), &["agents", "check"]);
    assert_eq!(output.status.code(), Some(2));
    insta::assert_snapshot!(String::from_utf8_lossy(&output.stderr), @r"
    error: .astra: there is no registry here
     help: give its directory with --registry or ASTRA_REGISTRY
    ");
}

#[test]
fn links_large_files_and_pipes_are_faults_and_are_not_followed() {
    let directory = tempfile::tempdir().unwrap();
    let registry = sample_in(directory.path());
    fs::write(directory.path().join("secret"), "outside").unwrap();
    fs::remove_file(registry.join("prompts/vega.md")).unwrap();
    std::os::unix::fs::symlink("../../secret", registry.join("prompts/vega.md")).unwrap();
    fs::write(registry.join("prompts/lyra.md"), vec![b'x'; 256 * 1024 + 1]).unwrap();
    std::os::unix::fs::symlink("/", registry.join("agents/root")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(registry.join("prompts/pipe.md")).status().unwrap();
    assert!(made.success());
    let output = program(directory.path(), &["agents", "check"]);
    assert_eq!(output.status.code(), Some(2));
    insta::assert_snapshot!("links_large_files_and_pipes", String::from_utf8(output.stdout).unwrap());
}

#[test]
fn a_file_of_the_largest_size_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let registry = sample_in(directory.path());
    fs::write(registry.join("prompts/lyra.md"), vec![b'x'; 256 * 1024]).unwrap();
    assert_eq!(program(directory.path(), &["agents", "check"]).status.code(), Some(0));
}

#[test]
fn a_new_agent_starts_inactive_passes_the_check_and_is_never_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let registry = sample_in(directory.path());
    let output = program(directory.path(), &["agents", "new", "nova", "--role", "docs"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stdout), ".astra/agents/nova.yaml\n.astra/prompts/nova.md\n");
    insta::assert_snapshot!("new_agent", fs::read_to_string(registry.join("agents/nova.yaml")).unwrap());
    insta::assert_snapshot!(
        "new_agent_prompt",
        fs::read_to_string(registry.join("prompts/nova.md")).unwrap()
    );
    assert_eq!(program(directory.path(), &["agents", "check"]).status.code(), Some(0));
    let listed = program(directory.path(), &["agents", "list", "--format", "json"]);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let nova = listed["agents"].as_array().unwrap().iter().find(|agent| agent["name"] == "nova").unwrap();
    assert_eq!((&nova["role"], &nova["status"]), (&"docs".into(), &"inactive".into()));

    for (name, role) in [("nova", "docs"), ("vega", "coder"), ("polaris", "pilot"), ("Nova", "docs")] {
        let output = program(directory.path(), &["agents", "new", name, "--role", role]);
        assert_eq!(output.status.code(), Some(2), "{name} {role}");
        assert!(output.stdout.is_empty());
    }
    assert!(!registry.join("agents/polaris.yaml").exists());
}

#[test]
fn the_list_shows_who_there_is() {
    let directory = tempfile::tempdir().unwrap();
    sample_in(directory.path());
    let output = program(directory.path(), &["agents", "list"]);
    insta::assert_snapshot!("list", String::from_utf8(output.stdout).unwrap());
}
