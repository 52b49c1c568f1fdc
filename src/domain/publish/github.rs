//! What GitHub makes of a plan: pull requests as they stand there, and what to do where it refuses.
//!
//! GitHub's words are from its REST API: 422 with `message` and `errors` ("Create a pull request",
//! "Create a review for a pull request").

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::message;
use super::super::name::RunId;
use super::{PullRequestDraft, ReviewDraft, ReviewEvent};

/// A pull request as GitHub has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullRequest {
    /// Its number in the repository.
    pub number: u64,
    /// Its page.
    pub url: String,
    /// Whether it can still be merged.
    pub state: PullRequestState,
}

/// How far a pull request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullRequestState {
    /// To be reviewed.
    Open,
    /// Closed without a merge.
    Closed,
    /// Merged.
    Merged,
}

impl PullRequest {
    /// Reads one of GitHub's objects; `None` if it is none.
    pub fn read(object: &Value) -> Option<Self> {
        let state = match (object.get("state")?.as_str()?, object.get("merged_at")) {
            ("open", _) => PullRequestState::Open,
            (_, Some(Value::String(_))) => PullRequestState::Merged,
            _ => PullRequestState::Closed,
        };
        let url = object.get("html_url")?.as_str().filter(|url| is_web_address(url))?;
        Some(Self { number: object.get("number")?.as_u64()?, url: url.to_owned(), state })
    }
}

/// It goes into links of Plane: nothing else is an address there.
fn is_web_address(url: &str) -> bool {
    (url.starts_with("https://") || url.starts_with("http://"))
        && url.len() <= 2_000
        && url.bytes().all(|byte| byte.is_ascii_graphic())
}

/// What became of the draft of a pull request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Opened {
    /// There is one pull request, whoever opened it.
    There(PullRequest),
    /// There will be none, for this reason: a sentence.
    Never(String),
}

/// What became of a review.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reviewed {
    /// It stands there, at this address if GitHub says it.
    There(Option<String>),
    /// There will be none, for this reason: a sentence.
    Never(String),
}

/// What to do where GitHub does not accept a new pull request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AfterRefusal {
    /// Look for the one that exists.
    Find,
    /// Offer this one.
    Offer(Box<PullRequestDraft>),
    /// There will be none.
    Never(String),
    /// It cannot be helped here.
    Fail,
}

/// What to do about a refused pull request, by GitHub's words.
pub fn after_refusal(draft: &PullRequestDraft, words: &str) -> AfterRefusal {
    let says = |text: &str| words.contains(text);
    if says("pull request already exists") {
        AfterRefusal::Find
    } else if says("No commits between") {
        AfterRefusal::Never(format!("{} has nothing that {} lacks", draft.head, draft.base))
    } else if says("head is invalid") || says("head is missing") {
        AfterRefusal::Never(format!("the branch {} is gone", draft.head))
    } else if says("base is invalid") || says("base is missing") {
        AfterRefusal::Never(format!("the branch {}, which it would be merged into, is gone", draft.base))
    } else if draft.draft && says("Draft pull requests are not supported") {
        AfterRefusal::Offer(Box::new(PullRequestDraft { draft: false, ..draft.clone() }))
    } else {
        AfterRefusal::Fail
    }
}

/// The next review to offer where GitHub does not accept one; `None`: nothing is left to leave out.
pub fn review_after_refusal(draft: &ReviewDraft, words: &str) -> Option<ReviewDraft> {
    if draft.event == ReviewEvent::RequestChanges && words.contains("your own pull request") {
        // The verdict is the first line of the text.
        return Some(ReviewDraft { event: ReviewEvent::Comment, ..draft.clone() });
    }
    if draft.comments.is_empty() && draft.commit.is_none() {
        return None;
    }
    // A line that is not part of the diff any more, or a commit that is gone: what was said stays.
    let mut body = draft.body.clone();
    for remark in &draft.comments {
        let place = message::markdown_line(&format!("{}:{}", remark.path, remark.line), 300);
        let _ = write!(body, "\n{place}\n\n{}\n", remark.body);
    }
    Some(ReviewDraft {
        commit: None,
        body: message::cut(&body, super::BODY_LIMIT),
        comments: Vec::new(),
        ..draft.clone()
    })
}

/// By this a run's review is known again: a line at its end that is not shown.
pub fn review_mark(run: &RunId) -> String {
    format!("<!-- astra-dispatch run {run} -->")
}

/// Who we are to GitHub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Author {
    /// Our login.
    Login(String),
    /// An App whose name GitHub does not tell us: we were given a token of one of its installations.
    SomeApp,
}

impl Author {
    fn is_of(&self, object: &Value) -> bool {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        match self {
            Self::Login(login) => text("/user/login").is_some_and(|other| other.eq_ignore_ascii_case(login)),
            Self::SomeApp => text("/user/type") == Some("Bot"),
        }
    }
}

