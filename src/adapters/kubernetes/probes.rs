//! The Jobs of `agents doctor --probe`: made, watched, read, deleted.

use core::net::IpAddr;

use http::Method;
use k8s_openapi::api::batch::v1::Job as ClusterJob;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;

use super::Cluster;
use super::call::{Call, CallError, JSON};
use super::jobs::path;
use crate::domain::kubernetes::diagnosis::diagnose;

/// Of a probe's log no more is read than this, in bytes.
const LONGEST_LOG: i64 = 64 * 1024;

/// A probe's Job.
#[derive(Debug, Clone)]
pub struct Probe {
    namespace: String,
    name: String,
    uid: String,
}

/// How a probe is doing.
#[derive(Debug, Clone, Default)]
pub struct ProbeState {
    /// Its pod has ended, well or not, or will never be.
    pub ended: bool,
    /// What its pod is reached at.
    pub address: Option<IpAddr>,
    /// What it wrote so far.
    pub log: String,
    /// What it is doing, for people.
    pub sentence: String,
}

impl Cluster {
    /// Makes a probe's Job.
    pub async fn create_probe(&self, job: &ClusterJob) -> Result<Probe, CallError> {
        let namespace = job.metadata.namespace.clone().unwrap_or_default();
        let call = Call::with_json(Method::POST, path::<ClusterJob>(&namespace, None)?, JSON, job)?;
        let metadata = self.call::<ClusterJob>(&call).await?.value.metadata;
        Ok(Probe {
            namespace,
            name: metadata.name.unwrap_or_default(),
            uid: metadata.uid.unwrap_or_default(),
        })
    }

    /// How it is doing.
    pub async fn probe_state(&self, probe: &Probe) -> Result<ProbeState, CallError> {
        let job = self
            .call::<ClusterJob>(&Call::get(path::<ClusterJob>(&probe.namespace, Some(&probe.name))?))
            .await?;
        let pods = self.pods_of_job(&probe.namespace, &probe.uid).await?;
        let events = match pods.is_empty() {
            true => self.events_of_job(&probe.namespace, &probe.uid).await?,
            false => Vec::new(),
        };
        let conditions = job.value.status.as_ref().and_then(|status| status.conditions.as_deref());
        let job_ended = conditions.unwrap_or_default().iter().any(|condition| {
            ["Complete", "Failed"].contains(&condition.type_.as_str()) && condition.status == "True"
        });
        let mut state = ProbeState {
            ended: job_ended,
            sentence: diagnose(&job.value, &pods, &events, job.now).sentence,
            ..ProbeState::default()
        };
        if let Some(pod) = pods.first() {
            let status = pod.status.as_ref();
            let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or_default();
            state.ended |= ["Succeeded", "Failed"].contains(&phase);
            state.address = status.and_then(|status| status.pod_ip.as_deref()?.parse().ok());
            if phase != "Pending" {
                state.log = self.probe_log(&probe.namespace, pod).await?;
            }
        }
        Ok(state)
    }

    async fn probe_log(&self, namespace: &str, pod: &Pod) -> Result<String, CallError> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let parameters = LogParams { limit_bytes: Some(LONGEST_LOG), ..LogParams::default() };
        match pods.logs(pod.metadata.name.as_deref().unwrap_or_default(), &parameters).await {
            Ok(log) => Ok(log),
            // A container that has not started has no log: the API server says so with 400.
            Err(kube::Error::Api(status)) if [400, 404].contains(&status.code) => Ok(String::new()),
            Err(error) => Err(CallError::Unavailable(format!("read the log of a probe: {error}"))),
        }
    }

    /// Deletes it with its pod. One that is gone is no error.
    pub async fn delete_probe(&self, probe: &Probe) -> Result<(), CallError> {
        match self.delete::<ClusterJob>(&probe.namespace, &probe.name, None).await {
            Err(CallError::NotFound(_)) => Ok(()),
            done => done,
        }
    }
}
