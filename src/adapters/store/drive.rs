//! Drives the machines of the protocol against a store: makes their calls, keeps their times.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use jiff::Timestamp;

use super::{Creation, Items, SecretWrite, Store, StoreError, StoreResult};
use crate::domain::job::{ItemState, Job};
use crate::domain::pass::{
    CLAIM_USE, Pass, PassEnd, Publication, PublicationEnd, Request, Response, SEND_WITHIN, StartWrite,
    StartWriteEnd, StateTarget, Step, WRITE_TIMEOUT,
};
use crate::domain::work_item::ItemRef;

/// Calls of one step that are made at once, at most.
const CONCURRENCY: usize = 16;
/// The mean pause of the first round; it doubles up to [`PAUSE_DOUBLINGS`] times.
const PAUSE: Duration = Duration::from_millis(4);
const PAUSE_DOUBLINGS: u32 = 7;

/// Where the states of work items are written: Plane.
pub trait ItemStates: Sync {
    /// Moves an item; `None`: refused or not answered (the caller gives it up after a time).
    fn write_state(
        &self,
        item: ItemRef,
        to: &StateTarget,
    ) -> impl Future<Output = anyhow::Result<ItemState>> + Send;
}

impl<T: ItemStates> ItemStates for &T {
    fn write_state(
        &self,
        item: ItemRef,
        to: &StateTarget,
    ) -> impl Future<Output = anyhow::Result<ItemState>> + Send {
        (**self).write_state(item, to)
    }
}

/// Publishes what a run brought. Repeated, it changes nothing.
pub trait Deliver: Sync {
    /// Pull request and comment, or the files that stand for them.
    fn deliver(&self, job: &Job) -> impl Future<Output = Result<(), Undelivered>> + Send;
}

/// Why what a run brought was not published.
#[derive(Debug)]
pub enum Undelivered {
    /// It was refused, and would be again: somebody has to mend something. Nothing of it is under way.
    Refused(anyhow::Error),
    /// It may do next time; something of it may still be under way.
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Undelivered {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// Runs a pass to its end. An error is one that no other answer could follow: the store is full, or
/// it does not let us at its ledger. The pass may be dropped at any time; a later one goes on from there.
pub async fn drive<'w>(
    mut pass: Pass<'w>,
    store: &impl Store,
    items: &impl Items,
) -> StoreResult<PassEnd<'w>> {
    let mut responses = Vec::new();
    loop {
        let requests = match pass.step(responses) {
            Step::Done(end) => return Ok(end),
            Step::Call(requests) => requests,
        };
        responses = futures_util::stream::iter(requests)
            .map(|request| async move { answer(&request, store, items).await })
            .buffered(CONCURRENCY)
            .collect::<Vec<_>>()
            .await
            .into_iter()
            .collect::<StoreResult<_>>()?;
    }
}

/// How long what was read may be acted upon.
#[derive(Debug, Clone, Copy)]
struct Limits {
    send_within: Duration,
    write_timeout: Duration,
    claim_use: Duration,
}

const LIMITS: Limits =
    Limits { send_within: SEND_WITHIN, write_timeout: WRITE_TIMEOUT, claim_use: CLAIM_USE };

/// Runs a *started* write to its end.
pub async fn drive_start_write(
    write: StartWrite,
    store: &impl Store,
    items: &impl Items,
    states: &impl ItemStates,
) -> StoreResult<StartWriteEnd> {
    start_write_within(LIMITS, write, store, items, states).await
}

async fn start_write_within(
    limits: Limits,
    mut write: StartWrite,
    store: &impl Store,
    items: &impl Items,
    states: &impl ItemStates,
) -> StoreResult<StartWriteEnd> {
    let mut responses = Vec::new();
    let mut reread_at = Instant::now();
    loop {
        let requests = match write.step(responses) {
            Step::Done(end) => return Ok(end),
            Step::Call(requests) => requests,
        };
        responses = Vec::with_capacity(requests.len());
        for request in requests {
            if matches!(request, Request::ReadItems(_)) {
                reread_at = Instant::now();
            }
            responses.push(match request {
                Request::WriteState { item, to } => write_state(limits, states, item, &to, reread_at).await,
                request => answer(&request, store, items).await?,
            });
        }
    }
}

/// Runs a publication to its end. After its claim it sends nothing more than [`CLAIM_USE`] allows.
pub async fn drive_publication(
    publication: Publication,
    store: &impl Store,
    items: &impl Items,
    states: &impl ItemStates,
    deliver: &impl Deliver,
) -> StoreResult<PublicationEnd> {
    publication_within(LIMITS, publication, store, items, states, deliver).await
}

