//! `init` in repositories as people have them, with stand-ins for Plane, GitHub and the model's API.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/git_server.rs"]
mod git_server;
#[path = "support/github_fake.rs"]
mod github_fake;
#[path = "support/plane_fake.rs"]
mod plane_fake;
#[path = "support/plane_world.rs"]
mod plane_world;
#[path = "support/site.rs"]
mod site;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use axum::http::{HeaderMap, StatusCode};
use github_fake::{GitHubFake, TOKEN};
use plane_fake::{Fault, KEY, PlaneFake};
use plane_world::{PROJECT, recorded_world};
use serde_json::json;

const IMAGE: &str =
    "registry.example.com/astra@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
/// The key that the model's stand-in accepts.
const MODEL_KEY: &str = "sk-ant-0123456789";

/// A repository of somebody's.
struct Home {
    directory: tempfile::TempDir,
}

/// How a command ended.
struct Ended {
    code: Option<i32>,
    shown: String,
    said: String,
}

impl Home {
    fn new() -> Self {
        let home = Self::empty();
        home.git(&["init", "--quiet", "--initial-branch=trunk"]);
        home.git(&["remote", "add", "origin", "git@github.com:acme/web-shop.git"]);
        home
    }

    fn empty() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn git(&self, arguments: &[&str]) {
        let status = Command::new("git").arg("-C").arg(self.path()).args(arguments).status().unwrap();
        assert!(status.success());
    }

    fn command(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("astra-dispatch"));
        command
            .current_dir(self.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.path())
            .envs(variables.iter().copied())
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
        let output = self.command(arguments, variables).output().unwrap();
        Ended {
            code: output.status.code(),
            shown: site::text(&output.stdout),
            said: site::text(&output.stderr),
        }
    }

    /// The same, while a stand-in in this process answers.
    async fn run_beside(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
        let output =
            tokio::process::Command::from(self.command(arguments, variables)).output().await.unwrap();
        Ended {
            code: output.status.code(),
            shown: site::text(&output.stdout),
            said: site::text(&output.stderr),
        }
    }

    /// Every file but Git's own and the state, with its text.
    fn files(&self) -> BTreeMap<PathBuf, String> {
        let mut found = BTreeMap::new();
        let mut directories = vec![self.path().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && !path.ends_with(".git") && !path.ends_with(".local") {
                    directories.push(path);
                } else if path.is_file() {
                    let name = path.strip_prefix(self.path()).unwrap().to_owned();
                    found.insert(name, fs::read_to_string(path).unwrap());
                }
            }
        }
        found
    }
}

/// A model's API that accepts [`MODEL_KEY`]; its address.
async fn model_api() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = |headers: HeaderMap| async move {
        let is_good = headers.get("x-api-key").is_some_and(|key| key == MODEL_KEY);
        if is_good { StatusCode::OK } else { StatusCode::UNAUTHORIZED }
    };
    let app = axum::Router::new().route("/v1/models", axum::routing::get(answer));
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    url
}

