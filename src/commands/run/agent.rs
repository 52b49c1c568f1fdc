//! `run agent`: runs the agent's program within its limits and writes down how it ended.
//!
//! Whatever the program does, the phase ends with a report and exit code 0 (in a pod: unless its memory
//! was used up); what the report says of
//! work and cost is the program's claim.

use std::cell::Cell;
use std::ffi::OsString;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

use super::{bind_to_supervisor, guard_credentials};
use crate::adapters::confinement::{self, Level};
use crate::adapters::own_cgroup::{CGROUPS, killed_for_memory};
use crate::adapters::run_directory::{
    AGENT_HOME, AGENT_OUTPUT, AGENT_REPORT, AGENT_TMP, AGENT_TRANSCRIPT, PREPARE_REPORT, RunDirectory,
    SYSTEM_PROMPT, TASK,
};
use crate::adapters::supervised_process::{Area, Limits, Supervised};
use crate::adapters::transcript::Transcript;
use crate::cli::RunAgentArgs;
use crate::domain::mask::Mask;
use crate::domain::phase::{AgentReport, PrepareReport};
use crate::domain::result::FailureClass;
use crate::domain::run_plan::RunPlan;
use crate::domain::runtime::lines::Lines;
use crate::domain::runtime::{
    FILE_LIMIT, HOME_LIMIT, Invocation, Places, ProcessEnd, Prompts, Reading, Stop, Stream, TRANSCRIPT_LIMIT,
    WORKSPACE_LIMIT, invocation, not_started,
};
use crate::environment;
use crate::error::{Exit, UserError};
use crate::output;

/// How long a program may wait for the model API when it would do so without end.
const PATIENCE: Duration = Duration::from_secs(5 * 60);
/// Where programs are looked for when nobody says.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Carries the phase out.
pub async fn run(args: &RunAgentArgs) -> anyhow::Result<Exit> {
    guard_credentials();
    let stop = stop_signal()?;
    let root = std::path::absolute(&args.phase.run_dir).context("find the run's directory")?;
    let directory = RunDirectory::new(root);
    let plan = directory.plan()?;
    let credentials = credentials(&plan);
    let mask = Mask::new(credentials.iter().map(|(_, value)| value.as_str()));
    let mut report = carry_out(&directory, &plan, &credentials, &mask, args.contained, stop).await?;
    report.reason = mask.text(&report.reason);
    let written = directory.write(AGENT_REPORT, &report);
    clean_up(&directory);
    if written.is_err() {
        // The program had filled the disk with what is gone now.
        directory.write(AGENT_REPORT, &report)?;
    }
    output::say(&format!("agent: {}", report.reason));
    if args.contained && killed_for_memory(Path::new(CGROUPS)) > 0 {
        // The kubelet takes a container in which anything was killed for want of memory for failed,
        // whatever its exit code: it starts no further step, and the pod would stay as it is.
        output::say("agent: something was killed for want of memory, and that ends the run");
        return Ok(Exit::Failed);
    }
    Ok(Exit::Handled)
}

