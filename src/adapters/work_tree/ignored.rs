//! The `.gitignore` files of a work tree. They can only keep files out of the work, so the agent's
//! own are as good as the repository's.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fs::AtFlags;

use crate::adapters::beneath;

/// A longer file has no rules.
const LONGEST_FILE: u64 = 256 << 10;

/// The rules of the directories from the root to where the walk is.
#[derive(Debug, Default)]
pub(super) struct IgnoreRules {
    levels: Vec<(Vec<u8>, Gitignore)>,
}

impl IgnoreRules {
    /// Reads the rules of a directory; a link or anything else in their place has none, as in Git.
    pub(super) fn enter(&mut self, directory: &OwnedFd, path: &[u8]) {
        let text = rustix::fs::statat(directory, ".gitignore", AtFlags::SYMLINK_NOFOLLOW)
            .ok()
            .and_then(|stat| beneath::open_regular(directory, ".gitignore", &stat, ".gitignore").ok())
            .and_then(|(file, _)| beneath::read_open_file(file, ".gitignore", LONGEST_FILE).ok())
            .unwrap_or_default();
        self.levels.push((path.to_vec(), parse(&String::from_utf8_lossy(&text))));
    }

    /// Forgets the rules of the directory entered last.
    pub(super) fn leave(&mut self) {
        self.levels.pop();
    }

    /// Whether a path is to be left out: the deepest file that says anything about it decides.
    pub(super) fn ignores(&self, path: &[u8], is_directory: bool) -> bool {
        for (directory, rules) in self.levels.iter().rev() {
            let below = if directory.is_empty() { path } else { &path[directory.len() + 1..] };
            match rules.matched(Path::new(OsStr::from_bytes(below)), is_directory) {
                Match::Ignore(_) => return true,
                Match::Whitelist(_) => return false,
                Match::None => {}
            }
        }
        false
    }
}

/// A line that is no pattern counts for nothing.
fn parse(text: &str) -> Gitignore {
    let mut rules = GitignoreBuilder::new("");
    for line in text.trim_start_matches('\u{feff}').lines() {
        // Braces are plain characters in Git; the library would expand them.
        let line = line.replace('{', "[{]").replace('}', "[}]");
        let _ = rules.add_line(None, &line);
    }
    rules.build().unwrap_or_else(|_| Gitignore::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_read_as_git_reads_them() {
        let rules = IgnoreRules {
            levels: vec![
                (vec![], parse("*.log\n/target/\n!keep.log\n{a}.txt\n# c\n[broken\nbuild\n")),
                (b"sub".to_vec(), parse("!*.log\n/only-here\n")),
            ],
        };
        for (path, is_directory, expected) in [
            ("a.log", false, true),
            ("deep/a.log", false, true),
            ("keep.log", false, false),
            ("target", true, true),
            ("target", false, false),
            ("build", true, true),
            ("{a}.txt", false, true),
            ("a.txt", false, false),
        ] {
            let root = IgnoreRules { levels: vec![rules.levels[0].clone()] };
            assert_eq!(root.ignores(path.as_bytes(), is_directory), expected, "{path}");
        }
        assert!(!rules.ignores(b"sub/a.log", false));
        assert!(rules.ignores(b"sub/only-here", false));
        assert!(!rules.ignores(b"sub/x/only-here", false));
        assert!(rules.ignores(b"sub/x/build", true));
    }
}
