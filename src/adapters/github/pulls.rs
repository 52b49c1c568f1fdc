//! Pull requests and reviews: each opened or written once, however often it is asked for.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use reqwest::Url;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::app_token::{Permissions, Tokens};
use super::{GitHub, GitHubAnswer, patiently};
use crate::domain::github_answer::GitHubFault;
use crate::domain::name::{Branch, Repository, RunId};
use crate::domain::publish::github::{
    AfterRefusal, Opened, PullRequest, PullRequestState, Reviewed, after_refusal, marked_reviews, own_review,
    review_after_refusal,
};
use crate::domain::publish::{PullRequestDraft, ReviewDraft};

/// How often something is tried.
const MOST_TRIES: usize = 4;
/// Reviews in one answer, and how many answers are read: nobody writes more.
const REVIEWS_PER_PAGE: usize = 100;
const MOST_PAGES: usize = 200;
/// So long after a review was answered with 5xx it is looked for: nothing else keeps it from being doubled.
const SETTLING: Duration = Duration::from_secs(3);
/// A review is offered as it is, without asking for changes, and without remarks on lines.
const MOST_OFFERS: usize = 4;

/// Opens pull requests and writes reviews.
pub struct Pulls {
    github: GitHub,
    tokens: Arc<Tokens>,
}

impl Pulls {
    /// On this GitHub, as this identity. Nothing is sent yet.
    pub fn new(github: GitHub, tokens: impl Into<Arc<Tokens>>) -> Self {
        Self { github, tokens: tokens.into() }
    }

    /// A token that reads this repository.
    pub async fn reading_token(&self, repository: &Repository) -> Result<SecretString, GitHubFault> {
        self.tokens.token(&self.github, repository, &Permissions::from([("contents", "read")])).await
    }

    /// A token that pushes to this repository.
    pub async fn writing_token(&self, repository: &Repository) -> Result<SecretString, GitHubFault> {
        self.tokens.token(&self.github, repository, &Permissions::from([("contents", "write")])).await
    }

    /// Opens the pull request, unless one with this head exists, whatever became of it. It begins with
    /// a look, so what may have taken effect can be tried again.
    pub async fn open(&self, draft: &PullRequestDraft) -> Result<Opened, GitHubFault> {
        patiently(MOST_TRIES, || self.open_once(draft)).await
    }

    async fn open_once(&self, draft: &PullRequestDraft) -> Result<Opened, GitHubFault> {
        let opened = match self.find(&draft.repository, &draft.head).await? {
            Some(there) => Opened::There(there),
            None => self.create(draft.clone()).await?,
        };
        if let Opened::There(PullRequest { number, state: PullRequestState::Open, .. }) = &opened {
            self.label(draft, *number).await?;
        }
        Ok(opened)
    }

    /// The pull request with this head. An open one goes before a closed one.
    pub async fn find(
        &self,
        repository: &Repository,
        branch: &Branch,
    ) -> Result<Option<PullRequest>, GitHubFault> {
        let head = format!("{}:{branch}", repository.owner());
        // A branch's name may hold what a query may not.
        let url = Url::parse_with_params("https://github.invalid", [("state", "all"), ("head", &head)]);
        let query = url.ok().and_then(|url| url.query().map(str::to_owned)).unwrap_or_default();
        let path = format!("/repos/{repository}/pulls?{query}");
        let found = self.send(repository, Method::GET, &path, None).await?.body;
        let objects = found.as_array().ok_or(GitHubFault::Unreadable("a list of pull requests"))?;
        // A server that does not know the parameter would answer with everything.
        let is_ours =
            |object: &&Value| object.pointer("/head/ref").and_then(Value::as_str) == Some(branch.as_str());
        let ours: Vec<PullRequest> = objects.iter().filter(is_ours).filter_map(PullRequest::read).collect();
        let open = ours.iter().find(|found| found.state == PullRequestState::Open);
        Ok(open.or(ours.first()).cloned())
    }

