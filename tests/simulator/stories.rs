//! Single passes over worlds that were set up by hand: what each rule looks like from outside.

use std::sync::Arc;
use std::time::Duration;

use astra_dispatch::domain::decision::{Verdict, WaitingBecause};
use astra_dispatch::domain::job::{CancelReason, JobPhase};
use astra_dispatch::domain::ledger::{EntryState, Ledger, WAITING_LIMIT};
use astra_dispatch::domain::matching::Workforce;
use astra_dispatch::domain::pass::{
    Hint, Pass, PassEnd, PassInput, PassReport, Request, Response, Step, StopOutcome,
};
use astra_dispatch::domain::result::FailureClass;
use astra_dispatch::domain::work_item::{Priority, StateGroup};
use jiff::SignedDuration;

use crate::config::{Config, leaked};
use crate::small_world::SmallAgent;
use crate::world::{NOW, World};

struct Story {
    world: World,
    workforce: &'static Workforce,
    timing: astra_dispatch::domain::pass::Timing,
}

/// What a call is answered with, where it is not what the world says.
type Instead<'a> = &'a dyn Fn(&Request) -> Option<Response>;

impl Story {
    fn new(tasks: u64, agents: &[SmallAgent]) -> Self {
        let workforce = leaked(agents, 3, 5);
        let config = Config { workforce, max_attempts: 3, ..Config::small("story", &[]).tasks(tasks) };
        Self { timing: config.timing, workforce, world: World::new(Box::leak(Box::new(config))) }
    }

    fn input(&self) -> PassInput<'static> {
        PassInput {
            workforce: self.workforce,
            timing: self.timing,
            hints: self.hints(false),
            stop: None,
            seed: 1,
        }
    }

    fn hints(&self, by_hand: bool) -> Vec<Hint> {
        self.world.items.iter().map(|item| Hint { item: item.reference(), by_hand }).collect()
    }

    fn pass(&mut self) -> PassReport<'static> {
        self.pass_with(self.input(), &|_| None)
    }

    fn pass_with(&mut self, input: PassInput<'static>, instead: Instead) -> PassReport<'static> {
        match self.end_with(input, instead).0 {
            PassEnd::Complete(report) => *report,
            other => panic!("{other:?}"),
        }
    }

    /// The end of a pass, and its calls step by step.
    fn end_with(
        &mut self,
        input: PassInput<'static>,
        instead: Instead,
    ) -> (PassEnd<'static>, Vec<Vec<Request>>) {
        self.world.draw();
        let mut pass = Pass::new(PassInput { seed: self.world.drawn, ..input });
        let mut calls = Vec::new();
        let mut responses = Vec::new();
        loop {
            match pass.step(responses) {
                Step::Done(end) => return (end, calls),
                Step::Call(requests) => {
                    let answer = |request| instead(request).unwrap_or_else(|| self.world.perform(0, request));
                    responses = requests.iter().map(answer).collect();
                    calls.push(requests);
                }
            }
        }
    }

    fn edit_ledger(&mut self, edit: impl FnOnce(&mut Ledger)) {
        let mut ledger = self.world.ledger();
        edit(&mut ledger);
        self.world.ledger = Some(Arc::new(ledger));
    }

    fn end_run(&mut self, place: usize, class: Option<FailureClass>) {
        let job = self.world.jobs[place].reference();
        self.world.end(&job, class);
    }

    fn item(&mut self, place: usize) -> &mut astra_dispatch::domain::work_item::WorkItem {
        Arc::make_mut(&mut self.world.items[place])
    }
}

fn waiting_reason(report: &PassReport, place: usize) -> String {
    match &report.outcomes[place].verdict {
        Some(Verdict::Waiting { reason, .. }) => reason.to_string(),
        other => format!("{other:?}"),
    }
}

#[test]
fn the_order_is_priority_then_time_then_number() {
    let mut story = Story::new(4, &[("a", "coder", 1)]);
    story.item(0).priority = Priority::Low;
    story.item(2).priority = Priority::Urgent;
    story.item(3).priority = Priority::Urgent;
    story.pass();
    let ledger = story.world.ledger();
    assert_eq!(ledger.entries[0].task.to_string(), "T-3");
    assert_eq!(ledger.waiting.iter().map(|hint| hint.sequence).collect::<Vec<_>>(), [4, 1, 2]);
    // Task 4 came back later than task 2, which has its priority now.
    story.item(1).priority = Priority::Urgent;
    story.edit_ledger(|ledger| ledger.waiting[2].since = NOW - SignedDuration::from_secs(1));
    story.pass();
    let order: Vec<u64> = story.world.ledger().waiting.iter().map(|hint| hint.sequence).collect();
    assert_eq!(order, [2, 4, 1]);
}

