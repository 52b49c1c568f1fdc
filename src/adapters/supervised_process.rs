//! Runs a program within limits of time, memory and disk, takes in all that it prints, and leaves
//! nothing of it behind: no process outlives the call.

use std::future::Future;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout};

use crate::domain::runtime::{Exit, ProcessEnd, Stop, Stream};

mod disk;
mod family;

pub use disk::{Area, Usage};
pub use family::Family;

/// Between two looks at memory and disk.
const TICK: Duration = Duration::from_secs(1);
/// How long output is waited for after the last process has ended.
const DRAIN: Duration = Duration::from_secs(2);
/// Output that has been read and not yet taken in, in pieces of [`PIECE`] bytes.
const QUEUE: usize = 16;
const PIECE: usize = 16 * 1024;

/// What the program may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Wall clock.
    pub time: Duration,
    /// Resident memory of all its processes, in bytes.
    pub memory: u64,
    /// Number of the files of one area.
    pub files: u64,
}

/// A program to run.
#[derive(Debug)]
pub struct Supervised {
    /// Program, arguments, whole environment and working directory.
    pub command: std::process::Command,
    /// What it reads from stdin.
    pub input: Vec<u8>,
    /// What it may use.
    pub limits: Limits,
    /// The directories that it can write to.
    pub areas: Vec<Area>,
    /// This process is made for this program and has no other children: whatever process ends up
    /// below it belongs to the program and ends with it.
    pub alone: bool,
}

impl Supervised {
    /// Runs it to its end. `take_in` gets its output as it comes; it is stopped when `stop` says so.
    pub async fn run(
        self,
        mut take_in: impl FnMut(Stream, &[u8]),
        stop: impl Future<Output = Stop>,
    ) -> anyhow::Result<ProcessEnd> {
        let start = Instant::now();
        let Self { mut command, input, limits, areas, alone } = self;
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = Command::from(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("start the agent's program")?;
        let leader =
            child.id().and_then(|id| Pid::from_raw(id.cast_signed())).context("find the started process")?;
        let family = Family::new(leader, alone)?;
        let mut output = read_output(&mut child, input);
        let mut watch = disk::Watch::new(areas, limits.files);
        let mut escalation = Escalation::default();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let deadline = tokio::time::Instant::from_std(start + limits.time);
        let mut stop = pin!(stop);
        let mut is_told = false;
        let status: ExitStatus = loop {
            tokio::select! {
                status = child.wait() => break status.context("wait for the agent's program")?,
                Some((stream, piece)) = output.recv() => take_in(stream, &piece),
                stop = &mut stop, if !is_told => {
                    is_told = true;
                    escalation.begin(stop, &family);
                }
                () = sleep_until(deadline), if escalation.stop.is_none() => escalation.begin(Stop::Time, &family),
                () = sleep_until(escalation.next()), if escalation.is_pending() => escalation.proceed(&family),
                _ = ticks.tick() => {
                    family.reap_orphans();
                    let stop = (family.memory() > limits.memory).then_some(Stop::Memory(limits.memory));
                    if let Some(stop) = stop.or_else(|| watch.look()) && escalation.stop.is_none() {
                        escalation.begin(stop, &family);
                    }
                }
            }
        };
        family.end_all().await;
        let drain = async {
            while let Some((stream, piece)) = output.recv().await {
                take_in(stream, &piece)
            }
        };
        // Whoever still holds the other end of the pipe is not of this family.
        let _ = timeout(DRAIN, drain).await;
        Ok(ProcessEnd {
            exit: exit(status),
            stopped: escalation.stop,
            seconds: start.elapsed().as_secs_f64(),
        })
    }
}

fn exit(status: ExitStatus) -> Exit {
    use std::os::unix::process::ExitStatusExt;

    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, signal) => Exit::Signal(signal.unwrap_or_default()),
    }
}

/// Feeds stdin and reads both outputs; the receiver ends when both outputs have ended.
fn read_output(child: &mut Child, input: Vec<u8>) -> mpsc::Receiver<(Stream, Vec<u8>)> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input is no fault of ours.
        tokio::spawn(async move { stdin.write_all(&input).await });
    }
    if let Some(stdout) = child.stdout.take() {
        tokio::spawn(read(Stream::Out, stdout, sender.clone()));
    }
    if let Some(stderr) = child.stderr.take() {
        tokio::spawn(read(Stream::Err, stderr, sender));
    }
    receiver
}

async fn read(stream: Stream, mut from: impl AsyncRead + Unpin, sender: mpsc::Sender<(Stream, Vec<u8>)>) {
    let mut buffer = vec![0; PIECE];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if sender.send((stream, buffer[..length].to_vec())).await.is_err() {
            break;
        }
    }
}

/// Stops a program step by step: interrupt, terminate, kill.
#[derive(Debug, Default)]
struct Escalation {
    stop: Option<Stop>,
    pending: Vec<(Instant, Signal)>,
}

impl Escalation {
    /// Begins to stop the program. Who is told from outside outranks whatever was begun before.
    fn begin(&mut self, stop: Stop, family: &Family) {
        self.stop = Some(stop);
        // An interrupted CLI sums up tokens and cost, so it gets time for it; whoever cancels does
        // not wait for more than five seconds, and who fills memory or disk gets no time to go on.
        let steps: &[(u64, Signal)] = match stop {
            Stop::Time | Stop::Waiting(_) => &[(0, Signal::INT), (10, Signal::TERM), (15, Signal::KILL)],
            Stop::Cancelled => &[(0, Signal::INT), (3, Signal::TERM), (5, Signal::KILL)],
            Stop::Memory(_) | Stop::Disk(_) | Stop::Files(_) | Stop::DiskFull => &[(0, Signal::KILL)],
        };
        let now = Instant::now();
        self.pending =
            steps.iter().map(|&(after, signal)| (now + Duration::from_secs(after), signal)).collect();
        self.proceed(family);
    }

    fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    fn next(&self) -> tokio::time::Instant {
        self.pending.first().map_or_else(Instant::now, |(at, _)| *at).into()
    }

    fn proceed(&mut self, family: &Family) {
        if !self.pending.is_empty() {
            let (_, signal) = self.pending.remove(0);
            family.signal(signal);
        }
    }
}

#[cfg(test)]
mod tests;
