//! One phase of a run as a child process, from the running program itself, with an environment
//! built from empty.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};

use super::open_log;
use crate::adapters::process_identity::ProcessIdentity;
use crate::adapters::run_directory::RunDirectory;

/// Tells a phase whose child it is: it ends with that process, and does not start without it.
pub const SUPERVISOR_VARIABLE: &str = "ASTRA_SUPERVISOR";
/// Between asking a phase to end and ending it.
pub const GRACE: Duration = Duration::from_secs(10);
/// Remembers the phase that is running, so that it can be ended if its supervisor was killed.
const PROCESS_FILE: &str = "process.json";

/// The phases of a run, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Makes a fresh clone of the right branch.
    Prepare,
    /// Runs the agent within its limits.
    Agent,
    /// Turns the work tree into one commit.
    Collect,
    /// Gates the work, pushes it and writes the result.
    Deliver,
}

impl Phase {
    /// All of them, in order.
    pub const ALL: [Self; 4] = [Self::Prepare, Self::Agent, Self::Collect, Self::Deliver];

    /// Its name as a command and as a directory.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Agent => "agent",
            Self::Collect => "collect",
            Self::Deliver => "deliver",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A running phase, the leader of its own process group.
#[derive(Debug)]
pub struct PhaseProcess {
    phase: Phase,
    child: tokio::process::Child,
    group: Pid,
}

/// What `process.json` holds.
#[derive(Debug, Serialize, Deserialize)]
struct Recorded {
    phase: Phase,
    pid: u32,
    start_time: u64,
}

impl PhaseProcess {
    /// Starts a phase with these variables and nothing else of the caller's environment.
    pub fn start(
        phase: Phase,
        directory: &RunDirectory,
        variables: &BTreeMap<String, OsString>,
    ) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("find the running program")?;
        let log = open_log(directory)?;
        let errors = log.try_clone().context("open the run's log twice")?;
        let child = tokio::process::Command::new(program)
            .args(["run", phase.name(), "--run-dir"])
            .arg(directory.path(""))
            .current_dir(directory.path(""))
            .env_clear()
            .envs(variables)
            .env(SUPERVISOR_VARIABLE, std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .with_context(|| format!("start phase {phase}"))?;
        let pid = child.id().with_context(|| format!("phase {phase} ended before it began"))?;
        let group = Pid::from_raw(pid.cast_signed()).context("a process has a number above 0")?;
        let identity = ProcessIdentity::of(pid);
        if let Some(ProcessIdentity { pid, start_time }) = identity {
            let recorded = Recorded { phase, pid, start_time };
            directory.write(PROCESS_FILE, &recorded)?;
        }
        Ok(Self { phase, child, group })
    }

    /// Waits for its end.
    pub async fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        self.child.wait().await.with_context(|| format!("wait for phase {}", self.phase))
    }

    /// Asks it to end, and ends it and everything in its group after `grace`.
    pub async fn stop(&mut self, grace: Duration) -> anyhow::Result<ExitStatus> {
        signal(self.group, Signal::TERM);
        let status = match tokio::time::timeout(grace, self.wait()).await {
            Ok(status) => status,
            Err(_elapsed) => {
                signal(self.group, Signal::KILL);
                self.wait().await
            }
        };
        // Whoever ignored the first signal and outlived the leader.
        signal(self.group, Signal::KILL);
        status
    }
}

/// A group that is gone is what was wanted.
fn signal(group: Pid, signal: Signal) {
    if let Err(error) = kill_process_group(group, signal)
        && error != rustix::io::Errno::SRCH
    {
        log::warn!("signal process group {}: {error}", group.as_raw_nonzero());
    }
}

/// Ends the phase of a run whose supervisor was killed. `true`: nothing of it is left.
pub fn end_orphan(directory: &RunDirectory) -> anyhow::Result<bool> {
    let Some(recorded) = directory.read::<Recorded>(PROCESS_FILE)? else { return Ok(true) };
    let identity = ProcessIdentity { pid: recorded.pid, start_time: recorded.start_time };
    if !identity.is_alive() {
        return Ok(true);
    }
    if let Some(group) = Pid::from_raw(recorded.pid.cast_signed()) {
        signal(group, Signal::KILL);
    }
    Ok(false)
}