#[test]
fn the_waiting_list_is_cut_to_its_head() {
    let mut story = Story::new(1_003, &[("a", "coder", 1)]);
    story.item(1_002).priority = Priority::High;
    story.item(1_001).priority = Priority::High;
    story.pass();
    let ledger = story.world.ledger();
    assert_eq!(ledger.waiting.len(), WAITING_LIMIT);
    assert_eq!(ledger.waiting[0].sequence, 1_003);
    assert_eq!(ledger.waiting[999].sequence, 999);
}

#[test]
fn calls_that_do_not_depend_on_each_other_are_made_together() {
    let mut story = Story::new(50, &[("a", "coder", 50)]);
    let input = story.input();
    let (_, calls) = story.end_with(input, &|_| None);
    let sizes: Vec<usize> = calls.iter().map(Vec::len).collect();
    // Ledger, Jobs, items, swap, creations, ledger, confirmation, Secrets, releases.
    assert_eq!(sizes, [1, 1, 1, 1, 50, 1, 1, 50, 50]);
    assert!(story.world.jobs.iter().all(|job| job.phase == JobPhase::Released));
}

#[test]
fn what_is_refused_for_good_is_blocked_until_something_changes() {
    let mut story = Story::new(1, &[("a", "coder", 1)]);
    let refuse: Instead = &|request| {
        matches!(request, Request::Create(_)).then(|| Response::Refused("not on my watch".to_owned()))
    };
    let report = story.pass_with(story.input(), refuse);
    assert_eq!(report.outcomes[0].refused.as_deref(), Some("not on my watch"));
    let ledger = story.world.ledger();
    assert_eq!((ledger.entries.len(), ledger.parked.len(), ledger.waiting.len()), (0, 1, 1));
    assert_eq!(ledger.blocked[0].reason, "not on my watch");
    // The same again: it is not tried.
    let report = story.pass();
    assert!(waiting_reason(&report, 0).contains("not on my watch"));
    assert_eq!(report.wake_at, Some(ledger.blocked[0].retry_at));
    // Without a hint it is not even read.
    let quiet = PassInput { hints: Vec::new(), ..story.input() };
    let (_, calls) = story.end_with(quiet.clone(), &|_| None);
    assert!(!calls.iter().flatten().any(|call| matches!(call, Request::ReadItems(_))));
    // Its time has come.
    story.edit_ledger(|ledger| ledger.blocked[0].retry_at = NOW);
    let report = story.pass_with(quiet.clone(), refuse);
    assert_eq!(report.outcomes[0].refused.as_deref(), Some("not on my watch"));
    // A person changes the item.
    story.item(0).description = "Base: main".to_owned();
    let report = story.pass_with(story.input(), refuse);
    assert_eq!(report.outcomes[0].refused.as_deref(), Some("not on my watch"));
    // The registry changes.
    story.workforce = leaked(&[("a", "coder", 2)], 3, 6);
    story.pass_with(PassInput { workforce: story.workforce, ..quiet }, &|_| None);
    let ledger = story.world.ledger();
    assert_eq!((ledger.entries.len(), ledger.parked.len(), ledger.blocked.len()), (1, 0, 0));
    assert_eq!(ledger.entries[0].attempt, 1, "what never ran is not used up");
}

#[test]
fn a_refused_secret_takes_its_job_along() {
    let mut story = Story::new(2, &[("a", "coder", 2)]);
    let report = story.pass_with(story.input(), &|request| match request {
        Request::WriteSecret(new, _) if new.task.key.sequence() == 1 => {
            Some(Response::Refused("no credential".to_owned()))
        }
        _ => None,
    });
    assert_eq!(report.released.len(), 1);
    assert_eq!(report.outcomes[0].refused.as_deref(), Some("no credential"));
    let ledger = story.world.ledger();
    assert_eq!(story.world.jobs.len(), 1);
    assert_eq!(ledger.entries.len(), 1);
    assert_eq!(ledger.blocked[0].reason, "no credential");
}

