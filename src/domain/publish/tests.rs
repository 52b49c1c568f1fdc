use super::github::{Opened, PullRequest, PullRequestState};
use super::*;
use crate::domain::result::{
    Durations, FailureClass, Finding, LineComment, RESULT_VERSION, RunOutcome, Tokens,
};

pub(crate) fn subject() -> Subject {
    Subject {
        run: "ast-1-x7k2p".parse().unwrap(),
        attempt: 1,
        task: "AST-1".parse().unwrap(),
        item: ItemId(uuid::Uuid::from_u128(1)),
        project: ProjectId(uuid::Uuid::from_u128(2)),
        item_url: "https://plane.example.com/astra/browse/AST-1/".to_owned(),
        title: "Add a health endpoint".to_owned(),
        repository: "astra/api".parse().unwrap(),
        base: "main".parse().unwrap(),
        pull_request: None,
        agent: "vega".parse().unwrap(),
        role: "coder".parse().unwrap(),
        trait_: Trait::Thorough,
        registry: RegistryStamp { ordinal: 0, hash: "sha256:00ff".to_owned() },
        decision: vec![
            considered("vega", true, "score 8: kotlin (label)"),
            considered("rigel", false, "repository: may not work in astra/api"),
        ],
    }
}

fn considered(agent: &str, chosen: bool, why: &str) -> Considered {
    Considered { agent: agent.parse().unwrap(), chosen, why: why.to_owned() }
}

fn result(outcome: RunOutcome) -> RunResult {
    let run: RunId = "ast-1-x7k2p".parse().unwrap();
    RunResult {
        version: RESULT_VERSION,
        outcome,
        partial: false,
        branch: (outcome == RunOutcome::Changed).then(|| run.branch()),
        head: (outcome == RunOutcome::Changed).then(|| "b".repeat(40)),
        run,
        base: Some("a".repeat(40)),
        summary: "Added `GET /health`.\n\n- with a test".to_owned(),
        review: None,
        tokens: Tokens { input: 12_000, output: 900, cache_read: 50_000, cache_write: 0 },
        cost_usd: Some(0.4249),
        durations: Durations { prepare: 1.0, agent: 180.0, collect: 1.0, deliver: 2.0 },
        model: Some("claude-sonnet-5".to_owned()),
        class: None,
        reason: "done".to_owned(),
        findings: Vec::new(),
        complete: true,
    }
}

fn states() -> States {
    States { started: Some("In Progress".to_owned()), review: Some("In Review".to_owned()), failed: None }
}

fn page(subject: &Subject, ending: Ending<'_>) -> String {
    plan(subject, ending, &states()).to_markdown()
}

#[test]
fn a_change_becomes_a_pull_request() {
    insta::assert_snapshot!(page(&subject(), Ending::Result(&result(RunOutcome::Changed))));
}

#[test]
fn without_a_plane_nothing_links_to_it() {
    let item_url = format!("https://{NO_PLANE}/shop/browse/AST-1/");
    let page = page(&Subject { item_url, ..subject() }, Ending::Result(&result(RunOutcome::Changed)));
    assert!(page.contains("worked on AST-1: ") && !page.contains(NO_PLANE), "{page}");
}

#[test]
fn no_change_is_said_in_plane_only() {
    insta::assert_snapshot!(page(&subject(), Ending::Result(&result(RunOutcome::NoChange))));
}

#[test]
fn a_review_never_approves() {
    let mut subject = subject();
    subject.pull_request = Some(17);
    for (verdict, event) in [
        (Verdict::Approve, ReviewEvent::Comment),
        (Verdict::Comment, ReviewEvent::Comment),
        (Verdict::RequestChanges, ReviewEvent::RequestChanges),
    ] {
        let comments = vec![LineComment {
            path: "src/lib.rs".to_owned(),
            line: 3,
            side: Side::Right,
            body: "Off by one, @octocat".to_owned(),
        }];
        let review = Review { verdict, summary: "Nearly there.".to_owned(), comments };
        let result = RunResult { review: Some(review), ..result(RunOutcome::Review) };
        let plan = plan(&subject, Ending::Result(&result), &states());
        assert_eq!(plan.review.as_ref().unwrap().event, event);
        assert!(plan.pull_request.is_none());
        if verdict == Verdict::RequestChanges {
            insta::assert_snapshot!(plan.to_markdown());
        }
    }
}

#[test]
fn refused_work_names_the_rule() {
    let finding = Finding {
        rule: "secret".to_owned(),
        path: Some("src/<b>.rs".to_owned()),
        line: Some(4),
        message: "a GitHub token".to_owned(),
    };
    let result = RunResult {
        class: Some(FailureClass::Policy),
        reason: "the gate found a secret".to_owned(),
        findings: vec![finding],
        ..result(RunOutcome::Refused)
    };
    insta::assert_snapshot!(page(&subject(), Ending::Result(&result)));
}

#[test]
fn partial_work_becomes_a_draft() {
    let whole = result(RunOutcome::Changed);
    let late = RunResult {
        outcome: RunOutcome::TimedOut,
        partial: true,
        class: Some(FailureClass::Agent),
        reason: "30 minutes were over".to_owned(),
        ..whole
    };
    let plan = plan(&subject(), Ending::Result(&late), &states());
    assert!(plan.pull_request.as_ref().unwrap().draft);
    insta::assert_snapshot!(plan.to_markdown());
}

