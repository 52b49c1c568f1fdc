//! `explain`: what `dispatch` would do, and why. The same pass, tried on a copy.

use crate::adapters::store::drive::drive;
use crate::adapters::store::memory::MemoryStore;
use crate::adapters::store::sqlite::SqliteStore;
use crate::adapters::store::{Items, StoreError};
use crate::cli::{ExplainArgs, Format};
use crate::commands::dispatch::{report_of, stale};
use crate::commands::local::{Local, store_error};
use crate::commands::meant::{Meant, meant};
use crate::domain::event::Delivery;
use crate::domain::pass::{Hint, ItemRead, Pass, PassEnd, PassInput, Timing};
use crate::domain::report::DecisionReport;
use crate::domain::work_item::{ItemRef, WorkItem};
use crate::error::{Exit, UserError};
use crate::output::{self, decision_table};

pub(super) async fn run(args: &ExplainArgs) -> anyhow::Result<Exit> {
    let local = Local::open_for(&args.registry, &args.state, &args.executor)?;
    let meant = meant(&args.task, &local).await?;
    let report = match &meant {
        Meant::Told { item, delivery } if local.executor.store.is_known(item).map_err(store_error)? => {
            stale(&local, item, Some(delivery))?
        }
        Meant::Told { item, delivery } => tried(&local, item, false, Some(delivery)).await?,
        Meant::ByHand { item } => tried(&local, item, true, None).await?,
        Meant::NoItem { delivery } => DecisionReport::not_a_work_item(delivery, local.registry()),
    };
    match args.format.format {
        Format::Json => output::json(&report)?,
        Format::Text => output::result(&decision_table::text(&report, local.registry(), true))?,
    }
    Ok(Exit::Handled)
}

/// Tries the pass on a copy of the ledger and the runs.
async fn tried(
    local: &Local,
    item: &WorkItem,
    by_hand: bool,
    delivery: Option<&Delivery>,
) -> anyhow::Result<DecisionReport> {
    let runs = local.executor.store.all_runs().map_err(store_error)?;
    let jobs = runs.into_iter().map(|known| known.job).collect();
    let copy = MemoryStore::copy_of(local.ledger().await?, jobs);
    let input = PassInput {
        workforce: &local.executor.workforce,
        timing: Timing::default(),
        hints: vec![Hint { item: item.reference(), by_hand }],
        stop: None,
        seed: rand::random(),
    };
    let items = Told { item, others: &local.executor.store };
    match drive(Pass::new(input), &copy, &items).await.map_err(store_error)? {
        PassEnd::Complete(pass) => {
            let report = report_of(&pass, item, delivery, local.registry())?;
            Ok(DecisionReport { run: None, also: Vec::new(), ..report })
        }
        PassEnd::LedgerBroken(why) => Err(store_error(StoreError::BrokenLedger(why)).into()),
        PassEnd::Unfinished(why) => Err(UserError::retry(why, "try again; nothing was changed").into()),
    }
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
