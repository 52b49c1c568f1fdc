//! The whole way as it goes on GitHub: a recorded webhook, the relay, the workflows as they are in
//! `.github/workflows`, a Job on a real cluster, and the workflow that publishes it. `act` stands in for
//! GitHub's runners, and stand-ins with state for Plane and for GitHub's API.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/cluster_site.rs"]
mod cluster_site;
#[path = "support/git_server.rs"]
mod git_server;
#[path = "support/github_fake.rs"]
mod github_fake;
#[path = "support/loop_world.rs"]
mod loop_world;
#[path = "support/plane_fake.rs"]
mod plane_fake;
#[path = "support/plane_world.rs"]
mod plane_world;
#[path = "support/relay.rs"]
mod relay;
#[path = "support/site.rs"]
mod site;
#[path = "support/wire.rs"]
mod wire;

use std::path::Path;
use std::process::Command;

use cluster_site::{ClusterSite, Worker};
use github_fake::{GitHubFake, TOKEN};
use plane_fake::{KEY, PlaneFake};
use plane_world::ITEM;
use relay::{LISTEN, Relay};
use serde_json::{Value, json};
use site::text;

const SCRIPT: &str = "echo hello > hello.txt; echo 'Said hello.' > $RUN_OUTPUT_DIR/summary.md";

/// Everything there is, besides the relay.
struct World {
    place: ClusterSite,
    plane: PlaneFake,
    github: GitHubFake,
}

impl World {
    async fn new() -> Self {
        let plane = PlaneFake::start(loop_world::world()).await;
        let url = plane.url.clone();
        let settings = |settings: String| {
            loop_world::with_review(&settings)
                .replace("url: https://plane.example.com", &format!("url: {url}"))
        };
        let place = ClusterSite::new(&[Worker::new("coder", SCRIPT)], settings).await;
        let github = GitHubFake::start(place.git.repositories()).await;
        github.world(|world| world.there.insert("/repos/astra/ops".into(), json!({"private": true})));
        let world = Self { place, plane, github };
        world.make_repository();
        world
    }

    /// The repository with the workflows and the registry.
    fn make_repository(&self) {
        let site = &self.place.site;
        let source = Path::new(env!("CARGO_MANIFEST_DIR"));
        let ops = site.path("ops");
        std::fs::create_dir_all(&ops).unwrap();
        for (from, name) in [
            (source.join("action.yml"), "action.yml"),
            (source.join("action"), "action"),
            (source.join(".github"), ".github"),
            (site.path(".astra"), ".astra"),
        ] {
            let copied = Command::new("cp").arg("-r").arg(&from).arg(ops.join(name)).status().unwrap();
            assert!(copied.success(), "{}", from.display());
        }
        site.git(&["init", "--quiet", "--initial-branch=main", "ops"]);
        site.git(&["-C", "ops", "remote", "add", "origin", "https://github.com/astra/ops.git"]);
        site.git(&["-C", "ops", "add", "--all"]);
        let author = ["-C", "ops", "-c", "user.name=Ada", "-c", "user.email=ada@example.com"];
        site.git(&[author.as_slice(), &["commit", "--quiet", "-m", "Registry"]].concat());
    }

    fn relay(&self) -> Relay {
        let mut command = self.place.site.command(&LISTEN);
        command
            .env("KUBECONFIG", self.place.site.path("kubeconfig"))
            .env("ASTRA_WATCH_JOBS", "true")
            .env("GITHUB_API_URL", format!("{}/api/v3", self.github.url))
            .env("GITHUB_REPOSITORY", "astra/ops")
            .env("GITHUB_TOKEN", TOKEN);
        Relay::of(command)
    }

    /// Waits for the next event that the relay raises, and gives it as GitHub gives it to workflows.
    async fn raised(&self, number: usize) -> Value {
        let look = || async { self.github.world(|world| world.raised.get(number).cloned()) };
        let raised = cluster::eventually(&format!("event {number} is raised"), look).await;
        json!({"action": raised["event_type"], "client_payload": raised["client_payload"]})
    }

