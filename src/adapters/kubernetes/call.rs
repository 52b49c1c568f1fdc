//! One call to the API server, and what its answer means.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::response::Parts;
use http::{Method, StatusCode};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::client::Body;
use serde::de::DeserializeOwned;

use super::Cluster;
use crate::adapters::store::StoreError;

/// An unanswered call is given up after this time.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Calls that change nothing, and calls that the server put off (429), are made this often.
const ATTEMPTS: u32 = 4;
/// The first pause between them; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(200);
/// The longest pause that the server is granted when it asks for one (`Retry-After`).
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A refusal (403) is doubted for so long while the API server is starting: until it has loaded its roles
/// and its admission plugins, it refuses what it will allow.
const DOUBTED: Duration = Duration::from_secs(15);
/// The same, where it has long answered: it may have been started again while nobody asked. Seen to refuse
/// even `/readyz` for some 50 ms then.
const DOUBTED_BRIEFLY: Duration = Duration::from_secs(3);
/// Between two looks whether it has.
const DOUBT_PAUSE: Duration = Duration::from_millis(500);

/// Media types of request bodies.
pub(super) const JSON: &str = "application/json";
/// RFC 6902.
pub(super) const JSON_PATCH: &str = "application/json-patch+json";

/// Why a call did not bring what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// 404. The server's time, since "there is none" is an answer, too.
    #[error("there is no such object")]
    NotFound(Timestamp),
    /// 409: it exists already, or was changed since it was read.
    #[error("{0}")]
    Conflict(String),
    /// 410: the continue token of a list is too old.
    #[error("the list has to be started again")]
    Gone,
    /// 401: the cluster does not know us (any more).
    #[error("{0}")]
    Unauthorized(String),
    /// 403: we may not do this, or an admission policy is against it.
    #[error("{0}")]
    Forbidden(String),
    /// Any other 4xx: it will be refused again.
    #[error("{0}")]
    Invalid(String),
    /// 429, 5xx, or no answer: it may have been carried out or not.
    #[error("{0}")]
    Unavailable(String),
}

impl CallError {
    /// Whether the same call can be expected to be refused for ever, for what it asks.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Forbidden(_) | Self::Invalid(_))
    }
}

impl From<CallError> for StoreError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Unauthorized(text) => {
                Self::Denied(format!("the cluster does not accept our credential: {text}"))
            }
            CallError::Forbidden(text) => Self::Denied(text),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

/// A good answer.
#[derive(Debug, Clone)]
pub struct Answer<T> {
    /// What was asked for.
    pub value: T,
    /// The server's time when it answered.
    pub now: Timestamp,
    /// Warnings of the server (RFC 9111 `Warning` headers), such as of Pod Security.
    pub warnings: Vec<String>,
}

/// A request, kept so that it can be made again.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) content_type: &'static str,
    pub(super) body: Vec<u8>,
}

impl Call {
    pub(super) fn get(path: String) -> Self {
        Self { method: Method::GET, path, content_type: JSON, body: Vec::new() }
    }

    pub(super) fn with_json(
        method: Method,
        path: String,
        content_type: &'static str,
        body: &impl serde::Serialize,
    ) -> Result<Self, CallError> {
        let body = serde_json::to_vec(body).map_err(|error| CallError::Invalid(error.to_string()))?;
        Ok(Self { method, path, content_type, body })
    }
}

impl Cluster {
    /// Makes a call. Calls that change nothing are repeated where there was no answer; all calls are
    /// repeated where the server said that it did not carry them out: 429, and 403 while it is starting.
    pub(super) async fn call<T: DeserializeOwned>(&self, call: &Call) -> Result<Answer<T>, CallError> {
        let begun = Instant::now();
        // Of the server's state before the call: it may have become ready since it refused.
        let mut readiness = None;
        loop {
            let text = match self.call_unless_refused(call).await {
                Err(CallError::Forbidden(text)) => text,
                answer => return answer,
            };
            match weigh_refusal(&text, readiness, begun.elapsed(), self.answering.elapsed()) {
                Doubt::Believed => return Err(CallError::Forbidden(text)),
                Doubt::GivenUp => {
                    return Err(CallError::Unavailable(format!("the API server is not ready: {text}")));
                }
                Doubt::AskAgain => {}
            }
            log::debug!("{} {}: {text}; is the API server ready?", call.method, call.path);
            if readiness.is_some() {
                tokio::time::sleep(DOUBT_PAUSE).await;
            }
            readiness = Some(self.readiness().await);
        }
    }

    /// Whether the API server says that it has loaded everything. Everybody may ask.
    async fn readiness(&self) -> Readiness {
        match self.exchange(&Call::get("/readyz".to_owned())).await {
            Ok((head, _)) if head.status.is_success() => Readiness::Ready,
            Ok((head, _)) if head.status.is_client_error() => Readiness::Unknown,
            Err(CallError::Unauthorized(_)) => Readiness::Unknown,
            Ok(_) | Err(_) => Readiness::NotReady,
        }
    }

