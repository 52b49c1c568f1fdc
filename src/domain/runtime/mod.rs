//! The agent's program: the command line it gets, and what its output and its end mean.
//!
//! Everything that a program prints is a claim. It can describe work, cost and a failure; it
//! cannot make a failed run a success, for that also takes its exit code.

pub mod claude_code;
pub mod codex;
pub mod command;
pub mod lines;
pub mod render;

use super::phase::{AgentEnding, AgentReport};
use super::result::{FailureClass, Tokens};
use super::run_plan::{RunPlan, RuntimePlan};

/// What the work tree may take on disk, in bytes: a little less than its volume in a pod has.
pub const WORKSPACE_LIMIT: u64 = 7680 << 20;
/// What home, temporary files and output may take together, in bytes: a little less than their volume has.
pub const HOME_LIMIT: u64 = 3840 << 20;
/// How many files and directories the work tree may hold, and as many the others.
pub const FILE_LIMIT: u64 = 2_000_000;
/// What may be kept of the agent's output, in bytes.
pub const TRANSCRIPT_LIMIT: u64 = 8 << 20;
/// The longest quotation of a program's own words in a reason, in characters.
const QUOTE_LIMIT: usize = 300;

/// Where the files of one run are, as absolute paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The work tree, and the working directory.
    pub workspace: String,
    /// `HOME`: empty when the agent starts.
    pub home: String,
    /// `TMPDIR`.
    pub temporary: String,
    /// `RUN_OUTPUT_DIR`.
    pub output: String,
    /// `RUN_SYSTEM_PROMPT_FILE`.
    pub system_prompt: String,
    /// `RUN_TASK_FILE`.
    pub task: String,
}

/// A program to be started in the work tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// Its name or path.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its environment, without `PATH` and credentials. A credential never replaces one of these.
    pub fixed: Vec<(String, String)>,
    /// Defaults that a credential of the same name may replace.
    pub defaults: Vec<(String, String)>,
    /// What it reads from stdin.
    pub input: String,
    /// What to do where the program is not installed.
    pub install: &'static str,
}

impl Invocation {
    /// The whole environment but `PATH`.
    pub fn environment(&self, credentials: &[(String, String)]) -> Vec<(String, String)> {
        let mut environment = self.fixed.clone();
        for (name, value) in credentials.iter().chain(&self.defaults) {
            if name != "PATH" && !environment.iter().any(|(known, _)| known == name) {
                environment.push((name.clone(), value.clone()));
            }
        }
        environment
    }
}

/// The prompts of a run, as they were written.
#[derive(Debug, Clone, Copy)]
pub struct Prompts<'a> {
    /// The system prompt.
    pub system: &'a str,
    /// The task prompt.
    pub task: &'a str,
}

/// The command line of a run. Of the credentials only the address of an API may become part of it.
pub fn invocation(
    plan: &RunPlan,
    places: &Places,
    prompts: Prompts<'_>,
    credentials: &[(String, String)],
) -> Invocation {
    let mut invocation = match &plan.runtime {
        RuntimePlan::Command { command } => command::invocation(command),
        RuntimePlan::ClaudeCode(model) => claude_code::invocation(model, places, prompts.task),
        RuntimePlan::Codex(model) => codex::invocation(model, places, prompts, credentials),
    };
    let common = [
        ("HOME", &places.home),
        ("TMPDIR", &places.temporary),
        ("RUN_SYSTEM_PROMPT_FILE", &places.system_prompt),
        ("RUN_TASK_FILE", &places.task),
        ("RUN_OUTPUT_DIR", &places.output),
    ];
    let common = common.into_iter().map(|(name, value)| (name.to_owned(), value.clone()));
    invocation.fixed =
        common.chain([("LANG".to_owned(), "C.UTF-8".to_owned())]).chain(invocation.fixed).collect();
    invocation
}

/// Which of the program's two outputs a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// How a supervised process ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProcessEnd {
    /// How the process itself ended.
    pub exit: Exit,
    /// Why it was stopped, if it was.
    pub stopped: Option<Stop>,
    /// Seconds from start to end.
    pub seconds: f64,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// Why a process was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Its time was up.
    Time,
    /// It had been waiting for the model API for this many seconds, and would have gone on.
    Waiting(u64),
    /// It and its children took more memory than this many bytes.
    Memory(u64),
    /// Its files took more than this many bytes.
    Disk(u64),
    /// It made more than this many files.
    Files(u64),
    /// Nearly nothing is left on the disk that its files are on.
    DiskFull,
    /// The run was cancelled.
    Cancelled,
}

/// What a program's output has said so far.
#[derive(Debug)]
pub enum Reading {
    /// Of any program.
    Command(command::Reading),
    /// Of the Claude Code CLI.
    ClaudeCode(Box<claude_code::Reading>),
    /// Of the Codex CLI.
    Codex(Box<codex::Reading>),
}

