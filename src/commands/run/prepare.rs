//! `run prepare`: a fresh clone of the right branch, its commit pinned, no credential left behind.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use secrecy::SecretString;
use tokio::time::Instant;

use super::{deadline, git_failure, git_token, guard_credentials};
use crate::adapters::git::{Git, GitError, Remote, Trouble};
use crate::adapters::run_directory::{BASE_REPOSITORY, PREPARE_REPORT, RunDirectory};
use crate::cli::RunPhaseArgs;
use crate::domain::phase::{PhaseFailure, PrepareReport};
use crate::domain::run_plan::RunPlan;
use crate::error::Exit;
use crate::output;

/// How long a clone may take.
const TIME_LIMIT: Duration = Duration::from_secs(4 * 60);
/// Files reach the work tree, and come back from it, byte for byte: no line-end conversion, no
/// keyword, no encoding, no filter. This file beats every `.gitattributes` of the repository.
const RAW_ATTRIBUTES: &str = "* -text !eol -ident !filter !working-tree-encoding\n";

/// Carries the phase out.
pub async fn run(args: &RunPhaseArgs) -> anyhow::Result<Exit> {
    guard_credentials();
    super::end_with_supervisor()?;
    prepare(&RunDirectory::new(&args.run_dir), git_token()).await?;
    Ok(Exit::Handled)
}

/// Makes the workspace and writes the report.
pub async fn prepare(directory: &RunDirectory, token: Option<SecretString>) -> anyhow::Result<PrepareReport> {
    let started = Instant::now();
    let plan = directory.plan()?;
    directory.fresh("prepare")?;
    let workspace = directory.fresh("workspace")?;
    output::say(&format!("prepare: cloning {} of {}", source(&plan).0, plan.repository));
    let made = clone(&plan, &workspace, &directory.path(BASE_REPOSITORY), token).await?;
    let report = PrepareReport {
        seconds: started.elapsed().as_secs_f64(),
        base_commit: made.as_ref().cloned().unwrap_or_default(),
        failure: made.err(),
    };
    match &report.failure {
        None => output::say(&format!("prepare: at {}", report.base_commit)),
        Some(failure) => output::say(&format!("prepare: {}", failure.reason)),
    }
    directory.write(PREPARE_REPORT, &report)?;
    Ok(report)
}

/// What the work starts from: in words, as a ref of the remote, and as the ref that keeps it here.
fn source(plan: &RunPlan) -> (String, String, String) {
    match plan.pull_request {
        Some(number) => (
            format!("pull request #{number}"),
            format!("refs/pull/{number}/head"),
            format!("refs/remotes/origin/pull/{number}"),
        ),
        None => (
            format!("branch {}", plan.base),
            format!("refs/heads/{}", plan.base),
            format!("refs/remotes/origin/{}", plan.base),
        ),
    }
}

async fn clone(
    plan: &RunPlan,
    workspace: &Path,
    base_repository: &Path,
    token: Option<SecretString>,
) -> anyhow::Result<Result<String, PhaseFailure>> {
    let remote = Remote::new(&plan.git_base_url, &plan.repository, token)?;
    let deadline = deadline(TIME_LIMIT);
    let (name, _, _) = source(plan);
    let fetched = async {
        let git = Git::init_work_tree(workspace, deadline).await?;
        fetch(&git.with_remote(&remote), plan, &remote).await?;
        Ok::<_, GitError>(git)
    };
    let git = match fetched.await {
        Ok(git) => git,
        Err(error) => return Ok(Err(git_failure(&format!("clone {name} of {}", plan.repository), &error))),
    };
    let info = workspace.join(".git/info");
    let attributes =
        fs::create_dir_all(&info).and_then(|()| fs::write(info.join("attributes"), RAW_ATTRIBUTES));
    attributes.with_context(|| format!("write {}", info.display()))?;
    let made = match check_out(&git, plan).await {
        Ok(commit) => keep_base(&git, &commit, base_repository, deadline).await?.map(|()| commit),
        Err(error) => Err(error),
    };
    Ok(made.map_err(|error| git_failure(&format!("check out {name} of {}", plan.repository), &error)))
}

async fn fetch(git: &Git, plan: &RunPlan, remote: &Remote) -> Result<(), GitError> {
    let (_, from, to) = source(plan);
    let mut arguments: Vec<String> =
        ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", remote.url()]
            .map(str::to_owned)
            .to_vec();
    arguments.push(format!("+{from}:{to}"));
    if plan.pull_request.is_some() {
        // A reviewer compares with the branch that the pull request is for.
        arguments.push(format!("+refs/heads/{base}:refs/remotes/origin/{base}", base = plan.base));
    }
    match git.run(arguments).await {
        // Git takes a page without line ends for a repository without branches.
        Err(error)
            if error.trouble() == Trouble::NoRef
                && git.run(["ls-remote", remote.url()]).await?.is_empty() =>
        {
            Err(GitError::NothingThere)
        }
        fetched => fetched.map(drop),
    }
}

/// Checks the commit out on the run's own branch. There is no remote in the configuration: the
/// agent has nothing to push to.
async fn check_out(git: &Git, plan: &RunPlan) -> Result<String, GitError> {
    let (_, _, kept) = source(plan);
    let commit =
        git.line(["rev-parse", "--verify", "--end-of-options", &format!("{kept}^{{commit}}")]).await?;
    let branch = format!("refs/heads/{}", plan.run.branch());
    git.run(["update-ref", &branch, &commit]).await?;
    git.run(["symbolic-ref", "HEAD", &branch]).await?;
    git.run(["read-tree", "--reset", "-u", &commit]).await?;
    Ok(commit)
}

/// Keeps the base commit and its trees, without the files' contents, where the agent cannot reach
/// them: `collect` compares with these and trusts nothing in the workspace's own `.git`.
async fn keep_base(
    git: &Git,
    commit: &str,
    place: &Path,
    deadline: Instant,
) -> anyhow::Result<Result<(), GitError>> {
    let base = match Git::init_bare(place, deadline).await {
        Ok(base) => base,
        Err(error) => return Ok(Err(error)),
    };
    // Packed from within the new repository, which borrows the objects meanwhile: in a pod the two
    // are on different volumes, and Git renames what it wrote.
    let borrowed = base.directory().join("objects/info/alternates");
    let lender = git.directory().join("objects");
    fs::create_dir_all(base.directory().join("objects/info"))
        .and_then(|()| fs::write(&borrowed, format!("{}\n", lender.display())))
        .with_context(|| format!("write {}", borrowed.display()))?;
    let packed = async {
        let objects = git
            .run(["rev-list", "--objects", "--no-walk", "--filter=blob:none", "--end-of-options", commit])
            .await?;
        let pack = base.directory().join("objects/pack/pack").into_os_string();
        base.run_with_input(["pack-objects".into(), "--quiet".into(), pack], &objects).await
    };
    let packed = packed.await.map(drop);
    fs::remove_file(&borrowed).with_context(|| format!("remove {}", borrowed.display()))?;
    Ok(packed)
}

#[cfg(test)]
mod tests;
