//! `agents doctor --probe`: a pod that tries what an agent's pods must not be able to do, and what
//! its attempts say about the cluster's network.
//!
//! The objects of a network policy prove nothing: a cluster whose network ignores them takes them
//! all the same.

use core::net::{IpAddr, SocketAddr};
use std::fmt;
use std::str::FromStr;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Container, LocalObjectReference, PodSecurityContext, PodSpec, PodTemplateSpec, ResourceRequirements,
    Sysctl,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

use super::pod::{OWN_BINARY, container_security, pod_security};
use super::provision::metadata;
use super::{AGENT_SERVICE_ACCOUNT, network};
use crate::domain::finding::{Finding, State};
use crate::domain::name::AgentName;
use crate::domain::registry::Agent;

/// Where a listening probe takes connections.
pub const LISTENER_PORT: u16 = 8080;
/// Where it answers datagrams, as a name server does.
pub const DNS_PORT: u16 = 53;
/// What a listening probe says once it does.
pub const LISTENING: &str = "listening";
/// The metadata service of the large clouds, which gives out credentials of the node.
pub const METADATA_ADDRESS: &str = "169.254.169.254:80";
/// The name of a probe's container.
pub const CONTAINER: &str = "probe";
/// Probes end by then, and are deleted soon after, whatever becomes of `doctor`, in seconds. A listening
/// one has to outlast those that look for it.
const LONGEST_TRY: i64 = 300;
const LONGEST_LISTEN: i64 = 900;
const KEPT: i32 = 60;

/// Something that a probe tries to reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The API server.
    ApiServer,
    /// A pod in the namespace of another agent; where there is no other agent, of the same.
    AgentPod,
    /// The metadata service.
    Metadata,
    /// A name server that is not the cluster's, over UDP: a way out for data.
    ForeignDns,
    /// The name server that the pod was given. It must reach it.
    NameServer,
    /// What its agent's `network.allow` names. It must reach it.
    Allowed,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::ApiServer => "api-server",
            Self::AgentPod => "agent-pod",
            Self::Metadata => "metadata",
            Self::ForeignDns => "foreign-dns",
            Self::NameServer => "name-server",
            Self::Allowed => "allowed",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::ApiServer => "the API server",
            Self::AgentPod => "an agent's pod",
            Self::Metadata => "the metadata service",
            Self::ForeignDns => "a foreign name server",
            Self::NameServer => "the cluster's DNS",
            Self::Allowed => "what `network.allow` names",
        }
    }
}

/// What is to be tried: on the command line, `api-server=10.0.0.1:443`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// What is there.
    pub target: Target,
    /// Host and port.
    pub address: String,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.target.name(), self.address)
    }
}

impl FromStr for Attempt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        use Target::{AgentPod, Allowed, ApiServer, ForeignDns, Metadata, NameServer};
        let targets = [ApiServer, AgentPod, Metadata, ForeignDns, NameServer, Allowed];
        text.split_once('=')
            .and_then(|(name, address)| {
                let target = targets.into_iter().find(|target| target.name() == name)?;
                Some(Self { target, address: address.to_owned() })
            })
            .ok_or_else(|| "is not TARGET=HOST:PORT".to_owned())
    }
}

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A connection, or over UDP an answer.
    Connected,
    /// It was refused.
    Refused,
    /// There was no answer in time.
    Unanswered,
    /// There was no way.
    Unreachable,
}

impl Outcome {
    fn text(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Refused => "refused",
            Self::Unanswered => "no answer",
            Self::Unreachable => "no way there",
        }
    }
}

/// An attempt that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// What was to be there.
    pub target: Target,
    /// Host and port.
    pub address: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// What a probe is there for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// To be found by another one.
    Listen,
    /// To try these. The API server's address within the cluster and the name server are known to
    /// the pod itself, and tried too.
    Try(Vec<Attempt>),
}

/// What a probe of an agent tries: the addresses that the API server has outside the cluster, a
/// listening probe, the metadata service, and each single address that the agent may reach.
pub fn attempts(agent: &Agent, api_server: &[String], listener: IpAddr) -> Vec<Attempt> {
    let attempt = |target, address: String| Attempt { target, address };
    let mut attempts: Vec<Attempt> =
        api_server.iter().map(|address| attempt(Target::ApiServer, address.clone())).collect();
    let at = |port| SocketAddr::new(listener, port).to_string();
    attempts.push(attempt(Target::AgentPod, at(LISTENER_PORT)));
    attempts.push(attempt(Target::ForeignDns, at(DNS_PORT)));
    attempts.push(attempt(Target::Metadata, METADATA_ADDRESS.to_owned()));
    let allowed = agent.network.allow.iter().filter_map(|entry| network::single_address(entry));
    attempts.extend(allowed.map(|address| attempt(Target::Allowed, address.to_string())));
    attempts
}

/// The agents in whose namespaces a probe has to listen: one for all others, and one for that one.
pub fn listeners(agents: &[AgentName]) -> &[AgentName] {
    agents.get(..2).unwrap_or(agents)
}

/// In whose namespace the listening probe is that an agent's probe tries to reach.
pub fn listener_for<'a>(agents: &'a [AgentName], agent: &AgentName) -> Option<&'a AgentName> {
    listeners(agents).iter().find(|listener| *listener != agent).or(agents.first())
}

