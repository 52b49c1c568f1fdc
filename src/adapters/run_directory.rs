//! The directory of one run; its layout is described in [`crate::domain::phase`].

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::beneath;
use crate::domain::run_plan::{RUN_PLAN_VERSION, RunPlan};
use crate::error::UserError;

/// Longest document that is read from a run's directory, in bytes.
pub const DOCUMENT_LIMIT: u64 = 4 << 20;
/// The plan of the run.
pub const PLAN: &str = "plan.json";
/// What the run is for and how it came to be ([`crate::domain::publish::Subject`]).
pub const SUBJECT: &str = "subject.json";
/// The agent's system prompt.
pub const SYSTEM_PROMPT: &str = "system-prompt.md";
/// The agent's task prompt.
pub const TASK: &str = "task.md";
/// What `prepare` tells.
pub const PREPARE_REPORT: &str = "prepare/report.json";
/// What `agent` tells: a claim.
pub const AGENT_REPORT: &str = "agent/report.json";
/// The base commit and its trees, without the files' contents, out of the agent's reach.
pub const BASE_REPOSITORY: &str = "prepare/base.git";
/// Where the agent may write (`RUN_OUTPUT_DIR`).
pub const AGENT_OUTPUT: &str = "agent/output";
/// The agent's `HOME`.
pub const AGENT_HOME: &str = "agent/home";
/// The agent's `TMPDIR`.
pub const AGENT_TMP: &str = "agent/tmp";
/// What the agent's program printed, masked and cut.
pub const AGENT_TRANSCRIPT: &str = "agent/transcript.log";
/// What `collect` tells: a claim.
pub const COLLECT_REPORT: &str = "collect/report.json";
/// The work, as a Git bundle of [`WORK_REF`] on the base commit: a claim.
pub const BUNDLE: &str = "collect/work.bundle";
/// The ref in the bundle.
pub const WORK_REF: &str = "refs/heads/work";
/// What the run brought.
pub const RESULT: &str = "deliver/result.json";
/// What is to be told the world about the run, as data.
pub const PUBLISH_PLAN: &str = "publish/plan.json";
/// The same as a page.
pub const PUBLISH_PAGE: &str = "publish/plan.md";
/// What became of it on GitHub.
pub const PUBLISH_TOLD: &str = "publish/told.json";
/// The prints of the run's secrets ([`crate::domain::secret_scan::SecretPrints`]), for `deliver`.
pub const DELIVER_SECRETS: &str = "deliver-secrets.json";

/// One run's directory.
#[derive(Debug, Clone)]
pub struct RunDirectory {
    root: PathBuf,
}

impl RunDirectory {
    /// The run's directory at this place; nothing is read or made yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A place within it.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// The clone that the agent works in.
    pub fn workspace(&self) -> PathBuf {
        self.path("workspace")
    }

    /// The plan; a missing or unknown one is the caller's fault (exit 2).
    pub fn plan(&self) -> anyhow::Result<RunPlan> {
        let place = || self.path(PLAN).display().to_string();
        let plan: RunPlan = self.read(PLAN)?.ok_or_else(|| {
            UserError::usage("there is no plan of a run", "name the directory of a run with --run-dir")
                .at(place())
        })?;
        if plan.version != RUN_PLAN_VERSION {
            let cause = format!("version {} of the plan is not known", plan.version);
            return Err(UserError::usage(cause, "use one version of astra-dispatch throughout")
                .at(place())
                .into());
        }
        Ok(plan)
    }

    /// Reads a JSON document, not through links and never more than [`DOCUMENT_LIMIT`] bytes;
    /// `None` if there is none.
    pub fn read<T: DeserializeOwned>(&self, relative: &str) -> anyhow::Result<Option<T>> {
        let bytes = self.read_bytes(relative, DOCUMENT_LIMIT)?;
        let document = bytes.map(|bytes| serde_json::from_slice(&bytes)).transpose();
        document.with_context(|| format!("read {relative} of the run"))
    }

    /// Reads a file, not through links and never more than `limit` bytes; `None` if there is none.
    pub fn read_bytes(&self, relative: &str, limit: u64) -> anyhow::Result<Option<Vec<u8>>> {
        let read = || format!("read {relative} of the run");
        beneath::read_file(&self.root, relative, limit).with_context(read)
    }

