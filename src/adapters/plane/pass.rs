//! Plane as the machines of the protocol see it: where items are read, and where they are moved.

use std::collections::BTreeMap;
use std::time::Instant;

use futures_util::StreamExt;
use jiff::Timestamp;

use super::{PlaneClient, lock};
use crate::adapters::store::Items;
use crate::adapters::store::drive::{ItemStates, Undelivered};
use crate::domain::job::ItemState;
use crate::domain::name::{ItemId, ProjectId};
use crate::domain::pass::{ItemRead, StateTarget};
use crate::domain::request_budget::Importance;
use crate::domain::task::{REVIEWER, asked_roles};
use crate::domain::work_item::{ItemRef, WorkItem};

/// Requests for single items that are under way at once, at most.
const CONCURRENCY: usize = 4;
/// So many items of one project are read one by one; more by the project's list.
const MOST_SINGLE: usize = 5;

impl Items for PlaneClient {
    async fn read(&self, items: &[ItemRef]) -> Vec<ItemRead> {
        let listed = self.listed(items).await;
        let missing = items.iter().filter(|wanted| !listed.contains_key(&wanted.item)).copied();
        let single: Vec<ItemRead> = futures_util::stream::iter(missing.collect::<Vec<_>>())
            .map(|wanted| async move { self.read_one(wanted).await })
            .buffered(CONCURRENCY)
            .collect()
            .await;
        let mut single = single.into_iter();
        let read = |wanted: &ItemRef| match listed.get(&wanted.item) {
            Some(item) => ItemRead::Found(Box::new(item.clone())),
            None => single.next().unwrap_or(ItemRead::Unread),
        };
        items.iter().map(read).collect()
    }

    fn last_read(&self, item: ItemRef) -> Option<(WorkItem, Instant)> {
        lock(&self.seen).get(&item.item).cloned()
    }
}

impl PlaneClient {
    async fn read_one(&self, wanted: ItemRef) -> ItemRead {
        match self.item(wanted.project, wanted.item, Importance::FinalWord).await {
            Ok(Some(item)) => ItemRead::Found(Box::new(item)),
            Ok(None) => ItemRead::Gone,
            Err(error) => {
                log::warn!("{error}; {}", error.fault.remedy());
                ItemRead::Unread
            }
        }
    }

    /// Items of projects of which many are wanted. What a list lacks, or says too little about (a
    /// reviewer's links), is read by itself.
    async fn listed(&self, wanted: &[ItemRef]) -> BTreeMap<ItemId, WorkItem> {
        let mut counts: BTreeMap<ProjectId, usize> = BTreeMap::new();
        for item in wanted {
            *counts.entry(item.project).or_default() += 1;
        }
        let mut listed = BTreeMap::new();
        for (project, _) in counts.into_iter().filter(|(_, count)| *count > MOST_SINGLE) {
            match self.items(project, Importance::FinalWord).await {
                Ok(items) => listed.extend(items.into_iter().map(|item| (item.id, item))),
                Err(error) => log::warn!("{error}; {}", error.fault.remedy()),
            }
        }
        listed.retain(|_, item| !asked_roles(item).iter().any(|role| role == REVIEWER));
        listed
    }
}

impl ItemStates for PlaneClient {
    /// The machines read an item right before they move it: that read says where it comes from.
    async fn write_state(
        &self,
        item: ItemRef,
        to: &StateTarget,
        importance: Importance,
    ) -> Result<ItemState, Undelivered> {
        // However this ends, what was read is not how the item is after it.
        let seen = lock(&self.seen).remove(&item.item);
        let from = seen.map(|(item, _)| item.state).unwrap_or_default();
        let to = match self.set_state(item.project, item.item, to, importance).await {
            Ok(to) => to,
            Err(error) if error.fault.is_without_effect() => return Err(Undelivered::Refused(error.into())),
            Err(error) => return Err(Undelivered::Failed(error.into())),
        };
        Ok(ItemState { from, to, written_at: Timestamp::now(), acknowledged: true })
    }
}
