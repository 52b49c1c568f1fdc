//! `dispatch` onto a cluster: the run goes on by itself, and nobody waits for it here.

use crate::cli::TaskArgs;
use crate::commands::cancel::words as stopped;
use crate::commands::meant::{Meant, meant_on_cluster};
use crate::commands::on_cluster::OnCluster;
use crate::commands::word;
use crate::domain::decision::{CancelledBecause, IgnoredBecause, Unwanted, Verdict};
use crate::domain::event::{Delivery, Subject};
use crate::domain::job::{Job, JobPhase};
use crate::domain::name::RunId;
use crate::domain::pass::Hint;
use crate::domain::report::{DecisionReport, Outcome};
use crate::domain::task::task_key;
use crate::domain::work_item::WorkItem;
use crate::error::Exit;
use crate::output::{self, decision_table};

use super::report_of;

/// Decides, and says what became of it.
pub(super) async fn carry_out(
    cluster: &OnCluster,
    task: &TaskArgs,
) -> anyhow::Result<(DecisionReport, Exit)> {
    let meant = meant_on_cluster(task, cluster).await?;
    let (report, exit) = match &meant {
        Meant::Told { item, delivery } => told(cluster, item, delivery).await?,
        Meant::ByHand { item } => dispatched(cluster, item, true, None).await?,
        Meant::NoItem { delivery } => (without_item(cluster, delivery).await?, Exit::Handled),
    };
    output::say(&decision_table::text(&report, cluster.registry(), false));
    if let Some(executor) = report.executor.as_ref().filter(|_| report.outcome == Outcome::Dispatched) {
        let place = [&executor.context, &executor.namespace, &executor.job]
            .map(|part| part.as_deref().unwrap_or("-"));
        output::say(&format!("executor: kubernetes, context {}, Job {}/{}", place[0], place[1], place[2]));
    }
    if exit == Exit::Retry {
        output::say(
            "what to do: run this again; nothing was lost, and with PLANE_API_KEY any `sweep` does as well",
        );
    }
    Ok((report, exit))
}

/// Without Plane an event is taken at its word: one from before the item's newest run is known.
async fn told(
    cluster: &OnCluster,
    item: &WorkItem,
    delivery: &Delivery,
) -> anyhow::Result<(DecisionReport, Exit)> {
    if cluster.items.plane.is_none() {
        output::say(
            "note: PLANE_API_KEY is not set: the event is taken at its word, and nothing else is admitted",
        );
        let jobs = match task_key(item, cluster.registry()) {
            Some(task) => cluster.runs_of(&task).await?,
            // It will be refused: its project is not mapped.
            None => Vec::new(),
        };
        let newest = jobs.into_iter().rev().find(|job| job.item == item.id);
        // One that has not begun is gone on with.
        let is_known = |job: &Job| job.created_at >= item.updated_at && job.phase != JobPhase::Queued;
        if let Some(job) = newest.filter(is_known) {
            let verdict = Verdict::Ignored { reason: IgnoredBecause::Stale { run: Some(job.run) } };
            let report = DecisionReport::new(&verdict, Some(delivery), Some(item), cluster.registry());
            return Ok((report, Exit::Handled));
        }
        cluster.items.told.get_or_init(|| item.clone());
    }
    dispatched(cluster, item, false, Some(delivery)).await
}

async fn dispatched(
    cluster: &OnCluster,
    item: &WorkItem,
    by_hand: bool,
    event: Option<&Delivery>,
) -> anyhow::Result<(DecisionReport, Exit)> {
    let hint = Hint { item: item.reference(), by_hand };
    let pass = cluster.pass(vec![hint], None).await?;
    for problem in &pass.problems {
        output::say(&format!("note: {problem}"));
    }
    if let Some(plane) = &cluster.items.plane {
        word::tell_outcomes(plane, &pass).await;
    }
    let mut report = report_of(&pass, item, event, cluster.registry(), None)?;
    let own = pass.outcomes.iter().find(|outcome| outcome.hinted && outcome.item == item.reference());
    let run = match own.and_then(|own| own.verdict.as_ref()) {
        Some(Verdict::Dispatched { agent, .. }) if report.outcome == Outcome::Dispatched => {
            own.and_then(|own| own.run.as_ref()).map(|run| (&agent.name, run))
        }
        _ => None,
    };
    report.executor = Some(cluster.executor(run));
    let is_let_go = |run: &RunId| pass.released.iter().any(|job| job.run == *run);
    let is_held_up = run.is_some_and(|(_, run)| !is_let_go(run)) && !pass.problems.is_empty();
    Ok((report, if is_held_up { Exit::Retry } else { Exit::Handled }))
}

/// An event of something else is ignored. A work item that is gone takes its run with it.
async fn without_item(cluster: &OnCluster, delivery: &Delivery) -> anyhow::Result<DecisionReport> {
    let registry = cluster.registry();
    let elsewhere = delivery.other_workspace(registry.plane.workspace_id).is_some();
    let item = match &delivery.subject {
        Subject::Gone(item) if !elsewhere => item,
        _ => return Ok(DecisionReport::not_a_work_item(delivery, registry)),
    };
    let live = cluster.ledger().await?.entries.into_iter().find(|entry| entry.item == *item);
    let verdict = match live {
        None => Verdict::Ignored { reason: IgnoredBecause::Unwanted(Unwanted::Gone) },
        Some(entry) => {
            stopped(cluster.pass(Vec::new(), Some(entry.run.clone())).await?.stop, &entry.run)?;
            let reason = CancelledBecause::Unwanted(Unwanted::Gone);
            Verdict::Cancelled { run: entry.run, reason, wait_for_new_role: false }
        }
    };
    Ok(DecisionReport::new(&verdict, Some(delivery), None, registry))
}
