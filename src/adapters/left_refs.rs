//! What ended runs leave in a repository: a branch that will never be a pull request, or work that the gate
//! refused. Each goes only while it is as its run pushed it.

use std::path::Path;

use tokio::time::Instant;

use super::delivery::Delivery;
use super::git::{GitError, Remote};
use super::result_ref;
use crate::domain::sweep::LeftRef;

/// Those that are there.
#[derive(Debug)]
pub struct LeftRefs {
    delivery: Delivery,
    /// With the commit that each points to.
    found: Vec<(LeftRef, String)>,
}

impl LeftRefs {
    /// Looks for them, with one request for all. `place` is a directory of our own, which holds a repository
    /// afterwards.
    pub async fn find(
        remote: Remote,
        wanted: &[LeftRef],
        place: &Path,
        deadline: Instant,
    ) -> Result<Self, GitError> {
        let delivery = Delivery::new(place, remote, deadline).await?;
        let names: Vec<String> = wanted.iter().map(LeftRef::name).collect();
        let there = delivery.remote_refs(&names).await?;
        let wanted_as = |name: &str| wanted.iter().find(|left| left.name() == name).cloned();
        let found = there.into_iter().filter_map(|(name, commit)| Some((wanted_as(&name)?, commit)));
        Ok(Self { found: found.collect(), delivery })
    }

    /// Those that are there.
    pub fn found(&self) -> impl Iterator<Item = &LeftRef> {
        self.found.iter().map(|(left, _)| left)
    }

    /// Whether one of them is as its run pushed it: two requests for a branch.
    pub async fn is_as_pushed(&self, left: &LeftRef) -> Result<bool, GitError> {
        let LeftRef::Branch(run) = left else { return Ok(true) };
        // A run pushes its branch and its result together: another commit is somebody else's.
        let pushed = result_ref::read_from(&self.delivery, run).await?.and_then(|result| result.head);
        Ok(self.found.iter().any(|(found, commit)| found == left && pushed.as_ref() == Some(commit)))
    }

    /// Removes one of them. That it was changed since it was found is an error.
    pub async fn remove(&self, left: &LeftRef) -> Result<(), GitError> {
        for (_, commit) in self.found.iter().filter(|(found, _)| found == left) {
            self.delivery.delete(&left.name(), commit).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::adapters::git::Git;
    use crate::domain::name::RunId;
    use crate::domain::result::{FailureClass, RunResult};

    struct World {
        home: tempfile::TempDir,
        run: RunId,
        deadline: Instant,
    }

    impl World {
        async fn new() -> Self {
            let home = tempfile::tempdir().unwrap();
            let deadline = Instant::now() + Duration::from_secs(60);
            std::fs::create_dir_all(home.path().join("astra/api.git")).unwrap();
            Git::init_bare(&home.path().join("astra/api.git"), deadline).await.unwrap();
            Self { home, run: "ast-1-x7k2p".parse().unwrap(), deadline }
        }

        fn remote(&self) -> Remote {
            let base = format!("file://{}", self.home.path().display());
            Remote::new(&base, &"astra/api".parse().unwrap(), None).unwrap()
        }

        fn place(&self) -> std::path::PathBuf {
            let place = self.home.path().join(format!("{:08x}", rand::random::<u32>()));
            std::fs::create_dir(&place).unwrap();
            place
        }

        fn branch(&self) -> LeftRef {
            LeftRef::Branch(self.run.clone())
        }

        async fn find(&self) -> LeftRefs {
            let wanted = [self.branch(), LeftRef::Refused(self.run.clone())];
            LeftRefs::find(self.remote(), &wanted, &self.place(), self.deadline).await.unwrap()
        }

        async fn has_branch(&self) -> bool {
            self.find().await.found().next().is_some()
        }

        async fn has_branch_as_pushed(&self) -> bool {
            self.find().await.is_as_pushed(&self.branch()).await.unwrap()
        }

        async fn branches(&self) -> Vec<(String, String)> {
            let delivery = Delivery::new(&self.place(), self.remote(), self.deadline).await.unwrap();
            delivery.remote_refs(&[format!("refs/heads/{}", self.run.branch())]).await.unwrap()
        }

        /// Pushes a branch, and a result that says this of it.
        async fn push(&self, text: &[u8], head: Option<&str>) -> String {
            let delivery = Delivery::new(&self.place(), self.remote(), self.deadline).await.unwrap();
            let work = delivery.result_commit(text, "work", 0).await.unwrap();
            let mut result = RunResult::without_work(self.run.clone(), FailureClass::Agent, "stopped");
            result.head = Some(head.unwrap_or(&work).to_owned());
            let document = serde_json::to_vec(&result).unwrap();
            let document = delivery.result_commit(&document, "result", 0).await.unwrap();
            let refs = [(format!("refs/heads/{}", self.run.branch()), work.clone())];
            delivery.push(&[refs.as_slice(), &[(self.run.result_ref(), document)]].concat()).await.unwrap();
            work
        }
    }

    #[tokio::test]
    async fn a_branch_as_its_run_pushed_it_goes() {
        let world = World::new().await;
        assert!(!world.has_branch().await, "there is none yet");
        world.push(b"work", None).await;
        let left = world.find().await;
        assert_eq!(left.found().collect::<Vec<_>>(), [&world.branch()]);
        assert!(world.has_branch_as_pushed().await);
        left.remove(&world.branch()).await.unwrap();
        assert_eq!(world.branches().await, []);
        assert!(!world.has_branch().await);
    }

    #[tokio::test]
    async fn a_branch_that_somebody_worked_on_is_seen() {
        let world = World::new().await;
        world.push(b"work", Some(&"a".repeat(40))).await;
        assert!(world.has_branch().await && !world.has_branch_as_pushed().await);
    }

    #[tokio::test]
    async fn a_branch_that_is_changed_meanwhile_stays() {
        let world = World::new().await;
        let commit = world.push(b"work", None).await;
        let mut left = world.find().await;
        left.found[0].1 = "a".repeat(40);
        assert!(left.remove(&world.branch()).await.is_err());
        assert_eq!(world.branches().await[0].1, commit);
    }

    #[tokio::test]
    async fn refused_work_goes() {
        let world = World::new().await;
        let delivery = Delivery::new(&world.place(), world.remote(), world.deadline).await.unwrap();
        let work = delivery.result_commit(b"work", "work", 0).await.unwrap();
        delivery.push(&[(world.run.refused_ref(), work)]).await.unwrap();
        let (left, refused) = (world.find().await, LeftRef::Refused(world.run.clone()));
        assert_eq!(left.found().collect::<Vec<_>>(), [&refused]);
        left.remove(&refused).await.unwrap();
        assert_eq!(delivery.remote_refs(&[world.run.refused_ref()]).await.unwrap(), []);
    }
}
