//! Work items as events told them. Without Plane they stand for the items themselves.

use anyhow::Context;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::{SqliteStore, failure, from_text, to_text};
use crate::adapters::store::drive::{ItemStates, Undelivered};
use crate::adapters::store::{Items, StoreResult};
use crate::domain::job::ItemState;
use crate::domain::name::ProjectId;
use crate::domain::pass::{ItemRead, StateTarget};
use crate::domain::request_budget::Importance;
use crate::domain::work_item::{ItemRef, StateGroup, WorkItem};

impl SqliteStore {
    /// Keeps a work item as an event told it, if it is newer than what is kept. `false`: it is not,
    /// and a pass has dealt with what is kept. (One that was told twice because a dispatcher died in
    /// between counts as new.)
    pub fn store_snapshot(&self, item: &WorkItem) -> StoreResult<bool> {
        self.transaction(|transaction| {
            let kept = read_item(transaction, &item.reference())?;
            if is_known(transaction, kept.as_ref(), item)? {
                return Ok(false);
            }
            if kept.is_some_and(|kept| kept.updated_at == item.updated_at) {
                return Ok(true);
            }
            transaction
                .execute(
                    "INSERT OR REPLACE INTO items (project, item, sequence, document) VALUES (?1, ?2, ?3, ?4)",
                    params![
                        item.project.to_string(),
                        item.id.to_string(),
                        item.sequence.cast_signed(),
                        to_text(item)?
                    ],
                )
                .map_err(failure)?;
            Ok(true)
        })
    }

    /// Whether a pass has dealt with this state of an item, or a newer one is kept.
    pub fn is_known(&self, item: &WorkItem) -> StoreResult<bool> {
        let connection = self.connection();
        let kept = read_item(&connection, &item.reference())?;
        is_known(&connection, kept.as_ref(), item)
    }

    /// Notes that a pass has dealt with this snapshot of an item; a newer one is left as it is.
    pub fn mark_handled(&self, item: &WorkItem) -> StoreResult<()> {
        self.transaction(|transaction| {
            let kept = read_item(transaction, &item.reference())?;
            if kept.is_some_and(|kept| kept.updated_at == item.updated_at) {
                transaction
                    .execute(
                        "UPDATE items SET handled = 1 WHERE project = ?1 AND item = ?2",
                        params![item.project.to_string(), item.id.to_string()],
                    )
                    .map_err(failure)?;
            }
            Ok(())
        })
    }

    /// Snapshots that no pass has dealt with: their dispatchers died on the way.
    pub fn unhandled_snapshots(&self) -> StoreResult<Vec<WorkItem>> {
        let connection = self.connection();
        let mut documents =
            connection.prepare("SELECT document FROM items WHERE handled = 0").map_err(failure)?;
        let rows = documents.query_map([], |row| row.get::<_, String>(0)).map_err(failure)?;
        rows.map(|text| from_text(&text.map_err(failure)?)).collect()
    }

    /// The newest snapshot of an item.
    pub fn snapshot(&self, item: &ItemRef) -> StoreResult<Option<WorkItem>> {
        read_item(&self.connection(), item)
    }

    /// The newest snapshot of the item with this number in this project.
    pub fn snapshot_by_number(&self, project: ProjectId, sequence: u64) -> StoreResult<Option<WorkItem>> {
        let connection = self.connection();
        let mut documents = connection
            .prepare("SELECT document FROM items WHERE project = ?1 AND sequence = ?2")
            .map_err(failure)?;
        let items = documents
            .query_map(params![project.to_string(), sequence.cast_signed()], |row| row.get::<_, String>(0))
            .map_err(failure)?
            .map(|text| from_text::<WorkItem>(&text.map_err(failure)?));
        // Two items can have one number only if the project was made anew under the same id.
        Ok(items.collect::<StoreResult<Vec<_>>>()?.into_iter().max_by_key(|item| item.updated_at))
    }
}

/// Whether a pass has dealt with this state of an item, or what is kept of it is newer.
fn is_known(connection: &Connection, kept: Option<&WorkItem>, item: &WorkItem) -> StoreResult<bool> {
    match kept {
        Some(kept) if kept.updated_at == item.updated_at => is_handled(connection, &item.reference()),
        Some(kept) => Ok(kept.updated_at > item.updated_at),
        None => Ok(false),
    }
}

fn is_handled(connection: &Connection, item: &ItemRef) -> StoreResult<bool> {
    connection
        .query_row(
            "SELECT handled FROM items WHERE project = ?1 AND item = ?2",
            params![item.project.to_string(), item.item.to_string()],
            |row| row.get(0),
        )
        .map_err(failure)
}

fn read_item(connection: &Connection, item: &ItemRef) -> StoreResult<Option<WorkItem>> {
    let text = connection
        .query_row(
            "SELECT document FROM items WHERE project = ?1 AND item = ?2",
            params![item.project.to_string(), item.item.to_string()],
            |row| row.get::<_, String>(0),
        )
        .optional()
        .map_err(failure)?;
    text.map(|text| from_text(&text)).transpose()
}

/// Without Plane the snapshot stands for the item: it is moved here, so that an item whose run has
/// ended is not taken for a new request. A newer event replaces it.
impl ItemStates for SqliteStore {
    async fn write_state(
        &self,
        item: ItemRef,
        to: &StateTarget,
        _: Importance,
    ) -> Result<ItemState, Undelivered> {
        let moved = self.transaction(|transaction| {
            let Some(kept) = read_item(transaction, &item)? else { return Ok(None) };
            let name = match to {
                StateTarget::Named(name) => name.clone(),
                StateTarget::FirstStarted => "Started".to_owned(),
            };
            let from = kept.state.clone();
            let moved = WorkItem { state: name.clone(), group: StateGroup::Started, ..kept };
            transaction
                .execute(
                    "UPDATE items SET document = ?3 WHERE project = ?1 AND item = ?2",
                    params![item.project.to_string(), item.item.to_string(), to_text(&moved)?],
                )
                .map_err(failure)?;
            Ok(Some((from, name)))
        });
        let (from, to) =
            moved.map_err(anyhow::Error::from)?.context("no event has told of this work item")?;
        Ok(ItemState { from, to, written_at: Timestamp::now(), acknowledged: true })
    }
}

impl Items for SqliteStore {
    async fn read(&self, items: &[ItemRef]) -> Vec<ItemRead> {
        let read = |item| match self.snapshot(item) {
            Ok(Some(item)) => ItemRead::Found(Box::new(item)),
            // Nobody told us of it: that says nothing about whether it is wanted.
            Ok(None) | Err(_) => ItemRead::Unread,
        };
        items.iter().map(read).collect()
    }
}