#[test]
fn a_reserved_run_of_another_revision_is_admitted_anew() {
    let mut story = Story::new(1, &[("a", "coder", 1)]);
    let fail: Instead =
        &|request| matches!(request, Request::Create(_)).then(|| Response::Failed("no answer".to_owned()));
    let report = story.pass_with(story.input(), fail);
    assert_eq!(report.problems, ["no answer"]);
    let first = story.world.ledger().entries[0].clone();
    let newer = leaked(&[("b", "coder", 1)], 3, 6);
    story.pass_with(PassInput { workforce: newer, ..story.input() }, fail);
    let ledger = story.world.ledger();
    assert_ne!(ledger.entries[0].run, first.run);
    assert_eq!((ledger.entries[0].agent.as_str(), ledger.entries[0].attempt), ("b", 1));
    assert_eq!(ledger.namespaces, ["agent-a", "agent-b"], "a slow creator may still come");
    // The older registry leaves it alone, and admits nothing.
    story.pass();
    assert_eq!(story.world.ledger().entries, ledger.entries);
    // The newer one completes it; then the namespace of the agent that left is forgotten.
    story.pass_with(PassInput { workforce: newer, ..story.input() }, &|_| None);
    assert_eq!(story.world.ledger().entries[0].state, EntryState::Started);
    assert_eq!(story.world.ledger().namespaces, ["agent-b"]);
}

#[test]
fn an_older_registry_admits_nothing() {
    let mut story = Story::new(1, &[("a", "coder", 1)]);
    story.edit_ledger(|ledger| ledger.registry.ordinal = 6);
    let report = story.pass();
    assert!(matches!(
        &report.outcomes[0].verdict,
        Some(Verdict::Waiting { reason: WaitingBecause::OldRegistry, .. })
    ));
    assert_eq!(story.world.ledger().entries, []);
    // Without a place in history it is never refused.
    let local = leaked(&[("a", "coder", 1)], 3, 0);
    story.pass_with(PassInput { workforce: local, ..story.input() }, &|_| None);
    assert_eq!(story.world.ledger().entries.len(), 1);
    assert_eq!(story.world.ledger().registry.ordinal, 6);
}

#[test]
fn lost_attempts_are_replaced_until_there_were_enough() {
    let mut story = Story::new(1, &[("a", "coder", 1)]);
    story.pass();
    for attempt in 2..=3 {
        story.end_run(0, Some(FailureClass::Infrastructure));
        let lost = story.world.jobs[0].run.clone();
        let report = story.pass();
        assert_eq!(report.outcomes[0].replaces.as_ref(), Some(&lost));
        assert_eq!(story.world.ledger().entries[0].attempt, attempt);
        story.world.jobs.retain(|job| job.phase != JobPhase::Published);
        assert_eq!(story.world.jobs.len(), 1);
    }
    story.end_run(0, Some(FailureClass::Infrastructure));
    let last = story.world.jobs[0].reference();
    let report = story.pass();
    assert_eq!(report.publishable[0].job, last);
    // A person asks by hand: one more.
    let by_hand = PassInput { hints: story.hints(true), ..story.input() };
    let mut again = Story { world: story.world.clone(), ..story };
    again.pass_with(by_hand, &|_| None);
    assert_eq!(again.world.ledger().entries[0].attempt, 4);
    // A day later the count starts anew.
    story.timing.attempts_within = Duration::ZERO;
    story.pass();
    assert_eq!(story.world.ledger().entries[0].attempt, 1);
}

#[test]
fn a_replacement_waits_out_its_backoff() {
    let mut story = Story::new(1, &[("a", "coder", 1)]);
    story.timing.backoff = Duration::from_secs(30);
    story.pass();
    story.end_run(0, Some(FailureClass::Infrastructure));
    let report = story.pass();
    let entry = story.world.ledger().entries[0].clone();
    assert_eq!((entry.state, entry.attempt), (EntryState::Reserved, 2));
    assert_eq!(report.wake_at, entry.not_before);
    assert_eq!(entry.not_before, Some(NOW + SignedDuration::from_secs(30)));
    assert_eq!(story.world.jobs.len(), 1);
    assert_eq!(story.world.jobs[0].phase, JobPhase::Published, "the lost attempt is closed");
    story.edit_ledger(|ledger| ledger.entries[0].not_before = Some(NOW));
    story.pass();
    assert_eq!(story.world.jobs[1].phase, JobPhase::Released);
}

