//! Runs as child processes on this machine: where they live, and how their supervisors start.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context;

use crate::adapters::run_directory::{RunDirectory, make_directory};
use crate::adapters::vault_file::paths_for_child;
use crate::domain::name::RunId;
use crate::output::workflow::WORKFLOW_VARIABLE;

pub mod executor;
pub mod log_reader;
pub mod phase_process;

/// Where the local executor keeps everything: `store.sqlite3` and `runs/<run>/`.
#[derive(Debug, Clone)]
pub struct StateDirectory {
    root: PathBuf,
}

impl StateDirectory {
    /// The given directory, else `${XDG_STATE_HOME:-~/.local/state}/astra-dispatch/<workspace>`.
    /// Made if it is not there, for this user only.
    pub fn open(
        given: Option<&Path>,
        workspace: &str,
        variable: impl Fn(&str) -> Option<PathBuf>,
    ) -> anyhow::Result<Self> {
        let root = match given {
            Some(given) => std::path::absolute(given).context("find the state directory")?,
            None => default_state_home(variable)?.join("astra-dispatch").join(workspace),
        };
        make_directory(&root).with_context(|| format!("make directory {}", root.display()))?;
        // Links resolved once, so that confinement and comparisons see one path.
        let root = root.canonicalize().with_context(|| format!("find {}", root.display()))?;
        make_directory(&root.join("runs")).context("make the directory of the runs")?;
        Ok(Self { root })
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The database of ledger, runs and snapshots.
    pub fn store(&self) -> PathBuf {
        self.root.join("store.sqlite3")
    }

    /// The database of the relay.
    pub fn relay_spool(&self) -> PathBuf {
        self.root.join("relay.sqlite3")
    }

    /// The directory of one run.
    pub fn run(&self, run: &RunId) -> RunDirectory {
        RunDirectory::new(self.root.join("runs").join(run.as_str()))
    }
}

fn default_state_home(variable: impl Fn(&str) -> Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let absolute = |name| variable(name).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state"))).ok_or_else(
        || {
            crate::error::UserError::usage(
                "there is no place for the state: neither XDG_STATE_HOME nor HOME is set",
                "give --state-dir",
            )
            .into()
        },
    )
}

/// What the supervisor, the phases and the agent's program say, within a run's directory.
pub const RUN_LOG: &str = "run.log";

/// The run's log, for appending.
fn open_log(directory: &RunDirectory) -> anyhow::Result<File> {
    let path = directory.path(RUN_LOG);
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))
}

/// Starts the supervisor of a released run: a process of its own that outlives the caller. It makes
/// its own session first of all, and claims the run; where another was faster, it ends at once.
///
/// It inherits the caller's environment, which is where credentials come from locally: they are
/// never in its arguments or in a file.
pub fn start_supervisor(
    state: &StateDirectory,
    registry: &Path,
    git_base_url: &str,
    no_github: bool,
    run: &RunId,
) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("find the running program")?;
    let log = open_log(&state.run(run))?;
    let errors = log.try_clone().context("open the run's log twice")?;
    tokio::process::Command::new(program)
        .args(["run", "supervise", run.as_str(), "--state-dir"])
        .arg(state.root())
        .arg("--registry")
        .arg(registry)
        .args(["--git-base-url", git_base_url])
        .args(no_github.then_some("--no-github"))
        .current_dir(state.root())
        .envs(paths_for_child())
        // It is no step of a workflow: what it told the runner, even of what to hide, would stay in the log.
        .env_remove(WORKFLOW_VARIABLE)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .kill_on_drop(false)
        .spawn()
        .with_context(|| format!("start the supervisor of run {run}"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_has_a_usual_place() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        let with = |name: &'static str, value: &Path| {
            let value = value.to_owned();
            move |asked: &str| (asked == name).then(|| value.clone())
        };
        let state = StateDirectory::open(None, "astra", with("HOME", &home)).unwrap();
        assert_eq!(state.root(), home.join(".local/state/astra-dispatch/astra"));
        let state = StateDirectory::open(None, "astra", with("XDG_STATE_HOME", &home)).unwrap();
        assert_eq!(state.root(), home.join("astra-dispatch/astra"));
        assert_eq!(state.store(), home.join("astra-dispatch/astra/store.sqlite3"));
        assert!(StateDirectory::open(None, "astra", with("XDG_STATE_HOME", Path::new("relative"))).is_err());
        let given = home.join("given");
        let state = StateDirectory::open(Some(&given), "astra", |_| None).unwrap();
        assert_eq!(state.root(), given);
    }
}
