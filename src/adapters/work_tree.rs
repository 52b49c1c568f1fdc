//! Compares a work tree that hostile code has left with the tree that it was given, without Git.
//!
//! Git's own `add` would obey the repository's attributes, filters, submodules and nested
//! repositories. This walk follows no link, opens regular files only, and takes:
//!
//! - every tracked file as it is now, byte for byte; one that is gone, or has become a pipe or
//!   device, is deleted;
//! - every other file unless the `.gitignore` files of the work tree name it, as `git add .` would
//!   (a person's own exclude files and `.git/info/exclude` do not count);
//! - files of nested repositories as ordinary files; anything called `.git` is passed over;
//! - a submodule as it was, unless something was put in its place.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use sha1::{Digest, Sha1};

use super::beneath;
use crate::domain::escape;
use crate::domain::gate::{
    MAX_CHANGED_FILES, MAX_FILE_BYTES, MAX_TOTAL_BYTES, MODE_EXECUTABLE, MODE_FILE, MODE_LINK, MODE_SUBMODULE,
};

mod ignored;

use ignored::IgnoreRules;

/// Directory entries that are looked at.
const MAX_ENTRIES: usize = 1_000_000;
/// Directories within directories.
const MAX_DEPTH: usize = 100;
/// A tracked file larger than this is taken for changed without reading it.
const MAX_HASHED_BYTES: u64 = 1 << 30;

/// The tree that the agent was given: mode and object name of each path.
pub type BaseTree = BTreeMap<Vec<u8>, (u32, String)>;

/// One difference from the base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkChange {
    /// The path is gone.
    Deleted(Vec<u8>),
    /// The path is new or other than it was.
    Written {
        /// The path within the work tree.
        path: Vec<u8>,
        /// Git's mode for it.
        mode: u32,
        /// Its bytes; of a link, where it leads.
        content: Vec<u8>,
    },
}

/// Why a work tree is not taken.
#[derive(Debug, thiserror::Error)]
pub enum WorkTreeError {
    /// More than the gate lets through, or than is looked at.
    #[error("{0}")]
    TooMuch(String),
    /// Something that cannot be read, not even after giving its owner the right.
    #[error("{path} cannot be read")]
    Unreadable {
        /// The path within the work tree.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no work tree any more.
    #[error("the workspace is gone")]
    Gone,
    /// It takes too long.
    #[error("the work tree could not be read in time")]
    TimedOut,
}

/// Reads `git ls-tree -r -z` (mode, type, name, tab, path).
pub fn parse_base(listing: &[u8]) -> Option<BaseTree> {
    let entry = |entry: &[u8]| {
        let tab = entry.iter().position(|&byte| byte == b'\t')?;
        let mut words = std::str::from_utf8(&entry[..tab]).ok()?.split(' ');
        let mode = u32::from_str_radix(words.next()?, 8).ok()?;
        Some((entry[tab + 1..].to_vec(), (mode, words.nth(1)?.to_owned())))
    };
    listing.split(|&byte| byte == 0).filter(|entry| !entry.is_empty()).map(entry).collect()
}

/// Every difference, deletions first.
pub fn changes(
    work_tree: &Path,
    base: &BaseTree,
    deadline: Instant,
) -> Result<Vec<WorkChange>, WorkTreeError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::openat(rustix::fs::CWD, work_tree, flags, Mode::empty())
        .map_err(|_| WorkTreeError::Gone)?;
    let mut walk = Walk {
        base,
        deadline,
        rules: IgnoreRules::default(),
        seen: BTreeSet::new(),
        written: Vec::new(),
        bytes: 0,
        entries: 0,
    };
    walk.directory(root, &[], 0, false)?;
    let kept = |path: &Vec<u8>, mode: u32| {
        walk.seen.contains(path)
            || (mode == MODE_SUBMODULE && !walk.seen.iter().any(|seen| is_below(seen, path)))
    };
    let deleted = base.iter().filter(|(path, (mode, _))| !kept(path, *mode));
    let mut changes: Vec<WorkChange> = deleted.map(|(path, _)| WorkChange::Deleted(path.clone())).collect();
    changes.append(&mut walk.written);
    if changes.len() > MAX_CHANGED_FILES {
        return Err(too_many(changes.len()));
    }
    Ok(changes)
}

