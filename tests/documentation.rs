//! What the pages name is there.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::path::Path;

/// Every `path/like.this` between backticks or in a link of the pages.
#[test]
fn every_path_that_a_page_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut missing = Vec::new();
    for page in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/keyless.md"] {
        let text = std::fs::read_to_string(root.join(page)).unwrap();
        let named = text.split(['`', '(', ')']).filter(|word| {
            ["src/", "tests/", "fixtures/", ".ci/"].iter().any(|start| word.starts_with(start))
                && !word.contains([' ', '*', '<'])
        });
        missing.extend(named.filter(|path| !root.join(path).exists()).map(|path| format!("{page}: {path}")));
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Every `path/like.rs::this` of the threat model.
#[test]
fn every_claim_of_the_threat_model_names_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/threat-model.md")).unwrap();
    let claims = page.split("## What is prevented").nth(1).unwrap().split("\n## ").next().unwrap();
    let claims: Vec<&str> =
        claims.lines().filter(|line| line.starts_with("| ") && line.ends_with(" |")).collect();
    assert!(claims.len() > 10, "{claims:?}");
    for claim in &claims[1..] {
        let tests: Vec<_> = claim.split('`').filter_map(|word| word.split_once("::")).collect();
        assert!(!tests.is_empty(), "no test backs this: {claim}");
        for (file, name) in tests {
            let source = std::fs::read_to_string(root.join(file)).unwrap_or_default();
            let lines: Vec<&str> = source.lines().map(str::trim).collect();
            let start = format!("fn {name}(");
            let at = lines.iter().position(|line| line.trim_start_matches("async ").starts_with(&start));
            let at = at.unwrap_or_else(|| panic!("there is no test {file}::{name}"));
            let before = lines[..at].iter().rev().take_while(|line| line.starts_with(['#', '/']));
            let is_test = before.into_iter().any(|line| line.contains("test"));
            // Those of proptest have no attribute that is next to them.
            assert!(is_test || source.contains("proptest!"), "{file}::{name} is no test");
        }
    }
}
