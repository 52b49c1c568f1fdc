//! `sweep` against a stand-in for Plane with state: finds what no event told of, and tells people once.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

#[path = "support/plane_fake.rs"]
mod plane_fake;
#[path = "support/plane_world.rs"]
mod plane_world;
#[path = "support/site.rs"]
mod site;

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use plane_fake::{Fault, KEY, PlaneFake, World};
use plane_world::{ITEM, PROJECT, with_plane};
use serde_json::{Value, json};
use site::Site;

const SWEEP: [&str; 4] = ["sweep", "--executor", "local", "--format=json"];

/// What one sweep did.
async fn sweep(site: &Site, fake: &PlaneFake) -> Vec<Value> {
    let report = with_plane(site, fake, &SWEEP).await;
    assert_eq!(report["version"], 1);
    report["actions"].as_array().unwrap().clone()
}

/// Its exit code, its document and what it told people.
async fn sweep_and_say(site: &Site, fake: &PlaneFake, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let mut program = tokio::process::Command::from(site.command(arguments));
    program.envs([("PLANE_API_KEY", KEY), ("PLANE_BASE_URL", &fake.url)]);
    let output = program.output().await.unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap();
    (output.status.code(), report, site::text(&output.stderr))
}

fn names(actions: &[Value]) -> Vec<&str> {
    actions.iter().map(|action| action["action"].as_str().unwrap()).collect()
}

/// The recorded item asks for a coder, and nobody has begun.
fn wanted_world() -> World {
    let mut world = plane_world::wanted_world();
    let rows = world.projects.get_mut(PROJECT).unwrap();
    rows.items[0]["state"] = rows.states.iter().find(|state| state["name"] == "Todo").unwrap()["id"].clone();
    world
}

/// Copies the wanted item: so many more, each with its own number.
fn with_more(mut world: World, count: u64) -> World {
    let rows = world.projects.get_mut(PROJECT).unwrap();
    for number in 0..count {
        let mut item = rows.items[0].clone();
        item["id"] = json!(uuid::Uuid::from_u128(u128::from(1_000 + number)));
        item["sequence_id"] = json!(1_000 + number);
        rows.items.push(item);
    }
    world
}

fn comments(world: &World, item: &str) -> Vec<String> {
    let all = world.projects[PROJECT].comments.get(item).into_iter().flatten();
    all.filter_map(|one| one["external_id"].as_str().map(str::to_owned)).collect()
}

