//! The slowest and surest copy of a run's result: the one that `deliver` pushed beside the work.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use tokio::time::Instant;

use super::delivery::Delivery;
use super::git::{GitError, Remote};
use super::run_directory::RunDirectory;
use crate::domain::name::RunId;
use crate::domain::result::{RESULT_VERSION, RunResult};

/// How long a remote may take to answer.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// Reads it, and leaves nothing behind. A remote that cannot be read: a [`GitError`].
pub async fn fetch(remote: Remote, run: &RunId) -> anyhow::Result<Option<RunResult>> {
    // Several may read at once, and a reader may be ended at any moment.
    let place = format!("result-{:016x}", rand::random::<u64>());
    let place = RunDirectory::new(std::env::temp_dir()).fresh(&place)?;
    let read = read(remote, run, &place, Instant::now() + TIME_LIMIT).await;
    std::fs::remove_dir_all(&place).with_context(|| format!("remove {}", place.display()))?;
    Ok(read?)
}

/// Reads it. `place` is a directory of our own, which holds a repository afterwards. `None`: the remote
/// has no result of this run, or one that we do not understand.
async fn read(
    remote: Remote,
    run: &RunId,
    place: &Path,
    deadline: Instant,
) -> Result<Option<RunResult>, GitError> {
    read_from(&Delivery::new(place, remote, deadline).await?, run).await
}

/// The same, with a repository that is there.
pub(super) async fn read_from(delivery: &Delivery, run: &RunId) -> Result<Option<RunResult>, GitError> {
    let refs = delivery.remote_refs(&[run.result_ref()]).await?;
    let Some((_, commit)) = refs.first() else { return Ok(None) };
    let document = delivery.fetch_result(commit).await?;
    let result = document.and_then(|document| serde_json::from_slice::<RunResult>(&document).ok());
    Ok(result.filter(|result| result.version == RESULT_VERSION && result.run == *run))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::git::{Git, Trouble};
    use crate::domain::result::FailureClass;

    struct World {
        home: tempfile::TempDir,
        deadline: Instant,
    }

    impl World {
        async fn new() -> Self {
            let home = tempfile::tempdir().unwrap();
            let deadline = Instant::now() + Duration::from_secs(60);
            std::fs::create_dir_all(home.path().join("astra/api.git")).unwrap();
            Git::init_bare(&home.path().join("astra/api.git"), deadline).await.unwrap();
            Self { home, deadline }
        }

        fn remote(&self, repository: &str) -> Remote {
            let base = format!("file://{}", self.home.path().display());
            Remote::new(&base, &repository.parse().unwrap(), None).unwrap()
        }

        fn place(&self) -> std::path::PathBuf {
            let place = self.home.path().join(format!("{:08x}", rand::random::<u32>()));
            std::fs::create_dir(&place).unwrap();
            place
        }

        /// Pushes a document as `deliver` does.
        async fn push(&self, run: &RunId, document: &[u8]) {
            let remote = self.remote("astra/api");
            let delivery = Delivery::new(&self.place(), remote, self.deadline).await.unwrap();
            let commit = delivery.result_commit(document, run.as_str(), 0).await.unwrap();
            delivery.push(&[(run.result_ref(), commit)]).await.unwrap();
        }

        async fn read(&self, run: &str) -> Option<RunResult> {
            let run = run.parse().unwrap();
            read(self.remote("astra/api"), &run, &self.place(), self.deadline).await.unwrap()
        }
    }

    fn result(run: &str) -> RunResult {
        RunResult::without_work(run.parse().unwrap(), FailureClass::Agent, "it had no idea")
    }

    #[tokio::test]
    async fn what_was_pushed_is_read() {
        let world = World::new().await;
        let result = result("ast-1-x7k2p");
        world.push(&result.run, &serde_json::to_vec(&result).unwrap()).await;
        assert_eq!(world.read("ast-1-x7k2p").await, Some(result));
        assert_eq!(world.read("ast-2-x7k2p").await, None);
    }

    #[tokio::test]
    async fn what_is_not_of_this_run_is_none() {
        let world = World::new().await;
        let other = serde_json::to_vec(&result("ast-9-x7k2p")).unwrap();
        let mut newer = result("ast-2-x7k2p");
        newer.version += 1;
        let newer = serde_json::to_vec(&newer).unwrap();
        let documents = [("ast-1-x7k2p", other), ("ast-2-x7k2p", newer), ("ast-3-x7k2p", b"{".to_vec())];
        for (run, document) in documents {
            world.push(&run.parse().unwrap(), &document).await;
            assert_eq!(world.read(run).await, None, "{run}");
        }
    }

    #[tokio::test]
    async fn a_repository_that_is_not_there_is_told_from_one_without_a_result() {
        let world = World::new().await;
        let run = "ast-1-x7k2p".parse().unwrap();
        let error = read(world.remote("astra/none"), &run, &world.place(), world.deadline).await.unwrap_err();
        assert_eq!(error.trouble(), Trouble::NoRepository, "{error}");
    }
}
