use std::sync::Arc;

use super::*;
use crate::domain::registry;
use crate::domain::task::tests::item;

/// What one verdict depends on; every combination is judged.
#[derive(Debug, Clone, Copy)]
struct Case {
    /// Why nobody wants the item, if so.
    unwanted: Option<Unwanted>,
    /// The role of its live run, if any.
    live: Option<&'static str>,
    group: StateGroup,
    parked: bool,
    by_hand: bool,
    faulty: bool,
    unpublished: bool,
    exhausted: bool,
    blocked: bool,
    busy: bool,
}

/// The order of the contract, one line a rule: the first that holds gives the outcome.
type Rule = (&'static str, fn(&Case) -> bool);
const RULES: &[Rule] = &[
    ("cancelled: unwanted", |case| case.unwanted.is_some() && case.live.is_some()),
    ("ignored: unwanted", |case| case.unwanted.is_some()),
    ("cancelled: role, not to wait", |case| case.live == Some("docs") && case.faulty),
    ("cancelled: role, to wait", |case| case.live == Some("docs")),
    ("already running", |case| case.live.is_some()),
    ("ignored: state", |case| {
        let is_new = matches!(case.group, StateGroup::Backlog | StateGroup::Unstarted);
        let is_resumed = case.group == StateGroup::Started && case.parked;
        !(is_new || is_resumed || case.by_hand)
    }),
    ("refused", |case| case.faulty),
    ("waiting: unpublished", |case| case.unpublished),
    ("waiting: attempts", |case| case.exhausted && !case.by_hand),
    ("waiting: blocked", |case| case.blocked),
    ("waiting: no agent", |case| case.busy),
    ("dispatched", |_| true),
];

fn outcome(case: &Case, workforce: &Workforce) -> &'static str {
    let mut item = item(&["agent:coder"]);
    item.group = case.group;
    if case.faulty {
        item.labels.push("model:unknown".to_owned());
    }
    match case.unwanted {
        Some(Unwanted::Withdrawn) => item.withdrawn = true,
        Some(Unwanted::Completed) => item.group = StateGroup::Completed,
        Some(Unwanted::Cancelled) => item.group = StateGroup::Cancelled,
        Some(Unwanted::NoLabel) => item.labels.clear(),
        Some(Unwanted::Gone) | None => {}
    }
    let gone = case.unwanted == Some(Unwanted::Gone);
    let run: RunId = "ast-12-bcdfg".parse().unwrap();
    let role: Option<Role> = case.live.map(|role| role.parse().unwrap());
    let agent: AgentName = "vega".parse().unwrap();
    let mut running = Running::default();
    for name in ["vega", "rigel"].iter().filter(|_| case.busy) {
        running.add(&name.parse().unwrap());
    }
    let situation = Situation {
        live: case.live.map(|_| LiveRun { run: &run, role: role.as_ref(), agent: &agent }),
        unpublished: case.unpublished.then_some(&run),
        parked: case.parked,
        blocked: case.blocked.then_some("the Job was refused"),
        attempts_exhausted: case.exhausted,
        by_hand: case.by_hand,
        running: &running,
    };
    match judge((!gone).then_some(&item), workforce, &situation) {
        Verdict::Cancelled { reason: CancelledBecause::Unwanted(_), .. } => "cancelled: unwanted",
        Verdict::Cancelled { wait_for_new_role: false, .. } => "cancelled: role, not to wait",
        Verdict::Cancelled { wait_for_new_role: true, .. } => "cancelled: role, to wait",
        Verdict::Ignored { reason: IgnoredBecause::Unwanted(_) } => "ignored: unwanted",
        Verdict::Ignored { .. } => "ignored: state",
        Verdict::AlreadyRunning { .. } => "already running",
        Verdict::Refused(_) => "refused",
        Verdict::Waiting { reason: WaitingBecause::Unpublished { .. }, .. } => "waiting: unpublished",
        Verdict::Waiting { reason: WaitingBecause::Attempts { .. }, .. } => "waiting: attempts",
        Verdict::Waiting { reason: WaitingBecause::Blocked { .. }, .. } => "waiting: blocked",
        Verdict::Waiting { .. } => "waiting: no agent",
        Verdict::Dispatched { .. } => "dispatched",
    }
}

/// Every combination: so each rule is seen to hold, and to give way to each one before it.
#[test]
fn the_first_rule_that_holds_decides() {
    let workforce = Workforce::new(Arc::new(registry::sample()));
    let unwanted = [
        None,
        Some(Unwanted::Gone),
        Some(Unwanted::Withdrawn),
        Some(Unwanted::Completed),
        Some(Unwanted::Cancelled),
        Some(Unwanted::NoLabel),
    ];
    let mut seen = vec![0; RULES.len()];
    for unwanted in unwanted {
        for live in [None, Some("coder"), Some("docs")] {
            for group in [StateGroup::Backlog, StateGroup::Unstarted, StateGroup::Started] {
                for bits in 0..128u8 {
                    let bit = |place: u8| bits >> place & 1 == 1;
                    let case = Case {
                        unwanted,
                        live,
                        group,
                        parked: bit(0),
                        by_hand: bit(1),
                        faulty: bit(2),
                        unpublished: bit(3),
                        exhausted: bit(4),
                        blocked: bit(5),
                        busy: bit(6),
                    };
                    let rule = RULES.iter().position(|(_, holds)| holds(&case)).unwrap();
                    assert_eq!(outcome(&case, &workforce), RULES[rule].0, "{case:?}");
                    seen[rule] += 1;
                }
            }
        }
    }
    assert!(seen.iter().all(|times| *times > 0), "a rule never held: {seen:?}");
}

