//! The whole loop, from a webhook to a pull request and a word in Plane, with one fault on the way. The
//! list of requests comes from a loop without faults; each of them goes wrong in each way, one a loop.
//! After the fault one sweep must lead to one pull request, one comment and the right state.
//!
//! There are more such loops than anybody wants to wait for: by default as many as fit into
//! `ASTRA_TEST_SECONDS` (20), drawn by `ASTRA_TEST_SEED`; all of them with `ASTRA_TEST_FAULTS=all`; those
//! whose request and failure contain its text with any other value.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test")]

#[path = "support/git_server.rs"]
mod git_server;
#[path = "support/github_fake.rs"]
mod github_fake;
#[path = "support/loop_world.rs"]
mod loop_world;
#[path = "support/plane_fake.rs"]
mod plane_fake;
#[path = "support/plane_world.rs"]
mod plane_world;
#[path = "support/relay.rs"]
mod relay;
#[path = "support/site.rs"]
mod site;
#[path = "support/wire.rs"]
mod wire;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use loop_world::Loop;
use plane_world::ITEM;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use wire::{Call, Failure};

const WORK: &str = "echo more >> README.md; echo 'Said more.' > $RUN_OUTPUT_DIR/summary.md";
/// Loops at the same time: most of their time they wait.
const LOOPS: usize = 6;

/// One loop. What is wrong after it, and its requests.
async fn go(fault: Option<(Call, Failure)>) -> (Vec<String>, Vec<Call>) {
    let world = Loop::new(WORK, 1).await;
    if let Some((call, failure)) = fault {
        world.wire.fails(call, failure);
    }
    let raised = tokio::task::block_in_place(|| webhook(&world));
    for (number, raised) in raised.iter().enumerate() {
        let event = world.event(number, raised);
        world.may_fail(&["dispatch", "--event", &event, "--detach"]).await;
    }
    world.quiet().await;
    world.site.half_a_minute_passes();
    world.may_fail(&["publish"]).await;
    world.may_fail(&["sweep"]).await;
    world.quiet().await;
    let calls = world.wire.calls();
    let mut faults = Vec::new();
    if !world.wire.mend() {
        faults.push(format!("the fault did not come: {calls:#?}"));
    }
    world.ten_minutes_pass();
    world.site.half_a_minute_passes();
    world.json(&["sweep"]).await;
    world.quiet().await;
    faults.extend(world.faults(ITEM));
    faults.extend(world.left_over().await);
    (faults, calls)
}

/// Plane tells the relay, and the relay tells GitHub: the events that it raised.
fn webhook(world: &Loop) -> Vec<serde_json::Value> {
    let relay = world.relay();
    let (headers, body) = relay::recorded("10-issue-created-label-agent-coder");
    assert_eq!(relay::post(&relay, &headers, &body), Some(200));
    let end = Instant::now() + Duration::from_secs(120);
    while !relay.get("/metrics").1.contains("astra_relay_waiting_events 0") {
        assert!(Instant::now() < end, "the event is not forwarded");
        std::thread::sleep(Duration::from_millis(50));
    }
    world.github.world(|world| world.raised.clone())
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Every request with every failure, in the order of the seed.
fn matrix(calls: &[Call], chosen: Option<&str>) -> Vec<(Call, Failure)> {
    let all = calls.iter().flat_map(|call| Failure::ALL.map(|failure| (call.clone(), failure)));
    let is_chosen = |case: &(Call, Failure)| match chosen {
        None | Some("all") => true,
        Some(text) => format!("{case:?}").contains(text),
    };
    let mut cases: Vec<_> = all.filter(is_chosen).collect();
    let seed = variable("ASTRA_TEST_SEED").and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(rand::random::<u64>);
    println!("ASTRA_TEST_SEED={seed}");
    cases.shuffle(&mut rand::rngs::StdRng::seed_from_u64(seed));
    cases
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn whatever_fails_once_ends_in_one_pull_request_and_one_comment() {
    let (faults, calls) = go(None).await;
    assert!(faults.is_empty(), "without a fault: {faults:#?}");
    println!("{calls:#?}");
    let chosen = variable("ASTRA_TEST_FAULTS");
    let cases = matrix(&calls, chosen.as_deref());
    let seconds = variable("ASTRA_TEST_SECONDS").and_then(|text| text.parse().ok()).unwrap_or(20);
    let end = chosen.is_none().then(|| Instant::now() + Duration::from_secs(seconds));
    let (total, cases) = (cases.len(), Arc::new(Mutex::new(cases)));
    let mut loops = tokio::task::JoinSet::new();
    for _ in 0..LOOPS {
        let cases = Arc::clone(&cases);
        loops.spawn(async move {
            let mut broken = Vec::new();
            while end.is_none_or(|end| Instant::now() < end) {
                let Some((call, failure)) = cases.lock().unwrap().pop() else { break };
                let begun = Instant::now();
                let outcome = tokio::spawn(go(Some((call.clone(), failure)))).await;
                let faults = outcome.map_or_else(|error| vec![error.to_string()], |(faults, _)| faults);
                println!("{call:?} {failure:?}: {:.0?} {faults:#?}", begun.elapsed());
                if !faults.is_empty() {
                    broken.push((call, failure, faults));
                }
            }
            broken
        });
    }
    let broken: Vec<_> = loops.join_all().await.into_iter().flatten().collect();
    println!("{} of {total} loops with a fault", total - cases.lock().unwrap().len());
    assert!(broken.is_empty(), "{} loops: {broken:#?}", broken.len());
}
