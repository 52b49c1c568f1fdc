//! Processes killed at any moment, people who change their minds, and agents that look around: on one
//! machine, with the real program.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/site.rs"]
mod site;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use site::{Site, runs_in, text};

const WORK: &str = "echo more >> README.md";
const SLEEP: &str = "sleep 60";
/// Does not end when it is asked to.
const STUBBORN: &str = "trap '' INT TERM; while true; do sleep 1; done";

fn send(pid: u32, signal: Signal) {
    // It may have ended meanwhile.
    let _ = kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal);
}

fn supervisors(site: &Site) -> Vec<u32> {
    let store = rusqlite::Connection::open(site.path("state/store.sqlite3")).unwrap();
    store.busy_timeout(Duration::from_secs(10)).unwrap();
    let mut rows = store.prepare("SELECT pid FROM jobs WHERE pid IS NOT NULL").unwrap();
    rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn at_agent(status: &Value) -> bool {
    status["runs"].as_array().unwrap().iter().any(|run| run["step"] == "agent")
}

fn start_dispatch(site: &Site, number: u64) -> Child {
    let event = site.event(number, 1, &json!({}));
    site.start(&["dispatch", "--event", &event, "--format", "json"])
}

fn answer(child: Child) -> Value {
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn dispatch_follows_a_lost_run_to_its_next_attempt() {
    let site = Site::new(SLEEP, 1);
    let child = start_dispatch(&site, 1);
    site.wait_for("the agent", at_agent);
    send(supervisors(&site)[0], Signal::KILL);
    // The dispatcher itself notices it.
    let status = site.wait_for("the second attempt", |status| {
        status["runs"].as_array().unwrap().iter().any(|run| run["attempt"] == 2)
    });
    let second = status["runs"].as_array().unwrap().iter().find(|run| run["attempt"] == 2).unwrap();
    assert_eq!(second["state"], "reserved", "it waits out its back-off");
    send(child.id(), Signal::INT);
    let answer = answer(child);
    assert_eq!((&answer["run"], &answer["result"]["class"]), (&second["run"], &json!("cancelled")));
    site.wait_for("an empty machine", |status| runs_in(status, "published") == 1);
    assert_eq!(site.git(&["--git-dir", "git/astra/api.git", "branch", "--list", "astra/*"]), "");
}

#[test]
fn a_cancelled_run_has_a_result_that_says_so() {
    let site = Site::new(SLEEP, 1);
    let child = start_dispatch(&site, 1);
    let status = site.wait_for("the agent", at_agent);
    let asked = Instant::now();
    site.run(&["cancel", status["runs"][0]["run"].as_str().unwrap()]);
    let answer = answer(child);
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    assert_eq!(answer["outcome"], "dispatched");
    assert_eq!(answer["result"]["outcome"], "failed");
    assert_eq!(answer["result"]["class"], "cancelled");
}

#[test]
fn a_second_interrupt_leaves_the_run_alone() {
    let site = Site::new(STUBBORN, 1);
    let child = start_dispatch(&site, 1);
    site.wait_for("the agent", at_agent);
    send(child.id(), Signal::INT);
    site.wait_for("the cancellation", |status| runs_in(status, "stopping") == 1);
    send(child.id(), Signal::INT);
    let answer = answer(child);
    assert_eq!(answer.get("result"), None, "the run had not ended yet");
    site.wait_for("the end all the same", |status| runs_in(status, "published") == 1);
}

#[test]
fn a_detached_dispatch_is_over_before_its_run() {
    let site = Site::new(&format!("sleep 1; {WORK}"), 1);
    let event = site.event(1, 1, &json!({}));
    let answer = site.json(&["dispatch", "--event", &event, "--detach", "--format", "json"]);
    assert_eq!((answer["outcome"].as_str(), answer.get("result")), (Some("dispatched"), None));
    assert_eq!(runs_in(&site.status(), "published"), 0);
    let status = site.wait_for("the run's own end", |status| runs_in(status, "published") == 1);
    assert_eq!(status["runs"][0]["outcome"], "changed");
}

/// Dispatchers and supervisors die at moments that nobody chose.
#[test]
fn nothing_is_lost_or_done_twice_whoever_is_killed() {
    const TASKS: u64 = 6;
    // As many slots as tasks: a lost run keeps its slot for its back-off of half a minute.
    let site = Site::new(&format!("sleep 0.2; {WORK}"), u32::try_from(TASKS).unwrap());
    let mut killed = 0;
    for number in 1..=TASKS {
        let mut child = start_dispatch(&site, number);
        std::thread::sleep(Duration::from_millis(rand::random_range(0..250)));
        send(child.id(), Signal::KILL);
        child.wait().unwrap();
        if number % 2 == 0 && site.path("state/store.sqlite3").exists() {
            for pid in supervisors(&site) {
                send(pid, Signal::KILL);
                killed += 1;
            }
        }
    }
    for number in 1..=TASKS {
        // Plane tells it again, and so does the sweep.
        let event = site.event(number, 1, &json!({}));
        site.json(&["dispatch", "--event", &event, "--detach", "--format", "json"]);
    }
    // A task is done, or its lost run waits out its back-off: nothing else is left.
    let status = site.wait_for("everything done or tried again", |status| {
        site.run(&["publish"]);
        let runs = status["runs"].as_array().unwrap();
        let is_settled = |run: &Value| ["published", "reserved"].contains(&run["state"].as_str().unwrap());
        runs.iter().all(is_settled) && status["waiting"] == json!([])
    });
    let mut ends: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for run in status["runs"].as_array().unwrap() {
        let was_replaced = run["reason"].as_str().is_some_and(|reason| reason.contains("replaced"));
        if !was_replaced {
            ends.entry(run["task"].as_str().unwrap()).or_default().push(run);
        }
    }
    assert_eq!(ends.len() as u64, TASKS, "{killed} supervisors killed: {status:#}");
    for (task, runs) in ends {
        assert_eq!(runs.len(), 1, "{task}: {status:#}");
    }
    for run in status["runs"].as_array().unwrap().iter().filter(|run| run["state"] == "reserved") {
        site.run(&["cancel", run["run"].as_str().unwrap()]);
    }
}

#[test]
fn an_agent_finds_no_credential_of_its_caller() {
    let site = Site::new("env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'; echo looked around", 1);
    let event = site.event(1, 1, &json!({}));
    let mut command = site.command(&["dispatch", "--event", &event, "--format", "json"]);
    command.env("GITHUB_TOKEN", "token-of-the-caller").env("SOME_PASSWORD", "password-of-the-caller");
    let output = command.output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    if text(&output.stderr).contains("This kernel has no Landlock") {
        eprintln!("skipped: without Landlock the agent has all rights of its caller");
        return;
    }
    let log = text(&site.run(&["logs", answer["run"].as_str().unwrap()]).stdout);
    assert!(log.contains("looked around"), "{log}");
    assert!(log.contains("RUN_OUTPUT_DIR="), "{log}");
    assert!(!log.contains("of-the-caller"), "{log}");
    let mut found = Vec::new();
    find(&site.path("state"), b"of-the-caller", &mut found);
    assert!(found.is_empty(), "a credential was written to {found:?}");
}

fn find(directory: &std::path::Path, wanted: &[u8], found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find(&path, wanted, found);
        } else if std::fs::read(&path).unwrap().windows(wanted.len()).any(|window| window == wanted) {
            found.push(path);
        }
    }
}

