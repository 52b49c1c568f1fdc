//! Forwards what was stored: one `plane-event` for each edit, until GitHub has taken it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::{Notify, watch};

use super::metrics::Metrics;
use super::receive::stopped;
use crate::adapters::github::dispatches::Dispatches;
use crate::adapters::relay_spool::{Ended, Spool, SpoolError};
use crate::domain::event::{RELAY_VERSION, Relay};
use crate::domain::github_answer::GitHubFault;
use crate::domain::relay::coalesce::{Edit, SETTLE, edits};
use crate::domain::relay::envelope::{fit, wrap};

/// The name of the event in the workflow.
const EVENT: &str = "plane-event";
/// How many events are looked at together.
const MOST_PENDING: usize = 1_000;
/// Between two attempts, at first and at last.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LAST_DELAY: Duration = Duration::from_secs(120);
/// With nothing to do, the spool is looked at this often.
const IDLE: Duration = Duration::from_secs(3600);
/// A body that comes again within this time is not forwarded again.
const REMEMBERED: Duration = Duration::from_secs(30 * 24 * 3600);

/// The forwarding side.
pub(super) struct Forwarder {
    dispatches: Arc<Dispatches>,
    spool: Spool,
    arrived: Arc<Notify>,
    metrics: Arc<Metrics>,
    /// Ended, and not yet recorded because the disk is full.
    unrecorded: BTreeSet<i64>,
}

/// What comes next.
enum Next {
    /// Look again at once.
    Again,
    /// Nothing waits.
    Idle,
    /// Nothing is due for this long, whatever else arrives: an edit is due by its first event.
    Due(Duration),
    /// It failed.
    Failed(Failure),
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    GitHub(#[from] GitHubFault),
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

impl Forwarder {
    pub(super) fn new(
        dispatches: Arc<Dispatches>,
        spool: Spool,
        arrived: Arc<Notify>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { dispatches, spool, arrived, metrics, unrecorded: BTreeSet::new() }
    }

    /// Forwards until `stopping` says so; a dispatch under way is waited for.
    pub(super) async fn run(mut self, stopping: watch::Receiver<bool>) {
        let backoff = ExponentialBuilder::default()
            .with_min_delay(FIRST_DELAY)
            .with_max_delay(LAST_DELAY)
            .with_jitter()
            .without_max_times();
        let mut delays = backoff.build();
        while !*stopping.borrow() {
            let wait = match self.step().await.unwrap_or_else(Next::Failed) {
                Next::Again => {
                    delays = backoff.build();
                    continue;
                }
                Next::Idle => {
                    tokio::select! {
                        () = tokio::time::sleep(IDLE) => {}
                        () = self.arrived.notified() => {}
                        () = stopped(stopping.clone()) => {}
                    }
                    continue;
                }
                Next::Due(wait) => wait,
                Next::Failed(failure) => {
                    self.tell(&failure);
                    match failure {
                        Failure::GitHub(GitHubFault::RateLimited(wait)) => wait.max(FIRST_DELAY),
                        _ => delays.next().unwrap_or(LAST_DELAY),
                    }
                }
            };
            // More events shorten no wait.
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stopped(stopping.clone()) => {}
            }
        }
    }

    /// Says what went wrong.
    fn tell(&self, failure: &Failure) {
        match failure {
            Failure::GitHub(fault) => {
                self.metrics.dispatch(fault.name());
                log::warn!("{fault}; what to do: {}", fault.remedy());
            }
            Failure::Spool(error) => log::error!("{error}"),
        }
    }

    async fn step(&mut self) -> Result<Next, Failure> {
        self.record(&[]).await?;
        let pending = self.spool.pending(MOST_PENDING).await?;
        let Some(edit) = edits(&pending).into_iter().next() else {
            let before = Timestamp::now().checked_sub(REMEMBERED).unwrap_or(Timestamp::MIN);
            self.spool.forget(before).await?;
            return Ok(Next::Idle);
        };
        let early = edit.due.duration_since(Timestamp::now());
        if early.is_positive() {
            // No longer than that, also where somebody set the clock back.
            return Ok(Next::Due(early.unsigned_abs().min(SETTLE)));
        }
        // What could not be recorded would be sent twice.
        self.spool.probe().await?;
        self.forward(&edit).await
    }

    async fn forward(&mut self, edit: &Edit) -> Result<Next, Failure> {
        let Some(spooled) = self.spool.load(edit.newest).await? else { return Ok(Next::Again) };
        let Ok(body) = serde_json::from_str(&spooled.body) else {
            // Such as half a character that is written as an escape. The edit's other events may be readable.
            self.metrics.dispatch("unreadable_event");
            log::error!("an event cannot be read, so it is set aside: body_sha256 {}", spooled.sha256);
            self.spool.end(vec![edit.newest], Ended::Refused).await?;
            return Ok(Next::Again);
        };
        let fitted = fit(&body);
        let relay = Relay {
            version: RELAY_VERSION,
            received_at: spooled.received_at,
            body_sha256: spooled.sha256,
            coalesced: edit.fields.clone(),
            truncated: fitted.truncated,
        };
        let digest = relay.body_sha256.clone();
        let payload = wrap(fitted.body, &relay).map_err(|_| GitHubFault::Unreadable("an envelope"))?;
        match self.dispatches.raise(EVENT, &Value::Object(payload)).await {
            Ok(()) => {
                self.metrics.dispatch("forwarded");
                self.record(&edit.ids).await?;
            }
            Err(fault @ GitHubFault::Unfit { .. }) => {
                self.metrics.dispatch(fault.name());
                log::error!("{fault}, so this event is set aside: body_sha256 {digest}; {}", fault.remedy());
                self.spool.end(edit.ids.clone(), Ended::Refused).await?;
            }
            Err(fault) => return Ok(Next::Failed(fault.into())),
        }
        Ok(Next::Again)
    }

    /// Records what was forwarded. On a full disk it is remembered here, and nothing more is sent until it
    /// is recorded.
    async fn record(&mut self, ids: &[i64]) -> Result<(), SpoolError> {
        self.unrecorded.extend(ids);
        if self.unrecorded.is_empty() {
            return Ok(());
        }
        self.spool.end(self.unrecorded.iter().copied().collect(), Ended::Forwarded).await?;
        self.unrecorded.clear();
        Ok(())
    }
}
