//! The ledger on a cluster: one ConfigMap, replaced only in the version that was read.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::Method;
use k8s_openapi::api::core::v1::ConfigMap;

use super::Cluster;
use super::call::{Answer, Call, CallError, JSON};
use super::jobs::path;
use crate::adapters::store::{StoreError, StoreResult};
use crate::domain::kubernetes::{LEDGER_KEY, LEDGER_NAME};
use crate::domain::ledger::{EntryState, LEDGER_VERSION, Ledger};
use crate::domain::matching::Running;
use crate::domain::pass::{LedgerRead, Version};

/// What we wrote so short a time ago need not be read again: if others have changed it since, the next swap
/// misses, and then it is read.
const WRITTEN_JUST_NOW: Duration = Duration::from_secs(2);

/// Where it is, and how it was read or written last.
#[derive(Debug)]
pub(super) struct ClusterLedger {
    system_namespace: String,
    last: Mutex<Option<LastRead>>,
}

#[derive(Debug)]
struct LastRead {
    /// What is swapped in keeps its labels and annotations.
    config_map: ConfigMap,
    running: Running,
    /// What we wrote, and when: good for one read.
    written: Option<(LedgerRead, Instant)>,
}

impl ClusterLedger {
    pub(super) fn new(system_namespace: &str) -> Self {
        Self { system_namespace: system_namespace.to_owned(), last: Mutex::new(None) }
    }

    /// What counts against each agent, by the ledger as it was read or written last.
    pub(super) fn running(&self) -> Running {
        self.last().as_ref().map(|last| last.running.clone()).unwrap_or_default()
    }

    pub(super) async fn read(&self, cluster: &Cluster) -> StoreResult<LedgerRead> {
        let written = self.last().as_mut().and_then(|last| last.written.take());
        if let Some((read, at)) = written
            && at.elapsed() < WRITTEN_JUST_NOW
        {
            return Ok(read);
        }
        let answer = self.get(cluster).await?;
        let text = answer.value.data.as_ref().and_then(|data| data.get(LEDGER_KEY));
        let ledger = match text {
            None => Ledger::default(),
            Some(text) => parse(text).map_err(|fault| {
                StoreError::BrokenLedger(format!(
                    "ConfigMap {}/{LEDGER_NAME}: {fault}",
                    self.system_namespace
                ))
            })?,
        };
        let read = LedgerRead { ledger, version: version(&answer.value), now: answer.now };
        let running = started(&read.ledger);
        *self.last() = Some(LastRead { config_map: answer.value, running, written: None });
        Ok(read)
    }

    pub(super) async fn swap(
        &self,
        cluster: &Cluster,
        version: &Version,
        ledger: &Ledger,
    ) -> StoreResult<bool> {
        let last = self.last().as_ref().map(|last| last.config_map.clone());
        let mut config_map = match last {
            Some(last) if last.metadata.resource_version == version.0 => last,
            _ => self.get(cluster).await?.value,
        };
        if config_map.metadata.resource_version != version.0 {
            return Ok(false);
        }
        let text = serde_json::to_string(ledger)
            .map_err(|error| StoreError::BrokenLedger(format!("it cannot be written: {error}")))?;
        config_map.metadata.managed_fields = None;
        config_map.data.get_or_insert_default().insert(LEDGER_KEY.to_owned(), text);
        let call = Call::with_json(Method::PUT, self.path()?, JSON, &config_map)?;
        match cluster.call::<ConfigMap>(&call).await {
            Ok(answer) => {
                self.note_written(answer, ledger);
                Ok(true)
            }
            Err(CallError::Conflict(_) | CallError::NotFound(_)) => Ok(false),
            // A ConfigMap holds at most 1 MiB.
            Err(CallError::Invalid(text)) => Err(StoreError::Full(text)),
            Err(error) => Err(error.into()),
        }
    }

    fn note_written(&self, answer: Answer<ConfigMap>, ledger: &Ledger) {
        let read = LedgerRead { ledger: ledger.clone(), version: version(&answer.value), now: answer.now };
        let (running, written) = (started(ledger), Some((read, Instant::now())));
        *self.last() = Some(LastRead { config_map: answer.value, running, written });
    }

    fn last(&self) -> MutexGuard<'_, Option<LastRead>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self) -> StoreResult<String> {
        Ok(path::<ConfigMap>(&self.system_namespace, Some(LEDGER_NAME))?)
    }

    async fn get(&self, cluster: &Cluster) -> StoreResult<Answer<ConfigMap>> {
        let answer = cluster.call::<ConfigMap>(&Call::get(self.path()?)).await;
        match answer {
            Err(CallError::NotFound(_)) => Err(StoreError::Denied(format!(
                "there is no ConfigMap {}/{LEDGER_NAME}: run `astra-dispatch agents provision | kubectl apply -f -`",
                self.system_namespace
            ))),
            other => Ok(other?),
        }
    }
}

fn version(config_map: &ConfigMap) -> Version {
    Version(config_map.metadata.resource_version.clone())
}

/// What counts against each agent.
fn started(ledger: &Ledger) -> Running {
    let mut running = Running::default();
    for entry in ledger.entries.iter().filter(|entry| entry.state == EntryState::Started) {
        running.add(&entry.agent);
    }
    running
}

/// Reads the ledger's document. The version comes first: another one may have another form.
fn parse(text: &str) -> Result<Ledger, String> {
    let value: serde_json::Value =
        serde_json::from_str(text).map_err(|error| format!("{LEDGER_KEY} is no JSON: {error}"))?;
    match value.get("version").and_then(serde_json::Value::as_u64) {
        Some(version) if version == u64::from(LEDGER_VERSION) => {
            serde_json::from_value(value).map_err(|error| format!("{LEDGER_KEY} cannot be read: {error}"))
        }
        Some(version) => Err(format!(
            "{LEDGER_KEY} has version {version}, this program knows {LEDGER_VERSION}: use the newest one"
        )),
        None => Err(format!("{LEDGER_KEY} has no version")),
    }
}