fn is_below(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.first() == Some(&b'/'))
}

struct Walk<'a> {
    base: &'a BaseTree,
    deadline: Instant,
    rules: IgnoreRules,
    /// Paths that were found, changed or not; base paths that are missing here are deleted.
    seen: BTreeSet<Vec<u8>>,
    written: Vec<WorkChange>,
    bytes: u64,
    entries: usize,
}

impl Walk<'_> {
    fn directory(
        &mut self,
        directory: OwnedFd,
        path: &[u8],
        depth: usize,
        ignored: bool,
    ) -> Result<(), WorkTreeError> {
        if depth > MAX_DEPTH {
            return Err(WorkTreeError::TooMuch(format!(
                "directories lie more than {MAX_DEPTH} deep in each other"
            )));
        }
        let names = self.names(&directory, path)?;
        let has_rules = !ignored && names.iter().any(|name| name == b".gitignore");
        if has_rules {
            self.rules.enter(&directory, path);
        }
        for name in names {
            // Git takes no path with such a component, and a nested repository is no business of ours.
            if name.eq_ignore_ascii_case(b".git") {
                continue;
            }
            let separator: &[u8] = if path.is_empty() { b"" } else { b"/" };
            self.entry(&directory, &name, [path, separator, &name].concat(), depth, ignored)?;
        }
        if has_rules {
            self.rules.leave();
        }
        Ok(())
    }

    fn names(&mut self, directory: &OwnedFd, path: &[u8]) -> Result<Vec<Vec<u8>>, WorkTreeError> {
        let mut names = Vec::new();
        for entry in Dir::read_from(directory).map_err(|source| unreadable(path, source.into()))? {
            let entry = entry.map_err(|source| unreadable(path, source.into()))?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(name.to_vec());
            }
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(WorkTreeError::TooMuch(format!(
                    "the work tree has more than {MAX_ENTRIES} entries"
                )));
            }
        }
        if Instant::now() > self.deadline {
            return Err(WorkTreeError::TimedOut);
        }
        names.sort();
        Ok(names)
    }

    fn entry(
        &mut self,
        directory: &OwnedFd,
        name: &[u8],
        path: Vec<u8>,
        depth: usize,
        ignored: bool,
    ) -> Result<(), WorkTreeError> {
        let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|source| unreadable(&path, source.into()))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let tracked = self.base.get(&path).map(|(mode, _)| *mode);
        match kind {
            FileType::Directory => {
                let ignored = ignored || self.rules.ignores(&path, true);
                if ignored && !self.has_tracked_below(&path) {
                    return Ok(());
                }
                let child =
                    open_directory(directory, name, &stat).map_err(|source| unreadable(&path, source))?;
                self.directory(child, &path, depth + 1, ignored)
            }
            FileType::RegularFile | FileType::Symlink => {
                if tracked.is_none() && (ignored || self.rules.ignores(&path, false)) {
                    return Ok(());
                }
                if kind == FileType::Symlink {
                    self.link(directory, name, path)
                } else {
                    self.file(directory, name, path, &stat)
                }
            }
            // Pipes, sockets, devices: Git has no such thing.
            _ => Ok(()),
        }
    }

    fn has_tracked_below(&self, path: &[u8]) -> bool {
        let start = [path, b"/"].concat();
        self.base.range(start.clone()..).next().is_some_and(|(path, _)| path.starts_with(&start))
    }

    fn link(&mut self, directory: &OwnedFd, name: &[u8], path: Vec<u8>) -> Result<(), WorkTreeError> {
        let target = rustix::fs::readlinkat(directory, name, Vec::new())
            .map_err(|source| unreadable(&path, source.into()))?;
        self.found(path, MODE_LINK, target.into_bytes())
    }

    fn file(
        &mut self,
        directory: &OwnedFd,
        name: &[u8],
        path: Vec<u8>,
        stat: &Stat,
    ) -> Result<(), WorkTreeError> {
        let shown = shown(&path);
        let failed = |source: io::Error| WorkTreeError::Unreadable { path: shown.clone(), source };
        let mode = if stat.st_mode & 0o100 == 0 { MODE_FILE } else { MODE_EXECUTABLE };
        let opened = beneath::open_regular(directory, name, stat, &shown).or_else(|_| {
            permit(directory, name, stat, 0o600)?;
            beneath::open_regular(directory, name, stat, &shown).map_err(io::Error::other)
        });
        let (mut file, stat) = opened.map_err(failed)?;
        let bytes = u64::try_from(stat.st_size).unwrap_or(0);
        if bytes > MAX_FILE_BYTES {
            let unchanged = match self.base.get(&path) {
                Some((base_mode, id)) if same_mode(*base_mode, mode) && bytes <= MAX_HASHED_BYTES => {
                    *id == hash_stream(&mut file, bytes).map_err(failed)?
                }
                _ => false,
            };
            if unchanged {
                self.seen.insert(path);
                return Ok(());
            }
            let limit = MAX_FILE_BYTES >> 20;
            return Err(WorkTreeError::TooMuch(format!(
                "{shown} has {bytes} bytes; a changed file may have {limit} MiB"
            )));
        }
        let content = beneath::read_open_file(file, &shown, MAX_FILE_BYTES)
            .map_err(|error| WorkTreeError::TooMuch(error.to_string()))?;
        self.found(path, mode, content)
    }

    fn found(&mut self, path: Vec<u8>, mode: u32, content: Vec<u8>) -> Result<(), WorkTreeError> {
        let unchanged = self
            .base
            .get(&path)
            .is_some_and(|(base_mode, id)| same_mode(*base_mode, mode) && *id == hash(&content));
        self.seen.insert(path.clone());
        if unchanged {
            return Ok(());
        }
        self.bytes += content.len() as u64;
        if self.bytes > MAX_TOTAL_BYTES {
            let limit = MAX_TOTAL_BYTES >> 20;
            return Err(WorkTreeError::TooMuch(format!(
                "the changed files have more than {limit} MiB together"
            )));
        }
        self.written.push(WorkChange::Written { path, mode, content });
        if self.written.len() > MAX_CHANGED_FILES {
            return Err(too_many(self.written.len()));
        }
        Ok(())
    }
}

