//! Waits for a run: shows how far it has got, follows it to its next attempt, and keeps things going
//! that a killed process has left.

use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::ProgressBar;
use jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::adapters::store::sqlite::LocalRun;
use crate::commands::cancel;
use crate::commands::local::{Local, store_error};
use crate::domain::escape;
use crate::domain::job::{CancelReason, Job, JobPhase};
use crate::domain::ledger::Entry;
use crate::domain::message;
use crate::domain::name::RunId;
use crate::domain::result::RunResult;
use crate::error::UserError;
use crate::output;

/// How often a waiting dispatcher looks at its run.
const POLL: Duration = Duration::from_millis(100);
/// A released run has a supervisor by then, or never; two more passes may start it again.
const START_WITHIN: Duration = Duration::from_secs(30);

/// How the waiting ended.
pub(in crate::commands) enum Waited {
    /// The run, or the attempt that took its place, is published.
    Ended(Box<RunResult>),
    /// It has ended, and cannot be published now: why.
    Unpublished(Box<RunResult>, String),
    /// The person left; this run goes on.
    Left(RunId),
}

/// Waits until the run is published. The first Ctrl-C cancels it, a second one leaves it to its
/// supervisor.
pub(super) async fn wait(local: &Local, run: RunId) -> anyhow::Result<Waited> {
    // One listener all the time: one that is made anew for each look misses signals in between.
    let mut interrupts = signal(SignalKind::interrupt()).context("listen for Ctrl-C")?;
    let mut watch = Watch::new(run);
    let ended = watch.until_over(local, &mut interrupts).await;
    watch.clear();
    let waited = ended?;
    if let Waited::Ended(result) | Waited::Unpublished(result, _) = &waited {
        let name = message::outcome_name(result.outcome);
        output::say(&format!("{}: {name}: {}", result.run, message::one_line(&result.reason, 300)));
    }
    Ok(waited)
}

/// The run that is waited for, and what was said of it.
struct Watch {
    run: RunId,
    said: Option<&'static str>,
    /// Since when the run may run and nobody carries it out.
    idle_since: Option<Instant>,
    /// On a terminal the present step is shown on one line that moves.
    spinner: Option<ProgressBar>,
}

impl Watch {
    fn new(run: RunId) -> Self {
        let spinner = output::is_fancy().then(ProgressBar::new_spinner);
        if let Some(spinner) = &spinner {
            spinner.enable_steady_tick(POLL);
        }
        Self { run, said: None, idle_since: None, spinner }
    }

