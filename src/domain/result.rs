//! The result document of a run: versioned JSON that `deliver` writes and `publish` reads.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::name::{Branch, RunId};

/// The one version of the document that this program reads and writes.
pub const RESULT_VERSION: u32 = 1;

/// What a run brought.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunResult {
    /// Always [`RESULT_VERSION`].
    pub version: u32,
    /// The run.
    #[schemars(with = "String")]
    pub run: RunId,
    /// How it ended.
    pub outcome: RunOutcome,
    /// The work was cut short (time, turns or budget) but what there is was delivered.
    pub partial: bool,
    /// The pushed branch, if any.
    #[schemars(with = "Option<String>")]
    pub branch: Option<Branch>,
    /// The commit at its tip.
    pub head: Option<String>,
    /// The commit that the work is based on.
    pub base: Option<String>,
    /// The agent's own words (`summary.md`), sanitised and cut; a claim.
    pub summary: String,
    /// A reviewer's verdict.
    pub review: Option<Review>,
    /// Model tokens; a claim.
    pub tokens: Tokens,
    /// Model cost in US dollars; a claim.
    pub cost_usd: Option<f64>,
    /// Seconds that each phase took.
    pub durations: Durations,
    /// The model that did the work, as the provider names it.
    pub model: Option<String>,
    /// Why it failed or was refused; `None` where it did not.
    pub class: Option<FailureClass>,
    /// One sentence for people about the ending.
    pub reason: String,
    /// The gate's findings, where it refused the work.
    pub findings: Vec<Finding>,
    /// `false` where this copy was cut to fit its carrier.
    pub complete: bool,
}

impl RunResult {
    /// The result of a run that wrote none: nothing was done, for this reason.
    pub fn without_work(run: RunId, class: FailureClass, reason: &str) -> Self {
        Self {
            version: RESULT_VERSION,
            run,
            outcome: RunOutcome::Failed,
            partial: false,
            branch: None,
            head: None,
            base: None,
            summary: String::new(),
            review: None,
            tokens: Tokens::default(),
            cost_usd: None,
            durations: Durations::default(),
            model: None,
            class: Some(class),
            reason: reason.to_owned(),
            findings: Vec::new(),
            complete: true,
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    /// A branch was pushed.
    Changed,
    /// The agent ended well and changed nothing.
    NoChange,
    /// A review was written.
    Review,
    /// The gate refused the work.
    Refused,
    /// The agent's time was up.
    TimedOut,
    /// Anything else.
    Failed,
}

/// Why a run failed, and so who can do something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// The machine, the cluster or the model's service; we try again.
    Infrastructure,
    /// The agent's own doing.
    Agent,
    /// The gate refused the work.
    Policy,
    /// A credential is missing, wrong or used up.
    Credentials,
    /// The task or the registry asks for something that is not there.
    Task,
    /// Somebody stopped it.
    Cancelled,
}

/// A reviewer's verdict, written by the agent as `review.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Review {
    /// What the reviewer makes of it.
    pub verdict: Verdict,
    /// In a few sentences.
    pub summary: String,
    /// Remarks on lines.
    #[serde(default)]
    pub comments: Vec<LineComment>,
}

/// A reviewer's judgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing to change (posted as a comment: an agent never approves).
    Approve,
    /// Remarks only.
    Comment,
    /// To be changed before it is merged.
    RequestChanges,
}

/// A remark on one line of a pull request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LineComment {
    /// Path within the repository.
    pub path: String,
    /// Line number, from 1.
    pub line: u32,
    /// Which side of the diff the line number counts on.
    #[serde(default)]
    pub side: Side,
    /// The remark.
    pub body: String,
}

/// A side of a diff.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Side {
    /// Before the change.
    Left,
    /// After the change.
    #[default]
    Right,
}

/// Model tokens of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tokens {
    /// Sent, not cached.
    pub input: u64,
    /// Received.
    pub output: u64,
    /// Read from the provider's cache.
    pub cache_read: u64,
    /// Written to the provider's cache.
    pub cache_write: u64,
}

/// Seconds that each phase took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Durations {
    /// Clone and checkout.
    pub prepare: f64,
    /// The agent.
    pub agent: f64,
    /// Bundling.
    pub collect: f64,
    /// Gate and push.
    pub deliver: f64,
}

/// One thing that the gate objects to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// The rule's name, e.g. `protected-path`.
    pub rule: String,
    /// The path, where there is one.
    pub path: Option<String>,
    /// The line, where there is one.
    pub line: Option<u32>,
    /// One sentence; never the secret itself.
    pub message: String,
}