    async fn create(&self, mut draft: PullRequestDraft) -> Result<Opened, GitHubFault> {
        loop {
            let path = format!("/repos/{}/pulls", draft.repository);
            let body = json!({
                "title": draft.title, "body": draft.body, "head": draft.head, "base": draft.base,
                "draft": draft.draft,
            });
            let (fault, words) = match self.send(&draft.repository, Method::POST, &path, Some(&body)).await {
                Ok(answer) => {
                    let created = PullRequest::read(&answer.body);
                    return created.map(Opened::There).ok_or(GitHubFault::Unreadable("the pull request"));
                }
                Err(GitHubFault::Unfit { status, words }) => {
                    (GitHubFault::Unfit { status, words: words.clone() }, words)
                }
                Err(fault) => return Err(fault),
            };
            match after_refusal(&draft, &words) {
                AfterRefusal::Offer(next) => draft = *next,
                AfterRefusal::Find => {
                    let found = self.find(&draft.repository, &draft.head).await?;
                    return found.map(Opened::There).ok_or(fault);
                }
                AfterRefusal::Never(why) => return Ok(Opened::Never(why)),
                AfterRefusal::Fail => return Err(fault),
            }
        }
    }

    /// Labels help people; a token that may not put them there does not hold up the pull request.
    async fn label(&self, draft: &PullRequestDraft, number: u64) -> Result<(), GitHubFault> {
        let path = format!("/repos/{}/issues/{number}/labels", draft.repository);
        let body = json!({"labels": draft.labels});
        match self.send(&draft.repository, Method::POST, &path, Some(&body)).await {
            Err(fault @ (GitHubFault::NotAllowed | GitHubFault::NotFound | GitHubFault::Unfit { .. })) => {
                log::warn!("{} #{number} has no labels: {fault}", draft.repository);
                Ok(())
            }
            other => other.map(drop),
        }
    }

    /// Writes the run's review, unless it is there.
    pub async fn review(&self, run: &RunId, draft: &ReviewDraft) -> Result<Reviewed, GitHubFault> {
        patiently(MOST_TRIES, || self.review_once(run, draft)).await
    }

    async fn review_once(&self, run: &RunId, draft: &ReviewDraft) -> Result<Reviewed, GitHubFault> {
        let path = format!("/repos/{}/pulls/{}/reviews", draft.repository, draft.pull_request);
        for page in 1..=MOST_PAGES {
            let some = format!("{path}?per_page={REVIEWS_PER_PAGE}&page={page}");
            let found = match self.send(&draft.repository, Method::GET, &some, None).await {
                Err(GitHubFault::NotFound) => {
                    let (repository, number) = (&draft.repository, draft.pull_request);
                    return Ok(Reviewed::Never(format!("{repository} has no pull request #{number}")));
                }
                found => found?.body,
            };
            let reviews = found.as_array().ok_or(GitHubFault::Unreadable("a list of reviews"))?;
            let marked = marked_reviews(reviews, run);
            if !marked.is_empty() {
                let author = self.tokens.author(&self.github, &draft.repository).await?;
                if let Some(there) = own_review(&marked, &author) {
                    return Ok(there);
                }
            }
            if reviews.len() < REVIEWS_PER_PAGE {
                return self.write_review(&path, draft.clone()).await;
            }
        }
        Err(GitHubFault::Unreadable("an end of the list of reviews"))
    }

    async fn write_review(&self, path: &str, mut draft: ReviewDraft) -> Result<Reviewed, GitHubFault> {
        for _ in 1..MOST_OFFERS {
            match self.offer_review(path, &draft).await {
                Err(GitHubFault::Unfit { status, words }) => {
                    let Some(next) = review_after_refusal(&draft, &words) else {
                        return Err(GitHubFault::Unfit { status, words });
                    };
                    draft = next;
                }
                answered => return answered,
            }
        }
        self.offer_review(path, &draft).await
    }

    async fn offer_review(&self, path: &str, draft: &ReviewDraft) -> Result<Reviewed, GitHubFault> {
        let mut body = json!({"body": draft.body, "event": draft.event, "comments": draft.comments});
        if let Some(commit) = &draft.commit {
            body["commit_id"] = json!(commit);
        }
        let answer = self.send(&draft.repository, Method::POST, path, Some(&body)).await;
        if let Err(GitHubFault::Unavailable(_)) = &answer {
            tokio::time::sleep(SETTLING).await;
        }
        let answer = answer?;
        Ok(Reviewed::There(answer.body.get("html_url").and_then(Value::as_str).map(str::to_owned)))
    }

    async fn send(
        &self,
        repository: &Repository,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<GitHubAnswer, GitHubFault> {
        let permissions = Permissions::from([("contents", "read"), ("pull_requests", "write")]);
        self.tokens.send(&self.github, repository, &permissions, method, path, body).await
    }
}