#[test]
fn an_item_that_is_not_accepted_yet_is_not_wanted() {
    let workforce = Workforce::new(Arc::new(registry::sample()));
    let mut item = item(&["agent:coder"]);
    item.group = StateGroup::Triage;
    let running = Running::default();
    let mut situation = Situation::fresh(&running);
    situation.by_hand = true;
    let verdict = judge(Some(&item), &workforce, &situation);
    assert!(
        matches!(verdict, Verdict::Ignored { reason: IgnoredBecause::Unwanted(Unwanted::Withdrawn) }),
        "{verdict:?}"
    );
}

#[test]
fn a_run_goes_on_with_two_labels_and_when_its_agent_has_left() {
    let workforce = Workforce::new(Arc::new(registry::sample()));
    let (run, agent) = ("ast-12-bcdfg".parse().unwrap(), "deneb".parse().unwrap());
    let running = Running::default();
    let coder: Role = "coder".parse().unwrap();
    for role in [Some(&coder), None] {
        let live = Some(LiveRun { run: &run, role, agent: &agent });
        let situation = Situation { live, ..Situation::fresh(&running) };
        let verdict = judge(Some(&item(&["agent:docs", "agent:coder"])), &workforce, &situation);
        assert!(matches!(verdict, Verdict::AlreadyRunning { .. }), "{verdict:?}");
    }
}

/// The sentence of a waiting task, for each gate that can be the last.
#[test]
fn a_waiting_task_says_what_it_waits_for() {
    let mut registry = registry::sample();
    registry.roles.insert("poet".parse().unwrap(), registry.roles.values().next().unwrap().clone());
    let mut elsewhere = item(&["agent:ops"]);
    elsewhere.description = "Repository: web/site".to_owned();
    registry.agents.get_mut(&"sirius".parse().unwrap()).unwrap().repositories = vec!["web/*".to_owned()];
    let lyra = crate::domain::work_item::Member {
        email: "lyra@example.com".to_owned(),
        display_name: "Lyra".to_owned(),
    };
    let mut assigned = item(&["agent:coder"]);
    assigned.assignees = vec![lyra];
    registry.agents.get_mut(&"lyra".parse().unwrap()).unwrap().status = registry::Status::Standby;
    let mut running = Running::default();
    running.add(&"vega".parse().unwrap());
    running.add(&"rigel".parse().unwrap());
    running.set_unreadable(&"altair".parse().unwrap());
    let items = [
        item(&["agent:poet"]),
        assigned,
        item(&["agent:docs"]),
        elsewhere,
        item(&["agent:coder", "model:sonnet"]),
        item(&["agent:ops"]),
    ];
    let workforce = Workforce::new(Arc::new(registry));
    let reasons: Vec<String> = items
        .iter()
        .map(|item| match judge(Some(item), &workforce, &Situation::fresh(&running)) {
            Verdict::Waiting { reason, .. } => reason.to_string(),
            other => format!("{other:?}"),
        })
        .collect();
    insta::assert_snapshot!(reasons.join("\n"), @r"
    no agent has the role poet
    it is assigned to an agent that does not have the role coder
    no agent of the role docs is active (lyra)
    no active agent of the role ops may work in web/site (altair)
    every fitting agent of the role coder is busy (rigel, vega)
    no fitting agent of the role ops is free, or its namespace could not be read (altair)
    ");
}

#[test]
fn a_sentence_names_a_few_agents_and_counts_the_rest() {
    let mut registry = registry::sample();
    let vega = registry.agents.values().next_back().unwrap().clone();
    registry.agents.clear();
    for number in 1..=NAMED + 2 {
        let agent =
            Agent { name: format!("a{number}").parse().unwrap(), max_concurrent_tasks: 0, ..vega.clone() };
        registry.agents.insert(agent.name.clone(), agent);
    }
    let (workforce, running) = (Workforce::new(Arc::new(registry)), Running::default());
    let verdict = judge(Some(&item(&["agent:coder"])), &workforce, &Situation::fresh(&running));
    let Verdict::Waiting { reason, .. } = verdict else { panic!("{verdict:?}") };
    let expected = "every fitting agent of the role coder is busy (a1, a2, a3, a4, a5 and 2 more)";
    assert_eq!(reason.to_string(), expected);
}

#[test]
fn a_repository_that_no_agent_may_enter_is_refused() {
    let workforce = Workforce::new(Arc::new(registry::sample()));
    let mut item = item(&["agent:coder"]);
    item.description = "Repository: other/thing".to_owned();
    let running = Running::default();
    let Verdict::Refused(refusal) = judge(Some(&item), &workforce, &Situation::fresh(&running)) else {
        panic!("not refused");
    };
    insta::assert_snapshot!(format!("{refusal}\n{}", refusal.remedies().join("\n")), @r#"
    no agent of the registry may work in the repository other/thing
    Change the line `Repository: …`, or let an agent work there: `repositories: ["other/thing"]`.
    "#);
}
