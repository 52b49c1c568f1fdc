//! The relay's receiving side, from a signed webhook of 4 KB to its 200, which is sent when the event is on
//! the disk. Goal: 0.7 times what an axum handler takes that only verifies the signature.
//!
//! Both servers run in this process, each on one thread like the program, and are asked in turn over the
//! same number of connections with the same bodies, so that what else the machine does hits both.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a benchmark may panic")]

#[path = "../tests/support/relay.rs"]
mod relay;
#[path = "../tests/support/site.rs"]
mod site;

use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use astra_dispatch::cli::Cli;
use astra_dispatch::commands;
use astra_dispatch::domain::relay::signature::{HEADER, Secrets};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::routing::post;
use axum::serve::ListenerExt;
use axum::{Router, serve};
use relay::{SECRET, signed};
use site::Site;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const ROUNDS: usize = 9;
/// Of each round and server.
const REQUESTS: usize = 16_384;
/// So many that the wait for the disk, which all share, is no limit: a commit takes whoever has come by then.
const CONNECTIONS: usize = 448;
const BODY: usize = 4_096;

fn main() {
    if std::env::var_os("ASTRA_WEBHOOK_SECRET").is_none() {
        // The relay reads its environment. Nobody listens where it forwards to.
        let error = std::process::Command::new(std::env::current_exe().unwrap())
            .env("ASTRA_WEBHOOK_SECRET", SECRET)
            .env("GITHUB_TOKEN", "ghs_token")
            .env("GITHUB_API_URL", "http://127.0.0.1:1")
            .exec();
        panic!("{error}");
    }
    let site = Site::new("true", 1);
    let servers = [("relay", start_relay(&site)), ("only verifies", start_plain())];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut rates, mut times) = ([const { Vec::new() }; 2], [const { Vec::new() }; 2]);
    // The first round warms up.
    for round in 0..=ROUNDS {
        let requests: Vec<Vec<u8>> = (0..REQUESTS).map(|number| request(round, number)).collect();
        let requests = Arc::new(requests);
        for (server, (_, address)) in servers.iter().enumerate() {
            let begun = Instant::now();
            let taken = runtime.block_on(send(*address, &requests));
            if round > 0 {
                rates[server].push(REQUESTS as f64 / begun.elapsed().as_secs_f64());
                times[server].extend(taken);
            }
        }
    }
    let ratios = rates[0].iter().zip(&rates[1]).map(|(relay, plain)| relay / plain).collect();
    for (server, (name, _)) in servers.iter().enumerate() {
        let (rate, p99) = (median(rates[server].clone()), percentile(&mut times[server], 99));
        println!("{name:<14} {rate:>7.0} requests/s, p99 {p99:.1?}");
    }
    println!("ratio          {:>7.2} (median of {ROUNDS} rounds; goal 0.7)", median(ratios));
}

/// A webhook that was never sent before.
fn request(round: usize, number: usize) -> Vec<u8> {
    let recorded = include_str!("../fixtures/events/10-issue-created-label-agent-coder.json");
    let mut event: serde_json::Value = serde_json::from_str(recorded).unwrap();
    event["data"]["id"] = uuid::Uuid::from_u128((round * REQUESTS + number) as u128).to_string().into();
    event["data"]["description_html"] = "".into();
    let fill = BODY - event.to_string().len();
    event["data"]["description_html"] = "x".repeat(fill).into();
    let body = event.to_string().into_bytes();
    assert_eq!(body.len(), BODY);
    let mut request = b"POST /plane HTTP/1.1\r\n".to_vec();
    for (name, value) in signed(SECRET, &body) {
        request.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    request.extend_from_slice(b"\r\n");
    request.extend_from_slice(&body);
    request
}

/// Sends them over all connections, each the next when the last one was answered, and returns how long each
/// took.
async fn send(address: SocketAddr, requests: &Arc<Vec<Vec<u8>>>) -> Vec<Duration> {
    let connections = (0..CONNECTIONS).map(|connection| {
        let requests = Arc::clone(requests);
        tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (mut taken, mut answer) = (Vec::new(), [0; 1_024]);
            for request in requests.iter().skip(connection).step_by(CONNECTIONS) {
                let begun = Instant::now();
                stream.write_all(request).await.unwrap();
                // An answer without a body comes at once.
                let length = stream.read(&mut answer).await.unwrap();
                taken.push(begun.elapsed());
                let answer = &answer[..length];
                assert!(answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(b"\r\n\r\n"));
            }
            taken
        })
    });
    let connections: Vec<_> = connections.collect();
    let mut all = Vec::new();
    for connection in connections {
        all.extend(connection.await.unwrap());
    }
    all
}

/// Runs a server on a thread of its own, and waits until it listens.
fn on_a_thread<F: Future<Output = ()>>(serve: impl FnOnce(SocketAddr) -> F + Send + 'static) -> SocketAddr {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(serve(address));
    });
    while std::net::TcpStream::connect(address).is_err() {
        std::thread::sleep(Duration::from_millis(10));
    }
    address
}

fn start_relay(site: &Site) -> SocketAddr {
    let (registry, state) = (site.path(".astra"), site.path("state"));
    on_a_thread(move |address| async move {
        let listen = address.to_string();
        let [registry, state] = [&registry, &state].map(|path| path.to_str().unwrap());
        let arguments = [
            "astra-dispatch",
            "relay",
            "--listen",
            &listen,
            "--registry",
            registry,
            "--state-dir",
            state,
            "--repository",
            "astra/ops",
        ];
        let cli = Cli::parse_from_environment(arguments.map(Into::into)).unwrap();
        commands::run(cli.command).await.unwrap();
    })
}

fn start_plain() -> SocketAddr {
    on_a_thread(|address| async move {
        let secrets = Arc::new(Secrets::parse(SECRET).unwrap());
        let router = Router::new().route("/plane", post(verify)).with_state(secrets);
        let listener = TcpListener::bind(address).await.unwrap();
        serve(listener.tap_io(|stream| stream.set_nodelay(true).unwrap()), router).await.unwrap();
    })
}

async fn verify(State(secrets): State<Arc<Secrets>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let is_genuine = secrets.admit(&body, headers.get(HEADER).map(HeaderValue::as_bytes));
    if is_genuine { StatusCode::OK } else { StatusCode::UNAUTHORIZED }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn percentile(values: &mut [Duration], percent: usize) -> Duration {
    values.sort_unstable();
    values[values.len() * percent / 100]
}
