//! From an event to a pull request: the real program, real Git over HTTP, and a stand-in for GitHub whose
//! requests are held to GitHub's own description of its API.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use astra_dispatch::adapters::github::GitHub;
use astra_dispatch::adapters::github::app_token::Tokens;
use astra_dispatch::adapters::github::pulls::Pulls;
use astra_dispatch::domain::name::RunId;
use astra_dispatch::domain::publish::github::{Opened, Reviewed, review_mark};
use astra_dispatch::domain::publish::{PullRequestDraft, ReviewDraft, ReviewEvent};
use astra_dispatch::domain::result::{FailureClass, RunResult};
use base64::Engine;
use serde_json::{Value, json};

#[path = "support/git_server.rs"]
mod git_server;
#[path = "support/github_fake.rs"]
mod github_fake;
#[path = "support/site.rs"]
mod site;

use github_fake::{Fault, GitHubFake, TOKEN};
use site::{Site, text};

const WORK: &str =
    "echo more >> README.md; echo 'Said <b>more</b>, @ada. Closes #1.' > $RUN_OUTPUT_DIR/summary.md";
const REVIEW: &str = r#"printf '{"verdict":"request_changes","summary":"Look.","comments":[{"path":"README.md","line":1,"side":"RIGHT","body":"why?"}]}' > "$RUN_OUTPUT_DIR/review.json""#;

/// A site, and a GitHub with its repository.
struct Forge {
    site: Site,
    github: GitHubFake,
}

impl Forge {
    async fn new(script: &str) -> Self {
        let site = Site::new(script, 1);
        site.git(&["--git-dir", "git/astra/api.git", "config", "http.receivepack", "true"]);
        let github = GitHubFake::start(site.path("git")).await;
        Self { site, github }
    }

    async fn run(&self, arguments: &[&str], token: Option<&str>) -> (Option<i32>, String, String) {
        let mut command = tokio::process::Command::from(self.site.command(arguments));
        command.env("ASTRA_GIT_BASE_URL", &self.github.url).env("ASTRA_EXECUTOR", "local");
        command.envs(token.map(|token| ("GITHUB_TOKEN", token)));
        let output = command.output().await.unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        let (code, stdout, stderr) =
            self.run(&[arguments, &["--format", "json"]].concat(), Some(TOKEN)).await;
        assert_eq!(code, Some(0), "{arguments:?}: {stderr}");
        serde_json::from_str(&stdout).unwrap()
    }

    async fn dispatch(&self, event: &str) -> Value {
        self.json(&["dispatch", "--event", event]).await
    }

    /// Lets the request after so many more fail.
    fn fails(&self, position: usize, fault: Fault) {
        self.github.world(|world| {
            world.faults.resize(world.faults.len() + position, Fault::Nothing);
            world.faults.push(fault);
        });
    }

    fn told(&self, run: &str) -> Value {
        let told = std::fs::read(self.site.path(&format!("state/runs/{run}/publish/told.json"))).unwrap();
        serde_json::from_slice(&told).unwrap()
    }
}

#[tokio::test]
async fn a_run_becomes_one_pull_request() {
    let forge = Forge::new(WORK).await;
    let event = forge.site.event(1, 1, &json!({}));
    let report = forge.dispatch(&event).await;
    let run = report["run"].as_str().unwrap();
    assert_eq!(report["result"]["outcome"], "changed", "{report:#}");
    let (pull, labels) = forge.github.world(|world| {
        assert_eq!(world.pulls.len(), 1);
        (world.pulls[0].clone(), world.labels[&1].clone())
    });
    assert_eq!(
        (pull["head"]["ref"].as_str(), pull["base"]["ref"].as_str()),
        (Some(&*format!("astra/{run}")), Some("main"))
    );
    assert_eq!(pull["draft"], false);
    assert_eq!(labels, [json!("astra"), json!("agent:vega")]);
    let body = pull["body"].as_str().unwrap();
    assert!(!body.contains("<b>") && !body.contains("@ada") && !body.contains("Closes #1"), "{body}");
    assert_eq!(forge.told(run)["pull_request"]["there"]["number"], 1);
    assert_eq!(forge.github.world(|world| world.requests.len()), 3, "looked for, opened, labelled");
    let again = forge.json(&["publish"]).await;
    assert_eq!(again["published"], json!([]));
    assert_eq!(forge.github.world(|world| (world.pulls.len(), world.requests.len())), (1, 3));
}

