//! Reads a registry's files from its directory, and the time of its commit from Git.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use anyhow::Context;

use super::checkout::git;
use crate::domain::registry::{Content, Registry, SourceFile, Sources, parse};
use crate::error::UserError;

/// The most bytes that a registry file may have.
pub const LARGEST_FILE: u64 = 256 * 1024;
/// The most files that a registry may have.
pub const MOST_FILES: usize = 20_000;

/// Reads the registry and checks it; faults are an error that names the first of them.
/// Warnings are left to `agents check`.
pub fn load(directory: &Path) -> anyhow::Result<Registry> {
    match parse(&read(directory)?) {
        Ok(parsed) => Ok(parsed.registry),
        Err(faults) => {
            let first = faults.first().map(ToString::to_string).unwrap_or_default();
            let more = match faults.len() {
                0 | 1 => String::new(),
                count => format!(" (and {} more)", count - 1),
            };
            let remedy = format!("run `astra-dispatch agents check --registry {}`", directory.display());
            Err(UserError::usage(format!("the registry cannot be used: {first}{more}"), remedy)
                .at(directory.display().to_string())
                .into())
        }
    }
}

/// Reads all files of the registry, follows no link, and asks Git when it was committed.
pub fn read(directory: &Path) -> anyhow::Result<Sources> {
    if !directory.is_dir() {
        return Err(UserError::usage(
            "there is no registry here",
            "give its directory with --registry or ASTRA_REGISTRY",
        )
        .at(directory.display().to_string())
        .into());
    }
    let mut files = Vec::new();
    for name in ["astra.yaml", "vault.age"] {
        let path = directory.join(name);
        if fs::symlink_metadata(&path).is_ok() {
            files.push(SourceFile { path: name.to_owned(), content: read_file(&path) });
        }
    }
    for name in ["agents", "prompts"] {
        let path = directory.join(name);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => read_directory(&path, name, &mut files)?,
            Ok(metadata) => {
                let content = if metadata.is_symlink() {
                    Content::Link
                } else {
                    Content::Unreadable { reason: "it is no directory".to_owned() }
                };
                files.push(SourceFile { path: name.to_owned(), content });
            }
            Err(_) => {}
        }
    }
    Ok(Sources { files, ordinal: commit_time(directory) })
}

fn read_directory(directory: &Path, within: &str, files: &mut Vec<SourceFile>) -> anyhow::Result<()> {
    let entries = fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("list {}", directory.display()))?;
        let path = format!("{within}/{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type().with_context(|| format!("look at {}", entry.path().display()))?;
        if kind.is_dir() {
            read_directory(&entry.path(), &path, files)?;
            continue;
        }
        if files.len() == MOST_FILES {
            return Err(UserError::usage(
                format!("the registry has more than {MOST_FILES} files"),
                "remove what is not needed, or give another directory with --registry",
            )
            .at(within)
            .into());
        }
        files.push(SourceFile { path, content: read_file(&entry.path()) });
    }
    Ok(())
}

fn read_file(path: &Path) -> Content {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() => Content::Link,
        // Opening a pipe or a device could wait for ever.
        Ok(metadata) if !metadata.is_file() => {
            Content::Unreadable { reason: "it is no regular file".to_owned() }
        }
        Ok(_) => read_capped(path).unwrap_or_else(|error| Content::Unreadable { reason: error.to_string() }),
        Err(error) => Content::Unreadable { reason: error.to_string() },
    }
}

fn read_capped(path: &Path) -> io::Result<Content> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Ok(Content::TooLarge { limit: LARGEST_FILE });
    }
    Ok(Content::Bytes(bytes))
}

/// Committer time of HEAD in seconds; 0 without Git, without a commit, or where the registry differs
/// from its commit.
fn commit_time(directory: &Path) -> i64 {
    let unchanged =
        git(directory, &["status", "--porcelain", "--untracked-files=all", "--ignored", "--", "."])
            .is_some_and(|output| output.is_empty());
    if !unchanged {
        return 0;
    }
    git(directory, &["log", "-1", "--format=%ct", "HEAD"])
        .and_then(|output| output.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests;