#[test]
fn without_any_account_a_registry_and_a_first_task_are_written_once() {
    let home = Home::new();
    let first = home.run(&["init"], &[]);
    assert_eq!(first.code, Some(0), "{}", first.said);
    let names: Vec<&str> = first.shown.lines().collect();
    assert_eq!(
        names,
        [
            ".astra/astra.yaml",
            ".astra/agents/vega.yaml",
            ".astra/prompts/vega.md",
            ".astra/prompts/guardrails.md",
            ".astra/first-task.json"
        ]
    );
    let written = home.files();
    assert_eq!(written.len(), names.len());
    let registry = &written[Path::new(".astra/astra.yaml")];
    assert!(
        registry.contains("repository: acme/web-shop") && registry.contains("base: \"trunk\""),
        "{registry}"
    );
    assert!(first.said.contains("dispatch --event .astra/first-task.json"), "{}", first.said);
    let checked = home.run(&["agents", "check"], &[]);
    assert_eq!(checked.code, Some(0), "{}", checked.shown);
    let explained = home.run(&["explain", "--event", ".astra/first-task.json", "--format", "json"], &[]);
    let explained: serde_json::Value = serde_json::from_str(&explained.shown).unwrap();
    // Its key is not here.
    assert_eq!(explained["outcome"], "waiting");
    let reason = explained["reason"].as_str().unwrap();
    assert!(reason.contains("vega needs ") && reason.contains("ANTHROPIC_API_KEY"), "{reason}");

    let again = home.run(&["init"], &[]);
    assert_eq!((again.code, again.shown.as_str()), (Some(0), ""), "{}", again.said);
    assert!(again.said.contains("nothing was changed"), "{}", again.said);
    home.run(&["init", "--force"], &[]);
    let after: BTreeMap<_, _> =
        home.files().into_iter().filter(|(path, _)| path.starts_with(".astra")).collect();
    assert_eq!(after, written);
}

#[test]
fn what_is_there_is_changed_only_by_leave_and_after_its_difference_was_shown() {
    let home = Home::new();
    assert_eq!(home.run(&["init", "--diff"], &[]).code, Some(0));
    assert!(home.files().is_empty(), "--diff writes nothing");
    fs::create_dir_all(home.path().join(".astra/agents")).unwrap();
    fs::write(home.path().join(".astra/astra.yaml"), "version: 1 # mine\n").unwrap();
    let before = home.files();
    for arguments in [&["init"][..], &["init", "--yes"], &["init", "--diff"]] {
        let refused = home.run(arguments, &[]);
        let is_diff = arguments.contains(&"--diff");
        assert_eq!(refused.code, Some(if is_diff { 0 } else { 2 }), "{}", refused.said);
        let shown = format!("{}{}", refused.shown, refused.said);
        assert!(shown.contains("-version: 1 # mine") && shown.contains("+version: 1\n"), "{shown}");
        assert!(is_diff || refused.said.contains("--force"), "{}", refused.said);
        assert_eq!(home.files(), before, "all or nothing");
    }
    let forced = home.run(&["init", "--force"], &[]);
    assert_eq!(forced.code, Some(0), "{}", forced.said);
    assert!(forced.said.contains("-version: 1 # mine"), "{}", forced.said);
    assert_eq!(home.run(&["agents", "check"], &[]).code, Some(0));
    assert!(!home.files().keys().any(|path| path.to_string_lossy().contains("unfinished")));
}

