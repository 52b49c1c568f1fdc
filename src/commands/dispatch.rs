//! `dispatch`: the task of an event, and everything else that fits. On one machine it waits for the
//! run of its own task; its death stops no run. On a cluster it does not wait.

use crate::adapters::confinement;
use crate::adapters::local::StateDirectory;
use crate::adapters::run_directory::PUBLISH_PAGE;
use crate::cli::{DispatchArgs, DryRun, Format};
use crate::commands::cancel::words as stopped;
use crate::commands::local::{Local, store_error};
use crate::commands::meant::{Meant, meant};
use crate::commands::place::{Opened, Place};
use crate::commands::{readiness, word};
use crate::domain::decision::{CancelledBecause, IgnoredBecause, Unwanted, Verdict};
use crate::domain::escape;
use crate::domain::event::{Delivery, Subject};
use crate::domain::message;
use crate::domain::name::RunId;
use crate::domain::pass::{Hint, PassReport, TaskOutcome};
use crate::domain::registry::{ExecutorKind, Registry};
use crate::domain::report::{AlsoReport, DecisionReport, ExecutorReport, Outcome};
use crate::domain::result::RunResult;
use crate::domain::work_item::WorkItem;
use crate::error::{Exit, UserError};
use crate::output::{self, decision_table, workflow};

mod dry_run;
mod on_cluster;
mod wait;

use wait::{Waited, wait};

pub(super) async fn run(args: &DispatchArgs) -> anyhow::Result<Exit> {
    let git_base_url = args.git.git_base_url.as_deref();
    if args.dry_run == Some(DryRun::Client) {
        let opened = Opened::new(&args.place.registry, &args.place.state, git_base_url)?;
        return dry_run::on_client(opened, &args.task).await;
    }
    let place = match args.dry_run {
        Some(_) => Place::open_to_look(&args.place, git_base_url).await?,
        None => Place::open(&args.place, git_base_url).await?,
    };
    let (report, exit) = match (&place, args.dry_run) {
        (Place::Cluster(cluster), Some(_)) => return dry_run::on_server(cluster, &args.task).await,
        (Place::Cluster(cluster), None) => on_cluster::carry_out(cluster, &args.task).await?,
        (Place::Local(_), Some(_)) => return Err(dry_run::needs_cluster().into()),
        (Place::Local(local), None) => {
            carry_out(local, &meant(&args.task, local).await?, args.detach).await?
        }
    };
    workflow::add_summary(&decision_table::markdown(&report, place.registry(), false))?;
    finish(&place, args.format.format, &report)?;
    Ok(exit)
}

/// Decides, says what became of it, and waits for the run unless it is to be left alone.
pub(super) async fn carry_out(
    local: &Local,
    meant: &Meant,
    detach: bool,
) -> anyhow::Result<(DecisionReport, Exit)> {
    let mut exit = Exit::Handled;
    let mut report = decide(local, meant).await?;
    output::say(&decision_table::text(&report, local.registry(), false));
    let own = report.run.as_ref().and_then(|run| run.parse().ok());
    if let (Outcome::Dispatched, Some(run)) = (report.outcome, own) {
        say_where(local, &run);
        if !detach {
            let last = match wait(local, run).await? {
                Waited::Ended(result) => {
                    let last = result.run.clone();
                    report.result = Some(*result);
                    last
                }
                Waited::Unpublished(result, why) => {
                    output::say(&format!("{}: it is not published: {why}", result.run));
                    output::say("what to do: mend that, then run `astra-dispatch publish`; nothing was lost");
                    exit = Exit::Retry;
                    let last = result.run.clone();
                    report.result = Some(*result);
                    last
                }
                Waited::Left(last) => last,
            };
            report.run = Some(last.to_string());
        }
    }
    Ok((report, exit))
}

/// Runs the pass for what is meant, and says what became of it.
async fn decide(local: &Local, meant: &Meant) -> anyhow::Result<DecisionReport> {
    let store = &local.executor.store;
    let (item, hint) = match meant {
        Meant::Told { item, .. } => (item, Hint { item: item.reference(), by_hand: false }),
        Meant::ByHand { item } => (item, Hint { item: item.reference(), by_hand: true }),
        Meant::NoItem { delivery } => return without_item(local, delivery).await,
    };
    let ledger = local.ledger().await?;
    readiness::check(local, &ledger, item, hint.by_hand).await?;
    let is_told = matches!(meant, Meant::Told { .. });
    let is_news = !is_told || store.store_snapshot(item).map_err(store_error)?;
    // With a key for Plane, what counts is what is there now, not how old its event is. What waits may have
    // waited for something on this machine.
    let waits = ledger.waiting.iter().any(|waiting| waiting.item == item.id);
    if !is_news && local.plane.is_none() && !waits {
        return stale(local, item, meant.delivery());
    }
    // What other dispatchers were told and could not deal with before they died comes along.
    let told = store.unhandled_snapshots().map_err(store_error)?;
    let mut hints = vec![hint];
    for other in told.iter().filter(|other| other.id != item.id) {
        hints.push(Hint { item: other.reference(), by_hand: false });
    }
    let pass = local.pass(hints, None).await?;
    for problem in &pass.problems {
        output::say(&format!("note: {problem}"));
    }
    if let Some(plane) = &local.plane {
        word::tell_outcomes(plane, &pass).await;
    }
    // What could not be dealt with (a cancellation without an answer) comes along with the next one.
    let has_verdict = |item: &&WorkItem| {
        let own = |outcome: &TaskOutcome| outcome.item == item.reference() && outcome.verdict.is_some();
        pass.outcomes.iter().any(own)
    };
    for handled in told.iter().chain([item]).filter(has_verdict) {
        store.mark_handled(handled).map_err(store_error)?;
    }
    report_of(&pass, item, meant.delivery(), local.registry(), Some(locally()))
}

