//! `docs/quick-start.md` on one machine: its commands, against the real agent CLI and a model API on loopback.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/agent_run.rs"]
mod agent_run;
#[path = "support/model_api.rs"]
mod model_api;
#[path = "support/quick_start.rs"]
mod quick_start;

use std::process::Command;

use agent_run::agent_cli;
use model_api::{Answer, ModelApi};
use serde_json::json;

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
    let shown = quick_start::finish(quick_start::shell(
        &quick_start::commands("On this machine"),
        home.path(),
        &agent_cli(),
        &variables,
    ));
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
