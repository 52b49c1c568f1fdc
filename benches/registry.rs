//! A registry of 1,000 agents. Goal: checked within 100 ms.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark may panic")]

use std::fs;
use std::path::Path;

use astra_dispatch::adapters::registry_files;
use astra_dispatch::domain::registry::parse;
use divan::Bencher;

fn main() {
    divan::main();
}

/// The sample with `agents` agents like Vega.
fn workforce(agents: usize) -> tempfile::TempDir {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/registry");
    let directory = tempfile::tempdir().unwrap();
    let to = directory.path();
    fs::create_dir(to.join("agents")).unwrap();
    fs::create_dir(to.join("prompts")).unwrap();
    fs::copy(sample.join("astra.yaml"), to.join("astra.yaml")).unwrap();
    fs::copy(sample.join("prompts/guardrails.md"), to.join("prompts/guardrails.md")).unwrap();
    let agent = fs::read_to_string(sample.join("agents/vega.yaml")).unwrap();
    let prompt = fs::read_to_string(sample.join("prompts/vega.md")).unwrap();
    for number in 0..agents {
        let name = format!("vega-{number}");
        fs::write(to.join(format!("agents/{name}.yaml")), agent.replace("vega", &name)).unwrap();
        fs::write(to.join(format!("prompts/{name}.md")), &prompt).unwrap();
    }
    directory
}

#[divan::bench(args = [10, 100, 1_000])]
fn parse_and_check(bencher: Bencher<'_, '_>, agents: usize) {
    let directory = workforce(agents);
    let sources = registry_files::read(directory.path()).unwrap();
    bencher.bench(|| assert_eq!(parse(&sources).unwrap().registry.agents.len(), agents));
}

#[divan::bench(args = [10, 100, 1_000])]
fn read_parse_and_check(bencher: Bencher<'_, '_>, agents: usize) {
    let directory = workforce(agents);
    bencher.bench(|| {
        let sources = registry_files::read(directory.path()).unwrap();
        assert_eq!(parse(&sources).unwrap().registry.agents.len(), agents);
    });
}

/// Every agent with faults: reporting must not cost more than it helps.
#[divan::bench(args = [1_000])]
fn report_faults(bencher: Bencher<'_, '_>, agents: usize) {
    let directory = workforce(agents);
    let astra = fs::read_to_string(directory.path().join("astra.yaml")).unwrap();
    fs::write(directory.path().join("astra.yaml"), astra.replace("sonnet:", "sonett:")).unwrap();
    let sources = registry_files::read(directory.path()).unwrap();
    bencher.bench(|| assert!(parse(&sources).unwrap_err().len() >= agents));
}
