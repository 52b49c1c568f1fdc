//! `run deliver`: opens the work as hostile data, gates it, pushes it, and writes the result.
//!
//! Whatever the phases before report, there is a result at the end. Done again after a crash, it
//! finds what it pushed and comes to the same result.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::{deadline, git_failure, git_token, guard_credentials};
use crate::adapters::delivery::Delivery;
use crate::adapters::git::{GitError, Remote};
use crate::adapters::run_directory::{
    AGENT_REPORT, COLLECT_REPORT, DELIVER_SECRETS, PREPARE_REPORT, RESULT, RunDirectory,
};
use crate::cli::RunDeliverArgs;
use crate::domain::ending::{Reports, RunEnding, ending};
use crate::domain::gate::{self, Gate};
use crate::domain::phase::PhaseFailure;
use crate::domain::result::{FailureClass, Finding, RunOutcome, RunResult};
use crate::domain::result_copy::{LOG_LINE_LIMIT, LOG_LINE_PREFIX, TERMINATION_MESSAGE_LIMIT, copy};
use crate::domain::run_plan::RunPlan;
use crate::domain::secret_scan::{Scanner, SecretPrints};
use crate::domain::words;
use crate::error::{Exit, UserError};
use crate::output;

mod document;
mod opening;
mod pushing;

/// How long it may take.
const TIME_LIMIT: Duration = Duration::from_secs(2 * 60);

/// Carries the phase out.
pub async fn run(args: &RunDeliverArgs) -> anyhow::Result<Exit> {
    guard_credentials();
    super::end_with_supervisor()?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let directory = RunDirectory::new(&args.phase.run_dir);
    let interrupted = async move {
        terminate.recv().await;
    };
    let result = deliver(&directory, git_token(), interrupted).await?;
    if let Some(file) = &args.termination_message {
        write_termination_message(file, &result)?;
    }
    let line = copy(&result, LOG_LINE_LIMIT - LOG_LINE_PREFIX.len());
    output::result(&format!("{LOG_LINE_PREFIX}{line}"))?;
    Ok(Exit::Handled)
}

/// Not by renaming: in a pod the file is a mount.
fn write_termination_message(file: &Path, result: &RunResult) -> anyhow::Result<()> {
    std::fs::write(file, copy(result, TERMINATION_MESSAGE_LIMIT))
        .with_context(|| format!("write {}", file.display()))
}

/// Gates, pushes and writes the result. When `interrupted` ends first, nothing is pushed and there
/// is no result; once the push has begun, it is seen through.
pub async fn deliver(
    directory: &RunDirectory,
    token: Option<SecretString>,
    interrupted: impl Future<Output = ()>,
) -> anyhow::Result<RunResult> {
    let started = Instant::now();
    let plan = directory.plan()?;
    let place = directory.fresh("deliver")?.join("git");
    let remote = Remote::new(&plan.git_base_url, &plan.repository, token.clone())?;
    let run =
        Run { directory, plan: &plan, started, deadline: deadline(TIME_LIMIT), reports: reports(directory) };
    let ready = tokio::select! {
        biased;
        () = interrupted => {
            return Err(UserError::retry("stopped before anything was pushed", "deliver the run again").into());
        }
        ready = run.make_ready(&place, remote, token) => ready?,
    };
    let result = run.push(ready).await?;
    output::say(&format!("deliver: {}", result.reason));
    directory.write(RESULT, &result)?;
    Ok(result)
}

/// A report that cannot be read counts as none: `prepare`'s is ours, the others are claims.
fn reports(directory: &RunDirectory) -> Reports {
    fn read<T: DeserializeOwned>(directory: &RunDirectory, name: &str) -> Option<T> {
        directory.read(name).unwrap_or_else(|error| {
            output::say(&format!("deliver: {error:#}"));
            None
        })
    }
    Reports {
        prepare: read(directory, PREPARE_REPORT),
        agent: read(directory, AGENT_REPORT),
        collect: read(directory, COLLECT_REPORT),
    }
}

/// One delivery.
struct Run<'a> {
    directory: &'a RunDirectory,
    plan: &'a RunPlan,
    started: Instant,
    deadline: Instant,
    reports: Reports,
}

/// Everything is decided; only the push is left.
struct Ready {
    /// Where to push from; `None` where the remote was no use even to `prepare`.
    delivery: Option<Delivery>,
    /// How the run ends, if the push succeeds.
    ending: RunEnding,
    /// The gate's findings.
    findings: Vec<Finding>,
    /// The commit to push.
    commit: Option<String>,
    /// A secret was found: nothing may leave this place.
    is_secret: bool,
}

