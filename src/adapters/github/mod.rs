//! GitHub's REST API. octocrab carries the requests; tokens, timeouts and repetition are ours, since
//! it would send a request that timed out again, whatever it was, and mint a token for every caller.

use std::time::Duration;

use anyhow::Context;
use backon::{ExponentialBuilder, Retryable};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Method, Request};
use jiff::Timestamp;
use octocrab::Octocrab;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::tls;
use crate::domain::github_answer::{AnswerHead, GitHubFault, judge, refused, words};
use crate::environment;
use crate::error::UserError;

pub mod app_token;
pub mod dispatches;
pub mod inspection;
pub mod pulls;
pub mod run_log;

/// Where GitHub's Git remotes are.
pub const GITHUB: &str = "https://github.com";
/// Where the API is unless somebody says otherwise.
const GITHUB_API: &str = "https://api.github.com";
/// How long it may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one request may take, from connecting to the last byte.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The first pause before something is tried again; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// A rate limit that lasts longer is left to a later publication: a claim is good for five minutes.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A way to GitHub's REST API.
#[derive(Clone)]
pub struct GitHub {
    transport: Octocrab,
}

/// An answer that was no refusal.
#[derive(Debug, Clone)]
pub struct GitHubAnswer {
    /// Headers.
    pub headers: HeaderMap,
    /// The body; `null` if there is none.
    pub body: Value,
}

impl GitHub {
    /// The API that `GITHUB_API_URL` names, else github.com's. Nothing is sent yet.
    pub fn of_environment() -> anyhow::Result<Self> {
        Self::beside(GITHUB)
    }

    /// The API that `GITHUB_API_URL` names, else that of the server with these Git remotes.
    pub fn beside(git_base_url: &str) -> anyhow::Result<Self> {
        let url = environment::text("GITHUB_API_URL");
        let beside = || match git_base_url.trim_end_matches('/') {
            GITHUB => GITHUB_API.to_owned(),
            // Where GitHub Enterprise Server has it.
            server => format!("{server}/api/v3"),
        };
        Self::new(&url.unwrap_or_else(beside))
    }

    /// The API at this address.
    pub fn new(url: &str) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .use_preconfigured_tls(tls::client_config(None)?)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .user_agent(concat!("astra-dispatch/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("make a client for GitHub")?;
        let wrong = |error: octocrab::Error| {
            UserError::usage(
                format!("this is no address: {error}"),
                "give one such as https://api.github.com",
            )
            .at("GITHUB_API_URL")
        };
        let transport = Octocrab::builder()
            .base_uri(url.trim_end_matches('/'))
            .map_err(wrong)?
            .build_with_reqwest(http)
            .context("make a client for GitHub")?;
        Ok(Self { transport })
    }

    /// Sends one request, once. `path` begins with `/`.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        token: &SecretString,
        body: Option<&Value>,
    ) -> Result<GitHubAnswer, GitHubFault> {
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))
            .map_err(|_| GitHubFault::TokenRejected)?;
        bearer.set_sensitive(true);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(AUTHORIZATION, bearer)
            .header("accept", "application/vnd.github+json");
        let request = self.transport.build_request(request, body).map_err(unreachable)?;
        let answer = self.transport.execute(request).await.map_err(unreachable)?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let head = AnswerHead {
            status,
            retry_after: header("retry-after"),
            remaining: header("x-ratelimit-remaining"),
            reset: header("x-ratelimit-reset"),
        };
        let judged = judge(head, Timestamp::now());
        if let Err(GitHubFault::Unfit { status, .. }) = judged {
            let text = self.transport.body_to_string(answer).await.unwrap_or_default();
            let words = serde_json::from_str(&text).map_or_else(|_| String::new(), |body| words(&body));
            return Err(GitHubFault::Unfit { status, words });
        }
        if judged == Err(GitHubFault::NotAllowed) {
            let text = self.transport.body_to_string(answer).await.unwrap_or_default();
            return Err(refused(&text));
        }
        judged?;
        let text = self.transport.body_to_string(answer).await.map_err(unreachable)?;
        if text.is_empty() {
            return Ok(GitHubAnswer { headers, body: Value::Null });
        }
        let body = serde_json::from_str(&text).map_err(|_| GitHubFault::Unreadable("JSON"))?;
        Ok(GitHubAnswer { headers, body })
    }
}

/// The innermost cause: the outer ones only say that a request failed.
fn unreachable(error: octocrab::Error) -> GitHubFault {
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    GitHubFault::Unreachable(cause.to_string())
}

/// Tries again what was refused for the moment. A request that had no answer is not: GitHub may still
/// be at work on it, and nobody could see it.
pub(super) async fn patiently<T, F>(tries: usize, request: impl FnMut() -> F) -> Result<T, GitHubFault>
where
    F: Future<Output = Result<T, GitHubFault>>,
{
    let pauses = ExponentialBuilder::new().with_min_delay(FIRST_PAUSE).with_max_times(tries - 1);
    request
        .retry(pauses.with_jitter())
        .sleep(tokio::time::sleep)
        .when(|fault| match fault {
            GitHubFault::RateLimited(wait) => *wait <= LONGEST_PAUSE,
            fault => matches!(fault, GitHubFault::Unavailable(_)),
        })
        .adjust(|fault, pause| match fault {
            GitHubFault::RateLimited(wait) => pause.map(|pause| pause.max(*wait)),
            _ => pause,
        })
        .notify(|fault, pause| log::info!("{fault}; tried again in {} ms", pause.as_millis()))
        .await
}
