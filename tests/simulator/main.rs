//! The exhaustive simulator: the machines of `domain::pass`, as they are, in small worlds in which
//! every call is a scheduling point and every dispatcher may die between any two.

#![allow(clippy::print_stdout, reason = "how far each world was searched")]

#[path = "../support/small_world.rs"]
mod small_world;

mod action;
mod call;
mod check;
mod config;
mod dispatcher;
mod ghost;
mod search;
mod stories;
mod world;

use std::time::Duration;

use astra_dispatch::domain::pass::Timing;
use config::Config;
use search::explore;
use world::Fault;

fn holds(config: Config) {
    let name = config.name;
    let began = std::time::Instant::now();
    let explored = explore(config);
    println!(
        "{name}: {} states, depth {}, {} settled, complete: {}, {:.1} s",
        explored.states,
        explored.depth,
        explored.settled,
        explored.is_complete,
        began.elapsed().as_secs_f64()
    );
    if let Some(found) = explored.found {
        panic!("after {} steps, {}", found.steps, found.trace);
    }
}

type Small<'a> = &'a dyn Fn(&[(Fault, u8)]) -> Config;

/// Every rule of the design, left out: some world must notice.
mod mutations {
    use super::*;
    use Fault::*;
    use config::Mutation;

    /// The world, the rule that is left out, and what is noticed.
    fn caught(config: Config, rule: &str) {
        let name = config.name;
        let explored = explore(config);
        let found = explored.found.unwrap_or_else(|| {
            panic!("{name}: not noticed in {} states (complete: {})", explored.states, explored.is_complete)
        });
        println!("{name}: {} steps, {} states: {}", found.steps, explored.states, found.rule);
        assert!(found.rule.contains(rule), "noticed something else: {}", found.trace);
    }

    macro_rules! mutations {
        ($($name:ident: $mutation:ident, $budget:expr, $rule:literal $(, $change:ident($($argument:expr)?))*;)*) => {
            $(
                #[test]
                fn $name() {
                    let config = Config::small(stringify!($name), &$budget).mutated(Mutation::$mutation);
                    caught(config$(.$change($($argument)?))*, $rule);
                }
            )*
        };
    }

    /// 11: attempts beyond the maximum.
    #[test]
    fn m11_attempts_without_end() {
        let generous = Config::small("m11", &[]).max_attempts(5).workforce;
        let config = Config::small("m11_attempts_without_end", &[(Infrastructure, 2)]).max_attempts(2);
        caught(Config { workforce: generous, ..config }, "attempt 3");
    }

    /// 14: no margin between late *started* writes and the claim.
    #[test]
    fn m14_no_margin() {
        let config = Config::small("m14_no_margin", &[(Reopen, 1)]);
        let timing = Timing { claim_margin: Duration::ZERO, ..config.timing };
        caught(Config { timing, ..config }, "forgotten");
    }

    /// 15: a claim is taken over while its holder is at work.
    #[test]
    fn m15_claim_taken_over_early() {
        let config = Config::small("m15_claim_taken_over_early", &[(Reopen, 1)]);
        let timing = Timing { claim_takeover: Duration::ZERO, ..config.timing };
        caught(Config { timing, ..config }, "forgotten");
    }

    mutations! {
        m01_blind_swap: BlindSwap, [], "";
        m02_jobs_before_ledger: JobsBeforeLedger, [(HandDeletion, 1)], "";
        m03_created_running: CreatedRunning, [(HandDeletion, 1)], "";
        m04_confirm_skipped: ConfirmSkipped, [], "";
        m04_confirm_failure_ignored: ConfirmIgnored, [(CancelItem, 1), (Reopen, 1)], "";
        m05_release_unconditional: ReleaseUnconditional, [(CancelItem, 1), (Reopen, 1)], "";
        m05_cancel_unconditional: CancelUnconditional, [(CancelItem, 1), (Reopen, 1)], "";
        m05_delete_unconditional: DeleteUnconditional, [(HandDeletion, 1)], "";
        m06_pruned_when_cancel_is_asked_for: PrunedWhenCancelAsked, [(CancelItem, 1), (Reopen, 1)], "";
        m07_confirmed_by_name: ConfirmByName, [(HandDeletion, 1)], "";
        m08_started_written_late: LateStart, [(CancelItem, 1), (Reopen, 1)], "";
        m09_reopening_without_record: NoRecord, [], "";
        m10_removed_namespace_not_listed: RemovedNamespaceNotListed, [(Crash, 1)], "", skewed();
        m12_no_swap_where_equal: NoSwapWhereEqual, [(ToggleLabel, 2)], "";
        m13_pruned_when_finished: PrunedWhenFinished, [(CancelItem, 1), (Reopen, 1)], "";
        m15_claim_shared: ClaimShared, [(Reopen, 1)], "";
        m16_orphan_pods_ignored: OrphanPodsIgnored, [(HandDeletion, 1)], "two runs";
        m17_nothing_parked: NoParked, [(HandDeletion, 1)], "forgotten";
        m18_unnamed_ignored: UnnamedIgnored, [(LedgerLost, 1)], "two runs";
        m19_result_not_read: ResultNotRead, [(LostAfterPush, 1)], "done again";
    }
}

/// Nothing breaks while every rule is kept.
mod worlds {
    use super::*;
    use Fault::*;

