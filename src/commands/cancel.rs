//! `cancel`: stops a run. Its supervisor acts within a second.

use crate::cli::CancelArgs;
use crate::commands::local::Local;
use crate::domain::name::RunId;
use crate::domain::pass::StopOutcome;
use crate::error::{Exit, UserError};
use crate::output;

pub(super) async fn run(args: &CancelArgs) -> anyhow::Result<Exit> {
    let local = Local::open(&args.registry, &args.state, None)?;
    let words = cancel(&local, &args.run).await?;
    output::result(&format!("{}: {words}", args.run))?;
    Ok(Exit::Handled)
}

/// Stops a run and says what became of it.
pub(super) async fn cancel(local: &Local, run: &RunId) -> anyhow::Result<&'static str> {
    match local.pass(Vec::new(), Some(run.clone())).await?.stop {
        Some(StopOutcome::Withdrawn) => Ok("withdrawn before it began"),
        Some(StopOutcome::Cancelled) => Ok("cancelled; its processes end within seconds"),
        Some(StopOutcome::Ended) => Ok("has ended already; nothing was changed"),
        Some(StopOutcome::Unreadable) => {
            Err(UserError::retry(format!("run {run} could not be read"), "try again").into())
        }
        Some(StopOutcome::Unknown) | None => {
            // Published runs have left the ledger: they are no fault of the caller's.
            local.known_job(run)?;
            Ok("has ended already; nothing was changed")
        }
    }
}
