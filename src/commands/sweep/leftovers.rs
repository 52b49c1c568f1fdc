//! What runs that were published long ago, or were cancelled, leave behind: refs in repositories, Jobs,
//! directories.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::adapters::git::{GitError, Remote, Trouble};
use crate::adapters::github::pulls::Pulls;
use crate::adapters::left_refs::LeftRefs;
use crate::adapters::run_directory::RunDirectory;
use crate::commands::place::Place;
use crate::commands::word::Forge;
use crate::domain::github_answer::GitHubFault;
use crate::domain::job::{Job, JobPhase};
use crate::domain::name::{Repository, RunId};
use crate::domain::sweep::{Action, LeftRef, SweepAction, is_old};
use crate::error::{Exit, UserError};

/// How long the refs of one repository may take.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// What is to be left behind no longer.
pub(super) struct Leftovers<'a> {
    pub(super) place: &'a Place,
    pub(super) now: Timestamp,
    /// Published runs are kept so long.
    pub(super) keep: SignedDuration,
}

/// What came of it.
#[derive(Default)]
pub(super) struct Removal {
    pub(super) actions: Vec<SweepAction>,
    /// What may go well next time.
    pub(super) problems: Vec<String>,
    /// What stays so until a person mends it, and how.
    pub(super) warnings: Vec<String>,
}

impl Removal {
    fn add(&mut self, what: String, error: &anyhow::Error) {
        match remedy(error) {
            Some(remedy) => self.warnings.push(format!("{what}: {error:#}; {remedy}")),
            None => self.problems.push(format!("{what}: {error:#}")),
        }
    }
}

impl Leftovers<'_> {
    /// Removes what these runs left. What cannot be removed is tried again by the next sweep: the last
    /// traces of a run go only after its refs. Refs of a place whose pull requests stay files are left to
    /// people, and keep nothing.
    pub(super) async fn remove(&self, runs: &[Job]) -> Removal {
        let mut wanted: BTreeMap<Repository, Vec<(&Job, LeftRef)>> = BTreeMap::new();
        let mut removal = Removal::default();
        let mut stuck = BTreeSet::new();
        for job in runs {
            let left = LeftRef::of(job, self.now, self.keep);
            if left.is_empty() {
                continue;
            }
            match self.place.repository_of(job).await {
                Ok(Some(repository)) => {
                    wanted.entry(repository).or_default().extend(left.into_iter().map(|left| (job, left)));
                }
                Ok(None) => {}
                Err(error) => {
                    stuck.insert(&job.run);
                    removal.problems.push(format!("{} cannot be looked at: {error:#}", job.run));
                }
            }
        }
        for (repository, left) in &wanted {
            match self.remove_refs(repository, left, &mut removal).await {
                Ok(left_there) => stuck.extend(left_there),
                Err(error) => {
                    stuck.extend(left.iter().map(|(job, _)| &job.run));
                    removal.add(format!("{repository}: what ended runs left cannot be removed"), &error);
                }
            }
        }
        for job in runs.iter().filter(|job| is_old(job, self.now, self.keep) && !stuck.contains(&job.run)) {
            match self.remove_traces(job).await {
                Ok(true) => removal.actions.push(SweepAction::of_run(Action::Removed, job, None)),
                Ok(false) => {}
                Err(error) => removal.problems.push(format!("{} cannot be removed: {error:#}", job.run)),
            }
        }
        removal
    }

    /// Removes refs of one repository, each whatever became of the others. Returns the runs of those that
    /// could not be removed.
    async fn remove_refs<'j>(
        &self,
        repository: &Repository,
        wanted: &[(&'j Job, LeftRef)],
        removal: &mut Removal,
    ) -> anyhow::Result<Vec<&'j RunId>> {
        let forge = self.place.forge();
        forge.must_be_open()?;
        let pulls = match forge {
            Forge::GitHub(github) => Some(&github.pulls),
            Forge::Files if self.place.git_base_url().starts_with("file://") => None,
            // Nobody could say whether there is a pull request.
            Forge::Files | Forge::Closed => return Ok(Vec::new()),
        };
        let token = match pulls {
            Some(pulls) => Some(pulls.writing_token(repository).await?),
            None => None,
        };
        let remote = Remote::new(self.place.git_base_url(), repository, token)?;
        // Several may sweep at once, and a sweep may be ended at any moment.
        let name = format!("left-{:016x}", rand::random::<u64>());
        let directory = RunDirectory::new(std::env::temp_dir()).fresh(&name)?;
        let refs: Vec<LeftRef> = wanted.iter().map(|(_, left)| left.clone()).collect();
        let found = LeftRefs::find(remote, &refs, &directory, Instant::now() + TIME_LIMIT).await;
        let removed = async {
            let (found, mut stuck) = (found?, Vec::new());
            for left in found.found() {
                let Some((job, _)) = wanted.iter().find(|(_, wanted)| wanted == left) else { continue };
                match remove_ref(&found, left, pulls, repository).await {
                    Ok(true) => {
                        let action = SweepAction::of_run(Action::BranchRemoved, job, Some(left.name()));
                        removal.actions.push(action);
                    }
                    Ok(false) => {}
                    Err(error) => {
                        stuck.push(&job.run);
                        removal.add(format!("{repository}: {} cannot be removed", left.name()), &error);
                    }
                }
            }
            anyhow::Ok(stuck)
        };
        let removed = removed.await;
        std::fs::remove_dir_all(&directory).with_context(|| format!("remove {}", directory.display()))?;
        removed
    }

    /// Removes what is left of a run here: its Job, or its directory. `false`: it is gone already.
    async fn remove_traces(&self, job: &Job) -> anyhow::Result<bool> {
        match self.place {
            Place::Local(local) => {
                let directory = local.executor.state.run(&job.run);
                if !directory.root().exists() {
                    return Ok(false);
                }
                std::fs::remove_dir_all(directory.root())
                    .with_context(|| format!("remove {}", directory.root().display()))?;
                Ok(true)
            }
            Place::Cluster(cluster) => {
                Ok(cluster.store.remove(&job.reference(), JobPhase::Published).await?)
            }
        }
    }
}

/// Removes one ref. `false`: it stays, because somebody worked on the branch or it has a pull request,
/// whoever opened it.
async fn remove_ref(
    found: &LeftRefs,
    left: &LeftRef,
    pulls: Option<&Pulls>,
    repository: &Repository,
) -> anyhow::Result<bool> {
    if !found.is_as_pushed(left).await? {
        return Ok(false);
    }
    if let (Some(pulls), LeftRef::Branch(run)) = (pulls, left)
        && pulls.find(repository, &run.branch()).await?.is_some()
    {
        return Ok(false);
    }
    found.remove(left).await?;
    Ok(true)
}

/// What a person can do about an error that stays until somebody does it; `None`: it may pass.
fn remedy(error: &anyhow::Error) -> Option<&str> {
    if let Some(fault) = error.downcast_ref::<GitHubFault>() {
        return (!fault.is_passing()).then(|| fault.remedy());
    }
    if let Some(error) = error.downcast_ref::<UserError>() {
        return (error.exit != Exit::Retry).then_some(error.remedy.as_str());
    }
    match error.downcast_ref::<GitError>()?.trouble() {
        Trouble::Authentication => Some(GitHubFault::NotAllowed.remedy()),
        Trouble::NoRepository => Some(GitHubFault::NotFound.remedy()),
        Trouble::Declined => Some("remove it by hand, or exempt branches astra/* from the repository's rule"),
        Trouble::NoRef | Trouble::RefExists | Trouble::Network | Trouble::DiskFull | Trouble::Other => None,
    }
}
