//! The commands of `docs/quick-start.md`, as a person would type them.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "helpers of tests"
)]

use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// The commands of a section: its `sh` blocks, without the lines that everybody fills in (`export KEY=…`).
pub fn commands(section: &str) -> String {
    let page =
        std::fs::read_to_string(format!("{}/docs/quick-start.md", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let section = page.split("\n## ").find(|text| text.starts_with(section)).expect("the section");
    let blocks = section.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let lines = blocks.flat_map(str::lines).filter(|line| !line.ends_with("=…"));
    lines.collect::<Vec<_>>().join("\n")
}

/// They in one shell, which stops at the first that fails, and finds our program and those in `programs`.
pub fn shell(commands: &str, home: &Path, programs: &str, variables: &[(&str, &str)]) -> Command {
    let program = assert_cmd::cargo::cargo_bin("astra-dispatch");
    let path = format!("{}:{programs}:/usr/local/bin:/usr/bin:/bin", program.parent().unwrap().display());
    let mut command = Command::new("bash");
    command
        .args(["-euxo", "pipefail", "-c", commands])
        .current_dir(home)
        .env_clear()
        .envs([("HOME", home.to_str().unwrap()), ("PATH", &path)])
        .envs(variables.iter().copied());
    command
}

/// Runs it, and says how long it took; what it printed.
pub fn finish(mut shell: Command) -> String {
    let begun = Instant::now();
    let output = shell.output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{shown}\n{}", String::from_utf8_lossy(&output.stderr));
    eprintln!("seconds: {}", begun.elapsed().as_secs());
    shown
}
