//! One plan: from everything that was read to the swap. Goal: 10,000 tasks × 1,000 agents within 1 s.

#![allow(clippy::panic, missing_docs, reason = "a benchmark may panic")]

#[path = "../tests/support/small_world.rs"]
mod small_world;

use std::time::Duration;

use astra_dispatch::domain::ledger::Ledger;
use astra_dispatch::domain::matching::Workforce;
use astra_dispatch::domain::pass::{
    Hint, ItemRead, LedgerRead, Listing, Pass, PassInput, Request, Response, Step, Timing, Version,
};
use divan::Bencher;
use jiff::Timestamp;

const AGENTS: usize = 1_000;

fn main() {
    divan::main();
}

fn workforce() -> Workforce {
    let names: Vec<String> = (0..AGENTS).map(|number| format!("a{number}")).collect();
    let agents: Vec<small_world::SmallAgent> = names.iter().map(|name| (name.as_str(), "coder", 5)).collect();
    small_world::workforce(&agents, 3, 1)
}

/// A pass that has read everything but its items, and those items.
fn ready(workforce: &Workforce, tasks: u64) -> (Pass<'_>, Vec<Response>) {
    let items: Vec<_> = (1..=tasks).map(|number| small_world::item(number, "coder")).collect();
    let hints = items.iter().map(|item| Hint { item: item.reference(), by_hand: false }).collect();
    let timing = Timing::default();
    let mut pass = Pass::new(PassInput { workforce, timing, hints, stop: None, seed: 1 });
    let mut responses = Vec::new();
    loop {
        let Step::Call(requests) = pass.step(responses) else { panic!("the pass ended early") };
        if let [Request::ReadItems(wanted)] = requests.as_slice() {
            assert_eq!(wanted.len(), items.len());
            let reads = items.iter().map(|item| ItemRead::Found(Box::new(item.clone()))).collect();
            return (pass, vec![Response::Items(reads)]);
        }
        responses = requests
            .iter()
            .map(|request| match request {
                Request::ReadLedger => Response::Ledger(LedgerRead {
                    ledger: Ledger::default(),
                    version: Version::default(),
                    now: Timestamp::UNIX_EPOCH,
                }),
                _ => Response::Jobs(Listing::default()),
            })
            .collect();
    }
}

#[divan::bench(args = [100, 1_000, 10_000, 100_000], sample_count = 3, max_time = Duration::from_secs(60))]
fn tasks_for_1000_agents(bencher: Bencher<'_, '_>, tasks: u64) {
    let workforce = workforce();
    let (pass, responses) = ready(&workforce, tasks);
    bencher.with_inputs(|| (pass.clone(), responses.clone())).bench_values(|(mut pass, responses)| {
        let Step::Call(requests) = pass.step(responses) else { panic!("no plan") };
        let [Request::Swap { ledger, .. }] = requests.as_slice() else { panic!("no swap") };
        assert_eq!(ledger.entries.len() as u64, tasks.min(5 * AGENTS as u64));
        pass
    });
}
