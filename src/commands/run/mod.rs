//! The phases of a run. Each reads the plan and what earlier phases left in the run's directory,
//! writes its own report, and exits 0 once that is written, whatever the report says.

use std::time::Duration;

use anyhow::Context;
#[cfg(target_os = "linux")]
use rustix::process::set_parent_process_death_signal;
use rustix::process::{Signal, getppid};
use secrecy::SecretString;
use tokio::time::Instant;

use crate::adapters::git::{GitError, TOKEN_VARIABLE, Trouble};
use crate::adapters::local::phase_process::SUPERVISOR_VARIABLE;
use crate::domain::phase::PhaseFailure;
use crate::domain::result::FailureClass;

pub mod agent;
pub mod collect;
pub mod confine;
pub mod deliver;
pub mod install;
pub mod prepare;
pub mod probe;
pub mod supervise;
#[cfg(test)]
mod testing;

/// The token for the run's repository, if this phase was given one.
fn git_token() -> Option<SecretString> {
    std::env::var(TOKEN_VARIABLE).ok().filter(|token| !token.is_empty()).map(SecretString::from)
}

/// Keeps other processes of this user from reading this process's memory and environment.
fn guard_credentials() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
            log::warn!("this process stays readable for others of this user: {error}");
        }
    }
}

/// Ends this phase with the supervisor that it was started by: a run that counts as lost must not
/// push anything later. Does nothing in a pod.
fn end_with_supervisor() -> anyhow::Result<()> {
    anyhow::ensure!(bind_to_supervisor(Signal::KILL)?, "the supervisor of this phase is gone");
    Ok(())
}

/// Has this phase signalled when the supervisor that it was started by ends. `false`: it has ended
/// already, before that took effect. In a pod there is none.
fn bind_to_supervisor(signal: Signal) -> anyhow::Result<bool> {
    let Ok(supervisor) = std::env::var(SUPERVISOR_VARIABLE) else { return Ok(true) };
    #[cfg(target_os = "linux")]
    set_parent_process_death_signal(Some(signal)).context("end with the supervisor")?;
    let parent = getppid().map(|pid| pid.as_raw_nonzero().to_string());
    Ok(parent == Some(supervisor))
}

/// When a phase that may take so long has to be done.
fn deadline(limit: Duration) -> Instant {
    Instant::now() + limit
}

/// Which class of failure trouble with git is, in a sentence that starts with what was being done.
fn git_failure(doing: &str, error: &GitError) -> PhaseFailure {
    let (class, remedy) = match error.trouble() {
        Trouble::Authentication => {
            (FailureClass::Credentials, "check the token and what it may do in this repository")
        }
        Trouble::NoRepository => {
            (FailureClass::Task, "check the repository's name and that the token may see it")
        }
        Trouble::NoRef => (FailureClass::Task, "check the branch or pull request that the task names"),
        Trouble::Declined => (FailureClass::Policy, "look at the rules of the repository"),
        Trouble::RefExists => (FailureClass::Infrastructure, "another run used this name"),
        Trouble::Network => (FailureClass::Infrastructure, "it is worth another try"),
        Trouble::DiskFull => (FailureClass::Infrastructure, "make room on the disk"),
        Trouble::Other => (FailureClass::Infrastructure, "the log of the run has more"),
    };
    PhaseFailure { class, reason: format!("{doing}: {error} ({remedy})") }
}