    fn run(name: &'static str, world: fn(Small) -> Config) {
        holds(world(&|budget| Config::small(name, budget)));
    }

    macro_rules! worlds {
        ($($name:ident => $world:expr;)*) => {
            $(
                #[test]
                fn $name() {
                    run(stringify!($name), $world);
                }
            )*
        };
    }

    worlds! {
        nothing_goes_wrong => |small| small(&[]);
        dispatchers_die => |small| small(&[(Crash, 1)]);
        two_tasks_one_slot => |small| small(&[(Crash, 1)]).tasks(2);
        cancelled_and_reopened => |small| small(&[(CancelItem, 1), (Reopen, 1)]);
        label_off_and_on => |small| small(&[(ToggleLabel, 2)]);
        label_and_reopen => |small| small(&[(ToggleLabel, 2), (Reopen, 1)]);
        lost_to_the_infrastructure => |small| small(&[(Infrastructure, 2)]).max_attempts(2);
        infrastructure_and_crash => |small| small(&[(Infrastructure, 1), (Crash, 1)]);
        lost_after_its_push => |small| small(&[(LostAfterPush, 1), (Unread, 1), (Crash, 1)]);
        infrastructure_and_label => |small| small(&[(Infrastructure, 1), (ToggleLabel, 2)]);
        deleted_by_hand => |small| small(&[(HandDeletion, 1)]);
        deleted_by_hand_and_crash => |small| small(&[(HandDeletion, 1), (Crash, 1)]);
        deleted_by_hand_and_reopened => |small| small(&[(HandDeletion, 1), (Reopen, 1)]);
        ledger_lost => |small| small(&[(LedgerLost, 1)]);
        ledger_lost_and_crash => |small| small(&[(LedgerLost, 1), (Crash, 1)]);
        ledger_lost_and_infrastructure => |small| small(&[(LedgerLost, 1), (Infrastructure, 1)]);
        ledger_lost_and_cancel => |small| small(&[(LedgerLost, 1), (CancelItem, 1), (Reopen, 1)]);
        answers_lost => |small| small(&[(AnswerLost, 2)]);
        answer_lost_and_reopened => |small| small(&[(AnswerLost, 1), (Reopen, 1)]);
        unreadable => |small| small(&[(Unread, 2), (Infrastructure, 1)]);
        role_changed => |small| small(&[(ChangeRole, 1), (Crash, 1)]).two_roles();
        dragged => |small| small(&[(Drag, 1), (ToggleLabel, 2), (Reopen, 1)]);
        stopped_by_a_person => |small| small(&[(StopRun, 1), (Reopen, 1)]);
        stopped_and_lost => |small| small(&[(StopRun, 1), (Infrastructure, 1), (Crash, 1)]);
        refused => |small| small(&[(Refusal, 1), (Crash, 1)]);
        two_agents => |small| small(&[(Crash, 1), (Infrastructure, 1)]).two_agents();
        skewed_registries => |small| small(&[(Crash, 1), (ToggleLabel, 2)]).skewed();
        skewed_with_two_tasks => |small| small(&[(Infrastructure, 1)]).skewed().tasks(2);
        three_passes => |small| small(&[(Crash, 1), (Reopen, 1)]).passes(3);
        three_dispatchers => |small| small(&[(Crash, 1)]).dispatchers(3).passes(1);
    }
}

/// Larger worlds: `cargo test --test simulator -- --ignored`, minutes and gigabytes.
mod large_worlds {
    use super::*;
    use Fault::*;

    macro_rules! worlds {
        ($($name:ident => $budget:expr $(, $change:ident($($argument:expr)?))*;)*) => {
            $(
                #[test]
                #[ignore = "takes minutes and gigabytes"]
                fn $name() {
                    let config = Config::small(stringify!($name), &$budget);
                    holds(Config { limit: config.limit * 50, ..config }$(.$change($($argument)?))*);
                }
            )*
        };
    }

    worlds! {
        everything_once => [
            (Crash, 1), (CancelItem, 1), (Reopen, 1), (Infrastructure, 1), (HandDeletion, 1), (LedgerLost, 1)
        ];
        label_reopen_hand_and_crash => [(ToggleLabel, 2), (Reopen, 1), (HandDeletion, 1), (Crash, 1)];
        drag_label_reopen_and_crash => [(Drag, 1), (ToggleLabel, 2), (Reopen, 1), (Crash, 1)];
        two_tasks_label_hand_and_crash => [(ToggleLabel, 1), (HandDeletion, 1), (Crash, 1)], tasks(2);
        two_tasks_two_agents => [(Crash, 1), (Infrastructure, 1)], tasks(2), two_agents();
        two_tasks_skewed => [(Crash, 1), (Infrastructure, 1)], tasks(2), skewed();
        three_passes_reopen_and_cancel => [(Reopen, 2), (CancelItem, 1), (Crash, 1)], passes(3);
        three_dispatchers_reopen => [(Crash, 1), (Reopen, 1)], dispatchers(3);
        answers_lost_and_unread => [(AnswerLost, 2), (Unread, 1), (Infrastructure, 1)];
        stopped_lost_and_reopened => [(StopRun, 1), (Infrastructure, 1), (Reopen, 1)];
    }
}
