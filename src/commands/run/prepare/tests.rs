use std::collections::BTreeMap;
use std::os::unix::fs::symlink;

use super::super::testing::{FILES, World, git};
use super::*;
use crate::domain::result::FailureClass;

/// Every file below a directory, with its bytes.
fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                open.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read(&path).unwrap_or_default());
            }
        }
    }
    found
}

#[tokio::test]
async fn the_workspace_is_the_base_byte_for_byte() {
    let world = World::new();
    let report = prepare(&world.run, None).await.unwrap();
    assert_eq!(report.failure, None);
    assert_eq!(report.base_commit, world.in_remote(&["rev-parse", "main"]));
    let mut found = files(&world.run.workspace());
    found.retain(|path, _| !path.starts_with(".git/"));
    let expected = FILES.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect();
    assert_eq!(found, expected);
    assert_eq!(git(&world.run.workspace(), &["status", "--porcelain"]), "");
    assert_eq!(git(&world.run.workspace(), &["branch", "--show-current"]), "astra/ast-1-x7k2p");
    assert_eq!(git(&world.run.workspace(), &["log", "--format=%s", "origin/main"]), "second\nfirst");
    assert_eq!(git(&world.run.workspace(), &["remote"]), "");
    assert_eq!(world.run.read::<PrepareReport>(PREPARE_REPORT).unwrap(), Some(report));
}

#[tokio::test]
async fn a_half_done_attempt_is_started_afresh() {
    let world = World::new();
    world.put(".git/config", "[core]\n\tfsmonitor = /bin/false\n");
    world.put("leftover", "x");
    symlink("/etc", world.work("link")).unwrap();
    let first = prepare(&world.run, None).await.unwrap();
    world.put("leftover", "x");
    let second = prepare(&world.run, None).await.unwrap();
    assert_eq!(first.base_commit, second.base_commit);
    assert!(!world.work("leftover").exists() && !world.work("link").exists());
}

#[tokio::test]
async fn a_reviewer_gets_the_pull_request_and_its_base() {
    let mut world = World::new();
    let seed = world.home.path().join("seed");
    git(&seed, &["checkout", "-q", "-b", "theirs"]);
    fs::write(seed.join("new.txt"), "new\n").unwrap();
    git(&seed, &["add", "new.txt"]);
    git(&seed, &["commit", "-q", "-m", "theirs"]);
    git(&seed, &["push", "-q", world.remote().to_str().unwrap(), "HEAD:refs/pull/7/head"]);
    world.plan.pull_request = Some(7);
    world.write_plan();
    let report = prepare(&world.run, None).await.unwrap();
    assert_eq!(report.base_commit, git(&seed, &["rev-parse", "theirs"]));
    assert!(world.work("new.txt").exists());
    assert_eq!(git(&world.run.workspace(), &["log", "--format=%s", "origin/main.."]), "theirs");
}

#[tokio::test]
async fn what_is_not_there_is_a_fault_of_the_task() {
    for (branch, pull_request, repository, expected) in [
        (
            "nope",
            None,
            "astra/api",
            "clone branch nope of astra/api: git fetch: fatal: couldn't find remote ref",
        ),
        (
            "main",
            Some(9),
            "astra/api",
            "clone pull request #9 of astra/api: git fetch: fatal: couldn't find remote",
        ),
        ("main", None, "astra/nope", "clone branch main of astra/nope: git fetch: fatal: '"),
    ] {
        let mut world = World::new();
        world.plan.base = branch.parse().unwrap();
        world.plan.pull_request = pull_request;
        world.plan.repository = repository.parse().unwrap();
        world.write_plan();
        let failure = prepare(&world.run, None).await.unwrap().failure.unwrap();
        assert_eq!(failure.class, FailureClass::Task, "{}", failure.reason);
        assert!(failure.reason.starts_with(expected), "{}", failure.reason);
    }
}

#[tokio::test]
async fn a_remote_that_does_not_answer_is_worth_another_try() {
    let mut world = World::new();
    // A port that was just free on loopback: nobody answers.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    world.plan.git_base_url = format!("http://127.0.0.1:{port}");
    world.write_plan();
    let failure = prepare(&world.run, Some("t0ken-of-the-run".into())).await.unwrap().failure.unwrap();
    assert_eq!(failure.class, FailureClass::Infrastructure, "{}", failure.reason);
}

#[tokio::test]
async fn submodules_are_left_alone() {
    let world = World::new();
    let seed = world.home.path().join("seed");
    git(&seed, &["clone", "-q", world.remote().to_str().unwrap(), "vendor/sub"]);
    let url = format!("file://{}", world.remote().display());
    fs::write(seed.join(".gitmodules"), format!("[submodule \"s\"]\n\tpath = vendor/sub\n\turl = {url}\n"))
        .unwrap();
    git(&seed, &["add", ".gitmodules", "vendor/sub"]);
    git(&seed, &["commit", "-q", "-m", "submodule"]);
    git(&seed, &["push", "-q", world.remote().to_str().unwrap(), "HEAD:main"]);
    let report = prepare(&world.run, None).await.unwrap();
    assert_eq!(report.failure, None);
    assert_eq!(fs::read_dir(world.work("vendor/sub")).unwrap().count(), 0);
}

#[tokio::test]
async fn the_base_repository_has_the_trees_and_no_content() {
    let world = World::new();
    let report = prepare(&world.run, None).await.unwrap();
    let base = world.run.path(BASE_REPOSITORY);
    let listing = git(&base, &["ls-tree", "-r", "--name-only", &report.base_commit]);
    assert_eq!(listing.lines().count(), FILES.len());
    let objects = git(&base, &["cat-file", "--batch-all-objects", "--batch-check=%(objecttype)"]);
    assert_eq!(objects.lines().filter(|kind| *kind == "commit").count(), 1);
    assert!(!objects.contains("blob"));
}

#[tokio::test]
async fn a_page_of_something_else_is_no_fault_of_the_task() {
    let page = async || ([("content-type", "text/html")], "<html><body>Please sign in.</body></html>");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut world = World::new();
    world.plan.git_base_url = format!("http://{}", listener.local_addr().unwrap());
    world.write_plan();
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(page)).await.unwrap() });
    let failure = prepare(&world.run, Some("t0ken-of-the-run".into())).await.unwrap().failure.unwrap();
    assert_eq!(failure.class, FailureClass::Infrastructure, "{}", failure.reason);
    assert!(failure.reason.contains("not a single branch"), "{}", failure.reason);
}
