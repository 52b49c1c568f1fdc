//! Everything that the loop needs: a registry, stand-ins for Plane and for GitHub with real Git, and the
//! program between them.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::process::Command;

use super::github_fake::{GitHubFake, TOKEN};
use super::plane_fake::{KEY, PlaneFake, World};
use super::plane_world::{self, PROJECT};
use super::relay::{LISTEN, Relay};
use super::site::{Site, text};
use super::wire::Wire;

/// The name of the state for work that people look at.
const REVIEW: &str = "In Review";

/// Nobody waits longer between two requests that belong together.
const PAUSE: Duration = Duration::from_secs(4);

/// A place where the loop runs.
pub struct Loop {
    pub site: Site,
    pub plane: PlaneFake,
    pub github: GitHubFake,
    pub wire: Wire,
    plane_url: String,
    github_url: String,
}

impl Loop {
    /// The coder is this shell script, and takes so many tasks at once.
    pub async fn new(script: &str, max: u32) -> Self {
        let site = Site::new(script, max);
        let settings = std::fs::read_to_string(site.path(".astra/astra.yaml")).unwrap();
        site.write(".astra/astra.yaml", &with_review(&settings));
        site.git(&["--git-dir", "git/astra/api.git", "config", "http.receivepack", "true"]);
        let plane = PlaneFake::start(world()).await;
        let github = GitHubFake::start(site.path("git")).await;
        github.world(|world| world.there.insert("/repos/astra/ops".into(), json!({"private": true})));
        let wire = Wire::default();
        let (plane_url, github_url) = (wire.before(&plane.url), wire.before(&github.url));
        Self { site, plane, github, wire, plane_url, github_url }
    }