#[tokio::test]
async fn what_passes_is_waited_out_and_it_is_one_pull_request() {
    let forge = Forge::new(WORK).await;
    let mut number = 0;
    for fault in [Fault::Answer(500), Fault::Answer(429), Fault::ActThenFail] {
        for position in 0..3 {
            number += 1;
            forge.fails(position, fault);
            let report = forge.dispatch(&forge.site.event(number, 1, &json!({}))).await;
            let pull = &forge.told(report["run"].as_str().unwrap())["pull_request"]["there"];
            assert_eq!(pull["number"], number, "{fault:?} at {position}");
            let counts =
                forge.github.world(|world| (world.pulls.len(), world.labels.len(), world.faults.len()));
            let expected = usize::try_from(number).unwrap();
            assert_eq!(counts, (expected, expected, 0), "{fault:?} at {position}");
        }
    }
}

#[tokio::test]
async fn what_somebody_must_mend_is_said_and_done_once_it_is_mended() {
    let forge = Forge::new(WORK).await;
    // Where it fails for the supervisor, and for the dispatcher that waits for it.
    for (number, fault, positions, remedy) in [
        (1, Fault::Answer(401), [0, 0], "check GITHUB_TOKEN"),
        // It is open by then: the second looks, finds it and has the labels left.
        (2, Fault::Answer(401), [2, 1], "check GITHUB_TOKEN"),
        (3, Fault::Answer(403), [0, 0], "write access"),
        (4, Fault::Answer(403), [1, 1], "write access"),
        (5, Fault::Answer(404), [0, 0], "has access to it"),
        (6, Fault::Answer(307), [0, 0], "the repository's new name"),
    ] {
        for position in positions {
            forge.fails(position, fault);
        }
        let event = forge.site.event(number, 1, &json!({}));
        let (code, stdout, stderr) =
            forge.run(&["dispatch", "--event", &event, "--format", "json"], Some(TOKEN)).await;
        assert_eq!(code, Some(75), "{fault:?}: {stderr}");
        assert!(stderr.contains(remedy) && stderr.contains("then run `astra-dispatch publish`"), "{stderr}");
        let report: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(report["result"]["outcome"], "changed");
        forge.github.world(|world| world.faults.clear());
        let again = forge.json(&["publish"]).await;
        assert_eq!(again["published"][0]["run"], report["run"], "{fault:?}");
        assert_eq!(again["published"][0]["url"], format!("https://github.com/astra/api/pull/{number}"));
    }
    let count = forge.github.world(|world| (world.pulls.len(), world.labels.len()));
    assert_eq!(count, (6, 6));
}

#[tokio::test]
async fn a_pull_request_without_labels_is_one() {
    let forge = Forge::new(WORK).await;
    forge.fails(2, Fault::Answer(403));
    forge.dispatch(&forge.site.event(1, 1, &json!({}))).await;
    assert_eq!(forge.github.world(|world| (world.pulls.len(), world.labels.len())), (1, 0));
}

#[tokio::test]
async fn what_became_of_a_pull_request_stays() {
    for (state, merged_at, told) in
        [("closed", Value::Null, "closed"), ("closed", json!("2026-11-25T10:00:00Z"), "merged")]
    {
        let forge = Forge::new(WORK).await;
        // It was opened by somebody who died, and somebody else was quick.
        forge.fails(0, Fault::Answer(401));
        forge.fails(0, Fault::Answer(401));
        let event = forge.site.event(1, 1, &json!({}));
        let (code, ..) = forge.run(&["dispatch", "--event", &event], Some(TOKEN)).await;
        assert_eq!(code, Some(75));
        let report = forge.json(&["status"]).await;
        assert_eq!(report["runs"].as_array().map(Vec::len), Some(1), "{report:#}");
        let run = report["runs"][0]["run"].as_str().unwrap().to_owned();
        forge.github.world(|world| {
            world.pulls.push(json!({
                "number": 1, "state": state, "merged_at": merged_at, "draft": false,
                "html_url": "https://github.com/astra/api/pull/1",
                "head": {"ref": format!("astra/{run}")},
                "base": {"ref": "main", "repo": {"full_name": "astra/api"}},
            }));
        });
        let published = forge.json(&["publish"]).await;
        assert_eq!(published["published"][0]["url"], "https://github.com/astra/api/pull/1");
        assert_eq!(forge.told(&run)["pull_request"]["there"]["state"], told);
        assert_eq!(forge.github.world(|world| (world.pulls.len(), world.labels.len())), (1, 0));
    }
}

