//! The Claude Code CLI in headless mode. Flags and endings were measured with version 2.1.197;
//! the recordings are in `fixtures/agent-runtimes/`.
//!
//! Two facts shape this file. Without `--setting-sources user` a checked-out repository can run
//! commands and take the API key through its own settings. And a `result` with the subtype
//! `success` may be an API error: only exit code, subtype and `is_error` together say "done".

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Exit, Invocation, Places, ProcessEnd, Stop, Stream, not_started, quote, unexplained};
use crate::domain::phase::{AgentEnding, AgentReport};
use crate::domain::prompt;
use crate::domain::result::{FailureClass, Tokens};
use crate::domain::run_plan::ModelPlan;

/// Its name in the PATH.
pub const PROGRAM: &str = "claude";
/// What to do where the program is not installed.
pub const INSTALL: &str =
    "install Claude Code (`npm install -g @anthropic-ai/claude-code`), or choose an image that has it";

/// Tries after a failed request. The CLI's default of 10 takes three minutes to report a wrong key.
const MAX_RETRIES: u32 = 6;

/// The command line. The task goes to stdin: it may be longer than an argument can be, and
/// arguments are visible to every process.
pub fn invocation(model: &ModelPlan, places: &Places, task: &str) -> Invocation {
    let tools = model.tools.join(",");
    let mut arguments: Vec<String> =
        ["-p", "--output-format", "stream-json", "--verbose"].map(Into::into).into();
    // Settings, hooks, MCP servers, skills and CLAUDE.md of the repository are not honoured.
    arguments.extend(
        ["--setting-sources", "user", "--strict-mcp-config", "--permission-mode", "dontAsk"].map(Into::into),
    );
    arguments.extend(["--tools".to_owned(), tools.clone(), "--allowedTools".to_owned(), tools]);
    arguments.extend(["--no-session-persistence".to_owned(), "--model".to_owned(), model.model.clone()]);
    if let Some(turns) = model.max_turns {
        arguments.extend(["--max-turns".to_owned(), turns.to_string()]);
    }
    if let Some(dollars) = model.max_cost_usd {
        arguments.extend(["--max-budget-usd".to_owned(), dollars.to_string()]);
    }
    arguments.extend(["--append-system-prompt-file".to_owned(), places.system_prompt.clone()]);
    Invocation {
        program: PROGRAM.to_owned(),
        arguments,
        fixed: vec![
            ("CLAUDE_CONFIG_DIR".to_owned(), format!("{}/.claude", places.home)),
            ("CLAUDE_CODE_TMPDIR".to_owned(), places.temporary.clone()),
            ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC".to_owned(), "1".to_owned()),
            ("DISABLE_AUTOUPDATER".to_owned(), "1".to_owned()),
        ],
        defaults: vec![("CLAUDE_CODE_MAX_RETRIES".to_owned(), MAX_RETRIES.to_string())],
        input: format!("{}\n\n{}", task.trim_end(), prompt::places(&places.workspace, &places.output)),
        install: INSTALL,
    }
}

/// What the output has said so far.
#[derive(Debug, Default)]
pub struct Reading {
    model: Option<String>,
    answered: bool,
    last_retry: Option<String>,
    result: Option<ResultEvent>,
    last_words: String,
}

/// One line of `--output-format stream-json`; only what is looked at.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Event {
    System(SystemEvent),
    Assistant {
        message: Message,
    },
    Result(Box<ResultEvent>),
    #[serde(other)]
    Other,
}

#[derive(Debug, Deserialize)]
struct SystemEvent {
    #[serde(default)]
    subtype: String,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    error_status: Option<u16>,
    #[serde(default)]
    error: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Message {
    #[serde(default)]
    model: String,
}

#[derive(Debug, Default, Deserialize)]
struct ResultEvent {
    #[serde(default)]
    subtype: String,
    #[serde(default)]
    is_error: bool,
    #[serde(default)]
    api_error_status: Option<u16>,
    #[serde(default)]
    num_turns: Option<u32>,
    #[serde(default)]
    total_cost_usd: Option<f64>,
    #[serde(default)]
    result: Option<String>,
    #[serde(default)]
    errors: Vec<String>,
    /// Counts the last response also where a limit ended the run; `usage` does not.
    #[serde(default, rename = "modelUsage")]
    model_usage: BTreeMap<String, ModelUsage>,
    #[serde(default)]
    permission_denials: Vec<serde_json::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ModelUsage {
    input_tokens: u64,
    output_tokens: u64,
    cache_read_input_tokens: u64,
    cache_creation_input_tokens: u64,
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
            Ok(Event::System(event)) => self.system(event),
            Ok(Event::Assistant { message }) => self.assistant(message),
            Ok(Event::Result(event)) => self.result = Some(*event),
            Ok(Event::Other) | Err(_) => {}
        }
    }

