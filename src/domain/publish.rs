//! What is to be told the world about a finished run: a plan, as plain data. Whoever carries it out
//! (files now, GitHub and Plane with their adapters) decides nothing more than whether it still may.

use serde::{Deserialize, Serialize};

use super::job::{CancelReason, Job, JobFailure};
use super::matching::{Candidate, Running, Workforce, choose};
use super::message;
use super::name::{AgentName, Branch, ItemId, ProjectId, Repository, Role, RunId, TaskKey};
use super::pass::{NewJob, StateTarget};
use super::registry::{Agent, NO_PLANE, RegistryStamp, States, Trait};
use super::result::{Review, RunOutcome, RunResult, Side, Verdict};
use super::work_item::StateGroup;
use github::{Opened, PullRequestState, Reviewed};

mod body;
pub mod github;
mod markdown;
pub mod notice;

/// The one version of the plan document that this program writes.
pub const PUBLISH_PLAN_VERSION: u32 = 1;
/// Names our comments and links in Plane (`external_source`).
pub const EXTERNAL_SOURCE: &str = "astra-dispatch";
/// Longest title of a pull request that GitHub takes, in characters.
const TITLE_LIMIT: usize = 256;
/// Longest text of a remark or summary that is passed on, in characters (GitHub takes 65,536).
const TEXT_LIMIT: usize = 8_000;
/// Longest body of a pull request, review or comment that GitHub takes, in characters.
const BODY_LIMIT: usize = 65_536;
/// Remarks of one review, at most.
const COMMENT_LIMIT: usize = 100;

/// What a run was for and how it came to be: known before it started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Subject {
    /// The run.
    pub run: RunId,
    /// Counted from 1.
    pub attempt: u32,
    /// The task's key.
    pub task: TaskKey,
    /// The work item.
    pub item: ItemId,
    /// Its project.
    pub project: ProjectId,
    /// The item's page in Plane.
    pub item_url: String,
    /// The item's title; untrusted.
    pub title: String,
    /// Where the agent worked.
    pub repository: Repository,
    /// The branch that it started from.
    pub base: Branch,
    /// The pull request that it reviewed.
    pub pull_request: Option<u64>,
    /// The agent.
    pub agent: AgentName,
    /// The agent's role.
    pub role: Role,
    /// The agent's trait.
    pub trait_: Trait,
    /// The registry that decided.
    pub registry: RegistryStamp,
    /// Every agent that was looked at, and what became of it.
    pub decision: Vec<Considered>,
}

impl Subject {
    /// What is known of a run when it is made ready.
    pub fn new(new: &NewJob, agent: &Agent, workforce: &Workforce, running: &Running) -> Self {
        let registry = workforce.registry();
        let task = &new.task;
        let plane = &registry.plane;
        let candidates = choose(task, workforce, running).candidates;
        Self {
            run: new.run.clone(),
            attempt: new.attempt,
            task: task.key.clone(),
            item: task.item,
            project: task.project,
            item_url: format!("{}/{}/browse/{}/", plane.url, plane.workspace, task.key),
            title: task.title.clone(),
            repository: task.repository.clone(),
            base: task.base.clone(),
            pull_request: task.pull_request,
            agent: agent.name.clone(),
            role: agent.role.clone(),
            trait_: agent.trait_,
            registry: new.registry.clone(),
            decision: candidates.iter().map(|candidate| Considered::new(candidate, &agent.name)).collect(),
        }
    }

    /// The task's key (Markdown), with a link to its item where there is a Plane.
    fn linked_task(&self) -> String {
        let host = self.item_url.split('/').nth(2).unwrap_or_default();
        if host == NO_PLANE { self.task.to_string() } else { format!("[{}]({})", self.task, self.item_url) }
    }

    /// `Vega · Coder · Thorough`.
    pub fn byline(&self) -> String {
        let role = message::capitalised(self.role.as_str());
        let name = message::capitalised(self.agent.as_str());
        format!("{name} · {role} · {}", message::trait_name(self.trait_))
    }
}

/// One agent of the decision, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Considered {
    /// The agent.
    pub agent: AgentName,
    /// It got the task.
    pub chosen: bool,
    /// Why, or why not.
    pub why: String,
}

impl Considered {
    fn new(candidate: &Candidate<'_>, chosen: &AgentName) -> Self {
        let name = &candidate.agent.name;
        let skills: Vec<&str> = candidate.parts.iter().map(|part| part.skill).collect();
        let fit = match skills.as_slice() {
            [] => "no skill that the task asks for".to_owned(),
            skills => format!("{} points for {}", candidate.score(), skills.join(", ")),
        };
        let chosen = name == chosen;
        // The load is that of a moment later than the decision: the run itself may count already.
        let why = match candidate.failed {
            Some(gate) if !chosen => format!("did not pass the gate `{}`", gate.name()),
            _ => fit,
        };
        Self { agent: name.clone(), chosen, why }
    }
}

