//! `demo`: a recorded task becomes a branch and a pull request draft, on this machine, without
//! accounts, cluster or model. What is shown is what `dispatch` does; only what it talks to stands in.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use tokio::time::Instant;

use crate::adapters::git::Git;
use crate::adapters::run_directory::PUBLISH_PAGE;
use crate::cli::{DemoArgs, DemoRuntime, RegistryArgs, StateArgs, TaskArgs};
use crate::commands::local::Local;
use crate::commands::meant::meant;
use crate::commands::{dispatch, status};
use crate::domain::init;
use crate::domain::result::RunOutcome;
use crate::environment;
use crate::error::{Exit, UserError};
use crate::output;

/// Files that a demonstration is made from: path and content.
macro_rules! embedded {
    ($folder:literal: $($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../fixtures/", $folder, "/", $path)))),*]
    };
}

const REGISTRY: &[(&str, &str)] = embedded!("registry":
    "astra.yaml",
    "agents/altair.yaml", "agents/lyra.yaml", "agents/rigel.yaml", "agents/sirius.yaml", "agents/vega.yaml",
    "prompts/altair.md", "prompts/guardrails.md", "prompts/lyra.md", "prompts/reviewing.md",
    "prompts/rigel.md", "prompts/sirius.md", "prompts/vega.md",
);
const REPOSITORY: &[(&str, &str)] = embedded!("demo/repository": "README.md", "importer.sh", "test.sh");
/// The event that Plane sent when a person made the task with the label `agent:coder`.
const EVENT: &str = include_str!("../../fixtures/events/10-issue-created-label-agent-coder.json");
/// What stands in for a model.
const SCRIPT: &str = include_str!("../../fixtures/demo/agent.sh");
/// What the Claude Code CLI needs, and where it reaches its model if not at Anthropic's.
const KEY: &str = "ANTHROPIC_API_KEY";
const ADDRESS: &str = "ANTHROPIC_BASE_URL";
/// How long making the sample repository may take.
const SET_UP: Duration = Duration::from_secs(30);

pub(super) async fn run(args: &DemoArgs) -> anyhow::Result<Exit> {
    check_runtime(args.runtime)?;
    let place = Place::make(args.runtime).await?;
    output::say(&format!(
        "demo: everything is in {}\n\nA person made a task in Plane and put the label agent:coder on it. \
         Its recorded event is dispatched:\n",
        place.root.display()
    ));
    let registry = RegistryArgs { registry: place.root.join(".astra") };
    let state = StateArgs { state_dir: Some(place.root.join("state")), no_github: true };
    let git_base_url = format!("file://{}", place.root.join("git").display());
    let local = Local::open(&registry, &state, Some(&git_base_url))?;
    let task = TaskArgs { event: Some(place.root.join("event.json")), task: None };
    let (report, _) = dispatch::carry_out(&local, &meant(&task, &local).await?, false).await?;

    let run = report.run.as_deref().context("the recorded event leads to a run")?.parse()?;
    let page = fs::read_to_string(local.executor.state.run(&run).path(PUBLISH_PAGE))
        .unwrap_or_else(|error| format!("there is no draft: {error}"));
    output::result(&format!("\n=== What would be posted to GitHub and Plane\n\n{page}"))?;
    output::result(&format!(
        "=== astra-dispatch status\n\n{}",
        status::page(&status::gather(&local).await?)
    ))?;
    let outcome = report.result.as_ref().map(|result| result.outcome);
    output::result(&place.closing(args.runtime, report.result.as_ref().and_then(|r| r.branch.as_ref())))?;
    Ok(if outcome == Some(RunOutcome::Changed) { Exit::Handled } else { Exit::Failed })
}

/// A model costs money and needs a key: better said before anything is made.
fn check_runtime(runtime: DemoRuntime) -> anyhow::Result<()> {
    let has_key = environment::value(KEY).is_some();
    if runtime == DemoRuntime::ClaudeCode && !has_key {
        return Err(UserError::usage(
            "the Claude Code CLI needs a key",
            "set ANTHROPIC_API_KEY, or leave out --runtime for the scripted agent",
        )
        .at("--runtime claude-code")
        .into());
    }
    Ok(())
}

/// The directory of one demonstration. It is kept: people look into it afterwards.
struct Place {
    root: PathBuf,
}

impl Place {
    async fn make(runtime: DemoRuntime) -> anyhow::Result<Self> {
        let name = format!("astra-demo-{:08x}", rand::random::<u32>());
        let root = std::env::temp_dir().join(name);
        fs::create_dir(&root).with_context(|| format!("make {}", root.display()))?;
        let root = root.canonicalize().context("find the demo's directory")?;
        for (path, text) in REGISTRY {
            let is_agent = path.starts_with("agents/");
            let text = match runtime {
                DemoRuntime::Script if is_agent => scripted(text)?,
                DemoRuntime::ClaudeCode if is_agent => with_model_address(text),
                _ => (*text).to_owned(),
            };
            write(&root.join(".astra"), path, &text)?;
        }
        write(&root, "event.json", EVENT)?;
        make_repository(&root).await.context("make the sample repository")?;
        Ok(Self { root })
    }

    /// What was real, what stood in, and what to do next.
    fn closing(&self, runtime: DemoRuntime, branch: Option<&crate::domain::name::Branch>) -> String {
        let root = self.root.display();
        let agent = match runtime {
            DemoRuntime::Script => "a script instead of a model (try --runtime claude-code)",
            DemoRuntime::ClaudeCode => "nothing: the real Claude Code CLI did the work",
        };
        let look = branch.map_or_else(String::new, |branch| {
            format!("\n  look at the work   git --git-dir {root}/git/astra/api.git show {branch}")
        });
        format!(
            "\n=== What you have seen\n\n\
             Real: the event, the decision, the ledger, the run in its own processes and confinement, the\n\
             clone, the gate, the push, the result, the draft.\n\
             Stood in: {agent};\n\
             a bare repository on this disk instead of GitHub; files instead of posts to GitHub and Plane.\n\
             {look}\n  \
             the run's files    {root}/state/runs\n  \
             clean up           rm -r {root}"
        )
    }
}

/// The sample's agent with a script in place of its model, and no credentials.
fn scripted(agent: &str) -> anyhow::Result<String> {
    let (before, rest) = agent.split_once("runtime:\n").context("the sample's agent has a runtime")?;
    let (_, after) = rest.split_once("prompt:\n").context("the sample's agent has prompts")?;
    let command = serde_json::to_string(&["sh", "-c", SCRIPT]).context("write the command")?;
    let after = after.replace(&format!("env: [{KEY}]"), "env: []");
    Ok(format!("{before}runtime:\n  kind: command\n  command: {command}\nprompt:\n{after}"))
}

/// An agent of the sample that reaches its model where the caller does, e.g. through a gateway.
fn with_model_address(agent: &str) -> String {
    match std::env::var_os(ADDRESS) {
        Some(address) if !address.is_empty() => init::with_model_address(agent),
        _ => agent.to_owned(),
    }
}

/// A bare repository with one commit, where GitHub would be: `git/astra/api.git`.
async fn make_repository(root: &Path) -> anyhow::Result<()> {
    let work_tree = root.join("sample");
    for (path, text) in REPOSITORY {
        write(&work_tree, path, text)?;
    }
    let git = Git::init_work_tree(&work_tree, Instant::now() + SET_UP).await?;
    git.run(["symbolic-ref", "HEAD", "refs/heads/main"]).await?;
    git.run(["add", "--all"]).await?;
    let author = ["-c", "user.name=Ada Admin", "-c", "user.email=ada@example.com"];
    git.run(author.into_iter().chain(["commit", "--quiet", "--message=Import rows of a CSV file"])).await?;
    git.run(["config", "core.bare", "true"]).await?;
    let bare = root.join("git/astra");
    fs::create_dir_all(&bare).with_context(|| format!("make {}", bare.display()))?;
    fs::rename(work_tree.join(".git"), bare.join("api.git")).context("move the repository")?;
    fs::remove_dir_all(&work_tree).context("remove the work tree")
}

fn write(directory: &Path, relative: &str, text: &str) -> anyhow::Result<()> {
    let path = directory.join(relative);
    let parent = path.parent().context("a file is in a directory")?;
    fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))
}
