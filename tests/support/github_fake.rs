//! A stand-in for GitHub, with state: real Git over HTTP, and the part of the REST API that publishing
//! uses, at `/api/v3` of the same server. Requests are held to GitHub's own description of its API
//! (`fixtures/github/operations.json`); what it does not describe fails the test.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

use axum::Json;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use serde_json::{Value, json};

use super::git_server::backend;

/// The token that the stand-in knows.
pub const TOKEN: &str = "ghs_0123456789abcdef";

/// Whose it is.
pub const LOGIN: &str = "astra-bot";

/// A running stand-in. It ends with the test's runtime.
pub struct GitHubFake {
    pub url: String,
    world: Arc<Mutex<World>>,
}

/// What it knows.
pub struct World {
    /// Where its repositories are.
    git: PathBuf,
    pub pulls: Vec<Value>,
    /// By number of the pull request.
    pub reviews: BTreeMap<u64, Vec<Value>>,
    pub labels: BTreeMap<u64, Vec<Value>>,
    /// Every request to the API, `METHOD path`, in order.
    pub requests: Vec<String>,
    /// What goes wrong with the next requests to the API, one each.
    pub faults: Vec<Fault>,
    /// Requests that GitHub's description does not allow.
    pub wrong: Vec<String>,
    /// Private repositories of a free plan have no drafts.
    pub has_drafts: bool,
    /// The reviewed pull requests are by whoever asks.
    pub is_own: bool,
    /// Answers to `GET` by path below the API, such as `/repos/astra/api`, before anything else.
    pub there: BTreeMap<String, Value>,
    /// The run log's branch, if it was made: path, content (Base64) and message of each commit.
    pub log: Option<Vec<(String, String, Value)>>,
    /// The permissions that the App's installation has.
    pub granted: Value,
    /// The events of `repository_dispatch`, in order.
    pub raised: Vec<Value>,
}

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Nothing goes wrong.
    Nothing,
    /// Answers so, and does nothing.
    Answer(u16),
    /// Does what was asked, and answers with 502.
    ActThenFail,
}

