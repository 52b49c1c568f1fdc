//! Opens the file, and makes its tables where there are none.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

use super::failure;
use crate::adapters::store::{StoreError, StoreResult};

/// How long a call waits for another process's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The one version of the tables that this program reads and writes (`PRAGMA user_version`).
const SCHEMA_VERSION: i64 = 1;
/// Tables. `uid` is never used twice (AUTOINCREMENT); `pid` and `start_time` name the supervisor.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS ledger (
        id INTEGER PRIMARY KEY CHECK (id = 1), version INTEGER NOT NULL, document TEXT NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS jobs (
        uid INTEGER PRIMARY KEY AUTOINCREMENT, namespace TEXT NOT NULL, run TEXT NOT NULL,
        published INTEGER NOT NULL DEFAULT 0, document TEXT NOT NULL, pid INTEGER, start_time INTEGER,
        UNIQUE (namespace, run)
    ) STRICT;
    CREATE INDEX IF NOT EXISTS unpublished_jobs ON jobs (namespace) WHERE published = 0;
    CREATE TABLE IF NOT EXISTS items (
        project TEXT NOT NULL, item TEXT NOT NULL, sequence INTEGER NOT NULL, document TEXT NOT NULL,
        handled INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (project, item)
    ) STRICT;";

/// Opens it for many processes at once.
pub(super) fn connect(path: &Path) -> StoreResult<Connection> {
    let connection = configured(path).map_err(failure)?;
    match schema_version(&connection).map_err(failure)? {
        SCHEMA_VERSION => Ok(connection),
        0 => {
            let make = format!("BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;");
            connection.execute_batch(&make).map_err(failure)?;
            Ok(connection)
        }
        other => Err(StoreError::BrokenLedger(format!(
            "{} has tables of version {other}, and this program knows version {SCHEMA_VERSION}",
            path.display()
        ))),
    }
}

fn configured(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    switch_to_wal(&connection)?;
    // What was answered survives a power cut, too.
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

fn schema_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// SQLite does not wait for others here, however long the busy timeout is: it would be a deadlock
/// where two readers want to switch. So we do (<https://www.sqlite.org/wal.html>, "Busy").
fn switch_to_wal(connection: &Connection) -> rusqlite::Result<()> {
    let begun = Instant::now();
    loop {
        match connection.pragma_update(None, "journal_mode", "WAL") {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && begun.elapsed() < BUSY_TIMEOUT =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            done => return done,
        }
    }
}
