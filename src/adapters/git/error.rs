//! What went wrong in git, told from what it says (in English: `LC_ALL=C`).

use std::process::ExitStatus;

use crate::domain::escape;

/// Longest excerpt of git's own words that is passed on, in characters.
const EXCERPT: usize = 300;

/// A git command that did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// The program is not there or does not start.
    #[error("git does not start")]
    Start(#[source] std::io::Error),
    /// The phase's time was up.
    #[error("git {command} did not end in time")]
    TimedOut {
        /// The subcommand.
        command: String,
    },
    /// More than anyone can need.
    #[error("git {command} wrote more than {limit} bytes")]
    TooMuchOutput {
        /// The subcommand.
        command: String,
        /// The limit.
        limit: u64,
    },
    /// The other side shows nothing at all where something must be.
    #[error(
        "there is not a single branch: it is empty, or a page of something else came in its place, of a \
             proxy or to sign in"
    )]
    NothingThere,
    /// Its pipes broke.
    #[error("git {command} cannot be talked to")]
    Io {
        /// The subcommand.
        command: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It said that it failed.
    #[error("git {command}: {said}")]
    Failed {
        /// The subcommand.
        command: String,
        /// What kind of trouble it is.
        trouble: Trouble,
        /// Its own words: one line, cut, without control characters.
        said: String,
    },
}

/// Kinds of trouble that call for different answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The credential is missing, wrong or not enough.
    Authentication,
    /// No such repository, or none that this credential may see.
    NoRepository,
    /// No such branch, commit or pull request.
    NoRef,
    /// The ref is there already, with another commit.
    RefExists,
    /// The other side takes no such push: a rule or hook of its own.
    Declined,
    /// The other side does not answer properly.
    Network,
    /// No space left, here.
    DiskFull,
    /// Anything else.
    Other,
}

/// Words of git and its transports (lower case), the more telling first. Sources: Git 2.39
/// `remote-curl.c`, `connect.c`, `send-pack.c`, `http.c`; GitHub's own texts.
const WORDS: &[(Trouble, &[&str])] = &[
    (Trouble::DiskFull, &["no space left on device", "disk quota exceeded", "file too large"]),
    (Trouble::RefExists, &["(stale info)", "reference already exists", "(already exists)", "(fetch first)"]),
    (
        Trouble::Declined,
        &[
            "hook declined",
            "deletion prohibited",
            "gh001",
            "gh006",
            "gh013",
            "protected branch",
            "rule violations",
            "refusing to allow",
        ],
    ),
    (
        Trouble::Authentication,
        &[
            "authentication failed",
            "could not read username",
            "could not read password",
            "returned error: 401",
            "returned error: 403",
            "invalid username or",
            "terminal prompts disabled",
            "write access to repository not granted",
            "support for password authentication was removed",
        ],
    ),
    (Trouble::NoRef, &["couldn't find remote ref", "not our ref", "invalid refspec", "unadvertised object"]),
    (
        Trouble::NoRepository,
        &["repository not found", "' not found", "not appear to be a git repository", "returned error: 404"],
    ),
    (
        Trouble::Network,
        &[
            "could not resolve",
            "failed to connect",
            "connection refused",
            "connection reset",
            "timed out",
            "too slow",
            "early eof",
            "rpc failed",
            "hung up unexpectedly",
            "returned error: 429",
            "returned error: 5",
            "unable to access",
            "empty reply",
            "(remote unpack failed",
            "unpacker error",
            "internal server error",
        ],
    ),
];

/// Lines that say nothing which the others do not.
const CHATTER: &[&str] = &[
    "fatal: Could not read from remote repository.",
    "Please make sure you have the correct access rights",
    "and the repository exists.",
];

