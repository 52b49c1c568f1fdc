//! A run's directory made by hand, and the step `run agent` of the real binary in it.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::expect_used,
    clippy::panic,
    reason = "a module of several test programs, each using its part"
)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use astra_dispatch::domain::phase::AgentReport;
use astra_dispatch::domain::registry::{Limits, RegistryStamp};
use astra_dispatch::domain::run_plan::{Author, RUN_PLAN_VERSION, RunPlan, RuntimePlan};

/// A prepared run.
pub struct AgentRun {
    home: tempfile::TempDir,
}

/// How the step ended.
#[derive(Debug)]
pub struct Ended {
    pub report: AgentReport,
    pub transcript: String,
    pub stderr: String,
}

impl AgentRun {
    /// A run whose agent is a shell script.
    pub fn script(script: &str) -> Self {
        Self::of(vec!["/bin/sh".into(), "-c".into(), script.into()])
    }

    /// A run whose agent is a command.
    pub fn of(command: Vec<String>) -> Self {
        Self::with(RuntimePlan::Command { command })
    }

    /// A run of any runtime.
    pub fn with(runtime: RuntimePlan) -> Self {
        let run = Self { home: tempfile::tempdir().expect("directory") };
        std::fs::create_dir_all(run.path("workspace")).expect("directory");
        std::fs::create_dir_all(run.outside()).expect("directory");
        let plan = RunPlan {
            version: RUN_PLAN_VERSION,
            run: "ast-1-bbbbb".parse().expect("run"),
            task: "AST-1".parse().expect("task"),
            title: "A task".into(),
            agent: "vega".parse().expect("agent"),
            role: "coder".parse().expect("role"),
            repository: "astra/api".parse().expect("repository"),
            git_base_url: "file:///nowhere".into(),
            base: "main".parse().expect("branch"),
            pull_request: None,
            author: Author { name: "astra-vega".into(), email: "astra-vega@users.noreply.github.com".into() },
            runtime,
            credential_names: vec![],
            limits: Limits {
                cpu: "1".into(),
                cpu_millis: 1000,
                memory: "2Gi".into(),
                memory_bytes: 2 << 30,
                time: Duration::from_secs(120),
                pending: Duration::from_secs(60),
            },
            protected_paths: vec![],
            registry_path: ".astra".into(),
            registry: RegistryStamp::default(),
        };
        run.write("plan.json", &serde_json::to_string(&plan).expect("JSON"));
        run.write("task.md", "the task\n");
        run.write("system-prompt.md", "the system prompt\n");
        run
    }

    /// A place in the run's directory.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.home.path().join("run").join(relative)
    }

    /// A directory beside the run's.
    pub fn outside(&self) -> PathBuf {
        self.home.path().join("outside")
    }

    pub fn write(&self, relative: &str, text: &str) {
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().expect("parent")).expect("directory");
        std::fs::write(path, text).expect("write");
    }

    pub fn read(&self, relative: &str) -> String {
        self.try_read(relative).unwrap_or_else(|| panic!("{relative} is not there"))
    }

    pub fn try_read(&self, relative: &str) -> Option<String> {
        std::fs::read(self.path(relative)).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    pub fn edit_plan(&self, edit: impl FnOnce(&mut RunPlan)) {
        let mut plan: RunPlan = serde_json::from_str(&self.read("plan.json")).expect("plan");
        edit(&mut plan);
        self.write("plan.json", &serde_json::to_string(&plan).expect("JSON"));
    }

    pub fn report(&self) -> AgentReport {
        serde_json::from_str(&self.read("agent/report.json")).expect("report")
    }

    fn command(&self, binary_path: &Path, variables: &[(&str, &str)]) -> Command {
        let mut command = binary(binary_path);
        command.args(["run", "agent", "--run-dir"]).arg(self.path(""));
        command.envs(variables.iter().copied());
        command
    }

    /// Starts the step; its stderr goes to the file `stderr` of the run's directory.
    pub fn start(&self, variables: &[(&str, &str)]) -> Child {
        let stderr = std::fs::File::create(self.path("stderr")).expect("file");
        let mut command = self.command(Path::new(env!("CARGO_BIN_EXE_astra-dispatch")), variables);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn().expect("start")
    }

    pub fn carry_out(&self, variables: &[(&str, &str)]) -> Ended {
        self.carry_out_with(Path::new(env!("CARGO_BIN_EXE_astra-dispatch")), variables)
    }

    /// Carries the step out, which always ends with a report and exit code 0.
    pub fn carry_out_with(&self, binary_path: &Path, variables: &[(&str, &str)]) -> Ended {
        let output = self.command(binary_path, variables).output().expect("run");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{}: {stderr}", output.status);
        assert!(output.stdout.is_empty(), "stdout is for machines");
        let transcript = self.try_read("agent/transcript.log").unwrap_or_default();
        Ended { report: self.report(), transcript, stderr }
    }
}

/// The binary with nothing of this machine's environment but PATH.
pub fn binary(path: &Path) -> Command {
    let mut command = Command::new(path);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

pub fn terminate(child: &Child) {
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).expect("pid");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("signal");
}

/// Whether a process runs; one that has ended and was not waited for does not.
pub fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z"))
}

/// Waits until something is there, for at most 20 seconds.
pub fn eventually<T>(look: impl Fn() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "it did not happen within 20 seconds");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The directory of the agent CLIs, for PATH; installs them if need be.
pub fn agent_cli() -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/install-agent-cli");
    let output = Command::new(script).output().expect("install the CLIs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
}
