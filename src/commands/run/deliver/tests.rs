use std::fs;
use std::future::pending;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::super::collect::collect;
use super::super::prepare::prepare;
use super::super::testing::{World, git};
use super::*;
use crate::adapters::run_directory::{BUNDLE, PLAN};
use crate::domain::phase::{AgentEnding, CollectReport};
use crate::domain::result::Verdict;

const SECRET: &str = "hunter2/hunter2+hunter2";

/// A run that is ready for delivery, after `work` was done in its workspace.
async fn worked(work: impl FnOnce(&World)) -> World {
    worked_as(World::new(), AgentEnding::Done, work).await
}

async fn worked_as(world: World, ending: AgentEnding, work: impl FnOnce(&World)) -> World {
    prepare(&world.run, None).await.unwrap();
    world.output("summary.md", "I did it.\n");
    work(&world);
    world.agent_ends(ending);
    collect(&world.run).await.unwrap();
    world
}

async fn delivered(world: &World) -> RunResult {
    let result = deliver(&world.run, None, pending()).await.unwrap();
    assert_eq!(world.run.read::<RunResult>(RESULT).unwrap().as_ref(), Some(&result));
    result
}

/// The refs of the remote, but for `main`.
fn refs(world: &World) -> Vec<String> {
    let refs = world.in_remote(&["for-each-ref", "--format=%(refname)"]);
    refs.lines().filter(|name| *name != "refs/heads/main").map(str::to_owned).collect()
}

fn change(world: &World) {
    world.put("README.md", "# Changed\n");
}

fn secrets(world: &World) {
    world.run.write(DELIVER_SECRETS, &SecretPrints::new([1; 16], [("API_KEY", SECRET)])).unwrap();
}

const BRANCH: &str = "refs/heads/astra/ast-1-x7k2p";
const RESULT_REF: &str = "refs/astra/results/ast-1-x7k2p";
const REFUSED: &str = "refs/astra/refused/ast-1-x7k2p";

