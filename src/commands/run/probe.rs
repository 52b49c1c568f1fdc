//! `run probe`: what `agents doctor --probe` starts in a pod. It only opens connections, sends
//! nothing, and says on stdout what came of it.

use std::io::ErrorKind;
use std::time::Duration;

use anyhow::Context;
use futures_util::future::join_all;
use tokio::net::{TcpListener, TcpStream};

use crate::cli::RunProbeArgs;
use crate::domain::kubernetes::probe::{Attempt, LISTENING, Outcome, Target, Tried};
use crate::error::Exit;
use crate::output;

/// Some networks enforce a policy only a while after the pod has started. The agent does not start
/// sooner either: `install` and `prepare` come first.
const SETTLING: Duration = Duration::from_secs(5);
/// How long to wait for a connection.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Listens, or tries everything at once and writes one JSON list.
pub async fn run(args: &RunProbeArgs) -> anyhow::Result<Exit> {
    if let Some(port) = args.listen {
        return listen(port).await;
    }
    tokio::time::sleep(SETTLING).await;
    let own = cluster_address().into_iter().chain(name_server());
    let attempts: Vec<Attempt> = own.chain(args.targets.iter().cloned()).collect();
    let tried: Vec<Tried> = join_all(attempts.into_iter().map(attempt)).await;
    output::result(&serde_json::to_string(&tried).context("write the attempts as JSON")?)?;
    Ok(Exit::Handled)
}

async fn listen(port: u16) -> anyhow::Result<Exit> {
    let any = std::net::Ipv6Addr::UNSPECIFIED;
    let listener = match TcpListener::bind((any, port)).await {
        Ok(listener) => listener,
        // Without IPv6.
        Err(_) => TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, port)).await.context("listen")?,
    };
    output::result(LISTENING)?;
    loop {
        listener.accept().await.context("take a connection")?;
    }
}

/// Where the cluster says that its API server is, for every pod.
fn cluster_address() -> Option<Attempt> {
    let host = std::env::var("KUBERNETES_SERVICE_HOST").ok()?;
    let port = std::env::var("KUBERNETES_SERVICE_PORT").ok()?;
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    Some(Attempt { target: Target::ApiServer, address: format!("{host}:{port}") })
}

/// The first name server that the pod was given; name servers answer over TCP, too (RFC 7766).
fn name_server() -> Option<Attempt> {
    let text = std::fs::read_to_string("/etc/resolv.conf").ok()?;
    let server = text.lines().find_map(|line| line.strip_prefix("nameserver "))?.trim().parse().ok()?;
    let address = std::net::SocketAddr::new(server, 53).to_string();
    Some(Attempt { target: Target::NameServer, address })
}

async fn attempt(attempt: Attempt) -> Tried {
    let outcome = match tokio::time::timeout(TIMEOUT, TcpStream::connect(&attempt.address)).await {
        Ok(Ok(_)) => Outcome::Connected,
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Outcome::Refused,
        Ok(Err(error)) if error.kind() == ErrorKind::TimedOut => Outcome::Unanswered,
        Ok(Err(_)) => Outcome::Unreachable,
        Err(_) => Outcome::Unanswered,
    };
    Tried { target: attempt.target, address: attempt.address, outcome }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_and_a_refusal() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let made = |address: &str| attempt(Attempt { target: Target::AgentPod, address: address.to_owned() });
        assert_eq!(made(&address).await.outcome, Outcome::Connected);
        drop(listener);
        assert_eq!(made(&address).await.outcome, Outcome::Refused);
        assert_eq!(made("no host at all").await.outcome, Outcome::Unreachable);
    }
}