#[test]
fn where_it_cannot_work_it_says_what_to_do() {
    let nowhere = Home::empty();
    let ended = nowhere.run(&["init"], &[]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.said.contains("no Git repository") && ended.said.contains("git init"), "{}", ended.said);

    let home = Home::new();
    fs::create_dir(home.path().join("below")).unwrap();
    let mut below = home.command(&["init"], &[]);
    let output = below.current_dir(home.path().join("below")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(site::text(&output.stderr).contains("`cd "), "{}", site::text(&output.stderr));

    let nameless = Home::empty();
    nameless.git(&["init", "--quiet"]);
    let ended = nameless.run(&["init"], &[]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.said.contains("--repository OWNER/NAME"), "{}", ended.said);
    assert!(nameless.files().is_empty());
    for (arguments, words) in [
        (&["init", "--repository", "acme"][..], "owner/name"),
        (&["init", "--executor", "kubernetes"], "--image"),
        (&["init", "--executor", "kubernetes", "--image", "astra", "--agent-image", IMAGE], "digest"),
    ] {
        let ended = home.run(arguments, &[("KUBECONFIG", "/nowhere")]);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {}", ended.said);
        assert!(ended.said.contains(words), "{arguments:?}: {}", ended.said);
    }
    assert!(home.files().is_empty());

    // Root may write everywhere, so a file stands in the way.
    fs::write(home.path().join(".astra"), "").unwrap();
    let ended = home.run(&["init"], &[]);
    assert_eq!(ended.code, Some(1), "{}", ended.said);
    assert!(ended.said.contains(".astra"), "{}", ended.said);
}

#[test]
fn a_directory_that_cannot_be_written_is_said_and_a_later_run_goes_on() {
    let home = Home::new();
    let agents = home.path().join(".astra/agents");
    fs::create_dir_all(&agents).unwrap();
    fs::set_permissions(&agents, fs::Permissions::from_mode(0o555)).unwrap();
    let ended = home.run(&["init"], &[]);
    if !rustix::process::geteuid().is_root() {
        assert_eq!(ended.code, Some(1), "{}", ended.said);
        assert!(ended.said.contains("make the directory writable"), "{}", ended.said);
    }
    fs::set_permissions(&agents, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(home.run(&["init"], &[]).code, Some(0));
    assert_eq!(home.run(&["agents", "check"], &[]).code, Some(0));
}

#[tokio::test]
async fn a_key_for_plane_names_project_states_and_labels() {
    let plane = PlaneFake::start(recorded_world()).await;
    let home = Home::new();
    let variables = [("PLANE_API_KEY", KEY), ("PLANE_BASE_URL", plane.url.as_str())];
    // The only project is taken without a question.
    let ended = home.run_beside(&["init", "--workspace", "astra"], &variables).await;
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    for words in [
        "ok      Plane: the key opens workspace astra",
        "AST has the label agent:coder",
        "dispatch --task AST-1",
    ] {
        assert!(ended.said.contains(words), "{words}: {}", ended.said);
    }
    let written = home.files();
    let registry = &written[Path::new(".astra/astra.yaml")];
    assert!(
        registry.contains(&format!("id: {PROJECT}")) && registry.contains("identifier: \"AST\""),
        "{registry}"
    );
    assert!(registry.contains("workspace_id: 0ea6e128-ba3b-4dfb-a769-e6e55140bf53"), "{registry}");
    assert!(!written.contains_key(Path::new(".astra/first-task.json")));
    assert_eq!(home.run(&["agents", "check"], &[]).code, Some(0));
    let wrote = plane.world(|world| world.requests.iter().any(|request| !request.starts_with("GET ")));
    assert!(!wrote, "looking changes nothing");

    // What the project lacks is said; it does not keep anybody from going on.
    plane.world(|world| world.projects.get_mut(PROJECT).unwrap().labels.clear());
    let ended = home.run_beside(&["init", "--workspace", "astra", "--project", "ast"], &variables).await;
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    assert!(ended.said.contains("make the label agent:coder in Plane"), "{}", ended.said);
}

#[tokio::test]
async fn a_key_that_does_not_do_is_told_and_nothing_is_written() {
    let plane = PlaneFake::start(recorded_world()).await;
    let model = model_api().await;
    let home = Home::new();
    let at_plane = [("PLANE_API_KEY", KEY), ("PLANE_BASE_URL", plane.url.as_str())];
    let wrong_key = [("PLANE_API_KEY", "plane_api_wrong"), ("PLANE_BASE_URL", plane.url.as_str())];
    let unreachable = [("PLANE_API_KEY", KEY), ("PLANE_BASE_URL", "http://127.0.0.1:9")];
    let wrong_model = [("ANTHROPIC_API_KEY", "sk-wrong"), ("ANTHROPIC_BASE_URL", model.as_str())];
    for (arguments, variables, code, words) in [
        (&["init"][..], &at_plane[..1], 2, "--plane-url"),
        (&["init"], &at_plane, 2, "--workspace SLUG"),
        (&["init", "--workspace", "astra"], &wrong_key, 2, "make a new API key in Plane"),
        (&["init", "--workspace", "other"], &at_plane, 2, "check --workspace"),
        (&["init", "--workspace", "astra", "--project", "XY"], &at_plane, 2, "AST (Astra)"),
        (&["init", "--workspace", "astra"], &unreachable, 75, "check --plane-url"),
        (&["init"], &wrong_model, 2, "make a key at https://console.anthropic.com"),
    ] {
        let ended = home.run_beside(arguments, variables).await;
        assert_eq!(ended.code, Some(code), "{arguments:?}: {}", ended.said);
        assert!(ended.said.contains(words), "{arguments:?}: {}", ended.said);
        assert!(
            !ended.said.contains("plane_api_wrong") && !ended.said.contains("sk-wrong"),
            "{}",
            ended.said
        );
        assert!(home.files().is_empty(), "{arguments:?}");
    }
    plane.world(|world| {
        world.faults = vec![Fault::Answer(200, vec![("content-type", "text/html".into())], "<html>".into())]
    });
    let ended = home.run_beside(&["init", "--workspace", "astra"], &at_plane).await;
    assert!(ended.said.contains("does not seem to be Plane's API"), "{}", ended.said);
    let good = [("ANTHROPIC_API_KEY", MODEL_KEY), ("ANTHROPIC_BASE_URL", model.as_str())];
    let ended = home.run_beside(&["init"], &good).await;
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    assert!(ended.said.contains("ok      Anthropic: ANTHROPIC_API_KEY is accepted"), "{}", ended.said);
    // A gateway that lists no models, or none at all, is no fault of the key's.
    let gateway = [("ANTHROPIC_API_KEY", "k"), ("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")];
    let ended = home.run_beside(&["init"], &gateway).await;
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    assert!(ended.said.contains("unknown Anthropic"), "{}", ended.said);
}

#[tokio::test]
async fn a_token_for_github_must_reach_the_repository() {
    let home = Home::new();
    let github = GitHubFake::start(home.path().to_owned()).await;
    let api = format!("{}/api/v3", github.url);
    let with = |token| [("GITHUB_TOKEN", token), ("GITHUB_API_URL", api.as_str())];
    let ended = home.run_beside(&["init"], &with("ghp_wrong")).await;
    assert_eq!(ended.code, Some(2), "{}", ended.said);
    assert!(ended.said.contains("check GITHUB_TOKEN") && !ended.said.contains("ghp_wrong"), "{}", ended.said);
    let ended = home.run_beside(&["init"], &with(TOKEN)).await;
    assert_eq!(ended.code, Some(2), "{}", ended.said);
    assert!(ended.said.contains("no such repository"), "{}", ended.said);
    for (push, code) in [(false, 2), (true, 0)] {
        let repository = json!({"full_name": "acme/web-shop", "permissions": {"push": push, "admin": false}});
        github.world(|world| world.there.insert("/repos/acme/web-shop".to_owned(), repository));
        let ended = home.run_beside(&["init"], &with(TOKEN)).await;
        assert_eq!(ended.code, Some(code), "{}", ended.said);
        assert_eq!(home.files().is_empty(), !push);
    }
}

#[test]
fn for_a_cluster_the_workflows_come_along() {
    let home = Home::new();
    let arguments = ["init", "--executor", "kubernetes", "--image", IMAGE, "--agent-image", IMAGE];
    let ended = home.run(&arguments, &[("KUBECONFIG", "/nowhere")]);
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    assert!(ended.said.contains("unknown cluster"), "{}", ended.said);
    for words in ["vault set vega ANTHROPIC_API_KEY", "agents provision | kubectl apply -f -"] {
        assert!(ended.said.contains(words), "{words}: {}", ended.said);
    }
    let files = home.files();
    for name in ["dispatch", "publish", "run", "sweep"] {
        assert!(files.contains_key(&PathBuf::from(format!(".github/workflows/{name}.yml"))), "{files:#?}");
    }
    let checked = home.run(&["agents", "check"], &[]);
    assert_eq!(checked.code, Some(0), "{}", checked.shown);
}