async fn until_published(site: &Site, fake: &PlaneFake, count: usize) {
    let end = Instant::now() + Duration::from_secs(120);
    loop {
        site.half_a_minute_passes();
        sweep(site, fake).await;
        let status = with_plane(site, fake, &["status", "--format", "json"]).await;
        if site::runs_in(&status, "published") == count {
            return;
        }
        assert!(Instant::now() < end, "{status:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_task_that_no_event_told_of_is_found_and_carried_out() {
    let fake = PlaneFake::start(wanted_world()).await;
    let site = Site::new("echo more >> README.md", 1);
    let actions = sweep(&site, &fake).await;
    assert_eq!(names(&actions), ["dispatched"], "{actions:#?}");
    let found = (&actions[0]["task"], &actions[0]["agent"], &actions[0]["unannounced"]);
    assert_eq!(found, (&json!("AST-2"), &json!("vega"), &json!(true)));
    until_published(&site, &fake, 1).await;
    assert_eq!(sweep(&site, &fake).await, Vec::<Value>::new(), "there is nothing left to do");
    let status = with_plane(&site, &fake, &["status", "--format", "json"]).await;
    assert_eq!(status["runs"].as_array().unwrap().len(), 1);
    assert_eq!(status["runs"][0]["outcome"], "changed", "{status:#}");
}

#[tokio::test]
async fn those_that_wait_are_told_so_once() {
    let fake = PlaneFake::start(with_more(wanted_world(), 2)).await;
    let site = Site::new("sleep 600", 1);
    let actions = sweep(&site, &fake).await;
    let mut kinds = names(&actions);
    kinds.sort_unstable();
    assert_eq!(kinds, ["dispatched", "waiting", "waiting"], "{actions:#?}");
    let waiting: Vec<String> = fake.world(|world| {
        let items: Vec<String> = world.projects[PROJECT]
            .items
            .iter()
            .map(|item| item["id"].as_str().unwrap().to_owned())
            .collect();
        let all = items.iter().flat_map(|item| comments(world, item));
        all.filter(|id| id.starts_with("waiting-")).collect()
    });
    assert_eq!(waiting.len(), 2, "{waiting:?}");
    // They are known now.
    fake.world(|world| world.requests.clear());
    assert_eq!(names(&sweep(&site, &fake).await), Vec::<&str>::new());
    let requests = fake.world(|world| world.requests.clone());
    assert!(requests.iter().all(|one| one.starts_with("GET")), "{requests:#?}");
    assert!(
        requests.len() <= 4,
        "one list, the live run's item, and those that a free agent might take: {requests:#?}"
    );
    let run = actions.iter().find(|one| one["action"] == "dispatched").unwrap();
    let task = run["task"].as_str().unwrap();
    // A person closes the one that is worked on: it is stopped, and the next one begins.
    fake.world(|world| {
        let number: u64 = task.strip_prefix("AST-").unwrap().parse().unwrap();
        let project = world.projects.get_mut(PROJECT).unwrap();
        let done = project.states.iter().find(|state| state["group"] == "completed").unwrap()["id"].clone();
        project.items.iter_mut().find(|item| item["sequence_id"] == number).unwrap()["state"] = done;
    });
    let actions = sweep(&site, &fake).await;
    let stopped = actions.iter().find(|one| one["action"] == "cancelled");
    let stopped = stopped.unwrap_or_else(|| panic!("{actions:#?}"));
    assert_eq!((&stopped["task"], &stopped["run"]), (&json!(task), &run["run"]));
    // Nothing is left running.
    fake.world(|world| world.projects.get_mut(PROJECT).unwrap().items.clear());
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let status = with_plane(&site, &fake, &["status", "--format=json"]).await;
        if site::runs_in(&status, "published") == status["runs"].as_array().unwrap().len() {
            return;
        }
        assert!(Instant::now() < end, "{status:#}");
        site.half_a_minute_passes();
        sweep(&site, &fake).await;
    }
}

#[tokio::test]
async fn what_a_person_has_to_change_is_said_once() {
    let fake = PlaneFake::start(wanted_world()).await;
    let site = Site::new("true", 1);
    fake.world(|world| {
        let rows = world.projects.get_mut(PROJECT).unwrap();
        let ids = ["agent:coder", "agent:ops"].map(|name| {
            let label = rows.labels.iter().find(|label| label["name"] == name);
            label.unwrap_or_else(|| panic!("{name}"))["id"].clone()
        });
        rows.items[0]["labels"] = json!(ids);
    });
    for _ in 0..2 {
        let actions = sweep(&site, &fake).await;
        assert_eq!(names(&actions), ["refused"], "{actions:#?}");
        assert_eq!(actions[0]["unannounced"], false);
    }
    let told = fake.world(|world| comments(world, ITEM));
    assert_eq!(told.iter().filter(|id| id.starts_with("refused-")).count(), 1, "{told:?}");
}

#[tokio::test]
async fn a_plane_that_fails_loses_nothing() {
    let fake = PlaneFake::start(wanted_world()).await;
    let site = Site::new("echo more >> README.md", 1);
    fake.world(|world| {
        world.faults = vec![Fault::Answer(403, vec![], r#"{"error":"Given API token is not valid"}"#.into())];
    });
    let (code, _, said) = sweep_and_say(&site, &fake, &SWEEP).await;
    assert_eq!(code, Some(75), "{said}");
    assert!(said.contains("AST: ") && said.contains("API key"), "{said}");
    assert_eq!(names(&sweep(&site, &fake).await), ["dispatched"]);
    until_published(&site, &fake, 1).await;
}

#[tokio::test]
async fn work_that_the_gate_refused_goes_with_the_last_traces_of_its_run() {
    let fake = PlaneFake::start(wanted_world()).await;
    let site = Site::new("mkdir -p .github; echo x > .github/x", 1);
    sweep(&site, &fake).await;
    until_published(&site, &fake, 1).await;
    let refused = || site.git(&["--git-dir", "git/astra/api.git", "for-each-ref", "refs/astra/refused"]);
    assert!(!refused().is_empty());
    assert!(sweep(&site, &fake).await.is_empty());
    let report = with_plane(&site, &fake, &[SWEEP.as_slice(), &["--keep-days", "0"]].concat()).await;
    assert_eq!(report["counts"], json!({"branch_removed": 1, "removed": 1}), "{report:#}");
    assert_eq!(refused(), "");
}

#[tokio::test]
async fn a_ref_that_may_not_be_deleted_keeps_no_other_and_is_said() {
    let fake = PlaneFake::start(with_more(wanted_world(), 1)).await;
    let site = Site::new("mkdir -p .github; echo x > .github/x", 2);
    sweep(&site, &fake).await;
    until_published(&site, &fake, 2).await;
    let refused = || {
        let names =
            ["--git-dir", "git/astra/api.git", "for-each-ref", "--format=%(refname)", "refs/astra/refused"];
        site.git(&names).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let [kept, other] = &refused()[..] else { panic!("{:?}", refused()) };
    let hook = site.path("git/astra/api.git/hooks/update");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    std::fs::write(&hook, format!("#!/bin/sh\n[ \"$1\" != {kept} ]\n")).unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    let all = [SWEEP.as_slice(), &["--keep-days", "0"]].concat();
    for counts in [json!({"branch_removed": 1, "removed": 1}), json!({})] {
        let (code, report, said) = sweep_and_say(&site, &fake, &all).await;
        assert_eq!((code, &report["counts"]), (Some(0), &counts), "{said}");
        assert!(said.contains(&format!("{kept} cannot be removed")) && said.contains("by hand"), "{said}");
        assert!(!said.contains(other.as_str()), "{said}");
        assert_eq!(refused(), [kept.as_str()]);
        assert_eq!(std::fs::read_dir(site.path("state/runs")).unwrap().count(), 1, "its run is kept");
    }
    // What passes by itself is another matter.
    std::fs::write(&hook, "#!/bin/sh\necho no space left on device >&2\nexit 1\n").unwrap();
    let (code, _, said) = sweep_and_say(&site, &fake, &all).await;
    assert_eq!(code, Some(75), "{said}");
    assert!(!said.contains("by hand"), "{said}");
}

#[tokio::test]
async fn an_item_in_progress_without_a_run_is_reported() {
    let mut world = wanted_world();
    let rows = world.projects.get_mut(PROJECT).unwrap();
    let started = rows.states.iter().find(|state| state["name"] == "In Progress").unwrap()["id"].clone();
    rows.items[0]["state"] = started;
    let fake = PlaneFake::start(world).await;
    let site = Site::new("true", 1);
    assert!(sweep(&site, &fake).await.is_empty(), "it may be one whose pull request waits");
    let settings = std::fs::read_to_string(site.path(".astra/astra.yaml")).unwrap();
    site.write(".astra/astra.yaml", &settings.replace("review: null", "review: Done"));
    let report = with_plane(&site, &fake, &SWEEP).await;
    assert_eq!(report["counts"], json!({"stranded": 1}), "{report:#}");
    assert_eq!((&report["items"], &report["actions"][0]["task"]), (&json!(1), &json!("AST-2")));
    let schema: Value = serde_json::from_str(include_str!("../fixtures/schema/sweep.json")).unwrap();
    assert!(jsonschema::is_valid(&schema, &report), "{report:#}");
}

#[tokio::test]
async fn old_traces_go() {
    let fake = PlaneFake::start(wanted_world()).await;
    let site = Site::new("echo more >> README.md", 1);
    sweep(&site, &fake).await;
    until_published(&site, &fake, 1).await;
    let keep = |days: &'static str| [SWEEP.as_slice(), &["--keep-days", days]].concat();
    let actions = with_plane(&site, &fake, &keep("1")).await;
    assert_eq!(actions["actions"], json!([]));
    let actions = with_plane(&site, &fake, &keep("0")).await;
    assert_eq!(actions["actions"][0]["action"], "removed", "{actions:#}");
    assert_eq!(std::fs::read_dir(site.path("state/runs")).unwrap().count(), 0);
}