#[tokio::test]
async fn a_branch_that_is_gone_is_no_pull_request() {
    let forge = Forge::new(WORK).await;
    forge.fails(0, Fault::Answer(401));
    forge.fails(0, Fault::Answer(401));
    let event = forge.site.event(1, 1, &json!({}));
    forge.run(&["dispatch", "--event", &event], Some(TOKEN)).await;
    forge.github.world(|world| world.faults.clear());
    let status = forge.json(&["status"]).await;
    let run = status["runs"][0]["run"].as_str().unwrap().to_owned();
    forge.site.git(&[
        "--git-dir",
        "git/astra/api.git",
        "update-ref",
        "-d",
        &format!("refs/heads/astra/{run}"),
    ]);
    forge.json(&["publish"]).await;
    assert_eq!(forge.told(&run)["pull_request"]["never"], format!("the branch astra/{run} is gone"));
}

#[tokio::test]
async fn partial_work_is_a_draft_where_there_are_drafts() {
    for has_drafts in [true, false] {
        let forge = Forge::new(WORK).await;
        forge.site.git(&["-C", "work", "checkout", "--quiet", "-b", "astra/ast-1-bbbbb"]);
        let author = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"];
        let commit = ["commit", "--quiet", "--allow-empty", "-m", "More"];
        forge.site.git(&[["-C", "work"].as_slice(), &author, &commit].concat());
        forge.site.git(&["-C", "work", "push", "--quiet", "../git/astra/api.git", "astra/ast-1-bbbbb"]);
        forge.github.world(|world| world.has_drafts = has_drafts);
        let pulls = Pulls::new(
            GitHub::new(&format!("{}/api/v3", forge.github.url)).unwrap(),
            Tokens::Given(TOKEN.to_owned().into()),
        );
        let draft = PullRequestDraft {
            repository: "astra/api".parse().unwrap(),
            head: "astra/ast-1-bbbbb".parse().unwrap(),
            head_commit: None,
            base: "main".parse().unwrap(),
            title: "AST-1: half".into(),
            body: "It ran out of time.".into(),
            draft: true,
            labels: vec!["astra".into()],
        };
        for _ in 0..2 {
            assert!(matches!(pulls.open(&draft).await.unwrap(), Opened::There(_)));
        }
        let pulls = forge.github.world(|world| world.pulls.clone());
        assert_eq!((pulls.len(), pulls[0]["draft"].as_bool()), (1, Some(has_drafts)));
    }
}

#[tokio::test]
async fn a_review_is_written_once() {
    let forge = Forge::new(REVIEW).await;
    let repository = forge.site.path("git/astra/api.git").display().to_string();
    for number in 1..=3 {
        forge.site.git(&[
            "--git-dir",
            &repository,
            "update-ref",
            &format!("refs/pull/{number}/head"),
            "main",
        ]);
    }
    let open = |number: u64| {
        json!({"number": number, "state": "open", "head": {"ref": "x"},
               "base": {"ref": "main", "repo": {"full_name": "astra/api"}}})
    };
    forge.github.world(|world| world.pulls.extend([open(1), open(2)]));
    let task = |number: u64| {
        let text = format!("<p>Pull request: #{number}</p>");
        let event = json!({"labels": [{"id": "x", "name": "agent:reviewer"}], "description_html": text});
        forge.site.event(number, 1, &event)
    };

    // The first answer is lost.
    forge.fails(1, Fault::ActThenFail);
    let report = forge.dispatch(&task(1)).await;
    let run = report["run"].as_str().unwrap();
    let reviews = forge.github.world(|world| world.reviews[&1].clone());
    assert_eq!((reviews.len(), reviews[0]["event"].as_str()), (1, Some("REQUEST_CHANGES")));
    assert_eq!(reviews[0]["comments"][0]["line"], 1);
    assert!(
        reviews[0]["body"]
            .as_str()
            .unwrap()
            .trim_end()
            .ends_with(&format!("<!-- astra-dispatch run {run} -->"))
    );
    let page = "https://github.com/astra/api/pull/1#pullrequestreview-1";
    assert_eq!(forge.told(run)["review"]["there"], page);

    // Nobody may ask for changes of what is their own.
    forge.github.world(|world| world.is_own = true);
    forge.dispatch(&task(2)).await;
    let reviews = forge.github.world(|world| world.reviews[&2].clone());
    assert_eq!((reviews.len(), reviews[0]["event"].as_str()), (1, Some("COMMENT")));

    // A pull request that is gone.
    let report = forge.dispatch(&task(3)).await;
    let told = forge.told(report["run"].as_str().unwrap());
    assert_eq!(told["review"]["never"], "astra/api has no pull request #3");
}