    fn system(&mut self, event: SystemEvent) {
        match event.subtype.as_str() {
            "init" => self.model = event.model,
            "api_retry" => {
                let status = event.error_status.map(|status| format!("{status} ")).unwrap_or_default();
                self.last_retry = Some(format!("{status}{}", event.error.unwrap_or_default()));
            }
            _ => {}
        }
    }

    fn assistant(&mut self, message: Message) {
        // The CLI's own error messages carry the model `<synthetic>`.
        if !message.model.is_empty() && !message.model.starts_with('<') {
            self.model = Some(message.model);
            self.answered = true;
        }
    }

    /// What the whole comes to.
    pub fn report(&self, end: &ProcessEnd) -> AgentReport {
        let mut report = not_started(FailureClass::Agent, String::new());
        report.seconds = end.seconds;
        report.model = self.model.clone();
        if let Exit::Code(code) = end.exit {
            report.exit_code = Some(code);
        }
        let (ending, class, reason) = match &self.result {
            Some(result) => {
                report.turns = result.num_turns;
                report.cost_usd = result.total_cost_usd;
                report.tokens = result.tokens();
                report.denials = u32::try_from(result.permission_denials.len()).unwrap_or(u32::MAX);
                result.judge(end.exit)
            }
            None => {
                let reason = unexplained("Claude Code", end.exit, &self.last_words);
                (AgentEnding::Failed, Some(FailureClass::Agent), reason)
            }
        };
        (report.ending, report.class, report.reason) = (ending, class, reason);
        if end.stopped == Some(Stop::Time) && !self.answered {
            report.ending = AgentEnding::Failed;
            report.class = Some(FailureClass::Infrastructure);
            report.reason = match &self.last_retry {
                Some(retry) => {
                    format!("The model API did not answer within the time limit (last: {}).", quote(retry))
                }
                None => "The model API did not answer within the time limit.".to_owned(),
            };
        }
        report
    }
}

impl ResultEvent {
    fn tokens(&self) -> Tokens {
        self.model_usage.values().fold(Tokens::default(), |sum, usage| Tokens {
            input: sum.input.saturating_add(usage.input_tokens),
            output: sum.output.saturating_add(usage.output_tokens),
            cache_read: sum.cache_read.saturating_add(usage.cache_read_input_tokens),
            cache_write: sum.cache_write.saturating_add(usage.cache_creation_input_tokens),
        })
    }

    fn judge(&self, exit: Exit) -> (AgentEnding, Option<FailureClass>, String) {
        let words = self.result.as_deref().or(self.errors.first().map(String::as_str)).unwrap_or_default();
        let agent = Some(FailureClass::Agent);
        match self.subtype.as_str() {
            "success" if self.is_error => {
                let class = api_error_class(self.api_error_status, words);
                (AgentEnding::Failed, Some(class), api_error_reason(class, self.api_error_status, words))
            }
            "success" if exit == Exit::Code(0) => {
                (AgentEnding::Done, None, "Claude Code says that it is done.".to_owned())
            }
            "error_max_turns" => (
                AgentEnding::Partial,
                agent,
                "The agent used up its turns; what it had done is kept.".to_owned(),
            ),
            "error_max_budget_usd" => (
                AgentEnding::Partial,
                agent,
                "The agent used up its budget; what it had done is kept.".to_owned(),
            ),
            _ => (AgentEnding::Failed, agent, unexplained("Claude Code", exit, words)),
        }
    }
}

/// Who can do something about an API error. Several carry no status, only words.
fn api_error_class(status: Option<u16>, words: &str) -> FailureClass {
    match status {
        Some(401..=403) => FailureClass::Credentials,
        Some(400) if words.contains("Credit balance") => FailureClass::Credentials,
        Some(404) => FailureClass::Task,
        Some(408 | 429 | 500..) => FailureClass::Infrastructure,
        Some(_) => FailureClass::Agent,
        None if words.starts_with("Not logged in") || words.starts_with("Invalid API key") => {
            FailureClass::Credentials
        }
        // "API Error: Repeated 529 …", "API Error: Unable to connect to API …", "Request timed out".
        None if words.starts_with("API Error") || words.starts_with("Request timed out") => {
            FailureClass::Infrastructure
        }
        None => FailureClass::Agent,
    }
}

fn api_error_reason(class: FailureClass, status: Option<u16>, words: &str) -> String {
    let status = status.map(|status| format!(" ({status})")).unwrap_or_default();
    let cause = match class {
        FailureClass::Credentials => "The model API did not accept the agent's credential",
        FailureClass::Task => "The model API does not know the model",
        FailureClass::Infrastructure => "The model API could not serve the agent",
        _ => "The model API refused a request of the agent",
    };
    format!("{cause}{status}: {}", quote(words))
}

#[cfg(test)]
mod tests;
