//! The store of one machine: ledger, runs and work items as events told them, in one SQLite file.
//! Every change is one transaction that checks its condition where the data is.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, Transaction, TransactionBehavior, params};

use super::{Creation, SecretWrite, Store, StoreError, StoreResult};
use crate::adapters::process_identity::ProcessIdentity;
use crate::domain::job::{Cancel, CancelReason, Claim, ItemState, Job, JobEnd, JobPhase, JobRef};
use crate::domain::ledger::{LEDGER_VERSION, Ledger};
use crate::domain::name::RunId;
use crate::domain::pass::{LedgerRead, Listing, NewJob, Version};

mod connection;
mod snapshots;

use connection::connect;

/// The store.
#[derive(Debug)]
pub struct SqliteStore {
    connection: Mutex<Connection>,
}

/// A run with the process that carries it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalRun {
    /// The run.
    pub job: Job,
    /// Its supervisor, once it has claimed the run and until the run has ended.
    pub supervisor: Option<ProcessIdentity>,
}

impl SqliteStore {
    /// Opens the store, made if it is not there, for this user only.
    pub fn open(path: &Path) -> StoreResult<Self> {
        OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(|error| {
            match error.kind() {
                std::io::ErrorKind::StorageFull => StoreError::Full(error.to_string()),
                _ => StoreError::Unavailable(format!("open {}: {error}", path.display())),
            }
        })?;
        Ok(Self { connection: Mutex::new(connect(path)?) })
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A panic under the lock leaves no transaction open: dropping one rolls it back.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One transaction that holds the write lock from its beginning.
    fn transaction<T>(&self, work: impl FnOnce(&Transaction<'_>) -> StoreResult<T>) -> StoreResult<T> {
        let mut connection = self.connection();
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failure)?;
        let done = work(&transaction)?;
        transaction.commit().map_err(failure)?;
        Ok(done)
    }

    /// Changes a Job if there is one and `change` says so.
    fn change(&self, job: &JobRef, change: impl FnOnce(&mut LocalRun) -> bool) -> StoreResult<bool> {
        Ok(self.change_run(job, change)?.is_some())
    }

    fn change_run(
        &self,
        job: &JobRef,
        change: impl FnOnce(&mut LocalRun) -> bool,
    ) -> StoreResult<Option<Job>> {
        self.transaction(|transaction| {
            let Some(mut run) = read_run(transaction, job)? else { return Ok(None) };
            if !change(&mut run) {
                return Ok(None);
            }
            write_run(transaction, &run)?;
            Ok(Some(run.job))
        })
    }

    /// Lets one supervisor, and no second one, carry out a released run. `None`: it is not there,
    /// not released any more, or has a supervisor.
    pub fn take_over(&self, run: &RunId, supervisor: ProcessIdentity) -> StoreResult<Option<JobRef>> {
        let Some(job) = self.run(run)?.map(|known| known.job.reference()) else { return Ok(None) };
        let taken = self.change(&job, |known| {
            let may = known.job.phase == JobPhase::Released
                && known.job.end.is_none()
                && known.supervisor.is_none();
            if may {
                known.supervisor = Some(supervisor);
                known.job.pod_alive = true;
            }
            may
        })?;
        Ok(taken.then_some(job))
    }

    /// Notes how a run ended, if this is still its supervisor.
    pub fn finish(&self, job: &JobRef, supervisor: ProcessIdentity, end: &JobEnd) -> StoreResult<bool> {
        self.change(job, |known| {
            let may = known.supervisor == Some(supervisor) && known.job.end.is_none();
            if may {
                known.supervisor = None;
                known.job.pod_alive = false;
                known.job.end = Some(end.clone());
            }
            may
        })
    }

    /// One run, whatever became of it.
    pub fn run(&self, run: &RunId) -> StoreResult<Option<LocalRun>> {
        Ok(select_runs(&self.connection(), "run = ?1", [run.as_str()])?.pop())
    }

    /// All runs that are not published, oldest first.
    pub fn unpublished_runs(&self) -> StoreResult<Vec<LocalRun>> {
        select_runs(&self.connection(), "published = 0", [])
    }

    /// All runs that were ever created here, oldest first.
    pub fn all_runs(&self) -> StoreResult<Vec<LocalRun>> {
        select_runs(&self.connection(), "1 = 1", [])
    }
}

/// Tells apart what a person can mend, what may pass, and what must stop everything.
fn failure(error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full(error.to_string()),
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            StoreError::BrokenLedger(error.to_string())
        }
        _ => StoreError::Unavailable(error.to_string()),
    }
}