async fn carry_out(
    directory: &RunDirectory,
    plan: &RunPlan,
    credentials: &[(String, String)],
    mask: &Mask,
    contained: bool,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<AgentReport> {
    if let Some(report) = without_workspace(directory)? {
        return Ok(report);
    }
    let places = places(directory)?;
    let read = |path: &str| std::fs::read_to_string(path).with_context(|| format!("read {path}"));
    let (system, task) = (read(&places.system_prompt)?, read(&places.task)?);
    let prompts = Prompts { system: &system, task: &task };
    let invocation = invocation(plan, &places, prompts, credentials);
    if let Some(report) = missing_credentials(plan, credentials) {
        return Ok(report);
    }
    let path = environment::value("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    let Some(program) = find_program(&invocation.program, &path, &directory.workspace()) else {
        return Ok(missing_program(&invocation));
    };
    let level = if contained { Level::None } else { confinement::level() };
    if !contained {
        output::say(&format!("agent: {level}"));
    }
    let mut command = confined_command(directory, &program, level, contained);
    command.args(&invocation.arguments).env("PATH", &path).envs(invocation.environment(credentials));
    let supervised = Supervised {
        command,
        input: invocation.input.into_bytes(),
        limits: limits(plan),
        areas: areas(&places),
        alone: true,
    };
    let mut reading = Reading::new(&plan.runtime);
    let end = supervise(supervised, directory, mask, &mut reading, stop).await?;
    Ok(reading.report(&end))
}

/// Runs the program, keeps what it prints and lets the reading see it.
async fn supervise(
    supervised: Supervised,
    directory: &RunDirectory,
    mask: &Mask,
    reading: &mut Reading,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<ProcessEnd> {
    let path = directory.path(AGENT_TRANSCRIPT);
    let mut transcript = Transcript::create(&path, std::io::stderr(), mask, TRANSCRIPT_LIMIT)?;
    let (mut out, mut err) = (Lines::default(), Lines::default());
    let waiting_since = Cell::new(None);
    let take_in = |stream, piece: &[u8]| match stream {
        Stream::Err => {
            transcript.write(stream, piece);
            err.feed(piece, |line| reading.line(stream, line));
        }
        Stream::Out if reading.is_events(stream) => {
            out.feed(piece, |line| take_in_event(reading, &mut transcript, line));
            let since = waiting_since.get().unwrap_or_else(Instant::now);
            waiting_since.set(reading.is_waiting().then_some(since));
        }
        Stream::Out => transcript.write(stream, piece),
    };
    let stop = async {
        tokio::select! {
            () = stop => Stop::Cancelled,
            stop = waited_too_long(&waiting_since, PATIENCE) => stop,
        }
    };
    let end = supervised.run(take_in, stop).await?;
    out.finish(|line| take_in_event(reading, &mut transcript, line));
    err.finish(|line| reading.line(Stream::Err, line));
    transcript.finish();
    Ok(end)
}

/// Ready when the program has been waiting for the model API for longer than that.
async fn waited_too_long(since: &Cell<Option<Instant>>, patience: Duration) -> Stop {
    let mut ticks = tokio::time::interval(patience.min(Duration::from_secs(1)));
    loop {
        ticks.tick().await;
        if since.get().is_some_and(|since| since.elapsed() > patience) {
            return Stop::Waiting(patience.as_secs());
        }
    }
}

fn take_in_event(reading: &mut Reading, transcript: &mut Transcript<std::io::Stderr>, line: &str) {
    reading.line(Stream::Out, line);
    if let Some(shown) = reading.render(line) {
        transcript.write(Stream::Out, format!("{shown}\n").as_bytes());
    }
}

/// What the program kept for itself may be large and may hold its credential; nobody needs it again.
fn clean_up(directory: &RunDirectory) {
    for place in [AGENT_HOME, AGENT_TMP] {
        if let Err(error) = directory.fresh(place) {
            log::warn!("{error:#}");
        }
    }
}

/// The program, started through `run confine` from this very executable, with an empty environment.
fn confined_command(
    directory: &RunDirectory,
    program: &Path,
    level: Level,
    contained: bool,
) -> std::process::Command {
    let mut command = std::process::Command::new("/proc/self/exe");
    std::os::unix::process::CommandExt::arg0(&mut command, "astra-dispatch");
    command.args(["run", "confine", "--parent", &std::process::id().to_string(), "--level", level.name()]);
    command.arg("--run-dir").arg(directory.path("")).args(contained.then_some("--contained"));
    command.arg("--").arg(program).current_dir(directory.workspace()).env_clear();
    command
}

/// The directories that the program can write to, as the volumes of a pod hold them.
fn areas(places: &Places) -> Vec<Area> {
    let others = [&places.home, &places.temporary, &places.output];
    vec![
        Area { directories: vec![PathBuf::from(&places.workspace)], bytes: WORKSPACE_LIMIT },
        Area { directories: others.map(PathBuf::from).into(), bytes: HOME_LIMIT },
    ]
}

/// The memory limit is kept a little below the container's, so that we are the first to notice.
fn limits(plan: &RunPlan) -> Limits {
    Limits { time: plan.time_limit(), memory: plan.limits.memory_bytes / 20 * 19, files: FILE_LIMIT }
}

/// Makes the agent's directories afresh and names them.
fn places(directory: &RunDirectory) -> anyhow::Result<Places> {
    let workspace = directory.workspace();
    if !workspace.is_dir() {
        let remedy = "run the phase prepare first";
        return Err(UserError::usage("there is no work tree", remedy)
            .at(workspace.display().to_string())
            .into());
    }
    let text = |path: PathBuf| {
        path.into_os_string().into_string().map_err(|path| {
            UserError::usage("the path is not UTF-8", "choose another state directory")
                .at(path.display().to_string())
        })
    };
    Ok(Places {
        workspace: text(workspace)?,
        home: text(directory.fresh(AGENT_HOME)?)?,
        temporary: text(directory.fresh(AGENT_TMP)?)?,
        output: text(directory.fresh(AGENT_OUTPUT)?)?,
        system_prompt: text(directory.path(SYSTEM_PROMPT))?,
        task: text(directory.path(TASK))?,
    })
}

/// The agent's credentials, from this process's environment.
fn credentials(plan: &RunPlan) -> Vec<(String, String)> {
    let value = |name: &String| std::env::var(name).ok().filter(|value| !value.is_empty());
    plan.credential_names.iter().filter_map(|name| value(name).map(|value| (name.clone(), value))).collect()
}

fn missing_credentials(plan: &RunPlan, credentials: &[(String, String)]) -> Option<AgentReport> {
    let is_missing = |name: &&String| !credentials.iter().any(|(known, _)| known == *name);
    let missing: Vec<&str> = plan.credential_names.iter().filter(is_missing).map(String::as_str).collect();
    (!missing.is_empty()).then(|| {
        let reason = format!(
            "The agent's credential is not there: set {} in its vault, or on this machine in the environment.",
            missing.join(", ")
        );
        not_started(FailureClass::Credentials, reason)
    })
}

/// A pod goes on to this step whatever became of the clone: a model must not be paid for an empty
/// directory.
fn without_workspace(directory: &RunDirectory) -> anyhow::Result<Option<AgentReport>> {
    let prepared: Option<PrepareReport> = directory.read(PREPARE_REPORT)?;
    let failure = prepared.and_then(|report| report.failure);
    Ok(failure
        .map(|failure| not_started(failure.class, format!("The agent was not started: {}", failure.reason))))
}

/// Another attempt would not find it either: image or machine have to change, so it is the class `task`.
fn missing_program(invocation: &Invocation) -> AgentReport {
    let reason =
        format!("The agent's program `{}` is not in PATH: {}.", invocation.program, invocation.install);
    not_started(FailureClass::Task, reason)
}

/// Looks a program up as a shell would; a relative path counts from the work tree.
fn find_program(name: &str, path: &OsString, workspace: &Path) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;

    let is_program = |path: &PathBuf| {
        path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    if name.is_empty() {
        return None;
    }
    if name.contains('/') {
        return Some(workspace.join(name)).filter(is_program);
    }
    std::env::split_paths(path)
        .filter(|entry| entry.is_absolute())
        .map(|entry| entry.join(name))
        .find(is_program)
}

/// Ready when this phase is told to end, or has lost the supervisor that it was started by.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let is_supervised = bind_to_supervisor(Signal::TERM)?;
    Ok(async move {
        if is_supervised {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_is_ended_only_when_it_lasts() {
        let patience = Duration::from_millis(200);
        let since = Cell::new(None);
        let short = tokio::time::timeout(patience * 3, waited_too_long(&since, patience));
        assert!(short.await.is_err(), "nobody waits");
        since.set(Some(Instant::now()));
        let begun = Instant::now();
        assert_eq!(waited_too_long(&since, patience).await, Stop::Waiting(0));
        assert!(begun.elapsed() >= patience);
    }
}
