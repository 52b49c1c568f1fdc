//! `src/domain` decides and does nothing else: this test reads its source.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};

/// What a pure function has no use for, and why it is not to be found in the domain.
const IMPURE: &[(&str, &str)] = &[
    ("async fn", "waits"),
    (".await", "waits"),
    ("tokio", "waits"),
    ("std::fs", "reads or writes files"),
    ("std::env", "reads the environment"),
    ("std::net", "talks to the network"),
    ("std::process", "starts processes"),
    ("std::io::std", "talks to the terminal"),
    ("std::thread", "starts threads"),
    ("SystemTime", "reads the clock"),
    ("Instant::now", "reads the clock"),
    ("Timestamp::now", "reads the clock"),
    ("Zoned::now", "reads the clock"),
    ("rand::", "draws"),
    ("Uuid::new_v4", "draws"),
    ("HashMap", "is iterated in a random order: use BTreeMap"),
    ("HashSet", "is iterated in a random order: use BTreeSet"),
    ("crate::adapters", "belongs to the world"),
    ("crate::commands", "belongs to the world"),
    ("crate::output", "belongs to the world"),
    ("octocrab", "belongs to the world"),
    ("reqwest", "belongs to the world"),
    ("kube::", "belongs to the world"),
    ("rusqlite", "belongs to the world"),
];

#[test]
fn the_domain_is_pure() {
    let domain = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/domain");
    let mut offences = Vec::new();
    for file in rust_files(&domain) {
        let source = fs::read_to_string(&file).unwrap();
        // Tests of the domain may be what they like; they come last in a file.
        let code = source.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, line) in code.lines().enumerate() {
            let line = line.split("//").next().unwrap_or_default();
            for (word, reason) in IMPURE {
                if line.contains(word) {
                    offences.push(format!("{}:{}: `{word}` {reason}", file.display(), number + 1));
                }
            }
        }
    }
    assert!(offences.is_empty(), "src/domain must stay pure:\n{}", offences.join("\n"));
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let is_test = path.file_name().is_some_and(|name| name == "tests.rs" || name == "tests");
        if path.is_dir() && !is_test {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test {
            files.push(path);
        }
    }
    files
}