/// Those of GitHub's reviews that have the run's mark: anybody may write one like it.
pub fn marked_reviews<'r>(reviews: &'r [Value], run: &RunId) -> Vec<&'r Value> {
    let mark = review_mark(run);
    let body = |review: &Value| review.get("body").and_then(Value::as_str).map(|body| body.contains(&mark));
    reviews.iter().filter(|review| body(review) == Some(true)).collect()
}

/// The one that is ours.
pub fn own_review(marked: &[&Value], author: &Author) -> Option<Reviewed> {
    let own = marked.iter().find(|review| author.is_of(review))?;
    Some(Reviewed::There(own.get("html_url").and_then(Value::as_str).map(str::to_owned)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::result::Side;
    use super::super::ReviewRemark;
    use super::*;

    fn draft() -> PullRequestDraft {
        PullRequestDraft {
            repository: "astra/api".parse().unwrap(),
            head: "astra/ast-1-bbbbb".parse().unwrap(),
            head_commit: None,
            base: "main".parse().unwrap(),
            title: "AST-1: x".into(),
            body: "b".into(),
            draft: true,
            labels: vec![],
        }
    }

    #[test]
    fn every_refusal_of_a_pull_request_has_one_consequence() {
        let never = |text: &str| AfterRefusal::Never(text.into());
        let ready = PullRequestDraft { draft: false, ..draft() };
        for (words, expected) in [
            (": Validation Failed; A pull request already exists for astra:x.", AfterRefusal::Find),
            (": No commits between main and x", never("astra/ast-1-bbbbb has nothing that main lacks")),
            (": Validation Failed; head is invalid", never("the branch astra/ast-1-bbbbb is gone")),
            (
                ": Validation Failed; base is invalid",
                never("the branch main, which it would be merged into, is gone"),
            ),
            (
                ": Draft pull requests are not supported in this repository.",
                AfterRefusal::Offer(Box::new(ready)),
            ),
            (": something else", AfterRefusal::Fail),
            ("", AfterRefusal::Fail),
        ] {
            assert_eq!(after_refusal(&draft(), words), expected, "{words}");
        }
    }

    #[test]
    fn of_a_refused_review_everything_said_stays() {
        let review = ReviewDraft {
            repository: "astra/api".parse().unwrap(),
            pull_request: 7,
            commit: Some("a".repeat(40)),
            event: ReviewEvent::RequestChanges,
            body: "**Verdict: changes**".into(),
            comments: vec![ReviewRemark {
                path: "src/a.rs".into(),
                line: 3,
                side: Side::Right,
                body: "> why".into(),
            }],
        };
        let own = ": Can not request changes on your own pull request";
        let second = review_after_refusal(&review, own).unwrap();
        assert_eq!((second.event, second.comments.len()), (ReviewEvent::Comment, 1));
        let third = review_after_refusal(&second, own).unwrap();
        assert_eq!((third.comments.len(), third.commit.as_ref()), (0, None));
        assert_eq!(third.body, "**Verdict: changes**\nsrc/a.rs:3\n\n> why\n");
        assert_eq!(review_after_refusal(&third, own), None);
        let line = review_after_refusal(&review, ": Line could not be resolved").unwrap();
        assert_eq!((line.event, line.comments.len()), (ReviewEvent::RequestChanges, 0));
    }

    #[test]
    fn a_pull_request_is_open_closed_or_merged() {
        let read = |object: Value| PullRequest::read(&object).map(|pull_request| pull_request.state);
        let url = "https://github.com/astra/api/pull/7";
        let object = |state: &str, merged: Value| json!({"number": 7, "html_url": url, "state": state, "merged_at": merged});
        assert_eq!(read(object("open", Value::Null)), Some(PullRequestState::Open));
        assert_eq!(read(object("closed", Value::Null)), Some(PullRequestState::Closed));
        assert_eq!(read(object("closed", json!("2026-11-25T10:00:00Z"))), Some(PullRequestState::Merged));
        assert_eq!(read(json!({"number": 7, "html_url": "javascript:x", "state": "open"})), None);
        assert_eq!(read(json!([])), None);
    }

    #[test]
    fn a_review_is_known_again_by_its_run_and_its_author() {
        let run: RunId = "ast-1-bbbbb".parse().unwrap();
        let review = |login: &str, kind: &str| {
            let user = json!({"login": login, "type": kind});
            json!({"body": format!("x\n{}", review_mark(&run)), "html_url": login, "user": user})
        };
        let reviews = [json!({"body": null}), review("mallory", "User"), review("astra[bot]", "Bot")];
        let marked = marked_reviews(&reviews, &run);
        assert_eq!(marked.len(), 2);
        let ours = Some(Reviewed::There(Some("astra[bot]".into())));
        for (author, expected) in [
            (Author::Login("Astra[bot]".into()), ours.clone()),
            (Author::Login("other[bot]".into()), None),
            (Author::SomeApp, ours),
        ] {
            assert_eq!(own_review(&marked, &author), expected, "{author:?}");
        }
        assert!(marked_reviews(&reviews, &"ast-1-bbbbc".parse().unwrap()).is_empty());
    }
}
