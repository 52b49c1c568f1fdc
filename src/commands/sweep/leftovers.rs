//! What runs that were published long ago, or were cancelled, leave behind: refs in repositories, Jobs,
//! directories.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::adapters::git::Remote;
use crate::adapters::left_refs::LeftRefs;
use crate::adapters::run_directory::RunDirectory;
use crate::commands::place::Place;
use crate::commands::word::Forge;
use crate::domain::job::{Job, JobPhase};
use crate::domain::name::Repository;
use crate::domain::sweep::{Action, LeftRef, SweepAction, is_old};

/// How long the refs of one repository may take.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// What is to be left behind no longer.
pub(super) struct Leftovers<'a> {
    pub(super) place: &'a Place,
    pub(super) now: Timestamp,
    /// Published runs are kept so long.
    pub(super) keep: SignedDuration,
}

impl Leftovers<'_> {
    /// Removes what these runs left. What cannot be removed is a problem, and is tried again by the next
    /// sweep: the last traces of a run go only after its refs.
    pub(super) async fn remove(&self, runs: &[Job], problems: &mut Vec<String>) -> Vec<SweepAction> {
        let mut wanted: BTreeMap<Repository, Vec<(&Job, LeftRef)>> = BTreeMap::new();
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
                    problems.push(format!("{} cannot be looked at: {error:#}", job.run));
                }
            }
        }
        let mut actions = Vec::new();
        for (repository, left) in wanted {
            if let Err(error) = self.remove_refs(&repository, &left, &mut actions).await {
                stuck.extend(left.iter().map(|(job, _)| &job.run));
                problems.push(format!("{repository}: what ended runs left cannot be removed: {error:#}"));
            }
        }
        for job in runs.iter().filter(|job| is_old(job, self.now, self.keep) && !stuck.contains(&job.run)) {
            match self.remove_traces(job).await {
                Ok(true) => actions.push(SweepAction::of_run(Action::Removed, job, None)),
                Ok(false) => {}
                Err(error) => problems.push(format!("{} cannot be removed: {error:#}", job.run)),
            }
        }
        actions
    }

    /// Removes refs of one repository. A branch that has a pull request stays, whoever opened it.
    async fn remove_refs(
        &self,
        repository: &Repository,
        wanted: &[(&Job, LeftRef)],
        actions: &mut Vec<SweepAction>,
    ) -> anyhow::Result<()> {
        let forge = self.place.forge();
        let pulls = match forge {
            Forge::GitHub(github) => Some(&github.pulls),
            Forge::Files if self.place.git_base_url().starts_with("file://") => None,
            // Nobody could say whether there is a pull request.
            Forge::Files | Forge::Closed => return Ok(()),
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
            let found = found?;
            for left in found.found() {
                if let (Some(pulls), LeftRef::Branch(run)) = (pulls, left)
                    && pulls.find(repository, &run.branch()).await?.is_some()
                {
                    continue;
                }
                found.remove(left).await?;
                let job = wanted.iter().find(|(_, wanted)| wanted == left).map(|(job, _)| job);
                let name = left.name();
                let action = |job: &&Job| SweepAction::of_run(Action::BranchRemoved, job, Some(name.clone()));
                actions.extend(job.map(action));
            }
            anyhow::Ok(())
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