#[test]
fn each_failure_class_has_a_sentence_and_a_next_step() {
    let classes = [
        FailureClass::Infrastructure,
        FailureClass::Agent,
        FailureClass::Policy,
        FailureClass::Credentials,
        FailureClass::Task,
        FailureClass::Cancelled,
    ];
    let comments = classes.map(|class| {
        let failure = JobFailure { class, reason: "the reason <i>".to_owned() };
        plan(&subject(), Ending::Failure(&failure), &states()).tracker.unwrap().comment_html
    });
    insta::assert_snapshot!(comments.join("\n"));
}

#[test]
fn cancelled_and_replaced_runs_open_nothing() {
    for reason in [CancelReason::Unwanted, CancelReason::Person] {
        let plan = plan(&subject(), Ending::Cancelled(reason), &states());
        assert!(plan.pull_request.is_none());
        assert!(plan.tracker.is_some());
    }
    let replaced = plan(&subject(), Ending::Cancelled(CancelReason::Replaced), &states());
    assert_eq!((replaced.pull_request, replaced.tracker), (None, None));
}

#[test]
fn outcomes_become_states() {
    use StateGroup::{Backlog, Started, Unstarted};
    let branch = result(RunOutcome::Changed).branch;
    let partial = |outcome| RunResult { partial: true, branch: branch.clone(), ..result(outcome) };
    let open = [Backlog, Unstarted, Started].as_slice();
    let begun = [Backlog, Unstarted].as_slice();
    let failing = States { failed: Some("Failed".to_owned()), ..states() };
    let bare = States { started: None, review: None, failed: None };
    let cases = [
        (result(RunOutcome::Changed), states(), Some("In Review"), open),
        (result(RunOutcome::NoChange), states(), Some("In Review"), open),
        (result(RunOutcome::Review), states(), Some("In Review"), open),
        (partial(RunOutcome::TimedOut), states(), Some("In Review"), open),
        (partial(RunOutcome::Failed), states(), Some("In Review"), open),
        (result(RunOutcome::TimedOut), states(), Some("In Progress"), begun),
        (result(RunOutcome::Failed), failing.clone(), Some("Failed"), open),
        (result(RunOutcome::Refused), failing, Some("Failed"), open),
        (result(RunOutcome::Changed), bare.clone(), None, open),
        (result(RunOutcome::Refused), bare, None, begun),
    ];
    for (result, states, name, from) in cases {
        let expected = name.map_or(StateTarget::FirstStarted, |name| StateTarget::Named(name.to_owned()));
        let change = state_move(Ending::Result(&result), &states);
        assert_eq!((change.to, change.only_from.as_slice()), (expected, from), "{:?}", result.outcome);
    }
}

#[test]
fn hostile_text_stays_text() {
    let mut subject = subject();
    subject.title = "Fixes #3 @octocat <script>\n::set-output name=x::y `x` [a](b)\u{202e}".to_owned();
    let mut result = result(RunOutcome::Changed);
    result.summary =
        "closes astra/api#7\n</details><img src=x onerror=y>\n| a | b |\n@astra/owners".to_owned();
    result.model = Some("gpt|`x`\n# big".to_owned());
    let plan = plan(&subject, Ending::Result(&result), &states());
    insta::assert_snapshot!(plan.to_markdown().replace('\u{200b}', "⎵"));
}

#[test]
fn limits_hold() {
    let mut subject = subject();
    subject.title = "@".repeat(300);
    subject.pull_request = Some(1);
    let mut result = result(RunOutcome::Changed);
    result.summary = "#1".repeat(TEXT_LIMIT);
    let draft = plan(&subject, Ending::Result(&result), &states()).pull_request.unwrap();
    assert!(draft.title.chars().count() <= TITLE_LIMIT, "{}", draft.title.chars().count());
    assert!(draft.body.chars().count() < 65_536, "{}", draft.body.chars().count());

    let comment = LineComment { path: "a".to_owned(), line: 1, side: Side::Right, body: "x".to_owned() };
    let comments = vec![comment; COMMENT_LIMIT + 1];
    let review = Review { verdict: Verdict::Comment, summary: String::new(), comments };
    let result = RunResult { review: Some(review), ..self::result(RunOutcome::Review) };
    let draft = plan(&subject, Ending::Result(&result), &states()).review.unwrap();
    assert_eq!(draft.comments.len(), COMMENT_LIMIT);
    assert!(draft.body.contains("100 of 101 remarks"));
}

#[test]
fn a_text_that_grows_when_it_is_made_harmless_is_cut_to_what_github_takes() {
    let mut subject = subject();
    // Each becomes five characters.
    subject.decision = vec![considered("vega", true, &"&".repeat(300)); 20];
    let result = RunResult { summary: "&".repeat(TEXT_LIMIT), ..result(RunOutcome::Changed) };
    let body = plan(&subject, Ending::Result(&result), &states()).pull_request.unwrap().body;
    assert!(body.chars().count() == 65_536 && body.ends_with('…'), "{}", body.chars().count());
}

#[test]
fn a_plan_survives_its_file() {
    let plan = plan(&subject(), Ending::Result(&result(RunOutcome::Changed)), &states());
    let text = serde_json::to_string_pretty(&plan).unwrap();
    assert_eq!(serde_json::from_str::<PublishPlan>(&text).unwrap(), plan);
    let tracker = plan.tracker.unwrap();
    let there = PullRequest {
        number: 9,
        url: "https://github.com/astra/api/pull/9".into(),
        state: PullRequestState::Open,
    };
    insta::assert_snapshot!(tracker.comment_after(Some(&Opened::There(there)), None));
    let never = Opened::Never("the branch <b> is gone".into());
    assert!(
        tracker
            .comment_after(Some(&never), None)
            .ends_with("pull request: the branch &lt;b&gt; is gone.</p>")
    );
}