impl GitHubFake {
    /// Serves the repositories of this directory.
    pub async fn start(git: PathBuf) -> Self {
        let world = Arc::new(Mutex::new(World {
            git,
            pulls: Vec::new(),
            reviews: BTreeMap::new(),
            labels: BTreeMap::new(),
            requests: Vec::new(),
            faults: Vec::new(),
            wrong: Vec::new(),
            log: None,
            has_drafts: true,
            is_own: false,
            there: [("/user".to_owned(), json!({"login": LOGIN}))].into(),
            granted: Value::Null,
            raised: Vec::new(),
        }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = axum::Router::new().fallback(handle).with_state(Arc::clone(&world));
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, world }
    }

    /// Looks at, or changes, what the stand-in knows. Fails where a request was wrong.
    pub fn world<T>(&self, look: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.world.lock().unwrap();
        assert!(world.wrong.is_empty(), "{:#?}", world.wrong);
        look(&mut world)
    }
}

async fn handle(State(world): State<Arc<Mutex<World>>>, request: Request) -> Response {
    let authorization = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    let authorization = authorization.unwrap_or("").to_owned();
    let Some(path) = request.uri().path().strip_prefix("/api/v3").map(str::to_owned) else {
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("x-access-token:{TOKEN}"));
        if !authorization.eq_ignore_ascii_case(&format!("basic {basic}")) {
            let challenge = [("www-authenticate", "Basic realm=git")];
            return (StatusCode::UNAUTHORIZED, challenge, "").into_response();
        }
        let git = world.lock().unwrap().git.clone();
        return backend(State(git), request).await;
    };
    let (head, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let body: Value = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
    let mut world = world.lock().unwrap();
    world.requests.push(format!("{} {path}", head.method));
    let fault = if world.faults.is_empty() { Fault::Nothing } else { world.faults.remove(0) };
    let (status, answer) = match fault {
        Fault::Answer(status) => (status, json!({"message": "as the test wants it"})),
        // An App shows who it is by a JSON Web Token.
        _ if is_of_app(&path) != authorization.starts_with("Bearer ey") => (401, json!({})),
        _ if !is_of_app(&path) && authorization != format!("Bearer {TOKEN}") => {
            (401, json!({"message": "Bad credentials"}))
        }
        _ => world.answer(head.method.as_str(), &path, head.uri.query().unwrap_or(""), &body),
    };
    let status = if matches!(fault, Fault::ActThenFail) { 502 } else { status };
    let head = if status == 429 { vec![("retry-after", "1")] } else { Vec::new() };
    let code = StatusCode::from_u16(status).unwrap();
    let mut response =
        if answer.is_null() { code.into_response() } else { (code, Json(answer)).into_response() };
    for (name, value) in head {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}

fn is_of_app(path: &str) -> bool {
    path.starts_with("/app/") || path.ends_with("/installation")
}

fn unprocessable(message: &str) -> (u16, Value) {
    (
        422,
        json!({"message": "Validation Failed", "errors": [{"resource": "PullRequest", "message": message}]}),
    )
}

impl World {
    fn answer(&mut self, method: &str, path: &str, query: &str, body: &Value) -> (u16, Value) {
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        let query: Vec<(String, String)> = {
            let url = reqwest::Url::parse(&format!("http://x/?{query}")).unwrap();
            url.query_pairs().into_owned().collect()
        };
        let is_of_log = matches!(segments[..], [_, _, _, "contents", "runs", ..]);
        if let Some(operation) = looked_up(&segments).filter(|_| !is_of_log) {
            self.wrong.extend(faults(&format!("{method} {operation}"), &query, body));
            if method == "POST" {
                return self.mint(body);
            }
            let found = self.there.get(path).cloned();
            return found.map_or((404, json!({"message": "Not Found"})), |found| (200, found));
        }
        let &["repos", owner, name, ref rest @ ..] = segments.as_slice() else {
            self.wrong.push(format!("{method} {path}"));
            return (404, json!({"message": "Not Found"}));
        };
        let repository = format!("{owner}/{name}");
        let operation = operation(rest);
        self.wrong.extend(faults(&format!("{method} {operation}"), &query, body));
        let asked = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        match (method, rest) {
            ("POST", ["dispatches"]) => {
                self.raised.push(body.clone());
                (204, Value::Null)
            }
            ("GET", ["pulls"]) => (200, json!(self.found(&repository, asked("head").unwrap()))),
            ("POST", ["pulls"]) => self.open(&repository, body),
            ("GET", ["pulls", number, "reviews"]) => {
                let number: u64 = number.parse().unwrap();
                if !self.pulls.iter().any(|pull| pull["number"] == number) {
                    return (404, json!({"message": "Not Found"}));
                }
                let page: usize = asked("page").unwrap_or("1").parse().unwrap();
                let size: usize = asked("per_page").unwrap_or("30").parse().unwrap();
                let reviews = self.reviews.get(&number).into_iter().flatten();
                (200, json!(reviews.skip((page - 1) * size).take(size).collect::<Vec<_>>()))
            }
            ("POST", ["pulls", number, "reviews"]) => self.review(number.parse().unwrap(), body),
            ("POST", ["issues", number, "labels"]) => {
                let labels = self.labels.entry(number.parse().unwrap()).or_default();
                for label in body["labels"].as_array().unwrap() {
                    if !labels.contains(label) {
                        labels.push(label.clone());
                    }
                }
                (200, json!([]))
            }
            (_, ["contents" | "git" | "commits", ..]) => self.of_log(method, rest, body),
            _ => (404, json!({"message": "Not Found"})),
        }
    }

    /// The branch `astra-log`.
    fn of_log(&mut self, method: &str, rest: &[&str], body: &Value) -> (u16, Value) {
        let not_found = (404, json!({"message": "Not Found"}));
        match (method, rest, &mut self.log) {
            ("POST", ["git", "trees" | "commits"], _) => (201, json!({"sha": "5ba1"})),
            ("POST", ["git", "refs"], log @ None) if body["ref"] == "refs/heads/astra-log" => {
                *log = Some(Vec::new());
                (201, json!({}))
            }
            ("POST", ["git", "refs"], Some(_)) => (422, json!({"message": "Reference already exists"})),
            (_, _, None) => not_found,
            ("PUT", ["contents", path @ ..], Some(log)) => {
                assert_eq!(body["branch"], "astra-log");
                let path = path.join("/");
                if log.iter().any(|(known, ..)| *known == path) {
                    return (422, json!({"message": "Invalid request.\n\n\"sha\" wasn't supplied."}));
                }
                log.push((path, body["content"].as_str().unwrap().to_owned(), body["message"].clone()));
                (201, json!({}))
            }
            ("GET", ["contents", path @ ..], Some(log)) => {
                let found = log.iter().find(|(known, ..)| *known == path.join("/"));
                found.map_or(not_found, |(_, content, _)| (200, json!({"content": content})))
            }
            ("GET", ["commits"], Some(log)) => {
                let commits = log.iter().rev().map(|(_, _, message)| json!({"commit": {"message": message}}));
                (200, json!(commits.collect::<Vec<_>>()))
            }
            _ => not_found,
        }
    }

    /// A token of the App with the permissions that were asked for, if they were granted.
    fn mint(&self, body: &Value) -> (u16, Value) {
        let wanted = body["permissions"].as_object().unwrap();
        let is_granted = |name: &str, level: &Value| {
            let granted = &self.granted[name];
            granted == level || granted == "write"
        };
        if wanted.iter().any(|(name, level)| !is_granted(name, level)) {
            let message = "The permissions requested are not granted to this installation.";
            return (422, json!({"message": message}));
        }
        (201, json!({"token": TOKEN, "expires_at": "2099-01-01T00:00:00Z", "permissions": wanted}))
    }

    fn found(&self, repository: &str, head: &str) -> Vec<Value> {
        let is_meant = |pull: &&Value| {
            let owner = repository.split('/').next().unwrap();
            pull["base"]["repo"]["full_name"] == repository
                && format!("{owner}:{}", pull["head"]["ref"].as_str().unwrap()) == head
        };
        self.pulls.iter().filter(is_meant).cloned().collect()
    }

    fn open(&mut self, repository: &str, body: &Value) -> (u16, Value) {
        let text = |key: &str| body[key].as_str().unwrap_or_default();
        let (head, base) = (text("head"), text("base"));
        let invalid = |field: &str| {
            let error = json!({"resource": "PullRequest", "field": field, "code": "invalid"});
            (422, json!({"message": "Validation Failed", "errors": [error]}))
        };
        let commit = |branch: &str| self.git(repository, &["rev-parse", "--verify", "-q", branch]);
        let (Some(head_commit), base_commit) = (commit(head), commit(base)) else { return invalid("head") };
        if base_commit.is_none() {
            return invalid("base");
        }
        if self.git(repository, &["rev-list", "--count", &format!("{base}..{head}")]).unwrap() == "0" {
            return unprocessable(&format!("No commits between {base} and {head}"));
        }
        let owner = repository.split('/').next().unwrap();
        let label = format!("{owner}:{head}");
        if self.found(repository, &label).iter().any(|pull| pull["state"] == "open") {
            return unprocessable(&format!("A pull request already exists for {label}."));
        }
        if body["draft"] == true && !self.has_drafts {
            return (422, json!({"message": "Draft pull requests are not supported in this repository."}));
        }
        let number = self.pulls.len() + 1;
        let pull = json!({
            "number": number, "state": "open", "merged_at": null, "draft": body["draft"],
            "html_url": format!("https://github.com/{repository}/pull/{number}"),
            "title": body["title"], "body": body["body"],
            "head": {"ref": head, "sha": head_commit},
            "base": {"ref": base, "repo": {"full_name": repository}},
        });
        self.pulls.push(pull.clone());
        (201, pull)
    }

    fn review(&mut self, number: u64, body: &Value) -> (u16, Value) {
        if self.is_own && body["event"] != "COMMENT" {
            return unprocessable("Can not request changes on your own pull request");
        }
        let comments = body["comments"].as_array().cloned().unwrap_or_default();
        if comments.iter().any(|comment| comment["line"].as_u64() > Some(1_000)) {
            return (
                422,
                json!({"message": "Unprocessable Entity", "errors": ["Line could not be resolved"]}),
            );
        }
        let mut review = body.clone();
        review["user"] = json!({"login": LOGIN, "type": "User"});
        review["html_url"] = json!(format!("https://github.com/astra/api/pull/{number}#pullrequestreview-1"));
        self.reviews.entry(number).or_default().push(review.clone());
        (200, review)
    }

    fn git(&self, repository: &str, arguments: &[&str]) -> Option<String> {
        let output = Command::new("git")
            .arg("--git-dir")
            .arg(self.git.join(format!("{repository}.git")))
            .args(arguments)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .output()
            .unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
    }
}

/// The operation of what is answered from the stand-in's own state.
fn operation(rest: &[&str]) -> &'static str {
    match rest {
        ["dispatches"] => "/repos/{owner}/{repo}/dispatches",
        ["pulls"] => "/repos/{owner}/{repo}/pulls",
        ["pulls", _, "reviews"] => "/repos/{owner}/{repo}/pulls/{pull_number}/reviews",
        ["issues", _, "labels"] => "/repos/{owner}/{repo}/issues/{issue_number}/labels",
        ["contents", ..] => "/repos/{owner}/{repo}/contents/{path}",
        ["git", "trees"] => "/repos/{owner}/{repo}/git/trees",
        ["git", "commits"] => "/repos/{owner}/{repo}/git/commits",
        ["git", "refs"] => "/repos/{owner}/{repo}/git/refs",
        ["commits"] => "/repos/{owner}/{repo}/commits",
        _ => "unknown",
    }
}

/// The operation of what is answered from [`World::there`], and of minting.
fn looked_up(segments: &[&str]) -> Option<&'static str> {
    Some(match segments {
        ["app", "installations", _, "access_tokens"] => "/app/installations/{installation_id}/access_tokens",
        ["user"] => "/user",
        ["installation", "repositories"] => "/installation/repositories",
        ["repos", _, _] => "/repos/{owner}/{repo}",
        ["repos", _, _, rest @ ..] => match rest {
            ["installation"] => "/repos/{owner}/{repo}/installation",
            ["rules", "branches", _] => "/repos/{owner}/{repo}/rules/branches/{branch}",
            ["rulesets", _] => "/repos/{owner}/{repo}/rulesets/{ruleset_id}",
            ["branches", _] => "/repos/{owner}/{repo}/branches/{branch}",
            ["contents", ..] => "/repos/{owner}/{repo}/contents/{path}",
            _ => return None,
        },
        _ => return None,
    })
}

/// What GitHub's description says against a request.
pub fn faults(operation: &str, query: &[(String, String)], body: &Value) -> Vec<String> {
    let described: Value =
        serde_json::from_str(include_str!("../../fixtures/github/operations.json")).unwrap();
    let Some(described) = described["operations"].get(operation) else {
        return vec![format!("{operation} is not described")];
    };
    let mut found = Vec::new();
    for (key, value) in query {
        match described["query"].get(key) {
            None => found.push(format!("{operation}: the parameter {key} is not described")),
            Some(schema) if schema["type"] == "string" => {
                if !jsonschema::is_valid(schema, &json!(value)) {
                    found.push(format!("{operation}: {key}={value}"));
                }
            }
            Some(_) => {}
        }
    }
    if let Some(schema) = described.get("body") {
        let validator = jsonschema::validator_for(schema).unwrap();
        found.extend(
            validator
                .iter_errors(body)
                .map(|error| format!("{operation}: {error} at {}", error.instance_path())),
        );
    } else if !body.is_null() {
        found.push(format!("{operation}: takes no body"));
    }
    found
}
