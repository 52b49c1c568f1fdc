//! What `agents doctor --github` looks up. It changes nothing.

use std::collections::BTreeSet;

use base64::Engine;
use http::Method;
use reqwest::Url;
use serde_json::Value;

use super::app_token::{Permissions, Tokens};
use super::{GitHub, GitHubAnswer};
use crate::domain::github_answer::GitHubFault;
use crate::domain::github_doctor::{bypasses, holding, ruleset};
use crate::domain::name::Repository;

/// Objects in one answer, and how many answers are read.
const PER_PAGE: usize = 100;
const MOST_PAGES: usize = 10;
/// Where GitHub looks for workflows, and how many of them are read.
const WORKFLOWS: &str = ".github/workflows";
const MOST_WORKFLOWS: usize = 50;

/// A look at GitHub.
pub struct Inspection {
    github: GitHub,
    tokens: Tokens,
}

impl Inspection {
    /// At this GitHub, as this identity. Nothing is sent yet.
    pub fn new(github: GitHub, tokens: Tokens) -> Self {
        Self { github, tokens }
    }

    /// The App's installation that has this repository; `None` for a given token.
    pub async fn installation(&self, repository: &Repository) -> Result<Option<Value>, GitHubFault> {
        self.tokens.installation(&self.github, repository).await
    }

    /// The repositories that an installation reaches, at most 1,000.
    pub async fn reachable(&self, installation: u64) -> Result<Vec<String>, GitHubFault> {
        let token = self.tokens.seeing_token(&self.github, installation).await?;
        let mut names = Vec::new();
        for page in 1..=MOST_PAGES {
            let path = format!("/installation/repositories?per_page={PER_PAGE}&page={page}");
            let answer = self.github.request(Method::GET, &path, &token, None).await?.body;
            let found = answer.get("repositories").and_then(Value::as_array);
            let found = found.ok_or(GitHubFault::Unreadable("a list of repositories"))?;
            names.extend(found.iter().filter_map(|one| Some(one.get("full_name")?.as_str()?.to_owned())));
            if found.len() < PER_PAGE {
                break;
            }
        }
        Ok(names)
    }

    /// The repository, and the scopes of a classic token.
    pub async fn repository(&self, name: &Repository) -> Result<(Value, Option<String>), GitHubFault> {
        let answer = self.get(name, "").await?;
        let scopes = answer.headers.get("x-oauth-scopes").and_then(|value| value.to_str().ok());
        Ok((answer.body, scopes.map(str::to_owned)))
    }

    /// The kinds of rules that hold for us on a branch of this name, whether there is one or not.
    pub async fn rules(&self, name: &Repository, branch: &str) -> Result<BTreeSet<String>, GitHubFault> {
        let path = format!("/rules/branches/{}?per_page={PER_PAGE}", segment(branch));
        let answer = self.get(name, &path).await?.body;
        let rules = answer.as_array().ok_or(GitHubFault::Unreadable("a list of rules"))?;
        let mut bypassed = BTreeSet::new();
        for id in rules.iter().filter_map(ruleset).collect::<BTreeSet<u64>>() {
            if bypasses(&self.get(name, &format!("/rulesets/{id}")).await?.body) {
                bypassed.insert(id);
            }
        }
        Ok(holding(rules, &bypassed))
    }

    /// Whether a branch is protected in some way; `None`: there is no such branch.
    pub async fn protection(&self, name: &Repository, branch: &str) -> Result<Option<bool>, GitHubFault> {
        match self.get(name, &format!("/branches/{}", segment(branch))).await {
            Ok(answer) => Ok(Some(answer.body.get("protected") == Some(&Value::Bool(true)))),
            Err(GitHubFault::NotFound) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Path and content of each workflow on the default branch.
    pub async fn workflows(&self, name: &Repository) -> Result<Vec<(String, String)>, GitHubFault> {
        let listed = match self.get(name, &format!("/contents/{WORKFLOWS}")).await {
            Ok(answer) => answer.body,
            Err(GitHubFault::NotFound) => return Ok(Vec::new()),
            Err(fault) => return Err(fault),
        };
        let files = listed.as_array().ok_or(GitHubFault::Unreadable("a list of files"))?;
        let files = files.iter().filter_map(|file| file.get("name")?.as_str());
        let is_workflow = |file: &&str| file.ends_with(".yml") || file.ends_with(".yaml");
        let mut workflows = Vec::new();
        for file in files.filter(is_workflow).take(MOST_WORKFLOWS) {
            let answer = self.get(name, &format!("/contents/{WORKFLOWS}/{}", segment(file))).await?.body;
            let text = content(&answer).ok_or(GitHubFault::Unreadable("the content of a file"))?;
            workflows.push((format!("{WORKFLOWS}/{file}"), text));
        }
        Ok(workflows)
    }

    async fn get(&self, name: &Repository, path: &str) -> Result<GitHubAnswer, GitHubFault> {
        let permissions = Permissions::from([("contents", "read")]);
        let path = format!("/repos/{name}{path}");
        self.tokens.send(&self.github, name, &permissions, Method::GET, &path, None).await
    }
}

/// What a file of the contents API holds: Base64, with line breaks.
pub(super) fn content(file: &Value) -> Option<String> {
    let encoded: String = file.get("content")?.as_str()?.split_ascii_whitespace().collect();
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// A name as one segment of a path.
fn segment(name: &str) -> String {
    let Ok(mut url) = Url::parse("https://github.invalid") else { return String::new() };
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.push(name);
    }
    url.path().trim_start_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_is_one_segment() {
        assert_eq!(segment("astra/a b#?"), "astra%2Fa%20b%23%3F");
    }
}
