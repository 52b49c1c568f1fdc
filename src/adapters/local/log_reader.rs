//! Reads the logs of a run as they grow. What an agent writes into its log is untrusted: the lines
//! are handed out as they are, and escaped by whoever prints them.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use anyhow::Context;

use super::{RUN_LOG, TRANSCRIPT};
use crate::adapters::run_directory::RunDirectory;

/// A longer line is handed out in pieces, in bytes.
const LINE_LIMIT: usize = 64 << 10;
/// Read in one go at most, in bytes.
const READ_LIMIT: u64 = 1 << 20;

/// A line and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// The agent's program wrote it; else the supervisor or a phase.
    pub is_agent: bool,
    /// The line, without its end.
    pub text: String,
}

/// Both logs of a run, each from where it was left.
#[derive(Debug)]
pub struct LogReader {
    tails: [Tail; 2],
}

#[derive(Debug)]
struct Tail {
    path: PathBuf,
    is_agent: bool,
    position: u64,
    begun: Vec<u8>,
}

impl LogReader {
    /// From the beginning of a run's logs.
    pub fn new(directory: &RunDirectory) -> Self {
        let tail =
            |name, is_agent| Tail { path: directory.path(name), is_agent, position: 0, begun: Vec::new() };
        Self { tails: [tail(RUN_LOG, false), tail(TRANSCRIPT, true)] }
    }

    /// All whole lines that have come since the last time; with `rest` also what has no line end yet.
    pub fn read(&mut self, rest: bool) -> anyhow::Result<Vec<LogLine>> {
        let mut lines = Vec::new();
        for tail in &mut self.tails {
            while tail.read_some(&mut lines).with_context(|| format!("read {}", tail.path.display()))? {}
            if rest && !tail.begun.is_empty() {
                tail.hand_out(tail.begun.len(), &mut lines);
            }
        }
        Ok(lines)
    }
}

impl Tail {
    /// `true`: there may be more.
    fn read_some(&mut self, lines: &mut Vec<LogLine>) -> std::io::Result<bool> {
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

    fn hand_out(&mut self, length: usize, lines: &mut Vec<LogLine>) {
        let bytes: Vec<u8> = self.begun.drain(..length).collect();
        let text = String::from_utf8_lossy(&bytes).trim_end_matches('\r').to_owned();
        lines.push(LogLine { is_agent: self.is_agent, text });
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn texts(lines: &[LogLine]) -> Vec<(bool, &str)> {
        lines.iter().map(|line| (line.is_agent, line.text.as_str())).collect()
    }

    #[test]
    fn lines_come_once_and_whole() {
        let home = tempfile::tempdir().unwrap();
        let directory = RunDirectory::new(home.path());
        let mut reader = LogReader::new(&directory);
        assert_eq!(reader.read(true).unwrap(), []);
        directory.write_bytes(RUN_LOG, b"one\r\ntw").unwrap();
        directory.write_bytes(TRANSCRIPT, b"\xffhi\n").unwrap();
        assert_eq!(texts(&reader.read(false).unwrap()), [(false, "one"), (true, "\u{fffd}hi")]);
        directory.write_bytes(RUN_LOG, b"one\r\ntwo\nth").unwrap();
        assert_eq!(texts(&reader.read(false).unwrap()), [(false, "two")]);
        assert_eq!(texts(&reader.read(true).unwrap()), [(false, "th")]);
    }

    #[test]
    fn a_long_line_comes_in_pieces() {
        let home = tempfile::tempdir().unwrap();
        let directory = RunDirectory::new(home.path());
        directory.write_bytes(TRANSCRIPT, &vec![b'x'; LINE_LIMIT * 20 + 1]).unwrap();
        let lines = LogReader::new(&directory).read(true).unwrap();
        assert_eq!(lines.len(), 21);
        assert_eq!(lines.iter().map(|line| line.text.len()).sum::<usize>(), LINE_LIMIT * 20 + 1);
    }

    #[test]
    fn a_link_is_not_followed_and_a_fifo_does_not_wait() {
        let home = tempfile::tempdir().unwrap();
        let directory = RunDirectory::new(home.path().join("run"));
        let secret = home.path().join("secret");
        fs::write(&secret, "secret\n").unwrap();
        directory.fresh("agent").unwrap();
        std::os::unix::fs::symlink(&secret, directory.path(TRANSCRIPT)).unwrap();
        assert!(LogReader::new(&directory).read(true).is_err());
        fs::remove_file(directory.path(TRANSCRIPT)).unwrap();
        let made = std::process::Command::new("mkfifo").arg(directory.path(TRANSCRIPT)).status().unwrap();
        assert!(made.success());
        assert_eq!(LogReader::new(&directory).read(true).unwrap(), []);
    }
}
