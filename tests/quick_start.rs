//! `docs/quick-start.md`, command by command, as a person would type it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may panic"
)]

#[path = "support/agent_run.rs"]
mod agent_run;
#[path = "support/model_api.rs"]
mod model_api;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use agent_run::agent_cli;
use model_api::{Answer, ModelApi};
use serde_json::json;

/// The commands of a section: its `sh` blocks, without the lines that everybody fills in (`export KEY=…`).
fn commands(section: &str) -> String {
    let page =
        std::fs::read_to_string(format!("{}/docs/quick-start.md", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let section = page.split("\n## ").find(|text| text.starts_with(section)).expect("the section");
    let blocks = section.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let lines = blocks.flat_map(str::lines).filter(|line| !line.ends_with("=…"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Runs them in one shell, which stops at the first that fails; what it printed.
fn type_in(commands: &str, home: &Path, variables: &[(&str, &str)]) -> String {
    let program = assert_cmd::cargo::cargo_bin("astra-dispatch");
    let path =
        format!("{}:{}:/usr/local/bin:/usr/bin:/bin", program.parent().unwrap().display(), agent_cli());
    let begun = Instant::now();
    let output = Command::new("bash")
        .args(["-euxo", "pipefail", "-c", commands])
        .current_dir(home)
        .env_clear()
        .envs([("HOME", home.to_str().unwrap()), ("PATH", &path)])
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{shown}\n{}", String::from_utf8_lossy(&output.stderr));
    eprintln!("seconds: {}", begun.elapsed().as_secs());
    shown
}

#[test]
#[ignore = "needs the Claude Code CLI"]
fn on_this_machine() {
    let home = tempfile::tempdir().unwrap();
    let git = |arguments: &[&str]| {
        let author = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"];
        let status =
            Command::new("git").args(author).current_dir(home.path()).args(arguments).status().unwrap();
        assert!(status.success(), "{arguments:?}");
    };
    git(&["init", "--quiet", "--initial-branch=main", "shop"]);
    std::fs::write(home.path().join("shop/README.md"), "# Shop\n").unwrap();
    git(&["-C", "shop", "add", "--all"]);
    git(&["-C", "shop", "commit", "--quiet", "--message=First"]);
    let model = ModelApi::start([
        Answer::Tool(
            "Bash",
            json!({"command": "echo 'Test it with make test.' >> README.md", "description": "x"}),
        ),
        Answer::Text("The README says how to test."),
    ]);
    let variables = [("ANTHROPIC_API_KEY", "sk-ant-quick-start"), ("ANTHROPIC_BASE_URL", model.url.as_str())];
    let shown = type_in(&commands("On this machine"), home.path(), &variables);
    for words in [
        ".astra/first-task.json\n",
        "TASK-1 would be dispatched to vega",
        ": changed\n",
        "+Test it with make test.",
    ] {
        assert!(shown.contains(words), "{words:?}: {shown}");
    }
    let asked = model.requests();
    assert!(
        asked.iter().any(|request| request.first_message().contains("Say how to build and test")),
        "{}",
        asked.len()
    );
}