    async fn call_unless_refused<T: DeserializeOwned>(&self, call: &Call) -> Result<Answer<T>, CallError> {
        let mut pause = PAUSE;
        for attempt in 1.. {
            let (error, asked) = match self.call_once(call).await {
                Ok(answer) => return Ok(answer),
                Err((error, asked)) => (error, asked),
            };
            let repeatable = match &error {
                CallError::Unavailable(_) => call.method == Method::GET || asked.is_some(),
                _ => false,
            };
            if !repeatable || attempt >= ATTEMPTS {
                return Err(error);
            }
            log::debug!("{} {}: {error}; trying again", call.method, call.path);
            tokio::time::sleep(
                asked.unwrap_or(pause).min(LONGEST_PAUSE).mul_f64(0.75 + 0.5 * rand::random::<f64>()),
            )
            .await;
            pause *= 2;
        }
        Err(CallError::Unavailable("no attempt was made".to_owned()))
    }

    /// Sends a request and reads the whole answer, whatever it is.
    async fn exchange(&self, call: &Call) -> Result<(Parts, Vec<u8>), CallError> {
        let request = http::Request::builder()
            .method(call.method.clone())
            .uri(&call.path)
            .header(http::header::ACCEPT, JSON)
            .header(http::header::CONTENT_TYPE, call.content_type)
            .body(Body::from(call.body.clone()))
            .map_err(|error| CallError::Invalid(error.to_string()))?;
        let exchange = async {
            let response = self.client.send(request).await.map_err(describe)?;
            let (head, body) = response.into_parts();
            let bytes =
                body.collect_bytes().await.map_err(|error| CallError::Unavailable(error.to_string()))?;
            Ok((head, bytes.to_vec()))
        };
        let exchanged = tokio::time::timeout(TIMEOUT, exchange).await.unwrap_or_else(|_| {
            Err(CallError::Unavailable(format!("no answer within {} seconds", TIMEOUT.as_secs())))
        });
        self.answering.note(exchanged.as_ref().is_ok_and(|(head, _)| !head.status.is_server_error()));
        exchanged
    }

    /// The error, and the pause that the server asked for where it put the call off.
    async fn call_once<T: DeserializeOwned>(
        &self,
        call: &Call,
    ) -> Result<Answer<T>, (CallError, Option<Duration>)> {
        let silent = |text: String| (CallError::Unavailable(text), None);
        let (head, bytes) = self.exchange(call).await.map_err(|error| (error, None))?;
        let now =
            date(&head.headers).ok_or_else(|| silent("the answer has no usable Date header".to_owned()))?;
        if !head.status.is_success() {
            let asked = (head.status == StatusCode::TOO_MANY_REQUESTS).then(|| retry_after(&head.headers));
            return Err((refusal(head.status, &bytes, now), asked));
        }
        let value = serde_json::from_slice(&bytes).map_err(|error| {
            silent(format!("the answer to {} {} cannot be read: {error}", call.method, call.path))
        })?;
        Ok(Answer { value, now, warnings: warnings(&head.headers) })
    }
}

/// Since when the API server has answered every call. One that is started again does not, for a while.
#[derive(Debug, Clone, Default)]
pub(super) struct AnsweringSince(Arc<Mutex<Option<Instant>>>);

impl AnsweringSince {
    /// `is_answer`: whether the last call had an answer that the server meant.
    fn note(&self, is_answer: bool) {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *since = is_answer.then(|| since.unwrap_or_else(Instant::now));
    }

    fn elapsed(&self) -> Duration {
        let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    #[cfg(test)]
    pub(super) fn began_before(&self, time: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now().checked_sub(time);
    }
}

/// What the API server says of itself (`/readyz`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Readiness {
    Ready,
    NotReady,
    /// It, or something in front of it, does not let us ask.
    Unknown,
}

/// What to make of a refusal.
#[derive(Debug, PartialEq, Eq)]
enum Doubt {
    /// It will be refused again.
    Believed,
    /// The server may allow it once it is ready.
    AskAgain,
    /// It did not become ready.
    GivenUp,
}

