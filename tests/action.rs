//! The Action's description against the command line, and the page that is generated from it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fmt::Write;

use astra_dispatch::cli::Cli;
use clap::CommandFactory;
use serde_json::Value;

fn root(path: &str) -> String {
    format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))
}

fn action() -> Value {
    serde_saphyr::from_str(&std::fs::read_to_string(root("action.yml")).unwrap()).unwrap()
}

/// Those that start by themselves; all of them call `run.yml`.
const WORKFLOWS: [&str; 3] = ["dispatch", "publish", "sweep"];

fn workflow(directory: &str, name: &str) -> String {
    std::fs::read_to_string(root(&format!("{directory}/workflows/{name}.yml"))).unwrap()
}

/// What the jobs of a workflow may do, and why: `contents: read`, `the registry`.
fn permissions(workflow: &str) -> BTreeSet<(&str, &str)> {
    let mut found = BTreeSet::new();
    let mut lines = workflow.lines();
    while lines.any(|line| line == "    permissions:") {
        let inside = lines.by_ref().take_while(|line| line.starts_with("      "));
        found.extend(inside.map(|line| line.trim().split_once(" # ").unwrap()));
    }
    found
}

/// Every environment variable that an option has.
fn variables(command: &clap::Command, into: &mut BTreeSet<String>) {
    let of_options = command.get_arguments().filter_map(|argument| argument.get_env());
    into.extend(of_options.map(|name| name.to_string_lossy().into_owned()));
    for command in command.get_subcommands() {
        variables(command, into);
    }
}

#[test]
fn every_input_arrives_by_a_variable_that_an_option_has() {
    let action = action();
    let mut known = BTreeSet::new();
    variables(&Cli::command(), &mut known);
    let mut used = BTreeSet::new();
    for step in action["runs"]["steps"].as_array().unwrap() {
        let script = step["run"].as_str().unwrap();
        assert!(!script.contains("${{"), "no value is put into a script's text: {script}");
        for (variable, value) in step["env"].as_object().unwrap() {
            let value = value.as_str().unwrap();
            if let Some(input) = value.strip_prefix("${{ inputs.").and_then(|rest| rest.strip_suffix(" }}")) {
                used.insert(input.to_owned());
                let expected = format!("ASTRA_{}", input.to_uppercase().replace('-', "_"));
                let is_own = ["command", "binary"].contains(&input);
                assert!(is_own || (variable == &expected && known.contains(variable)), "{input}: {variable}");
            }
        }
    }
    let inputs: BTreeSet<String> = action["inputs"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(used, inputs);
}

#[test]
fn every_output_is_set() {
    let report = [
        include_str!("../src/domain/report.rs"),
        include_str!("../src/commands/publish.rs"),
        include_str!("../src/commands/sweep.rs"),
    ]
    .concat();
    for (name, output) in action()["outputs"].as_object().unwrap() {
        assert_eq!(output["value"], format!("${{{{ steps.run.outputs.{name} }}}}"));
        assert!(name == "json" || report.contains(&format!("(\"{name}\", ")), "{name}");
    }
}

#[test]
fn the_page_is_the_one_of_the_description() {
    let action = action();
    let mut page = String::from(
        "# The Action\n\nGenerated from `action.yml`; `ASTRA_WRITE_DOCS=1 cargo test --test action` writes it.\n",
    );
    for (title, key, head) in [("Inputs", "inputs", "input"), ("Outputs", "outputs", "output")] {
        write!(page, "\n## {title}\n\n| {head} | |\n|---|---|\n").unwrap();
        for (name, about) in action[key].as_object().unwrap() {
            writeln!(page, "| `{name}` | {} |", about["description"].as_str().unwrap()).unwrap();
        }
    }
    page.push_str("\n## Permissions\n\n| workflow | permission | for |\n|---|---|---|\n");
    for name in WORKFLOWS {
        for (permission, why) in permissions(&workflow(".github", name)) {
            writeln!(page, "| `{name}.yml` | `{permission}` | {why} |").unwrap();
        }
    }
    let path = root("docs/action.md");
    if std::env::var_os("ASTRA_WRITE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), page, "write it with ASTRA_WRITE_DOCS=1");
}

#[test]
fn the_workflows_to_copy_are_our_own_with_the_action_pinned() {
    let is_pin = |line: &&str| line.contains("uses: astra/dispatch-action@");
    let example = workflow("examples", "run");
    let pin = example.lines().find(is_pin).expect("the example names the Action");
    for name in WORKFLOWS.into_iter().chain(["run"]) {
        let path = root(&format!("examples/workflows/{name}.yml"));
        let expected = workflow(".github", name).replace("        uses: ./\n", &format!("{pin}\n"));
        if std::env::var_os("ASTRA_WRITE_DOCS").is_some() {
            std::fs::write(&path, &expected).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), expected, "write it with ASTRA_WRITE_DOCS=1");
    }
}