impl GitError {
    pub(super) fn from_output(command: &str, status: ExitStatus, stderr: &[u8]) -> Self {
        let text = String::from_utf8_lossy(stderr);
        let lower = text.to_lowercase();
        let speaks = |(_, words): &&(Trouble, &[&str])| words.iter().any(|word| lower.contains(word));
        let trouble = WORDS.iter().find(speaks).map_or(Trouble::Other, |(trouble, _)| *trouble);
        let telling = |line: &&str| !line.is_empty() && !CHATTER.contains(line);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(telling).collect();
        let mut said: String = escape::terminal(&lines.join("; ")).chars().take(EXCERPT).collect();
        if said.is_empty() {
            said = status.to_string();
        }
        Self::Failed { command: command.to_owned(), trouble, said }
    }

    /// It stays so until somebody changes a credential or a repository.
    pub fn is_final(&self) -> bool {
        matches!(self.trouble(), Trouble::Authentication | Trouble::NoRepository)
    }

    /// What kind of trouble it is.
    pub fn trouble(&self) -> Trouble {
        match self {
            Self::Failed { trouble, .. } => *trouble,
            Self::TimedOut { .. } | Self::NothingThere => Trouble::Network,
            Self::Start(_) | Self::TooMuchOutput { .. } | Self::Io { .. } => Trouble::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn failed(stderr: &str) -> GitError {
        GitError::from_output("fetch", ExitStatus::from_raw(128 << 8), stderr.as_bytes())
    }

    #[test]
    fn each_kind_of_trouble_is_told_from_gits_words() {
        for (stderr, trouble) in [
            (
                "fatal: could not read Username for 'https://github.com': terminal prompts disabled",
                Trouble::Authentication,
            ),
            (
                "remote: Invalid username or token.\nfatal: Authentication failed for 'https://github.com/a/b.git/'",
                Trouble::Authentication,
            ),
            (
                "fatal: unable to access 'https://github.com/a/b.git/': The requested URL returned error: 403",
                Trouble::Authentication,
            ),
            (
                "remote: Write access to repository not granted.\nfatal: unable to access 'https://x/': The requested URL returned error: 403",
                Trouble::Authentication,
            ),
            (
                "remote: Repository not found.\nfatal: repository 'https://github.com/a/b.git/' not found",
                Trouble::NoRepository,
            ),
            (
                "fatal: '/srv/a/b.git' does not appear to be a git repository\nfatal: Could not read from remote repository.",
                Trouble::NoRepository,
            ),
            ("fatal: couldn't find remote ref refs/heads/nope", Trouble::NoRef),
            ("error: Server does not allow request for unadvertised object 1234", Trouble::NoRef),
            ("fatal: remote error: upload-pack: not our ref 1234", Trouble::NoRef),
            (
                "fatal: unable to access 'https://github.com/a/b.git/': Could not resolve host: github.com",
                Trouble::Network,
            ),
            (
                "fatal: unable to access 'http://127.0.0.1:1/a/b.git/': Failed to connect to 127.0.0.1 port 1",
                Trouble::Network,
            ),
            (
                "fatal: unable to access 'https://x/a.git/': The requested URL returned error: 503",
                Trouble::Network,
            ),
            ("error: RPC failed; curl 56\nfatal: early EOF", Trouble::Network),
            (
                " ! [rejected]  abc -> astra/x (stale info)\nerror: failed to push some refs",
                Trouble::RefExists,
            ),
            (" ! [remote rejected] abc -> astra/x (pre-receive hook declined)", Trouble::Declined),
            (" ! [remote rejected] astra/x (deletion prohibited)", Trouble::Declined),
            (
                "remote: error: GH013: Repository rule violations found for refs/heads/astra/x.",
                Trouble::Declined,
            ),
            ("fatal: write error: No space left on device", Trouble::DiskFull),
            ("fatal: bad object", Trouble::Other),
        ] {
            assert_eq!(failed(stderr).trouble(), trouble, "{stderr}");
        }
    }

    #[test]
    fn git_speaks_in_one_short_line() {
        let error = failed(&format!("fatal: a\u{1b}[31m\n\n  hint: b\n{}", "x".repeat(1000))).to_string();
        assert!(error.starts_with("git fetch: fatal: a\u{fffd}[31m; hint: b; xxx"), "{error}");
        assert!(error.chars().count() < 350);
        assert_eq!(failed("").to_string(), "git fetch: exit status: 128");
    }
}
