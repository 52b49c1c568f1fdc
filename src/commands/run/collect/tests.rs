use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::super::prepare::prepare;
use super::super::testing::{World, git};
use super::*;
use crate::domain::commit::is_expected;
use crate::domain::result::Verdict;

/// A prepared world whose agent says that it is done.
async fn prepared() -> (World, String) {
    let world = World::new();
    let base = prepare(&world.run, None).await.unwrap().base_commit;
    world.agent_ends(AgentEnding::Done);
    (world, base)
}

/// What the bundle brings, read by a stranger with the remote's objects.
fn unpacked(world: &World) -> Vec<String> {
    world.in_remote(&[
        "fetch",
        "-q",
        world.run.path(BUNDLE).to_str().unwrap(),
        "+refs/heads/work:refs/test/work",
    ]);
    let listing =
        world.in_remote(&["diff-tree", "-r", "--no-renames", "--name-status", "main", "refs/test/work"]);
    listing.lines().map(|line| line.replace('\t', " ")).collect()
}

#[tokio::test]
async fn the_work_becomes_one_commit_on_the_base() {
    let (world, base) = prepared().await;
    world.put("README.md", "# Changed\n");
    world.put("src/new file.txt", "new\n");
    world.put("ünï\"\\\n.txt", "odd\n");
    fs::remove_dir_all(world.work("src/deep")).unwrap();
    world.put("target/junk", "ignored");
    // The agent's own commits are flattened.
    git(&world.run.workspace(), &["commit", "-q", "--allow-empty", "-m", "mine"]);
    let report = collect(&world.run).await.unwrap();
    assert_eq!(report.failure, None);
    assert_eq!(
        unpacked(&world),
        ["M README.md", "D src/deep/er/leaf.txt", "A src/new file.txt", r#"A "\303\274n\303\257\"\\\n.txt""#]
    );
    let commit = world.in_remote(&["rev-parse", "refs/test/work"]);
    assert_eq!(report.commit.as_deref(), Some(commit.as_str()));
    assert_eq!(world.in_remote(&["rev-parse", "refs/test/work^@"]), base);
    let text = format!("{}\n", world.in_remote(&["cat-file", "commit", "refs/test/work"]));
    assert!(is_expected(&world.plan, &base, text.as_bytes()), "{text}");
    let shown = text.lines().filter(|line| !line.starts_with("tree ") && !line.starts_with("parent "));
    let shown: Vec<&str> = shown.map(|line| line.split(" 1").next().unwrap()).collect();
    insta::assert_snapshot!(shown.join("\n"), @"
    author astra-vega <astra-vega@users.noreply.github.com>
    committer astra-vega <astra-vega@users.noreply.github.com>

    AST-1: Add an endpoint

    Task: AST-1
    Run: ast-1-x7k2p
    Agent: vega
    ");
}

#[tokio::test]
async fn nothing_changed_is_no_commit() {
    let (world, _) = prepared().await;
    world.put("target/junk", "ignored");
    let report = collect(&world.run).await.unwrap();
    assert_eq!((report.commit, report.failure), (None, None));
    assert!(!world.run.path(BUNDLE).exists());
}

#[tokio::test]
async fn the_agents_repository_counts_for_nothing() {
    type Ruin = fn(&World);
    let ruins: [(&str, Ruin); 5] = [
        ("deleted", |world| fs::remove_dir_all(world.work(".git")).unwrap()),
        ("a link", |world| {
            fs::remove_dir_all(world.work(".git")).unwrap();
            symlink("/etc", world.work(".git")).unwrap();
        }),
        ("a pipe", |world| {
            fs::remove_dir_all(world.work(".git")).unwrap();
            let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
            rustix::fs::mknodat(rustix::fs::CWD, world.work(".git"), kind, mode, 0).unwrap();
        }),
        ("hostile", |world| {
            let touch = format!("touch {}", world.home.path().join("ran").display());
            let config = format!(
                "[core]\n\tfsmonitor = \"{touch}\"\n\thooksPath = hooks\n[filter \"evil\"]\n\tclean = \"{touch}\"\n\tprocess = \"{touch}\"\n"
            );
            world.put(".git/config", config);
            for hook in ["pre-commit", "post-commit", "reference-transaction", "post-index-change"] {
                world.put(&format!(".git/hooks/{hook}"), format!("#!/bin/sh\n{touch}\n"));
                let mode = fs::Permissions::from_mode(0o755);
                fs::set_permissions(world.work(&format!(".git/hooks/{hook}")), mode).unwrap();
            }
            world.put(".gitattributes", "* filter=evil\n");
        }),
        ("lying about the base", |world| {
            world.put(".git/HEAD", "ref: refs/heads/elsewhere\n");
            world.put(".git/objects/info/alternates", "/etc\n");
            world.put(".git/shallow", "1234\n");
        }),
    ];
    for (name, ruin) in ruins {
        let (world, _) = prepared().await;
        world.put("README.md", "changed\n");
        ruin(&world);
        let report = collect(&world.run).await.unwrap();
        assert_eq!(report.failure, None, "{name}");
        let mut found = unpacked(&world);
        found.retain(|line| line != "M .gitattributes");
        assert_eq!(found, ["M README.md"], "{name}");
        assert!(!world.home.path().join("ran").exists(), "{name}");
    }
}

#[tokio::test]
async fn attributes_change_no_byte() {
    let (world, _) = prepared().await;
    world.put("crlf.txt", "x\r\n$Id$\r\nend");
    collect(&world.run).await.unwrap();
    unpacked(&world);
    assert_eq!(world.in_remote(&["cat-file", "blob", "refs/test/work:crlf.txt"]), "x\r\n$Id$\r\nend");
}

#[tokio::test]
async fn too_much_is_refused_by_policy() {
    let (world, _) = prepared().await;
    fs::File::create(world.work("sparse")).unwrap().set_len(10 << 30).unwrap();
    let failure = collect(&world.run).await.unwrap().failure.unwrap();
    assert_eq!(failure.class, FailureClass::Policy);
    assert_eq!(failure.reason, "sparse has 10737418240 bytes; a changed file may have 20 MiB");
}

#[tokio::test]
async fn a_workspace_that_is_gone_is_the_agents_failure() {
    let (world, _) = prepared().await;
    fs::remove_dir_all(world.run.workspace()).unwrap();
    symlink("/etc", world.run.workspace()).unwrap();
    let failure = collect(&world.run).await.unwrap().failure.unwrap();
    assert_eq!((failure.class, failure.reason.as_str()), (FailureClass::Agent, "the workspace is gone"));
}

#[tokio::test]
async fn a_failed_agent_delivers_nothing_but_its_words() {
    let (world, _) = prepared().await;
    world.put("README.md", "changed\n");
    world.output("summary.md", "I tried.\u{202e}\n");
    for ending in [AgentEnding::Failed, AgentEnding::Cancelled] {
        world.agent_ends(ending);
        let report = collect(&world.run).await.unwrap();
        assert_eq!((report.commit, report.failure, report.summary.as_str()), (None, None, "I tried."));
    }
    world.agent_ends(AgentEnding::TimedOut);
    assert!(collect(&world.run).await.unwrap().commit.is_some());
}

#[tokio::test]
async fn outputs_are_read_only_if_they_are_files() {
    let (world, _) = prepared().await;
    fs::write(world.home.path().join("secret"), "s3cret").unwrap();
    fs::create_dir_all(world.run.path(AGENT_OUTPUT)).unwrap();
    symlink(world.home.path().join("secret"), world.run.path("agent/output/summary.md")).unwrap();
    assert_eq!(collect(&world.run).await.unwrap().summary, "");
    // The directory itself replaced by a link.
    fs::remove_dir_all(world.run.path(AGENT_OUTPUT)).unwrap();
    fs::write(world.home.path().join("summary.md"), "s3cret").unwrap();
    symlink(world.home.path(), world.run.path(AGENT_OUTPUT)).unwrap();
    assert_eq!(collect(&world.run).await.unwrap().summary, "");
}

#[tokio::test]
async fn a_reviewer_brings_a_review_and_no_commit() {
    let (mut world, _) = prepared().await;
    world.plan.pull_request = Some(7);
    world.write_plan();
    world.put("README.md", "changed by a reviewer\n");
    world.output(
        "review.json",
        r#"{"verdict": "request_changes", "summary": "No.", "comments": [{"path": "a", "line": 1, "body": "why?"}]}"#,
    );
    let report = collect(&world.run).await.unwrap();
    assert_eq!((report.commit, report.failure), (None, None));
    assert_eq!(report.review.unwrap().verdict, Verdict::RequestChanges);

    world.output("review.json", r#"{"verdict": "merge it"}"#);
    let failure = collect(&world.run).await.unwrap().failure.unwrap();
    assert_eq!(failure.class, FailureClass::Agent);
    assert!(failure.reason.starts_with("review.json is not a review: unknown variant"), "{}", failure.reason);
    fs::remove_file(world.run.path("agent/output/review.json")).unwrap();
    assert_eq!(collect(&world.run).await.unwrap().review, None);
}

#[tokio::test]
async fn a_remark_on_no_line_does_not_cost_the_review() {
    let (mut world, _) = prepared().await;
    world.plan.pull_request = Some(7);
    world.write_plan();
    world.output(
        "review.json",
        r#"{"verdict": "comment", "summary": "Hm.", "comments": [{"path": "a", "line": 0, "body": "x"},
            {"path": "a", "line": -1, "body": "x"}, {"path": "a", "line": 2, "body": "why?"}]}"#,
    );
    let review = collect(&world.run).await.unwrap().review.unwrap();
    assert_eq!(review.comments.iter().map(|comment| comment.line).collect::<Vec<_>>(), [2]);
    assert!(review.summary.starts_with("Hm.") && review.summary.contains("2 remarks"), "{}", review.summary);
}

#[tokio::test]
async fn done_again_it_starts_afresh() {
    let (world, _) = prepared().await;
    world.put("README.md", "changed\n");
    world.run.write_bytes("collect/git/config", b"garbage").unwrap();
    world.run.write_bytes(BUNDLE, b"garbage").unwrap();
    assert_eq!(collect(&world.run).await.unwrap().failure, None);
    assert_eq!(unpacked(&world), ["M README.md"]);
}
