//! The Codex CLI without a terminal. Flags and endings were measured with version 0.169.0; the
//! recordings are in `fixtures/agent-runtimes/`.
//!
//! It knows no limit of turns or money: the time limit is its only one. When the API cannot be
//! reached it waits for ever, which is why it is watched.

use serde::Deserialize;

use super::{Exit, Invocation, Places, ProcessEnd, Prompts, Stop, Stream, not_started, quote, unexplained};
use crate::domain::phase::{AgentEnding, AgentReport};
use crate::domain::prompt;
use crate::domain::result::{FailureClass, Tokens};
use crate::domain::run_plan::ModelPlan;

/// Its name in the PATH.
pub const PROGRAM: &str = "codex";
/// What to do where the program is not installed.
pub const INSTALL: &str = "install Codex (`npm install -g @openai/codex`), or choose an image that has it";

/// The API, unless a credential of this name says another.
const BASE_URL: (&str, &str) = ("OPENAI_BASE_URL", "https://api.openai.com/v1");

/// The command line. System prompt and task go to stdin together: there is no flag for the first.
pub fn invocation(
    model: &ModelPlan,
    places: &Places,
    prompts: Prompts<'_>,
    credentials: &[(String, String)],
) -> Invocation {
    let base_url = credentials.iter().find(|(name, _)| name == BASE_URL.0).map_or(BASE_URL.1, |(_, url)| url);
    let mut arguments: Vec<String> =
        ["exec", "--json", "--ephemeral", "--skip-git-repo-check"].map(Into::into).into();
    // Its own sandbox needs user namespaces, which a pod does not have; ours is around it. Settings
    // of the repository are not honoured, and AGENTS.md is not read into the prompt.
    arguments
        .extend(["--ignore-user-config", "-s", "danger-full-access", "--disable", "plugins"].map(Into::into));
    // A provider of our own: the built-in one ignores OPENAI_BASE_URL and contacts other hosts.
    let provider = format!(
        r#"model_providers.api={{name="api",base_url={},env_key="CODEX_API_KEY",wire_api="responses"}}"#,
        toml_string(base_url)
    );
    for setting in
        ["analytics.enabled=false", "project_doc_max_bytes=0", r#"model_provider="api""#, &provider]
    {
        arguments.extend(["-c".to_owned(), setting.to_owned()]);
    }
    arguments.extend(["-m".to_owned(), model.model.clone(), "-".to_owned()]);
    Invocation {
        program: PROGRAM.to_owned(),
        arguments,
        fixed: Vec::new(),
        defaults: Vec::new(),
        input: format!(
            "{}\n\n# Task\n\n{}\n\n{}",
            prompts.system.trim_end(),
            prompts.task.trim_end(),
            prompt::places(&places.workspace, &places.output)
        ),
        install: INSTALL,
    }
}

/// A JSON string is a TOML string, but for characters that are not in a URL.
fn toml_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// What the output has said so far.
#[derive(Debug, Default)]
pub struct Reading {
    tokens: Tokens,
    completed: bool,
    failure: Option<String>,
    waiting: Option<String>,
    last_words: String,
}

/// One line of `--json`; only what is looked at.
#[derive(Debug, Deserialize)]
#[serde(tag = "type")]
enum Event {
    #[serde(rename = "turn.completed")]
    TurnCompleted {
        #[serde(default)]
        usage: Usage,
    },
    #[serde(rename = "turn.failed")]
    TurnFailed { error: ErrorEvent },
    #[serde(rename = "error")]
    Error(ErrorEvent),
    #[serde(other)]
    Other,
}

#[derive(Debug, Deserialize)]
struct ErrorEvent {
    #[serde(default)]
    message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Usage {
    input_tokens: u64,
    cached_input_tokens: u64,
    cache_write_input_tokens: u64,
    output_tokens: u64,
}

impl Reading {
    /// Takes in one line.
    pub fn line(&mut self, stream: Stream, line: &str) {
        if stream == Stream::Err {
            if !line.trim().is_empty() {
                line.clone_into(&mut self.last_words);
            }
            return;
        }
        match serde_json::from_str(line) {
            Ok(Event::TurnCompleted { usage }) => self.turn_completed(&usage),
            Ok(Event::TurnFailed { error }) => self.failure = Some(error.message),
            Ok(Event::Error(error)) => self.waiting = Some(error.message),
            // Anything else is work: the API has answered.
            Ok(Event::Other) => self.waiting = None,
            Err(_) => {}
        }
    }

    fn turn_completed(&mut self, usage: &Usage) {
        self.completed = true;
        self.waiting = None;
        let sum = &mut self.tokens;
        // `input_tokens` counts the cached ones too.
        sum.input = sum.input.saturating_add(usage.input_tokens.saturating_sub(usage.cached_input_tokens));
        sum.output = sum.output.saturating_add(usage.output_tokens);
        sum.cache_read = sum.cache_read.saturating_add(usage.cached_input_tokens);
        sum.cache_write = sum.cache_write.saturating_add(usage.cache_write_input_tokens);
    }

    /// Whether it waits for the network, which it does without end.
    pub fn is_waiting(&self) -> bool {
        self.waiting.as_ref().is_some_and(|message| message.contains("waiting for network"))
    }

    /// What the whole comes to.
    pub fn report(&self, end: &ProcessEnd) -> AgentReport {
        let mut report = not_started(FailureClass::Agent, String::new());
        report.seconds = end.seconds;
        report.tokens = self.tokens;
        if let Exit::Code(code) = end.exit {
            report.exit_code = Some(code);
        }
        let (ending, class, reason) = match (&self.failure, &self.waiting) {
            (Some(message), _) => {
                let class = failure_class(message);
                (AgentEnding::Failed, Some(class), format!("Codex could not go on: {}", quote(message)))
            }
            (None, Some(message)) if end.stopped == Some(Stop::Time) => (
                AgentEnding::Failed,
                Some(FailureClass::Infrastructure),
                format!("The model API did not answer within the time limit (last: {}).", quote(message)),
            ),
            (None, _) if self.completed && end.exit == Exit::Code(0) => {
                (AgentEnding::Done, None, "Codex says that it is done.".to_owned())
            }
            _ => (
                AgentEnding::Failed,
                Some(FailureClass::Agent),
                unexplained("Codex", end.exit, &self.last_words),
            ),
        };
        (report.ending, report.class, report.reason) = (ending, class, reason);
        report
    }
}

/// Who can do something about a failed turn: Codex says it in words only.
fn failure_class(message: &str) -> FailureClass {
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if says(&["401 ", "402 ", "403 ", "Quota exceeded", "insufficient_quota"]) {
        FailureClass::Credentials
    } else if says(&["404 ", "model_not_found", "does not exist"]) {
        FailureClass::Task
    } else if says(&["400 ", "413 ", "context window", "context_length"]) {
        FailureClass::Agent
    } else {
        // 429, 500, "high demand", a stream that broke off, a network that is away.
        FailureClass::Infrastructure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replay(name: &str, stopped: Option<Stop>) -> AgentReport {
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/agent-runtimes").join(name);
        let recording: serde_json::Value =
            serde_json::from_slice(&std::fs::read(path).expect(name)).expect(name);
        let mut reading = Reading::default();
        for event in recording["events"].as_array().expect("events") {
            reading.line(Stream::Out, &event.to_string());
        }
        let code = i32::try_from(recording["exit_code"].as_i64().expect("exit code")).expect("exit code");
        super::super::Reading::Codex(Box::new(reading)).report(&ProcessEnd {
            exit: Exit::Code(code),
            stopped,
            seconds: 1.0,
        })
    }

    #[test]
    fn every_recorded_ending_has_its_outcome_and_class() {
        use FailureClass::{Agent, Credentials, Infrastructure};
        let table = [
            ("codex-stream-edit.json", None, AgentEnding::Done, None),
            ("codex-401.json", None, AgentEnding::Failed, Some(Credentials)),
            ("codex-quota.json", None, AgentEnding::Failed, Some(Credentials)),
            ("codex-429.json", None, AgentEnding::Failed, Some(Infrastructure)),
            ("codex-500.json", None, AgentEnding::Failed, Some(Infrastructure)),
            ("codex-unreachable.json", Some(Stop::Time), AgentEnding::Failed, Some(Infrastructure)),
            ("codex-unreachable.json", None, AgentEnding::Failed, Some(Agent)),
            ("codex-stream-edit.json", Some(Stop::Time), AgentEnding::TimedOut, Some(Agent)),
        ];
        for (name, stopped, ending, class) in table {
            let report = replay(name, stopped);
            assert_eq!((report.ending, report.class), (ending, class), "{name}: {}", report.reason);
        }
    }

    #[test]
    fn waiting_for_the_network_begins_and_ends() {
        let mut reading = Reading::default();
        let says = |message: &str| serde_json::json!({"type": "error", "message": message}).to_string();
        reading.line(Stream::Out, &says("Reconnecting... 1/5 (unexpected status 401 Unauthorized)"));
        assert!(!reading.is_waiting());
        reading.line(Stream::Out, &says("Reconnecting... waiting for network (Connection failed)"));
        assert!(reading.is_waiting());
        reading.line(Stream::Out, r#"{"type":"item.started","item":{}}"#);
        assert!(!reading.is_waiting());
    }

    #[test]
    fn cached_tokens_are_counted_apart() {
        let report = replay("codex-stream-edit.json", None);
        assert_eq!(report.tokens, Tokens { input: 1400, output: 100, cache_read: 600, cache_write: 0 });
        assert_eq!(report.cost_usd, None);
    }

    #[test]
    fn the_command_line_is_the_measured_one() {
        let model =
            ModelPlan { model: "gpt-5-codex".into(), max_turns: None, max_cost_usd: None, tools: vec![] };
        let places = Places {
            workspace: "/r/workspace".into(),
            home: "/r/agent/home".into(),
            temporary: "/r/agent/tmp".into(),
            output: "/r/agent/output".into(),
            system_prompt: "/r/system-prompt.md".into(),
            task: "/r/task.md".into(),
        };
        let prompts = Prompts { system: "You are Vega.\n", task: "Do it.\n" };
        let credentials = [("OPENAI_BASE_URL".to_owned(), "http://127.0.0.1:1/v1".to_owned())];
        let invocation = invocation(&model, &places, prompts, &credentials);
        insta::assert_snapshot!(invocation.arguments.join(" "), @r#"exec --json --ephemeral --skip-git-repo-check --ignore-user-config -s danger-full-access --disable plugins -c analytics.enabled=false -c project_doc_max_bytes=0 -c model_provider="api" -c model_providers.api={name="api",base_url="http://127.0.0.1:1/v1",env_key="CODEX_API_KEY",wire_api="responses"} -m gpt-5-codex -"#);
        assert_eq!(
            invocation.input,
            "You are Vega.\n\n# Task\n\nDo it.\n\nThe work tree is /r/workspace. RUN_OUTPUT_DIR is /r/agent/output.\n"
        );
        let default = super::invocation(&model, &places, prompts, &[]);
        assert!(
            default
                .arguments
                .iter()
                .any(|argument| argument.contains(r#"base_url="https://api.openai.com/v1""#))
        );
    }
}
