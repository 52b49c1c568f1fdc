//! The phases as processes: the real binary, a remote over HTTP that wants a token, signals.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use astra_dispatch::domain::phase::{AgentEnding, AgentReport, PrepareReport};
use astra_dispatch::domain::registry::{Limits, RegistryStamp};
use astra_dispatch::domain::result::{FailureClass, RunOutcome, RunResult, Tokens};
use astra_dispatch::domain::run_plan::{Author, RUN_PLAN_VERSION, RunPlan, RuntimePlan};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, Response, StatusCode, Uri};
use base64::Engine;

const TOKEN: &str = "the-token-of-this-run-0123456789";

struct World {
    home: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { home: tempfile::tempdir().unwrap() };
        let seed = world.path("seed");
        fs::create_dir_all(&seed).unwrap();
        fs::write(seed.join("README.md"), "# Sample\n").unwrap();
        git(&seed, &["init", "-q", "-b", "main"]);
        git(&seed, &["add", "-A"]);
        git(&seed, &["commit", "-q", "-m", "first"]);
        fs::create_dir_all(world.path("git/astra")).unwrap();
        git(world.home.path(), &["clone", "-q", "--bare", "seed", "git/astra/api.git"]);
        world
    }

    fn path(&self, path: &str) -> PathBuf {
        self.home.path().join(path)
    }

    fn write(&self, path: &str, document: &impl serde::Serialize) {
        let path = self.path("run").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, serde_json::to_vec(document).unwrap()).unwrap();
    }

    fn read<T: serde::de::DeserializeOwned>(&self, path: &str) -> T {
        serde_json::from_slice(&fs::read(self.path("run").join(path)).unwrap()).unwrap()
    }

    fn plan(&self, git_base_url: &str) {
        let plan = RunPlan {
            version: RUN_PLAN_VERSION,
            run: "ast-1-x7k2p".parse().unwrap(),
            task: "AST-1".parse().unwrap(),
            title: "Add an endpoint".into(),
            agent: "vega".parse().unwrap(),
            role: "coder".parse().unwrap(),
            repository: "astra/api".parse().unwrap(),
            git_base_url: git_base_url.into(),
            base: "main".parse().unwrap(),
            pull_request: None,
            author: Author { name: "astra-vega".into(), email: "astra-vega@users.noreply.github.com".into() },
            runtime: RuntimePlan::Command { command: vec!["true".into()] },
            credential_names: Vec::new(),
            limits: Limits {
                cpu: "1".into(),
                cpu_millis: 1000,
                memory: "1Gi".into(),
                memory_bytes: 1 << 30,
                time: Duration::from_secs(60),
                pending: Duration::from_secs(60),
            },
            protected_paths: Vec::new(),
            registry_path: ".astra".into(),
            registry: RegistryStamp::default(),
        };
        self.write("plan.json", &plan);
    }

    fn agent_worked(&self) {
        fs::write(self.path("run/workspace/README.md"), "# Changed\n").unwrap();
        let report = AgentReport {
            ending: AgentEnding::Done,
            reason: "done".into(),
            class: None,
            exit_code: Some(0),
            model: None,
            tokens: Tokens::default(),
            cost_usd: None,
            turns: None,
            denials: 0,
            seconds: 1.0,
        };
        self.write("agent/report.json", &report);
    }

    fn phase(&self, phase: &str, token: Option<&str>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_astra-dispatch"));
        command.args(["run", phase, "--run-dir"]).arg(self.path("run"));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(token) = token {
            command.env("ASTRA_GIT_TOKEN", token);
        }
        command
    }

    fn run(&self, phase: &str, token: Option<&str>) -> Output {
        self.phase(phase, token).output().unwrap()
    }
}

fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com"])
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// Serves repositories below `root` by git's own CGI program, to whoever has the token.
async fn serve(root: PathBuf) -> String {
    let expected = base64::engine::general_purpose::STANDARD.encode(format!("x-access-token:{TOKEN}"));
    let expected = Arc::new(format!("Basic {expected}"));
    let root = Arc::new(root);
    let handler = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
        let (expected, root) = (expected.clone(), root.clone());
        async move {
            let header =
                |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
            if header("authorization") != expected.as_str() {
                let refused = Response::builder().status(StatusCode::UNAUTHORIZED);
                return refused
                    .header("www-authenticate", "Basic realm=\"git\"")
                    .body(Body::empty())
                    .unwrap();
            }
            let mut command = Command::new("git");
            command.arg("http-backend").env_clear().stdin(Stdio::piped()).stdout(Stdio::piped());
            command.env("PATH", std::env::var_os("PATH").unwrap()).env("GIT_PROJECT_ROOT", root.as_path());
            for (name, value) in [
                ("GIT_HTTP_EXPORT_ALL", "1"),
                ("GIT_CONFIG_GLOBAL", "/dev/null"),
                ("REMOTE_USER", "run"),
                ("REQUEST_METHOD", method.as_str()),
                ("PATH_INFO", uri.path()),
                ("QUERY_STRING", uri.query().unwrap_or_default()),
                ("CONTENT_TYPE", header("content-type")),
                ("HTTP_CONTENT_ENCODING", header("content-encoding")),
                ("GIT_PROTOCOL", header("git-protocol")),
            ] {
                command.env(name, value);
            }
            let mut child = command.spawn().unwrap();
            let mut stdin = child.stdin.take().unwrap();
            let writer = std::thread::spawn(move || drop(stdin.write_all(&body)));
            let output =
                tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
            writer.join().unwrap();
            answer(&output.stdout)
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(handler).layer(axum::extract::DefaultBodyLimit::disable());
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

/// A CGI program's output as a response.
fn answer(output: &[u8]) -> Response<Body> {
    let end = output.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let mut response = Response::builder();
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        let (name, value) = line.split_once(": ").unwrap();
        if name.eq_ignore_ascii_case("status") {
            response = response.status(value.split(' ').next().unwrap().parse::<u16>().unwrap());
        } else {
            response = response.header(name, value);
        }
    }
    response.body(Body::from(output[end + 4..].to_vec())).unwrap()
}

/// Every file below a directory that has these bytes in it.
fn grep(root: &Path, wanted: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                open.push(path);
            } else if fs::read(&path)
                .unwrap_or_default()
                .windows(wanted.len())
                .any(|part| part == wanted.as_bytes())
            {
                found.push(path);
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_over_http_leaves_no_credential_behind() {
    let world = World::new();
    world.plan(&serve(world.path("git")).await);
    let prepared = world.run("prepare", Some(TOKEN));
    assert!(prepared.status.success(), "{prepared:?}");
    assert_eq!(world.read::<PrepareReport>("prepare/report.json").failure, None);
    assert_eq!(grep(&world.path("run"), TOKEN), Vec::<PathBuf>::new());

    world.agent_worked();
    assert!(world.run("collect", None).status.success());
    let message = world.path("termination-log");
    let delivered =
        world.phase("deliver", Some(TOKEN)).arg("--termination-message").arg(&message).output().unwrap();
    assert!(delivered.status.success(), "{delivered:?}");

    // The result three times: as a file, as the termination message, as the last line of the log.
    let result: RunResult = world.read("deliver/result.json");
    assert_eq!(result.outcome, RunOutcome::Changed, "{}", result.reason);
    assert_eq!(serde_json::from_slice::<RunResult>(&fs::read(message).unwrap()).unwrap(), result);
    let stdout = String::from_utf8(delivered.stdout).unwrap();
    let line = stdout.lines().last().unwrap().strip_prefix("astra-result: ").unwrap();
    assert_eq!(serde_json::from_str::<RunResult>(line).unwrap(), result);

    let branch = git(&world.path("git/astra/api.git"), &["rev-parse", "astra/ast-1-x7k2p"]);
    assert_eq!(result.head, Some(branch));
    for output in [prepared.stderr, delivered.stderr] {
        assert!(!String::from_utf8_lossy(&output).contains(TOKEN));
    }
    assert_eq!(grep(world.home.path(), TOKEN), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_opens_nothing_is_a_matter_of_credentials() {
    let world = World::new();
    world.plan(&serve(world.path("git")).await);
    for token in [None, Some("wrong-token")] {
        assert!(
            world.run("prepare", token).status.success(),
            "the report is written: the phase has done its work"
        );
        let failure = world.read::<PrepareReport>("prepare/report.json").failure.unwrap();
        assert_eq!(failure.class, FailureClass::Credentials, "{}", failure.reason);
        assert!(world.run("deliver", token).status.success());
        let result: RunResult = world.read("deliver/result.json");
        assert_eq!((result.outcome, result.class), (RunOutcome::Failed, Some(FailureClass::Credentials)));
    }
    // Good for reading, but not any more when it comes to pushing.
    assert!(world.run("prepare", Some(TOKEN)).status.success());
    world.agent_worked();
    assert!(world.run("collect", None).status.success());
    assert!(world.run("deliver", Some("expired")).status.success());
    let result: RunResult = world.read("deliver/result.json");
    assert_eq!((result.outcome, result.class), (RunOutcome::Failed, Some(FailureClass::Credentials)));
}

#[test]
fn sigterm_stops_deliver_before_the_push() {
    let world = World::new();
    world.plan(&format!("file://{}", world.path("git").display()));
    assert!(world.run("prepare", None).status.success());
    world.agent_worked();
    assert!(world.run("collect", None).status.success());
    // A remote that takes the call and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    world.plan(&format!("http://{}", listener.local_addr().unwrap()));
    let child = world.phase("deliver", Some(TOKEN)).spawn().unwrap();
    let call = listener.accept().unwrap();
    let pid = rustix::process::Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    drop(call);
    assert_eq!(output.status.code(), Some(75), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("stopped before anything was pushed"));
    assert_eq!(output.stdout, b"");
    assert!(!world.path("run/deliver/result.json").exists());
}

#[test]
fn what_cannot_be_written_is_an_error_of_the_phase() {
    let world = World::new();
    world.plan(&format!("file://{}", world.path("git").display()));
    assert!(world.run("prepare", None).status.success());
    world.agent_worked();
    assert!(world.run("collect", None).status.success());
    // Its file system is full, as far as this process can tell: no file may grow.
    let script = "ulimit -f 0; trap '' XFSZ; exec \"$0\" \"$@\"";
    let program = env!("CARGO_BIN_EXE_astra-dispatch");
    let output = Command::new("sh")
        .args(["-c", script, program, "run", "deliver", "--run-dir"])
        .arg(world.path("run"))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(!world.path("run/deliver/result.json").exists());
    let branches = git(&world.path("git/astra/api.git"), &["branch", "--list"]);
    assert_eq!(branches, "* main", "nothing was pushed");
    // With room again, the run is delivered.
    assert!(world.run("deliver", None).status.success());
    assert_eq!(world.read::<RunResult>("deliver/result.json").outcome, RunOutcome::Changed);
}

#[test]
fn a_phase_without_a_plan_is_wrong_usage() {
    let world = World::new();
    for phase in ["prepare", "collect", "deliver"] {
        let output = world.run(phase, None);
        assert_eq!(output.status.code(), Some(2), "{phase}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("there is no plan of a run"));
    }
    let unknown: BTreeMap<&str, u32> = BTreeMap::from([("version", 1)]);
    world.write("plan.json", &unknown);
    assert_eq!(world.run("prepare", None).status.code(), Some(1));
}
