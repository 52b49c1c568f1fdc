//! Runs as child processes on this machine: where they live, and how their supervisors start.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context;

use crate::domain::name::RunId;

pub mod phase_process;

/// Where the local executor keeps everything: `store.sqlite3` and `runs/<run>/`.
#[derive(Debug, Clone)]
pub struct StateDirectory {
    root: PathBuf,
}

/// The directories of phases that exist before the first one starts.
const PHASE_DIRECTORIES: &[&str] =
    &["prepare", "agent", "agent/home", "agent/tmp", "agent/output", "collect", "deliver", "publish"];

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
        make_directory(&root)?;
        // Links resolved once, so that confinement and comparisons see one path.
        let root = root.canonicalize().with_context(|| format!("find {}", root.display()))?;
        make_directory(&root.join("runs"))?;
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

    /// The directory of one run.
    pub fn run(&self, run: &RunId) -> RunDirectory {
        RunDirectory { path: self.root.join("runs").join(run.as_str()) }
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

/// Made for this user only (0700), with its parents; one that is there is left as it is.
fn make_directory(path: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("make directory {}", path.display()))
}

/// The directory of one run (layout: [`crate::domain::phase`]).
#[derive(Debug, Clone)]
pub struct RunDirectory {
    path: PathBuf,
}

impl RunDirectory {
    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the supervisor and the phases say.
    pub fn log(&self) -> PathBuf {
        self.path.join("run.log")
    }

    /// What the agent's program says.
    pub fn transcript(&self) -> PathBuf {
        self.path.join("agent/transcript.log")
    }

    /// Makes the directory with everything that the phases read. Done again, it changes nothing
    /// but what was not complete.
    pub fn lay_out(&self, files: &[(&str, &str)]) -> anyhow::Result<()> {
        for directory in [""].iter().chain(PHASE_DIRECTORIES) {
            make_directory(&self.path.join(directory))?;
        }
        files.iter().try_for_each(|(name, text)| self.write(name, text))
    }

    /// Writes one file whole: a reader sees the old text or the new one.
    pub fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.path.join(name);
        let temporary = self.path.join(format!("{name}.{}.new", std::process::id()));
        let write = || {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, &path)
        };
        write().with_context(|| format!("write {}", path.display()))
    }

    /// Reads and parses one of our own JSON documents; `None` if it is not there.
    pub fn read_json<T: serde::de::DeserializeOwned>(&self, name: &str) -> anyhow::Result<Option<T>> {
        let path = self.path.join(name);
        match fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map(Some).with_context(|| format!("parse {}", path.display()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    /// The run's log, for appending.
    pub fn open_log(&self) -> anyhow::Result<File> {
        let path = self.log();
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("open {}", path.display()))
    }
}

/// Starts the supervisor of a released run: a process of its own that outlives the caller. It makes
/// its own session first of all, and claims the run; where another was faster, it ends at once.
///
/// It inherits the caller's environment, which is where credentials come from locally: they are
/// never in its arguments or in a file.
pub fn start_supervisor(state: &StateDirectory, registry: &Path, run: &RunId) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("find the running program")?;
    let log = state.run(run).open_log()?;
    let errors = log.try_clone().context("open the run's log twice")?;
    tokio::process::Command::new(program)
        .args(["run", "supervise", run.as_str(), "--state-dir"])
        .arg(state.root())
        .arg("--registry")
        .arg(registry)
        .current_dir(state.root())
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
    use std::os::unix::fs::PermissionsExt;

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

    #[test]
    fn a_run_directory_is_private_and_whole() {
        let home = tempfile::tempdir().unwrap();
        let state = StateDirectory::open(Some(home.path()), "astra", |_| None).unwrap();
        let run = state.run(&"ast-1-x7k2p".parse().unwrap());
        run.lay_out(&[("plan.json", "{\"a\": 1}"), ("task.md", "text")]).unwrap();
        run.lay_out(&[("plan.json", "{\"a\": 1}")]).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(run.path()), 0o700);
        assert_eq!(mode(&run.path().join("plan.json")), 0o600);
        assert!(run.path().join("agent/home").is_dir());
        let names: Vec<_> =
            fs::read_dir(run.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(names.iter().all(|name| !name.to_string_lossy().ends_with(".new")), "{names:?}");
        let read: Option<serde_json::Value> = run.read_json("plan.json").unwrap();
        assert_eq!(read, Some(serde_json::json!({"a": 1})));
        assert_eq!(run.read_json::<serde_json::Value>("none.json").unwrap(), None);
        assert!(run.read_json::<serde_json::Value>("task.md").is_err());
    }
}