/// How a run ended, as publish sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ending<'a> {
    /// It wrote a result document.
    Result(&'a RunResult),
    /// It was cancelled; whatever it wrote does not count.
    Cancelled(CancelReason),
    /// It ended without a result document.
    Failure(&'a JobFailure),
}

impl<'a> Ending<'a> {
    /// A cancellation outranks everything, and a result outranks how its Job ended. `lost`: what is
    /// said of a run that left nothing at all.
    pub fn of(job: &'a Job, result: Option<&'a RunResult>, lost: &'a JobFailure) -> Self {
        let failure = job.end.as_ref().and_then(|end| end.failure.as_ref());
        match (&job.cancel, result) {
            (Some(cancel), _) => Self::Cancelled(cancel.reason),
            (None, Some(result)) => Self::Result(result),
            (None, None) => Self::Failure(failure.unwrap_or(lost)),
        }
    }
}

/// The plan: what to open, say and move. An absent part is not to be done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PublishPlan {
    /// Always [`PUBLISH_PLAN_VERSION`].
    pub version: u32,
    /// The run.
    pub run: RunId,
    /// The pull request to open, unless one with this head exists.
    pub pull_request: Option<PullRequestDraft>,
    /// The review to write.
    pub review: Option<ReviewDraft>,
    /// What the work item is to show; `None` for a replaced attempt, of which Plane hears nothing.
    pub tracker: Option<TrackerUpdate>,
}

impl PublishPlan {
    /// Where the item is to be moved although its run had moved it to *started*; `None`: it stays.
    pub fn outcome_state(&self) -> Option<StateTarget> {
        let to = self.tracker.as_ref()?.state.as_ref()?;
        to.only_from.contains(&StateGroup::Started).then(|| to.to.clone())
    }
}

/// A pull request before it is opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullRequestDraft {
    /// Where.
    pub repository: Repository,
    /// The pushed branch; at most one pull request has it as head.
    pub head: Branch,
    /// The commit at its tip when it was pushed.
    pub head_commit: Option<String>,
    /// The branch to merge into.
    pub base: Branch,
    /// Its title: one line, inert.
    pub title: String,
    /// Its text: Markdown, inert where it quotes strangers.
    pub body: String,
    /// Not ready for review: the work is partial.
    pub draft: bool,
    /// Labels to put on it.
    pub labels: Vec<String>,
}

/// A pull request review before it is written. There is no approval: an agent never approves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReviewDraft {
    /// Where.
    pub repository: Repository,
    /// The pull request's number.
    pub pull_request: u64,
    /// The commit that was reviewed.
    pub commit: Option<String>,
    /// What the review asks for. Where GitHub refuses it (own pull request), `Comment` with the
    /// same text, whose first line is the verdict.
    pub event: ReviewEvent,
    /// Markdown.
    pub body: String,
    /// Remarks on lines.
    pub comments: Vec<ReviewRemark>,
}

/// GitHub's `event` of a review.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ReviewEvent {
    /// Remarks only.
    Comment,
    /// To be changed before it is merged.
    RequestChanges,
}

/// A remark on one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReviewRemark {
    /// Path within the repository.
    pub path: String,
    /// Line number, from 1.
    pub line: u32,
    /// Which side of the diff the line number counts on.
    pub side: Side,
    /// Markdown.
    pub body: String,
}

/// What is to be done to the work item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackerUpdate {
    /// The project.
    pub project: ProjectId,
    /// The item.
    pub item: ItemId,
    /// One comment per run, edited in place: HTML.
    pub comment_html: String,
    /// Always [`EXTERNAL_SOURCE`].
    pub external_source: String,
    /// The run: finds the comment again.
    pub external_id: RunId,
    /// Where to move the item, if it still is where the move applies.
    pub state: Option<StateMove>,
    /// The pull request is to be linked, once its URL is known.
    pub link_pull_request: Option<String>,
}

impl TrackerUpdate {
    /// The comment once it is known what became of pull request or review.
    pub fn comment_after(&self, opened: Option<&Opened>, reviewed: Option<&Reviewed>) -> String {
        let link = |url: &str| format!(r#"<a href="{0}">{0}</a>"#, message::html(url));
        let never = |what: &str, why: &str| format!("<p>There is no {what}: {}.</p>", message::html(why));
        let opened = opened.map(|opened| match opened {
            Opened::There(there) => {
                let state = match there.state {
                    PullRequestState::Open => "",
                    PullRequestState::Closed => " (closed)",
                    PullRequestState::Merged => " (merged)",
                };
                format!("<p>Pull request: {}{state}</p>", link(&there.url))
            }
            Opened::Never(why) => never("pull request", why),
        });
        let reviewed = reviewed.map(|reviewed| match reviewed {
            Reviewed::There(Some(url)) => format!("<p>Review: {}</p>", link(url)),
            Reviewed::There(None) => String::new(),
            Reviewed::Never(why) => never("review", why),
        });
        format!("{}{}{}", self.comment_html, opened.unwrap_or_default(), reviewed.unwrap_or_default())
    }
}

/// A move of the work item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateMove {
    /// Where to.
    pub to: StateTarget,
    /// It applies only while the item is in one of these groups (never in completed or cancelled).
    pub only_from: Vec<StateGroup>,
}

