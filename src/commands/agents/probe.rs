//! `agents doctor --probe`: starts probes in the agents' namespaces, waits for what they tell, and
//! deletes them.

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::adapters::kubernetes::Cluster;
use crate::adapters::kubernetes::call::CallError;
use crate::adapters::kubernetes::probes::{Probe, ProbeState};
use crate::domain::escape;
use crate::domain::finding::Finding;
use crate::domain::kubernetes::probe::{
    Attempt, LISTENING, Part, Tried, attempts, findings, job, listener_for, listeners, untold,
};
use crate::domain::name::AgentName;
use crate::domain::registry::{Agent, Registry};
use crate::error::UserError;
use crate::output;

/// How long a probe may take: its image may have to be pulled.
const LIMIT: Duration = Duration::from_secs(180);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);
/// How often to say that it still waits.
const PROGRESS: Duration = Duration::from_secs(10);
/// Probes at once.
const CONCURRENCY: usize = 8;

/// Probes every agent's namespace.
pub(super) async fn run(cluster: &Cluster, registry: &Registry) -> anyhow::Result<Vec<Finding>> {
    let image = registry.kubernetes.image.as_deref().ok_or_else(|| {
        UserError::usage(
            "`kubernetes.image` of astra.yaml is not set, and the probes run from it",
            "set it to our image by digest, or leave --probe out",
        )
    })?;
    let agents: Vec<AgentName> = registry.agents.keys().cloned().collect();
    let round = Round { cluster, image, suffix: format!("{:08x}", rand::random::<u32>()) };
    let namespaces: Vec<String> = agents.iter().map(AgentName::namespace).collect();
    output::say(&format!("probing, for at most 3 minutes each: {}", namespaces.join(", ")));
    let started =
        listeners(&agents).iter().map(async |name| (name, round.listen(&registry.agents[name]).await));
    let listening: BTreeMap<_, _> = join_all(started).await.into_iter().collect();
    let api_server = outside_addresses(&cluster.server).await;
    let probes = registry.agents.values().map(|agent| {
        let listener = listener_for(&agents, &agent.name).and_then(|name| listening.get(name));
        round.examine(agent, listener, &api_server)
    });
    let found = futures_util::stream::iter(probes).buffered(CONCURRENCY).collect::<Vec<_>>().await;
    for (probe, _) in listening.values().flatten() {
        round.delete(probe).await;
    }
    Ok(found.into_iter().flatten().collect())
}

/// The API server's addresses as this machine sees them. Behind a tunnel there are none.
async fn outside_addresses(server: &str) -> Vec<String> {
    match tokio::net::lookup_host(server).await {
        Ok(found) => found.filter(|found| !found.ip().is_loopback()).map(|found| found.to_string()).collect(),
        Err(error) => {
            log::warn!("{server} is not probed: {error}");
            Vec::new()
        }
    }
}

struct Round<'a> {
    cluster: &'a Cluster,
    image: &'a str,
    suffix: String,
}

impl Round<'_> {
    /// Starts a listening probe; where it is, or why there is none.
    async fn listen(&self, agent: &Agent) -> Result<(Probe, IpAddr), String> {
        let probe = self.start(agent, "listen", &Part::Listen).await?;
        let state = self.wait(agent, &probe, |state| state.log.contains(LISTENING)).await;
        match state.and_then(|state| state.address.ok_or_else(|| "its pod has no address".to_owned())) {
            Ok(address) => Ok((probe, address)),
            Err(why) => {
                self.delete(&probe).await;
                Err(format!("{}: {why}", agent.name.namespace()))
            }
        }
    }

    async fn examine(
        &self,
        agent: &Agent,
        listener: Option<&Result<(Probe, IpAddr), String>>,
        api_server: &[String],
    ) -> Vec<Finding> {
        let (listener, address) = match listener {
            Some(Ok(listener)) => listener,
            Some(Err(why)) => {
                let why = format!("there is no other pod to look for: {why}");
                return vec![untold(&agent.name, why)];
            }
            None => return Vec::new(),
        };
        match self.tell(agent, listener, attempts(agent, api_server, *address)).await {
            Ok(tried) => findings(agent, &tried),
            Err(why) => vec![untold(&agent.name, why)],
        }
    }

    async fn tell(
        &self,
        agent: &Agent,
        listener: &Probe,
        attempts: Vec<Attempt>,
    ) -> Result<Vec<Tried>, String> {
        let probe = self.start(agent, "try", &Part::Try(attempts)).await?;
        let state = self.wait(agent, &probe, |state| state.ended).await;
        self.delete(&probe).await;
        let log = state?.log;
        // Otherwise that it was not reached would mean nothing.
        let listener = self.cluster.probe_state(listener).await.map_err(|error| error.to_string())?;
        if listener.ended {
            return Err(format!("the pod that it was to look for ended meanwhile: {}", listener.sentence));
        }
        // The log has what went to stderr, too.
        log.lines()
            .find_map(|line| serde_json::from_str(line).ok())
            .ok_or_else(|| format!("it said {:?}", log.chars().take(300).collect::<String>()))
    }

    async fn start(&self, agent: &Agent, what: &str, part: &Part) -> Result<Probe, String> {
        let name = format!("doctor-{what}-{}", self.suffix);
        let job = job(agent, self.image, &name, part);
        self.cluster.create_probe(&job).await.map_err(|error| match error {
            CallError::NotFound(_) => {
                "the namespace does not exist: apply `agents provision` first".to_owned()
            }
            error => format!("it cannot be made: {error}"),
        })
    }

    /// Waits until the probe is so far; why it never will be otherwise.
    async fn wait(
        &self,
        agent: &Agent,
        probe: &Probe,
        done: impl Fn(&ProbeState) -> bool,
    ) -> Result<ProbeState, String> {
        let start = Instant::now();
        let mut said = start;
        loop {
            let state = self.cluster.probe_state(probe).await.map_err(|error| error.to_string())?;
            if done(&state) {
                return Ok(state);
            }
            if state.ended || start.elapsed() >= LIMIT {
                return Err(state.sentence);
            }
            if said.elapsed() >= PROGRESS {
                said = Instant::now();
                let text = format!("{}: probe: {}", agent.name.namespace(), state.sentence);
                output::say(&escape::terminal(&text));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn delete(&self, probe: &Probe) {
        if let Err(error) = self.cluster.delete_probe(probe).await {
            log::warn!("a probe stays for some minutes: {error}");
        }
    }
}
