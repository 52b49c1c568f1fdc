//! `dispatch`: the task of an event, and everything else that fits. On this machine it waits for the
//! run of its own task; its death stops no run.

use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use crate::adapters::confinement;
use crate::adapters::local::phase_process::Phase;
use crate::cli::{DispatchArgs, ExecutorChoice, Format};
use crate::commands::cancel::cancel;
use crate::commands::local::{Local, store_error};
use crate::commands::meant::{Meant, meant};
use crate::domain::decision::{CancelledBecause, IgnoredBecause, Unwanted, Verdict};
use crate::domain::event::{Delivery, Subject};
use crate::domain::job::{CancelReason, Job, JobPhase};
use crate::domain::message;
use crate::domain::name::RunId;
use crate::domain::pass::{Hint, PassReport, TaskOutcome};
use crate::domain::registry::{ExecutorKind, Registry};
use crate::domain::report::{AlsoReport, DecisionReport, ExecutorReport, Outcome};
use crate::domain::work_item::WorkItem;
use crate::error::{Exit, UserError};
use crate::output::{self, decision_table};

/// How often a waiting dispatcher looks at its run.
const POLL: Duration = Duration::from_millis(100);
/// How often it runs the pass meanwhile: for runs whose supervisor was killed, and for retries.
const PASS_EVERY: u32 = 20;

pub(super) async fn run(args: &DispatchArgs) -> anyhow::Result<Exit> {
    let local = Local::open(&args.registry, &args.state, args.executor.git_base_url.as_deref())?;
    if executor_kind(args.executor.executor, local.registry()) == ExecutorKind::Kubernetes {
        return Err(not_on_a_cluster().into());
    }
    let meant = meant(&args.task, &local).await?;
    let report = carry_out(&local, &meant, args.detach).await?;
    finish(args.format.format, &report)?;
    Ok(Exit::Handled)
}

/// Decides, says what became of it, and waits for the run unless it is to be left alone.
pub(super) async fn carry_out(local: &Local, meant: &Meant, detach: bool) -> anyhow::Result<DecisionReport> {
    let mut report = decide(local, meant).await?;
    output::say(&decision_table::text(&report, local.registry(), false));
    let own = report.run.as_ref().and_then(|run| run.parse().ok());
    if let (Outcome::Dispatched, Some(run)) = (report.outcome, own) {
        say_where(local, &run);
        if !detach {
            let last = wait(local, run).await?;
            report.result = local.result(&last)?;
            report.run = Some(last.to_string());
        }
    }
    Ok(report)
}

/// Which executor is meant: the option, then `astra.yaml`, then where this runs.
pub(super) fn executor_kind(choice: Option<ExecutorChoice>, registry: &Registry) -> ExecutorKind {
    let in_workflow = std::env::var_os("GITHUB_ACTIONS").is_some_and(|value| value == "true");
    match (choice, registry.executor) {
        (Some(ExecutorChoice::Local), _) => ExecutorKind::Local,
        (Some(ExecutorChoice::Kubernetes), _) => ExecutorKind::Kubernetes,
        (None, Some(kind)) => kind,
        (None, None) if in_workflow => ExecutorKind::Kubernetes,
        (None, None) => ExecutorKind::Local,
    }
}

/// This version submits no Jobs yet.
pub(super) fn not_on_a_cluster() -> UserError {
    UserError::usage(
        "this version carries runs out on one machine only",
        "use --executor local (or `executor: local` in astra.yaml)",
    )
    .at("--executor")
}

