//! Starts the workflows of a repository: `repository_dispatch`.

use http::Method;
use serde_json::{Value, json};

use super::GitHub;
use super::app_token::{Permissions, Tokens};
use crate::domain::github_answer::GitHubFault;
use crate::domain::name::Repository;

/// Raises `repository_dispatch` events in one repository.
pub struct Dispatches {
    /// The API.
    pub github: GitHub,
    /// Who we are there.
    pub tokens: Tokens,
    /// The repository with the workflows.
    pub repository: Repository,
}

impl Dispatches {
    /// Raises one event, once. The answer does not say what it started.
    pub async fn raise(&self, event: &str, payload: &Value) -> Result<(), GitHubFault> {
        let permissions = Permissions::from([("contents", "write")]);
        let path = format!("/repos/{}/dispatches", self.repository);
        let body = json!({"event_type": event, "client_payload": payload});
        let (github, repository) = (&self.github, &self.repository);
        let raised = self.tokens.send(github, repository, &permissions, Method::POST, &path, Some(&body));
        raised.await.map(drop)
    }
}