/// Makes the plan for one ended run.
pub fn plan(subject: &Subject, ending: Ending<'_>, states: &States) -> PublishPlan {
    let empty = PublishPlan {
        version: PUBLISH_PLAN_VERSION,
        run: subject.run.clone(),
        pull_request: None,
        review: None,
        tracker: None,
    };
    match ending {
        Ending::Cancelled(CancelReason::Replaced) => empty,
        Ending::Cancelled(_) | Ending::Failure(_) => {
            PublishPlan { tracker: Some(tracker(subject, ending, states, false)), ..empty }
        }
        Ending::Result(result) => {
            let pull_request = pull_request(subject, result);
            let tracker = Some(tracker(subject, ending, states, pull_request.is_some()));
            PublishPlan { review: review(subject, result), pull_request, tracker, ..empty }
        }
    }
}

/// A pushed branch becomes a pull request, unless the run's work is not to be published.
fn pull_request(subject: &Subject, result: &RunResult) -> Option<PullRequestDraft> {
    let publishes = match result.outcome {
        RunOutcome::Changed | RunOutcome::TimedOut => true,
        RunOutcome::Failed => result.partial,
        RunOutcome::NoChange | RunOutcome::Review | RunOutcome::Refused => false,
    };
    let head = result.branch.clone().filter(|_| publishes)?;
    let unfinished = result.partial || result.outcome != RunOutcome::Changed;
    Some(PullRequestDraft {
        repository: subject.repository.clone(),
        head,
        head_commit: result.head.clone(),
        base: subject.base.clone(),
        title: message::title(&format!("{}: {}", subject.task, subject.title), TITLE_LIMIT),
        body: body::pull_request(subject, result),
        draft: unfinished,
        labels: vec!["astra".to_owned(), format!("agent:{}", subject.agent)],
    })
}

/// A reviewer's result becomes a review of the pull request that its task names.
fn review(subject: &Subject, result: &RunResult) -> Option<ReviewDraft> {
    let review = result.review.as_ref().filter(|_| result.outcome == RunOutcome::Review)?;
    Some(ReviewDraft {
        repository: subject.repository.clone(),
        pull_request: subject.pull_request?,
        commit: result.base.clone(),
        event: match review.verdict {
            Verdict::RequestChanges => ReviewEvent::RequestChanges,
            Verdict::Approve | Verdict::Comment => ReviewEvent::Comment,
        },
        body: body::review(subject, result, review),
        comments: remarks(review),
    })
}

fn remarks(review: &Review) -> Vec<ReviewRemark> {
    let remark = |comment: &super::result::LineComment| ReviewRemark {
        path: comment.path.clone(),
        line: comment.line,
        side: comment.side,
        body: message::markdown_quote(&comment.body, TEXT_LIMIT),
    };
    review.comments.iter().take(COMMENT_LIMIT).map(remark).collect()
}

fn tracker(subject: &Subject, ending: Ending<'_>, states: &States, linked: bool) -> TrackerUpdate {
    TrackerUpdate {
        project: subject.project,
        item: subject.item,
        comment_html: body::tracker_comment(subject, ending),
        external_source: EXTERNAL_SOURCE.to_owned(),
        external_id: subject.run.clone(),
        state: Some(state_move(ending, states)),
        link_pull_request: linked.then(|| format!("Pull request of {}", subject.run)),
    }
}

/// Outcome → state (a contract of the registry): work to look at → `states.review`, a failure →
/// `states.failed`; what leaves no trace only takes an item that nobody began out of the queue.
fn state_move(ending: Ending<'_>, states: &States) -> StateMove {
    let named = |name: &Option<String>| name.clone().map(StateTarget::Named);
    let started = || named(&states.started).unwrap_or(StateTarget::FirstStarted);
    let not_begun = vec![StateGroup::Backlog, StateGroup::Unstarted];
    let open = vec![StateGroup::Backlog, StateGroup::Unstarted, StateGroup::Started];
    let to_review =
        || StateMove { to: named(&states.review).unwrap_or_else(started), only_from: open.clone() };
    let failed = || match named(&states.failed) {
        Some(to) => StateMove { to, only_from: open.clone() },
        None => StateMove { to: started(), only_from: not_begun.clone() },
    };
    match ending {
        Ending::Cancelled(_) => StateMove { to: started(), only_from: not_begun },
        Ending::Failure(_) => failed(),
        Ending::Result(result) => match result.outcome {
            RunOutcome::Changed | RunOutcome::NoChange | RunOutcome::Review => to_review(),
            RunOutcome::TimedOut | RunOutcome::Failed if result.partial && result.branch.is_some() => {
                to_review()
            }
            RunOutcome::TimedOut | RunOutcome::Failed | RunOutcome::Refused => failed(),
        },
    }
}

#[cfg(test)]
pub(crate) mod tests;
