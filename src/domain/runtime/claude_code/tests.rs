use std::path::Path;

use super::*;
use crate::domain::runtime::Reading as AnyReading;

fn recording(name: &str) -> serde_json::Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/agent-runtimes").join(name);
    serde_json::from_slice(&std::fs::read(&path).expect(name)).expect(name)
}

/// The lines that the CLI printed, and the exit code, of a recording.
fn replay(name: &str, stopped: Option<Stop>) -> AgentReport {
    let recording = recording(name);
    let mut reading = Reading::default();
    match recording.get("events") {
        Some(events) => {
            for event in events.as_array().expect("events") {
                reading.line(Stream::Out, &event.to_string());
            }
        }
        None => reading.line(Stream::Out, &recording["stdout"].to_string()),
    }
    let code = match recording.get("exit_code").and_then(serde_json::Value::as_i64) {
        Some(code) => i32::try_from(code).expect("exit code"),
        None if name.contains("sigterm") => 143,
        None => 0,
    };
    AnyReading::ClaudeCode(Box::new(reading)).report(&ProcessEnd {
        exit: Exit::Code(code),
        stopped,
        seconds: 1.5,
    })
}

/// Every ending that was recorded, what it is and who can do something about it.
#[test]
fn every_recorded_ending_has_its_outcome_and_class() {
    let mut lines = Vec::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/agent-runtimes");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("fixtures")
        .map(|entry| entry.expect("entry").file_name().into_string().expect("name"))
        .filter(|name| name.starts_with("claude-"))
        .collect();
    names.sort();
    for name in names {
        let report = replay(&name, None);
        let class = report.class.map_or("-".to_owned(), |class| format!("{class:?}"));
        lines.push(format!(
            "{} | {:?} | {class} | {} denials | {}",
            name.trim_end_matches(".json"),
            report.ending,
            report.denials,
            report.reason
        ));
    }
    insta::assert_snapshot!(lines.join("\n"), @r#"
    claude-result-400-credit | Failed | Credentials | 0 denials | The model API did not accept the agent's credential (400): Credit balance is too low
    claude-result-401-retries2 | Failed | Credentials | 0 denials | The model API did not accept the agent's credential (401): Invalid API key · Fix external API key
    claude-result-401 | Failed | Credentials | 0 denials | The model API did not accept the agent's credential (401): Invalid API key · Fix external API key
    claude-result-403 | Failed | Credentials | 0 denials | The model API did not accept the agent's credential (403): Failed to authenticate. API Error: 403 forbidden
    claude-result-404-model | Failed | Task | 0 denials | The model API does not know the model (404): There's an issue with the selected model (nosuch). It may not exist or you may not have access to it. Run --model to pick a different model.
    claude-result-429-retries2 | Failed | Infrastructure | 0 denials | The model API could not serve the agent (429): API Error: Request rejected (429) · rate limited
    claude-result-429 | Failed | Infrastructure | 0 denials | The model API could not serve the agent (429): API Error: Request rejected (429) · rate limited
    claude-result-500 | Failed | Infrastructure | 0 denials | The model API could not serve the agent (500): API Error: 500 internal. This is a server-side issue, usually temporary — try again in a moment. If it persists, check your inference gateway (127.0.0.1:8089).
    claude-result-529 | Failed | Infrastructure | 0 denials | The model API could not serve the agent: API Error: Repeated 529 Overloaded errors. The API is at capacity — this is usually temporary. Try again in a moment. If it persists, check your inference gateway (127.0.0.1:8089).
    claude-result-max-budget | Partial | Agent | 0 denials | The agent used up its budget; what it had done is kept.
    claude-result-max-turns | Partial | Agent | 0 denials | The agent used up its turns; what it had done is kept.
    claude-result-no-credential | Failed | Credentials | 0 denials | The model API did not accept the agent's credential: Not logged in · Please run /login
    claude-result-permission-denied | Done | - | 2 denials | Claude Code says that it is done.
    claude-result-schema-failed | Failed | Agent | 0 denials | Claude Code ended with exit code 1: Failed to provide valid structured output after 5 attempts
    claude-result-schema-ok | Done | - | 0 denials | Claude Code says that it is done.
    claude-result-sigint | Failed | Agent | 0 denials | Claude Code ended with exit code 1: [ede_diagnostic] result_type=user last_content_type=n/a stop_reason=tool_use
    claude-result-success | Done | - | 0 denials | Claude Code says that it is done.
    claude-result-timeout | Failed | Infrastructure | 0 denials | The model API could not serve the agent: Request timed out
    claude-result-unreachable-retries0 | Failed | Infrastructure | 0 denials | The model API could not serve the agent: API Error: Unable to connect to API (ConnectionRefused)
    claude-result-unreachable | Failed | Infrastructure | 0 denials | The model API could not serve the agent: API Error: Unable to connect to API (ConnectionRefused)
    claude-stream-edit | Done | - | 0 denials | Claude Code says that it is done.
    claude-stream-retry-recovers | Done | - | 0 denials | Claude Code says that it is done.
    claude-stream-sigterm | Failed | Agent | 0 denials | Claude Code ended with exit code 143.
    "#);
}

#[test]
fn tokens_come_from_the_models_and_count_the_last_response() {
    let report = replay("claude-result-max-budget.json", None);
    assert_eq!(report.tokens, Tokens { input: 200_000, output: 20_000, cache_read: 0, cache_write: 0 });
    assert_eq!((report.cost_usd, report.turns), (Some(1.5), Some(2)));
    let report = replay("claude-stream-edit.json", None);
    assert_eq!(report.model.as_deref(), Some("claude-opus-4-8"));
}

#[test]
fn a_stopped_run_says_why_it_was_stopped_whatever_the_cli_prints() {
    let timed_out = replay("claude-result-sigint.json", Some(Stop::Time));
    // The recording holds the result event only: no answer of the model was seen.
    assert_eq!(
        (timed_out.ending, timed_out.class),
        (AgentEnding::Failed, Some(FailureClass::Infrastructure))
    );
    let timed_out = replay("claude-stream-sigterm.json", Some(Stop::Time));
    assert_eq!((timed_out.ending, timed_out.class), (AgentEnding::TimedOut, Some(FailureClass::Agent)));
    let cancelled = replay("claude-stream-sigterm.json", Some(Stop::Cancelled));
    assert_eq!((cancelled.ending, cancelled.class), (AgentEnding::Cancelled, Some(FailureClass::Cancelled)));
}

#[test]
fn a_success_takes_exit_code_subtype_and_flag_together() {
    let line = |subtype: &str, is_error: bool| {
        format!(r#"{{"type":"result","subtype":"{subtype}","is_error":{is_error},"result":"fine"}}"#)
    };
    let table = [
        ("success", false, Exit::Code(0), AgentEnding::Done),
        ("success", false, Exit::Code(1), AgentEnding::Failed),
        ("success", false, Exit::Signal(15), AgentEnding::Failed),
        ("success", true, Exit::Code(0), AgentEnding::Failed),
        ("something_new", false, Exit::Code(0), AgentEnding::Failed),
    ];
    for (subtype, is_error, exit, ending) in table {
        let mut reading = Reading::default();
        reading.line(Stream::Out, &line(subtype, is_error));
        let report = reading.report(&ProcessEnd { exit, stopped: None, seconds: 0.0 });
        assert_eq!(report.ending, ending, "{subtype} {is_error} {exit:?}");
    }
}

#[test]
fn a_cli_that_ends_without_a_result_is_explained_by_its_last_words() {
    let mut reading = Reading::default();
    reading.line(Stream::Out, "not json");
    reading.line(Stream::Err, "error: unknown option '--tools'");
    let report = reading.report(&ProcessEnd { exit: Exit::Code(1), stopped: None, seconds: 0.0 });
    assert_eq!(report.reason, "Claude Code ended with exit code 1: error: unknown option '--tools'");
}

#[test]
fn the_command_line_is_the_measured_one() {
    let model = ModelPlan {
        model: "claude-sonnet-5".into(),
        max_turns: Some(80),
        max_cost_usd: Some(2.5),
        tools: vec!["Bash".into(), "Read".into()],
    };
    let places = Places {
        workspace: "/r/workspace".into(),
        home: "/r/agent/home".into(),
        temporary: "/r/agent/tmp".into(),
        output: "/r/agent/output".into(),
        system_prompt: "/r/system-prompt.md".into(),
        task: "/r/task.md".into(),
    };
    let invocation = invocation(&model, &places, "Do it.\n");
    insta::assert_snapshot!(invocation.arguments.join(" "), @"-p --output-format stream-json --verbose --setting-sources user --strict-mcp-config --permission-mode dontAsk --tools Bash,Read --allowedTools Bash,Read --no-session-persistence --model claude-sonnet-5 --max-turns 80 --max-budget-usd 2.5 --append-system-prompt-file /r/system-prompt.md");
    assert_eq!(
        invocation.input,
        "Do it.\n\nThe work tree is /r/workspace. RUN_OUTPUT_DIR is /r/agent/output.\n"
    );
}
