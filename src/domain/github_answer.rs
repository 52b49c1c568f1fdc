//! What an answer of GitHub's REST API means for whoever asked, as far as every request shares it.
//!
//! Facts: GitHub answers 403 or 429 at a rate limit, with `retry-after` in seconds, or with
//! `x-ratelimit-remaining: 0` and the Unix time `x-ratelimit-reset`; without either, one minute is
//! to be waited (docs.github.com, "Rate limits for the REST API").

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::message;

/// A rate limit that gives no time is waited out for this long.
const UNTOLD_WAIT: Duration = Duration::from_secs(60);
/// No answer makes us wait longer.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// The part of an answer that every request looks at.
#[derive(Debug, Clone, Copy, Default)]
pub struct AnswerHead<'a> {
    /// HTTP status.
    pub status: u16,
    /// `retry-after`.
    pub retry_after: Option<&'a str>,
    /// `x-ratelimit-remaining`.
    pub remaining: Option<&'a str>,
    /// `x-ratelimit-reset`.
    pub reset: Option<&'a str>,
}

/// Why a request brought nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GitHubFault {
    /// 401.
    #[error("GitHub does not know the token (401)")]
    TokenRejected,
    /// 403 without a rate limit.
    #[error("GitHub refuses: the token lacks a permission (403)")]
    NotAllowed,
    /// 404, which GitHub also gives for what the token may not see.
    #[error("GitHub has no such repository, or the token may not see it (404)")]
    NotFound,
    /// 301, 302, 307, 308: the repository was renamed or given away.
    #[error("GitHub says that the repository has moved ({0})")]
    Moved(u16),
    /// 403 or 429 with a rate limit.
    #[error("GitHub's rate limit is reached for {} s", .0.as_secs())]
    RateLimited(Duration),
    /// 400, 413, 422: what was sent.
    #[error("GitHub does not accept what was sent ({status}{words})")]
    Unfit {
        /// HTTP status.
        status: u16,
        /// What GitHub says about it, if anything, after a colon: one line.
        words: String,
    },
    /// 5xx, or something unknown.
    #[error("GitHub answers {0}")]
    Unavailable(u16),
    /// No answer: name, connection, TLS, time. Whether the request took effect is unknown.
    #[error("GitHub cannot be reached: {0}")]
    Unreachable(String),
    /// An answer that is not what the API promises.
    #[error("GitHub's answer lacks {0}")]
    Unreadable(&'static str),
}

impl GitHubFault {
    /// Its name in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::TokenRejected => "token_rejected",
            Self::NotAllowed => "not_allowed",
            Self::NotFound => "not_found",
            Self::Moved(_) => "moved",
            Self::RateLimited(_) => "rate_limited",
            Self::Unfit { .. } => "unfit",
            Self::Unavailable(_) => "unavailable",
            Self::Unreachable(_) => "unreachable",
            Self::Unreadable(_) => "unreadable",
        }
    }

    /// Whether the same request may succeed later, with nobody mending anything.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::RateLimited(_) | Self::Unavailable(_) | Self::Unreachable(_) | Self::Unreadable(_) => true,
            Self::TokenRejected | Self::NotAllowed | Self::NotFound | Self::Moved(_) | Self::Unfit { .. } => {
                false
            }
        }
    }

    /// What a person can do.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::TokenRejected => "check GITHUB_TOKEN, or ASTRA_APP_ID and ASTRA_APP_PRIVATE_KEY",
            Self::NotAllowed => {
                "give the token or the App write access to the repository's contents and pull requests"
            }
            Self::NotFound => "check its name, and that the token or the App has access to it",
            Self::Moved(_) => "use the repository's new name",
            Self::Unfit { .. } => "report this",
            Self::RateLimited(_) | Self::Unavailable(_) | Self::Unreachable(_) | Self::Unreadable(_) => {
                "nothing: it is tried again"
            }
        }
    }
}

