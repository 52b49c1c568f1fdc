//! `sweep`: looks at everything, and mends what events, workflows and people left behind.

use jiff::{SignedDuration, Timestamp};

use crate::cli::{Format, SweepArgs};
use crate::commands::place::Place;
use crate::commands::word;
use crate::domain::escape;
use crate::domain::message;
use crate::domain::request_budget::Importance;
use crate::domain::sweep::{Action, Found, SweepAction, SweepReport, warning};
use crate::domain::work_item::WorkItem;
use crate::error::{Exit, UserError};
use crate::output::{self, decision_table, workflow};

mod leftovers;

use leftovers::Leftovers;

/// How many actions a step summary shows.
const SUMMARY_ROWS: usize = 200;

pub(super) async fn run(args: &SweepArgs) -> anyhow::Result<Exit> {
    let git_base_url = args.git.git_base_url.as_deref();
    let place = Place::open(&args.place, git_base_url).await?;
    if let Place::Cluster(cluster) = &place {
        cluster.forge.must_be_open()?;
    }
    let (listed, mut problems) = list(&place).await;
    let runs = place.runs().await.inspect_err(|error| problems.push(format!("{error:#}"))).ok();
    let found = Found::new(&listed, &place.ledger().await?, runs.as_deref(), place.registry());
    let pass = place.publishing_pass(found.hints.clone()).await?;
    problems.extend(pass.problems.iter().cloned());
    if let Some(plane) = place.plane() {
        word::tell_outcomes(plane, &pass).await;
    }
    let mut report = found.report(&pass, place.registry());
    let keep = SignedDuration::from_hours(24 * i64::from(args.keep_days));
    let leftovers = Leftovers { place: &place, now: Timestamp::now(), keep };
    let removal = leftovers.remove(runs.as_deref().unwrap_or_default()).await;
    report.add(removal.actions);
    problems.extend(removal.problems);
    for problem in problems.iter().chain(&removal.warnings) {
        output::say(&escape::terminal(&format!("note: {problem}")));
    }
    if let Some(warning) = warning(&report) {
        output::say(&format!("note: {warning}"));
    }
    workflow::add_summary(&summary(&report, problems.iter().chain(&removal.warnings)))?;
    tell(&report, args.format.format, problems.is_empty() && removal.warnings.is_empty())?;
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

fn tell(report: &SweepReport, format: Format, is_whole: bool) -> anyhow::Result<()> {
    let of = |action: Action| report.actions.iter().filter(move |one| one.action == action);
    let published: Vec<&str> = of(Action::Published).filter_map(|one| one.run.as_deref()).collect();
    workflow::set_outputs(&[
        ("published", published.join(" ")),
        ("unannounced", report.unannounced.to_string()),
    ])?;
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

/// For a step summary.
fn summary<'p>(report: &SweepReport, problems: impl Iterator<Item = &'p String>) -> String {
    let cell = |text: &str| message::markdown_line(text, 300);
    let counts = report.counts.iter().map(|(action, count)| format!("{count} {}", action.name()));
    let counts = counts.collect::<Vec<_>>().join(", ");
    let done = if counts.is_empty() { "nothing was to be done".to_owned() } else { counts };
    let mut page =
        format!("{} work items and {} runs were looked at: {}.\n", report.items, report.runs, cell(&done));
    page.extend(warning(report).map(|warning| format!("\n> {}\n", cell(&warning))));
    page.extend(problems.map(|problem| format!("\n- {}\n", cell(problem))));
    let rows: Vec<[String; 5]> = report
        .actions
        .iter()
        .take(SUMMARY_ROWS)
        .map(|one| {
            let [task, agent, run, reason] = [&one.task, &one.agent, &one.run, &one.reason]
                .map(|part| cell(part.as_deref().unwrap_or("–")));
            [cell(one.action.name()), task, agent, run, reason]
        })
        .collect();
    if !rows.is_empty() {
        let headings = ["Done", "Task", "Agent", "Run", "Why"].map(str::to_owned);
        page.push_str(&format!("\n{}\n", decision_table::markdown_table(&headings, &rows)));
    }
    page
}

fn line(action: &SweepAction) -> String {
    let mut words = vec![format!("{:<14}", action.action.name())];
    words.extend(action.task.clone());
    words.extend(action.agent.as_ref().map(|agent| format!("by {agent}")));
    words.extend(action.run.as_ref().map(|run| format!("({run})")));
    let reason = action.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    let lost = if action.unannounced { "; no event told of it" } else { "" };
    escape::terminal(&format!("{}{reason}{lost}", words.join(" "))).into_owned()
}
