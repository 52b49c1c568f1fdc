use serde_json::json;

use super::*;

fn installation(change: impl FnOnce(&mut Value)) -> Installation {
    let mut answer = json!({"id": 7, "account": {"login": "astra"}, "repository_selection": "selected",
        "html_url": "https://github.com/settings/installations/7", "suspended_at": null,
        "permissions": {"contents": "write", "metadata": "read", "pull_requests": "write"}});
    change(&mut answer);
    Installation::read(&answer).unwrap()
}

fn api() -> Repository {
    "astra/api".parse().unwrap()
}

#[test]
fn neither_less_nor_more() {
    let right = installation(|_| ());
    assert_eq!((right.suffices(&api()).state, right.excess().state), (State::Passed, State::Passed));
    let less = installation(|answer| {
        answer["permissions"] = json!({"contents": "read"});
        answer["suspended_at"] = json!("2026-01-01T00:00:00Z");
    });
    assert_eq!(
        less.suffices(&api()).faults,
        ["it has `contents: read` and needs `write`", "it lacks `pull_requests: write`", "it is suspended"]
    );
    let more = installation(|answer| {
        answer["permissions"]["workflows"] = json!("write");
        answer["permissions"]["metadata"] = json!("write");
        answer["permissions"]["contents"] = json!("admin");
    });
    let excess = more.excess();
    assert_eq!(excess.state, State::Warned);
    assert_eq!(
        excess.faults,
        [
            "it has `contents: admin`, which runs do not need",
            "it has `metadata: write`, which runs do not need",
            "it has `workflows: write`, which runs do not need"
        ]
    );
    assert_eq!(more.suffices(&api()).state, State::Passed);
}

#[test]
fn no_other_repositories() {
    let selected = installation(|_| ());
    let reach = |names: &[String]| selected.reach(&[api()], Some(names)).faults;
    assert_eq!(reach(&["Astra/API".into()]), Vec::<String>::new());
    let many: Vec<String> = (0..12).map(|number| format!("astra/r{number:02}")).collect();
    assert_eq!(
        reach(&many),
        ["it also reaches astra/r00, astra/r01, astra/r02, astra/r03, astra/r04, astra/r05, astra/r06, \
          astra/r07, astra/r08, astra/r09 and 2 more"]
    );
    let all = installation(|answer| answer["repository_selection"] = json!("all"));
    assert_eq!(all.reach(&[api()], None).faults, ["it reaches every repository of astra, future ones too"]);
}

#[test]
fn a_given_token() {
    let states = |permissions: Value, scopes: Option<&str>| {
        let findings = token(&api(), &json!({"permissions": permissions}), scopes);
        (findings[0].state, findings[1].faults.len())
    };
    assert_eq!(states(json!({"push": true, "admin": false}), None), (State::Passed, 0));
    assert_eq!(states(json!({"push": false}), Some("")), (State::Failed, 0));
    assert_eq!(states(json!({"push": true, "admin": true}), Some("repo, workflow")), (State::Passed, 3));
    assert_eq!(states(Value::Null, None), (State::Unknown, 0));
}

#[test]
fn rules_that_can_be_bypassed_do_not_hold() {
    let listed = [
        json!({"type": "creation", "ruleset_id": 1}),
        json!({"type": "update", "ruleset_id": 2}),
        json!({"type": "deletion"}),
    ];
    let held = holding(&listed, &BTreeSet::from([1]));
    assert_eq!(held.into_iter().collect::<Vec<_>>(), ["deletion", "update"]);
    for (how, expected) in
        [("always", true), ("exempt", true), ("pull_requests_only", false), ("never", false)]
    {
        assert_eq!(bypasses(&json!({"current_user_can_bypass": how})), expected, "{how}");
    }
    assert!(!bypasses(&json!({})));
}

#[test]
fn the_app_may_push_its_own_branches_and_no_others() {
    let kinds = |kinds: &[&str]| kinds.iter().map(|&kind| kind.to_owned()).collect::<BTreeSet<_>>();
    let main: Branch = "main".parse().unwrap();
    let found = |own: &[&str], other: &[&str], base: &[&str], protected| {
        let bases = BTreeMap::from([(main.clone(), (kinds(base), protected))]);
        let all = rules(&api(), &Rules { own: kinds(own), other: kinds(other), bases });
        all.iter().map(|one| (one.state, one.faults.len())).collect::<Vec<_>>()
    };
    let (passed, failed, warned, unknown) = (State::Passed, State::Failed, State::Warned, State::Unknown);
    assert_eq!(
        found(&[], &["creation", "update"], &["update"], false),
        [(passed, 0), (passed, 0), (passed, 0)]
    );
    assert_eq!(
        found(&["creation", "required_signatures"], &[], &[], false),
        [(failed, 2), (warned, 2), (warned, 1)]
    );
    assert_eq!(found(&[], &["update"], &[], true), [(passed, 0), (warned, 1), (unknown, 1)]);
    assert_eq!(found(&[], &["update"], &["pull_request"], true)[2], (passed, 0));
}