impl Reading {
    /// Begins to read the output of a plan's program.
    pub fn new(runtime: &RuntimePlan) -> Self {
        match runtime {
            RuntimePlan::ClaudeCode(_) => Self::ClaudeCode(Box::default()),
            RuntimePlan::Codex(_) => Self::Codex(Box::default()),
            RuntimePlan::Command { .. } => Self::Command(command::Reading::default()),
        }
    }

    /// Whether this output is a stream of events, to be read and shown line by line. A flood of
    /// anything else is passed on as it comes.
    pub fn is_events(&self, stream: Stream) -> bool {
        stream == Stream::Out && !matches!(self, Self::Command(_))
    }

    /// Whether the program waits for the model API and will do so without end.
    pub fn is_waiting(&self) -> bool {
        matches!(self, Self::Codex(reading) if reading.is_waiting())
    }

    /// What the transcript shows of a line of events.
    pub fn render(&self, line: &str) -> Option<String> {
        match self {
            Self::Command(_) => Some(line.to_owned()),
            Self::ClaudeCode(_) => render::claude_code(line),
            Self::Codex(_) => render::codex(line),
        }
    }

    /// Takes in one line.
    pub fn line(&mut self, stream: Stream, line: &str) {
        match self {
            Self::Command(reading) => reading.line(stream, line),
            Self::ClaudeCode(reading) => reading.line(stream, line),
            Self::Codex(reading) => reading.line(stream, line),
        }
    }

    /// What the whole comes to.
    pub fn report(&self, end: &ProcessEnd) -> AgentReport {
        let mut report = match self {
            Self::Command(reading) => reading.report(end),
            Self::ClaudeCode(reading) => reading.report(end),
            Self::Codex(reading) => reading.report(end),
        };
        if let Some(stop) = end.stopped {
            stopped(&mut report, stop);
        }
        report
    }
}

/// A report of a program that could not be started at all.
pub fn not_started(class: FailureClass, reason: String) -> AgentReport {
    AgentReport {
        ending: AgentEnding::Failed,
        reason,
        class: Some(class),
        exit_code: None,
        model: None,
        tokens: Tokens::default(),
        cost_usd: None,
        turns: None,
        denials: 0,
        seconds: 0.0,
    }
}

/// What stopped a program outranks what it made of being stopped.
fn stopped(report: &mut AgentReport, stop: Stop) {
    let (ending, class, reason) = match stop {
        Stop::Cancelled => {
            (AgentEnding::Cancelled, FailureClass::Cancelled, "The run was cancelled.".to_owned())
        }
        Stop::Waiting(seconds) => (
            AgentEnding::Failed,
            FailureClass::Infrastructure,
            format!("The model API could not be reached for {seconds} s."),
        ),
        // A model that never answered is not the agent's doing: the reading has said so.
        Stop::Time if report.class == Some(FailureClass::Infrastructure) => return,
        Stop::Time => (
            AgentEnding::TimedOut,
            FailureClass::Agent,
            format!("The agent was stopped when its time was up, after {} s.", report.seconds.round()),
        ),
        Stop::Memory(limit) => {
            failed_by_agent(format!("The agent used more memory than {}.", mebibytes(limit)))
        }
        Stop::Disk(limit) => {
            failed_by_agent(format!("The agent's files took more than {}.", mebibytes(limit)))
        }
        Stop::Files(limit) => failed_by_agent(format!("The agent made more than {limit} files.")),
        Stop::DiskFull => failed_by_agent("The agent filled the disk.".to_owned()),
    };
    report.ending = ending;
    report.class = Some(class);
    report.reason = reason;
}

fn failed_by_agent(reason: String) -> (AgentEnding, FailureClass, String) {
    (AgentEnding::Failed, FailureClass::Agent, reason)
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// Quotes a program's own words in a reason: one line, visible characters, cut.
fn quote(text: &str) -> String {
    let (visible, _) = super::escape::visible(text);
    let line = visible.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut cut: String = line.chars().take(QUOTE_LIMIT).collect();
    if cut.len() < line.len() {
        cut.push('…');
    }
    cut
}

/// Words for an end that the program itself did not explain.
fn unexplained(name: &str, exit: Exit, last_words: &str) -> String {
    let mut reason = match exit {
        Exit::Code(code) => format!("{name} ended with exit code {code}"),
        Exit::Signal(9) => format!("{name} was killed (signal 9), perhaps for want of memory"),
        Exit::Signal(signal) => format!("{name} was ended by signal {signal}"),
    };
    let words = quote(last_words);
    reason.push_str(&if words.is_empty() { ".".to_owned() } else { format!(": {words}") });
    reason
}

#[cfg(test)]
mod tests;
