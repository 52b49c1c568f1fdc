//! `publish`: tells the world about runs that have ended: a pull request or review on GitHub, a
//! comment in Plane. The same is written into the run's directory, and nowhere else where there is no
//! way to either.

use std::collections::BTreeMap;

use serde_json::json;

use crate::adapters::local::StateDirectory;
use crate::adapters::run_directory::{PUBLISH_PAGE, PUBLISH_PLAN, PUBLISH_TOLD};
use crate::cli::{Format, PublishArgs};
use crate::commands::passes::wait_for;
use crate::commands::place::Place;
use crate::commands::word::Told;
use crate::domain::escape;
use crate::domain::job::{Job, JobPhase};
use crate::domain::message;
use crate::domain::name::RunId;
use crate::domain::report::AlsoReport;
use crate::error::Exit;
use crate::output::{self, decision_table, workflow};

pub(super) async fn run(args: &PublishArgs) -> anyhow::Result<Exit> {
    let place = Place::open(&args.place, args.git.git_base_url.as_deref()).await?;
    if let Place::Cluster(cluster) = &place {
        cluster.forge.must_be_open()?;
    }
    let before = place.unpublished().await?;
    if let Some(run) = &args.run {
        place.must_know(run).await?;
    }
    // Before anything is read: what a pass reads of the items now it would have to read again then.
    let margin = place.claim_margin();
    wait_for(before.iter().filter_map(|job| Some(job.end.as_ref()?.at + margin)).max()).await;
    // The pass publishes everything that has ended; a run that was named is only reported by name.
    let mut report = place.publishing_pass(Vec::new()).await?;
    for problem in &report.problems {
        output::say(&escape::terminal(&format!("note: {problem}")));
    }
    let also: Vec<AlsoReport> = report.outcomes.iter().filter_map(AlsoReport::of).collect();
    decision_table::begun(&also).for_each(|line| output::say(&escape::terminal(&line)));
    let left = place.unpublished().await?;
    let is_left = |run: &RunId| left.iter().any(|job| job.run == *run);
    let published: Vec<RunId> = match &args.run {
        Some(run) if !is_left(run) => vec![run.clone()],
        Some(_) => Vec::new(),
        None => before.into_iter().map(|job| job.run).filter(|run| !is_left(run)).collect(),
    };
    report.unpublished.retain(|run, _| is_left(run));
    let asked = args.run.as_ref().and_then(|run| left.iter().find(|job| job.run == *run));
    let why_not = asked.map(|job| why_not(job, report.unpublished.get(&job.run)));
    tell(place.state(), args.format.format, &published, &report.unpublished, &also, why_not)?;
    Ok(if report.problems.is_empty() { Exit::Handled } else { Exit::Retry })
}

/// Why a run that was asked for is not published.
fn why_not(job: &Job, unpublished: Option<&String>) -> String {
    match unpublished {
        Some(why) => format!("{} is not published: {why}", job.run),
        None if job.end.is_none() && job.cancel.is_none() => format!("{} has not ended yet", job.run),
        None if job.phase == JobPhase::Claimed => format!("{} is being published by another", job.run),
        None => format!("{} has ended, and cannot be published yet: try again in a minute", job.run),
    }
}

fn tell(
    state: &StateDirectory,
    format: Format,
    published: &[RunId],
    unpublished: &BTreeMap<RunId, String>,
    also: &[AlsoReport],
    why_not: Option<String>,
) -> anyhow::Result<()> {
    let mut told = Vec::with_capacity(published.len());
    for run in published {
        told.push((run, state.run(run).read::<Told>(PUBLISH_TOLD)?.unwrap_or_default()));
    }
    let names: Vec<&str> = published.iter().map(RunId::as_str).collect();
    let number = match told.as_slice() {
        [(_, only)] => only.number().map(|number| number.to_string()),
        _ => None,
    };
    workflow::set_outputs(&[("published", names.join(" ")), ("pull-request", number.unwrap_or_default())])?;
    workflow::add_summary(&summary(&told, unpublished))?;
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
        let failed = unpublished.iter().map(|(run, why)| json!({"run": run, "reason": why}));
        return output::json(&json!({
            "version": 1,
            "published": runs.collect::<Vec<_>>(),
            "unpublished": failed.collect::<Vec<_>>(),
            "also": also,
        }));
    }
    let page = |run: &RunId| state.run(run).path(PUBLISH_PAGE).display().to_string();
    let place = |run: &RunId, told: &Told| told.url().map_or_else(|| page(run), str::to_owned);
    let lines = told.iter().map(|(run, told)| format!("{run}: published to {}", place(run, told)));
    let lines: Vec<String> = lines.chain(why_not).collect();
    let words = if lines.is_empty() { "nothing to publish".to_owned() } else { lines.join("\n") };
    output::result(&escape::terminal(&words))
}

/// For a step summary.
fn summary(told: &[(&RunId, Told)], unpublished: &BTreeMap<RunId, String>) -> String {
    let place = |told: &Told| match (told.url(), told.number()) {
        (Some(url), Some(number)) => format!("[#{number}](<{url}>)"),
        (Some(url), None) => format!("[review](<{url}>)"),
        (None, _) => "a comment in Plane".to_owned(),
    };
    let published = told.iter().map(|(run, told)| [run.to_string(), place(told)]);
    let failed = unpublished.iter().map(|(run, why)| {
        [run.to_string(), format!("not published yet: {}", message::markdown_line(why, 500))]
    });
    let rows: Vec<[String; 2]> = published.chain(failed).collect();
    if rows.is_empty() {
        return "Nothing to publish.".to_owned();
    }
    decision_table::markdown_table(&["Run".to_owned(), "Published as".to_owned()], &rows)
}
