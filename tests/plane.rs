//! The Plane client against a stand-in that is held to recorded exchanges with a real server.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test may panic, and its parts see each other")]

#[path = "support/plane_fake.rs"]
mod plane_fake;
#[path = "support/plane_world.rs"]
mod plane_world;
#[path = "support/site.rs"]
mod site;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use astra_dispatch::adapters::plane::{PlaneClient, PlaneError, PlaneFault};
use astra_dispatch::adapters::store::Items;
use astra_dispatch::adapters::store::drive::{ItemStates, Undelivered};
use astra_dispatch::adapters::tls;
use astra_dispatch::domain::name::{ItemId, ProjectId};
use astra_dispatch::domain::pass::{ItemRead, StateTarget, Timing, WRITE_TIMEOUT};
use astra_dispatch::domain::plane_answer::PlaneRefusal;
use astra_dispatch::domain::request_budget::Importance;
use astra_dispatch::domain::work_item::{ItemRef, StateGroup};
use plane_fake::{Fault, KEY, PlaneFake, World};
use plane_world::{ITEM, PROJECT, recorded_world, recording, wanted_world, with_plane};
use serde_json::{Value, json};
use site::Site;

fn client(fake: &PlaneFake, key: &str) -> PlaneClient {
    patient_client(fake, key, Duration::from_secs(1))
}

fn patient_client(fake: &PlaneFake, key: &str, patience: Duration) -> PlaneClient {
    let tls = tls::client_config(None).unwrap();
    PlaneClient::new(&fake.url, "astra", key.to_owned().into(), 60, patience, tls).unwrap()
}

fn project() -> ProjectId {
    ProjectId(PROJECT.parse().unwrap())
}

fn item() -> ItemId {
    ItemId(ITEM.parse().unwrap())
}

