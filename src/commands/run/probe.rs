//! `run probe`: what `agents doctor --probe` starts in a pod. It only opens connections, sends
//! nothing, and says on stdout what came of it.

use std::io::ErrorKind;
use std::time::Duration;

use anyhow::Context;
use futures_util::future::join_all;
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::cli::RunProbeArgs;
use crate::domain::kubernetes::probe::{Attempt, DNS_PORT, LISTENING, Outcome, Target, Tried};
use crate::error::Exit;
use crate::output;

/// Some networks enforce a policy only a while after the pod has started. The agent does not start
/// sooner either: `install` and `prepare` come first.
const SETTLING: Duration = Duration::from_secs(5);
/// How long to wait for a connection or an answer.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Which name servers there are for the root: a question of RFC 1035 that every name server understands.
const QUESTION: [u8; 17] = [0xa5, 0x7a, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1];

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
    let any = listener.local_addr().context("look where it listens")?.ip();
    let name_server = UdpSocket::bind((any, DNS_PORT)).await.context("listen as a name server")?;
    output::result(LISTENING)?;
    let mut datagram = [0; 512];
    loop {
        tokio::select! {
            accepted = listener.accept() => drop(accepted.context("take a connection")?),
            received = name_server.recv_from(&mut datagram) => {
                let (length, sender) = received.context("take a datagram")?;
                // Whoever is not to be reached cannot be answered either: no failure of ours.
                let _ = name_server.send_to(&datagram[..length], sender).await;
            }
        }
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
    let reached = async {
        match attempt.target {
            Target::ForeignDns => ask(&attempt.address).await,
            _ => TcpStream::connect(&attempt.address).await.map(drop),
        }
    };
    let outcome = match tokio::time::timeout(TIMEOUT, reached).await {
        Ok(Ok(())) => Outcome::Connected,
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Outcome::Refused,
        Ok(Err(error)) if error.kind() == ErrorKind::TimedOut => Outcome::Unanswered,
        Ok(Err(_)) => Outcome::Unreachable,
        Err(_) => Outcome::Unanswered,
    };
    Tried { target: attempt.target, address: attempt.address, outcome }
}

/// Asks a name server, over UDP. Datagrams may be lost: each second again.
async fn ask(address: &str) -> std::io::Result<()> {
    let is_v6 = address.starts_with('[');
    let socket = UdpSocket::bind(if is_v6 { "[::]:0" } else { "0.0.0.0:0" }).await?;
    socket.connect(address).await?;
    let mut answer = [0; 512];
    loop {
        socket.send(&QUESTION).await?;
        if let Ok(received) = tokio::time::timeout(Duration::from_secs(1), socket.recv(&mut answer)).await {
            return received.map(drop);
        }
    }
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
        // Bound, and nobody listens: no other test can take the port.
        let bound = tokio::net::TcpSocket::new_v4().unwrap();
        bound.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = bound.local_addr().unwrap().to_string();
        assert_eq!(made(&address).await.outcome, Outcome::Refused);
        assert_eq!(made("no host at all").await.outcome, Outcome::Unreachable);
    }

    #[tokio::test]
    async fn an_answer_of_a_name_server() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap().to_string();
        let attempt = |address: String| attempt(Attempt { target: Target::ForeignDns, address });
        let asked = tokio::spawn(attempt(address.clone()));
        let mut question = [0; 64];
        let (length, sender) = server.recv_from(&mut question).await.unwrap();
        assert_eq!(&question[..length], QUESTION);
        server.send_to(&question[..length], sender).await.unwrap();
        assert_eq!(asked.await.unwrap().outcome, Outcome::Connected);
        // One that says nothing, and then none.
        assert_eq!(attempt(address.clone()).await.outcome, Outcome::Unanswered);
        drop(server);
        assert_eq!(attempt(address).await.outcome, Outcome::Refused);
    }
}
