//! A world for the tests of phases: a bare remote repository, a run's directory with its plan.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::adapters::run_directory::{AGENT_OUTPUT, AGENT_REPORT, PLAN, RunDirectory};
use crate::domain::phase::{AgentEnding, AgentReport};
use crate::domain::result::{FailureClass, Tokens};
use crate::domain::run_plan::RunPlan;

/// A remote and a run, in a temporary directory.
pub(crate) struct World {
    /// Everything is in here.
    pub(crate) home: tempfile::TempDir,
    /// The run's directory.
    pub(crate) run: RunDirectory,
    /// The plan that is in it.
    pub(crate) plan: RunPlan,
}

/// The files of the remote's branch `main`.
pub(crate) const FILES: &[(&str, &str)] = &[
    ("README.md", "# Sample\n"),
    ("src/main.txt", "one\ntwo\n"),
    ("src/deep/er/leaf.txt", "leaf\n"),
    ("crlf.txt", "a\r\nb\r\n"),
    (".gitattributes", "*.txt text eol=crlf ident filter=evil working-tree-encoding=UTF-16\n"),
    (".gitignore", "/target/\n*.log\n"),
    (".github/workflows/ci.yml", "on: push\n"),
];

impl World {
    /// A remote with [`FILES`], and a run of AST-1 on its branch `main`.
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let seed = home.path().join("seed");
        for (path, content) in FILES {
            let path = seed.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        git(&seed, &["init", "-q", "-b", "main"]);
        fs::create_dir_all(seed.join(".git/info")).unwrap();
        // The repository's own attributes would change the bytes on the way in.
        fs::write(seed.join(".git/info/attributes"), "* -text -ident !filter !working-tree-encoding\n")
            .unwrap();
        git(&seed, &["add", "-A", "-f"]);
        git(&seed, &["commit", "-q", "-m", "first"]);
        git(&seed, &["commit", "-q", "--allow-empty", "-m", "second"]);
        let remote = home.path().join("git/astra/api.git");
        fs::create_dir_all(remote.parent().unwrap()).unwrap();
        git(home.path(), &["clone", "-q", "--bare", "seed", remote.to_str().unwrap()]);
        let plan = plan(&format!("file://{}", home.path().join("git").display()));
        let run = RunDirectory::new(home.path().join("run"));
        let world = Self { home, run, plan };
        world.write_plan();
        world
    }

    /// Puts the plan into the run's directory.
    pub(crate) fn write_plan(&self) {
        self.run.write(PLAN, &self.plan).unwrap();
    }

    /// The bare remote.
    pub(crate) fn remote(&self) -> PathBuf {
        self.home.path().join("git/astra/api.git")
    }

    /// Runs git in the remote.
    pub(crate) fn in_remote(&self, arguments: &[&str]) -> String {
        git(&self.remote(), arguments)
    }

    /// A path in the workspace.
    pub(crate) fn work(&self, path: &str) -> PathBuf {
        self.run.workspace().join(path)
    }

    /// Puts a file where the agent's outputs are.
    pub(crate) fn output(&self, name: &str, content: &str) {
        self.run.write_bytes(&format!("{AGENT_OUTPUT}/{name}"), content.as_bytes()).unwrap();
    }

    /// The agent step ended so.
    pub(crate) fn agent_ends(&self, ending: AgentEnding) {
        let failed = ending != AgentEnding::Done;
        let report = AgentReport {
            ending,
            reason: format!("it ended: {ending:?}"),
            class: failed.then_some(FailureClass::Agent),
            exit_code: Some(i32::from(failed)),
            model: Some("claude-sonnet-5".into()),
            tokens: Tokens { input: 1, output: 2, cache_read: 3, cache_write: 4 },
            cost_usd: Some(0.25),
            turns: Some(3),
            denials: 0,
            seconds: 1.5,
        };
        self.run.write(AGENT_REPORT, &report).unwrap();
    }

    /// Writes a file in the workspace.
    pub(crate) fn put(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.work(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

fn plan(git_base_url: &str) -> RunPlan {
    RunPlan {
        git_base_url: git_base_url.into(),
        protected_paths: vec!["migrations/**".into()],
        ..RunPlan::sample()
    }
}

/// Runs git as a person on a clean machine, and returns what it says.
pub(crate) fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "protocol.file.allow=always"])
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}