fn to_text(value: &impl serde::Serialize) -> StoreResult<String> {
    serde_json::to_string(value).map_err(|error| StoreError::Unavailable(error.to_string()))
}

fn from_text<T: serde::de::DeserializeOwned>(text: &str) -> StoreResult<T> {
    serde_json::from_str(text).map_err(|error| StoreError::BrokenLedger(error.to_string()))
}

fn read_ledger(connection: &Connection) -> StoreResult<(Option<Ledger>, Version)> {
    let row = connection
        .query_row("SELECT version, document FROM ledger WHERE id = 1", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
        })
        .optional()
        .map_err(failure)?;
    let Some((version, text)) = row else { return Ok((None, Version(None))) };
    let value: serde_json::Value = from_text(&text)?;
    if value.get("version") != Some(&serde_json::json!(LEDGER_VERSION)) {
        return Err(StoreError::BrokenLedger("its version is not known".to_owned()));
    }
    Ok((Some(from_text(&text)?), Version(Some(version.to_string()))))
}

const RUN_COLUMNS: &str = "uid, document, pid, start_time";

fn select_runs(
    connection: &Connection,
    condition: &str,
    values: impl rusqlite::Params,
) -> StoreResult<Vec<LocalRun>> {
    let mut rows = connection
        .prepare(&format!("SELECT {RUN_COLUMNS} FROM jobs WHERE {condition} ORDER BY uid"))
        .map_err(failure)?;
    let runs = rows.query_map(values, columns).map_err(failure)?;
    runs.map(|row| run_of(row.map_err(failure)?)).collect()
}

type Columns = (i64, String, Option<u32>, Option<i64>);

fn columns(row: &Row<'_>) -> rusqlite::Result<Columns> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
}

fn run_of((uid, document, pid, start_time): Columns) -> StoreResult<LocalRun> {
    let job = Job { uid: uid.to_string(), ..from_text(&document)? };
    let supervisor = pid
        .zip(start_time)
        .map(|(pid, start_time)| ProcessIdentity { pid, start_time: start_time.cast_unsigned() });
    Ok(LocalRun { job, supervisor })
}

fn read_run(connection: &Connection, job: &JobRef) -> StoreResult<Option<LocalRun>> {
    let mut runs = select_runs(connection, "uid = ?1 AND run = ?2", params![job.uid, job.run.as_str()])?;
    Ok(runs.pop())
}

fn write_run(transaction: &Transaction<'_>, run: &LocalRun) -> StoreResult<()> {
    let (pid, start_time) =
        run.supervisor.map(|process| (process.pid, process.start_time.cast_signed())).unzip();
    transaction
        .execute(
            "UPDATE jobs SET document = ?2, published = ?3, pid = ?4, start_time = ?5 WHERE uid = ?1",
            params![run.job.uid, to_text(&run.job)?, run.job.phase == JobPhase::Published, pid, start_time],
        )
        .map_err(failure)?;
    Ok(())
}

impl Store for SqliteStore {
    async fn read_ledger(&self) -> StoreResult<LedgerRead> {
        let (ledger, version) = read_ledger(&self.connection())?;
        Ok(LedgerRead { ledger: ledger.unwrap_or_default(), version, now: Timestamp::now() })
    }

    async fn swap_ledger(&self, version: &Version, ledger: &Ledger) -> StoreResult<bool> {
        self.transaction(|transaction| {
            let (kept, current) = read_ledger(transaction)?;
            if current != *version {
                return Ok(false);
            }
            if kept.as_ref() != Some(ledger) {
                transaction
                    .execute(
                        "INSERT INTO ledger (id, version, document) VALUES (1, 1, ?1)
                         ON CONFLICT (id) DO UPDATE SET version = version + 1, document = ?1",
                        [to_text(ledger)?],
                    )
                    .map_err(failure)?;
            }
            Ok(true)
        })
    }

    async fn list_jobs(&self, namespace: &str) -> StoreResult<Listing> {
        let runs = select_runs(&self.connection(), "namespace = ?1 AND published = 0", [namespace])?;
        Ok(Listing { jobs: runs.into_iter().map(|run| run.job).collect(), orphans: Vec::new() })
    }

