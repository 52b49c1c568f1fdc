//! `agents prompt` with the real binary, the sample registry and recorded events.

#![allow(clippy::expect_used, reason = "helpers of tests")]

use std::process::Output;

fn prompt(agent: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    assert_cmd::Command::cargo_bin("astra-dispatch")
        .expect("binary")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_clear()
        .envs(variables.iter().copied())
        .args(["agents", "prompt", agent, "--registry", "fixtures/registry"])
        .args(arguments)
        .output()
        .expect("run")
}

fn event(name: &str) -> String {
    format!("fixtures/events/{name}.json")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_prompts_of_a_recorded_event_are_printed() {
    let path = event("10-issue-created-label-agent-coder");
    for output in
        [prompt("vega", &["--event", &path], &[]), prompt("vega", &[], &[("GITHUB_EVENT_PATH", &path)])]
    {
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
        let printed = text(&output.stdout);
        assert!(printed.starts_with("===== system prompt\nYou are Vega, "), "{printed}");
        assert!(printed.contains("- Task: AST-2 in astra/api, branch main\n"), "{printed}");
        let (_, task) = printed.split_once("===== task prompt").expect("task prompt");
        assert!(task.contains(" begin\nTitle: Add a dry-run flag to the importer\n\n"), "{task}");
    }
}

#[test]
fn without_a_task_there_is_the_standing_prompt() {
    let output = prompt("sirius", &[], &[]);
    assert_eq!(output.status.code(), Some(0));
    let printed = text(&output.stdout);
    assert!(printed.starts_with("You are Sirius, ") && printed.contains("review.json"), "{printed}");
    assert!(!printed.contains("===== task prompt"));
}

#[test]
fn another_role_is_pointed_out() {
    let output = prompt("lyra", &["--event", &event("10-issue-created-label-agent-coder")], &[]);
    assert_eq!(text(&output.stderr), "note: AST-2 asks for the role coder; lyra has the role docs\n");
}

#[test]
fn what_cannot_be_prompted_says_why() {
    let table = [
        (prompt("vegga", &[], &[]), "there is no agent vegga", "did you mean vega?"),
        (
            prompt("vega", &["--event", &event("01-project-created")], &[]),
            "the event holds no work item",
            "choose",
        ),
        (prompt("vega", &["--event", &event("47-issue-created-target-branch-two-agents")], &[]), "", ""),
    ];
    for (output, cause, remedy) in table {
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(cause) && error.contains(remedy), "{error}");
        assert!(output.stdout.is_empty());
    }
}
