//! Opens the file, and makes its tables where there are none.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

/// How long a call waits for another process's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

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
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    switch_to_wal(&connection)?;
    // What was answered survives a power cut, too.
    connection.pragma_update(None, "synchronous", "FULL")?;
    let tables: i64 =
        connection
            .query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'items'", [], |row| row.get(0))?;
    if tables == 0 {
        connection.execute_batch(&format!("BEGIN IMMEDIATE; {SCHEMA} COMMIT;"))?;
    }
    Ok(connection)
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
