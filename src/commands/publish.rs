//! `publish`: tells the world about runs that have ended. On this machine, without GitHub and
//! Plane, what would be told is written into the run's directory.

use serde_json::json;

use crate::adapters::local::StateDirectory;
use crate::adapters::run_directory::{PUBLISH_PAGE, PUBLISH_PLAN};
use crate::cli::{Format, PublishArgs};
use crate::commands::local::store_error;
use crate::commands::place::Place;
use crate::domain::job::JobPhase;
use crate::domain::name::RunId;
use crate::error::Exit;
use crate::output;

pub(super) async fn run(args: &PublishArgs) -> anyhow::Result<Exit> {
    let place = Place::open(&args.registry, &args.state, &args.executor, None).await?;
    let before = unpublished(&place).await?;
    if let Some(run) = &args.run {
        place.must_know(run).await?;
    }
    // The pass publishes everything that has ended; a run that was named is only reported by name.
    let report = place.pass(Vec::new(), None).await?;
    for problem in &report.problems {
        output::say(&format!("note: {problem}"));
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
    match format {
        Format::Json => {
            let runs: Vec<_> = published
                .iter()
                .map(|run| {
                    let directory = state.run(run);
                    json!({"run": run, "plan": directory.path(PUBLISH_PLAN), "page": directory.path(PUBLISH_PAGE)})
                })
                .collect();
            output::json(&json!({"version": 1, "published": runs}))
        }
        Format::Text => match (published, asked) {
            ([], Some(run)) => output::result(&format!("{run} has not ended yet")),
            ([], None) => output::result("nothing to publish"),
            (runs, _) => {
                let lines: Vec<String> = runs
                    .iter()
                    .map(|run| {
                        let page = state.run(run).path(PUBLISH_PAGE);
                        format!("{run}: published to {}", page.display())
                    })
                    .collect();
                output::result(&lines.join("\n"))
            }
        },
    }
}
