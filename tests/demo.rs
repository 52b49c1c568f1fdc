//! The README's first command.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Command;

#[test]
fn the_demo_ends_in_a_branch_and_says_what_was_real() {
    let temporary = tempfile::tempdir().unwrap();
    let output = Command::new(assert_cmd::cargo::cargo_bin("astra-dispatch"))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("TMPDIR", temporary.path())
        .arg("demo")
        .output()
        .unwrap();
    let (shown, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{shown}\n{said}");
    for words in ["AST-2 is dispatched to vega", "Landlock", "changed: "] {
        assert!(said.contains(words), "{words}: {said}");
    }
    for words in
        ["## A pull request in astra/api", "## A comment on the work item", "published: changed", "Stood in:"]
    {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let look = shown.lines().find_map(|line| line.trim().strip_prefix("look at the work")).unwrap();
    let mut words = look.split_whitespace();
    let shows = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(
        String::from_utf8_lossy(&shows.stdout).contains("--dry-run"),
        "the printed command shows the work"
    );
}
