//! The git program, set up so that only its arguments and a directory of ours decide what it does.
//!
//! The environment is built from empty: no system or user configuration, no prompts, no hooks, no
//! file system monitor, no filters, and one allowed transport. The credential is handed over by an
//! environment variable that a credential helper reads: it is in no argument, URL or file.

use crate::environment;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{Pid, Signal};
use secrecy::ExposeSecret;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::Instant;

mod error;
mod remote;

pub use error::{GitError, Trouble};
pub use remote::{Credential, Remote};

/// The variable that the credential helper reads.
pub const TOKEN_VARIABLE: &str = "ASTRA_GIT_TOKEN";
/// What git may write to stdout where the caller does not say otherwise, in bytes.
const OUTPUT_LIMIT: u64 = 64 << 20;
/// What is kept of stderr, in bytes; the rest is read and dropped.
const STDERR_LIMIT: usize = 16 << 10;
/// Settings of ours that the way to a remote may need: private authorities and proxies.
const NETWORK_VARIABLES: &[&str] = &[
    "GIT_SSL_CAINFO",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTPS_PROXY",
    "https_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
];
/// The whole configuration. Command scope: it beats any file.
const CONFIGURATION: &[(&str, &str)] = &[
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.untrackedCache", "false"),
    ("core.attributesFile", "/dev/null"),
    ("core.excludesFile", "/dev/null"),
    ("core.protectHFS", "true"),
    ("core.protectNTFS", "true"),
    ("core.autocrlf", "false"),
    // Larger objects are streamed, not held in memory.
    ("core.bigFileThreshold", "8m"),
    ("credential.helper", ""),
    ("fetch.recurseSubmodules", "false"),
    ("push.recurseSubmodules", "no"),
    ("submodule.recurse", "false"),
    ("fetch.writeCommitGraph", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("http.lowSpeedLimit", "1000"),
    ("http.lowSpeedTime", "30"),
    ("advice.detachedHead", "false"),
    // In a pod the volume belongs to another user than the process. Only directories of our own
    // making are ever opened as repositories.
    ("safe.directory", "*"),
    ("pack.threads", "2"),
    // Bundles must not lean on objects that the other side may lack.
    ("pack.window", "0"),
    ("fastimport.unpackLimit", "0"),
];

/// One repository directory, and how git runs in it.
#[derive(Debug, Clone)]
pub struct Git {
    directory: PathBuf,
    work_tree: Option<PathBuf>,
    deadline: Instant,
    remote: Option<Remote>,
    memory_limit: Option<u64>,
}

impl Git {
    /// Makes a bare repository without configuration of its own. `deadline` ends every command.
    pub async fn init_bare(directory: &Path, deadline: Instant) -> Result<Self, GitError> {
        let git = Self {
            directory: directory.to_owned(),
            work_tree: None,
            deadline,
            remote: None,
            memory_limit: None,
        };
        git.run(["init", "--quiet", "--bare", "--template=", "--object-format=sha1"]).await?;
        Ok(git)
    }

    /// Makes a repository with a work tree.
    pub async fn init_work_tree(work_tree: &Path, deadline: Instant) -> Result<Self, GitError> {
        let git = Self {
            directory: work_tree.join(".git"),
            work_tree: Some(work_tree.to_owned()),
            deadline,
            remote: None,
            memory_limit: None,
        };
        git.run(["init", "--quiet", "--template=", "--object-format=sha1"]).await?;
        Ok(git)
    }

    /// The same repository, with leave to talk to this remote and to use its credential there.
    #[must_use]
    pub fn with_remote(&self, remote: &Remote) -> Self {
        Self { remote: Some(remote.clone()), ..self.clone() }
    }

    /// The same repository, with an upper bound to the address space of each process. Applied right
    /// after the start: git has read nothing of what it is to open by then.
    #[must_use]
    pub fn with_memory_limit(&self, bytes: u64) -> Self {
        Self { memory_limit: Some(bytes), ..self.clone() }
    }

    /// The repository directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Runs a command and returns what it wrote to stdout.
    pub async fn run<I, A>(&self, arguments: I) -> Result<Vec<u8>, GitError>
    where
        I: IntoIterator<Item = A>,
        A: Into<OsString>,
    {
        self.run_with_input(arguments, &[]).await
    }

    /// The same, with something on stdin.
    pub async fn run_with_input<I, A>(&self, arguments: I, input: &[u8]) -> Result<Vec<u8>, GitError>
    where
        I: IntoIterator<Item = A>,
        A: Into<OsString>,
    {
        let mut process = self.start(arguments)?;
        let stdin = process.stdin.take();
        let mut stdout = Vec::new();
        let exchange = async {
            let write = async {
                if let Some(mut stdin) = stdin {
                    // A command that ends before it has read everything says why on stderr.
                    let _ = stdin.write_all(input).await;
                }
            };
            let mut source = (&mut process.stdout).take(OUTPUT_LIMIT + 1);
            tokio::join!(write, source.read_to_end(&mut stdout)).1
        };
        let read = tokio::time::timeout_at(self.deadline, exchange).await;
        match read {
            Err(_) => return Err(process.timed_out()),
            Ok(Err(source)) => return Err(process.broken(source)),
            Ok(Ok(_)) if stdout.len() as u64 > OUTPUT_LIMIT => return Err(process.too_much(OUTPUT_LIMIT)),
            Ok(Ok(_)) => {}
        }
        process.finish().await?;
        Ok(stdout)
    }

    /// Runs a command whose answer is one line of text.
    pub async fn line<I, A>(&self, arguments: I) -> Result<String, GitError>
    where
        I: IntoIterator<Item = A>,
        A: Into<OsString>,
    {
        Ok(String::from_utf8_lossy(&self.run(arguments).await?).trim_end().to_owned())
    }

    /// Starts a command that is talked to while it runs.
    pub fn start<I, A>(&self, arguments: I) -> Result<GitProcess, GitError>
    where
        I: IntoIterator<Item = A>,
        A: Into<OsString>,
    {
        let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
        let name = arguments.first().map(|first| first.to_string_lossy().into_owned()).unwrap_or_default();
        let mut command = Command::new("git");
        command.args(&arguments).env_clear().envs(self.environment());
        command.current_dir(if self.directory.is_dir() { self.directory.as_path() } else { Path::new("/") });
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own: its helpers are ended with it.
        command.process_group(0).kill_on_drop(true);
        let mut child = command.spawn().map_err(GitError::Start)?;
        self.limit_memory(&child);
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(GitError::Start(std::io::Error::other("its pipes are missing")));
        };
        Ok(GitProcess {
            name,
            group: child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)),
            child,
            deadline: self.deadline,
            stdin: Some(stdin),
            stdout: BufReader::new(stdout),
            stderr: tokio::spawn(read_start(stderr)),
        })
    }

    fn environment(&self) -> Vec<(OsString, OsString)> {
        let mut variables: Vec<(OsString, OsString)> = Vec::new();
        let mut set = |name: &str, value: OsString| variables.push((name.into(), value));
        set("PATH", environment::value("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into()));
        set("HOME", "/nonexistent".into());
        set("LC_ALL", "C".into());
        set("GIT_DIR", self.directory.clone().into());
        if let Some(work_tree) = &self.work_tree {
            set("GIT_WORK_TREE", work_tree.clone().into());
        }
        for (name, value) in [
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_SYSTEM", "/dev/null"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_ATTR_NOSYSTEM", "1"),
            ("GIT_NO_REPLACE_OBJECTS", "1"),
            ("GIT_NO_LAZY_FETCH", "1"),
            ("GIT_OPTIONAL_LOCKS", "0"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_LITERAL_PATHSPECS", "1"),
            ("GIT_LFS_SKIP_SMUDGE", "1"),
        ] {
            set(name, value.into());
        }
        let mut configuration: Vec<(String, String)> =
            CONFIGURATION.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        // Without a remote only bundles are read, which git counts as `file`.
        let transport = self.remote.as_ref().map_or("file", Remote::transport);
        set("GIT_ALLOW_PROTOCOL", transport.into());
        if let Some(remote) = &self.remote {
            for name in NETWORK_VARIABLES {
                if let Some(value) = environment::value(name) {
                    set(name, value);
                }
            }
            if let Some(credential) = remote.credential() {
                set(TOKEN_VARIABLE, credential.token().expose_secret().into());
                configuration.push(credential.helper());
            }
        }
        set("GIT_CONFIG_COUNT", configuration.len().to_string().into());
        for (number, (key, value)) in configuration.into_iter().enumerate() {
            set(&format!("GIT_CONFIG_KEY_{number}"), key.into());
            set(&format!("GIT_CONFIG_VALUE_{number}"), value.into());
        }
        variables
    }

    #[cfg(target_os = "linux")]
    fn limit_memory(&self, child: &Child) {
        use rustix::process::{Resource, Rlimit, prlimit};

        let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let (Some(bytes), Some(pid)) = (self.memory_limit, pid) {
            let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
            // It may have ended already.
            let _ = prlimit(Some(pid), Resource::As, limit);
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn limit_memory(&self, _child: &Child) {}
}

async fn read_start(mut source: impl AsyncReadExt + Unpin) -> Vec<u8> {
    let mut start = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(length @ 1..) = source.read(&mut chunk).await {
        let room = STDERR_LIMIT - start.len();
        start.extend_from_slice(&chunk[..length.min(room)]);
    }
    start
}

/// A running git command. Dropped unfinished, it and its helpers are killed.
#[derive(Debug)]
pub struct GitProcess {
    name: String,
    group: Option<Pid>,
    child: Child,
    deadline: Instant,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    stderr: JoinHandle<Vec<u8>>,
}

impl GitProcess {
    /// Writes all of it to its stdin.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), GitError> {
        let Some(stdin) = &mut self.stdin else {
            return Err(self.broken(std::io::ErrorKind::BrokenPipe.into()));
        };
        match tokio::time::timeout_at(self.deadline, stdin.write_all(bytes)).await {
            Err(_) => Err(self.timed_out()),
            Ok(Ok(())) => Ok(()),
            // It has ended: its stderr says why.
            Ok(Err(source)) => Err(self.end().await.err().unwrap_or_else(|| self.broken(source))),
        }
    }

    /// Reads one line of its stdout, without the line end.
    pub async fn read_line(&mut self) -> Result<String, GitError> {
        let mut line = String::new();
        let mut source = (&mut self.stdout).take(STDERR_LIMIT as u64);
        match tokio::time::timeout_at(self.deadline, source.read_line(&mut line)).await {
            Err(_) => Err(self.timed_out()),
            Ok(Ok(1..)) => Ok(line.trim_end_matches('\n').to_owned()),
            Ok(Ok(0)) => {
                let missing = std::io::ErrorKind::UnexpectedEof.into();
                Err(self.end().await.err().unwrap_or_else(|| self.broken(missing)))
            }
            Ok(Err(source)) => Err(self.broken(source)),
        }
    }

    /// Reads so many bytes of its stdout.
    pub async fn read_exact(&mut self, length: usize) -> Result<Vec<u8>, GitError> {
        let mut bytes = vec![0; length];
        match tokio::time::timeout_at(self.deadline, self.stdout.read_exact(&mut bytes)).await {
            Err(_) => Err(self.timed_out()),
            Ok(Ok(_)) => Ok(bytes),
            Ok(Err(source)) => Err(self.broken(source)),
        }
    }

    /// Closes its stdin and waits for its end.
    pub async fn finish(mut self) -> Result<(), GitError> {
        self.end().await
    }

    async fn end(&mut self) -> Result<(), GitError> {
        self.stdin = None;
        let ended = tokio::time::timeout_at(self.deadline, async {
            let status = self.child.wait().await?;
            let said = if self.group.take().is_some() { (&mut self.stderr).await } else { Ok(Vec::new()) };
            Ok::<_, std::io::Error>((status, said.unwrap_or_default()))
        });
        match ended.await {
            Err(_) => Err(self.timed_out()),
            Ok(Err(source)) => Err(self.broken(source)),
            Ok(Ok((status, _))) if status.success() => Ok(()),
            Ok(Ok((status, said))) => Err(GitError::from_output(&self.name, status, &said)),
        }
    }

    fn timed_out(&self) -> GitError {
        GitError::TimedOut { command: self.name.clone() }
    }

    fn broken(&self, source: std::io::Error) -> GitError {
        GitError::Io { command: self.name.clone(), source }
    }

    fn too_much(&self, limit: u64) -> GitError {
        GitError::TooMuchOutput { command: self.name.clone(), limit }
    }
}

impl Drop for GitProcess {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            // It may have ended already; its number is not given away before it was waited for.
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests;
