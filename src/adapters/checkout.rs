//! A person's checkout: what it is, and files that are put into it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::adapters::vault_file;
use crate::domain::name::{Branch, Repository};
use crate::error::UserError;

/// A file while it is written, beside the one that it becomes.
const UNFINISHED: &str = ".astra-dispatch.unfinished";

/// The checkout that this runs in.
#[derive(Debug)]
pub struct Checkout {
    root: PathBuf,
}

impl Checkout {
    /// At its root: there the printed commands work as they are.
    pub fn here() -> anyhow::Result<Self> {
        let here = std::env::current_dir()?;
        let Some(root) = git(&here, &["rev-parse", "--show-toplevel"]) else {
            let (cause, remedy) = if has_program("git") {
                (
                    "this is no Git repository",
                    "go to the repository that agents shall work for, or make one with `git init`",
                )
            } else {
                ("there is no program `git`", "install it, such as with `apt-get install git`")
            };
            return Err(UserError::usage(cause, remedy).at(here.display().to_string()).into());
        };
        let root = PathBuf::from(root.trim_end_matches('\n'));
        if here.canonicalize()? != root.canonicalize()? {
            let remedy = format!("run it there: `cd {}`", root.display());
            return Err(UserError::usage("this is not the repository's root", remedy)
                .at(here.display().to_string())
                .into());
        }
        Ok(Self { root })
    }

    /// What `origin` is called on its server.
    pub fn repository(&self) -> Option<Repository> {
        let address = git(&self.root, &["remote", "get-url", "origin"])?;
        let mut parts = address.trim().trim_end_matches(".git").rsplit(['/', ':']);
        let (name, owner) = (parts.next()?, parts.next()?);
        format!("{owner}/{name}").parse().ok()
    }

    /// The branch that is checked out.
    pub fn branch(&self) -> Option<Branch> {
        git(&self.root, &["symbolic-ref", "--short", "HEAD"])?.trim().parse().ok()
    }

    /// The text of a file; `None`: it is not there.
    pub fn read(&self, path: &str) -> Result<Option<String>, UserError> {
        match fs::read_to_string(self.root.join(path)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                Err(UserError::failed(error.to_string(), "move it away, or make it readable").at(path))
            }
        }
    }

    /// Puts a file in its place, whole or not at all.
    pub fn write(&self, path: &str, text: &str) -> Result<(), UserError> {
        let path = self.root.join(path);
        let directory = path.parent().unwrap_or(&self.root);
        let made = fs::create_dir_all(directory).map_err(anyhow::Error::from);
        made.and_then(|()| vault_file::replace(&path, &directory.join(UNFINISHED), text.as_bytes())).map_err(
            |error| {
                UserError::failed(
                    format!("{error:#}"),
                    "make the directory writable, then run this again: it goes on from here",
                )
                .at(path.display().to_string())
            },
        )
    }
}

/// Whether a program is in the PATH.
pub fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
}

/// Output of a Git command that only reads. Not [`super::git`]: this is a person's checkout, where their
/// own configuration counts (`safe.directory`), but for what could start programs.
pub(super) fn git(directory: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(directory)
        .args(["-c", "core.fsmonitor=false", "-c", "log.showSignature=false", "--no-optional-locks"])
        .args(arguments)
        // Set where this runs in a hook; they would point to another repository or index.
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env_remove("GIT_INDEX_FILE")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_address_names_its_repository() {
        for (address, expected) in [
            ("https://github.com/acme/api.git", Some("acme/api")),
            ("https://github.com/acme/api", Some("acme/api")),
            ("git@github.com:acme/api.git", Some("acme/api")),
            ("ssh://git@github.com/acme/web.shop.git", Some("acme/web.shop")),
            ("file:///srv/git/acme/api.git", Some("acme/api")),
            ("/api", None),
        ] {
            let home = tempfile::tempdir().unwrap();
            git(home.path(), &["init", "--quiet"]).unwrap();
            git(home.path(), &["remote", "add", "origin", address]).unwrap();
            let found = Checkout { root: home.path().to_owned() }.repository();
            assert_eq!(found.map(|found| found.to_string()).as_deref(), expected, "{address}");
        }
    }
}
