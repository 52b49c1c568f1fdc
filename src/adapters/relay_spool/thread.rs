//! The thread that owns the spool's file.

use std::collections::HashSet;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, Statement, params};
use tokio::sync::{mpsc, oneshot};

use super::{Arrival, Digest, Done, Ended, SpoolError, Spooled, Work};
use crate::domain::relay::coalesce::Pending;

/// The most that is committed together.
const LARGEST_BATCH: usize = 1024;

/// Keeps an event.
pub(super) const STORE: &str = "
    INSERT INTO events (sha256, received_at, item, field, updated_at, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

type Asked = (Work, oneshot::Sender<Result<Done, SpoolError>>);

/// The file, with what is done to it for each event made ready.
struct File<'c> {
    connection: &'c Connection,
    store: Statement<'c>,
    /// Of every event in the file. An index of them would be half of what is written: each event's digest
    /// belongs on another of its pages.
    digests: HashSet<Digest>,
    /// Digests that the present transaction adds and takes away.
    added: Vec<Digest>,
    forgotten: Vec<Digest>,
}

/// Serves until nobody can ask any more.
pub(super) fn serve(connection: &Connection, digests: HashSet<Digest>, mut asked: mpsc::Receiver<Asked>) {
    let store = match connection.prepare(STORE) {
        Ok(store) => store,
        Err(error) => return log::error!("the spool cannot be written: {error}"),
    };
    let mut file = File { connection, store, digests, added: Vec::new(), forgotten: Vec::new() };
    let mut batch = Vec::with_capacity(LARGEST_BATCH);
    while let Some(first) = asked.blocking_recv() {
        batch.push(first);
        // Whoever came while the last batch was written goes into this one.
        while batch.len() < LARGEST_BATCH
            && let Ok(next) = asked.try_recv()
        {
            batch.push(next);
        }
        file.serve_batch(&mut batch);
    }
}

impl File<'_> {
    fn serve_batch(&mut self, batch: &mut Vec<Asked>) {
        match self.together(batch.iter().map(|(work, _)| work)) {
            Ok(done) => {
                for ((_, answer), done) in batch.drain(..).zip(done) {
                    // Somebody who has gone away in the meantime wants no answer.
                    let _ = answer.send(Ok(done));
                }
            }
            // One of them does not fit, or nothing does: each for itself.
            Err(_) => {
                for (work, answer) in batch.drain(..) {
                    let done = self.together(std::iter::once(&work)).map(|mut done| done.pop());
                    let _ = answer.send(match done {
                        Ok(Some(done)) => Ok(done),
                        Ok(None) => Err(SpoolError("no answer".to_owned())),
                        Err(error) => Err(SpoolError(error.to_string())),
                    });
                }
            }
        }
    }

    /// All of it in one transaction, or nothing.
    fn together<'a>(&mut self, all: impl Iterator<Item = &'a Work>) -> rusqlite::Result<Vec<Done>> {
        let done = self.commit(all);
        let is_kept = done.is_ok();
        let (added, forgotten) = (std::mem::take(&mut self.added), std::mem::take(&mut self.forgotten));
        for digest in if is_kept { forgotten } else { added } {
            self.digests.remove(&digest);
        }
        done
    }

    fn commit<'a>(&mut self, all: impl Iterator<Item = &'a Work>) -> rusqlite::Result<Vec<Done>> {
        let transaction = self.connection.unchecked_transaction()?;
        let done = all.map(|work| self.carry_out(work)).collect::<rusqlite::Result<Vec<_>>>()?;
        transaction.commit()?;
        Ok(done)
    }

    fn carry_out(&mut self, work: &Work) -> rusqlite::Result<Done> {
        let connection = self.connection;
        match work {
            Work::Store(arrival) => self.store(arrival).map(Done::Stored),
            Work::End { ids, ended } => end(connection, ids, *ended).map(|()| Done::Written),
            Work::Forget { before } => {
                let mut statement = connection
                    .prepare("DELETE FROM events WHERE state = 1 AND received_at < ?1 RETURNING sha256")?;
                let rows = statement.query_map([before.as_millisecond()], |row| row.get(0))?;
                self.forgotten.extend(rows.collect::<rusqlite::Result<Vec<Digest>>>()?);
                Ok(Done::Written)
            }
            Work::Probe { now } => {
                let mut statement =
                    connection.prepare("INSERT OR REPLACE INTO probes (id, at) VALUES (1, ?1)")?;
                statement.execute([now.as_millisecond()]).map(|_| Done::Written)
            }
            Work::Pending { most } => pending(connection, *most).map(Done::Pending),
            Work::Load { id } => {
                let mut statement =
                    connection.prepare("SELECT sha256, received_at, body FROM events WHERE id = ?1")?;
                let spooled = statement.query_row([id], spooled).optional()?;
                Ok(Done::Loaded(spooled.map(Box::new)))
            }
            Work::Count => {
                let mut statement =
                    connection.prepare("SELECT count(*), min(received_at) FROM events WHERE state = 0")?;
                statement.query_row([], |row| Ok(Done::Counted(row.get(0)?, optional_time(row, 1)?)))
            }
        }
    }

    fn store(&mut self, arrival: &Arrival) -> rusqlite::Result<bool> {
        let pending = &arrival.pending;
        if !self.digests.insert(arrival.sha256) {
            return Ok(false);
        }
        self.added.push(arrival.sha256);
        self.store.execute(params![
            arrival.sha256,
            pending.received_at.as_millisecond(),
            pending.item.map(|item| item.to_string()),
            pending.field,
            pending.updated_at.map(Timestamp::as_microsecond),
            arrival.body,
        ])?;
        Ok(true)
    }
}

/// What was forwarded is only remembered; what GitHub refuses is kept whole.
fn end(connection: &Connection, ids: &[i64], ended: Ended) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(match ended {
        Ended::Forwarded => "UPDATE events SET state = 1, body = NULL WHERE id = ?1",
        Ended::Refused => "UPDATE events SET state = 2 WHERE id = ?1",
    })?;
    for id in ids {
        statement.execute([id])?;
    }
    Ok(())
}

fn pending(connection: &Connection, most: usize) -> rusqlite::Result<Vec<Pending>> {
    let mut statement = connection.prepare(
        "SELECT id, item, field, updated_at, received_at FROM events WHERE state = 0 ORDER BY id LIMIT ?1",
    )?;
    let rows = statement.query_map([i64::try_from(most).unwrap_or(i64::MAX)], |row| {
        let microseconds: Option<i64> = row.get(3)?;
        Ok(Pending {
            id: row.get(0)?,
            item: row.get::<_, Option<String>>(1)?.and_then(|item| item.parse().ok()),
            field: row.get(2)?,
            updated_at: microseconds.and_then(|count| Timestamp::from_microsecond(count).ok()),
            received_at: optional_time(row, 4)?.unwrap_or_default(),
        })
    })?;
    rows.collect()
}

fn spooled(row: &Row<'_>) -> rusqlite::Result<Spooled> {
    Ok(Spooled {
        sha256: hex::encode(row.get::<_, Vec<u8>>(0)?),
        received_at: optional_time(row, 1)?.unwrap_or_default(),
        body: row.get(2)?,
    })
}

fn optional_time(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    let milliseconds: Option<i64> = row.get(column)?;
    Ok(milliseconds.and_then(|count| Timestamp::from_millisecond(count).ok()))
}
