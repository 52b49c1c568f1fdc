//! Dispatching on one machine, with the real program: from an event to a pushed branch, with many
//! dispatchers, killed processes, cancelled runs and bad input.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/site.rs"]
mod site;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use site::{Site, runs_in, text};

const WORK: &str = "echo more >> README.md; echo done > \"$RUN_OUTPUT_DIR/summary.md\"";
const SLEEP: &str = "sleep 60";

fn dispatch(site: &Site, event: &str) -> Value {
    site.json(&["dispatch", "--event", event, "--format", "json"])
}

#[test]
fn an_event_becomes_a_branch_once() {
    let site = Site::new(WORK, 1);
    let event = site.event(7, 1, &json!({}));
    let explained = site.json(&["explain", "--event", &event, "--format", "json"]);
    assert_eq!((&explained["outcome"], &explained["run"]), (&json!("dispatched"), &Value::Null));
    assert_eq!(site.status()["runs"], json!([]), "explain changes nothing");

    let first = dispatch(&site, &event);
    assert_eq!(first["outcome"], "dispatched");
    assert_eq!(first["result"]["outcome"], "changed", "{first:#}");
    let run = first["run"].as_str().unwrap();
    let branch = format!("astra/{run}");
    assert_eq!(first["result"]["branch"], json!(branch));
    let tip = site.git(&["--git-dir", "git/astra/api.git", "log", "-1", "--format=%an %s", &branch]);
    assert_eq!(tip, "astra-vega AST-7: Add a dry-run flag to the importer");
    for file in ["plan.json", "plan.md"] {
        assert!(site.path(&format!("state/runs/{run}/publish/{file}")).is_file(), "{file}");
    }

    let again = dispatch(&site, &event);
    assert_eq!((&again["outcome"], &again["run"]), (&json!("ignored"), &json!(run)));
    let older = site.event(7, 0, &json!({}));
    assert_eq!(dispatch(&site, &older)["outcome"], "ignored");
    // A newer event of a task that is still to do is a person's request.
    let newer = site.event(7, 2, &json!({}));
    assert_eq!(dispatch(&site, &newer)["outcome"], "dispatched");
    // By hand, the newest snapshot counts.
    assert_eq!(site.json(&["dispatch", "--task", "ast-7", "--format", "json"])["outcome"], "dispatched");
    assert_eq!(runs_in(&site.status(), "published"), 3);
}