/// An event of something else is ignored. A work item that is gone takes its run with it.
async fn without_item(local: &Local, delivery: &Delivery) -> anyhow::Result<DecisionReport> {
    let elsewhere = delivery.other_workspace(local.registry().plane.workspace_id).is_some();
    let item = match &delivery.subject {
        Subject::Gone(item) if !elsewhere => item,
        _ => return Ok(DecisionReport::not_a_work_item(delivery, local.registry())),
    };
    let live = local.ledger().await?.entries.into_iter().find(|entry| entry.item == *item);
    let verdict = match live {
        None => Verdict::Ignored { reason: IgnoredBecause::Unwanted(Unwanted::Gone) },
        Some(entry) => {
            stopped(local.pass(Vec::new(), Some(entry.run.clone())).await?.stop, &entry.run)?;
            let reason = CancelledBecause::Unwanted(Unwanted::Gone);
            Verdict::Cancelled { run: entry.run, reason, wait_for_new_role: false }
        }
    };
    Ok(DecisionReport::new(&verdict, Some(delivery), None, local.registry()))
}

/// This state of the item is known already; the report names the run that it led to.
pub(super) fn stale(
    local: &Local,
    item: &WorkItem,
    event: Option<&Delivery>,
) -> anyhow::Result<DecisionReport> {
    let runs = local.executor.store.all_runs().map_err(store_error)?;
    let newest = runs.into_iter().rev().map(|known| known.job).find(|job| job.item == item.id);
    let reason = IgnoredBecause::Stale { run: newest.map(|job| job.run) };
    Ok(DecisionReport::new(&Verdict::Ignored { reason }, event, Some(item), local.registry()))
}

/// The document of a pass: what became of `item`, and of what else it touched.
pub(super) fn report_of(
    pass: &PassReport<'_>,
    item: &WorkItem,
    event: Option<&Delivery>,
    registry: &Registry,
    executor: Option<ExecutorReport>,
) -> anyhow::Result<DecisionReport> {
    let is_own = |outcome: &&TaskOutcome| outcome.hinted && outcome.item == item.reference();
    let own = pass.outcomes.iter().find(is_own);
    let verdict = own.and_then(|outcome| outcome.verdict.as_ref());
    let (Some(own), Some(verdict)) = (own, verdict) else {
        return Err(UserError::retry(
            "the work item could not be read, or its run may not have been stopped",
            "try again; nothing was lost",
        )
        .into());
    };
    // What an event told may be old.
    let item = own.read.as_deref().unwrap_or(item);
    let mut report = DecisionReport::new(verdict, event, Some(item), registry);
    report.executor = executor;
    report.run = own.run.as_ref().map(ToString::to_string).or(report.run);
    if let Some(why) = &own.refused {
        report.outcome = Outcome::Waiting;
        report.reason.clone_from(why);
        report.agent = None;
        report.run = None;
    }
    let others = pass.outcomes.iter().filter(|outcome| outcome.item != item.reference());
    report.also = others.filter_map(AlsoReport::of).collect();
    Ok(report)
}

/// The executor of one machine, for the report.
pub(super) fn locally() -> ExecutorReport {
    ExecutorReport { kind: ExecutorKind::Local, context: None, namespace: None, job: None }
}

/// Says where the run is, and what keeps the agent within it.
fn say_where(local: &Local, run: &RunId) {
    let directory = local.executor.state.run(run);
    output::say(&format!("executor: local, in {}", directory.root().display()));
    output::say(&confinement::level().to_string());
}

fn finish(place: &Place, format: Format, report: &DecisionReport) -> anyhow::Result<()> {
    workflow::set_outputs(&report.step_outputs())?;
    if format == Format::Json {
        return output::json(report);
    }
    let by_hand =
        report.task.as_ref().and_then(|task| task.key.as_deref()).filter(|_| place.plane().is_none());
    let words = match (&report.run, &report.result) {
        (_, Some(result)) => ending(place.state(), result, by_hand),
        (Some(run), None) => format!("{run}: {}", report.outcome.name()),
        (None, None) => report.outcome.name().to_owned(),
    };
    output::result(&words)
}

/// How a run ended, for people. `by_hand`: the task, where there is no Plane to move it in.
fn ending(state: &StateDirectory, result: &RunResult, by_hand: Option<&str>) -> String {
    let run = &result.run;
    let mut lines = vec![format!("{run}: {}", message::outcome_name(result.outcome))];
    if let Some(class) = result.class {
        lines.push(format!("why        {}", message::one_line(&result.reason, 300)));
        let next = by_hand.map_or_else(
            || message::class_next_step(class).to_owned(),
            |task| message::class_next_step_by_hand(class, task),
        );
        lines.push(format!("next step  {next}"));
    }
    if let Some(branch) = &result.branch {
        lines.push(format!("branch     {branch}"));
    }
    let page = state.run(run).path(PUBLISH_PAGE);
    if page.exists() {
        lines.push(format!("published  {}", page.display()));
    }
    escape::terminal(&lines.join("\n")).into_owned()
}
