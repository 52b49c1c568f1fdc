//! The relay's spool: events that were answered 200 and not yet forwarded, and the digests of all
//! that came in the last weeks, so that none goes out twice.
//!
//! One thread owns the file. What many callers want to write at the same time is committed together,
//! with one wait for the disk; nobody is answered before that.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode};
use tokio::sync::{mpsc, oneshot};

use crate::domain::relay::coalesce::Pending;
use crate::error::UserError;

mod thread;

/// How many callers may wait for the thread.
const QUEUE: usize = 1024;
/// How long a second relay waits for the first to let go of the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// The version of the tables (`PRAGMA user_version`). Of version 1 the digests had an index; such a file is
/// used as it is.
const SCHEMA_VERSION: i64 = 2;
/// Bytes of a page. An event is about 4 KB: of smaller pages each takes several, and each page is written by
/// itself.
const PAGE: i64 = 16_384;
/// Pages of the write-ahead log between two checkpoints: each one waits for the disk twice.
const CHECKPOINT_PAGES: i64 = 2_048;
/// `state`: 0 waits, 1 forwarded, 2 GitHub refuses it. Times are Unix milliseconds.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS events (
        id INTEGER PRIMARY KEY AUTOINCREMENT, sha256 BLOB NOT NULL, received_at INTEGER NOT NULL,
        state INTEGER NOT NULL DEFAULT 0, item TEXT, field TEXT, updated_at INTEGER,
        body TEXT
    ) STRICT;
    CREATE INDEX IF NOT EXISTS waiting ON events (id) WHERE state = 0;
    CREATE TABLE IF NOT EXISTS probes (id INTEGER PRIMARY KEY CHECK (id = 1), at INTEGER NOT NULL) STRICT;";

/// SHA-256 of a body.
type Digest = [u8; 32];

/// An event that arrived.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// SHA-256 of the body.
    pub sha256: Digest,
    /// The body.
    pub body: String,
    /// What coalescing looks at; its `id` is given by the spool.
    pub pending: Pending,
}

/// One event as it came.
#[derive(Debug, Clone)]
pub struct Spooled {
    /// SHA-256 of the body, in hexadecimal.
    pub sha256: String,
    /// When it came.
    pub received_at: Timestamp,
    /// The body.
    pub body: String,
}

/// How the forwarding of an event ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// GitHub took it.
    Forwarded,
    /// GitHub will never take it. It is kept.
    Refused,
}

/// The spool could not do it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the spool: {0}")]
pub struct SpoolError(String);

/// The spool; clones share it.
#[derive(Clone)]
pub struct Spool {
    work: mpsc::Sender<(Work, oneshot::Sender<Result<Done, SpoolError>>)>,
}

/// What the thread is asked.
enum Work {
    Store(Box<Arrival>),
    End { ids: Vec<i64>, ended: Ended },
    Forget { before: Timestamp },
    Probe { now: Timestamp },
    Pending { most: usize },
    Load { id: i64 },
    Count,
}

/// What it answers.
enum Done {
    Stored(bool),
    Written,
    Pending(Vec<Pending>),
    Loaded(Option<Box<Spooled>>),
    Counted(i64, Option<Timestamp>),
}

impl Spool {
    /// Opens the file for this process alone, and starts its thread. The thread ends with the last
    /// clone of the spool.
    pub fn open(path: &Path) -> Result<Self, UserError> {
        let connection = connect(path).map_err(|error| unusable(&error, path))?;
        let digests = digests(&connection).map_err(|error| unusable(&error, path))?;
        Self::of_connection(connection, digests).map_err(|error| {
            UserError::failed(format!("cannot start a thread: {error}"), "free some resources, and try again")
        })
    }

    fn of_connection(connection: Connection, digests: HashSet<Digest>) -> std::io::Result<Self> {
        let (work, receiver) = mpsc::channel(QUEUE);
        std::thread::Builder::new()
            .name("relay-spool".to_owned())
            .spawn(move || thread::serve(&connection, digests, receiver))?;
        Ok(Self { work })
    }

    /// Keeps an event; it is on the disk when this returns. `false` if the same body came before.
    pub async fn store(&self, arrival: Arrival) -> Result<bool, SpoolError> {
        match self.ask(Work::Store(Box::new(arrival))).await? {
            Done::Stored(is_new) => Ok(is_new),
            _ => Err(confused()),
        }
    }

    /// Records that events need no more forwarding.
    pub async fn end(&self, ids: Vec<i64>, ended: Ended) -> Result<(), SpoolError> {
        self.ask(Work::End { ids, ended }).await.map(|_| ())
    }

    /// Forgets events that were forwarded and came before this time.
    pub async fn forget(&self, before: Timestamp) -> Result<(), SpoolError> {
        self.ask(Work::Forget { before }).await.map(|_| ())
    }

    /// Whether something can be written.
    pub async fn probe(&self) -> Result<(), SpoolError> {
        self.ask(Work::Probe { now: Timestamp::now() }).await.map(|_| ())
    }

    /// Events that wait, the oldest first.
    pub async fn pending(&self, most: usize) -> Result<Vec<Pending>, SpoolError> {
        match self.ask(Work::Pending { most }).await? {
            Done::Pending(pending) => Ok(pending),
            _ => Err(confused()),
        }
    }

    /// An event as it came.
    pub async fn load(&self, id: i64) -> Result<Option<Spooled>, SpoolError> {
        match self.ask(Work::Load { id }).await? {
            Done::Loaded(spooled) => Ok(spooled.map(|spooled| *spooled)),
            _ => Err(confused()),
        }
    }

    /// How many events wait, and since when.
    pub async fn count(&self) -> Result<(i64, Option<Timestamp>), SpoolError> {
        match self.ask(Work::Count).await? {
            Done::Counted(count, since) => Ok((count, since)),
            _ => Err(confused()),
        }
    }

    async fn ask(&self, work: Work) -> Result<Done, SpoolError> {
        let gone = || SpoolError("its thread has ended".to_owned());
        let (answer, done) = oneshot::channel();
        self.work.send((work, answer)).await.map_err(|_| gone())?;
        done.await.map_err(|_| gone())?
    }
}

fn confused() -> SpoolError {
    SpoolError("another answer than was asked for".to_owned())
}

/// Of every event in the file.
fn digests(connection: &Connection) -> rusqlite::Result<HashSet<Digest>> {
    connection.prepare("SELECT sha256 FROM events")?.query_map([], |row| row.get(0))?.collect()
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "page_size", PAGE)?;
    // Two relays with one spool would forward everything twice.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    // What was answered survives a power cut, too.
    connection.pragma_update(None, "synchronous", "FULL")?;
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version > SCHEMA_VERSION {
        return Err(rusqlite::Error::InvalidParameterName(format!(
            "its tables have version {version}, and this program knows version {SCHEMA_VERSION}"
        )));
    }
    let make = format!("BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;");
    connection.execute_batch(&make)?;
    // A file of another form is refused now, and not at the first event.
    connection.prepare(thread::STORE)?;
    Ok(connection)
}

fn unusable(error: &rusqlite::Error, path: &Path) -> UserError {
    let place = path.display().to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            UserError::usage("another relay uses this spool", "stop it, or give this one its own --state-dir")
        }
        Some(ErrorCode::DiskFull) => UserError::failed("the disk is full", "free some space"),
        _ => UserError::failed(
            format!("the spool cannot be opened: {error}"),
            "check the file and its rights, or give another --state-dir",
        ),
    }
    .at(place)
}

#[cfg(test)]
mod tests;
