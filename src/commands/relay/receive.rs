//! Receives webhooks: checks, filters, stores, and answers when the event is on the disk.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, watch};

use super::door::{Door, Hangup};
use super::metrics::Metrics;
use crate::adapters::relay_spool::{Arrival, Spool};
use crate::domain::relay::coalesce::Pending;
use crate::domain::relay::filter::{Filter, Head};
use crate::domain::relay::signature::{HEADER, Secrets};

/// The longest body. Plane takes requests up to 5 MB; what it sends holds the description twice, and
/// a letter of two bytes as six.
const LONGEST_BODY: usize = 32 * 1024 * 1024;
/// What the bodies of all requests may take at the same time, in KiB.
const MEMORY: usize = 128 * 1024;
/// How long a body may take. Plane gives up after 30 s.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);

/// The receiving side.
pub(super) struct Relay {
    secrets: Secrets,
    filter: Filter,
    spool: Spool,
    metrics: Arc<Metrics>,
    memory: Semaphore,
    arrived: Arc<Notify>,
}

/// What became of a request.
enum Outcome {
    /// Counted under this name, and answered like this.
    Answered(&'static str, StatusCode),
    /// It must come again, so it gets no answer.
    Unanswered,
}

impl Relay {
    pub(super) fn new(secrets: Secrets, filter: Filter, spool: Spool, metrics: Arc<Metrics>) -> Self {
        let (memory, arrived) = (Semaphore::new(MEMORY), Arc::new(Notify::new()));
        Self { secrets, filter, spool, metrics, memory, arrived }
    }

    /// Notified when an event was stored.
    pub(super) fn arrived(&self) -> Arc<Notify> {
        Arc::clone(&self.arrived)
    }

    async fn receive(&self, request: Request) -> Outcome {
        let (head, body) = request.into_parts();
        let length = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let Some(length): Option<usize> = length else {
            return Outcome::Answered("no_length", StatusCode::LENGTH_REQUIRED);
        };
        if length > LONGEST_BODY {
            return Outcome::Answered("too_large", StatusCode::PAYLOAD_TOO_LARGE);
        }
        // Whoever waits here is not read from, and holds nothing.
        let share = u32::try_from(length.div_ceil(1024)).unwrap_or(u32::MAX);
        let Ok(_memory) = self.memory.acquire_many(share).await else { return Outcome::Unanswered };
        let Ok(Ok(body)) = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, length)).await else {
            return Outcome::Unanswered;
        };
        let signature = head.headers.get(HEADER).map(|value| value.as_bytes());
        if !self.secrets.admit(&body, signature) {
            return Outcome::Answered("bad_signature", StatusCode::UNAUTHORIZED);
        }
        self.admitted(&body).await
    }

    async fn admitted(&self, body: &[u8]) -> Outcome {
        let event = std::str::from_utf8(body).ok().and_then(|text| Some((text, Head::read(text)?)));
        let Some((text, head)) = event else {
            return Outcome::Answered("unreadable", StatusCode::BAD_REQUEST);
        };
        if let Err(dropped) = self.filter.judge(&head) {
            return Outcome::Answered(dropped.name(), StatusCode::OK);
        }
        let pending = Pending {
            id: 0,
            item: head.item,
            field: head.field,
            updated_at: head.updated_at,
            received_at: Timestamp::now(),
        };
        let arrival = Arrival { sha256: Sha256::digest(body).into(), body: text.to_owned(), pending };
        match self.spool.store(arrival).await {
            Ok(true) => {
                self.arrived.notify_one();
                Outcome::Answered("stored", StatusCode::OK)
            }
            Ok(false) => Outcome::Answered("duplicate", StatusCode::OK),
            Err(error) => {
                log::error!("an event cannot be stored, Plane has to send it again: {error}");
                Outcome::Unanswered
            }
        }
    }
}

async fn webhook(
    State(relay): State<Arc<Relay>>,
    ConnectInfo(hangup): ConnectInfo<Hangup>,
    request: Request,
) -> Response {
    match relay.receive(request).await {
        Outcome::Answered(outcome, status) => {
            relay.metrics.delivery(outcome);
            if !status.is_success() {
                log::warn!("a webhook was refused: {outcome}");
            }
            status.into_response()
        }
        Outcome::Unanswered => {
            relay.metrics.delivery("unanswered");
            hangup.hang_up();
            // Never sent.
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
    }
}

async fn ready(State(relay): State<Arc<Relay>>) -> Response {
    match relay.spool.probe().await {
        Ok(()) => (StatusCode::OK, "ready\n").into_response(),
        Err(error) => {
            log::error!("not ready: {error}");
            (StatusCode::SERVICE_UNAVAILABLE, "the spool cannot be written\n").into_response()
        }
    }
}

async fn measured(State(relay): State<Arc<Relay>>) -> Response {
    if let Ok((waiting, since)) = relay.spool.count().await {
        let age = since.map_or(0, |since| Timestamp::now().as_second() - since.as_second());
        relay.metrics.backlog(waiting, age.max(0));
    }
    let kind = [(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    (kind, Body::from(relay.metrics.text())).into_response()
}

/// Serves until `stopping` says so; requests under way are answered.
pub(super) async fn serve(
    listener: TcpListener,
    relay: Relay,
    stopping: watch::Receiver<bool>,
    last: Duration,
) -> anyhow::Result<()> {
    let router = Router::new()
        .route("/plane", post(webhook))
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(measured))
        .with_state(Arc::new(relay));
    let service = router.into_make_service_with_connect_info::<Hangup>();
    let serving = axum::serve(Door(listener), service).with_graceful_shutdown(stopped(stopping.clone()));
    tokio::select! {
        served = serving => served.context("serve"),
        // A connection that is never finished does not hold us.
        () = async { stopped(stopping).await; tokio::time::sleep(last).await } => Ok(()),
    }
}

/// Returns when it is time to stop.
pub(super) async fn stopped(mut stopping: watch::Receiver<bool>) {
    // Nobody left to say so means the same.
    let _ = stopping.wait_for(|stop| *stop).await;
}