#[test]
fn another_role_stops_the_run_and_waits() {
    let mut story = Story::new(1, &[("a", "coder", 1), ("b", "ops", 1)]);
    story.pass();
    story.item(0).labels = vec!["agent:ops".to_owned()];
    let report = story.pass();
    assert!(matches!(&report.outcomes[0].verdict, Some(Verdict::Cancelled { wait_for_new_role: true, .. })));
    assert!(report.again);
    assert_eq!(story.world.ledger().waiting.len(), 1);
    assert_eq!(story.world.jobs[0].cancel.as_ref().map(|cancel| cancel.reason), Some(CancelReason::Unwanted));
    // Its pod is still there: the entry stays, and nothing is admitted.
    let report = story.pass();
    assert!(waiting_reason(&report, 0).contains("not yet published"));
    assert_eq!(story.world.ledger().entries.len(), 1);
}

#[test]
fn an_unreadable_namespace_has_no_free_slot() {
    let mut story = Story::new(2, &[("a", "coder", 5), ("b", "coder", 1)]);
    let unreadable: Instead = &|request| {
        (*request == Request::ListJobs("agent-a".to_owned()))
            .then(|| Response::Failed("forbidden".to_owned()))
    };
    let report = story.pass_with(story.input(), unreadable);
    assert_eq!(report.unreadable, ["agent-a: forbidden"]);
    let ledger = story.world.ledger();
    assert_eq!(ledger.entries.len(), 1);
    assert_eq!(ledger.entries[0].agent.as_str(), "b");
    assert_eq!(ledger.waiting.len(), 1);
}

#[test]
fn what_cannot_be_read_is_not_lost() {
    let mut story = Story::new(1, &[("a", "coder", 1)]);
    let unread: Instead =
        &|request| matches!(request, Request::ReadItems(_)).then(|| Response::Failed("down".to_owned()));
    let report = story.pass_with(story.input(), unread);
    assert!(report.outcomes[0].verdict.is_none());
    assert_eq!(story.world.ledger().waiting.len(), 1);
    story.pass_with(PassInput { hints: Vec::new(), ..story.input() }, &|_| None);
    assert_eq!(story.world.ledger().entries.len(), 1);
}

#[test]
fn a_name_that_is_taken_is_drawn_anew() {
    let mut story = Story::new(1, &[("a", "coder", 1)]);
    story.pass();
    let mut old = (*story.world.jobs[0]).clone();
    old.phase = JobPhase::Published;
    story.edit_ledger(|ledger| *ledger = Ledger::default());
    story.world.jobs.clear();
    let report = story.pass_with(story.input(), &|request| {
        matches!(request, Request::Create(_)).then(|| Response::Exists(Box::new(old.clone())))
    });
    assert!(report.again);
    assert_eq!(story.world.ledger().entries, []);
    story.pass();
    assert_eq!(story.world.ledger().entries[0].attempt, 1);
}

#[test]
fn a_lost_ledger_gets_its_runs_back_before_anything_is_admitted() {
    let mut story = Story::new(2, &[("a", "coder", 2)]);
    story.pass();
    story.end_run(1, None);
    story.world.ledger = None;
    let report = story.pass();
    assert!(report.again);
    let ledger = story.world.ledger();
    assert_eq!(ledger.entries.len(), 2);
    assert!(ledger.entries.iter().all(|entry| entry.state == EntryState::Started && entry.uid.is_some()));
    let report = story.pass();
    assert_eq!(report.publishable.len(), 1);
}

#[test]
fn a_person_stops_a_run() {
    let mut story = Story::new(1, &[("a", "coder", 1)]);
    let stop = |story: &Story| {
        let run = story.world.ledger().entries.first().map(|entry| entry.run.clone());
        let run = run.or_else(|| "t-9-bcdfg".parse().ok());
        PassInput { hints: Vec::new(), stop: run, ..story.input() }
    };
    let report = story.pass_with(stop(&story), &|_| None);
    assert_eq!(report.stop, Some(StopOutcome::Unknown));
    story.pass_with(story.input(), &|request| {
        matches!(request, Request::Create(_)).then(|| Response::Failed("no answer".to_owned()))
    });
    let report = story.pass_with(stop(&story), &|_| None);
    assert_eq!(report.stop, Some(StopOutcome::Withdrawn));
    assert_eq!((story.world.ledger().entries.len(), story.world.ledger().parked.len()), (0, 0));
    story.pass();
    let report = story.pass_with(stop(&story), &|_| None);
    assert_eq!(report.stop, Some(StopOutcome::Cancelled));
    story.world.jobs.iter_mut().for_each(|job| Arc::make_mut(job).pod_alive = false);
    let report = story.pass();
    assert_eq!(report.stop, None);
    assert_eq!(report.publishable.len(), 1);
    assert_eq!(story.world.ledger().entries.len(), 1, "it stays until it is published");
    let report = story.pass_with(stop(&story), &|_| None);
    assert_eq!(report.stop, Some(StopOutcome::Ended));
}

