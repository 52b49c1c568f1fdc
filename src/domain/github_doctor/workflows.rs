//! Which workflows a branch or a pull request of a run starts, and with which secrets. A workflow that
//! runs the branch's own code gives its secrets to whoever wrote that.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use globset::GlobBuilder;
use regex::Regex;
use serde_json::Value;

use crate::domain::finding::Finding;
use crate::domain::name::Repository;
use crate::domain::registry::foreign_yaml;

/// A branch of a run.
const BRANCH: &str = "astra/ast-1-x7k2p";
/// Events that a run's branch or pull request causes whatever the workflow's filters say.
const EVENTS: [&str; 3] = ["create", "pull_request", "pull_request_target"];

#[expect(clippy::unwrap_used, reason = "a constant pattern, used by the tests")]
static SECRET: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\bsecrets\s*\.\s*([A-Za-z_]\w*)").unwrap());
#[expect(clippy::unwrap_used, reason = "a constant pattern, used by the tests")]
static ALL_SECRETS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\bsecrets\s*:\s*inherit\b|\bsecrets\s*[\[)]").unwrap());

/// Warns of workflows, given by path and content.
pub fn judge(repository: &Repository, workflows: &[(String, String)]) -> Finding {
    Finding::warning(
        format!("{repository}: `astra/**` starts no workflow that has secrets"),
        dangers(workflows),
        "leave `astra/**` out of its `on:`, or keep the secrets in an environment that such branches may not \
         use; where neither is possible, review before a run's pull request is opened",
    )
}

fn dangers(workflows: &[(String, String)]) -> Vec<String> {
    let read: BTreeMap<&str, Option<Value>> =
        workflows.iter().map(|(path, text)| (path.as_str(), foreign_yaml(text))).collect();
    let started = started(&read);
    let danger = |(path, text): &(String, String)| {
        let secrets = secrets(text)?;
        match (&read[path.as_str()], started.get(path.as_str())) {
            (None, _) => Some(format!("`{path}` cannot be read, and names {secrets}")),
            (Some(_), how) => Some(format!("`{path}` {} and has {secrets}", how?)),
        }
    };
    workflows.iter().filter_map(danger).collect()
}

/// The workflows that a run's branch starts, and how: by an event, or called by one of them. A called one
/// has the secrets of its jobs' environments, which its caller need not name.
fn started<'w>(read: &'w BTreeMap<&'w str, Option<Value>>) -> BTreeMap<&'w str, String> {
    let mut started = BTreeMap::new();
    let mut callers = Vec::new();
    for (path, workflow) in read.iter().filter_map(|(path, workflow)| Some((*path, workflow.as_ref()?))) {
        let events = started_by(&workflow["on"]);
        if !events.is_empty() {
            started.insert(path, format!("starts on {}", events.join(", ")));
            callers.push((path, workflow));
        }
    }
    while let Some((caller, workflow)) = callers.pop() {
        for called in called(workflow) {
            let Some((path, Some(workflow))) = read.get_key_value(called) else { continue };
            if !started.contains_key(path) {
                started.insert(*path, format!("is called by `{caller}`"));
                callers.push((*path, workflow));
            }
        }
    }
    started
}

/// The workflows of the same repository that a workflow's jobs are.
fn called(workflow: &Value) -> impl Iterator<Item = &str> {
    let jobs = workflow["jobs"].as_object().into_iter().flatten();
    jobs.filter_map(|(_, job)| job.get("uses")?.as_str()?.strip_prefix("./"))
}

/// The secrets that a workflow names, but for the token that every job has.
fn secrets(text: &str) -> Option<String> {
    let lines = || text.lines().filter(|line| !line.trim_start().starts_with('#'));
    if lines().any(|line| ALL_SECRETS.is_match(line)) {
        return Some("all secrets".to_owned());
    }
    let found = lines().flat_map(|line| SECRET.captures_iter(line)).map(|found| found[1].to_owned());
    let names: std::collections::BTreeSet<String> =
        found.filter(|name| !name.eq_ignore_ascii_case("GITHUB_TOKEN")).collect();
    let names: Vec<String> = names.into_iter().collect();
    (!names.is_empty()).then(|| format!("the secrets {}", names.join(", ")))
}

