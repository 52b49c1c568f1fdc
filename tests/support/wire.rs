//! The way between the program and its stand-ins: every request is noted, and one of them may go wrong.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How a request goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// Nothing arrives, and the connection is closed.
    Refused,
    /// It is done, and the connection is closed without an answer.
    Reset,
    /// 503, and nothing is done.
    Unavailable,
    /// It is done, and a gateway answers 502.
    BadGateway,
    /// 429, and nothing is done.
    RateLimited,
    /// It is done, and the answer takes longer than anybody waits.
    Slow,
    /// It is done, and the answer is a page of something else.
    Garbage,
}

impl Failure {
    pub const ALL: [Self; 7] = [
        Self::Refused,
        Self::Reset,
        Self::Unavailable,
        Self::BadGateway,
        Self::RateLimited,
        Self::Slow,
        Self::Garbage,
    ];

    fn acts(self) -> bool {
        matches!(self, Self::Reset | Self::BadGateway | Self::Slow | Self::Garbage)
    }

    fn answer(self) -> String {
        let (status, header, body) = match self {
            Self::Refused | Self::Reset | Self::Slow => return String::new(),
            Self::Unavailable => ("503 Service Unavailable", "", ""),
            Self::BadGateway => ("502 Bad Gateway", "content-type: text/html\r\n", PAGE),
            Self::RateLimited => ("429 Too Many Requests", "retry-after: 1\r\n", ""),
            Self::Garbage => ("200 OK", "content-type: text/html\r\n", PAGE),
        };
        let length = body.len();
        format!("HTTP/1.1 {status}\r\n{header}content-length: {length}\r\nconnection: close\r\n\r\n{body}")
    }
}

/// Not what anybody asked for. Git takes a page without lines for a repository without branches.
const PAGE: &str = "<html>\n<body>\nPlease sign in.\n</body>\n</html>\n";

/// One request of a loop: what it asks for, and the how manieth of its kind it is.
pub type Call = (String, usize);

/// Longer than any client waits.
const SLOW: Duration = Duration::from_secs(90);

/// All that pass here have one count.
#[derive(Clone, Default)]
pub struct Wire(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    counts: BTreeMap<String, usize>,
    /// Goes wrong once.
    fault: Option<(Call, Failure)>,
    /// Requests that are under way, and when something last happened.
    open: usize,
    last: Option<Instant>,
}

impl Wire {
    /// An address before this one.
    pub fn before(&self, url: &str) -> String {
        let upstream = url.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let wire = self.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (wire, upstream) = (wire.clone(), upstream.clone());
                // Whoever goes away in the middle is no fault of the test.
                std::thread::spawn(move || {
                    wire.turn(|state| state.open += 1);
                    wire.carry(&stream.unwrap(), &upstream).ok();
                    wire.turn(|state| state.open -= 1);
                });
            }
        });
        format!("http://{address}")
    }

    /// Every request until now.
    pub fn calls(&self) -> Vec<Call> {
        self.0.lock().unwrap().calls.clone()
    }

    /// Lets this one go wrong.
    pub fn fails(&self, call: Call, failure: Failure) {
        self.0.lock().unwrap().fault = Some((call, failure));
    }

    /// For how long there has been nothing under way.
    pub fn idle(&self) -> Duration {
        let state = self.0.lock().unwrap();
        if state.open > 0 { Duration::ZERO } else { state.last.map_or(Duration::ZERO, |last| last.elapsed()) }
    }

    /// Nothing goes wrong any more. `true`: something did.
    pub fn mend(&self) -> bool {
        self.0.lock().unwrap().fault.take().is_none()
    }

    fn turn(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.0.lock().unwrap();
        change(&mut state);
        state.last = Some(Instant::now());
    }

    fn note(&self, name: String) -> Option<Failure> {
        let mut state = self.0.lock().unwrap();
        let count = state.counts.entry(name.clone()).or_default();
        *count += 1;
        let call = (name, *count);
        let failure = state.fault.take_if(|(doomed, _)| *doomed == call).map(|(_, failure)| failure);
        state.calls.push(call);
        failure
    }

    /// Carries one request and its answer; the connection is good for no second one.
    fn carry(&self, client: &TcpStream, upstream: &str) -> std::io::Result<()> {
        let mut reader = BufReader::new(client);
        let mut request = Vec::new();
        let mut length = 0;
        let mut first = String::new();
        reader.read_line(&mut first)?;
        let mut line = first.clone();
        while !line.trim_end().is_empty() {
            let (name, value) = line.split_once(": ").unwrap_or_default();
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim_end().parse().unwrap();
            }
            assert!(!name.eq_ignore_ascii_case("transfer-encoding"), "a body of unknown length: {first}");
            if !name.eq_ignore_ascii_case("connection") {
                request.extend_from_slice(line.as_bytes());
            }
            line.clear();
            reader.read_line(&mut line)?;
        }
        if first.is_empty() {
            return Ok(());
        }
        request.extend_from_slice(b"connection: close\r\n\r\n");
        let head = request.len();
        request.resize(head + length, 0);
        reader.read_exact(&mut request[head..])?;

        let failure = self.note(name(&first));
        let mut answer = Vec::new();
        if failure.is_none_or(Failure::acts) {
            let mut server = TcpStream::connect(upstream)?;
            server.write_all(&request)?;
            server.read_to_end(&mut answer)?;
        }
        if let Some(failure) = failure {
            answer = failure.answer().into_bytes();
        }
        if failure == Some(Failure::Slow) {
            // Until the client has had enough.
            client.set_read_timeout(Some(SLOW))?;
            let _ = reader.read(&mut [0]);
        }
        let mut writer = client;
        writer.write_all(&answer)
    }
}

/// Method and path, without what is drawn anew for each run.
fn name(first: &str) -> String {
    let target = first.trim_end().trim_end_matches(" HTTP/1.1");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let service = if query.starts_with("service=") { format!("?{query}") } else { String::new() };
    let parts: Vec<&str> =
        path.split('/').map(|part| if part.starts_with("ast-") { "RUN" } else { part }).collect();
    parts.join("/") + &service
}
