//! Reads the log of a run as it grows. What an agent writes into it is untrusted: the lines are
//! handed out as they are, and escaped by whoever prints them.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use anyhow::Context;

use super::RUN_LOG;
use crate::adapters::run_directory::RunDirectory;

/// A longer line is handed out in pieces, in bytes.
const LINE_LIMIT: usize = 64 << 10;
/// Read in one go at most, in bytes.
const READ_LIMIT: u64 = 1 << 20;

/// The log of a run, from where it was left.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    position: u64,
    begun: Vec<u8>,
}

impl LogReader {
    /// From the beginning of a run's log.
    pub fn new(directory: &RunDirectory) -> Self {
        Self { path: directory.path(RUN_LOG), position: 0, begun: Vec::new() }
    }

    /// All whole lines that have come since the last time; with `rest` also what has no line end yet.
    pub fn read(&mut self, rest: bool) -> anyhow::Result<Vec<String>> {
        let mut lines = Vec::new();
        while self.read_some(&mut lines).with_context(|| format!("read {}", self.path.display()))? {}
        if rest && !self.begun.is_empty() {
            self.hand_out(self.begun.len(), &mut lines);
        }
        Ok(lines)
    }

    /// `true`: there may be more.
    fn read_some(&mut self, lines: &mut Vec<String>) -> std::io::Result<bool> {
        // Not through a link and never waiting: the agent could have put a link or a FIFO there.
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let opened = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(&self.path);
        let mut file = match opened {
            Ok(file) if file.metadata()?.is_file() => file,
            Ok(_) => return Ok(false),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        file.seek(SeekFrom::Start(self.position))?;
        let mut bytes = Vec::new();
        file.take(READ_LIMIT).read_to_end(&mut bytes)?;
        self.position += bytes.len() as u64;
        let is_full = bytes.len() as u64 == READ_LIMIT;
        for byte in bytes {
            if byte == b'\n' {
                self.hand_out(self.begun.len(), lines);
            } else {
                self.begun.push(byte);
                if self.begun.len() == LINE_LIMIT {
                    self.hand_out(LINE_LIMIT, lines);
                }
            }
        }
        Ok(is_full)
    }

    fn hand_out(&mut self, length: usize, lines: &mut Vec<String>) {
        let bytes: Vec<u8> = self.begun.drain(..length).collect();
        lines.push(String::from_utf8_lossy(&bytes).trim_end_matches('\r').to_owned());
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn lines_come_once_and_whole() {
        let home = tempfile::tempdir().unwrap();
        let directory = RunDirectory::new(home.path());
        let mut reader = LogReader::new(&directory);
        assert!(reader.read(true).unwrap().is_empty());
        directory.write_bytes(RUN_LOG, b"one\r\ntw").unwrap();
        assert_eq!(reader.read(false).unwrap(), ["one"]);
        directory.write_bytes(RUN_LOG, b"one\r\ntwo\n\xffh").unwrap();
        assert_eq!(reader.read(false).unwrap(), ["two"]);
        assert_eq!(reader.read(true).unwrap(), ["\u{fffd}h"]);
    }

    #[test]
    fn a_long_line_comes_in_pieces() {
        let home = tempfile::tempdir().unwrap();
        let directory = RunDirectory::new(home.path());
        directory.write_bytes(RUN_LOG, &vec![b'x'; LINE_LIMIT * 20 + 1]).unwrap();
        let lines = LogReader::new(&directory).read(true).unwrap();
        assert_eq!(lines.len(), 21);
        assert_eq!(lines.iter().map(String::len).sum::<usize>(), LINE_LIMIT * 20 + 1);
    }

    #[test]
    fn a_link_is_not_followed_and_a_fifo_does_not_wait() {
        let home = tempfile::tempdir().unwrap();
        let directory = RunDirectory::new(home.path());
        let secret = home.path().join("secret");
        fs::write(&secret, "secret\n").unwrap();
        std::os::unix::fs::symlink(&secret, directory.path(RUN_LOG)).unwrap();
        assert!(LogReader::new(&directory).read(true).is_err());
        fs::remove_file(directory.path(RUN_LOG)).unwrap();
        let made = std::process::Command::new("mkfifo").arg(directory.path(RUN_LOG)).status().unwrap();
        assert!(made.success());
        assert!(LogReader::new(&directory).read(true).unwrap().is_empty());
    }
}