#[test]
fn documents_keep_to_their_schemas() {
    let site = Site::new(WORK, 1);
    let event = site.event(7, 1, &json!({}));
    let documents = [
        ("decision", site.json(&["explain", "--event", &event, "--format", "json"])),
        ("decision", dispatch(&site, &event)),
        ("status", site.status()),
    ];
    for (name, document) in documents {
        let path = format!("{}/fixtures/schema/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let schema: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let faults: Vec<String> = jsonschema::validator_for(&schema)
            .unwrap()
            .iter_errors(&document)
            .map(|e| e.to_string())
            .collect();
        assert!(faults.is_empty(), "{name}: {faults:?}\n{document:#}");
    }
}

#[test]
fn ten_dispatchers_at_once_start_each_task_once_and_keep_the_capacity() {
    let site = Site::new(&format!("sleep 0.3; {WORK}"), 2);
    let events: Vec<String> = (1..=5).map(|number| site.event(number, 1, &json!({}))).collect();
    let mut children: Vec<_> = (0..10)
        .map(|index| site.start(&["dispatch", "--event", &events[index % 5], "--detach", "--format", "json"]))
        .collect();
    site.wait_for("five published runs", |status| {
        let running = status["agents"].as_array().unwrap().iter().find(|a| a["agent"] == "vega").unwrap();
        assert!(running["running"].as_u64().unwrap() <= 2, "{status:#}");
        assert!(runs_in(status, "running") <= 2, "{status:#}");
        runs_in(status, "published") == 5
    });
    for child in &mut children {
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
    let status = site.status();
    let mut tasks: Vec<&str> =
        status["runs"].as_array().unwrap().iter().map(|run| run["task"].as_str().unwrap()).collect();
    tasks.sort_unstable();
    assert_eq!(tasks, ["AST-1", "AST-2", "AST-3", "AST-4", "AST-5"]);
    assert_eq!(status["waiting"], json!([]));
}

#[test]
fn a_killed_dispatcher_stops_no_run_and_loses_no_task() {
    let site = Site::new(&format!("sleep 0.5; {WORK}"), 1);
    for (number, delay) in [(1, 0), (2, 15), (3, 30), (4, 60), (5, 120)] {
        let event = site.event(number, 1, &json!({}));
        let mut child = site.start(&["dispatch", "--event", &event, "--format", "json"]);
        std::thread::sleep(Duration::from_millis(delay));
        child.kill().unwrap();
        child.wait().unwrap();
        // The event comes again, as Plane and people do; whatever got lost is picked up.
        dispatch(&site, &event);
    }
    site.wait_for("five published runs", |status| runs_in(status, "published") == 5);
}

#[test]
fn a_killed_supervisor_is_noticed_and_the_run_is_tried_again() {
    let site = Site::new(SLEEP, 1);
    let event = site.event(1, 1, &json!({}));
    let run = site.json(&["dispatch", "--event", &event, "--detach", "--format", "json"])["run"].clone();
    let run = run.as_str().unwrap();
    site.wait_for("the agent", |status| status["runs"][0]["step"] == "agent");
    let store = rusqlite::Connection::open(site.path("state/store.sqlite3")).unwrap();
    let supervisor: u32 = store.query_row("SELECT pid FROM jobs", [], |row| row.get(0)).unwrap();
    let pid = rustix::process::Pid::from_raw(supervisor.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();

    let lost = site.wait_for("the second attempt", |status| {
        site.run(&["publish"]);
        status["runs"].as_array().unwrap().iter().any(|run| run["attempt"] == 2)
    });
    let first = lost["runs"].as_array().unwrap().iter().find(|known| known["run"] == run).unwrap();
    assert_eq!(first["state"], "published");
    let second = lost["runs"].as_array().unwrap().iter().find(|known| known["attempt"] == 2).unwrap();
    assert_eq!((&second["task"], &second["state"]), (&json!("AST-1"), &json!("reserved")));
}

#[test]
fn a_cancelled_run_ends_within_seconds_and_pushes_nothing() {
    let site = Site::new(SLEEP, 1);
    let event = site.event(1, 1, &json!({}));
    let answer = site.json(&["dispatch", "--event", &event, "--detach", "--format", "json"]);
    let run = answer["run"].as_str().unwrap();
    let waiting = site.event(2, 1, &json!({}));
    assert_eq!(dispatch(&site, &waiting)["outcome"], "waiting");
    site.wait_for("the agent", |status| status["runs"][0]["step"] == "agent");
    let asked = Instant::now();
    assert!(text(&site.run(&["cancel", run]).stdout).contains("cancelled"));
    // The slot goes to the task that waits, as soon as nothing of the cancelled run is left.
    let status = site.wait_for("the next task", |status| {
        status["runs"]
            .as_array()
            .unwrap()
            .iter()
            .any(|run| run["task"] == "AST-2" && run["state"] == "running")
    });
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
    let cancelled = status["runs"].as_array().unwrap().iter().find(|known| known["run"] == run).unwrap();
    assert_eq!(cancelled["class"], "cancelled");
    let branches = site.git(&["--git-dir", "git/astra/api.git", "branch", "--list", "astra/*"]);
    assert_eq!(branches, "");
    let next = status["runs"].as_array().unwrap().iter().find(|known| known["task"] == "AST-2").unwrap();
    site.run(&["cancel", next["run"].as_str().unwrap()]);
    site.wait_for("the end", |status| runs_in(status, "published") == 2);
}

#[test]
fn looking_and_mistyping_start_and_remember_nothing() {
    let site = Site::new(SLEEP, 1);
    let vega = std::fs::read_to_string(site.path(".astra/agents/vega.yaml")).unwrap();
    site.write(".astra/agents/vega.yaml", &vega.replace("status: active", "status: standby"));
    let event = site.event(1, 1, &json!({}));
    assert_eq!(dispatch(&site, &event)["outcome"], "waiting");
    site.write(".astra/agents/vega.yaml", &vega);
    let mistyped = site.run(&["cancel", "ast-1-bbbbb"]);
    assert_eq!(mistyped.status.code(), Some(2));
    assert_eq!(site.status()["runs"], json!([]), "{}", text(&mistyped.stderr));
    let kept = || std::fs::read_to_string(site.path("state/git-base-url")).unwrap_or_default();
    let before = kept();
    let explained = site.run(&["explain", "--event", &event, "--git-base-url", "http://127.0.0.1:1"]);
    assert_eq!(explained.status.code(), Some(0), "{}", text(&explained.stderr));
    assert_eq!(kept(), before);
}

#[test]
fn interrupting_dispatch_cancels_its_run() {
    let site = Site::new(SLEEP, 1);
    let event = site.event(1, 1, &json!({}));
    let child = site.start(&["dispatch", "--event", &event, "--format", "json"]);
    site.wait_for("the agent", |status| status["runs"][0]["step"] == "agent");
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let status = site.status();
    assert_eq!(status["runs"][0]["class"], "cancelled", "{status:#}");
    assert_eq!(runs_in(&status, "published"), 1);
    assert_eq!(status["runs"].as_array().unwrap().len(), 1, "what a person stopped is not begun again");
}

#[test]
fn a_task_that_is_done_or_relabelled_stops_its_run() {
    let site = Site::new(SLEEP, 1);
    let event = site.event(1, 1, &json!({}));
    let first = site.json(&["dispatch", "--event", &event, "--detach", "--format", "json"]);
    let labelled = json!([{"id": "x", "name": "agent:coder"}]);
    let renamed = site.event(1, 2, &json!({"name": "Another title", "labels": labelled}));
    let same = dispatch(&site, &renamed);
    assert_eq!((&same["outcome"], &same["run"]), (&json!("already_running"), &first["run"]));
    let done = site.event(1, 3, &json!({"state": {"name": "Done", "group": "completed"}}));
    let stopped = dispatch(&site, &done);
    assert_eq!((&stopped["outcome"], &stopped["run"]), (&json!("cancelled"), &first["run"]));
    site.wait_for("the end", |status| runs_in(status, "published") == 1);
}

#[test]
fn a_reviewer_ends_in_a_review() {
    let script = r#"printf '{"verdict":"request_changes","summary":"Look.","comments":[{"path":"README.md","line":1,"side":"RIGHT","body":"why?"}]}' > "$RUN_OUTPUT_DIR/review.json""#;
    let site = Site::new(script, 1);
    site.git(&["--git-dir", "git/astra/api.git", "update-ref", "refs/pull/3/head", "main"]);
    let event = site.event(
        4,
        1,
        &json!({"labels": [{"id": "x", "name": "agent:reviewer"}], "description_html": "<p>Pull request: #3</p>"}),
    );
    let answer = dispatch(&site, &event);
    assert_eq!(answer["result"]["outcome"], "review", "{answer:#}");
    assert_eq!(answer["result"]["review"]["verdict"], "request_changes");
    let run = answer["run"].as_str().unwrap();
    let page = std::fs::read_to_string(site.path(&format!("state/runs/{run}/publish/plan.json"))).unwrap();
    assert!(page.contains("REQUEST_CHANGES"), "{page}");
}

#[test]
fn bad_input_has_its_exit_code_and_its_remedy() {
    let site = Site::new(WORK, 1);
    let two = json!([{"id": "x", "name": "agent:coder"}, {"id": "y", "name": "agent:reviewer"}]);
    let look_alike = json!([{"id": "x", "name": "agent:c\u{43e}der"}]);
    for (number, changes, outcome) in [
        (11, json!({"labels": []}), "ignored"),
        (12, json!({"labels": two}), "refused"),
        (13, json!({"labels": look_alike}), "refused"),
        (14, json!({"description_html": "<p>Base: --upload-pack=x</p>"}), "refused"),
        (15, json!({"description_html": "<p>Repository: ../x</p>"}), "refused"),
        (16, json!({"project": "00000000-0000-4000-8000-000000000009"}), "refused"),
        (17, json!({"state": {"name": "In Progress", "group": "started"}}), "ignored"),
    ] {
        let event = site.event(number, 1, &changes);
        let answer = dispatch(&site, &event);
        assert_eq!(answer["outcome"], outcome, "{answer:#}");
    }
    site.write("garbage.json", "{");
    for (arguments, code, words) in [
        (vec!["dispatch", "--event", "garbage.json"], 2, "not JSON"),
        (vec!["dispatch", "--event", "nowhere.json"], 2, "cannot be read"),
        (vec!["dispatch"], 2, "no task is named"),
        (vec!["dispatch", "--task", "AST-99"], 2, "--event"),
        (vec!["dispatch", "--task", "XYZ-1"], 2, "AST"),
        (vec!["dispatch", "--task", "AST-1", "--registry", "nowhere"], 2, "nowhere"),
        (vec!["dispatch", "--event", "garbage.json", "--executor", "moon"], 2, "possible values"),
        (vec!["cancel", "ast-1-bbbbb"], 2, "no run"),
        (vec!["logs", "ast-1-bbbbb"], 2, "no run"),
        (vec!["publish", "--run", "ast-1-bbbbb"], 2, "no run"),
        (vec!["demo", "--runtime", "claude-code"], 2, "ANTHROPIC_API_KEY"),
    ] {
        let output = site.run(&arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
}

#[test]
fn what_an_agent_does_wrong_is_told() {
    for (script, outcome, class) in [
        ("exit 3", "failed", json!("agent")),
        ("true", "no_change", Value::Null),
        ("mkdir -p .github/workflows; echo x > .github/workflows/x.yml", "refused", json!("policy")),
        ("ln -s /etc/passwd link", "refused", json!("policy")),
        ("rm -rf .git; echo more >> README.md", "changed", Value::Null),
        ("mkfifo \"$RUN_OUTPUT_DIR/summary.md\"; echo more >> README.md", "changed", Value::Null),
        ("truncate -s 10G big; true", "refused", json!("policy")),
    ] {
        let site = Site::new(script, 1);
        let answer = dispatch(&site, &site.event(1, 1, &json!({})));
        let result = &answer["result"];
        assert_eq!((&result["outcome"], &result["class"]), (&json!(outcome), &class), "{script}: {answer:#}");
        let run = answer["run"].as_str().unwrap();
        assert!(site.run(&["logs", run]).status.success());
    }
}

#[test]
fn an_event_of_another_workspace_starts_and_cancels_nothing() {
    let site = Site::new(SLEEP, 1);
    let event = site.event(7, 1, &json!({}));
    let dispatched =
        site.json(&["dispatch", "--event", &event, "--detach", "--executor", "local", "--format", "json"]);
    let text = std::fs::read_to_string(site.path(&event)).unwrap();
    let stranger = "11111111-2222-4333-8444-555555555555";
    let mut elsewhere: Value = serde_json::from_str(&text).unwrap();
    elsewhere["workspace_id"] = json!(stranger);
    for action in ["created", "deleted"] {
        elsewhere["action"] = json!(action);
        site.write("elsewhere.json", &elsewhere.to_string());
        for command in ["explain", "dispatch"] {
            let report = site.json(&[command, "--event", "elsewhere.json", "--format", "json"]);
            assert_eq!(report["outcome"], "ignored", "{report:#}");
            assert!(report["reason"].as_str().unwrap().contains(stranger), "{report:#}");
        }
    }
    assert_eq!(runs_in(&site.status(), "running"), 1, "the run of our own workspace goes on");
    assert!(site.run(&["cancel", dispatched["run"].as_str().unwrap()]).status.success());
}
