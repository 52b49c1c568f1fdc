//! What an agent's pods may reach: nothing at first, then DNS, public addresses on its ports, and
//! internal addresses that its file names one by one.

use core::net::{IpAddr, SocketAddr};

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::provision::metadata;
use super::string_map;
use crate::domain::registry::Agent;

/// IPv4 addresses that are no public ones: RFC 1918, RFC 6598, link-local (metadata services).
const INTERNAL_V4: [&str; 5] =
    ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16"];
/// IPv6 addresses that are no public ones: unique local, link-local.
const INTERNAL_V6: [&str; 2] = ["fc00::/7", "fe80::/10"];

/// An address that the policies cannot be made with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    /// `network.allow` of an agent.
    #[error("{0:?} in `network.allow` is no CIDR:port such as 10.0.0.5/32:8443 or [fd00::5/128]:8443")]
    Allow(String),
    /// An address of the API server.
    #[error("{0:?} is no IP address or CIDR of the API server")]
    ApiServer(String),
}

/// The policies of an agent's namespace. `api_server` are addresses or CIDRs of the API server that
/// would otherwise count as public.
pub fn policies(agent: &Agent, api_server: &[String]) -> Result<Vec<NetworkPolicy>, InvalidAddress> {
    let mut policies = vec![
        policy(agent, "default-deny", &["Ingress", "Egress"], None),
        policy(agent, "allow-dns", &["Egress"], Some(vec![dns()])),
    ];
    let excluded =
        api_server.iter().map(|address| api_server_cidr(address)).collect::<Result<Vec<_>, _>>()?;
    if !agent.network.ports.is_empty() {
        let ports = agent.network.ports.iter().map(|&port| tcp(port)).collect();
        let to = vec![
            public("0.0.0.0/0", &INTERNAL_V4, &excluded, false),
            public("::/0", &INTERNAL_V6, &excluded, true),
        ];
        let rule = NetworkPolicyEgressRule { to: Some(to), ports: Some(ports) };
        policies.push(policy(agent, "allow-public", &["Egress"], Some(vec![rule])));
    }
    if !agent.network.allow.is_empty() {
        let rules = agent.network.allow.iter().map(|entry| internal(entry)).collect::<Result<_, _>>()?;
        policies.push(policy(agent, "allow-internal", &["Egress"], Some(rules)));
    }
    Ok(policies)
}

fn policy(
    agent: &Agent,
    name: &str,
    types: &[&str],
    egress: Option<Vec<NetworkPolicyEgressRule>>,
) -> NetworkPolicy {
    NetworkPolicy {
        metadata: metadata(name, Some(&agent.name.namespace()), Some(&agent.name)),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector::default()),
            policy_types: Some(types.iter().map(|&type_| type_.to_owned()).collect()),
            ingress: None,
            egress,
        }),
    }
}

/// The cluster's own DNS and no other: k8s-app=kube-dns is what CoreDNS carries everywhere.
fn dns() -> NetworkPolicyEgressRule {
    let selector = |key: &str, value: &str| LabelSelector {
        match_labels: Some(string_map([(key, value.to_owned())])),
        ..LabelSelector::default()
    };
    let port = |protocol: &str| NetworkPolicyPort {
        port: Some(IntOrString::Int(53)),
        protocol: Some(protocol.to_owned()),
        end_port: None,
    };
    NetworkPolicyEgressRule {
        to: Some(vec![NetworkPolicyPeer {
            namespace_selector: Some(selector("kubernetes.io/metadata.name", "kube-system")),
            pod_selector: Some(selector("k8s-app", "kube-dns")),
            ip_block: None,
        }]),
        ports: Some(vec![port("UDP"), port("TCP")]),
    }
}

fn public(cidr: &str, internal: &[&str], excluded: &[String], v6: bool) -> NetworkPolicyPeer {
    let of_this_family = excluded.iter().filter(|cidr| cidr.contains(':') == v6).cloned();
    let except = internal.iter().map(|&cidr| cidr.to_owned()).chain(of_this_family).collect();
    block(cidr, Some(except))
}

/// The address that an entry of `network.allow` stands for, if it is a single one.
pub fn single_address(entry: &str) -> Option<SocketAddr> {
    let (network, length, port) = endpoint(entry)?;
    (length == longest(network)).then(|| SocketAddr::new(network, port))
}

/// Whether `network.allow` of an agent covers this address, `host:port`.
pub fn is_allowed(agent: &Agent, address: &str) -> bool {
    let Ok(address) = address.parse::<SocketAddr>() else { return false };
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    };
    let covers = |(network, length, port): (IpAddr, u8, u16)| {
        // A shift by all bits is no shift.
        let differ = (bits(network) ^ bits(address.ip())).checked_shr(128 - u32::from(length)).unwrap_or(0);
        network.is_ipv4() == address.is_ipv4() && port == address.port() && differ == 0
    };
    agent.network.allow.iter().filter_map(|entry| endpoint(entry)).any(covers)
}

fn endpoint(entry: &str) -> Option<(IpAddr, u8, u16)> {
    let (cidr, port) = entry.rsplit_once(':')?;
    let (network, length) = cidr.trim_start_matches('[').trim_end_matches(']').split_once('/')?;
    let (network, length): (IpAddr, u8) = (network.parse().ok()?, length.parse().ok()?);
    let port = port.parse().ok().filter(|&port: &u16| port > 0)?;
    (length <= longest(network)).then_some((network, length, port))
}

/// The length of a prefix that is a single address.
fn longest(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// `10.0.0.5/32:8443`, or `[fd00::5/128]:8443`: the port is what follows the last colon.
fn internal(entry: &str) -> Result<NetworkPolicyEgressRule, InvalidAddress> {
    let (network, length, port) = endpoint(entry).ok_or_else(|| InvalidAddress::Allow(entry.to_owned()))?;
    let cidr = format!("{network}/{length}");
    Ok(NetworkPolicyEgressRule { to: Some(vec![block(&cidr, None)]), ports: Some(vec![tcp(port)]) })
}

fn api_server_cidr(address: &str) -> Result<String, InvalidAddress> {
    match address.parse::<IpAddr>() {
        Ok(address) => Ok(format!("{address}/{}", longest(address))),
        Err(_) if is_cidr(address) => Ok(address.to_owned()),
        Err(_) => Err(InvalidAddress::ApiServer(address.to_owned())),
    }
}

fn is_cidr(text: &str) -> bool {
    text.split_once('/').is_some_and(|(address, length)| {
        let longest = address.parse().ok().map(longest);
        longest.is_some_and(|longest| length.parse::<u8>().is_ok_and(|length| length <= longest))
    })
}

fn block(cidr: &str, except: Option<Vec<String>>) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        ip_block: Some(IPBlock { cidr: cidr.to_owned(), except }),
        namespace_selector: None,
        pod_selector: None,
    }
}

fn tcp(port: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::Int(i32::from(port))),
        protocol: Some("TCP".to_owned()),
        end_port: None,
    }
}
