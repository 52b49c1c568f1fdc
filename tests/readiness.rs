//! What an agent lacks on this machine is said before its run starts, and nothing is remembered of it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/site.rs"]
mod site;

use serde_json::{Value, json};
use site::{Site, text};

const KEY: (&str, &str) = ("ANTHROPIC_API_KEY", "sk-ant-0123456789");

/// A site whose coder is Claude Code, and a directory with a program of that name.
fn site() -> Site {
    let site = Site::new("true", 1);
    let agent = std::fs::read_to_string(site.path(".astra/agents/vega.yaml")).unwrap();
    let runtime = agent.lines().find(|line| line.starts_with("runtime:")).unwrap();
    let claude = "runtime: {kind: claude-code, model: sonnet, models: [sonnet], max_turns: 5, max_cost_usd: 1, tools: [Read]}";
    let agent = agent.replace(runtime, claude).replace("env: []", "env: [ANTHROPIC_API_KEY]");
    site.write(".astra/agents/vega.yaml", &agent);
    site.write("bin/claude", "");
    site
}

/// The same, with a task that began to wait while its agent was on standby; also the task's event.
fn with_a_waiting_task() -> (Site, String) {
    let site = site();
    let vega = std::fs::read_to_string(site.path(".astra/agents/vega.yaml")).unwrap();
    site.write(".astra/agents/vega.yaml", &vega.replace("status: active", "status: standby"));
    let event = site.event(1, 1, &json!({}));
    assert_eq!(site.json(&["dispatch", "--event", &event, "--format", "json"])["outcome"], "waiting");
    site.write(".astra/agents/vega.yaml", &vega);
    (site, event)
}

/// A PATH that has the agent's program.
fn path_with_claude(site: &Site) -> String {
    format!("{}:/usr/bin:/bin", site.path("bin").display())
}

#[test]
fn what_is_missing_is_said_before_anything_starts() {
    let site = site();
    let event = site.event(1, 1, &json!({}));
    let with_claude = path_with_claude(&site);
    let github = ("ASTRA_GIT_BASE_URL", "https://git.invalid");
    for (path, variables, words) in [
        ("/usr/bin:/bin", vec![KEY], "needs the program `claude`"),
        ("/usr/bin:/bin", vec![KEY], "npm install -g @anthropic-ai/claude-code"),
        (&with_claude, vec![], "`export ANTHROPIC_API_KEY=…`"),
        (&with_claude, vec![KEY, github], "`export GITHUB_TOKEN=…`"),
    ] {
        let mut command = site.command(&["dispatch", "--event", &event]);
        let output = command.env("PATH", path).envs(variables).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(words), "{words}: {said}");
        assert_eq!(site.status()["runs"], json!([]), "nothing started");
    }
    // An event that wants nothing of it is handled all the same.
    let done = site.event(1, 2, &json!({"state": {"name": "Done", "group": "completed"}}));
    assert_eq!(site.json(&["dispatch", "--event", &done, "--format", "json"])["outcome"], "ignored");
}

#[test]
fn with_all_that_it_needs_the_run_starts_from_the_same_event() {
    let site = site();
    let event = site.event(1, 1, &json!({}));
    let path = path_with_claude(&site);
    assert_eq!(site.run(&["dispatch", "--event", &event]).status.code(), Some(2));
    let mut command = site.command(&["dispatch", "--event", &event, "--detach"]);
    let output = command.env("PATH", path).envs([KEY]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let status = site.status();
    let (run, since) = (&status["runs"][0]["run"], status["runs"][0]["since"].as_str().unwrap());
    assert!(since.ends_with('Z') && !since.contains('.'), "whole seconds: {since}");
    // The program is an empty file: whatever becomes of the run, it was begun and can be stopped.
    assert!(site.run(&["cancel", run.as_str().unwrap()]).status.success());
    site.wait_for("the end of the run", |status| site::runs_in(status, "published") == 1);
    let by_hand = text(&site.run(&["dispatch", "--task", "AST-1"]).stderr);
    assert!(by_hand.contains("no agent can work here"), "{by_hand}");
}

#[test]
fn a_waiting_task_is_not_used_up_where_its_agent_cannot_work() {
    let (site, _) = with_a_waiting_task();
    let publish = |path: &str| {
        let mut command = site.command(&["publish", "--format", "json"]);
        let output = command.env("PATH", path).envs([KEY]).output().unwrap();
        (serde_json::from_slice::<Value>(&output.stdout).unwrap(), text(&output.stderr))
    };
    let (idle, _) = publish("/usr/bin:/bin");
    assert_eq!(idle["also"], json!([]), "{idle:#}");
    assert_eq!(site.status()["runs"], json!([]), "nothing started");
    let why = site.json(&["explain", "--task", "AST-1", "--format", "json"])["reason"].clone();
    assert!(why.as_str().unwrap().contains("vega needs the program `claude` (install"), "{why}");
    let ready = path_with_claude(&site);
    let (begun, said) = publish(&ready);
    assert_eq!(begun["also"][0]["outcome"], "dispatched", "{begun:#}");
    assert!(said.contains("AST-1 is dispatched to vega (run ast-1-"), "{said}");
    site.wait_for("the end of the run", |status| site::runs_in(status, "published") == 1);
}

#[test]
fn what_had_to_wait_starts_from_the_same_event() {
    let (site, event) = with_a_waiting_task();
    let still = site.json(&["dispatch", "--event", &event, "--format", "json"]);
    assert!(
        still["outcome"] == "waiting" && still["reason"].as_str().unwrap().contains("vega needs"),
        "{still:#}"
    );
    let mut command = site.command(&["dispatch", "--event", &event, "--detach", "--format", "json"]);
    let path = path_with_claude(&site);
    let output = command.env("PATH", path).envs([KEY]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["outcome"], "dispatched", "{report:#}");
    site.wait_for("the end of the run", |status| site::runs_in(status, "published") == 1);
}
