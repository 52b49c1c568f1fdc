//! Pull requests on an emulator of GitHub that nobody here wrote (`tests/github-emulator`), as an App of
//! its own: what its JSON Web Tokens, its narrowed tokens and its answers make of our requests.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use astra_dispatch::adapters::github::GitHub;
use astra_dispatch::adapters::github::app_token::{App, Permissions, Tokens};
use astra_dispatch::adapters::github::pulls::Pulls;
use astra_dispatch::domain::github_answer::GitHubFault;
use astra_dispatch::domain::publish::PullRequestDraft;
use astra_dispatch::domain::publish::github::{Opened, PullRequest, PullRequestState};
use http::Method;
use serde_json::{Value, json};

/// The emulator while it runs.
struct Emulator {
    child: Child,
    github: GitHub,
    url: String,
    key: String,
}

impl Emulator {
    /// With a branch for the pull request.
    async fn start() -> Self {
        let emulator = Self::run();
        let (repository, tokens) = (draft().repository, emulator.app(&emulator.key));
        let permissions = Permissions::from([("contents", "write")]);
        let send = async |method: Method, path: &str, body: Option<&Value>| {
            let path = format!("/repos/{repository}/git/{path}");
            let answer = tokens.send(&emulator.github, &repository, &permissions, method, &path, body);
            answer.await.unwrap().body
        };
        let main = send(Method::GET, "ref/heads/main", None).await;
        let branch = json!({"ref": format!("refs/heads/{}", draft().head), "sha": main["object"]["sha"]});
        send(Method::POST, "refs", Some(&branch)).await;
        emulator
    }

    fn run() -> Self {
        let program = std::env::var("ASTRA_TEST_GITHUB_EMULATOR").unwrap();
        let mut command = Command::new("node");
        let mut child = command.arg(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let told: Value = serde_json::from_str(&line).unwrap();
        let text = |key: &str| told[key].as_str().unwrap().to_owned();
        let url = text("url");
        Self { github: GitHub::new(&url).unwrap(), child, key: text("key"), url }
    }

    /// The App with this key.
    fn app(&self, key: &str) -> Arc<Tokens> {
        Arc::new(Tokens::App(Box::new(App::new("12345", &key.to_owned().into()).unwrap())))
    }

    fn pulls(&self) -> (Pulls, Arc<Tokens>) {
        let tokens = self.app(&self.key);
        (Pulls::new(self.github.clone(), Arc::clone(&tokens)), tokens)
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn draft() -> PullRequestDraft {
    PullRequestDraft {
        repository: "astra/api".parse().unwrap(),
        head: "astra/ast-1-bbbbb".parse().unwrap(),
        head_commit: None,
        base: "main".parse().unwrap(),
        title: "AST-1: Say hello".into(),
        body: "It says hello.".into(),
        draft: true,
        labels: vec!["astra".into(), "agent:vega".into()],
    }
}

#[tokio::test]
#[ignore = "needs tests/github-emulator"]
async fn a_pull_request_is_opened_once_and_reads_as_it_was_written() {
    let emulator = Emulator::start().await;
    let (pulls, tokens) = emulator.pulls();
    let mut opened: Vec<PullRequest> = Vec::new();
    // The third time by somebody who knows nothing of the others.
    let (elsewhere, _) = emulator.pulls();
    for pulls in [&pulls, &pulls, &elsewhere] {
        match pulls.open(&draft()).await.unwrap() {
            Opened::There(there) => opened.push(there),
            Opened::Never(why) => unreachable!("{why}"),
        }
    }
    assert_eq!((&opened[0], &opened[0]), (&opened[1], &opened[2]));
    assert_eq!(opened[0].state, PullRequestState::Open);

    let read = async |path: &str| {
        let permissions = Permissions::from([("contents", "read"), ("pull_requests", "write")]);
        let repository = draft().repository;
        let path = format!("/repos/astra/api/{path}");
        let answer = tokens.send(&emulator.github, &repository, &permissions, Method::GET, &path, None);
        answer.await.unwrap().body
    };
    let all = read("pulls?state=all").await;
    assert_eq!(all.as_array().unwrap().len(), 1, "{all:#}");
    let pull = read(&format!("pulls/{}", opened[0].number)).await;
    let shown = ["title", "body", "draft", "state"].map(|key| pull[key].clone());
    assert_eq!(shown, [json!("AST-1: Say hello"), json!("It says hello."), json!(true), json!("open")]);
    assert_eq!((&pull["head"]["ref"], &pull["base"]["ref"]), (&json!("astra/ast-1-bbbbb"), &json!("main")));
    // Our token may write pull requests, not issues. GitHub lets it label a pull request; the emulator does
    // not, and that holds nothing up.
    assert_eq!(pull["labels"], json!([]));
}

#[tokio::test]
#[ignore = "needs tests/github-emulator"]
async fn a_token_is_for_one_repository_and_for_what_is_needed() {
    let emulator = Emulator::start().await;
    let (pulls, tokens) = emulator.pulls();
    pulls.open(&draft()).await.unwrap();
    let mints = reqwest::get(format!("{}/_emulate/installation-tokens", emulator.url)).await.unwrap();
    let mints = mints.text().await.unwrap();
    let permissions = Permissions::from([("contents", "read"), ("pull_requests", "write")]);
    let token = tokens.token(&emulator.github, &draft().repository, &permissions).await.unwrap();
    let refused = |path: &'static str, body: Value| {
        let (github, token) = (emulator.github.clone(), token.clone());
        async move { github.request(Method::POST, path, &token, Some(&body)).await.unwrap_err() }
    };
    // It cannot write files, and opens nothing elsewhere.
    let blob = refused("/repos/astra/api/git/blobs", json!({"content": "x"})).await;
    assert_eq!(blob, GitHubFault::NotAllowed, "{mints}");
    let elsewhere = json!({"title": "t", "head": "x", "base": "main"});
    assert_eq!(refused("/repos/astra/other/pulls", elsewhere).await, GitHubFault::NotAllowed, "{mints}");

    // Another App's key is nobody's.
    let foreign = emulator.app(include_str!("../fixtures/github-app/private-key.pem"));
    let denied = Pulls::new(emulator.github.clone(), foreign).open(&draft()).await;
    assert_eq!(denied.unwrap_err(), GitHubFault::TokenRejected);
}