    async fn find_job(&self, namespace: &str, run: &RunId) -> StoreResult<(Option<Job>, Timestamp)> {
        let mut runs =
            select_runs(&self.connection(), "namespace = ?1 AND run = ?2", [namespace, run.as_str()])?;
        Ok((runs.pop().map(|run| run.job), Timestamp::now()))
    }

    /// Here nothing is pushed: a run's result is in the Job's end.
    async fn has_pushed(&self, _job: &JobRef) -> StoreResult<bool> {
        Ok(false)
    }

    async fn create_job(&self, new: &NewJob) -> StoreResult<Creation> {
        self.transaction(|transaction| {
            let condition = "namespace = ?1 AND run = ?2";
            let known =
                select_runs(transaction, condition, [new.namespace.as_str(), new.run.as_str()])?.pop();
            if let Some(known) = known {
                return Ok(Creation::Exists(Box::new(known.job)));
            }
            let document = to_text(&new.queued(String::new(), Timestamp::now()))?;
            transaction
                .execute(
                    "INSERT INTO jobs (namespace, run, document) VALUES (?1, ?2, ?3)",
                    params![new.namespace, new.run.as_str(), document],
                )
                .map_err(failure)?;
            Ok(Creation::Created(transaction.last_insert_rowid().to_string()))
        })
    }

    async fn write_secret(&self, _new: &NewJob, _job: &JobRef) -> StoreResult<SecretWrite> {
        Ok(SecretWrite::Written)
    }

    async fn release(&self, job: &JobRef) -> StoreResult<bool> {
        self.change(job, |known| {
            let may = known.job.phase == JobPhase::Queued;
            if may {
                known.job.phase = JobPhase::Released;
            }
            may
        })
    }

    async fn cancel(&self, job: &JobRef, reason: CancelReason) -> StoreResult<bool> {
        self.change(job, |known| {
            let may = matches!(known.job.phase, JobPhase::Queued | JobPhase::Released);
            if may {
                known.job.phase = JobPhase::Cancelled;
                known.job.cancel = Some(Cancel { reason, at: Timestamp::now() });
            }
            may
        })
    }

    async fn delete(&self, job: &JobRef) -> StoreResult<bool> {
        self.transaction(|transaction| match read_run(transaction, job)?.map(|known| known.job.phase) {
            None => Ok(true),
            Some(JobPhase::Queued) => {
                transaction.execute("DELETE FROM jobs WHERE uid = ?1", [&job.uid]).map_err(failure)?;
                Ok(true)
            }
            Some(_) => Ok(false),
        })
    }

    async fn close(&self, job: &JobRef) -> StoreResult<bool> {
        self.transaction(|transaction| {
            let Some(mut known) = read_run(transaction, job)? else { return Ok(true) };
            match known.job.phase {
                JobPhase::Published => Ok(true),
                JobPhase::Released if known.job.end.is_some() => {
                    known.job.phase = JobPhase::Published;
                    known.job.cancel = Some(Cancel { reason: CancelReason::Replaced, at: Timestamp::now() });
                    write_run(transaction, &known)?;
                    Ok(true)
                }
                _ => Ok(false),
            }
        })
    }

    async fn claim(
        &self,
        job: &JobRef,
        seen: Option<&Claim>,
        claim: &Claim,
    ) -> StoreResult<Option<(Job, Timestamp)>> {
        let changed = self.change_run(job, |known| {
            let may = match known.job.phase {
                JobPhase::Released | JobPhase::Cancelled => seen.is_none(),
                JobPhase::Claimed => seen.is_some() && known.job.claim.as_ref() == seen,
                JobPhase::Queued | JobPhase::Published => false,
            };
            if may {
                known.job.phase = JobPhase::Claimed;
                known.job.claim = Some(claim.clone());
            }
            may
        })?;
        Ok(changed.map(|job| (job, Timestamp::now())))
    }

    async fn record_item_state(&self, job: &JobRef, state: &ItemState) -> StoreResult<bool> {
        self.change(job, |known| {
            known.job.item_state = Some(state.clone());
            true
        })
    }

    async fn mark_published(&self, job: &JobRef, holder: &str) -> StoreResult<bool> {
        self.change(job, |known| {
            let may = known.job.phase == JobPhase::Claimed
                && known.job.claim.as_ref().is_some_and(|claim| claim.holder == holder);
            if may {
                known.job.phase = JobPhase::Published;
            }
            may
        })
    }
}

#[cfg(test)]
mod tests;