/// Runs the pass for what is meant, and says what became of it.
async fn decide(local: &Local, meant: &Meant) -> anyhow::Result<DecisionReport> {
    let store = &local.executor.store;
    let (item, hint) = match meant {
        Meant::Told { item, .. } => (item, Hint { item: item.reference(), by_hand: false }),
        Meant::ByHand { item } => (item, Hint { item: item.reference(), by_hand: true }),
        Meant::NoItem { delivery } => return without_item(local, delivery).await,
    };
    if matches!(meant, Meant::Told { .. }) && !store.store_snapshot(item).map_err(store_error)? {
        let run = newest_run(local, item)?;
        let verdict = Verdict::Ignored { reason: IgnoredBecause::Stale { run } };
        return Ok(DecisionReport::new(&verdict, meant.delivery(), Some(item), local.registry()));
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
    for handled in told.iter().chain([item]) {
        store.mark_handled(handled).map_err(store_error)?;
    }
    report_of(&pass, item, meant.delivery(), local.registry())
}

/// An event of something else is ignored. A work item that is gone takes its run with it.
async fn without_item(local: &Local, delivery: &Delivery) -> anyhow::Result<DecisionReport> {
    let Subject::Gone(item) = &delivery.subject else {
        return Ok(DecisionReport::not_a_work_item(delivery, local.registry()));
    };
    let live = local.ledger().await?.entries.into_iter().find(|entry| entry.item == *item);
    let verdict = match live {
        None => Verdict::Ignored { reason: IgnoredBecause::Unwanted(Unwanted::Gone) },
        Some(entry) => {
            cancel(local, &entry.run).await?;
            let reason = CancelledBecause::Unwanted(Unwanted::Gone);
            Verdict::Cancelled { run: entry.run, reason, wait_for_new_role: false }
        }
    };
    Ok(DecisionReport::new(&verdict, Some(delivery), None, local.registry()))
}

pub(super) fn newest_run(local: &Local, item: &WorkItem) -> anyhow::Result<Option<RunId>> {
    let runs = local.executor.store.all_runs().map_err(store_error)?;
    Ok(runs.into_iter().rev().map(|known| known.job).find(|job| job.item == item.id).map(|job| job.run))
}

/// The document of a pass: what became of `item`, and of what else it touched.
pub(super) fn report_of(
    pass: &PassReport<'_>,
    item: &WorkItem,
    event: Option<&Delivery>,
    registry: &Registry,
) -> anyhow::Result<DecisionReport> {
    let is_own = |outcome: &&TaskOutcome| outcome.hinted && outcome.item == item.reference();
    let own = pass.outcomes.iter().find(is_own);
    let verdict = own.and_then(|outcome| outcome.verdict.as_ref());
    let (Some(own), Some(verdict)) = (own, verdict) else {
        return Err(UserError::retry("the work item could not be read", "try again; nothing was lost").into());
    };
    let mut report = DecisionReport::new(verdict, event, Some(item), registry);
    report.run = own.run.as_ref().map(ToString::to_string).or(report.run);
    if let Some(why) = &own.refused {
        report.outcome = Outcome::Waiting;
        report.reason.clone_from(why);
        report.agent = None;
        report.run = None;
    }
    report.executor =
        Some(ExecutorReport { kind: ExecutorKind::Local, context: None, namespace: None, job: None });
    let others = pass.outcomes.iter().filter(|outcome| outcome.item != item.reference());
    report.also = others.filter_map(also).collect();
    Ok(report)
}

fn also(outcome: &TaskOutcome<'_>) -> Option<AlsoReport> {
    let verdict = outcome.verdict.as_ref()?;
    let (task, agent) = match verdict {
        Verdict::Dispatched { task, agent, .. } => (Some(task), Some(agent.name.to_string())),
        Verdict::Waiting { task, .. } => (Some(task), None),
        _ => (None, None),
    };
    Some(AlsoReport {
        task: task.map(|task| task.key.to_string()),
        agent,
        run: outcome.run.as_ref().map(ToString::to_string),
        outcome: Outcome::from(verdict),
    })
}

/// Says where the run is, and what keeps the agent within it.
fn say_where(local: &Local, run: &RunId) {
    let directory = local.executor.state.run(run);
    output::say(&format!("executor: local, in {}", directory.root().display()));
    output::say(&confinement::level().to_string());
}

/// Waits until the run is published, and follows it to its next attempt where it is replaced. The
/// first Ctrl-C cancels it, a second one leaves it to its supervisor.
async fn wait(local: &Local, mut run: RunId) -> anyhow::Result<RunId> {
    let mut said = None;
    let mut interrupted = false;
    // Made once: a signal that comes between two looks is not lost.
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for Ctrl-C")?;
    for round in 1_u32.. {
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            _ = interrupt.recv() => {
                if interrupted {
                    output::say(&format!("{run} is left to end by itself; see `astra-dispatch status`"));
                    return Ok(run);
                }
                interrupted = true;
                output::say(&format!("{run}: {}", cancel(local, &run).await?));
            }
        }
        if round % PASS_EVERY == 0 {
            local.pass(Vec::new(), None).await?;
        }
        if let Some(next) = replacement(local, &run).await? {
            output::say(&format!("{run} was lost and is tried again as {next}"));
            run = next;
            said = None;
        }
        let step = step(local, &run);
        if step.is_some() && step != said {
            output::say(&format!("{run}: {}", step.unwrap_or_default()));
            said = step;
        }
        if is_over(local, &run)? {
            say_ending(local, &run)?;
            return Ok(run);
        }
    }
    Ok(run)
}

/// The attempt that took a run's place, whoever's pass made it.
async fn replacement(local: &Local, run: &RunId) -> anyhow::Result<Option<RunId>> {
    let Some(job) = local.job(run)?.filter(is_replaced) else { return Ok(None) };
    let entries = local.ledger().await?.entries;
    Ok(entries.into_iter().find(|entry| entry.item == job.item && entry.run != *run).map(|entry| entry.run))
}

fn is_replaced(job: &Job) -> bool {
    job.cancel.as_ref().is_some_and(|cancel| cancel.reason == CancelReason::Replaced)
}

fn step(local: &Local, run: &RunId) -> Option<&'static str> {
    let directory = local.executor.state.run(run);
    Phase::ALL.iter().rev().map(|phase| phase.name()).find(|name| directory.path(name).is_dir())
}

fn is_over(local: &Local, run: &RunId) -> anyhow::Result<bool> {
    Ok(local.job(run)?.is_none_or(|job| job.phase == JobPhase::Published))
}

fn say_ending(local: &Local, run: &RunId) -> anyhow::Result<()> {
    let words = match (local.job(run)?, local.result(run)?) {
        (Some(job), _) if job.cancel.is_some() => "cancelled".to_owned(),
        (_, Some(result)) => {
            let name = message::outcome_name(result.outcome);
            format!("{name}: {}", message::one_line(&result.reason, 300))
        }
        (Some(job), None) => job
            .end
            .and_then(|end| end.failure)
            .map_or_else(|| "over".to_owned(), |failure| message::one_line(&failure.reason, 300)),
        (None, None) => "gone".to_owned(),
    };
    output::say(&format!("{run}: {words}"));
    Ok(())
}

fn finish(format: Format, report: &DecisionReport) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::json(report);
    }
    let words = match (&report.run, &report.result) {
        (Some(run), Some(result)) => format!("{run}: {}", message::outcome_name(result.outcome)),
        (Some(run), None) => format!("{run}: {}", report.outcome.name()),
        (None, _) => report.outcome.name().to_owned(),
    };
    output::result(&words)
}