/// The Job of a probe: a pod that the network treats as it treats the agent's. Without the label of
/// a run, the dispatcher does not see it.
pub fn job(agent: &Agent, image: &str, name: &str, part: &Part) -> Job {
    let metadata = metadata(name, Some(&agent.name.namespace()), Some(&agent.name));
    let pod_metadata = ObjectMeta { labels: metadata.labels.clone(), ..ObjectMeta::default() };
    let runtime = &agent.runtime;
    let pull_secrets = runtime.pull_secret.iter().map(|name| LocalObjectReference { name: name.clone() });
    let pod = PodSpec {
        containers: vec![container(image, part)],
        restart_policy: Some("Never".to_owned()),
        termination_grace_period_seconds: Some(1),
        service_account_name: Some(AGENT_SERVICE_ACCOUNT.to_owned()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(PodSecurityContext {
            // To answer where name servers do, without a right.
            sysctls: (*part == Part::Listen).then(|| {
                let name = "net.ipv4.ip_unprivileged_port_start".to_owned();
                vec![Sysctl { name, value: DNS_PORT.to_string() }]
            }),
            ..pod_security(runtime.uid)
        }),
        image_pull_secrets: Some(pull_secrets.collect::<Vec<_>>()).filter(|secrets| !secrets.is_empty()),
        runtime_class_name: runtime.runtime_class.clone(),
        ..PodSpec::default()
    };
    Job {
        metadata,
        spec: Some(JobSpec {
            backoff_limit: Some(0),
            active_deadline_seconds: Some(match part {
                Part::Listen => LONGEST_LISTEN,
                Part::Try(_) => LONGEST_TRY,
            }),
            ttl_seconds_after_finished: Some(KEPT),
            template: PodTemplateSpec { metadata: Some(pod_metadata), spec: Some(pod) },
            ..JobSpec::default()
        }),
        status: None,
    }
}

fn container(image: &str, part: &Part) -> Container {
    let mut command = vec![OWN_BINARY.to_owned(), "run".to_owned(), "probe".to_owned()];
    match part {
        Part::Listen => command.extend(["--listen".to_owned(), LISTENER_PORT.to_string()]),
        Part::Try(attempts) => {
            command.extend(attempts.iter().flat_map(|attempt| ["--target".to_owned(), attempt.to_string()]));
        }
    }
    let quantities = [("cpu", "100m"), ("memory", "64Mi")]
        .map(|(name, quantity)| (name.to_owned(), Quantity(quantity.to_owned())));
    Container {
        name: CONTAINER.to_owned(),
        image: Some(image.to_owned()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: Some(command),
        resources: Some(ResourceRequirements {
            limits: Some(quantities.clone().into()),
            requests: Some(quantities.into()),
            ..ResourceRequirements::default()
        }),
        security_context: Some(container_security(false)),
        ..Container::default()
    }
}

/// What the attempts of an agent's probe say.
pub fn findings(agent: &Agent, tried: &[Tried]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = tried.iter().map(|one| judge(agent, one)).collect();
    if !tried.iter().any(|one| one.target == Target::NameServer) {
        findings.push(Finding {
            check: format!("{}: probe: its pods reach the cluster's DNS", agent.name.namespace()),
            state: State::Unknown,
            faults: vec!["its pods are given no name server".to_owned()],
            remedy: None,
        });
    }
    findings
}

fn judge(agent: &Agent, tried: &Tried) -> Finding {
    let namespace = agent.name.namespace();
    let (what, address, outcome) = (tried.target.text(), &tried.address, tried.outcome.text());
    let connected = tried.outcome == Outcome::Connected;
    let must_reach = match tried.target {
        Target::NameServer => Some((
            "an agent cannot look up names",
            "agents may ask the pods labelled k8s-app=kube-dns in kube-system: label the cluster's DNS so, \
             or allow its address, CIDR:53, in `network.allow` of the agent",
        )),
        Target::Allowed => Some((
            "the agent may reach it, and does not",
            "see whether something listens there and lets the cluster's pods in; else take it out of \
             `network.allow`",
        )),
        Target::ApiServer | Target::AgentPod | Target::Metadata | Target::ForeignDns => None,
    };
    if let Some((harm, remedy)) = must_reach {
        let faults = if connected { Vec::new() } else { vec![format!("{address}: {outcome}: {harm}")] };
        return Finding::new(format!("{namespace}: probe: its pods reach {what}"), faults, remedy);
    }
    let check = format!("{namespace}: probe: its pods do not reach {what}");
    if !connected && tried.target == Target::Metadata {
        // The others are known to listen; here there may be nothing at all.
        let why = format!("{address}: {outcome}: kept away, or there is no such service here");
        return Finding::unknown(check, why, "on a cloud, see that its metadata service is off for pods");
    }
    if !connected {
        return Finding::new(format!("{check}: enforced ({address}: {outcome})"), Vec::new(), "");
    }
    if tried.target != Target::ForeignDns && network::is_allowed(agent, address) {
        let fault = format!("{address} let it connect, as `network.allow` says");
        return Finding::warning(check, vec![fault], "take it out of `network.allow` if it is not meant");
    }
    let remedy = match tried.target {
        Target::Metadata => {
            "let the network enforce NetworkPolicy, or turn the metadata service off for pods (on AWS a hop \
             limit of 1, on Google Cloud Workload Identity)"
        }
        _ => {
            "install a network plugin that enforces NetworkPolicy (such as Calico or Cilium), or turn \
             enforcement on in the one there is; until then nothing keeps agents apart"
        }
    };
    Finding::new(check, vec![format!("NOT ENFORCED: {address} answered it")], remedy)
}

/// A probe that told nothing: that counts as a failure, since nothing was shown.
pub fn untold(agent: &AgentName, why: impl Into<String>) -> Finding {
    Finding::new(
        format!("{}: probe: it runs and reports", agent.namespace()),
        vec![why.into()],
        "mend what it says, and run this again; the agent's quota has room for a probe and one run",
    )
}

#[cfg(test)]
mod tests;
