//! `sweep`: looks at everything, and mends what events, workflows and people left behind.

use jiff::{SignedDuration, Timestamp};

use crate::cli::{Format, SweepArgs};
use crate::commands::local::store_error;
use crate::commands::place::Place;
use crate::commands::word;
use crate::domain::escape;
use crate::domain::job::JobPhase;
use crate::domain::name::RunId;
use crate::domain::request_budget::Importance;
use crate::domain::sweep::{Action, Found, SweepAction, SweepReport, is_old, warning};
use crate::domain::work_item::WorkItem;
use crate::error::{Exit, UserError};
use crate::output;

pub(super) async fn run(args: &SweepArgs) -> anyhow::Result<Exit> {
    let git_base_url = args.git.git_base_url.as_deref();
    let place = Place::open(&args.place, git_base_url).await?;
    if let Place::Cluster(cluster) = &place {
        cluster.forge.must_be_open()?;
    }
    let (listed, mut problems) = list(&place).await;
    let found = Found::new(&listed, &place.ledger().await?, place.registry());
    let pass = place.pass(found.hints.clone(), None).await?;
    problems.extend(pass.problems.iter().cloned());
    if let Some(plane) = place.plane() {
        word::tell_outcomes(plane, &pass).await;
    }
    let mut report = found.report(&pass, place.registry());
    let keep = SignedDuration::from_hours(24 * i64::from(args.keep_days));
    report.actions.extend(remove_old(&place, keep, &mut problems).await?.into_iter().map(removed));
    for problem in &problems {
        output::say(&escape::terminal(&format!("note: {problem}")));
    }
    if let Some(warning) = warning(&report) {
        output::say(&format!("note: {warning}"));
    }
    tell(&report, args.format.format, problems.is_empty())?;
    Ok(if problems.is_empty() { Exit::Handled } else { Exit::Retry })
}

/// All items of the mapped projects. One that cannot be read does not keep the others from being swept.
async fn list(place: &Place) -> (Vec<WorkItem>, Vec<String>) {
    let (mut listed, mut problems) = (Vec::new(), Vec::new());
    let Some(plane) = place.plane() else {
        output::say("note: PLANE_API_KEY is not set: tasks that no event told of are not looked for");
        return (listed, problems);
    };
    for project in place.registry().projects.values() {
        output::say(&format!("looking through {}", project.identifier));
        match plane.items(project.id, Importance::Start).await {
            Ok(items) => listed.extend(items),
            Err(error) => {
                let error = UserError::from(error);
                problems.push(format!("{}: {}; {}", project.identifier, error.cause, error.remedy));
            }
        }
    }
    (listed, problems)
}

/// Removes what is left of runs that were published long ago: Jobs, or directories.
async fn remove_old(
    place: &Place,
    keep: SignedDuration,
    problems: &mut Vec<String>,
) -> anyhow::Result<Vec<RunId>> {
    let now = Timestamp::now();
    let mut removed = Vec::new();
    match place {
        Place::Local(local) => {
            for known in local.executor.store.all_runs().map_err(store_error)? {
                let directory = local.executor.state.run(&known.job.run);
                if is_old(&known.job, now, keep) && directory.root().exists() {
                    match std::fs::remove_dir_all(directory.root()) {
                        Ok(()) => removed.push(known.job.run),
                        Err(error) => {
                            problems
                                .push(format!("{} cannot be removed: {error}", directory.root().display()));
                        }
                    }
                }
            }
        }
        Place::Cluster(cluster) => {
            let runs = cluster.runs().await.inspect_err(|error| problems.push(format!("{error:#}")));
            for job in runs.unwrap_or_default().into_iter().filter(|job| is_old(job, now, keep)) {
                match cluster.store.remove(&job.reference(), JobPhase::Published).await {
                    Ok(true) => removed.push(job.run),
                    Ok(false) => {}
                    Err(error) => problems.push(format!("Job {} cannot be removed: {error}", job.run)),
                }
            }
        }
    }
    Ok(removed)
}

fn removed(run: RunId) -> SweepAction {
    SweepAction {
        action: Action::Removed,
        task: None,
        agent: None,
        run: Some(run.to_string()),
        reason: None,
        unannounced: false,
    }
}

fn tell(report: &SweepReport, format: Format, is_whole: bool) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::json(report);
    }
    if report.actions.is_empty() {
        let words = if is_whole {
            "everything is as it should be"
        } else {
            "nothing was done; not everything could be seen"
        };
        return output::result(words);
    }
    output::result(&report.actions.iter().map(line).collect::<Vec<_>>().join("\n"))
}

fn line(action: &SweepAction) -> String {
    let mut words = vec![format!("{:<12}", action.action.name())];
    words.extend(action.task.clone());
    words.extend(action.agent.as_ref().map(|agent| format!("by {agent}")));
    words.extend(action.run.as_ref().map(|run| format!("({run})")));
    let reason = action.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    let lost = if action.unannounced { "; no event told of it" } else { "" };
    escape::terminal(&format!("{}{reason}{lost}", words.join(" "))).into_owned()
}
