//! Drives the machines of the protocol against a store: makes their calls, keeps their times.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use jiff::Timestamp;

use super::{Creation, Items, SecretWrite, Store, StoreError, StoreResult};
use crate::domain::job::{ItemState, Job};
use crate::domain::pass::{
    CLAIM_USE, ItemRead, Pass, PassEnd, Publication, PublicationEnd, REUSE_WITHIN, Request, Response,
    SEND_WITHIN, StartWrite, StartWriteEnd, StateTarget, Step, WRITE_TIMEOUT,
};
use crate::domain::request_budget::Importance;
use crate::domain::work_item::ItemRef;

/// Calls of one step that are made at once, at most.
const CONCURRENCY: usize = 16;
/// The mean pause of the first round; it doubles up to [`PAUSE_DOUBLINGS`] times.
const PAUSE: Duration = Duration::from_millis(4);
const PAUSE_DOUBLINGS: u32 = 7;

/// Where the states of work items are written: Plane.
pub trait ItemStates: Sync {
    /// Moves an item.
    fn write_state(
        &self,
        item: ItemRef,
        to: &StateTarget,
        importance: Importance,
    ) -> impl Future<Output = Result<ItemState, Undelivered>> + Send;
}

impl<T: ItemStates> ItemStates for &T {
    fn write_state(
        &self,
        item: ItemRef,
        to: &StateTarget,
        importance: Importance,
    ) -> impl Future<Output = Result<ItemState, Undelivered>> + Send {
        (**self).write_state(item, to, importance)
    }
}

/// Publishes what a run brought. Repeated, it changes nothing.
pub trait Deliver: Sync {
    /// What is known of a delivery until it is kept.
    type Told: Send + Sync;

    /// Pull request and comment, or the files that stand for them.
    fn deliver(&self, job: &Job) -> impl Future<Output = Result<Delivered<Self::Told>, Undelivered>> + Send;

    /// Keeps what was done for the run, the move of its item included: the last thing before it is marked.
    fn keep(
        &self,
        told: &Self::Told,
        moved: Option<&ItemState>,
    ) -> impl Future<Output = Result<(), Undelivered>> + Send;
}

/// What a run brought is published.
#[derive(Debug)]
pub struct Delivered<T> {
    /// Where its outcome moves the item; `None`: nowhere.
    pub outcome: Option<StateTarget>,
    /// For [`Deliver::keep`].
    pub told: T,
}

/// Why what a run brought was not published, or an item not moved.
#[derive(Debug)]
pub enum Undelivered {
    /// Nothing of it is under way: it was refused, and somebody has to mend something, or it could not even
    /// be begun.
    Refused(anyhow::Error),
    /// It may do next time; something of it may still be under way.
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Undelivered {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Undelivered> for Response {
    fn from(undelivered: Undelivered) -> Self {
        match undelivered {
            Undelivered::Refused(error) => Self::Refused(format!("{error:#}")),
            Undelivered::Failed(error) => Self::Failed(format!("{error:#}")),
        }
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
    reuse_within: Duration,
    send_within: Duration,
    write_timeout: Duration,
    claim_use: Duration,
}

const LIMITS: Limits = Limits {
    reuse_within: REUSE_WITHIN,
    send_within: SEND_WITHIN,
    write_timeout: WRITE_TIMEOUT,
    claim_use: CLAIM_USE,
};

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
            responses.push(match request {
                Request::ReadItems(wanted) => {
                    let (response, at) = reread(limits, items, &wanted).await;
                    reread_at = at;
                    response
                }
                Request::WriteState { item, to } => {
                    let written = states.write_state(item, &to, Importance::Start);
                    write_state(limits, written, reread_at).await
                }
                request => answer(&request, store, items).await?,
            });
        }
    }
}