#[tokio::test]
async fn the_work_and_its_result_are_pushed_together() {
    let world = worked(change).await;
    let result = delivered(&world).await;
    assert_eq!(refs(&world), [RESULT_REF, BRANCH]);
    assert_eq!(result.head, Some(world.in_remote(&["rev-parse", BRANCH])));
    assert_eq!(result.base, Some(world.in_remote(&["rev-parse", "main"])));
    assert_eq!(world.in_remote(&["cat-file", "blob", &format!("{BRANCH}:README.md")]), "# Changed");
    // A result commit has no parent and one file: the document.
    assert_eq!(
        world.in_remote(&["log", "--format=%an %s", RESULT_REF]),
        "astra-dispatch Result of ast-1-x7k2p"
    );
    let document = world.in_remote(&["cat-file", "blob", &format!("{RESULT_REF}:result.json")]);
    assert_eq!(serde_json::from_str::<RunResult>(&document).unwrap(), result);
    assert_eq!(world.in_remote(&["fsck", "--strict"]), "");

    let mut shown = serde_json::to_value(&result).unwrap();
    for (field, place) in [("head", "[head]"), ("base", "[base]"), ("durations", "[durations]")] {
        shown[field] = place.into();
    }
    insta::assert_snapshot!(shown.to_string(), @r#"{"version":1,"run":"ast-1-x7k2p","outcome":"changed","partial":false,"branch":"astra/ast-1-x7k2p","head":"[head]","base":"[base]","summary":"I did it.","review":null,"tokens":{"input":1,"output":2,"cache_read":3,"cache_write":4},"cost_usd":0.25,"durations":"[durations]","model":"claude-sonnet-5","class":null,"reason":"the work was pushed","findings":[],"complete":true}"#);
}

#[tokio::test]
async fn without_a_change_only_the_result_is_pushed() {
    let world = worked(|_| {}).await;
    let result = delivered(&world).await;
    assert_eq!((result.outcome, result.branch, result.class), (RunOutcome::NoChange, None, None));
    assert_eq!(refs(&world), [RESULT_REF]);
}

#[tokio::test]
async fn a_review_is_a_result() {
    let mut world = World::new();
    world.in_remote(&["update-ref", "refs/pull/7/head", "main"]);
    world.plan.pull_request = Some(7);
    world.write_plan();
    let world = worked_as(world, AgentEnding::Done, |world| {
        change(world);
        world.output("review.json", r#"{"verdict": "approve", "summary": "Fine."}"#);
    })
    .await;
    let result = delivered(&world).await;
    assert_eq!((result.outcome, result.branch), (RunOutcome::Review, None));
    assert_eq!(result.review.unwrap().verdict, Verdict::Approve);
    assert_eq!(refs(&world), ["refs/astra/results/ast-1-x7k2p", "refs/pull/7/head"]);
}

#[tokio::test]
async fn work_that_was_cut_short_is_delivered_as_partial() {
    for (ending, outcome) in
        [(AgentEnding::Partial, RunOutcome::Failed), (AgentEnding::TimedOut, RunOutcome::TimedOut)]
    {
        let world = worked_as(World::new(), ending, change).await;
        let result = delivered(&world).await;
        assert_eq!((result.outcome, result.partial), (outcome, true));
        assert_eq!((result.class, result.branch), (Some(FailureClass::Agent), Some(world.plan.run.branch())));
        assert_eq!(refs(&world), [RESULT_REF, BRANCH]);
    }
}

#[tokio::test]
async fn a_failed_agent_leaves_a_result_and_no_branch() {
    let world = worked_as(World::new(), AgentEnding::Failed, change).await;
    let result = delivered(&world).await;
    assert_eq!((result.outcome, result.branch), (RunOutcome::Failed, None));
    assert_eq!((result.reason.as_str(), result.summary.as_str()), ("it ended: Failed", "I did it."));
    assert_eq!(refs(&world), [RESULT_REF]);
}

#[tokio::test]
async fn every_rule_of_the_gate_holds_to_the_end() {
    type Work = fn(&World);
    let cases: [(&str, Work); 8] = [
        (gate::rule::PROTECTED_PATH, |world| world.put(".github/workflows/evil.yml", "on: push\n")),
        (gate::rule::PROTECTED_PATH, |world| fs::remove_file(world.work(".gitattributes")).unwrap()),
        (gate::rule::PROTECTED_PATH, |world| world.put(".Astra/agents/vega.yaml", "x\n")),
        (gate::rule::PROTECTED_PATH, |world| world.put("migrations/1.sql", "x\n")),
        (gate::rule::MODE, |world| symlink("/etc/passwd", world.work("link")).unwrap()),
        (gate::rule::PATH_NAME, |world| world.put("a\u{202e}txt.exe", "x\n")),
        (gate::rule::PATH_NAME, |world| world.put("name.", "x\n")),
        (gate::rule::WORK_TREE, |world| {
            fs::File::create(world.work("big")).unwrap().set_len(gate::MAX_FILE_BYTES + 1).unwrap();
        }),
    ];
    for (rule, work) in cases {
        let world = worked(work).await;
        let result = delivered(&world).await;
        assert_eq!(
            (result.outcome, result.class),
            (RunOutcome::Refused, Some(FailureClass::Policy)),
            "{rule}"
        );
        assert_eq!((result.branch, result.head), (None, None), "{rule}");
        assert_eq!(result.findings.len(), 1, "{rule}: {:?}", result.findings);
        assert_eq!(result.findings[0].rule, rule);
        let kept = refs(&world);
        if rule == gate::rule::WORK_TREE {
            assert_eq!(kept, [RESULT_REF]);
        } else {
            assert_eq!(kept, [REFUSED, RESULT_REF], "{rule}");
        }
    }
}

#[tokio::test]
async fn work_with_a_secret_goes_nowhere() {
    use base64::Engine;
    let base64 = base64::engine::general_purpose::STANDARD.encode(format!("key={SECRET}"));
    let cases: Vec<(&str, String)> = vec![
        ("src/config.txt", format!("a\nkey = {SECRET}\n")),
        ("src/config.txt", format!("a\n{base64}\n")),
        ("src/config.txt", format!("a\n{}\n", hex::encode(SECRET))),
        ("src/config.txt", format!("a\nAK{}Q7Q7Q7Q7Q7Q7Q7Q7\n", "IA")),
        (".github/x", format!("a\nkey = {SECRET}\n")),
    ];
    for (path, content) in cases {
        let world = World::new();
        secrets(&world);
        let world = worked_as(world, AgentEnding::Done, |world| world.put(path, content)).await;
        let result = delivered(&world).await;
        assert_eq!((result.outcome, result.branch.as_ref()), (RunOutcome::Refused, None));
        assert_eq!(refs(&world), [""; 0]);
        let finding = &result.findings[0];
        assert!(gate::is_secret(finding), "{finding:?}");
        assert_eq!((finding.path.as_deref(), finding.line), (Some(path), Some(2)));
        assert!(!serde_json::to_string(&result).unwrap().contains(SECRET));
        assert_eq!(result.summary, "");
    }
}

#[tokio::test]
async fn a_secret_in_words_or_names_goes_nowhere_either() {
    for put in [
        |world: &World| world.output("summary.md", &format!("I used {SECRET}.")),
        |world: &World| world.put("hunter2hunter2hunter2.txt", "x"),
        |world: &World| symlink(SECRET, world.work("link")).unwrap(),
    ] {
        let world = World::new();
        secrets(&world);
        let world = worked_as(world, AgentEnding::Done, put).await;
        let result = delivered(&world).await;
        assert_eq!(result.outcome, RunOutcome::Refused);
        assert_eq!(refs(&world), [""; 0]);
        let text = serde_json::to_string(&result).unwrap();
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[tokio::test]
async fn the_token_of_the_push_is_a_secret_too() {
    let world = worked(|world| world.put("x.txt", "token-of-this-run-123\n")).await;
    let result = deliver(&world.run, Some("token-of-this-run-123".into()), pending()).await.unwrap();
    assert_eq!(result.findings[0].message, "here is the Git token of the run, plain");
    assert_eq!(refs(&world), [""; 0]);
}

#[tokio::test]
async fn without_the_prints_of_secrets_nothing_leaves() {
    let mut world = World::new();
    world.plan.credential_names = vec!["API_KEY".into()];
    world.write_plan();
    let world = worked_as(world, AgentEnding::Done, change).await;
    for broken in [None, Some("{}"), Some(r#"{"version": 9, "salt": "", "secrets": []}"#)] {
        if let Some(text) = broken {
            world.run.write_bytes(DELIVER_SECRETS, text.as_bytes()).unwrap();
        }
        let result = delivered(&world).await;
        assert_eq!((result.outcome, result.class), (RunOutcome::Failed, Some(FailureClass::Infrastructure)));
        assert!(result.reason.starts_with("the gate cannot be set up: "), "{}", result.reason);
        assert_eq!(refs(&world), [""; 0]);
    }
}

#[tokio::test]
async fn done_again_it_comes_to_the_same_result() {
    for work in [change, |_: &World| {}, |world: &World| world.put("migrations/1.sql", "x\n")] {
        let world = worked(work).await;
        let first = delivered(&world).await;
        let pushed = refs(&world);
        // As after a crash between the push and the result file.
        fs::remove_file(world.run.path(RESULT)).unwrap();
        assert_eq!(delivered(&world).await, first);
        assert_eq!(refs(&world), pushed);
    }
}

#[tokio::test]
async fn what_somebody_else_pushed_under_our_name_stays() {
    for name in [BRANCH, RESULT_REF, REFUSED] {
        let world = worked(change).await;
        let theirs = world.in_remote(&["rev-parse", "main~1"]);
        world.in_remote(&["update-ref", name, &theirs]);
        let result = delivered(&world).await;
        assert_eq!((result.outcome, result.branch), (RunOutcome::Failed, None));
        assert_eq!(
            result.reason,
            format!("{name} is at the remote already, with something else than this run's work")
        );
        assert_eq!(refs(&world), [name]);
        assert_eq!(world.in_remote(&["rev-parse", name]), theirs);
    }
    // Both are there, but the result tells of something else.
    let world = worked(change).await;
    delivered(&world).await;
    let tree = world.in_remote(&["mktree", "--missing"]);
    let other = world.in_remote(&["commit-tree", "-m", "x", &tree]);
    world.in_remote(&["update-ref", RESULT_REF, &other]);
    let reason = delivered(&world).await.reason;
    assert!(reason.starts_with(RESULT_REF), "{reason}");
}

#[tokio::test]
async fn stopped_before_the_push_it_leaves_nothing() {
    let world = worked(change).await;
    let error = deliver(&world.run, None, std::future::ready(())).await.unwrap_err();
    assert_eq!(error.downcast_ref::<UserError>().unwrap().exit, Exit::Retry);
    assert_eq!(refs(&world), [""; 0]);
    assert!(!world.run.path(RESULT).exists());
}

#[tokio::test]
async fn a_remote_that_is_gone_is_a_failure_with_a_result() {
    let world = worked(change).await;
    fs::rename(world.remote(), world.home.path().join("elsewhere")).unwrap();
    let result = delivered(&world).await;
    assert_eq!((result.outcome, result.class), (RunOutcome::Failed, Some(FailureClass::Task)));
    assert!(result.reason.starts_with("fetch the base commit: git fetch: fatal: '"), "{}", result.reason);
}

#[tokio::test]
async fn a_rule_of_the_remote_is_policy() {
    let world = worked(change).await;
    let hook = world.remote().join("hooks/pre-receive");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, "#!/bin/sh\necho 'GH013: Repository rule violations found'\nexit 1\n").unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let result = delivered(&world).await;
    assert_eq!((result.outcome, result.class), (RunOutcome::Failed, Some(FailureClass::Policy)));
    assert_eq!(refs(&world), [""; 0]);
}

#[tokio::test]
async fn phases_that_left_nothing_end_in_a_result() {
    let world = World::new();
    let result = delivered(&world).await;
    assert_eq!((result.outcome, result.class), (RunOutcome::Failed, Some(FailureClass::Infrastructure)));
    let world = worked(change).await;
    world.run.write_bytes(AGENT_REPORT, b"\"garbage\"").unwrap();
    let result = delivered(&world).await;
    assert_eq!((result.outcome, result.class), (RunOutcome::Failed, Some(FailureClass::Agent)));
}

/// A hostile `collect`: makes a bundle by hand in a clone of the remote.
async fn forged(make: impl FnOnce(&World, &Path) -> String) -> RunResult {
    let world = worked(change).await;
    let clone = world.home.path().join("forge");
    git(world.home.path(), &["clone", "-q", world.remote().to_str().unwrap(), "forge"]);
    let bundle = world.run.path(BUNDLE);
    fs::remove_file(&bundle).unwrap();
    let range = make(&world, &clone);
    if !bundle.exists() && fs::symlink_metadata(&bundle).is_err() {
        git(&clone, &["update-ref", "refs/heads/work", "HEAD"]);
        let mut arguments = vec!["bundle", "create", "-q", bundle.to_str().unwrap(), "refs/heads/work"];
        arguments.extend(range.split_whitespace());
        git(&clone, &arguments);
    }
    let result = delivered(&world).await;
    assert_eq!(result.branch, None, "{}", result.reason);
    assert!(!refs(&world).contains(&BRANCH.to_owned()));
    result
}

/// The commit that `collect` would make of this tree, by hand.
fn forge_commit(world: &World, clone: &Path, tree: &str, parent: &str) {
    let text = commit_text(world, tree, parent);
    fs::write(clone.join("commit"), text).unwrap();
    let commit = git(clone, &["hash-object", "-t", "commit", "-w", "--literally", "commit"]);
    git(clone, &["update-ref", "HEAD", &commit]);
}

fn commit_text(world: &World, tree: &str, parent: &str) -> String {
    crate::domain::commit::object(&world.plan, tree, parent, 1_700_000_000)
}

#[tokio::test]
async fn a_commit_that_is_not_ours_is_refused() {
    let commit = |clone: &Path| git(clone, &["commit", "-q", "--allow-empty", "-m", "mine"]);
    let result = forged(|_, clone| {
        commit(clone);
        "^main~1".replace("main~1", "origin/main")
    })
    .await;
    assert_eq!((result.outcome, result.findings[0].rule.as_str()), (RunOutcome::Refused, gate::rule::COMMIT));

    // Ours in form, but on another commit than the prepared one.
    let result = forged(|world, clone| {
        let tree = git(clone, &["rev-parse", "HEAD^{tree}"]);
        commit(clone);
        let parent = git(clone, &["rev-parse", "HEAD"]);
        forge_commit(world, clone, &tree, &parent);
        "^origin/main".into()
    })
    .await;
    assert_eq!((result.outcome, result.findings[0].rule.as_str()), (RunOutcome::Refused, gate::rule::COMMIT));
}

#[tokio::test]
async fn a_submodule_is_refused() {
    let result = forged(|world, clone| {
        let head = git(clone, &["rev-parse", "HEAD"]);
        git(clone, &["update-index", "--add", "--cacheinfo", &format!("160000,{head},sub")]);
        let tree = git(clone, &["write-tree"]);
        forge_commit(world, clone, &tree, &head);
        "^origin/main".into()
    })
    .await;
    assert_eq!((result.outcome, result.findings[0].rule.as_str()), (RunOutcome::Refused, gate::rule::MODE));
}

#[tokio::test]
async fn bundles_that_are_not_ours_are_not_opened() {
    let reason = |result: RunResult| {
        assert_eq!((result.outcome, result.class), (RunOutcome::Failed, Some(FailureClass::Agent)));
        result.reason
    };
    let file = |make: fn(&Path)| {
        forged(move |world, _| {
            make(&world.run.path(BUNDLE));
            String::new()
        })
    };
    let garbage = file(|bundle| fs::write(bundle, "garbage").unwrap()).await;
    assert_eq!(reason(garbage), "the bundle is not one of ours: it has no head of version 2");
    let link = file(|bundle| symlink("/etc/passwd", bundle).unwrap()).await;
    assert_eq!(
        reason(link),
        "the bundle of the work cannot be opened: collect/work.bundle is a link, not a regular file"
    );
    let sparse = file(|bundle| fs::File::create(bundle).unwrap().set_len(10 << 30).unwrap()).await;
    assert!(reason(sparse).contains("10737418240 bytes; at most 134217728 are read"));
    let whole = forged(|_, clone| {
        git(clone, &["commit", "-q", "--allow-empty", "-m", "mine"]);
        String::new()
    })
    .await;
    assert_eq!(reason(whole), "the bundle is not one of ours: it does not stand on the prepared commit");
    let more = forged(|_, clone| {
        git(clone, &["commit", "-q", "--allow-empty", "-m", "mine"]);
        git(clone, &["update-ref", "refs/heads/more", "HEAD"]);
        "refs/heads/more ^origin/main".into()
    })
    .await;
    assert_eq!(reason(more), "the bundle is not one of ours: it does not bring exactly the work");
}

#[tokio::test]
async fn unsound_objects_are_not_taken() {
    // A tree with a component that Git never makes.
    let result = forged(|world, clone| {
        let head = git(clone, &["rev-parse", "HEAD"]);
        let blob = git(clone, &["rev-parse", "HEAD:README.md"]);
        let mut tree = b"100644 ..\0".to_vec();
        tree.extend(hex::decode(blob).unwrap());
        fs::write(clone.join("tree"), tree).unwrap();
        let tree = git(clone, &["hash-object", "-t", "tree", "-w", "--literally", "tree"]);
        forge_commit(world, clone, &tree, &head);
        "^origin/main".into()
    })
    .await;
    assert_eq!((result.outcome, result.class), (RunOutcome::Failed, Some(FailureClass::Agent)));
    assert!(result.reason.starts_with("the bundle's objects are not sound: "), "{}", result.reason);
    assert!(result.reason.contains("hasDotdot"), "{}", result.reason);

    // A pack without an object that its tree needs.
    let result = forged(|world, clone| {
        let whole = world.run.path(BUNDLE);
        let head = git(clone, &["rev-parse", "HEAD"]);
        let tree_text = format!("100644 blob {}\tmissing\n", "1".repeat(40));
        fs::write(clone.join("tree-text"), tree_text).unwrap();
        let tree = std::process::Command::new("git")
            .args(["mktree", "--missing"])
            .current_dir(clone)
            .stdin(fs::File::open(clone.join("tree-text")).unwrap())
            .output()
            .unwrap();
        let tree = String::from_utf8(tree.stdout).unwrap();
        fs::write(clone.join("commit"), commit_text(world, tree.trim(), &head)).unwrap();
        let commit = git(clone, &["hash-object", "-t", "commit", "-w", "--literally", "commit"]);
        fs::write(clone.join("ids"), format!("{commit}\n{}", tree.trim())).unwrap();
        let pack = std::process::Command::new("git")
            .args(["pack-objects", "--stdout", "-q"])
            .current_dir(clone)
            .stdin(fs::File::open(clone.join("ids")).unwrap())
            .output()
            .unwrap();
        let mut bundle = format!("# v2 git bundle\n-{head} base\n{commit} refs/heads/work\n\n").into_bytes();
        bundle.extend(pack.stdout);
        fs::write(whole, bundle).unwrap();
        String::new()
    })
    .await;
    assert_eq!((result.outcome, result.class), (RunOutcome::Failed, Some(FailureClass::Agent)));
}

#[tokio::test]
async fn a_claim_of_success_is_worth_nothing_without_the_work() {
    let world = worked(|_| {}).await;
    let mut claim: CollectReport = world.run.read(COLLECT_REPORT).unwrap().unwrap();
    claim.commit = Some("1".repeat(40));
    world.run.write(COLLECT_REPORT, &claim).unwrap();
    let result = delivered(&world).await;
    assert_eq!((result.outcome, result.class), (RunOutcome::Failed, Some(FailureClass::Agent)));
    assert_eq!(result.reason, "the bundle of the work is missing");
}

#[tokio::test]
async fn without_a_plan_there_is_no_delivery() {
    let world = World::new();
    fs::remove_file(world.run.path(PLAN)).unwrap();
    let error = deliver(&world.run, None, pending()).await.unwrap_err();
    assert_eq!(error.downcast_ref::<UserError>().unwrap().exit, Exit::Usage);
}

#[test]
fn the_termination_message_fits() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("termination-log");
    let long = RunResult { summary: "s".repeat(9_000), ..sample() };
    write_termination_message(&file, &long).unwrap();
    let read: RunResult = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert!(fs::metadata(&file).unwrap().len() <= 4096);
    assert!(!read.complete);
}

fn sample() -> RunResult {
    let world = World::new();
    let ready = Ready {
        delivery: None,
        ending: RunEnding::refused("x"),
        findings: vec![],
        commit: None,
        is_secret: false,
    };
    document::result(&world.plan, &Reports::default(), &ready, Duration::ZERO)
}
