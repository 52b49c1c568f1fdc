//! Opens files that hostile code may have prepared: beneath one directory, through no link, regular
//! files only, without waiting for a writer, and never more bytes than the reader asked for.
//!
//! Each component is opened by itself relative to the one before, without following links. That is
//! what `openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)` does in one call; this works on every
//! system and under seccomp filters that do not know `openat2`.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum BeneathError {
    /// A link, a pipe, a device, a directory: nothing that is opened.
    #[error("{path} is {kind}, not a regular file")]
    NotRegular {
        /// The path below the directory.
        path: String,
        /// What it is, with its article.
        kind: &'static str,
    },
    /// Longer than the caller takes.
    #[error("{path} has {bytes} bytes; at most {limit} are read")]
    TooLong {
        /// The path below the directory.
        path: String,
        /// Its size.
        bytes: u64,
        /// The caller's limit.
        limit: u64,
    },
    /// Anything else.
    #[error("{path} cannot be read")]
    Io {
        /// The path below the directory.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Reads a regular file of at most `limit` bytes; `None` if there is none.
///
/// `path` is relative, from plain components; `root` itself is trusted and may be reached by a link.
pub fn read_file(root: &Path, path: &str, limit: u64) -> Result<Option<Vec<u8>>, BeneathError> {
    let failed = |source: Errno| BeneathError::Io { path: path.to_owned(), source: source.into() };
    let mut directory = match open_directory_at(rustix::fs::CWD, root) {
        Err(Errno::NOENT) => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
    for component in parents.split('/').filter(|component| !component.is_empty()) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        directory = match rustix::fs::openat(&directory, component, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::NOTDIR) => {
                return Err(BeneathError::NotRegular { path: path.to_owned(), kind: "behind a link" });
            }
            opened => opened.map_err(failed)?,
        };
    }
    let stat = match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(None),
        stat => stat.map_err(failed)?,
    };
    let (file, stat) = open_regular(&directory, name, &stat, path)?;
    let bytes = u64::try_from(stat.st_size).unwrap_or(0);
    if bytes > limit {
        return Err(BeneathError::TooLong { path: path.to_owned(), bytes, limit });
    }
    read_open_file(file, path, limit).map(Some)
}

fn open_directory_at(at: impl AsFd, path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(at, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Opens what `stat` says is a regular file, and checks that this is what was opened.
pub(crate) fn open_regular(
    directory: impl AsFd,
    name: impl rustix::path::Arg,
    stat: &Stat,
    shown: &str,
) -> Result<(File, Stat), BeneathError> {
    let not_regular = |kind| BeneathError::NotRegular { path: shown.to_owned(), kind };
    let failed = |source: Errno| BeneathError::Io { path: shown.to_owned(), source: source.into() };
    // Looked at before it is opened: opening a device can do things.
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(not_regular(kind_of(stat)));
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, name, flags, Mode::empty()).map_err(failed)?;
    let opened = rustix::fs::fstat(&file).map_err(failed)?;
    if (opened.st_dev, opened.st_ino) != (stat.st_dev, stat.st_ino) {
        return Err(not_regular("being replaced"));
    }
    Ok((File::from(file), opened))
}

/// Reads at most `limit` bytes, whatever the file's size said before.
pub(crate) fn read_open_file(file: File, shown: &str, limit: u64) -> Result<Vec<u8>, BeneathError> {
    let mut content = Vec::new();
    file.take(limit.saturating_add(1))
        .read_to_end(&mut content)
        .map_err(|source| BeneathError::Io { path: shown.to_owned(), source })?;
    let bytes = content.len() as u64;
    if bytes > limit {
        return Err(BeneathError::TooLong { path: shown.to_owned(), bytes, limit });
    }
    Ok(content)
}

/// What a directory entry is, with its article.
pub(crate) fn kind_of(stat: &Stat) -> &'static str {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a link",
        FileType::Fifo => "a pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Unknown => "of an unknown kind",
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn read(root: &Path, path: &str) -> Result<Option<Vec<u8>>, String> {
        read_file(root, path, 10).map_err(|error| error.to_string())
    }

    #[test]
    fn only_a_regular_file_within_its_limit_is_read() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join("root");
        fs::create_dir_all(root.join("dir")).unwrap();
        fs::write(home.path().join("secret"), "secret").unwrap();
        fs::write(root.join("dir/good"), "0123456789").unwrap();
        fs::write(root.join("long"), "0123456789a").unwrap();
        symlink("../secret", root.join("link")).unwrap();
        symlink("..", root.join("up")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, root.join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        fs::File::create(root.join("sparse")).unwrap().set_len(10 << 30).unwrap();

        assert_eq!(read(&root, "dir/good").unwrap().unwrap(), b"0123456789");
        for absent in ["absent", "dir/absent", "absent/absent"] {
            assert_eq!(read(&root, absent), Ok(None));
        }
        assert_eq!(read(&home.path().join("absent"), "x"), Ok(None));
        let refused = |path: &str| read(&root, path).unwrap_err();
        assert_eq!(refused("long"), "long has 11 bytes; at most 10 are read");
        assert_eq!(refused("sparse"), "sparse has 10737418240 bytes; at most 10 are read");
        assert_eq!(refused("link"), "link is a link, not a regular file");
        assert_eq!(refused("up/secret"), "up/secret is behind a link, not a regular file");
        assert_eq!(refused("pipe"), "pipe is a pipe, not a regular file");
        assert_eq!(refused("dir"), "dir is a directory, not a regular file");
    }

    #[test]
    fn devices_are_not_even_opened() {
        assert_eq!(read(Path::new("/dev"), "zero").unwrap_err(), "zero is a device, not a regular file");
    }

    #[test]
    fn a_file_that_grows_is_cut_off() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("f"), "0123456789abcdef").unwrap();
        let file = File::open(root.path().join("f")).unwrap();
        assert!(matches!(read_open_file(file, "f", 10), Err(BeneathError::TooLong { bytes: 11, .. })));
    }
}
