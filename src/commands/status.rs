//! `status`: runs, waiting tasks and agents.

use std::time::Duration;

use comfy_table::{Table, presets};

use crate::cli::{Format, StatusArgs};
use crate::commands::history;
use crate::commands::local::{Local, store_error};
use crate::commands::on_cluster::OnCluster;
use crate::commands::place::Place;
use crate::domain::escape;
use crate::domain::job::JobPhase;
use crate::domain::status::{KnownRun, PUBLISHED_SHOWN, RunState, RunStatus, StatusReport, report};
use crate::error::Exit;
use crate::output;

/// How often `--watch` looks.
const WATCH: Duration = Duration::from_secs(1);

pub(super) async fn run(args: &StatusArgs) -> anyhow::Result<Exit> {
    if let Some(count) = args.history {
        return history::run(args, count).await;
    }
    let place = Place::open(&args.place, None).await?;
    let mut shown = String::new();
    loop {
        let status = match &place {
            Place::Local(local) => {
                // A run whose process is gone is shown as what it is. Looking must be possible on a
                // full disk, too.
                if let Err(error) = local.executor.reconcile() {
                    log::warn!("{error}");
                }
                gather(local).await?
            }
            Place::Cluster(cluster) => gather_on_cluster(cluster).await?,
        };
        let text = match args.format.format {
            Format::Text => page(&status),
            Format::Json if args.watch => serde_json::to_string(&status)?,
            Format::Json => serde_json::to_string_pretty(&status)?,
        };
        if text != shown {
            output::result(&text)?;
            shown = text;
        }
        if !args.watch {
            return Ok(Exit::Handled);
        }
        tokio::time::sleep(WATCH).await;
    }
}

/// Reads everything; changes nothing.
pub(super) async fn gather(local: &Local) -> anyhow::Result<StatusReport> {
    let ledger = local.ledger().await?;
    let mut runs = Vec::new();
    for known in local.executor.store.all_runs().map_err(store_error)? {
        let result = local.result(&known.job.run)?;
        let step = local.step(&known.job.run).map(str::to_owned);
        runs.push(KnownRun { job: known.job, result, step, hindrance: None });
    }
    Ok(report(&ledger, &runs, local.registry()))
}

/// The same of a cluster. Results are read where they may still be: of the newest runs.
async fn gather_on_cluster(cluster: &OnCluster) -> anyhow::Result<StatusReport> {
    let ledger = cluster.ledger().await?;
    let jobs = cluster.runs().await?;
    let old = jobs.len().saturating_sub(PUBLISHED_SHOWN);
    let mut runs = Vec::with_capacity(jobs.len());
    for (place, job) in jobs.into_iter().enumerate() {
        let is_old = place < old && job.phase == JobPhase::Published;
        runs.push(if is_old {
            KnownRun { job, result: None, step: None, hindrance: None }
        } else {
            cluster.known(job).await?
        });
    }
    Ok(report(&ledger, &runs, cluster.registry()))
}

/// The page for people.
pub(super) fn page(status: &StatusReport) -> String {
    let mut parts = Vec::new();
    if status.runs.is_empty() {
        parts.push("no runs yet".to_owned());
    } else {
        let mut table = table(&["run", "task", "agent", "state", "since", ""]);
        for run in &status.runs {
            table.add_row([&run.run, &run.task, &run.agent, &run.state_words(), &run.since, &run.remark()]);
        }
        parts.push(table.to_string());
        parts.extend(status.runs.iter().filter_map(next_step));
    }
    if !status.waiting.is_empty() {
        let mut table = table(&["waiting", "priority", "since"]);
        for task in &status.waiting {
            table.add_row([task.task.as_ref().unwrap_or(&task.item), &task.priority, &task.since]);
        }
        parts.push(table.to_string());
    }
    let mut agents = table(&["agent", "role", "trait", "status", "busy"]);
    for agent in &status.agents {
        let busy = format!("{}/{}", agent.running, agent.max);
        agents.add_row([&agent.agent, &agent.role, &agent.trait_, &agent.status, &busy]);
    }
    parts.push(agents.to_string());
    escape::terminal(&parts.join("\n\n")).into_owned()
}

/// What is to be done about a run that is not over, in full.
fn next_step(run: &RunStatus) -> Option<String> {
    let (reason, next) = (run.reason.as_ref()?, run.next.as_ref()?);
    (run.state != RunState::Published).then(|| format!("{}: {reason}\n  next step: {next}", run.run))
}

fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head);
    table
}
