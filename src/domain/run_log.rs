//! The run log: one document for each published run, on a branch of its own, never rewritten.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::escape;
use super::job::{ItemState, Job};
use super::message;
use super::publish::github::{Opened, Reviewed};
use super::publish::{Ending, Subject, TrackerUpdate};
use super::result::{FailureClass, RunOutcome, RunResult};

/// The one version of the document.
pub const RUN_LOG_VERSION: u32 = 1;
/// Of what an agent's program printed, the end is kept: so much, in bytes.
pub const TRANSCRIPT_KEPT: usize = 256 << 10;
/// The branch that it is on.
pub const RUN_LOG_BRANCH: &str = "astra-log";

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunRecord {
    /// Always 1.
    pub version: u32,
    /// The run.
    pub run: String,
    /// The task's key.
    pub task: String,
    /// The work item's page in Plane.
    pub item: String,
    /// The agent.
    pub agent: String,
    /// Its role.
    pub role: String,
    /// Where it worked.
    pub repository: String,
    /// The branch that it started from.
    pub base: String,
    /// Counted from 1.
    pub attempt: u32,
    /// The registry that decided, by its hash.
    pub registry: String,
    /// Every agent that was looked at: why it was chosen, or why not.
    pub decision: Vec<Choice>,
    /// When it was begun.
    #[schemars(with = "String")]
    pub begun: Timestamp,
    /// When it ended.
    #[schemars(with = "String")]
    pub ended: Timestamp,
    /// How: `changed`, `no_change`, `review`, `refused`, `timed_out` or `failed`.
    #[schemars(with = "String")]
    pub outcome: RunOutcome,
    /// Why it failed, if it did.
    #[schemars(with = "Option<String>")]
    pub class: Option<FailureClass>,
    /// One sentence about the ending.
    pub reason: String,
    /// What it brought, as it said itself; null where it left nothing.
    #[schemars(with = "Option<serde_json::Value>")]
    pub result: Option<RunResult>,
    /// Where the end of what its agent's program printed is, on the same branch; null: it is not kept.
    pub transcript: Option<String>,
    /// Everything that we wrote for it elsewhere.
    pub writes: Vec<Write>,
}

/// One agent of the decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Choice {
    /// The agent.
    pub agent: String,
    /// It got the task.
    pub chosen: bool,
    /// Why, or why not.
    pub why: String,
}

/// One thing that we wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Write {
    /// `branch`, `pull_request`, `review`, `comment`, `link` or `state`.
    pub kind: String,
    /// Its address or name, or why it was not written.
    pub what: String,
}

impl RunRecord {
    /// What is known before it is published; nothing is written yet but branch and state.
    pub fn new(job: &Job, subject: &Subject, ending: Ending<'_>) -> Self {
        let result = match ending {
            Ending::Result(result) => Some(result.clone()),
            Ending::Cancelled(_) | Ending::Failure(_) => None,
        };
        let (outcome, class, reason) = match ending {
            Ending::Result(result) => (result.outcome, result.class, result.reason.clone()),
            Ending::Cancelled(reason) => {
                let sentence = message::cancel_sentence(reason).to_owned();
                (RunOutcome::Failed, Some(FailureClass::Cancelled), sentence)
            }
            Ending::Failure(failure) => (RunOutcome::Failed, Some(failure.class), failure.reason.clone()),
        };
        let choice = |considered: &super::publish::Considered| Choice {
            agent: considered.agent.to_string(),
            chosen: considered.chosen,
            why: considered.why.clone(),
        };
        Self {
            version: RUN_LOG_VERSION,
            run: job.run.to_string(),
            task: job.task.to_string(),
            item: subject.item_url.clone(),
            agent: subject.agent.to_string(),
            role: subject.role.to_string(),
            repository: subject.repository.to_string(),
            base: subject.base.to_string(),
            attempt: job.attempt,
            registry: job.registry.hash.clone(),
            decision: subject.decision.iter().map(choice).collect(),
            begun: job.created_at,
            ended: ended_at(job),
            outcome,
            class,
            reason,
            transcript: None,
            writes: written_before(job, result.as_ref()),
            result,
        }
    }

    /// Adds what publishing wrote; `tracker`: what Plane was told.
    pub fn add_writes(
        &mut self,
        tracker: Option<&TrackerUpdate>,
        opened: Option<&Opened>,
        reviewed: Option<&Reviewed>,
    ) {
        let mut add = |kind: &str, what: String| self.writes.push(Write { kind: kind.to_owned(), what });
        match opened {
            Some(Opened::There(there)) => add("pull_request", there.url.clone()),
            Some(Opened::Never(why)) => add("pull_request", format!("none: {why}")),
            None => {}
        }
        match reviewed {
            Some(Reviewed::There(url)) => add("review", url.clone().unwrap_or_default()),
            Some(Reviewed::Never(why)) => add("review", format!("none: {why}")),
            None => {}
        }
        if let Some(tracker) = tracker {
            add("comment", format!("{} on work item {}", tracker.external_id, tracker.item));
            if let (Some(Opened::There(there)), Some(_)) = (opened, &tracker.link_pull_request) {
                add("link", there.url.clone());
            }
        }
    }

    /// Adds the move of the item that publishing made.
    pub fn add_move(&mut self, state: &ItemState) {
        self.writes.push(state_write(state));
    }

    /// Where it is on the branch: by the month in which the run ended, so that a repetition finds it.
    pub fn path(&self) -> String {
        format!("{}.json", self.place())
    }

    /// Where the end of its transcript goes.
    pub fn transcript_path(&self) -> String {
        format!("{}.log", self.place())
    }

    fn place(&self) -> String {
        let ended = self.ended.to_zoned(jiff::tz::TimeZone::UTC);
        format!("runs/{:04}/{:02}/{}", ended.year(), ended.month(), self.run)
    }

    /// The message of its commit.
    pub fn title(&self) -> String {
        format!("{}: {} by {}", self.run, message::outcome_name(self.outcome), self.agent)
    }
}

/// A run that was cancelled may have no end of its own.
fn ended_at(job: &Job) -> Timestamp {
    let cancelled = job.cancel.as_ref().map(|cancel| cancel.at);
    job.end.as_ref().map(|end| end.at).or(cancelled).unwrap_or(job.created_at)
}

fn written_before(job: &Job, result: Option<&RunResult>) -> Vec<Write> {
    let branch = result.and_then(|result| result.branch.as_ref());
    let branch = branch.map(|branch| Write { kind: "branch".to_owned(), what: branch.to_string() });
    let state = job.item_state.as_ref().map(state_write);
    branch.into_iter().chain(state).collect()
}

fn state_write(state: &ItemState) -> Write {
    let what = format!("{} to {} at {}", state.from, state.to, state.written_at);
    Write { kind: "state".to_owned(), what }
}

/// The end of what an agent's program printed, inert; `None`: it printed nothing.
pub fn transcript_end(printed: &[u8]) -> Option<String> {
    let printed = String::from_utf8_lossy(printed);
    let lines = printed.lines().map(|line| escape::terminal(line).into_owned() + "\n");
    let text: String = lines.collect();
    if text.trim().is_empty() {
        return None;
    }
    let Some(surplus) = text.len().checked_sub(TRANSCRIPT_KEPT).filter(|surplus| *surplus > 0) else {
        return Some(text);
    };
    const MARK: &str = "[what came before is not kept]\n";
    let start = text.ceil_char_boundary(surplus + MARK.len());
    Some(format!("{MARK}{}", &text[start..]))
}

#[cfg(test)]
mod tests;
