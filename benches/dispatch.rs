//! The whole program, from start to exit, without the agent. Goal: `dispatch` within 20 ms.
//!
//! `git --version` is the floor: a program that starts, prints a line and ends.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark may panic")]

#[path = "../tests/support/site.rs"]
mod site;

use std::process::Command;

use divan::Bencher;
use serde_json::json;
use site::Site;

fn main() {
    divan::main();
}

#[divan::bench]
fn git_version(bencher: Bencher<'_, '_>) {
    bencher.bench_local(|| assert!(Command::new("git").arg("--version").output().unwrap().status.success()));
}

/// Reads the registry, decides, and looks into the ledger; changes nothing.
#[divan::bench]
fn explain(bencher: Bencher<'_, '_>) {
    let site = Site::new("true", 1);
    let event = site.event(7, 1, &json!({}));
    let arguments = ["explain", "--event", &event, "--format", "json"];
    bencher.bench_local(|| assert!(site.run(&arguments).status.success()));
}

/// An event that has been acted upon before.
#[divan::bench]
fn dispatch_of_a_known_event(bencher: Bencher<'_, '_>) {
    let site = Site::new("true", 1);
    let event = site.event(7, 1, &json!({}));
    let arguments = ["dispatch", "--event", &event, "--executor", "local", "--format", "json"];
    assert_eq!(site.json(&arguments)["outcome"], "dispatched");
    bencher.bench_local(|| assert!(site.run(&arguments).status.success()));
}

/// A task that starts its run in a process of its own, on an idle machine: the next task comes when
/// the run before has ended.
#[divan::bench(sample_size = 1, sample_count = 50)]
fn dispatch_that_starts_a_run(bencher: Bencher<'_, '_>) {
    let site = Site::new("true", 1);
    let mut number = 0;
    bencher
        .with_inputs(|| {
            let idle = |status: &serde_json::Value| {
                status["runs"].as_array().unwrap().iter().all(|run| run["state"] == "published")
            };
            site.wait_for("the end of the run before", idle);
            number += 1;
            site.event(number, 1, &json!({}))
        })
        .bench_local_values(|event| {
            let arguments =
                ["dispatch", "--event", &event, "--executor", "local", "--detach", "--format", "json"];
            assert!(site.run(&arguments).status.success());
        });
}