impl Run<'_> {
    fn base(&self) -> &str {
        self.reports.prepare.as_ref().map(|report| report.base_commit.as_str()).unwrap_or_default()
    }

    async fn make_ready(
        &self,
        place: &Path,
        remote: Remote,
        token: Option<SecretString>,
    ) -> anyhow::Result<Ready> {
        let ending = ending(&self.reports, self.plan.pull_request.is_some());
        let mut ready =
            Ready { delivery: None, ending, findings: Vec::new(), commit: None, is_secret: false };
        let gate = match self.gate(token) {
            Ok(gate) => gate,
            Err(error) => {
                let reason = format!("the gate cannot be set up: {error:#}");
                // Without it, not even words may leave.
                ready.ending =
                    RunEnding::failed(PhaseFailure { class: FailureClass::Infrastructure, reason });
                ready.is_secret = true;
                return Ok(ready);
            }
        };
        let is_prepared = self.reports.prepare.as_ref().is_some_and(|report| report.failure.is_none());
        if is_prepared {
            match Delivery::new(place, remote, self.deadline).await {
                Ok(delivery) => ready.delivery = Some(delivery),
                Err(error) => ready.fail(git_failure("make a private repository", &error)),
            }
        }
        if ready.ending.outcome == RunOutcome::Refused {
            ready.findings.push(gate::work_tree_finding(&words::sentence(&ready.ending.reason)));
        }
        if let (true, Some(delivery)) = (ready.ending.has_work, &ready.delivery) {
            output::say("deliver: looking through the work");
            let opened = opening::open(self.directory, self.plan, self.base(), delivery, &gate).await?;
            ready.take(opened);
        }
        let in_words = document::check_words(&gate, &self.reports);
        if !in_words.is_empty() {
            ready.refuse(in_words);
        }
        ready.is_secret |= ready.findings.iter().any(gate::is_secret);
        Ok(ready)
    }

    fn gate(&self, token: Option<SecretString>) -> anyhow::Result<Gate> {
        let prints: Option<SecretPrints> = self.directory.read(DELIVER_SECRETS)?;
        if prints.is_none() && !self.plan.credential_names.is_empty() {
            anyhow::bail!("{DELIVER_SECRETS} is missing, and the run has secrets");
        }
        let mut scanners = Vec::new();
        if let Some(prints) = prints {
            scanners.push(Scanner::new(&prints)?);
        }
        if let Some(token) = token {
            let own = SecretPrints::new(rand::random(), [("the Git token", token.expose_secret())]);
            scanners.push(Scanner::new(&own)?);
        }
        Gate::new(self.plan, scanners).context("read the protected paths")
    }

    /// Pushes what is ready and makes the result of how that went.
    async fn push(&self, mut ready: Ready) -> anyhow::Result<RunResult> {
        let result = document::result(self.plan, &self.reports, &ready, self.started.elapsed());
        let Some(delivery) = ready.delivery.take().filter(|_| !ready.is_secret) else { return Ok(result) };
        match pushing::push(&delivery, self.plan, &result, ready.commit.as_deref()).await? {
            Ok(pushed) => Ok(pushed),
            // A failure keeps its own reason: at the remote nothing is missing but its document.
            Err(failure) if result.branch.is_none() && result.class.is_some() => {
                output::say(&format!("deliver: {}", failure.reason));
                Ok(result)
            }
            Err(failure) => {
                ready.fail(failure);
                Ok(document::result(self.plan, &self.reports, &ready, self.started.elapsed()))
            }
        }
    }
}

impl Ready {
    fn fail(&mut self, failure: PhaseFailure) {
        self.ending = RunEnding::failed(failure);
        self.commit = None;
        self.findings.clear();
    }

    fn refuse(&mut self, findings: Vec<Finding>) {
        self.findings.extend(findings);
        self.findings = gate::kept(std::mem::take(&mut self.findings));
        self.ending = RunEnding::refused(gate::refusal(&self.findings));
    }

    fn take(&mut self, opened: opening::Opened) {
        match opened {
            opening::Opened::Passed(commit) => self.commit = Some(commit),
            opening::Opened::Refused { findings, commit } => {
                self.commit = commit;
                self.refuse(findings);
            }
            opening::Opened::Failed(failure) => self.fail(failure),
        }
    }
}

/// Trouble with git while `doing` something, as an outcome.
fn failure(doing: &str) -> impl Fn(GitError) -> PhaseFailure {
    move |error| git_failure(doing, &error)
}

#[cfg(test)]
mod tests;