/// The events of `on:` that a run causes.
fn started_by(on: &Value) -> Vec<String> {
    let is_caused = |name: &str, filter: &Value| match name {
        "push" => takes_branch(filter),
        other => EVENTS.contains(&other),
    };
    match on {
        Value::String(name) if is_caused(name, &Value::Null) => vec![name.clone()],
        Value::Array(names) => {
            let names = names.iter().filter_map(Value::as_str);
            names.filter(|name| is_caused(name, &Value::Null)).map(str::to_owned).collect()
        }
        Value::Object(events) => {
            let caused = events.iter().filter(|(name, filter)| is_caused(name, filter));
            caused.map(|(name, _)| name.clone()).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether a `push` filter lets a run's branch through. In doubt it does.
fn takes_branch(filter: &Value) -> bool {
    let patterns = |key: &str| match filter.get(key) {
        Some(Value::String(one)) => Some(vec![one.as_str()]),
        Some(Value::Array(all)) => Some(all.iter().filter_map(Value::as_str).collect()),
        _ => None,
    };
    if let Some(ignored) = patterns("branches-ignore") {
        return !ignored.iter().any(|pattern| matches(pattern));
    }
    match patterns("branches") {
        // The last pattern that matches decides.
        Some(wanted) => wanted.iter().fold(false, |taken, pattern| match pattern.strip_prefix('!') {
            Some(unwanted) => taken && !matches(unwanted),
            None => taken || matches(pattern),
        }),
        None => patterns("tags").is_none() && patterns("tags-ignore").is_none(),
    }
}

fn matches(pattern: &str) -> bool {
    let glob = GlobBuilder::new(pattern).literal_separator(true).build();
    glob.map_or(true, |glob| glob.compile_matcher().is_match(BRANCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_branch_of_a_run_starts() {
        let table = [
            ("push", "push"),
            ("[workflow_dispatch, pull_request]", "pull_request"),
            ("{push: {branches: [main]}}", ""),
            ("{push: {branches: main}}", ""),
            ("{push: {branches: ['**']}}", "push"),
            ("{push: {branches: ['*']}}", ""),
            ("{push: {branches: ['**', '!astra/**']}}", ""),
            ("{push: {branches: ['!astra/**', 'astra/*']}}", "push"),
            ("{push: {branches-ignore: ['astra/**']}, pull_request_target: }", "pull_request_target"),
            ("{push: {branches-ignore: [main]}}", "push"),
            ("{push: {tags: ['v*']}}", ""),
            ("{push: {paths: [src]}, schedule: [{cron: '0 0 * * *'}]}", "push"),
            ("{create: , delete: }", "create"),
        ];
        for (on, events) in table {
            let workflow = foreign_yaml(&format!("on: {on}\njobs: {{}}\n")).unwrap();
            assert_eq!(started_by(&workflow["on"]).join(", "), events, "{on}");
        }
    }

    #[test]
    fn which_secrets_a_workflow_has() {
        for (text, expected) in [
            ("env: {T: '${{ secrets.GITHUB_TOKEN }}'}", None),
            ("# ${{ secrets.OLD }}", None),
            ("env: {A: '${{ secrets.B }}', B: '${{secrets . A}}'}", Some("the secrets A, B")),
            ("secrets: inherit", Some("all secrets")),
            ("env: {A: '${{ toJSON(secrets) }}'}", Some("all secrets")),
            ("env: {A: \"${{ secrets['B'] }}\"}", Some("all secrets")),
        ] {
            assert_eq!(secrets(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn both_together_are_a_warning() {
        let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
        let files = [
            file("a.yml", "on: push\nenv: {K: '${{ secrets.KEY }}'}\n"),
            file("b.yml", "on: push\n"),
            file("c.yml", "on: schedule\nenv: {K: '${{ secrets.KEY }}'}\n"),
            file("d.yml", "on: [\nenv: '${{ secrets.KEY }}'"),
            file("e.yml", "on: push\njobs: {one: {uses: ./f.yml}, two: {uses: other/name/g.yml@main}}\n"),
            file("f.yml", "on: workflow_call\njobs: {one: {uses: ./g.yml}, two: {uses: ./e.yml}}\n"),
            file(
                "g.yml",
                "on: workflow_call\njobs: {one: {environment: live}}\nenv: {K: '${{ secrets.KEY }}'}\n",
            ),
            file("h.yml", "on: workflow_call\nenv: {K: '${{ secrets.KEY }}'}\n"),
            file("i.yml", "on: schedule\njobs: {one: {uses: ./h.yml}}\n"),
        ];
        assert_eq!(
            judge(&"astra/api".parse().unwrap(), &files).faults,
            [
                "`a.yml` starts on push and has the secrets KEY",
                "`d.yml` cannot be read, and names the secrets KEY",
                "`g.yml` is called by `f.yml` and has the secrets KEY"
            ]
        );
    }
}
