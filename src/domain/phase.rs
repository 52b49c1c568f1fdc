//! What the phases of a run tell each other. `prepare` is trusted, `agent` and `collect` worked
//! beside hostile code: what they report is a claim.
//!
//! Layout of a run's directory, locally below the state directory and in a pod below `/run/astra`:
//!
//! ```text
//! plan.json            RunPlan, read-only
//! system-prompt.md     the agent's system prompt
//! task.md              the agent's task prompt
//! workspace/           the clone that the agent works in
//! prepare/report.json  PrepareReport
//! agent/report.json    AgentReport; agent/output/ = RUN_OUTPUT_DIR, agent/transcript.log, agent/home/, agent/tmp/
//! collect/report.json  CollectReport; collect/work.bundle
//! deliver/result.json  RunResult
//! publish/plan.json    PublishPlan, and plan.md
//! ```

use serde::{Deserialize, Serialize};

use super::result::{FailureClass, Review, Tokens};

/// Written by `prepare`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PrepareReport {
    /// The commit that the workspace was at when the agent got it: all work counts from here.
    pub base_commit: String,
    /// Seconds it took.
    pub seconds: f64,
    /// Why there is no workspace; the run ends here.
    pub failure: Option<PhaseFailure>,
}

/// Why a phase brought nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseFailure {
    /// Decides what happens next.
    pub class: FailureClass,
    /// One sentence, without secrets.
    pub reason: String,
}

/// Written by `agent`; a claim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentReport {
    /// How it ended.
    pub ending: AgentEnding,
    /// One sentence for people.
    pub reason: String,
    /// Of what kind the failure is; `None` for [`AgentEnding::Done`].
    pub class: Option<FailureClass>,
    /// The program's exit code, if it exited by itself.
    pub exit_code: Option<i32>,
    /// The model, as the runtime reported it.
    pub model: Option<String>,
    /// Tokens, as the runtime reported them.
    pub tokens: Tokens,
    /// US dollars, as the runtime reported them.
    pub cost_usd: Option<f64>,
    /// Turns, as the runtime reported them.
    pub turns: Option<u32>,
    /// How many tool calls were denied.
    pub denials: u32,
    /// Seconds it took.
    pub seconds: f64,
}

/// How the agent step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentEnding {
    /// The program says that it is done.
    Done,
    /// Turns or budget ran out: what there is, is delivered as partial work.
    Partial,
    /// The time limit ended it: what there is, is delivered as partial work.
    TimedOut,
    /// It failed: nothing is delivered.
    Failed,
    /// It was cancelled: nothing is delivered.
    Cancelled,
}

/// Written by `collect`; a claim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CollectReport {
    /// The one commit on the base; `None` where nothing changed.
    pub commit: Option<String>,
    /// Size of `work.bundle` in bytes.
    pub bundle_bytes: u64,
    /// The agent's `summary.md`, cut.
    pub summary: String,
    /// A reviewer's `review.json`.
    pub review: Option<Review>,
    /// Seconds it took.
    pub seconds: f64,
    /// Why there is nothing.
    pub failure: Option<PhaseFailure>,
}
