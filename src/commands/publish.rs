//! `publish`: tells the world about runs that have ended: a pull request or review on GitHub, a
//! comment in Plane. The same is written into the run's directory, and nowhere else where there is no
//! way to either.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use crate::adapters::local::StateDirectory;
use crate::adapters::run_directory::{PUBLISH_PAGE, PUBLISH_PLAN, PUBLISH_TOLD};
use crate::cli::{Format, PublishArgs};
use crate::commands::local::store_error;
use crate::commands::place::Place;
use crate::commands::word::Told;
use crate::domain::escape;
use crate::domain::job::JobPhase;
use crate::domain::name::RunId;
use crate::error::Exit;
use crate::output;
use crate::output::workflow;

/// A workflow starts quicker than a run may be published (its last move in Plane must be over): that is
/// waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(45);

pub(super) async fn run(args: &PublishArgs) -> anyhow::Result<Exit> {
    let place = Place::open(&args.place, args.git.git_base_url.as_deref()).await?;
    if let Place::Cluster(cluster) = &place {
        cluster.forge.must_be_open()?;
    }
    let before = unpublished(&place).await?;
    if let Some(run) = &args.run {
        place.must_know(run).await?;
    }
    // The pass publishes everything that has ended; a run that was named is only reported by name.
    let mut report = place.pass(Vec::new(), None).await?;
    if let Some(wait) = report.publishable_at.and_then(soon) {
        output::say(&format!("a run may be published in {} s: waiting", wait.as_secs()));
        tokio::time::sleep(wait).await;
        let next = place.pass(Vec::new(), None).await?;
        report.problems.extend(next.problems);
    }
    for problem in &report.problems {
        output::say(&escape::terminal(&format!("note: {problem}")));
    }
    let left = unpublished(&place).await?;
    let published: Vec<RunId> = match &args.run {
        Some(run) if !left.contains(run) => vec![run.clone()],
        Some(_) => Vec::new(),
        None => before.into_iter().filter(|run| !left.contains(run)).collect(),
    };
    tell(place.state(), args.format.format, &published, args.run.as_ref())?;
    Ok(if report.problems.is_empty() { Exit::Handled } else { Exit::Retry })
}

/// How long it is until then, if that is worth waiting for.
fn soon(at: Timestamp) -> Option<Duration> {
    let wait = Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default();
    (wait <= LONGEST_WAIT).then_some(wait)
}

async fn unpublished(place: &Place) -> anyhow::Result<Vec<RunId>> {
    Ok(match place {
        Place::Local(local) => {
            let runs = local.executor.store.unpublished_runs().map_err(store_error)?;
            runs.into_iter().map(|known| known.job.run).collect()
        }
        Place::Cluster(cluster) => {
            let runs = cluster.runs().await?;
            runs.into_iter().filter(|job| job.phase != JobPhase::Published).map(|job| job.run).collect()
        }
    })
}

fn tell(
    state: &StateDirectory,
    format: Format,
    published: &[RunId],
    asked: Option<&RunId>,
) -> anyhow::Result<()> {
    let mut told = Vec::with_capacity(published.len());
    for run in published {
        told.push((run, state.run(run).read::<Told>(PUBLISH_TOLD)?.unwrap_or_default()));
    }
    let url = |told: &Told| told.url().map(str::to_owned);
    if let [(_, only)] = told.as_slice() {
        let number = only.number().map(|number| number.to_string());
        workflow::set_outputs(&[("pull-request", number.unwrap_or_default())])?;
    }
    if format == Format::Json {
        let runs = told.iter().map(|(run, told)| {
            let directory = state.run(run);
            json!({
                "run": run,
                "url": told.url(),
                "plan": directory.path(PUBLISH_PLAN),
                "page": directory.path(PUBLISH_PAGE),
            })
        });
        return output::json(&json!({"version": 1, "published": runs.collect::<Vec<_>>()}));
    }
    match (told.as_slice(), asked) {
        ([], Some(run)) => output::result(&format!("{run} has not ended yet")),
        ([], None) => output::result("nothing to publish"),
        (told, _) => {
            let lines = told.iter().map(|(run, told)| {
                let page = || state.run(run).path(PUBLISH_PAGE).display().to_string();
                format!("{run}: published to {}", url(told).unwrap_or_else(page))
            });
            output::result(&lines.collect::<Vec<_>>().join("\n"))
        }
    }
}
