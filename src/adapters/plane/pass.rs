//! Plane as the machines of the protocol see it: where items are read, and where they are moved.

use futures_util::StreamExt;
use jiff::Timestamp;

use super::{PlaneClient, lock};
use crate::adapters::store::Items;
use crate::adapters::store::drive::ItemStates;
use crate::domain::job::ItemState;
use crate::domain::pass::{ItemRead, StateTarget};
use crate::domain::request_budget::Importance;
use crate::domain::work_item::ItemRef;

/// Requests for single items that are under way at once, at most.
const CONCURRENCY: usize = 4;

impl Items for PlaneClient {
    async fn read(&self, items: &[ItemRef]) -> Vec<ItemRead> {
        futures_util::stream::iter(items.to_vec())
            .map(|wanted| async move {
                match self.item(wanted.project, wanted.item, Importance::FinalWord).await {
                    Ok(Some(item)) => ItemRead::Found(Box::new(item)),
                    Ok(None) => ItemRead::Gone,
                    Err(error) => {
                        log::warn!("{error}; {}", error.fault.remedy());
                        ItemRead::Unread
                    }
                }
            })
            .buffered(CONCURRENCY)
            .collect()
            .await
    }
}

impl ItemStates for PlaneClient {
    /// The machines read an item right before they move it: that read says where it comes from.
    async fn write_state(&self, item: ItemRef, to: &StateTarget) -> anyhow::Result<ItemState> {
        let from = lock(&self.seen).get(&item.item).cloned().unwrap_or_default();
        let to = self.set_state(item.project, item.item, to, Importance::Start).await?;
        Ok(ItemState { from, to, written_at: Timestamp::now(), acknowledged: true })
    }
}
