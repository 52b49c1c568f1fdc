//! `explain`: what `dispatch` would do, and why. The same pass, tried on a copy.

use crate::adapters::store::Items;
use crate::adapters::store::drive::drive;
use crate::adapters::store::memory::MemoryStore;
use crate::adapters::store::sqlite::SqliteStore;
use crate::cli::{ExplainArgs, Format};
use crate::commands::dispatch::{executor_kind, report_of};
use crate::commands::local::{Local, store_error};
use crate::commands::meant::meant;
use crate::domain::pass::{ItemRead, Pass, PassEnd, PassInput, Timing};
use crate::domain::registry::ExecutorKind;
use crate::domain::report::DecisionReport;
use crate::domain::work_item::{ItemRef, WorkItem};
use crate::error::{Exit, UserError};
use crate::output::{self, decision_table};

pub(super) async fn run(args: &ExplainArgs) -> anyhow::Result<Exit> {
    let local = Local::open(&args.registry, &args.state, args.executor.git_base_url.as_deref())?;
    if executor_kind(args.executor.executor, local.registry()) == ExecutorKind::Kubernetes {
        return Err(super::dispatch::not_on_a_cluster().into());
    }
    let meant = meant(&args.task, &local)?;
    let report = match (meant.item(), meant.hint()) {
        (Some(item), Some(hint)) => {
            let ledger = local.ledger().await?;
            let runs = local.executor.store.all_runs().map_err(store_error)?;
            let copy = MemoryStore::copy_of(ledger, runs.into_iter().map(|known| known.job).collect());
            let input = PassInput {
                workforce: &local.workforce,
                timing: Timing::default(),
                hints: vec![hint],
                stop: None,
                seed: rand::random(),
            };
            let items = Told { item, others: &local.executor.store };
            let PassEnd::Complete(report) =
                drive(Pass::new(input), &copy, &items).await.map_err(store_error)?
            else {
                return Err(UserError::retry("the copy of the ledger could not be used", "try again").into());
            };
            let mut report = report_of(&report, item, meant.delivery(), local.registry())?;
            report.run = None;
            report.also = Vec::new();
            report
        }
        _ => match meant.delivery() {
            Some(delivery) => DecisionReport::not_a_work_item(delivery, local.registry()),
            None => return Err(UserError::usage("no task is named", "name one with --task").into()),
        },
    };
    match args.format.format {
        Format::Json => output::json(&report)?,
        Format::Text => output::result(&decision_table::text(&report, local.registry(), true))?,
    }
    Ok(Exit::Handled)
}

/// The item as it was told; the others as they are kept.
struct Told<'a> {
    item: &'a WorkItem,
    others: &'a SqliteStore,
}

impl Items for Told<'_> {
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
