//! `run collect`: turns the work tree into one commit on the base, as a bundle.
//!
//! The workspace's own `.git` counts for nothing, whatever it has become. Files are compared with
//! the base that `prepare` kept, and the changed ones are fed to `git fast-import` in a fresh
//! repository, which reads no attributes, filters or configuration of anyone's.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use serde::Deserialize;
use tokio::time::Instant;

use super::{deadline, git_failure};
use crate::adapters::beneath;
use crate::adapters::git::{Git, GitError};
use crate::adapters::run_directory::{
    AGENT_OUTPUT, AGENT_REPORT, BASE_REPOSITORY, BUNDLE, COLLECT_REPORT, PREPARE_REPORT, RunDirectory,
    WORK_REF,
};
use crate::adapters::work_tree::{self, WorkChange, WorkTreeError};
use crate::cli::RunPhaseArgs;
use crate::domain::commit;
use crate::domain::phase::{AgentEnding, AgentReport, CollectReport, PhaseFailure, PrepareReport};
use crate::domain::result::{FailureClass, LineComment, Review};
use crate::domain::run_plan::RunPlan;
use crate::domain::words;
use crate::error::Exit;
use crate::output;

/// How long it may take.
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// Longest `summary.md` that is read, in bytes.
const SUMMARY_LIMIT: u64 = 64 << 10;
/// Longest `review.json` that is read, in bytes.
const REVIEW_LIMIT: u64 = 512 << 10;

/// Carries the phase out.
pub async fn run(args: &RunPhaseArgs) -> anyhow::Result<Exit> {
    super::end_with_supervisor()?;
    collect(&RunDirectory::new(&args.run_dir)).await?;
    Ok(Exit::Handled)
}

/// Makes the bundle and writes the report.
pub async fn collect(directory: &RunDirectory) -> anyhow::Result<CollectReport> {
    let started = Instant::now();
    let plan = directory.plan()?;
    directory.fresh("collect")?;
    let mut report = CollectReport {
        commit: None,
        bundle_bytes: 0,
        summary: summary(directory),
        review: None,
        seconds: 0.0,
        failure: None,
    };
    let work = if plan.pull_request.is_some() {
        review(directory, &mut report)
    } else {
        bundle(directory, &plan, &mut report).await?
    };
    report.failure = work.err();
    report.seconds = started.elapsed().as_secs_f64();
    match (&report.failure, &report.commit) {
        (Some(failure), _) => output::say(&format!("collect: {}", failure.reason)),
        (None, Some(commit)) => {
            output::say(&format!("collect: commit {commit}, {} bytes", report.bundle_bytes))
        }
        (None, None) => output::say("collect: no commit"),
    }
    directory.write(COLLECT_REPORT, &report)?;
    Ok(report)
}

/// The agent's own words; none if they are not where and what they should be.
fn summary(directory: &RunDirectory) -> String {
    match beneath::read_file(directory.root(), &format!("{AGENT_OUTPUT}/summary.md"), SUMMARY_LIMIT) {
        Ok(text) => words::summary(&String::from_utf8_lossy(&text.unwrap_or_default())),
        Err(error) => {
            output::say(&format!("collect: no summary: {error}"));
            String::new()
        }
    }
}

/// A reviewer's verdict. Whatever it did to the files is not collected.
fn review(directory: &RunDirectory, report: &mut CollectReport) -> Result<(), PhaseFailure> {
    let failed = |reason: String| PhaseFailure { class: FailureClass::Agent, reason };
    let text = beneath::read_file(directory.root(), &format!("{AGENT_OUTPUT}/review.json"), REVIEW_LIMIT)
        .map_err(|error| failed(format!("the review cannot be used: {error}")))?;
    let Some(text) = text else { return Ok(()) };
    let review =
        read_review(&text).map_err(|error| failed(format!("review.json is not a review: {error}")))?;
    report.review = Some(review);
    Ok(())
}

/// One bad remark does not cost the whole review: it is left out, and the summary says so.
fn read_review(text: &[u8]) -> serde_json::Result<Review> {
    let mut document: serde_json::Value = serde_json::from_slice(text)?;
    let mut bad = 0;
    if let Some(serde_json::Value::Array(comments)) = document.get_mut("comments") {
        let all = comments.len();
        comments.retain(|comment| LineComment::deserialize(comment).is_ok_and(|comment| comment.line > 0));
        bad = all - comments.len();
    }
    let mut review = words::review(serde_json::from_value(document)?);
    if bad > 0 {
        review.summary.push_str(&format!("\n\n({bad} remarks could not be used and were left out.)"));
    }
    Ok(review)
}