/// Reads items before a write that rests on them; also since when they are known to be so.
async fn reread(limits: Limits, items: &impl Items, wanted: &[ItemRef]) -> (Response, Instant) {
    if let [only] = wanted
        && let Some((item, at)) = items.last_read(*only)
        && at.elapsed() < limits.reuse_within
    {
        return (Response::Items(vec![ItemRead::Found(Box::new(item))]), at);
    }
    let now = Instant::now();
    (Response::Items(items.read(wanted).await), now)
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
    let (mut told, mut moved) = (None, None);
    loop {
        let requests = match publication.step(responses) {
            Step::Done(end) => return Ok(end),
            Step::Call(requests) => requests,
        };
        responses = Vec::with_capacity(requests.len());
        for request in requests {
            let held = claimed_at.map_or(Duration::ZERO, |at: Instant| at.elapsed());
            let left = limits.claim_use.saturating_sub(held);
            if claimed_at.is_some() && left.is_zero() {
                responses.push(Response::Failed("the claim is too old to be used".to_owned()));
                continue;
            }
            responses.push(match request {
                Request::ReadItems(wanted) => {
                    let (response, at) = reread(limits, items, &wanted).await;
                    reread_at = at;
                    response
                }
                Request::WriteState { item, to } => {
                    let written = states.write_state(item, &to, Importance::FinalWord);
                    let written = write_state(limits, written, reread_at).await;
                    if let Response::Written(state) = &written {
                        moved = Some(state.clone());
                    }
                    written
                }
                Request::Deliver(job) => match within(left, deliver.deliver(&job)).await {
                    Ok(delivered) => {
                        told = Some(delivered.told);
                        Response::Delivered(delivered.outcome)
                    }
                    Err(response) => response,
                },
                request @ Request::MarkPublished(..) => {
                    match kept(left, deliver, told.as_ref(), moved.as_ref()).await {
                        Ok(()) => answer(&request, store, items).await?,
                        Err(response) => response,
                    }
                }
                request => {
                    if matches!(request, Request::Claim { .. }) {
                        // From before it is sent: the claim's time can only be later.
                        claimed_at = Some(Instant::now());
                    }
                    answer(&request, store, items).await?
                }
            });
        }
    }
}

/// Keeps what was told; without that, nothing is marked.
async fn kept<D: Deliver>(
    left: Duration,
    deliver: &D,
    told: Option<&D::Told>,
    moved: Option<&ItemState>,
) -> Result<(), Response> {
    match told {
        Some(told) => within(left, deliver.keep(told, moved)).await,
        None => Ok(()),
    }
}

/// Waits for something that a claim is needed for; else what the publication is to be told.
async fn within<T>(
    left: Duration,
    doing: impl Future<Output = Result<T, Undelivered>>,
) -> Result<T, Response> {
    match tokio::time::timeout(left, doing).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(undelivered)) => Err(undelivered.into()),
        Err(_) => Err(Response::Failed("it took longer than a claim is good for".to_owned())),
    }
}

/// Sends a write only soon after the re-reads that it rests on, and waits for it only so long: that
/// is what lets others know when it must be over.
async fn write_state(
    limits: Limits,
    write: impl Future<Output = Result<ItemState, Undelivered>>,
    reread_at: Instant,
) -> Response {
    if reread_at.elapsed() >= limits.send_within {
        return Response::Missed;
    }
    match tokio::time::timeout(limits.write_timeout, write).await {
        Ok(Ok(state)) => Response::Written(state),
        Ok(Err(unwritten)) => unwritten.into(),
        Err(_) => Response::Failed("the write was not answered in time".to_owned()),
    }
}

/// Makes one call. Only what ends everything is an error.
async fn answer(request: &Request, store: &impl Store, items: &impl Items) -> StoreResult<Response> {
    let answered = match request {
        Request::ReadLedger => store.read_ledger().await.map(Response::Ledger),
        Request::ListJobs(namespace) => store.list_jobs(namespace).await.map(Response::Jobs),
        Request::FindJob { namespace, run } => store.find_job(namespace, run).await.map(found),
        Request::FindResult(job) => store.has_pushed(job).await.map(done),
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
