use proptest::prelude::*;

use super::*;
use crate::domain::run_plan::ModelPlan;

fn end(stopped: Option<Stop>) -> ProcessEnd {
    ProcessEnd { exit: Exit::Code(0), stopped, seconds: 12.4 }
}

#[test]
fn what_stopped_the_program_outranks_what_it_says() {
    let table = [
        (
            Stop::Time,
            AgentEnding::TimedOut,
            FailureClass::Agent,
            "The agent was stopped when its time was up, after 12 s.",
        ),
        (
            Stop::Memory(512 << 20),
            AgentEnding::Failed,
            FailureClass::Agent,
            "The agent used more memory than 512 MiB.",
        ),
        (
            Stop::Disk(WORKSPACE_LIMIT),
            AgentEnding::Failed,
            FailureClass::Agent,
            "The agent's files took more than 7680 MiB.",
        ),
        (
            Stop::Files(FILE_LIMIT),
            AgentEnding::Failed,
            FailureClass::Agent,
            "The agent made more than 2000000 files.",
        ),
        (Stop::DiskFull, AgentEnding::Failed, FailureClass::Agent, "The agent filled the disk."),
        (
            Stop::Waiting(300),
            AgentEnding::Failed,
            FailureClass::Infrastructure,
            "The model API could not be reached for 300 s.",
        ),
        (Stop::Cancelled, AgentEnding::Cancelled, FailureClass::Cancelled, "The run was cancelled."),
    ];
    for (stop, ending, class, reason) in table {
        let report = Reading::Command(command::Reading::default()).report(&end(Some(stop)));
        assert_eq!((report.ending, report.class, report.reason.as_str()), (ending, Some(class), reason));
    }
}

#[test]
fn a_credential_replaces_defaults_but_not_places_and_never_path() {
    let invocation = Invocation {
        program: "x".into(),
        arguments: vec![],
        fixed: vec![("HOME".into(), "/run/home".into())],
        defaults: vec![("RETRIES".into(), "6".into())],
        input: String::new(),
        install: "",
    };
    let credentials = [("HOME", "/root"), ("RETRIES", "1"), ("KEY", "k"), ("PATH", "/evil")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let environment = invocation.environment(&credentials);
    let expected = [("HOME", "/run/home"), ("RETRIES", "1"), ("KEY", "k")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(environment, expected);
}

fn event() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("result".to_owned()),
        Just("assistant".to_owned()),
        Just("turn.completed".to_owned()),
        Just("turn.failed".to_owned()),
        Just("success".to_owned()),
        Just("error_max_turns".to_owned()),
        "[a-z ]{0,8}",
    ];
    let value = prop_oneof![
        word.clone().prop_map(serde_json::Value::from),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<u64>().prop_map(serde_json::Value::from),
        Just(serde_json::json!({"message": "x", "content": [{}]})),
        Just(serde_json::json!([])),
        Just(serde_json::Value::Null),
    ];
    let name = prop_oneof![
        Just("type"),
        Just("subtype"),
        Just("is_error"),
        Just("api_error_status"),
        Just("num_turns"),
        Just("message"),
        Just("error"),
        Just("usage"),
        Just("modelUsage"),
        Just("permission_denials"),
        Just("item"),
    ];
    let object = proptest::collection::vec((name, value), 0..6).prop_map(|fields| {
        let fields: serde_json::Map<_, _> =
            fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        serde_json::Value::Object(fields).to_string()
    });
    prop_oneof![4 => object, 1 => "\\PC{0,30}"]
}

proptest! {
    /// What a program prints is a claim: it can be read whatever it is, and it never makes a
    /// success of an end that is none.
    #[test]
    fn no_output_makes_a_success_of_a_failure(
        lines in proptest::collection::vec(event(), 0..8),
        exit in prop_oneof![(1..256).prop_map(Exit::Code), (1..32).prop_map(Exit::Signal)],
    ) {
        let model = ModelPlan { model: "m".into(), max_turns: None, max_cost_usd: None, tools: vec![] };
        let runtimes = [
            RuntimePlan::Command { command: vec!["x".into()] },
            RuntimePlan::ClaudeCode(model.clone()),
            RuntimePlan::Codex(model),
        ];
        for runtime in runtimes {
            let mut reading = Reading::new(&runtime);
            for line in &lines {
                reading.line(Stream::Out, line);
                reading.line(Stream::Err, line);
                reading.render(line);
            }
            let report = reading.report(&ProcessEnd { exit, stopped: None, seconds: 1.0 });
            prop_assert_ne!(report.ending, AgentEnding::Done);
            prop_assert!(report.class.is_some() && !report.reason.contains('\n'));
        }
    }
}

#[test]
fn quotations_are_one_short_visible_line() {
    assert_eq!(quote("a\n b\u{1b}[31m\u{202e}c"), "a b[31mc");
    assert_eq!(quote(&"é".repeat(400)).chars().count(), QUOTE_LIMIT + 1);
}