    /// The program, on its way to both.
    pub fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = self.site.command(arguments);
        command
            .env("ASTRA_EXECUTOR", "local")
            .env("ASTRA_GIT_BASE_URL", &self.github_url)
            .env("GITHUB_API_URL", format!("{}/api/v3", self.github_url))
            .env("GITHUB_REPOSITORY", "astra/ops")
            .env("GITHUB_TOKEN", TOKEN)
            .env("PLANE_BASE_URL", &self.plane_url)
            .env("PLANE_API_KEY", KEY);
        command
    }

    pub async fn run(&self, arguments: &[&str]) -> Output {
        Command::from(self.command(arguments)).output().await.unwrap()
    }

    /// Runs what must be handled, or may be tried again: at once, or where a page came instead of an
    /// answer, once somebody has looked at the settings.
    pub async fn may_fail(&self, arguments: &[&str]) {
        let output = self.run(arguments).await;
        assert!(matches!(output.status.code(), Some(0 | 2 | 75)), "{arguments:?}: {}", text(&output.stderr));
    }

    /// Runs what must be handled, and reads its JSON.
    pub async fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--format", "json"]].concat()).await;
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub fn relay(&self) -> Relay {
        Relay::of(self.command(&LISTEN))
    }

    /// The event file of a dispatch that was raised.
    pub fn event(&self, number: usize, raised: &Value) -> String {
        let event = json!({"action": raised["event_type"], "client_payload": raised["client_payload"]});
        let name = format!("raised-{number}.json");
        self.site.write(&name, &event.to_string());
        name
    }

    /// Processes of this place: supervisors and their phases outlive whoever started them.
    pub fn processes(&self) -> Vec<(u32, String)> {
        let place = self.site.path("state").display().to_string();
        let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let number: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let line = std::fs::read(format!("/proc/{number}/cmdline")).ok()?;
            let line = text(&line).replace('\0', " ");
            line.contains(&place).then_some((number, line))
        });
        processes.collect()
    }

    /// Waits until all runs that somebody carries out have ended and nobody asks for anything. Whoever is
    /// left then only waits for a claim to get old, and is ended.
    pub async fn quiet(&self) {
        let end = Instant::now() + Duration::from_secs(240);
        while (!self.processes().is_empty() && self.is_busy()) || self.wire.idle() < PAUSE {
            assert!(Instant::now() < end, "it goes on: {:#?} {:#?}", self.jobs(), self.processes());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        for (process, _) in self.processes() {
            kill(process);
        }
        while !self.processes().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A run has not ended, or waits to be tried again.
    pub fn is_busy(&self) -> bool {
        let is_live = |job: &Value| job["end"].is_null() && job["phase"] != "published";
        let entries = "SELECT document ->> '$.entries' FROM ledger";
        let entries: String = self.site.store().query_row(entries, [], |row| row.get(0)).unwrap();
        entries.contains(r#""state":"reserved""#) || self.jobs().iter().any(is_live)
    }

    /// The runs as the store has them.
    pub fn jobs(&self) -> Vec<Value> {
        let store = self.site.store();
        let mut rows = store.prepare("SELECT document FROM jobs").unwrap();
        let documents = rows.query_map([], |row| row.get::<_, String>(0)).unwrap();
        documents.map(|document| serde_json::from_str(&document.unwrap()).unwrap()).collect()
    }

    /// Makes what publishers claimed before they died old enough to be taken over.
    pub fn ten_minutes_pass(&self) {
        let earlier = (jiff::Timestamp::now() - Duration::from_secs(601)).to_string();
        for job in self.jobs() {
            let Some(holder) = job["claim"]["holder"].as_str() else { continue };
            let process = holder.split('-').next().unwrap();
            if job["phase"] == "claimed" && !std::path::Path::new("/proc").join(process).exists() {
                let change = "UPDATE jobs SET document = json_set(document, '$.claim.at', ?1)
                              WHERE run = ?2 AND document ->> '$.claim.holder' = ?3";
                let values = [earlier.as_str(), job["run"].as_str().unwrap(), holder];
                self.site.store().execute(change, values).unwrap();
            }
        }
    }

    /// What is wrong with how a task ended, if anything.
    pub fn faults(&self, item: &str) -> Vec<String> {
        faults(&self.plane, &self.github, item)
    }

    /// What is left over, if anything.
    pub async fn left_over(&self) -> Vec<String> {
        let mut left = Vec::new();
        let status = self.json(&["status"]).await;
        let runs = status["runs"].as_array().unwrap();
        if runs.iter().any(|run| run["state"] != "published") || status["waiting"] != json!([]) {
            left.push(format!("{status:#}"));
        }
        let swept = self.json(&["sweep"]).await;
        if swept["actions"] != json!([]) {
            left.push(format!("a sweep finds {swept:#}"));
        }
        let branches = self.site.git(&["--git-dir", "git/astra/api.git", "branch", "--list", "astra/*"]);
        let count = self.github.world(|world| world.pulls.len());
        if branches.lines().count() != count {
            left.push(format!("branches: {branches}"));
        }
        left
    }
}

/// What is wrong with how a task ended, if anything: it must have one pull request, with its labels,
/// one comment and one link, be under review, and be in the run log once.
pub fn faults(plane: &PlaneFake, github: &GitHubFake, item: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let (comments, links, state) = plane.world(|world| {
        let project = &world.projects[PROJECT];
        // That a task waits is said in a comment of its own.
        let is_word = |row: &Value| !row["external_id"].as_str().unwrap().starts_with("waiting-");
        let ours = |row: &&Value| row["external_source"] == "astra-dispatch" && is_word(row);
        let comments: Vec<Value> =
            project.comments.get(item).into_iter().flatten().filter(ours).cloned().collect();
        let links: Vec<Value> = project.links.get(item).cloned().unwrap_or_default();
        let row = project.items.iter().find(|row| row["id"] == item).unwrap();
        let state = project.states.iter().find(|state| state["id"] == row["state"]).unwrap();
        (comments, links, state["name"].clone())
    });
    if state != REVIEW {
        faults.push(format!("its state is {state}"));
    }
    let [comment] = comments.as_slice() else {
        faults.push(format!("it has {} comments: {comments:#?}", comments.len()));
        return faults;
    };
    let run = comment["external_id"].as_str().unwrap();
    let (pulls, labels, logged) = github.world(|world| {
        let task = run.rsplit_once('-').unwrap().0;
        let is_of_task =
            |pull: &&Value| pull["head"]["ref"].as_str().unwrap().starts_with(&format!("astra/{task}-"));
        let pulls: Vec<Value> = world.pulls.iter().filter(is_of_task).cloned().collect();
        let of = |pull: &Value| world.labels.get(&pull["number"].as_u64().unwrap()).cloned();
        let labels: Vec<_> = pulls.iter().filter_map(of).collect();
        // Beside the document there may be the end of a transcript.
        let is_document = |path: &str| path.contains(&format!("{task}-")) && path.ends_with(".json");
        let documents = world.log.iter().flatten().filter(|(path, ..)| is_document(path));
        (pulls, labels, documents.count())
    });
    let [pull] = pulls.as_slice() else {
        faults.push(format!("it has {} pull requests: {pulls:#?}", pulls.len()));
        return faults;
    };
    if pull["head"]["ref"] != format!("astra/{run}") {
        faults.push(format!("the pull request is of {}, the comment of {run}", pull["head"]["ref"]));
    }
    if labels.iter().map(Vec::len).ne([2]) {
        faults.push(format!("the pull request's labels are {labels:?}"));
    }
    if links.iter().filter(|link| link["url"] == pull["html_url"]).count() != 1 {
        faults.push(format!("its links are {links:#?}"));
    }
    if logged != 1 {
        faults.push(format!("it is in the run log {logged} times"));
    }
    faults
}

/// Ends a process at once, if it has not ended meanwhile.
pub fn kill(process: u32) {
    let process = rustix::process::Pid::from_raw(process.cast_signed()).unwrap();
    let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
}

/// These settings, with a state of its own for what people look at.
pub fn with_review(settings: &str) -> String {
    settings.replace("review: null", &format!("review: {REVIEW}"))
}

/// The recorded item asks for a coder, and nobody has begun; people look at work in a state of its own.
pub fn world() -> World {
    let mut world = plane_world::wanted_world();
    let rows = world.projects.get_mut(PROJECT).unwrap();
    let named = |name: &str| rows.states.iter().find(|state| state["name"] == name).unwrap().clone();
    rows.items[0]["state"] = named("Todo")["id"].clone();
    let mut review = named("In Progress");
    review["id"] = json!(uuid::Uuid::from_u128(77));
    review["name"] = json!(REVIEW);
    rows.states.push(review);
    world
}