fn refusal(error: &PlaneError) -> &PlaneRefusal {
    match &error.fault {
        PlaneFault::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

/// Recordings of calls that this program makes, or of the ways in which they go wrong.
const REPLAYED: &[&str] = &[
    "13-project-get",
    "20-state-get",
    "20-states-list",
    "23-labels-list",
    "25-label-create-duplicate-409",
    "26-label-get",
    "31-issue-patch-name",
    "32-issue-patch-labels-add",
    "33-issue-patch-labels-remove",
    "34-issue-patch-state",
    "36-issue-patch-priority",
    "43-comment-duplicate-409",
    "45-comments-list",
    "52-issue-by-external-id",
    "53-issue-by-external-id-404",
    "54-issue-get",
    "55-issue-get-expand",
    "56-issue-get-fields",
    "58-issue-get-deprecated-issues-path",
    "59-issue-by-identifier",
    "59-issue-by-identifier-deprecated-path",
    "61-link-create-duplicate",
    "62-link-create-invalid",
    "63-links-list",
    "70-issues-list-page-1",
    "72-issues-list-past-the-end",
    "81-err-403-issues-of-unknown-project",
    "81-err-403-unknown-workspace",
    "81-err-404-issue",
    "81-err-404-not-a-uuid",
    "81-err-404-project",
    "82-err-404-identifier",
    "83-err-400-per-page-too-big",
    "84-err-400-per-page-not-a-number",
    "85-err-400-cursor",
    "86-err-order-by-unknown",
    "87-err-400-label-by-name",
    "87-err-400-state-by-name",
    "87-err-400-unknown-label",
    "87-err-400-unknown-state",
    "88-err-400-invalid-json",
    "89-err-405-put",
    "89-err-415",
    "89-err-no-trailing-slash-patch",
    "90-err-403-bad-key",
    "91-err-401-no-key",
    "42-comment-create-external-bot",
    "60-link-create",
];

#[tokio::test]
async fn the_stand_in_answers_as_recorded() {
    let mut wrong = Vec::new();
    for name in REPLAYED {
        let mut world = recorded_world();
        let project = world.projects.get_mut(PROJECT).unwrap();
        match *name {
            "42-comment-create-external-bot" => project.comments.clear(),
            "60-link-create" => project.links.clear(),
            _ => {}
        }
        let fake = PlaneFake::start(world).await;
        let recording = recording(name);
        let (status, answer) = replay(&fake, name, &recording["request"]).await;
        let expected = &recording["response"];
        if json!(status) != expected["status"] {
            wrong.push(format!("{name}: {status} {answer}"));
        }
        if expected["body"].is_object() && status < 400 {
            let (lacking, surplus) = differences(&expected["body"], &answer, "");
            if !lacking.is_empty() || !surplus.is_empty() {
                wrong.push(format!("{name}: lacks {lacking:?}, has too much {surplus:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

async fn replay(fake: &PlaneFake, name: &str, request: &Value) -> (u16, Value) {
    let url = format!("{}{}", fake.url, request["path"].as_str().unwrap());
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let mut call = http.request(request["method"].as_str().unwrap().parse().unwrap(), url);
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    for (key, value) in request["query"].as_object().into_iter().flatten() {
        call = call.query(&[(key, text(value))]);
    }
    call = match name {
        "91-err-401-no-key" => call,
        "90-err-403-bad-key" => call.header("x-api-key", "wrong"),
        _ => call.header("x-api-key", KEY),
    };
    call = match &request["body"] {
        Value::Null => call,
        Value::String(raw) if name == "89-err-415" => {
            call.header("content-type", "text/plain").body(raw.clone())
        }
        Value::String(raw) => call.header("content-type", "application/json").body(raw.clone()),
        body => call.json(body),
    };
    let answer = call.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap_or(Value::Null))
}

/// Keys that one document has and the other has not, down to the first row of each list.
fn differences(expected: &Value, actual: &Value, path: &str) -> (Vec<String>, Vec<String>) {
    match (expected, actual) {
        (Value::Object(expected), Value::Object(actual)) => {
            let keys = |map: &serde_json::Map<String, Value>| map.keys().cloned().collect::<BTreeSet<_>>();
            let named = |key: &String| format!("{path}/{key}");
            let mut lacking: Vec<_> = keys(expected).difference(&keys(actual)).map(named).collect();
            let mut surplus: Vec<_> = keys(actual).difference(&keys(expected)).map(named).collect();
            for (key, value) in expected {
                if let Some(other) = actual.get(key) {
                    let (l, s) = differences(value, other, &format!("{path}/{key}"));
                    lacking.extend(l);
                    surplus.extend(s);
                }
            }
            (lacking, surplus)
        }
        (Value::Array(expected), Value::Array(actual)) => match (expected.first(), actual.first()) {
            (Some(expected), Some(actual)) => differences(expected, actual, &format!("{path}[0]")),
            _ => Default::default(),
        },
        _ => Default::default(),
    }
}

#[tokio::test]
async fn items_are_read_by_id_and_by_key_and_in_pages() {
    let mut world = recorded_world();
    let project_rows = world.projects.get_mut(PROJECT).unwrap();
    for sequence in 10..2_510u64 {
        let mut row = project_rows.items[0].clone();
        row["id"] = json!(uuid::Uuid::from_u128(u128::from(sequence)));
        row["sequence_id"] = json!(sequence);
        project_rows.items.push(row);
    }
    let fake = PlaneFake::start(world).await;
    let plane = client(&fake, KEY);

    let by_id = plane.item(project(), item(), Importance::Start).await.unwrap().unwrap();
    let by_key = plane.item_by_key(&"AST-2".parse().unwrap(), Importance::Start).await.unwrap().unwrap();
    assert_eq!(by_id, by_key);
    assert_eq!((by_id.sequence, by_id.group), (2, StateGroup::Started));
    assert!(by_id.description.contains("importer --dry-run data.csv"), "{}", by_id.description);
    let gone = plane.item_by_key(&"AST-9999".parse().unwrap(), Importance::Start).await.unwrap();
    assert_eq!(gone, None);

    fake.world(|world| world.requests.clear());
    assert_eq!(plane.items(project(), Importance::Start).await.unwrap().len(), 2_501);
    assert_eq!(fake.world(|world| world.requests.len()), 3, "one request for each 1,000 items");
}

#[tokio::test]
async fn every_write_can_be_repeated() {
    let fake = PlaneFake::start(recorded_world()).await;
    let plane = client(&fake, KEY);
    for _ in 0..2 {
        let state = StateTarget::FirstStarted;
        assert_eq!(
            plane.set_state(project(), item(), &state, Importance::Start).await.unwrap(),
            "In Progress"
        );
        let named = StateTarget::Named(" in progress".to_owned());
        plane.set_state(project(), item(), &named, Importance::Start).await.unwrap();
        plane.set_labels(project(), item(), &["Agent:Coder".to_owned()], Importance::Start).await.unwrap();
        plane
            .write_comment(project(), item(), "ast-2-bcdfg", "<p>one</p>", Importance::FinalWord)
            .await
            .unwrap();
        plane
            .write_comment(project(), item(), "ast-2-bcdfg", "<p>two</p>", Importance::FinalWord)
            .await
            .unwrap();
        plane
            .add_link(project(), item(), "https://example.com/pull/1", "PR", Importance::FinalWord)
            .await
            .unwrap();
    }
    fake.world(|world| {
        let project = &world.projects[PROJECT];
        let ours: Vec<&Value> =
            project.comments[ITEM].iter().filter(|c| c["external_source"] == "astra-dispatch").collect();
        assert_eq!(ours.len(), 1);
        assert_eq!(ours[0]["comment_html"], "<p>two</p>");
        assert_eq!(project.links[ITEM].iter().filter(|l| l["title"] == "PR").count(), 1);
        let catalog_reads =
            world.requests.iter().filter(|r| r.ends_with("/states/") || r.ends_with("/labels/"));
        assert_eq!(catalog_reads.count(), 2, "states and labels are read once");
    });
}

#[tokio::test]
async fn a_name_that_the_project_lacks_is_not_written() {
    let fake = PlaneFake::start(recorded_world()).await;
    let plane = client(&fake, KEY);
    let state = StateTarget::Named("Doing".to_owned());
    let error = plane.set_state(project(), item(), &state, Importance::Start).await.unwrap_err();
    assert!(error.to_string().contains("no state \"Doing\""), "{error}");
    let labels = ["agent:chef".to_owned()];
    assert!(plane.set_labels(project(), item(), &labels, Importance::Start).await.is_err());
    assert!(fake.world(|world| world.requests.iter().all(|request| request.starts_with("GET"))));
}

#[tokio::test]
async fn the_machines_read_and_move_items() {
    let fake = PlaneFake::start(recorded_world()).await;
    let plane = client(&fake, KEY);
    let here = ItemRef { project: project(), item: item() };
    let gone = ItemRef { item: ItemId(uuid::Uuid::from_u128(9)), ..here };
    let stranger = ItemRef { project: ProjectId(uuid::Uuid::from_u128(7)), ..here };
    let reads = plane.read(&[here, gone, stranger]).await;
    assert!(matches!(&reads[0], ItemRead::Found(read) if read.id == item()), "{reads:?}");
    assert_eq!(&reads[1..], [ItemRead::Gone, ItemRead::Unread], "what we may not see is unknown, never gone");
    let done = StateTarget::Named("Done".to_owned());
    let state = plane.write_state(here, &done, Importance::FinalWord).await.unwrap();
    assert_eq!((state.from.as_str(), state.to.as_str(), state.acknowledged), ("In Progress", "Done", true));
    let reads = plane.read(&[here]).await;
    assert!(matches!(&reads[0], ItemRead::Found(read) if read.state == "Done"), "{reads:?}");
}

#[tokio::test]
async fn only_a_reviewers_item_is_asked_for_its_links() {
    let mut world = recorded_world();
    let rows = world.projects.get_mut(PROJECT).unwrap();
    let mut label = rows.labels[0].clone();
    label["id"] = json!(uuid::Uuid::from_u128(77));
    label["name"] = json!(" Agent: Reviewer");
    let mut review = rows.items[0].clone();
    review["id"] = json!(uuid::Uuid::from_u128(5));
    review["labels"] = json!([label["id"]]);
    rows.links.insert(uuid::Uuid::from_u128(5).to_string(), rows.links[ITEM].clone());
    rows.labels.push(label);
    rows.items.push(review);
    let links = rows.links[ITEM].len();
    let fake = PlaneFake::start(world).await;
    let plane = client(&fake, KEY);
    let read = async |id| plane.item(project(), id, Importance::Start).await.unwrap().unwrap();
    assert_eq!(read(item()).await.links.len(), 0);
    assert_eq!(read(ItemId(uuid::Uuid::from_u128(5))).await.links.len(), links);
    assert_eq!(fake.world(|world| world.requests.len()), 3);
}

/// Runs the real program against the stand-in.
async fn prompt(fake: &PlaneFake, key: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut program = tokio::process::Command::new(env!("CARGO_BIN_EXE_astra-dispatch"));
    program.current_dir(env!("CARGO_MANIFEST_DIR")).env_clear();
    program.envs([("PLANE_API_KEY", key), ("PLANE_BASE_URL", &fake.url)]);
    program.args(["agents", "prompt", "vega", "--registry", "fixtures/registry"]).args(arguments);
    let output = program.output().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn a_task_is_read_from_plane_by_its_key_and_an_event_is_only_a_hint() {
    let fake = PlaneFake::start(wanted_world()).await;
    let event = ["--event", "fixtures/events/10-issue-created-label-agent-coder.json"];
    for arguments in [["--task", "AST-2"], event] {
        let (code, out, err) = prompt(&fake, KEY, &arguments).await;
        assert_eq!(code, Some(0), "{err}");
        assert!(out.contains("Title: Renamed in Plane\n"), "{out}");
    }
    for (key, task, expected, words) in [
        (KEY, "AST-99", 2, "Plane has no work item AST-99"),
        ("plane_api_wrong", "AST-2", 2, "Plane does not accept the API key"),
    ] {
        let (code, out, err) = prompt(&fake, key, &["--task", task]).await;
        assert_eq!((code, out.as_str()), (Some(expected), ""), "{err}");
        assert!(err.contains(words) && !err.contains(key), "{err}");
    }
    let broken = Fault::Answer(503, vec![("content-type", "text/html".into())], "<html>".into());
    fake.world(|world| world.faults = vec![broken; 3]);
    let (code, _, err) = prompt(&fake, KEY, &["--task", "AST-2"]).await;
    assert_eq!(code, Some(75), "{err}");
}

#[tokio::test]
async fn a_task_dispatched_by_key_is_as_it_is_in_plane() {
    let fake = PlaneFake::start(wanted_world()).await;
    let site = Site::new("echo more >> README.md", 1);
    let dispatch = async |task: &str| {
        let arguments = ["dispatch", "--task", task, "--executor", "local", "--format", "json"];
        let mut program = tokio::process::Command::from(site.command(&arguments));
        program.envs([("PLANE_API_KEY", KEY), ("PLANE_BASE_URL", &fake.url)]);
        program.output().await.unwrap()
    };
    let output = dispatch("AST-2").await;
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["result"]["outcome"], "changed", "{report:#}");
    let branch = report["result"]["branch"].as_str().unwrap();
    let subject = site.git(&["--git-dir", "git/astra/api.git", "log", "-1", "--format=%s", branch]);
    assert_eq!(subject, "AST-2: Renamed in Plane");
    let output = dispatch("AST-99").await;
    assert_eq!(output.status.code(), Some(2));
    let said = site::text(&output.stderr);
    assert!(said.contains("there is no AST-99 in Plane"), "{said}");
}

/// The name of the item's state, and the run's comments on it.
fn shown(world: &World, run: &str) -> (String, Vec<Value>) {
    let project = &world.projects[PROJECT];
    let item = project.items.iter().find(|item| item["id"] == ITEM);
    let state = item.and_then(|item| project.states.iter().find(|state| state["id"] == item["state"]));
    let name = state.and_then(|state| state["name"].as_str()).unwrap_or("gone").to_owned();
    let own = project.comments.get(ITEM).into_iter().flatten().filter(|one| one["external_id"] == run);
    (name, own.cloned().collect())
}

const BY_KEY: [&str; 6] = ["dispatch", "--task", "AST-2", "--executor", "local", "--format=json"];

#[tokio::test]
async fn a_task_goes_through_its_states_with_one_comment() {
    let fake = PlaneFake::start(wanted_world()).await;
    let site = Site::new("echo more >> README.md; echo 'Said <b>more</b>.' > $RUN_OUTPUT_DIR/summary.md", 1);
    let settings = std::fs::read_to_string(site.path(".astra/astra.yaml")).unwrap();
    site.write(".astra/astra.yaml", &settings.replace("review: null", "review: Done"));
    let begun = Instant::now();
    let report = with_plane(&site, &fake, &BY_KEY).await;
    // It waits until no move of its item to *started* can still be on its way, and publishes it then.
    assert!(begun.elapsed() > Timing::default().claim_margin, "{:?}", begun.elapsed());
    assert_eq!(report["result"]["outcome"], "changed", "{report:#}");
    let run = report["run"].as_str().unwrap();
    let (state, comments) = fake.world(|world| shown(world, run));
    assert_eq!((state.as_str(), comments.len()), ("Done", 1), "{comments:#?}");
    let html = comments[0]["comment_html"].as_str().unwrap();
    assert!(html.contains("&lt;b&gt;more&lt;/b&gt;"), "{html}");
    let requests = fake.world(|world| std::mem::take(&mut world.requests));
    let moves = requests.iter().filter(|one| one.starts_with("PATCH") && !one.contains("comments")).count();
    assert_eq!(moves, 2, "to started and to its outcome: {requests:#?}");

    // Nothing is told twice.
    let again = with_plane(&site, &fake, &["publish", "--format", "json"]).await;
    assert_eq!(again["published"], json!([]));
    let writes = fake.world(|world| world.requests.iter().filter(|one| !one.starts_with("GET")).count());
    assert_eq!(writes, 0);
    assert!(requests.len() <= 10, "{requests:#?}");
}

#[tokio::test]
async fn an_item_that_goes_away_while_its_agent_works_stops_the_run() {
    let fake = PlaneFake::start(wanted_world()).await;
    let site = Site::new("sleep 60", 1);
    let detached = [BY_KEY.as_slice(), &["--detach"]].concat();
    let report = with_plane(&site, &fake, &detached).await;
    let run = report["run"].as_str().unwrap();
    assert_eq!(fake.world(|world| shown(world, run).0), "In Progress");
    fake.world(|world| world.projects.get_mut(PROJECT).unwrap().items.clear());
    // An event is a hint to look, whatever it says itself.
    let event =
        format!("{}/fixtures/events/10-issue-created-label-agent-coder.json", env!("CARGO_MANIFEST_DIR"));
    let hinted = ["dispatch", "--event", &event, "--executor", "local", "--format", "json"];
    assert_eq!(with_plane(&site, &fake, &hinted).await["outcome"], "cancelled");
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        site.half_a_minute_passes();
        with_plane(&site, &fake, &["publish", "--format", "json"]).await;
        let status = with_plane(&site, &fake, &["status", "--format", "json"]).await;
        if site::runs_in(&status, "published") == 1 {
            assert_eq!(status["runs"][0]["class"], "cancelled", "{status:#}");
            return;
        }
        assert!(Instant::now() < end, "{status:#}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn every_way_to_fail_has_its_own_words() {
    let fake = PlaneFake::start(recorded_world()).await;
    let read = async |plane: &PlaneClient| plane.item(project(), item(), Importance::Start).await;

    let error = read(&client(&fake, "plane_api_wrong")).await.unwrap_err();
    assert_eq!(refusal(&error), &PlaneRefusal::BadKey);
    let stranger = ProjectId(uuid::Uuid::from_u128(7));
    let error = client(&fake, KEY).item(stranger, item(), Importance::Start).await.unwrap_err();
    assert_eq!(refusal(&error), &PlaneRefusal::Forbidden);

    let html = |status| Fault::Answer(status, vec![("content-type", "text/html".into())], "<html>".into());
    for (fault, expected) in [
        (html(200), PlaneRefusal::NotPlane),
        (
            Fault::Answer(302, vec![("location", "/login".into())], String::new()),
            PlaneRefusal::Redirected { status: 302 },
        ),
        (
            Fault::Answer(413, vec![], r#"{"error":"REQUEST_BODY_TOO_LARGE"}"#.into()),
            PlaneRefusal::Invalid { status: 413, words: r#"{"error":"REQUEST_BODY_TOO_LARGE"}"#.to_owned() },
        ),
    ] {
        fake.world(|world| world.faults = vec![fault]);
        assert_eq!(refusal(&read(&client(&fake, KEY)).await.unwrap_err()), &expected);
    }
    // A read survives what passes.
    fake.world(|world| world.faults = vec![html(502), html(503)]);
    assert!(read(&client(&fake, KEY)).await.is_ok());
    // A long rate limit is reported and closes the budget; nothing more is sent.
    fake.world(|world| {
        world.faults = vec![Fault::Answer(429, vec![("retry-after", "58".into())], "{}".into())];
        world.requests.clear();
    });
    let plane = client(&fake, KEY);
    assert!(matches!(read(&plane).await.unwrap_err().fault, PlaneFault::BudgetSpent(_)));
    assert!(matches!(read(&plane).await.unwrap_err().fault, PlaneFault::BudgetSpent(_)));
    assert_eq!(fake.world(|world| world.requests.len()), 1);
}

#[tokio::test]
async fn a_move_that_the_budget_cannot_pay_for_is_not_waited_for() {
    let fake = PlaneFake::start(recorded_world()).await;
    let plane = patient_client(&fake, KEY, Duration::from_secs(60));
    let (here, done) = (ItemRef { project: project(), item: item() }, StateTarget::Named("Done".to_owned()));
    // The one knows the states by then, the other has to ask for them first.
    plane.write_state(here, &done, Importance::FinalWord).await.unwrap();
    let cold = patient_client(&fake, KEY, Duration::from_secs(60));
    for plane in [&plane, &cold] {
        let no_more = Fault::Answer(429, vec![("retry-after", "40".into())], "{}".into());
        fake.world(|world| {
            world.faults = vec![no_more];
            world.requests.clear();
        });
        let begun = Instant::now();
        for _ in 0..2 {
            let unwritten = plane.write_state(here, &done, Importance::FinalWord).await.unwrap_err();
            assert!(matches!(unwritten, Undelivered::Refused(_)), "{unwritten:?}");
        }
        assert!(begun.elapsed() < WRITE_TIMEOUT, "{:?}", begun.elapsed());
        assert_eq!(fake.world(|world| world.requests.len()), 1);
    }
}

#[tokio::test]
async fn a_write_that_acted_but_was_not_acknowledged_is_repeated_without_a_double() {
    let fake = PlaneFake::start(recorded_world()).await;
    let plane = client(&fake, KEY);
    let write =
        async || plane.write_comment(project(), item(), "run", "<p>x</p>", Importance::FinalWord).await;
    fake.world(|world| world.faults = vec![Fault::ActThenFail]);
    assert!(write().await.unwrap_err().fault.is_passing());
    write().await.unwrap();
    let count = fake.world(|world| {
        world.projects[PROJECT].comments[ITEM].iter().filter(|c| c["external_id"] == "run").count()
    });
    assert_eq!(count, 1);
}