/// `readiness`: what was said before the call; `None`: nobody asked yet. `doubted`: for so long;
/// `answering`: for so long the server has answered every call.
fn weigh_refusal(text: &str, readiness: Option<Readiness>, doubted: Duration, answering: Duration) -> Doubt {
    // A binding is known and its role is not (yet): roles are loaded one after the other. So are the caches of
    // admission plugins.
    let is_loading = (text.contains("RBAC: ") && text.contains(" not found"))
        || text.contains("not yet ready to handle request");
    let is_late = doubted >= DOUBTED;
    match readiness {
        // In its first moments it refuses even to say so.
        Some(Readiness::Unknown) if is_late => Doubt::Believed,
        Some(Readiness::Unknown) if answering >= DOUBTED && doubted >= DOUBTED_BRIEFLY => Doubt::Believed,
        Some(Readiness::Ready) if is_late || !is_loading => Doubt::Believed,
        Some(Readiness::NotReady) if is_late => Doubt::GivenUp,
        _ => Doubt::AskAgain,
    }
}

/// A failure before there was an answer. A credential plugin that fails is no dropped connection.
fn describe(error: kube::Error) -> CallError {
    let chain = anyhow::Error::new(error);
    let text = format!("{chain:#}");
    match chain.downcast_ref::<kube::Error>() {
        Some(kube::Error::Auth(_)) => CallError::Unauthorized(text),
        _ => CallError::Unavailable(text),
    }
}

fn refusal(status: StatusCode, body: &[u8], now: Timestamp) -> CallError {
    // Proxies answer with pages of their own; the API server with a Status.
    let text = serde_json::from_slice::<Status>(body)
        .ok()
        .and_then(|status| status.message)
        .unwrap_or_else(|| format!("HTTP {status}"));
    match status.as_u16() {
        401 => CallError::Unauthorized(text),
        403 => CallError::Forbidden(text),
        404 => CallError::NotFound(now),
        409 => CallError::Conflict(text),
        410 => CallError::Gone,
        408 | 429 | 500.. => CallError::Unavailable(format!("{text} (HTTP {})", status.as_u16())),
        _ => CallError::Invalid(text),
    }
}

/// The server's clock: `Date: Wed, 25 Nov 2026 10:00:00 GMT`.
fn date(headers: &http::HeaderMap) -> Option<Timestamp> {
    let text = headers.get(http::header::DATE)?.to_str().ok()?;
    jiff::fmt::rfc2822::parse(text).ok().map(|zoned| zoned.timestamp())
}

fn retry_after(headers: &http::HeaderMap) -> Duration {
    let seconds = headers.get(http::header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    seconds.map_or(PAUSE, Duration::from_secs)
}

/// `299 - "text"` becomes `text`.
fn warnings(headers: &http::HeaderMap) -> Vec<String> {
    let texts = headers.get_all(http::header::WARNING).iter().filter_map(|value| value.to_str().ok());
    texts
        .map(|text| text.split_once('"').map_or(text, |(_, rest)| rest.trim_end_matches('"')).to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_believed_from_a_server_that_is_ready() {
        use Doubt::{AskAgain, Believed, GivenUp};
        use Readiness::{NotReady, Ready, Unknown};
        let plain = "configmaps \"ledger\" is forbidden: User \"dispatcher\" cannot get resource";
        let loading = "jobs.batch is forbidden: User \"d\" cannot create resource: RBAC: \
                       role.rbac.authorization.k8s.io \"dispatcher\" not found";
        let unready = "jobs.batch \"ast-1-x7k2p\" is forbidden: not yet ready to handle request";
        for (text, readiness, doubted, answering, expected) in [
            (unready, Some(Ready), 14, 60, AskAgain),
            (plain, None, 0, 60, AskAgain),
            (plain, Some(Ready), 0, 0, Believed),
            (plain, Some(NotReady), 14, 60, AskAgain),
            (plain, Some(NotReady), 15, 60, GivenUp),
            (plain, Some(Unknown), 14, 14, AskAgain),
            // Where nobody may ask, it is taken at its word once it cannot be starting any more.
            (plain, Some(Unknown), 2, 15, AskAgain),
            (plain, Some(Unknown), 3, 15, Believed),
            (plain, Some(Unknown), 15, 0, Believed),
            (loading, None, 0, 60, AskAgain),
            (loading, Some(Ready), 14, 60, AskAgain),
            // The role is not there at all.
            (loading, Some(Ready), 15, 60, Believed),
            (loading, Some(NotReady), 15, 60, GivenUp),
        ] {
            let [doubted, answering] = [doubted, answering].map(Duration::from_secs);
            let doubt = weigh_refusal(text, readiness, doubted, answering);
            assert_eq!(doubt, expected, "{text} {readiness:?} {doubted:?} {answering:?}");
        }
    }

    #[test]
    fn a_call_without_an_answer_begins_anew() {
        let since = AnsweringSince::default();
        assert_eq!(since.elapsed(), Duration::ZERO);
        since.began_before(Duration::from_secs(20));
        since.note(true);
        assert!(since.elapsed() >= Duration::from_secs(20));
        since.note(false);
        since.note(true);
        assert!(since.elapsed() < Duration::from_secs(20));
    }
}
