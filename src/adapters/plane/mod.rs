//! Plane's REST API: one client, one budget of requests, every answer with one meaning.
//!
//! Facts about the API are in [`crate::domain::plane_answer`]; which request may be sent when is
//! decided by [`RequestBudget`]. Reads and writes are in the files of their names.

mod catalog;
mod items;
mod pass;
pub mod projects;
mod writes;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::tls;
use crate::domain::name::ItemId;
use crate::domain::plane_answer::{self, Answer, PlaneRefusal};
use crate::domain::registry::Plane;
use crate::domain::request_budget::{DEFAULT_RATE, Importance, RequestBudget};
use crate::domain::work_item::WorkItem;
use crate::environment;
use crate::error::UserError;

/// How long one request may take, from connecting to the last byte.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// An answer longer than this is refused: a page of 1,000 trimmed items is about 1 MB.
const LONGEST_ANSWER: usize = 32 * 1024 * 1024;
/// A request waits so long for the budget: a full window, so that a burst is slow and not an error.
const PATIENCE: Duration = Duration::from_secs(60);
/// A read is tried so often before the fault is reported; writes are sent once, the next pass repeats them.
const READ_ATTEMPTS: u32 = 3;

/// A client for one workspace.
pub struct PlaneClient {
    http: reqwest::Client,
    /// `<base>/api/v1/workspaces/<slug>`.
    workspace_url: String,
    key: SecretString,
    budget: Mutex<RequestBudget>,
    /// A request waits at most this long for the budget.
    patience: Duration,
    catalog: Mutex<catalog::Catalog>,
    /// Items as they were last read, and since when that read was under way; not those that we moved since.
    seen: Mutex<BTreeMap<ItemId, (WorkItem, Instant)>>,
}

/// A request that brought nothing.
#[derive(Debug, thiserror::Error)]
#[error("{action}: {fault}")]
pub struct PlaneError {
    /// What was tried, with the object's name: `read work item AST-12`.
    pub action: String,
    /// Why it brought nothing.
    #[source]
    pub fault: PlaneFault,
}

/// Why a request brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum PlaneFault {
    /// Plane answered, and refused.
    #[error(transparent)]
    Refused(#[from] PlaneRefusal),
    /// No answer came: name, connection, TLS. Whether a write took effect is unknown.
    #[error("Plane cannot be reached ({0})")]
    Unreachable(String),
    /// No whole answer came in time. Whether a write took effect is unknown.
    #[error("Plane did not answer within {} s", REQUEST_TIMEOUT.as_secs())]
    TimedOut,
    /// The budget is spent on more important requests; nothing was sent.
    #[error("the budget of requests to Plane is spent for {} s", .0.as_secs())]
    BudgetSpent(Duration),
    /// The project has no state or label of that name.
    #[error("the project has no {0}")]
    Lacking(String),
    /// Plane answered with something else than its API promises.
    #[error("Plane's answer lacks what was asked for: {0}")]
    Unexpected(String),
}

impl PlaneFault {
    /// Whether trying again later may help.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.is_passing(),
            Self::Unreachable(_) | Self::TimedOut | Self::BudgetSpent(_) => true,
            Self::Lacking(_) | Self::Unexpected(_) => false,
        }
    }

    /// Whether it is known that a write changed nothing.
    pub fn is_without_effect(&self) -> bool {
        match self {
            Self::Refused(refusal) => {
                !matches!(refusal, PlaneRefusal::Broken { .. } | PlaneRefusal::NotPlane)
            }
            Self::BudgetSpent(_) | Self::Lacking(_) => true,
            Self::Unreachable(_) | Self::TimedOut | Self::Unexpected(_) => false,
        }
    }

    /// What a person does about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.remedy(),
            Self::Unreachable(_) => "check `plane.url` in astra.yaml (or PLANE_BASE_URL) and the network",
            Self::TimedOut | Self::BudgetSpent(_) => "try again later; nothing was lost",
            Self::Lacking(_) => "make it in Plane, or change `states` in astra.yaml",
            Self::Unexpected(_) => "report this with the version of Plane",
        }
    }
}

/// What a request is for, and how long it may wait for the budget, however patient the client is.
#[derive(Debug, Clone, Copy)]
struct Urgency {
    importance: Importance,
    patience: Duration,
}

impl From<Importance> for Urgency {
    fn from(importance: Importance) -> Self {
        Self { importance, patience: Duration::MAX }
    }
}

/// One request, before it is sent.
struct Request<'a> {
    action: String,
    urgency: Urgency,
    method: Method,
    /// Below the workspace, with the slash at its end that Plane insists on.
    path: String,
    query: Vec<(&'a str, String)>,
    body: Option<Value>,
}

impl<'a> Request<'a> {
    fn get(action: impl Into<String>, urgency: impl Into<Urgency>, path: impl Into<String>) -> Self {
        Self {
            action: action.into(),
            urgency: urgency.into(),
            method: Method::GET,
            path: path.into(),
            query: Vec::new(),
            body: None,
        }
    }

    fn write(
        method: Method,
        action: impl Into<String>,
        urgency: impl Into<Urgency>,
        path: impl Into<String>,
        body: Value,
    ) -> Self {
        Self { method, body: Some(body), ..Self::get(action, urgency, path) }
    }

    fn query(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }
}

