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
        offences.extend(offences_in(&source).map(|offence| format!("{}:{offence}", file.display())));
    }
    assert!(offences.is_empty(), "src/domain must stay pure:\n{}", offences.join("\n"));
}

#[test]
fn only_tests_may_be_what_they_like() {
    let tests = "#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n";
    assert_eq!(offences_in(tests).count(), 0);
    for before in ["#[cfg(test)]\nmod tests;\n", "#[cfg(test)]\nfn helper() {}\n", tests] {
        let source = format!("{before}use std::fs;\n");
        assert_eq!(offences_in(&source).last().unwrap()[..1], source.lines().count().to_string(), "{source}");
    }
}

/// Tests may be what they like: a `mod tests { … }` at the end of the file is not read, and what is
/// in another file is not in this one.
fn offences_in(source: &str) -> impl Iterator<Item = String> {
    const TESTS: &str = "#[cfg(test)]\nmod tests {\n";
    let code = match source.split_once(TESTS) {
        Some((code, tests)) if tests.find("\n}\n").is_some_and(|end| end + 3 == tests.len()) => code,
        _ => source,
    };
    code.lines().enumerate().flat_map(|(number, line)| {
        let line = line.split("//").next().unwrap_or_default();
        let found = IMPURE.iter().filter(move |(word, _)| line.contains(word));
        found.map(move |(word, reason)| format!("{}: `{word}` {reason}", number + 1))
    })
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
