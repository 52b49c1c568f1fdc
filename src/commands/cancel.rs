//! `cancel`: stops a run. Its supervisor acts within a second.

use crate::cli::CancelArgs;
use crate::commands::place::Place;
use crate::domain::name::RunId;
use crate::domain::pass::StopOutcome;
use crate::error::{Exit, UserError};
use crate::output;

pub(super) const OVER: &str = "has ended already; nothing was changed";

pub(super) async fn run(args: &CancelArgs) -> anyhow::Result<Exit> {
    let place = Place::open(&args.place, args.git.git_base_url.as_deref()).await?;
    // A pass admits tasks that wait: a name that is not there must not start anything.
    if !place.ledger().await?.entries.iter().any(|entry| entry.run == args.run) {
        place.must_know(&args.run).await?;
    }
    let stop = place.pass(Vec::new(), Some(args.run.clone())).await?.stop;
    // Published runs have left the ledger: they are no fault of the caller's.
    let words = words(stop, &args.run)?.unwrap_or(OVER);
    output::result(&format!("{}: {words}", args.run))?;
    Ok(Exit::Handled)
}

/// What became of a run that was to be stopped; `None`: the ledger does not know it.
pub(super) fn words(stop: Option<StopOutcome>, run: &RunId) -> Result<Option<&'static str>, UserError> {
    match stop {
        Some(StopOutcome::Withdrawn) => Ok(Some("withdrawn before it began")),
        Some(StopOutcome::Cancelled) => Ok(Some("cancelled; its processes end within seconds")),
        Some(StopOutcome::Ended) => Ok(Some(OVER)),
        Some(StopOutcome::Unreadable) => Err(UserError::retry(
            format!("run {run} could not be read, or may not have been stopped"),
            "try again",
        )),
        Some(StopOutcome::Unknown) | None => Ok(None),
    }
}