impl From<PlaneError> for UserError {
    fn from(error: PlaneError) -> Self {
        let remedy = error.fault.remedy();
        match error.fault {
            fault if fault.is_passing() => Self::retry(fault.to_string(), remedy),
            fault @ PlaneFault::Unexpected(_) => Self::failed(fault.to_string(), remedy),
            fault => Self::usage(fault.to_string(), remedy),
        }
        .at(error.action)
    }
}

impl PlaneClient {
    /// The client that the environment asks for: none without `PLANE_API_KEY`; `PLANE_BASE_URL`
    /// stands before the registry's address. `state`: a directory in which to keep what seldom changes.
    pub fn of_environment(plane: &Plane, state: Option<&Path>) -> anyhow::Result<Option<Self>> {
        let Some(key) = environment::text("PLANE_API_KEY") else { return Ok(None) };
        let url = environment::text("PLANE_BASE_URL").unwrap_or_else(|| plane.url.clone());
        let tls = tls::client_config(None)?;
        let mut client = Self::new(&url, &plane.workspace, key.into(), DEFAULT_RATE, PATIENCE, tls)?;
        client.catalog = Mutex::new(catalog::Catalog::kept_in(state.map(Path::to_owned)));
        Ok(Some(client))
    }

    /// A client for the workspace `slug` at `base_url`. Redirects are never followed: Plane
    /// redirects a path without its last slash, and a followed POST loses its body.
    pub fn new(
        base_url: &str,
        slug: &str,
        key: SecretString,
        requests_per_minute: u32,
        patience: Duration,
        tls: rustls::ClientConfig,
    ) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .timeout(REQUEST_TIMEOUT)
            .connect_timeout(Duration::from_secs(5))
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("astra-dispatch/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self {
            http,
            workspace_url: format!("{}/api/v1/workspaces/{slug}", base_url.trim_end_matches('/')),
            key,
            budget: Mutex::new(RequestBudget::new(requests_per_minute)),
            patience,
            catalog: Mutex::default(),
            seen: Mutex::default(),
        })
    }

    /// Sends a request; reads are tried again where that may help.
    async fn send(&self, request: Request<'_>) -> Result<Value, PlaneError> {
        let attempts = if request.method == Method::GET { READ_ATTEMPTS } else { 1 };
        let mut attempt = 1;
        loop {
            let fault = match self.send_once(&request).await {
                Ok(value) => return Ok(value),
                Err(fault) => fault,
            };
            let may_help = fault.is_passing() && !matches!(fault, PlaneFault::BudgetSpent(_));
            if attempt == attempts || !may_help {
                return Err(PlaneError { action: request.action, fault });
            }
            log::warn!("{}: {fault}; trying again", request.action);
            // A 429 has closed the budget, so that `take` waits for it; others get a short pause.
            tokio::time::sleep(Duration::from_millis(250 * u64::from(attempt))).await;
            attempt += 1;
        }
    }

    async fn send_once(&self, request: &Request<'_>) -> Result<Value, PlaneFault> {
        self.wait_for_budget(request.urgency).await?;
        let mut builder = self
            .http
            .request(request.method.clone(), format!("{}/{}", self.workspace_url, request.path))
            .header("X-API-Key", self.key.expose_secret())
            .query(&request.query);
        if let Some(body) = &request.body {
            builder = builder.json(body);
        }
        let response = builder.send().await.map_err(transport_fault)?;
        self.read_answer(response).await
    }

    /// Waits until the budget has room, at most as long as patience lasts.
    async fn wait_for_budget(&self, urgency: Urgency) -> Result<(), PlaneFault> {
        let patience = urgency.patience.min(self.patience);
        let mut waited = Duration::ZERO;
        loop {
            let wait = match lock(&self.budget).take(urgency.importance, Timestamp::now()) {
                Ok(()) => return Ok(()),
                Err(wait) => wait,
            };
            if waited + wait > patience {
                return Err(PlaneFault::BudgetSpent(wait));
            }
            tokio::time::sleep(wait).await;
            waited += wait;
        }
    }

    async fn read_answer(&self, mut response: reqwest::Response) -> Result<Value, PlaneFault> {
        let status = response.status().as_u16();
        let header = |name: &str| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let content_type = header(CONTENT_TYPE.as_str());
        let retry_after = header(RETRY_AFTER.as_str());
        if let Some(remaining) = header("x-ratelimit-remaining").and_then(|text| text.parse().ok()) {
            lock(&self.budget).correct(remaining, Timestamp::now());
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(transport_fault)? {
            body.extend_from_slice(&chunk);
            if body.len() > LONGEST_ANSWER {
                return Err(PlaneFault::Unexpected(format!("more than {LONGEST_ANSWER} bytes")));
            }
        }
        let answer = Answer {
            status,
            content_type: content_type.as_deref(),
            retry_after: retry_after.as_deref(),
            body: &body,
        };
        let read = plane_answer::read(&answer);
        if let Err(PlaneRefusal::RateLimited { retry_after }) = &read {
            lock(&self.budget).close(*retry_after, Timestamp::now());
        }
        Ok(read?)
    }
}

fn transport_fault(error: reqwest::Error) -> PlaneFault {
    if error.is_timeout() {
        return PlaneFault::TimedOut;
    }
    // reqwest's own message names the URL and nothing else; the cause is in the chain.
    let mut cause: &dyn std::error::Error = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    PlaneFault::Unreachable(cause.to_string())
}

/// A poisoned lock holds a budget or a cache: still good after a panic elsewhere.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
