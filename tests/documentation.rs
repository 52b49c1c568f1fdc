//! What the pages name is there.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

/// Every `path/like.this` between backticks or in a link of the pages.
#[test]
fn every_path_that_a_page_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut missing = Vec::new();
    for page in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = std::fs::read_to_string(root.join(page)).unwrap();
        let named = text.split(['`', '(', ')']).filter(|word| {
            ["src/", "tests/", "fixtures/", ".ci/"].iter().any(|start| word.starts_with(start))
                && !word.contains([' ', '*', '<'])
        });
        missing.extend(named.filter(|path| !root.join(path).exists()).map(|path| format!("{page}: {path}")));
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