#[test]
fn logs_follow_a_run_to_its_end_and_hide_control_characters() {
    let site =
        Site::new("printf '\\033[31mred\\033[0m\\a\\n'; echo ::error::hello; sleep 1; echo last words", 1);
    let event = site.event(1, 1, &json!({}));
    let answer = site.json(&["dispatch", "--event", &event, "--detach", "--format", "json"]);
    let run = answer["run"].as_str().unwrap();
    let followed = text(&site.run(&["logs", run, "-f"]).stdout);
    assert_eq!(followed.matches("last words").count(), 1, "{followed}");
    assert!(
        followed.contains("red") && !followed.contains('\u{1b}') && !followed.contains('\u{7}'),
        "{followed:?}"
    );
    assert!(!followed.lines().any(|line| line.starts_with("::error::")), "{followed}");
    site.wait_for("the end", |status| runs_in(status, "published") == 1);
    assert!(text(&site.run(&["logs", run]).stdout).starts_with(&followed), "it says the same again");
}

#[test]
fn status_shows_changes_as_they_happen() {
    let site = Site::new(&format!("sleep 1; {WORK}"), 1);
    let mut watch = site.command(&["status", "--watch", "--format", "json"]);
    let mut watch = watch.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(next()["runs"], json!([]));
    let event = site.event(1, 1, &json!({}));
    site.json(&["dispatch", "--event", &event, "--detach", "--format", "json"]);
    loop {
        if next()["runs"][0]["outcome"] == "changed" {
            break;
        }
    }
    watch.kill().unwrap();
    watch.wait().unwrap();
}

/// On a disk that is full at different moments nothing hangs, and all of it goes on once there is room.
#[test]
#[ignore = "mounts small file systems: needs root"]
fn a_full_disk_is_said_and_loses_nothing() {
    fn mount(arguments: &[&str], place: &std::path::Path) {
        let status = std::process::Command::new("mount").args(arguments).arg(place).status().unwrap();
        assert!(status.success());
    }
    for size in ["60k", "140k", "180k", "260k"] {
        let site = Site::new(WORK, 1);
        let event = site.event(1, 1, &json!({}));
        let state = site.path("state");
        std::fs::create_dir(&state).unwrap();
        mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], &state);
        let output = site.run(&["dispatch", "--event", &event]);
        mount(&["-o", "remount,size=30m"], &state);
        let said = text(&output.stderr);
        assert!([Some(0), Some(1), Some(75)].contains(&output.status.code()), "{size}: {said}");
        assert_eq!(output.status.success(), !said.contains(" help: "), "{size}: {said}");
        site.json(&["dispatch", "--event", &event, "--detach", "--format", "json"]);
        site.wait_for("the run, or its next attempt", |status| {
            site.run(&["publish"]);
            let runs = status["runs"].as_array().unwrap();
            runs.iter().any(|run| run["outcome"] == "changed" || run["state"] == "reserved")
        });
        for run in site.status()["runs"].as_array().unwrap() {
            site.run(&["cancel", run["run"].as_str().unwrap()]);
        }
        let unmounted = std::process::Command::new("umount").arg("--lazy").arg(&state).status().unwrap();
        assert!(unmounted.success());
    }
}