/// Else nobody would come again for a run that goes on.
#[test]
fn a_cancellation_without_an_answer_is_not_told_as_done() {
    let lost: Instead =
        &|request| matches!(request, Request::Cancel(..)).then(|| Response::Failed("no answer".to_owned()));
    let mut story = Story::new(1, &[("a", "coder", 1)]);
    story.pass();
    story.item(0).group = StateGroup::Cancelled;
    let report = story.pass_with(story.input(), lost);
    assert!(report.outcomes[0].verdict.is_none() && report.again, "{report:?}");
    let report = story.pass();
    assert!(matches!(report.outcomes[0].verdict, Some(Verdict::Cancelled { .. })), "{report:?}");

    let mut story = Story::new(1, &[("a", "coder", 1)]);
    story.pass();
    let run = story.world.jobs[0].run.clone();
    let stop = PassInput { hints: Vec::new(), stop: Some(run), ..story.input() };
    assert_eq!(story.pass_with(stop, lost).stop, Some(StopOutcome::Unreadable));
}

#[test]
fn the_wish_to_stop_outlives_the_pass_that_brought_it() {
    let mut story = Story::new(1, &[("a", "coder", 1)]);
    story.pass();
    let run = story.world.ledger().entries[0].run.clone();
    let stop = PassInput { hints: Vec::new(), stop: Some(run), ..story.input() };
    let lost: Instead =
        &|request| matches!(request, Request::Cancel(..)).then(|| Response::Failed("no answer".to_owned()));
    story.pass_with(stop, lost);
    let ledger = story.world.ledger();
    let text = serde_json::to_string(&ledger).unwrap_or_default();
    assert_eq!(serde_json::from_str::<Ledger>(&text).ok(), Some(ledger), "as the store keeps it");
    // Lost to the infrastructure, it would be tried again; instead the mark is made.
    story.end_run(0, Some(FailureClass::Infrastructure));
    story.pass();
    assert_eq!(story.world.jobs.len(), 1);
    assert_eq!(story.world.jobs[0].cancel.as_ref().map(|cancel| cancel.reason), Some(CancelReason::Person));
    assert_eq!(story.pass().publishable.len(), 1);
}

#[test]
fn an_item_seen_elsewhere_is_parked_no_more() {
    let mut story = Story::new(1, &[("a", "coder", 1)]);
    story.pass();
    story.item(0).labels.clear();
    story.pass();
    story.world.jobs.clear();
    story.pass();
    assert_eq!(story.world.ledger().parked.len(), 1);
    story.item(0).group = StateGroup::Completed;
    story.pass();
    assert_eq!(story.world.ledger().parked, []);
    assert_eq!(story.world.ledger().waiting, []);
}

#[test]
fn a_broken_ledger_ends_everything() {
    let mut story = Story::new(1, &[("a", "coder", 1)]);
    let input = story.input();
    let (end, calls) = story.end_with(input, &|_| Some(Response::LedgerBroken("version 9".to_owned())));
    assert!(matches!(end, PassEnd::LedgerBroken(why) if why == "version 9"));
    assert_eq!(calls, [[Request::ReadLedger]]);
}

#[test]
fn others_cannot_keep_a_pass_busy_for_ever() {
    let mut story = Story::new(1, &[("a", "coder", 1)]);
    story.timing.rounds = 7;
    let input = story.input();
    let (end, calls) =
        story.end_with(input, &|request| matches!(request, Request::Swap { .. }).then_some(Response::Missed));
    assert!(matches!(end, PassEnd::Unfinished(_)));
    let pauses = calls.iter().flatten().filter(|call| matches!(call, Request::Pause(_))).count();
    assert_eq!(pauses, 6);
    assert!(story.world.jobs.is_empty());
}