async fn bundle(
    directory: &RunDirectory,
    plan: &RunPlan,
    report: &mut CollectReport,
) -> anyhow::Result<Result<(), PhaseFailure>> {
    let prepared: Option<PrepareReport> = directory.read(PREPARE_REPORT)?;
    let Some(base) = prepared.filter(|report| report.failure.is_none()).map(|report| report.base_commit)
    else {
        return Ok(Err(PhaseFailure {
            class: FailureClass::Infrastructure,
            reason: "there is no prepared workspace to collect from".into(),
        }));
    };
    // A claim, and one that can only make less of the work.
    let agent: Option<AgentReport> = directory.read(AGENT_REPORT).unwrap_or_default();
    let delivers =
        |ending| matches!(ending, AgentEnding::Done | AgentEnding::Partial | AgentEnding::TimedOut);
    if !agent.is_some_and(|agent| delivers(agent.ending)) {
        return Ok(Ok(()));
    }
    let workshop = Workshop { directory, plan, base: &base, deadline: deadline(TIME_LIMIT) };
    match workshop.make().await {
        Ok(made) => {
            if let Some((commit, bytes)) = made {
                report.commit = Some(commit);
                report.bundle_bytes = bytes;
            }
            Ok(Ok(()))
        }
        Err(CollectError::Work(error)) => Ok(Err(work_failure(&error))),
        Err(CollectError::Git(error)) => Ok(Err(git_failure("make the commit", &error))),
        Err(CollectError::Other(error)) => Err(error),
    }
}

fn work_failure(error: &WorkTreeError) -> PhaseFailure {
    let class = match error {
        WorkTreeError::TooMuch(_) => FailureClass::Policy,
        WorkTreeError::Unreadable { .. } | WorkTreeError::Gone | WorkTreeError::TimedOut => {
            FailureClass::Agent
        }
    };
    PhaseFailure { class, reason: error.to_string() }
}

#[derive(Debug, thiserror::Error)]
enum CollectError {
    #[error(transparent)]
    Work(#[from] WorkTreeError),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

struct Workshop<'a> {
    directory: &'a RunDirectory,
    plan: &'a RunPlan,
    base: &'a str,
    deadline: Instant,
}

impl Workshop<'_> {
    /// The commit and the size of its bundle; `None` where nothing changed.
    async fn make(&self) -> Result<Option<(String, u64)>, CollectError> {
        let git = self.repository().await?;
        let listing = git.run(["ls-tree", "-r", "-z", "--full-tree", "--end-of-options", self.base]).await?;
        let base = work_tree::parse_base(&listing).context("read the base tree")?;
        let changes = work_tree::changes(&self.directory.workspace(), &base, self.deadline.into_std())?;
        if changes.is_empty() {
            return Ok(None);
        }
        self.import(&git, changes).await?;
        let commit = git.line(["rev-parse", "--verify", WORK_REF]).await?;
        let bundle = self.directory.path(BUNDLE);
        let arguments = ["bundle".into(), "create".into(), "--quiet".into(), "--version=2".into()];
        let range = [bundle.clone().into_os_string(), format!("^{}", self.base).into(), WORK_REF.into()];
        git.run(arguments.into_iter().chain(range)).await?;
        let bytes =
            std::fs::metadata(&bundle).with_context(|| format!("look at {}", bundle.display()))?.len();
        Ok(Some((commit, bytes)))
    }

    /// A fresh repository that sees the base commit and its trees.
    async fn repository(&self) -> Result<Git, CollectError> {
        let git = Git::init_bare(&self.directory.path("collect/git"), self.deadline).await?;
        let objects = self.directory.path(BASE_REPOSITORY).join("objects");
        let objects = std::path::absolute(&objects).context("find the base repository")?;
        self.add_file(&git, "objects/info/alternates", objects.as_path())?;
        self.add_file(&git, "shallow", Path::new(self.base))?;
        Ok(git)
    }

    fn add_file(&self, git: &Git, name: &str, line: &Path) -> anyhow::Result<()> {
        let path = git.directory().join(name);
        let mut line = line.as_os_str().as_encoded_bytes().to_vec();
        line.push(b'\n');
        std::fs::write(&path, line).with_context(|| format!("write {}", path.display()))
    }

    async fn import(&self, git: &Git, changes: Vec<WorkChange>) -> Result<(), GitError> {
        let mut process = git.start(["fast-import", "--quiet", "--done", "--date-format=raw"])?;
        let identity = commit::identity(&self.plan.author);
        let message = commit::message(self.plan);
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let head = format!(
            "commit {WORK_REF}\nauthor {identity} {seconds} +0000\ncommitter {identity} {seconds} +0000\n\
             data {}\n{message}from {}\n",
            message.len(),
            self.base
        );
        process.write(head.as_bytes()).await?;
        for change in changes {
            match change {
                WorkChange::Deleted(path) => {
                    process.write(format!("D {}\n", quote(&path)).as_bytes()).await?
                }
                WorkChange::Written { path, mode, content } => {
                    let line = format!("M {mode:o} inline {}\ndata {}\n", quote(&path), content.len());
                    process.write(line.as_bytes()).await?;
                    process.write(&content).await?;
                    process.write(b"\n").await?;
                }
            }
        }
        process.write(b"done\n").await?;
        process.finish().await
    }
}

/// A path as `fast-import` reads it back: quoted, everything unusual in octal.
fn quote(path: &[u8]) -> String {
    let mut quoted = String::from("\"");
    for &byte in path {
        match byte {
            b'"' | b'\\' => quoted.extend(['\\', char::from(byte)]),
            b' '..=b'~' => quoted.push(char::from(byte)),
            _ => quoted.push_str(&format!("\\{byte:03o}")),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests;