    /// Runs a workflow on an event; what act says about it, a JSON document a line.
    async fn workflow(&self, workflow: &str, event: &str, payload: &Value) -> String {
        let site = &self.place.site;
        site.write("event.json", &payload.to_string());
        let kubeconfig = std::fs::read_to_string(site.path("kubeconfig")).unwrap();
        let mut command = Command::new(std::env::var("ASTRA_TEST_ACT").unwrap());
        command
            .current_dir(site.path("ops"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", site.path("home"))
            .args([event, "--eventpath"])
            .arg(site.path("event.json"))
            .args(["--workflows", &format!(".github/workflows/{workflow}.yml"), "--json"])
            .args(["--platform", "ubuntu-latest=-self-hosted", "--no-cache-server"])
            .args(["--cache-server-addr", "127.0.0.1", "--artifact-server-addr", "127.0.0.1"]);
        let option = |command: &mut Command, kind: &str, name: &str, value: &str| {
            command.arg(kind).arg(format!("{name}={value}"));
        };
        for (name, value) in
            [("ASTRA_KUBECONFIG", kubeconfig.as_str()), ("PLANE_API_KEY", KEY), ("GITHUB_TOKEN", TOKEN)]
        {
            option(&mut command, "--secret", name, value);
        }
        for (name, value) in [
            ("ASTRA_BINARY", env!("CARGO_BIN_EXE_astra-dispatch")),
            ("ASTRA_EXECUTOR", "kubernetes"),
            ("ASTRA_STATE_DIR", site.path("state").to_str().unwrap()),
            ("ASTRA_GIT_BASE_URL", &self.place.git.base_url()),
        ] {
            option(&mut command, "--var", name, value);
        }
        option(&mut command, "--env", "GITHUB_API_URL", &format!("{}/api/v3", self.github.url));
        option(&mut command, "--env", "GIT_SSL_CAINFO", self.place.git.authority().to_str().unwrap());
        let output = tokio::process::Command::from(command).output().await.unwrap();
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(output.status.success(), "{workflow}: {said}");
        said
    }
}

/// An output of a step, from act's own record of it.
fn output(said: &str, name: &str) -> Option<String> {
    let lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut set = lines.filter(|line| line["command"] == "set-output" && line["name"] == name);
    set.next().and_then(|line| line["arg"].as_str().map(str::to_owned))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster, and act"]
async fn a_webhook_becomes_a_pull_request_and_plane_is_told() {
    let world = World::new().await;
    let relay = world.relay();
    let (headers, body) = relay::recorded("10-issue-created-label-agent-coder");
    assert_eq!(relay::post(&relay, &headers, &body), Some(200));
    let event = world.raised(0).await;
    assert_eq!(event["action"], "plane-event");
    let said = world.workflow("dispatch", "repository_dispatch", &event).await;
    assert_eq!(output(&said, "outcome").as_deref(), Some("dispatched"), "{said}");
    let run = output(&said, "run").unwrap();
    assert_eq!(output(&said, "job"), Some(run.clone()));

    let event = world.raised(1).await;
    let expected = json!({"version": 1, "run": run, "namespace": world.place.namespace("coder")});
    assert_eq!((&event["action"], &event["client_payload"]), (&json!("astra-result"), &expected));
    let said = world.workflow("publish", "repository_dispatch", &event).await;
    assert_eq!(output(&said, "pull-request").as_deref(), Some("1"), "{said}");
    assert_eq!(loop_world::faults(&world.plane, &world.github, ITEM), Vec::<String>::new());
    assert_eq!(world.place.git.git(&["show", &format!("astra/{run}:hello.txt")]), "hello");

    // Once more, and everything stays as it is.
    let before = world.github.world(|world| world.requests.len());
    world.workflow("publish", "repository_dispatch", &event).await;
    let said = world.workflow("sweep", "schedule", &json!({})).await;
    let swept: Value = serde_json::from_str(&output(&said, "json").unwrap()).unwrap();
    assert_eq!(swept["actions"], json!([]), "{swept:#}");
    assert_eq!(world.github.world(|world| world.requests.len()), before);
    assert_eq!(loop_world::faults(&world.plane, &world.github, ITEM), Vec::<String>::new());
    world.place.cluster.remove().await;
}