async fn publication_within(
    limits: Limits,
    mut publication: Publication,
    store: &impl Store,
    items: &impl Items,
    states: &impl ItemStates,
    deliver: &impl Deliver,
) -> StoreResult<PublicationEnd> {
    let mut responses = Vec::new();
    let mut reread_at = Instant::now();
    let mut claimed_at = None;
    loop {
        let requests = match publication.step(responses) {
            Step::Done(end) => return Ok(end),
            Step::Call(requests) => requests,
        };
        responses = Vec::with_capacity(requests.len());
        for request in requests {
            if claimed_at.is_some_and(|at: Instant| at.elapsed() >= limits.claim_use) {
                responses.push(Response::Failed("the claim is too old to be used".to_owned()));
                continue;
            }
            match request {
                Request::ReadItems(_) => reread_at = Instant::now(),
                // From before it is sent: the claim's time can only be later.
                Request::Claim { .. } => claimed_at = Some(Instant::now()),
                _ => {}
            }
            responses.push(match request {
                Request::WriteState { item, to } => write_state(limits, states, item, &to, reread_at).await,
                Request::Deliver(job) => {
                    let left =
                        limits.claim_use.saturating_sub(claimed_at.map_or(Duration::ZERO, |at| at.elapsed()));
                    match tokio::time::timeout(left, deliver.deliver(&job)).await {
                        Ok(Ok(())) => Response::Done,
                        Ok(Err(Undelivered::Refused(error))) => Response::Refused(format!("{error:#}")),
                        Ok(Err(Undelivered::Failed(error))) => Response::Failed(format!("{error:#}")),
                        Err(_) => Response::Failed("it took longer than a claim is good for".to_owned()),
                    }
                }
                request => answer(&request, store, items).await?,
            });
        }
    }
}

/// Sends a write only soon after the re-reads that it rests on, and waits for it only so long: that
/// is what lets others know when it must be over.
async fn write_state(
    limits: Limits,
    states: &impl ItemStates,
    item: ItemRef,
    to: &StateTarget,
    reread_at: Instant,
) -> Response {
    if reread_at.elapsed() >= limits.send_within {
        return Response::Missed;
    }
    match tokio::time::timeout(limits.write_timeout, states.write_state(item, to)).await {
        Ok(Ok(state)) => Response::Written(state),
        Ok(Err(error)) => Response::Failed(format!("{error:#}")),
        Err(_) => Response::Failed("the write was not answered in time".to_owned()),
    }
}

/// Makes one call. Only what ends everything is an error.
async fn answer(request: &Request, store: &impl Store, items: &impl Items) -> StoreResult<Response> {
    let answered = match request {
        Request::ReadLedger => store.read_ledger().await.map(Response::Ledger),
        Request::ListJobs(namespace) => store.list_jobs(namespace).await.map(Response::Jobs),
        Request::FindJob { namespace, run } => store.find_job(namespace, run).await.map(found),
        Request::ReadItems(wanted) => Ok(Response::Items(items.read(wanted).await)),
        Request::Swap { version, ledger } => store.swap_ledger(version, ledger).await.map(done),
        Request::Create(new) => store.create_job(new).await.map(|creation| match creation {
            Creation::Created(uid) => Response::Created(uid),
            Creation::Exists(job) => Response::Exists(job),
            Creation::Refused(why) => Response::Refused(why),
        }),
        Request::WriteSecret(new, job) => store.write_secret(new, job).await.map(|write| match write {
            SecretWrite::Written => Response::Done,
            SecretWrite::Refused(why) => Response::Refused(why),
        }),
        Request::Release(job) => store.release(job).await.map(done),
        Request::Cancel(job, reason) => store.cancel(job, *reason).await.map(done),
        Request::Delete(job) => store.delete(job).await.map(done),
        Request::Close(job) => store.close(job).await.map(done),
        Request::Claim { job, seen, claim } => {
            store.claim(job, seen.as_ref(), claim).await.map(|claimed| match claimed {
                Some((job, now)) => found((Some(job), now)),
                None => Response::Missed,
            })
        }
        Request::RecordState(job, state) => store.record_item_state(job, state).await.map(done),
        Request::MarkPublished(job, holder) => store.mark_published(job, holder).await.map(done),
        Request::Pause(round) => {
            pause(*round).await;
            Ok(Response::Done)
        }
        Request::Deliver(_) | Request::WriteState { .. } => {
            Ok(Response::Failed("nobody here can do that".to_owned()))
        }
    };
    match answered {
        Ok(response) => Ok(response),
        Err(StoreError::BrokenLedger(why)) => Ok(Response::LedgerBroken(why)),
        Err(StoreError::Unavailable(why) | StoreError::NoCredentials(why)) => Ok(Response::Failed(why)),
        // One namespace may be closed to us; without the ledger nothing goes on.
        Err(StoreError::Denied(why)) if !matches!(request, Request::ReadLedger | Request::Swap { .. }) => {
            Ok(Response::Failed(why))
        }
        Err(fatal @ (StoreError::Full(_) | StoreError::Denied(_))) => Err(fatal),
    }
}

fn found((job, now): (Option<Job>, Timestamp)) -> Response {
    Response::Job(job.map(Box::new), now)
}

fn done(done: bool) -> Response {
    if done { Response::Done } else { Response::Missed }
}

/// Half to one and a half of the round's mean, so that those who collided do not do so again.
async fn pause(round: u32) {
    let mean = PAUSE.saturating_mul(1 << round.saturating_sub(1).min(PAUSE_DOUBLINGS));
    tokio::time::sleep(mean.mul_f64(rand::random_range(0.5..1.5))).await;
}

#[cfg(test)]
mod tests;
