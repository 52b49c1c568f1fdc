//! A relay that runs, deliveries for it, and a stand-in for GitHub.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hmac::{Hmac, Mac};
use serde_json::Value;

use super::site::Site;

/// The secret of the recorded webhook; made for the recording.
pub const SECRET: &str = "plane_wh_cd91d3e615164cc59589e57601fce598";

pub type Headers = Vec<(String, String)>;

/// A recorded delivery.
pub fn recorded(name: &str) -> (Headers, Vec<u8>) {
    let fixtures = format!("{}/fixtures", env!("CARGO_MANIFEST_DIR"));
    let body = std::fs::read(format!("{fixtures}/events/{name}.json")).unwrap();
    let request = std::fs::read(format!("{fixtures}/webhook-headers/{name}.headers.json")).unwrap();
    let request: Value = serde_json::from_slice(&request).unwrap();
    let headers = request["headers"].as_object().unwrap().iter();
    (headers.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect(), body)
}

/// The headers of a body that was never sent.
pub fn signed(secret: &str, body: &[u8]) -> Headers {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    let signature = hex::encode(mac.finalize().into_bytes());
    [("Host", "x"), ("Content-Length", &body.len().to_string()), ("X-Plane-Signature", &signature)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
}

/// Sends it; `None` if the connection was closed without an answer.
pub fn post(relay: &Relay, headers: &Headers, body: &[u8]) -> Option<u16> {
    let mut request = b"POST /plane HTTP/1.1\r\n".to_vec();
    for (name, value) in headers {
        write!(request, "{name}: {value}\r\n").unwrap();
    }
    request.extend_from_slice(b"\r\n");
    request.extend_from_slice(body);
    let mut stream = relay.connect();
    stream.write_all(&request).unwrap();
    let mut line = String::new();
    // A reset is no answer either.
    let _ = BufReader::new(stream).read_line(&mut line);
    (!line.is_empty()).then(|| line.split(' ').nth(1).unwrap().parse().unwrap())
}

/// The value of one counter of a page of metrics.
pub fn counter(metrics: &str, name: &str, outcome: &str) -> u64 {
    let start = format!("astra_relay_{name}_total{{outcome=\"{outcome}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&start)).map_or(0, |value| value.parse().unwrap())
}

/// A relay on a port of its own.
pub const LISTEN: [&str; 3] = ["relay", "--listen", "127.0.0.1:0"];

/// A relay that runs.
pub struct Relay {
    child: Child,
    address: SocketAddr,
}

impl Relay {
    pub fn start(site: &Site, github: &GitHubFake, variables: &[(&str, &str)]) -> Self {
        Self::spawn(site.command(&LISTEN), github, variables)
    }

    /// Started by a shell that makes some preparations.
    pub fn start_in_shell(site: &Site, github: &GitHubFake, script: &str) -> Self {
        let inner = site.command(&LISTEN);
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(inner.get_program()).args(inner.get_args());
        command.env_clear().current_dir(inner.get_current_dir().unwrap());
        command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Self::spawn(command, github, &[])
    }

    fn spawn(mut command: Command, github: &GitHubFake, variables: &[(&str, &str)]) -> Self {
        command
            .env("GITHUB_TOKEN", "ghs_token")
            .env("GITHUB_API_URL", format!("http://{}", github.address))
            .env("GITHUB_REPOSITORY", "astra/ops")
            .envs(variables.iter().copied());
        Self::of(command)
    }

    /// This command of a relay, with the secret of the recordings if it has no other.
    pub fn of(mut command: Command) -> Self {
        if !command.get_envs().any(|(name, _)| name == "ASTRA_WEBHOOK_SECRET") {
            command.env("ASTRA_WEBHOOK_SECRET", SECRET);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address =
            line.trim().strip_prefix("listening on http://").unwrap().strip_suffix("/plane").unwrap();
        Self { address: address.parse().unwrap(), child }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Sends this and gives all that comes back until the connection is closed.
    pub fn exchange(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    pub fn get(&self, path: &str) -> (u16, String) {
        let answer = self.exchange(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and the exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        let process = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer of the stand-in other than 204.
pub enum Says {
    /// This status, with this header.
    Status(u16, &'static str),
    /// None: the connection is closed.
    Close,
}

/// Takes `repository_dispatch` for `astra/ops`.
pub struct GitHubFake {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    raised: Vec<Value>,
    will_say: VecDeque<Says>,
}

impl GitHubFake {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || serve(&stream.unwrap(), &state));
            }
        });
        Self { address, state }
    }

    /// Once, before it goes on with 204.
    pub fn will_say(&self, says: Says) {
        self.state.lock().unwrap().will_say.push_back(says);
    }

    /// From now on it takes everything.
    pub fn says_yes(&self) {
        self.state.lock().unwrap().will_say.clear();
    }

    pub fn raised(&self) -> Vec<Value> {
        self.state.lock().unwrap().raised.clone()
    }

    /// Waits for so many dispatches.
    pub fn wait_for(&self, count: usize) -> Vec<Value> {
        let begun = Instant::now();
        while self.raised().len() < count {
            assert!(begun.elapsed() < Duration::from_secs(120), "only {} dispatches", self.raised().len());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.raised()
    }

    /// Nothing more comes: longer than an edit takes to settle.
    pub fn stays_at(&self, count: usize) {
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(self.raised().len(), count);
    }
}

fn serve(stream: &TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream);
    while let Some((head, body)) = read_request(&mut reader) {
        let answer = {
            let mut state = state.lock().unwrap();
            assert!(head[0].starts_with("POST /repos/astra/ops/dispatches "), "{head:?}");
            let authorization = head.iter().find(|line| line.to_lowercase().starts_with("authorization:"));
            assert!(authorization.unwrap().ends_with("Bearer ghs_token"), "{head:?}");
            match state.will_say.pop_front() {
                Some(Says::Close) => return,
                Some(Says::Status(status, header)) => {
                    let header = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
                    format!("HTTP/1.1 {status} x\r\ncontent-length: 2\r\n{header}\r\n{{}}")
                }
                None => {
                    state.raised.push(serde_json::from_slice(&body).unwrap());
                    "HTTP/1.1 204 No Content\r\n\r\n".to_owned()
                }
            }
        };
        let mut writer = stream;
        if writer.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn read_request(reader: &mut BufReader<&TcpStream>) -> Option<(Vec<String>, Vec<u8>)> {
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        head.push(line);
    }
    let length =
        head.iter().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some((head, body))
}
