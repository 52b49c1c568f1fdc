//! The run log on its branch: GitHub's contents API makes one commit for each document, on top of what
//! is there, so nothing is ever rewritten.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::app_token::{Permissions, Tokens};
use super::inspection::content;
use super::{GitHub, patiently};
use crate::domain::github_answer::GitHubFault;
use crate::domain::name::Repository;
use crate::domain::run_log::{RUN_LOG_BRANCH, RunRecord};

/// Many publishers may append at once, and each moves the branch under the others.
const MOST_TRIES: usize = 8;
/// What the branch is for, for whoever finds it.
const README: &str = "# Run log\n\nOne document for each run of an agent, written by astra dispatch. Nothing here is ever changed.\n";

/// Appends to the run log of one repository, and reads it.
pub struct RunLog {
    /// The API.
    pub github: GitHub,
    /// Who we are there.
    pub tokens: Arc<Tokens>,
    /// Whose branch it is.
    pub repository: Repository,
    /// It may be on a public repository.
    pub public: bool,
    /// Whether the repository is public: asked once.
    pub is_public: OnceCell<bool>,
}

impl RunLog {
    /// Whether it may be written here.
    pub async fn is_open(&self) -> Result<bool, GitHubFault> {
        if self.public {
            return Ok(true);
        }
        let is_public = self.is_public.get_or_try_init(async || {
            let repository = self.send(Method::GET, "", None).await?;
            Ok(repository.get("private").and_then(Value::as_bool) != Some(true))
        });
        Ok(!*is_public.await?)
    }

    /// Appends a document, unless it is there.
    pub async fn append(&self, record: &RunRecord) -> Result<(), GitHubFault> {
        let text =
            serde_json::to_string_pretty(record).map_err(|_| GitHubFault::Unreadable("a record"))? + "\n";
        // The last line of the message is the path: by it `newest` finds the document.
        let path = record.path();
        self.put(&path, &format!("{}\n\n{path}", record.title()), &text).await
    }

    /// Appends the end of a transcript, unless it is there.
    pub async fn append_transcript(&self, record: &RunRecord, text: &str) -> Result<(), GitHubFault> {
        self.put(&record.transcript_path(), &format!("{}: transcript", record.run), text).await
    }

    /// The newest documents, the newest first.
    pub async fn newest(&self, count: usize) -> Result<Vec<Value>, GitHubFault> {
        // A run has two commits at most.
        let path = format!("commits?sha={RUN_LOG_BRANCH}&per_page={}", (2 * count).min(100));
        let commits = match self.send(Method::GET, &path, None).await {
            Err(GitHubFault::NotFound) => return Ok(Vec::new()),
            commits => commits?,
        };
        let mut documents = Vec::new();
        for commit in commits.as_array().into_iter().flatten() {
            if documents.len() == count {
                break;
            }
            let message = commit.pointer("/commit/message").and_then(Value::as_str).unwrap_or_default();
            let Some(path) = message.lines().last().filter(|line| line.starts_with("runs/")) else {
                continue;
            };
            let path = format!("contents/{path}?ref={RUN_LOG_BRANCH}");
            let file = match self.send(Method::GET, &path, None).await {
                // It was taken away; the others are there.
                Err(GitHubFault::NotFound) => continue,
                file => file?,
            };
            let document = content(&file).and_then(|text| serde_json::from_str(&text).ok());
            documents.push(document.ok_or(GitHubFault::Unreadable("a document of the run log"))?);
        }
        Ok(documents)
    }

    async fn put(&self, path: &str, message: &str, text: &str) -> Result<(), GitHubFault> {
        patiently(MOST_TRIES, || self.put_on_branch(path, message, text)).await
    }

    async fn put_on_branch(&self, path: &str, message: &str, text: &str) -> Result<(), GitHubFault> {
        match self.put_once(path, message, text).await {
            Err(GitHubFault::NotFound) => {
                self.make_branch().await?;
                self.put_once(path, message, text).await
            }
            put => put,
        }
    }

    async fn put_once(&self, path: &str, message: &str, text: &str) -> Result<(), GitHubFault> {
        let body = json!({"message": message, "content": STANDARD.encode(text), "branch": RUN_LOG_BRANCH});
        match self.send(Method::PUT, &format!("contents/{path}"), Some(&body)).await {
            // It exists: a change would have to name what it changes.
            Err(GitHubFault::Unfit { words, .. }) if words.contains("sha") => Ok(()),
            put => put.map(drop),
        }
    }

    /// A branch without history in common with any other.
    async fn make_branch(&self) -> Result<(), GitHubFault> {
        let file = json!({"path": "README.md", "mode": "100644", "type": "blob", "content": README});
        let tree = self.send(Method::POST, "git/trees", Some(&json!({"tree": [file]}))).await?;
        let commit = json!({"message": "Begin the run log", "tree": sha(&tree)?, "parents": []});
        let commit = self.send(Method::POST, "git/commits", Some(&commit)).await?;
        let reference = json!({"ref": format!("refs/heads/{RUN_LOG_BRANCH}"), "sha": sha(&commit)?});
        match self.send(Method::POST, "git/refs", Some(&reference)).await {
            // Somebody else was quicker.
            Err(GitHubFault::Unfit { words, .. }) if words.contains("already exists") => Ok(()),
            made => made.map(drop),
        }
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, GitHubFault> {
        let permissions = Permissions::from([("contents", "write")]);
        let path = format!("/repos/{}/{path}", self.repository);
        let (path, repository) = (path.trim_end_matches('/'), &self.repository);
        let answer = self.tokens.send(&self.github, repository, &permissions, method, path, body);
        Ok(answer.await?.body)
    }
}

fn sha(object: &Value) -> Result<&str, GitHubFault> {
    object.get("sha").and_then(Value::as_str).ok_or(GitHubFault::Unreadable("a SHA"))
}