fn too_many(number: usize) -> WorkTreeError {
    WorkTreeError::TooMuch(format!("{number} or more files are changed; at most {MAX_CHANGED_FILES} may be"))
}

/// Old repositories have files of mode 100664, which Git reads as 100644.
fn same_mode(base: u32, found: u32) -> bool {
    base == found || (base == 0o100_664 && found == MODE_FILE)
}

fn hash(content: &[u8]) -> String {
    let header = format!("blob {}\0", content.len());
    hex::encode(Sha1::new().chain_update(header).chain_update(content).finalize())
}

fn hash_stream(file: &mut impl Read, bytes: u64) -> io::Result<String> {
    let mut hash = Sha1::new().chain_update(format!("blob {bytes}\0"));
    io::copy(&mut file.take(bytes), &mut hash)?;
    Ok(hex::encode(hash.finalize()))
}

fn open_directory(parent: &OwnedFd, name: &[u8], stat: &Stat) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(parent, name, flags, Mode::empty());
    match open() {
        // Readable but not searchable shows only below; owners get both back.
        Ok(directory) if stat.st_mode & 0o100 != 0 => Ok(directory),
        _ => {
            permit(parent, name, stat, 0o700)?;
            Ok(open()?)
        }
    }
}

/// Gives the owner (us) rights that the agent took away, on exactly the entry that was looked at.
fn permit(parent: &OwnedFd, name: &[u8], stat: &Stat, mode: u32) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    let handle =
        rustix::fs::openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let found = rustix::fs::fstat(&handle)?;
    if (found.st_dev, found.st_ino) != (stat.st_dev, stat.st_ino) {
        return Err(io::Error::other("it was replaced meanwhile"));
    }
    let mode = Mode::from_raw_mode((stat.st_mode & 0o777) | mode);
    // `fchmod` does not work on such a handle; its name in /proc does.
    Ok(rustix::fs::chmod(format!("/proc/self/fd/{}", handle.as_raw_fd()), mode)?)
}

fn unreadable(path: &[u8], source: io::Error) -> WorkTreeError {
    WorkTreeError::Unreadable { path: shown(path), source }
}

fn shown(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    let text = if text.is_empty() { "the work tree".into() } else { text };
    escape::terminal(&text).chars().take(300).collect()
}

#[cfg(test)]
mod tests;
