//! A place to dispatch in: a registry with scripted agents, a bare repository, and a state directory.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "helpers of tests")]

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The project of the recordings, which the registry maps to `astra/api`.
pub const PROJECT: &str = "30b3e760-81ab-4c95-a0fe-f21adc376851";

/// A place with one coder, `vega`, and one reviewer, `sirius`.
pub struct Site {
    home: tempfile::TempDir,
}

impl Site {
    /// The coder is this shell script, and takes so many tasks at once.
    pub fn new(script: &str, max: u32) -> Self {
        let site = Self { home: tempfile::tempdir().unwrap() };
        let sample = |file: &str| {
            std::fs::read_to_string(format!("{}/fixtures/registry/{file}", env!("CARGO_MANIFEST_DIR")))
                .unwrap()
        };
        site.write(".astra/astra.yaml", &sample("astra.yaml"));
        site.write(".astra/prompts/vega.md", "You are Vega.");
        let command = serde_json::to_string(&["sh", "-c", script]).unwrap();
        for (name, role) in [("vega", "coder"), ("sirius", "reviewer")] {
            site.write(
                &format!(".astra/agents/{name}.yaml"),
                &format!(
                    "name: {name}\nrole: {role}\ntrait: fast\nstatus: active\ndescription: d\nskills: [kotlin]\n\
                     max_concurrent_tasks: {max}\nrepositories: [\"astra/*\"]\naccounts: {{github: astra-{name}}}\n\
                     runtime: {{kind: command, command: {command}}}\n\
                     prompt: {{personality: prompts/vega.md, guardrails: [], context: []}}\n\
                     credentials: {{vault: astra/agents/{name}, env: []}}\n"
                ),
            );
        }
        site.make_repository();
        site
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.home.path().join(relative)
    }

    pub fn write(&self, relative: &str, text: &str) {
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn make_repository(&self) {
        self.write("work/README.md", "# Sample\n");
        self.git(&["init", "--quiet", "--initial-branch=main", "work"]);
        self.git(&["-C", "work", "add", "--all"]);
        let author = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"];
        self.git(&[&["-C", "work"], author.as_slice(), &["commit", "--quiet", "-m", "First"]].concat());
        std::fs::create_dir_all(self.path("git/astra")).unwrap();
        self.git(&["clone", "--quiet", "--bare", "work", "git/astra/api.git"]);
    }

    /// Runs Git here, without anybody's configuration.
    pub fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .current_dir(self.home.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// The command, with a scrubbed environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("astra-dispatch"));
        command
            .current_dir(self.home.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.home.path())
            .env("ASTRA_STATE_DIR", self.path("state"))
            .env("ASTRA_GIT_BASE_URL", format!("file://{}", self.path("git").display()))
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must be handled, and reads its JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Writes the event of a task: its number, when it was changed, and what it looks like then.
    pub fn event(&self, number: u64, second: u32, changes: &Value) -> String {
        let recorded = include_str!("../../fixtures/events/10-issue-created-label-agent-coder.json");
        let mut event: Value = serde_json::from_str(recorded).unwrap();
        let data = &mut event["data"];
        data["id"] = json!(uuid::Uuid::from_u128(u128::from(number)));
        data["sequence_id"] = json!(number);
        data["updated_at"] = json!(format!("2026-11-23T02:00:{second:02}Z"));
        for (key, value) in changes.as_object().unwrap() {
            data[key] = value.clone();
        }
        let name = format!("event-{number}-{second}.json");
        self.write(&name, &event.to_string());
        name
    }

    /// The store of the state directory.
    pub fn store(&self) -> rusqlite::Connection {
        let store = rusqlite::Connection::open(self.path("state/store.sqlite3")).unwrap();
        store.busy_timeout(Duration::from_secs(10)).unwrap();
        store
    }

    /// Lets runs that have ended be published now. A supervisor that waits for that already goes on waiting:
    /// `publish` and `sweep` see it.
    pub fn half_a_minute_passes(&self) {
        let earlier = (jiff::Timestamp::now() - Duration::from_secs(31)).to_string();
        let change = "UPDATE jobs SET document = json_replace(document, '$.end.at', ?1, '$.cancel.at', ?1)
                      WHERE document ->> '$.end.at' > ?1 AND document ->> '$.phase' <> 'published'";
        self.store().execute(change, [earlier]).unwrap();
    }

    pub fn status(&self) -> Value {
        self.json(&["status", "--format", "json"])
    }

    /// Waits until something holds of `status`.
    pub fn wait_for(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let status = self.status();
            if holds(&status) {
                return status;
            }
            assert!(begun.elapsed() < Duration::from_secs(120), "{what} did not come: {status:#}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The runs of a status in this state.
pub fn runs_in(status: &Value, state: &str) -> usize {
    status["runs"].as_array().unwrap().iter().filter(|run| run["state"] == state).count()
}
