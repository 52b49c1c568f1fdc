//! `explain`: what `dispatch` would do, and why. The same pass, tried on a copy.

use std::sync::Arc;

use crate::adapters::store::drive::drive;
use crate::adapters::store::memory::MemoryStore;
use crate::adapters::store::{Items, StoreError};
use crate::cli::{ExplainArgs, Format, TaskArgs};
use crate::commands::dispatch::{locally, report_of, stale};
use crate::commands::local::{Local, store_error};
use crate::commands::meant::{Meant, fresh, meant, meant_on_cluster};
use crate::commands::on_cluster::OnCluster;
use crate::commands::place::Place;
use crate::domain::decision::Verdict;
use crate::domain::event::Delivery;
use crate::domain::matching::Workforce;
use crate::domain::pass::{Hint, ItemRead, NewJob, Pass, PassEnd, PassInput, PassReport, Timing};
use crate::domain::registry::Registry;
use crate::domain::report::{DecisionReport, ExecutorReport};
use crate::domain::work_item::{ItemRef, WorkItem};
use crate::error::{Exit, UserError};
use crate::output::{self, decision_table, workflow};

pub(super) async fn run(args: &ExplainArgs) -> anyhow::Result<Exit> {
    let git_base_url = args.git.git_base_url.as_deref();
    let (report, registry) = match Place::open_to_look(&args.place, git_base_url).await? {
        Place::Local(local) => (explained(&local, &args.task).await?, local.executor.workforce),
        Place::Cluster(cluster) => (explained_on_cluster(&cluster, &args.task).await?, cluster.workforce),
    };
    workflow::set_outputs(&report.step_outputs())?;
    workflow::add_summary(&decision_table::markdown(&report, registry.registry(), true))?;
    match args.format.format {
        Format::Json => output::json(&report)?,
        Format::Text => output::result(&decision_table::text(&report, registry.registry(), true))?,
    }
    Ok(Exit::Handled)
}

async fn explained(local: &Local, task: &TaskArgs) -> anyhow::Result<DecisionReport> {
    let meant = fresh(meant(task, local).await?, local.plane.as_ref()).await;
    Ok(match &meant {
        Meant::Told { item, delivery }
            if local.plane.is_none() && local.executor.store.is_known(item).map_err(store_error)? =>
        {
            stale(local, item, Some(delivery))?
        }
        Meant::Told { item, delivery } => tried_here(local, item, false, Some(delivery)).await?,
        Meant::ByHand { item } => tried_here(local, item, true, None).await?,
        Meant::NoItem { delivery } => DecisionReport::not_a_work_item(delivery, local.registry()),
    })
}

async fn explained_on_cluster(cluster: &OnCluster, task: &TaskArgs) -> anyhow::Result<DecisionReport> {
    let meant = fresh(meant_on_cluster(task, cluster).await?, cluster.items.plane.as_ref()).await;
    Ok(match &meant {
        Meant::Told { item, delivery } => tried_on_cluster(cluster, item, false, Some(delivery)).await?.0,
        Meant::ByHand { item } => tried_on_cluster(cluster, item, true, None).await?.0,
        Meant::NoItem { delivery } => DecisionReport::not_a_work_item(delivery, cluster.registry()),
    })
}

/// Tries the pass on a copy of the cluster's ledger and Jobs; also the run that it would start.
pub(super) async fn tried_on_cluster(
    cluster: &OnCluster,
    item: &WorkItem,
    by_hand: bool,
    delivery: Option<&Delivery>,
) -> anyhow::Result<(DecisionReport, Option<NewJob>)> {
    let jobs = cluster.runs().await?;
    let copy = MemoryStore::copy_of(cluster.ledger().await?, jobs);
    let told = Told { item, others: &cluster.items };
    let hint = Hint { item: item.reference(), by_hand };
    let executor = cluster.executor(None);
    tried(&cluster.workforce, &copy, &told, hint, delivery, Some(executor)).await
}

/// Tries the pass on a copy of the ledger and the runs.
async fn tried_here(
    local: &Local,
    item: &WorkItem,
    by_hand: bool,
    delivery: Option<&Delivery>,
) -> anyhow::Result<DecisionReport> {
    let runs = local.executor.store.all_runs().map_err(store_error)?;
    let jobs = runs.into_iter().map(|known| known.job).collect();
    let copy = MemoryStore::copy_of(local.ledger().await?, jobs);
    let items = Told { item, others: &local.items() };
    let hint = Hint { item: item.reference(), by_hand };
    let workforce = &local.executor.workforce;
    Ok(tried(workforce, &copy, &items, hint, delivery, Some(locally())).await?.0)
}

/// Tries the pass; also the run that it would start.
pub(super) async fn tried<I: Items>(
    workforce: &Workforce,
    copy: &MemoryStore,
    items: &Told<'_, I>,
    hint: Hint,
    delivery: Option<&Delivery>,
    executor: Option<ExecutorReport>,
) -> anyhow::Result<(DecisionReport, Option<NewJob>)> {
    let input = PassInput {
        workforce,
        timing: Timing::default(),
        hints: vec![hint],
        stop: None,
        seed: rand::random(),
    };
    match drive(Pass::new(input), copy, items).await.map_err(store_error)? {
        PassEnd::Complete(pass) => {
            let report = report_of(&pass, items.item, delivery, workforce.registry(), executor)?;
            let new = new_run(&pass, items.item, workforce.registry());
            Ok((DecisionReport { run: None, also: Vec::new(), ..report }, new))
        }
        PassEnd::LedgerBroken(why) => Err(store_error(StoreError::BrokenLedger(why)).into()),
        PassEnd::Unfinished(why) => Err(UserError::retry(why, "try again; nothing was changed").into()),
    }
}

/// The run that a pass started for this item.
fn new_run(pass: &PassReport<'_>, item: &WorkItem, registry: &Registry) -> Option<NewJob> {
    let own = pass.outcomes.iter().find(|outcome| outcome.hinted && outcome.item == item.reference())?;
    let Some(Verdict::Dispatched { task, agent, .. }) = &own.verdict else { return None };
    Some(NewJob {
        run: own.run.clone()?,
        task: Arc::new((**task).clone()),
        agent: agent.name.clone(),
        namespace: agent.name.namespace(),
        attempt: 1,
        registry: registry.stamp.clone(),
    })
}

/// The item as it was told; the others as they are kept.
pub(super) struct Told<'a, I> {
    pub(super) item: &'a WorkItem,
    pub(super) others: &'a I,
}

impl<I: Items> Items for Told<'_, I> {
    async fn read(&self, items: &[ItemRef]) -> Vec<ItemRead> {
        let mut reads = self.others.read(items).await;
        for (asked, read) in items.iter().zip(&mut reads) {
            if *asked == self.item.reference() {
                *read = ItemRead::Found(Box::new(self.item.clone()));
            }
        }
        reads
    }
}
