//! Plane allows 60 requests a minute for everything: what one run costs, counted.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

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

use base64::Engine;
use github_fake::{GitHubFake, TOKEN};
use plane_fake::{KEY, PlaneFake, World};
use plane_world::{ITEM, PROJECT};
use serde_json::{Value, json};
use site::{Site, text};

/// What a run may cost: the number.
const ALLOWED: usize = 8;

/// The recorded item asks for a coder, and nobody has begun.
fn waiting_world() -> World {
    let mut world = plane_world::wanted_world();
    let rows = world.projects.get_mut(PROJECT).unwrap();
    rows.items[0]["state"] = rows.states.iter().find(|state| state["name"] == "Todo").unwrap()["id"].clone();
    world
}

struct Place {
    site: Site,
    github: GitHubFake,
    plane: PlaneFake,
}

impl Place {
    /// Items under review have a state of their own: that is one move more.
    async fn new() -> Self {
        let site = Site::new("echo more >> README.md; echo Done.", 1);
        let settings = std::fs::read_to_string(site.path(".astra/astra.yaml")).unwrap();
        site.write(".astra/astra.yaml", &settings.replace("review: null", "review: Done"));
        site.git(&["--git-dir", "git/astra/api.git", "config", "http.receivepack", "true"]);
        let github = GitHubFake::start(site.path("git")).await;
        github.world(|world| world.there.insert("/repos/astra/ops".to_owned(), json!({"private": true})));
        let plane = PlaneFake::start(waiting_world()).await;
        Self { site, github, plane }
    }

    async fn dispatch(&self, arguments: &[&str]) -> Value {
        let all = [&["dispatch", "--detach", "--executor", "local", "--format", "json"], arguments].concat();
        let mut program = tokio::process::Command::from(self.site.command(&all));
        program.envs([("PLANE_API_KEY", KEY), ("PLANE_BASE_URL", &self.plane.url)]);
        program.envs([("GITHUB_TOKEN", TOKEN), ("ASTRA_GIT_BASE_URL", &self.github.url)]);
        program.env("GITHUB_REPOSITORY", "astra/ops");
        let output = program.output().await.unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    async fn until_published(&self) {
        tokio::task::block_in_place(|| {
            self.site.wait_for("the pull request", |status| site::runs_in(status, "published") == 1)
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_costs_at_most_eight_requests() {
    let event =
        format!("{}/fixtures/events/10-issue-created-label-agent-coder.json", env!("CARGO_MANIFEST_DIR"));
    // Each waits half a minute before it is published: at the same time.
    let by_key = tokio::spawn(costs(&["--task", "AST-2"], ALLOWED));
    costs(&["--event", &event], ALLOWED - 1).await;
    by_key.await.unwrap();
}

/// A whole run costs so many requests.
async fn costs(arguments: &[&str], expected: usize) {
    let place = Place::new().await;
    let links = place.plane.world(|world| world.projects[PROJECT].links[ITEM].len());
    let report = place.dispatch(arguments).await;
    assert_eq!(report["outcome"], "dispatched", "{report:#}");
    let run = report["run"].as_str().unwrap();
    place.until_published().await;
    let requests = place.plane.world(|world| {
        let project = &world.projects[PROJECT];
        let done = project.states.iter().find(|state| state["name"] == "Done").unwrap();
        assert_eq!(project.items[0]["state"], done["id"]);
        assert_eq!(project.links[ITEM].len(), links + 1);
        let comments = &project.comments[ITEM];
        assert_eq!(comments.iter().filter(|one| one["external_id"] == json!(run)).count(), 1);
        world.requests.clone()
    });
    assert_eq!(place.github.world(|world| world.pulls.len()), 1);
    assert_eq!(requests.len(), expected, "{requests:#?}");
    let record = place.github.world(|world| world.log.as_ref().unwrap().last().unwrap().1.clone());
    let record = base64::engine::general_purpose::STANDARD.decode(record).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    let writes = record["writes"].as_array().unwrap().iter();
    let kinds: Vec<&str> = writes.map(|write| write["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["branch", "state", "pull_request", "comment", "link", "state"], "{record:#}");
}