#[tokio::test]
async fn only_our_own_review_is_taken_for_ours_however_many_there_are() {
    let forge = Forge::new(REVIEW).await;
    let run: RunId = "ast-1-bbbbb".parse().unwrap();
    let strangers = |mark: &str| json!({"body": mark, "user": {"login": "mallory", "type": "User"}});
    forge.github.world(|world| {
        world.pulls.push(json!({"number": 1}));
        let mut reviews = vec![strangers("x"); 1_050];
        reviews.push(strangers(&review_mark(&run)));
        world.reviews.insert(1, reviews);
        // After eleven pages, and the look at who we are: the answer to the review is lost.
        world.faults = vec![Fault::Nothing; 12];
        world.faults.push(Fault::ActThenFail);
    });
    let draft = ReviewDraft {
        repository: "astra/api".parse().unwrap(),
        pull_request: 1,
        commit: None,
        event: ReviewEvent::Comment,
        body: review_mark(&run),
        comments: Vec::new(),
    };
    let github = GitHub::new(&format!("{}/api/v3", forge.github.url)).unwrap();
    let pulls = Pulls::new(github, Tokens::Given(TOKEN.into()));
    for _ in 0..2 {
        assert!(matches!(pulls.review(&run, &draft).await.unwrap(), Reviewed::There(Some(_))));
        assert_eq!(forge.github.world(|world| world.reviews[&1].len()), 1_052);
    }
    // Whose token says only that it is some App's.
    forge.github.world(|world| {
        world.there.remove("/user");
        world.reviews.get_mut(&1).unwrap()[1_051]["user"]["type"] = json!("Bot");
        world.faults = vec![Fault::Nothing; 11];
        world.faults.push(Fault::Answer(403));
    });
    pulls.review(&run, &draft).await.unwrap();
    assert_eq!(forge.github.world(|world| world.reviews[&1].len()), 1_052);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_branch_of_a_cancelled_run_goes_unless_somebody_made_a_pull_request_of_it() {
    let forge = Forge::new("sleep 600").await;
    let event = forge.site.event(1, 1, &json!({}));
    let report = forge.json(&["dispatch", "--event", &event, "--detach"]).await;
    let run: RunId = report["run"].as_str().unwrap().parse().unwrap();
    // It pushed in the moment in which it was stopped.
    let commit = forge.site.git(&["-C", "work", "rev-parse", "HEAD"]);
    let mut result = RunResult::without_work(run.clone(), FailureClass::Cancelled, "stopped");
    result.head = Some(commit);
    forge.site.write("work/result.json", &serde_json::to_string(&result).unwrap());
    forge.site.git(&["-C", "work", "add", "--all"]);
    let author = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"];
    forge.site.git(&[&["-C", "work"], author.as_slice(), &["commit", "--quiet", "-m", "Result"]].concat());
    let refs = [format!("HEAD~1:refs/heads/{}", run.branch()), format!("HEAD:{}", run.result_ref())];
    let push = ["-C", "work", "push", "--quiet", "../git/astra/api.git", &refs[0], &refs[1]];
    forge.site.git(&push);
    forge.json(&["sweep"]).await;
    let branches = || forge.site.git(&["--git-dir", "git/astra/api.git", "branch", "--list", "astra/*"]);
    assert!(branches().contains(run.as_str()), "it lives");

    forge.run(&["cancel", run.as_str()], Some(TOKEN)).await;
    tokio::task::block_in_place(|| {
        forge.site.wait_for("the end", |status| site::runs_in(status, "published") == 1);
    });
    forge.github.world(|world| {
        world.pulls.push(json!({"number": 1, "state": "open", "head": {"ref": run.branch()},
            "html_url": "https://github.com/astra/api/pull/1", "base": {"repo": {"full_name": "astra/api"}}}));
    });
    assert_eq!(forge.json(&["sweep"]).await["actions"], json!([]));
    assert!(branches().contains(run.as_str()));

    forge.github.world(|world| world.pulls.clear());
    let swept = forge.json(&["sweep"]).await;
    assert_eq!(swept["counts"], json!({"branch_removed": 1}), "{swept:#}");
    assert_eq!((&swept["actions"][0]["run"], branches()), (&json!(run), String::new()));
    assert_eq!(forge.json(&["sweep"]).await["actions"], json!([]));
}

#[tokio::test]
async fn a_step_shows_what_it_did() {
    let forge = Forge::new(WORK).await;
    let step = async |arguments: &[&str]| {
        let files = ["output", "summary"].map(|name| forge.site.path(name));
        files.iter().for_each(|file| drop(std::fs::remove_file(file)));
        let mut command = tokio::process::Command::from(forge.site.command(arguments));
        command.env("ASTRA_GIT_BASE_URL", &forge.github.url).env("ASTRA_EXECUTOR", "local");
        command.env("GITHUB_TOKEN", TOKEN);
        command.env("GITHUB_OUTPUT", &files[0]).env("GITHUB_STEP_SUMMARY", &files[1]);
        command.output().await.unwrap();
        files.map(|file| std::fs::read_to_string(file).unwrap_or_default())
    };
    // The supervisor and the dispatcher that waits for it cannot sign in.
    forge.github.world(|world| world.faults = vec![Fault::Answer(401); 2]);
    let event = forge.site.event(1, 1, &json!({}));
    let [output, summary] = step(&["dispatch", "--event", &event]).await;
    assert!(output.contains("outcome<<") && output.contains("\ndispatched\n"), "{output}");
    assert!(summary.contains("| Vega · Coder · Fast |") && summary.contains("chosen"), "{summary}");
    let [output, summary] = step(&["publish"]).await;
    let run = forge.site.status()["runs"][0]["run"].as_str().unwrap().to_owned();
    assert!(output.contains("pull-request<<") && output.contains(&format!("\n{run}\n")), "{output}");
    let row = format!("| {run} | [#1](<https://github.com/astra/api/pull/1>) |");
    assert!(summary.contains(&row), "{summary}");
    let [output, summary] = step(&["sweep"]).await;
    assert!(output.contains("unannounced<<") && !output.contains("json<<"), "{output}");
    assert_eq!(summary, "0 work items and 1 runs were looked at: nothing was to be done.\n\n");
}

#[tokio::test]
async fn a_remark_on_a_line_that_is_not_there_stays_said() {
    let forge = Forge::new(&REVIEW.replace(r#""line":1"#, r#""line":5000"#)).await;
    forge.site.git(&["--git-dir", "git/astra/api.git", "update-ref", "refs/pull/1/head", "main"]);
    forge.github.world(|world| {
        world.pulls.push(json!({"number": 1, "state": "open", "head": {"ref": "x"},
                                "base": {"ref": "main", "repo": {"full_name": "astra/api"}}}));
    });
    let task = json!({"labels": [{"id": "x", "name": "agent:reviewer"}], "description_html": "<p>Pull request: #1</p>"});
    let report = forge.dispatch(&forge.site.event(1, 1, &task)).await;
    assert_eq!(report["result"]["outcome"], "review", "{report:#}");
    let reviews = forge.github.world(|world| world.reviews[&1].clone());
    assert_eq!(reviews.len(), 1);
    assert!(reviews[0]["body"].as_str().unwrap().contains("why?"), "{}", reviews[0]["body"]);
}

#[tokio::test]
async fn without_a_token_or_where_nobody_wants_it_pull_requests_stay_files() {
    let forge = Forge::new(WORK).await;
    forge.site.git(&["--git-dir", "git/astra/api.git", "config", "http.receivepack", "true"]);
    let event = forge.site.event(1, 1, &json!({}));
    let arguments = ["dispatch", "--event", &event, "--no-github", "--format", "json"];
    let (code, stdout, stderr) = forge.run(&arguments, Some(TOKEN)).await;
    assert_eq!(code, Some(0), "{stderr}");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    let run = report["run"].as_str().unwrap();
    let page = forge.site.path(&format!("state/runs/{run}/publish/plan.md"));
    assert!(page.exists(), "{}", page.display());
    assert_eq!(forge.github.world(|world| world.requests.len()), 0);
}

/// The program where the registry's repository is `astra/ops`.
async fn of_ops(forge: &Forge, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = tokio::process::Command::from(forge.site.command(arguments));
    command.env("ASTRA_GIT_BASE_URL", &forge.github.url).env("ASTRA_EXECUTOR", "local");
    command.env("GITHUB_TOKEN", TOKEN).env("GITHUB_REPOSITORY", "astra/ops");
    let output = command.output().await.unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn every_published_run_is_in_the_run_log_once() {
    let forge = Forge::new(&format!("{WORK}; echo Thinking aloud.")).await;
    let private = |is: bool| {
        forge.github.world(|world| world.there.insert("/repos/astra/ops".into(), json!({"private": is})));
    };
    private(true);
    // Others move the branch under it, and an answer is lost.
    for (number, faults) in [(1, vec![]), (2, vec![Fault::Answer(409); 3]), (3, vec![Fault::ActThenFail])] {
        // After the pull request (three requests) and the look at the repository.
        forge.github.world(|world| {
            world.faults = vec![Fault::Nothing; 4];
            world.faults.extend(faults);
        });
        let event = forge.site.event(number, 1, &json!({}));
        let (code, _, stderr) = of_ops(&forge, &["dispatch", "--event", &event]).await;
        assert_eq!(code, Some(0), "{stderr}");
        let logged = forge.github.world(|world| world.log.clone().unwrap());
        assert_eq!(logged.len(), 2 * usize::try_from(number).unwrap(), "{logged:#?}");
        let [transcript, document] = &logged[logged.len() - 2..] else { panic!("{logged:#?}") };
        let printed = base64::engine::general_purpose::STANDARD.decode(&transcript.1).unwrap();
        assert!(text(&printed).contains("Thinking aloud."), "{transcript:#?}");
        assert_eq!(transcript.0.strip_suffix(".log"), document.0.strip_suffix(".json"));
    }
    let (code, stdout, stderr) = of_ops(&forge, &["status", "--history", "2", "--format", "json"]).await;
    assert_eq!(code, Some(0), "{stderr}");
    let history: Value = serde_json::from_str(&stdout).unwrap();
    let runs = history["runs"].as_array().unwrap();
    assert_eq!(runs[0]["task"], "AST-3");
    assert_eq!(runs.len(), 2);
    let first = &runs[0];
    assert!(first["transcript"].as_str().unwrap().ends_with(".log"), "{first:#}");
    assert_eq!((&first["agent"], &first["outcome"]), (&json!("vega"), &json!("changed")));
    let kinds: Vec<&str> =
        first["writes"].as_array().unwrap().iter().map(|write| write["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["branch", "pull_request"]);
    let schema: Value = serde_json::from_str(include_str!("../fixtures/schema/run.json")).unwrap();
    for run in runs {
        assert!(jsonschema::is_valid(&schema, run), "{run:#}");
    }
    let (_, table, _) = of_ops(&forge, &["status", "--history"]).await;
    assert!(table.contains("https://github.com/astra/api/pull/3"), "{table}");

    // Not where everybody reads it, unless somebody allows that.
    private(false);
    let event = forge.site.event(4, 1, &json!({}));
    let (code, _, stderr) = of_ops(&forge, &["dispatch", "--event", &event]).await;
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(forge.github.world(|world| world.log.as_ref().unwrap().len()), 6);
}

#[tokio::test]
async fn who_cannot_sign_in_leaves_a_pull_request_to_who_can() {
    let forge = Forge::new(WORK).await;
    forge.fails(0, Fault::Answer(401));
    forge.fails(0, Fault::Answer(401));
    let event = forge.site.event(1, 1, &json!({}));
    forge.run(&["dispatch", "--event", &event], Some(TOKEN)).await;
    let (code, _, stderr) = forge.run(&["publish"], None).await;
    assert_eq!(code, Some(75), "{stderr}");
    assert!(stderr.contains("no way to sign in to GitHub"), "{stderr}");
    let published = forge.json(&["publish"]).await;
    assert_eq!(published["published"][0]["url"], "https://github.com/astra/api/pull/1");
}
