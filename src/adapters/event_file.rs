//! Where events come from: a file, stdin, or the file that GitHub Actions names.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::domain::event::Event;
use crate::environment;
use crate::error::UserError;

/// How long an event may be, in bytes. Plane takes requests of up to 5 MB, and its webhook carries
/// the text twice and escaped (seen: 462 KB for a description of 195 KB).
pub const LONGEST_EVENT: u64 = 32 * 1024 * 1024;

/// The event file of the workflow that this program runs in; `None` outside of one.
pub fn of_workflow() -> Option<PathBuf> {
    environment::value("GITHUB_EVENT_PATH").map(PathBuf::from)
}

/// Reads the event in a file; `-` is stdin.
pub fn read(path: &Path) -> Result<Event, UserError> {
    let (name, json) = if path == Path::new("-") {
        ("stdin".to_owned(), capped(io::stdin().lock(), LONGEST_EVENT))
    } else {
        (path.display().to_string(), File::open(path).and_then(|file| capped(file, LONGEST_EVENT)))
    };
    let json = json.map_err(|error| {
        UserError::usage(
            format!("the event cannot be read: {error}"),
            "Name a readable file with --event, or give the event on stdin with --event -.",
        )
        .at(&name)
    })?;
    Event::parse(&json).map_err(|fault| UserError::from(fault).at(&name))
}

/// Reads all there is, at most `longest` bytes.
fn capped(source: impl Read, longest: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(longest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > longest {
        let problem = format!("it is longer than {longest} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_read_up_to_its_limit() {
        assert_eq!(capped(&b"12345"[..], 5).unwrap(), b"12345");
        let error = capped(io::repeat(b' '), 5).unwrap_err();
        assert_eq!(error.to_string(), "it is longer than 5 bytes");
    }

    #[test]
    fn a_fault_names_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("event.json");
        let error = read(&file).unwrap_err();
        assert!(error.to_string().starts_with(&format!("{}: the event cannot be read", file.display())));
        std::fs::write(&file, "{").unwrap();
        let error = read(&file).unwrap_err();
        assert!(error.to_string().contains("the event is not JSON: EOF"), "{error}");
        assert!(read(directory.path()).is_err(), "a directory is no event");
    }
}