    async fn until_over(&mut self, local: &Local, interrupts: &mut Signal) -> anyhow::Result<Waited> {
        let mut interrupted = false;
        let mut next_pass = Instant::now() + local.look_again();
        loop {
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                _ = interrupts.recv() => {
                    if interrupted {
                        let run = self.run.clone();
                        self.say(&format!("{run} is left to end by itself; see `astra-dispatch status`"));
                        return Ok(Waited::Left(run));
                    }
                    interrupted = true;
                    let stop = local.pass(Vec::new(), Some(self.run.clone())).await?.stop;
                    let words = cancel::words(stop, &self.run)?.unwrap_or(cancel::OVER);
                    self.say(&format!("{}: {words}; Ctrl-C again leaves it alone", self.run));
                }
            }
            // For runs whose supervisor was killed, and for retries.
            if Instant::now() >= next_pass {
                next_pass = Instant::now() + local.look_again();
                let mut report = local.pass(Vec::new(), None).await?;
                if let Some(why) = report.unpublished.remove(&self.run) {
                    return Ok(Waited::Unpublished(Box::new(local.ending(&self.run)?), why));
                }
            }
            let mut known = local.executor.store.run(&self.run).map_err(store_error)?;
            if let Some(next) = replacement(local, known.as_ref()).await? {
                let words = tried_again(known.as_ref(), &next, Timestamp::now());
                self.say(&escape::terminal(&format!("{}: {words}", self.run)));
                known = local.executor.store.run(&next.run).map_err(store_error)?;
                self.run = next.run;
                self.said = None;
            }
            self.show(step(local, &self.run, known.as_ref()));
            self.expect_supervisor(local, known.as_ref())?;
            if is_over(local, &self.run, known.as_ref()).await? {
                return Ok(Waited::Ended(Box::new(local.ending(&self.run)?)));
            }
        }
    }

    /// Gives up on a run that nobody begins: supervisors are started again and again, and end at once.
    fn expect_supervisor(&mut self, local: &Local, known: Option<&LocalRun>) -> anyhow::Result<()> {
        let is_idle = known.is_some_and(|known| {
            known.job.phase == JobPhase::Released && known.job.end.is_none() && known.supervisor.is_none()
        });
        let idle_since = *self.idle_since.get_or_insert_with(Instant::now);
        if !is_idle {
            self.idle_since = None;
        } else if idle_since.elapsed() > START_WITHIN + 2 * local.look_again() {
            return Err(UserError::failed(
                format!("no supervisor of run {} comes up", self.run),
                format!(
                    "see `astra-dispatch logs {}`; the run starts with the next command that can",
                    self.run
                ),
            )
            .into());
        }
        Ok(())
    }

    fn say(&self, text: &str) {
        match &self.spinner {
            Some(spinner) => spinner.suspend(|| output::say(text)),
            None => output::say(text),
        }
    }

    fn show(&mut self, step: Option<&'static str>) {
        let Some(step) = step.filter(|step| self.said != Some(*step)) else { return };
        self.said = Some(step);
        let line = format!("{}: {step}", self.run);
        match &self.spinner {
            Some(spinner) => spinner.set_message(line),
            None => output::say(&line),
        }
    }

    fn clear(&self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}

/// What a run is at.
fn step(local: &Local, run: &RunId, known: Option<&LocalRun>) -> Option<&'static str> {
    match known.map(|known| &known.job) {
        Some(job) if job.phase == JobPhase::Claimed => Some("publish"),
        Some(job) if job.end.is_some() && !local.claim_margin().is_zero() => {
            Some("wait until no move of its item can be under way")
        }
        _ => local.step(run),
    }
}

/// The attempt that took a run's place, whoever's pass made it.
async fn replacement(local: &Local, known: Option<&LocalRun>) -> anyhow::Result<Option<Entry>> {
    let Some(job) = known.map(|known| &known.job).filter(|job| is_replaced(job)) else { return Ok(None) };
    let entries = local.ledger().await?.entries;
    Ok(entries.into_iter().find(|entry| entry.item == job.item && entry.run != job.run))
}

/// Why an attempt was lost, and when the next one begins.
fn tried_again(lost: Option<&LocalRun>, next: &Entry, now: Timestamp) -> String {
    let failure = lost.and_then(|known| known.job.end.as_ref()?.failure.as_ref());
    let why =
        failure.map_or_else(|| "it was lost".to_owned(), |failure| message::one_line(&failure.reason, 300));
    let wait = next.not_before.map_or(0, |at| at.duration_since(now).as_secs());
    let when = if wait > 0 { format!("in {wait} s") } else { "now".to_owned() };
    format!("{why}; it is tried again {when}, as {} (attempt {})", next.run, next.attempt)
}

fn is_replaced(job: &Job) -> bool {
    job.cancel.as_ref().is_some_and(|cancel| cancel.reason == CancelReason::Replaced)
}

/// Published; or without a Job, and not one that waits out its back-off.
async fn is_over(local: &Local, run: &RunId, known: Option<&LocalRun>) -> anyhow::Result<bool> {
    Ok(match known {
        Some(known) => known.job.phase == JobPhase::Published,
        None => !local.ledger().await?.entries.iter().any(|entry| entry.run == *run),
    })
}