/// What an answer means; `Ok` for every 2xx.
pub fn judge(head: AnswerHead<'_>, now: Timestamp) -> Result<(), GitHubFault> {
    match head.status {
        200..=299 => Ok(()),
        301 | 302 | 307 | 308 => Err(GitHubFault::Moved(head.status)),
        401 => Err(GitHubFault::TokenRejected),
        403 => Err(limit(head, now).map_or(GitHubFault::NotAllowed, GitHubFault::RateLimited)),
        429 => Err(GitHubFault::RateLimited(limit(head, now).unwrap_or(UNTOLD_WAIT))),
        404 | 410 => Err(GitHubFault::NotFound),
        status @ (400 | 413 | 422) => Err(GitHubFault::Unfit { status, words: String::new() }),
        other => Err(GitHubFault::Unavailable(other)),
    }
}

/// What a 403 without headers of a rate limit means, by its body: GitHub has a second kind of limit that
/// may say so in words only.
pub fn refused(body: &str) -> GitHubFault {
    if body.to_ascii_lowercase().contains("rate limit") {
        GitHubFault::RateLimited(UNTOLD_WAIT)
    } else {
        GitHubFault::NotAllowed
    }
}

/// What GitHub says about something unfit: its message and its errors, in one line that begins with a
/// colon; empty if it says nothing.
pub fn words(body: &Value) -> String {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let error = |error: &Value| {
        let coded = || Some(format!("{} is {}", text(error, "field")?, text(error, "code")?));
        error.as_str().map(str::to_owned).or_else(|| text(error, "message")).or_else(coded)
    };
    let errors = body.get("errors").and_then(Value::as_array).into_iter().flatten().filter_map(error);
    let all: Vec<String> = text(body, "message").into_iter().chain(errors).collect();
    if all.is_empty() { String::new() } else { format!(": {}", message::one_line(&all.join("; "), 500)) }
}

/// How long the rate limit lasts, if the answer is about one.
fn limit(head: AnswerHead<'_>, now: Timestamp) -> Option<Duration> {
    let number = |text: Option<&str>| text.and_then(|text| text.trim().parse::<u64>().ok());
    let wait = match (number(head.retry_after), number(head.remaining)) {
        (Some(seconds), _) => Duration::from_secs(seconds),
        (None, Some(0)) => {
            let now = u64::try_from(now.as_second()).unwrap_or_default();
            number(head.reset).map_or(UNTOLD_WAIT, |reset| Duration::from_secs(reset.saturating_sub(now) + 1))
        }
        _ => return None,
    };
    Some(wait.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_has_one_meaning() {
        let seconds = |count| GitHubFault::RateLimited(Duration::from_secs(count));
        for (status, retry_after, remaining, reset, expected) in [
            (204, None, None, None, Ok(())),
            (401, None, None, None, Err(GitHubFault::TokenRejected)),
            (403, None, Some("12"), Some("1060"), Err(GitHubFault::NotAllowed)),
            (403, Some("30"), None, None, Err(seconds(30))),
            (403, None, Some("0"), Some("1060"), Err(seconds(61))),
            (403, None, Some("0"), Some("10"), Err(seconds(1))),
            (429, None, None, None, Err(seconds(60))),
            (429, Some("soon"), None, None, Err(seconds(60))),
            (429, Some("99999999"), None, None, Err(seconds(3600))),
            (404, None, None, None, Err(GitHubFault::NotFound)),
            (307, None, None, None, Err(GitHubFault::Moved(307))),
            (422, None, None, None, Err(GitHubFault::Unfit { status: 422, words: String::new() })),
            (502, None, None, None, Err(GitHubFault::Unavailable(502))),
        ] {
            let head = AnswerHead { status, retry_after, remaining, reset };
            assert_eq!(judge(head, Timestamp::from_second(1000).unwrap()), expected, "{head:?}");
        }
    }
}