    /// Writes a JSON document whole or not at all, readable by its owner only.
    pub fn write(&self, relative: &str, document: &impl Serialize) -> anyhow::Result<()> {
        let mut bytes =
            serde_json::to_vec_pretty(document).with_context(|| format!("write {relative} as JSON"))?;
        bytes.push(b'\n');
        self.write_bytes(relative, &bytes)
    }

    /// Writes a file whole or not at all, readable by its owner only.
    pub fn write_bytes(&self, relative: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let path = self.path(relative);
        let write = || -> std::io::Result<()> {
            if let Some(parent) = path.parent() {
                make_directory(parent)?;
            }
            let mut temporary = path.clone().into_os_string();
            temporary.push(format!(".{}.new", std::process::id()));
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            let written = file.write_all(bytes).and_then(|()| file.sync_all());
            written.and_then(|()| fs::rename(&temporary, &path)).inspect_err(|_| {
                // Nothing is left behind on a full disk.
                let _ = fs::remove_file(&temporary);
            })
        };
        write().with_context(|| format!("write {}", path.display()))
    }

    /// Makes an empty directory for a phase, in place of what an attempt before left there.
    pub fn fresh(&self, relative: &str) -> anyhow::Result<PathBuf> {
        let path = self.path(relative);
        make_empty(&path).with_context(|| format!("make {} afresh", path.display()))?;
        Ok(path)
    }
}

pub(super) fn make_directory(path: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The directory itself stays if it is there: in a pod it is a mount point.
fn make_empty(path: &Path) -> std::io::Result<()> {
    if fs::symlink_metadata(path).is_ok_and(|metadata| !metadata.is_dir()) {
        fs::remove_file(path)?;
    }
    make_directory(path)?;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_directory(&entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Removes a tree, also one whose directories were made unreadable.
fn remove_directory(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;

    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
            make_empty(path)?;
            fs::remove_dir(path)
        }
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn documents_are_written_whole_and_private() {
        let home = tempfile::tempdir().unwrap();
        let run = RunDirectory::new(home.path().join("run"));
        run.write("prepare/report.json", &[1, 2]).unwrap();
        assert_eq!(run.read::<Vec<u8>>("prepare/report.json").unwrap(), Some(vec![1, 2]));
        assert_eq!(run.read::<Vec<u8>>("agent/report.json").unwrap(), None);
        let mode = |path: &str| fs::metadata(run.path(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("prepare"), mode("prepare/report.json")), (0o700, 0o600));
        assert_eq!(fs::read_dir(run.path("prepare")).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_document_that_cannot_be_put_in_place_leaves_nothing() {
        let home = tempfile::tempdir().unwrap();
        let run = RunDirectory::new(home.path());
        fs::create_dir_all(run.path("deliver/result.json")).unwrap();
        let error = run.write(RESULT, &1).unwrap_err();
        assert!(format!("{error:#}").contains("deliver/result.json"), "{error:#}");
        assert_eq!(fs::read_dir(run.path("deliver")).unwrap().count(), 1);
    }

    #[test]
    fn a_phase_starts_afresh_whatever_is_there() {
        let home = tempfile::tempdir().unwrap();
        let run = RunDirectory::new(home.path());
        let outside = home.path().join("outside");
        fs::create_dir_all(outside.join("kept")).unwrap();
        let locked = run.path("workspace/locked/inner");
        fs::create_dir_all(&locked).unwrap();
        fs::write(locked.join("file"), "").unwrap();
        symlink(&outside, run.path("workspace/link")).unwrap();
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
        fs::set_permissions(locked.parent().unwrap(), fs::Permissions::from_mode(0o000)).unwrap();
        let workspace = run.fresh("workspace").unwrap();
        assert_eq!(fs::read_dir(workspace).unwrap().count(), 0);
        assert!(outside.join("kept").exists());

        symlink(&outside, run.path("collect")).unwrap();
        run.fresh("collect").unwrap();
        assert!(outside.join("kept").exists());
        assert!(!fs::symlink_metadata(run.path("collect")).unwrap().is_symlink());
    }

    #[test]
    fn a_missing_plan_is_wrong_usage() {
        let home = tempfile::tempdir().unwrap();
        let error = RunDirectory::new(home.path()).plan().unwrap_err();
        assert_eq!(error.downcast_ref::<UserError>().unwrap().exit, crate::error::Exit::Usage);
    }
}
