//! Fifty tasks for five agents, from webhooks to pull requests, on this machine: every delivery comes more
//! than once and in no order, the relay is killed twice, every event is dispatched twice, and dispatchers and
//! supervisors are killed at random. Every task must end with one pull request, one comment and the right
//! state, and no agent may ever have more than it takes.
//!
//! Of `ASTRA_TEST_SEED` come the order and the moments of the kills.

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

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use loop_world::{Loop, kill};
use plane_world::PROJECT;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use relay::{Headers, Relay, SECRET, recorded, signed};
use serde_json::{Value, json};

const TASKS: u64 = 50;
const CAPACITY: usize = 2;
const OTHER_CODERS: [&str; 4] = ["deneb", "mira", "spica", "izar"];
const DISPATCHERS: usize = 4;
/// Of ten dispatchers, so many are killed.
const KILLED: u32 = 3;
/// So many supervisors are killed, each of another task: a third loss would be the last.
const KILLED_SUPERVISORS: usize = 8;
const BETWEEN_SWEEPS: Duration = Duration::from_secs(20);
/// A task whose supervisor is killed begins again half a minute later, and a run is published half a minute
/// after its end.
const LONGEST: Duration = Duration::from_secs(600);

fn id(number: u64) -> String {
    uuid::Uuid::from_u128(u128::from(1_000 + number)).to_string()
}

async fn world() -> Loop {
    let world =
        Loop::new("echo more >> README.md; echo Done. > $RUN_OUTPUT_DIR/summary.md", CAPACITY as u32).await;
    let vega = std::fs::read_to_string(world.site.path(".astra/agents/vega.yaml")).unwrap();
    for name in OTHER_CODERS {
        let other = vega.replace("name: vega", &format!("name: {name}"));
        let other = other
            .replace("astra-vega", &format!("astra-{name}"))
            .replace("agents/vega", &format!("agents/{name}"));
        world.site.write(&format!(".astra/agents/{name}.yaml"), &other);
    }
    world.plane.world(|plane| {
        let items = &mut plane.projects.get_mut(PROJECT).unwrap().items;
        let sample = items.remove(0);
        items.extend((1..=TASKS).map(|number| {
            let mut item = sample.clone();
            item["id"] = json!(id(number));
            item["sequence_id"] = json!(1_000 + number);
            item["external_id"] = json!(number.to_string());
            item
        }));
    });
    world
}

/// What Plane sends of all tasks, some of it more than once.
fn deliveries(random: &mut StdRng) -> Vec<(Headers, Vec<u8>)> {
    let mut all = Vec::new();
    for number in 1..=TASKS {
        for name in ["10-issue-created-label-agent-coder", "12-issue-updated-label-added"] {
            let mut event: Value = serde_json::from_slice(&recorded(name).1).unwrap();
            event["data"]["id"] = json!(id(number));
            event["data"]["sequence_id"] = json!(1_000 + number);
            let body = event.to_string().into_bytes();
            for _ in 0..random.random_range(1..=3) {
                all.push((signed(SECRET, &body), body.clone()));
            }
        }
    }
    all.shuffle(random);
    all
}

/// All deliveries go to the relay, which is killed twice: while it receives, and while it forwards.
fn webhooks(world: &Loop, random: &mut StdRng) -> Vec<Value> {
    let deliveries = deliveries(random);
    let raised = || world.github.world(|world| world.raised.len());
    let mut relay = world.relay();
    for (number, (headers, body)) in deliveries.iter().enumerate() {
        assert_eq!(relay::post(&relay, headers, body), Some(200));
        if number == deliveries.len() / 2 {
            relay.kill();
            relay = world.relay();
        }
    }
    let end = Instant::now() + Duration::from_secs(120);
    let until = |holds: &dyn Fn(&Relay) -> bool, relay: &Relay| {
        while !holds(relay) {
            assert!(Instant::now() < end, "events are not forwarded: {}", relay.get("/metrics").1);
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    until(&|_| raised() > TASKS as usize / 2, &relay);
    relay.kill();
    relay = world.relay();
    until(&|relay| relay.get("/metrics").1.contains("astra_relay_waiting_events 0"), &relay);
    world.github.world(|world| world.raised.clone())
}

/// Dispatches every event twice, in no order. Some dispatchers are killed, and nobody starts them again.
async fn dispatch(world: &Arc<Loop>, raised: &[Value], random: &mut StdRng) -> usize {
    let events = raised.iter().enumerate().map(|(number, raised)| world.event(number, raised));
    let mut events: Vec<String> = events.flat_map(|event| [event.clone(), event]).collect();
    events.shuffle(random);
    let lives = events.into_iter().map(|event| {
        let is_killed = random.random_range(0..10) < KILLED;
        (event, is_killed.then(|| Duration::from_millis(random.random_range(10..600))))
    });
    let events = Arc::new(Mutex::new(lives.collect::<Vec<_>>()));
    let mut dispatchers = tokio::task::JoinSet::new();
    for _ in 0..DISPATCHERS {
        let (world, events) = (Arc::clone(world), Arc::clone(&events));
        dispatchers.spawn(async move {
            let mut killed = 0;
            loop {
                let Some((event, life)) = events.lock().unwrap().pop() else { return killed };
                let command = world.command(&["dispatch", "--event", &event, "--detach"]);
                let output = tokio::process::Command::from(command).kill_on_drop(true).output();
                match tokio::time::timeout(life.unwrap_or(Duration::from_secs(120)), output).await {
                    Err(_) if life.is_some() => killed += 1,
                    Err(_) => panic!("a dispatcher takes longer than two minutes"),
                    Ok(output) => {
                        let output = output.unwrap();
                        let said = site::text(&output.stderr);
                        assert!(matches!(output.status.code(), Some(0 | 75)), "{said}");
                    }
                }
            }
        });
    }
    dispatchers.join_all().await.into_iter().sum()
}

/// Kills supervisors of runs that have not ended, each of another task.
async fn kill_supervisors(world: &Loop, mut random: StdRng) {
    let mut hit = BTreeSet::new();
    while hit.len() < KILLED_SUPERVISORS {
        tokio::time::sleep(Duration::from_millis(random.random_range(200..1_500))).await;
        let live: Vec<Value> = world.jobs().into_iter().filter(|job| job["end"].is_null()).collect();
        let supervisors = world.processes().into_iter().filter(|(_, line)| line.contains(" run supervise "));
        let mut targets: Vec<(u32, String)> = supervisors
            .filter_map(|(process, line)| {
                let job = live.iter().find(|job| line.contains(job["run"].as_str().unwrap()))?;
                Some((process, job["task"].as_str().unwrap().to_owned()))
            })
            .filter(|(_, task)| !hit.contains(task))
            .collect();
        targets.shuffle(&mut random);
        if let Some((process, task)) = targets.pop() {
            kill(process);
            hit.insert(task);
        }
    }
}

/// It goes on by itself; only what killed processes began needs the sweep.
async fn until_all_are_published(world: &Loop, begun: Instant) {
    let mut next_sweep = Instant::now() + BETWEEN_SWEEPS;
    let mut busy_until = Instant::now();
    loop {
        let jobs = world.jobs();
        let is_published = |job: &&Value| job["phase"] == "published" && job["cancel"].is_null();
        if jobs.iter().filter(is_published).count() == TASKS as usize {
            return;
        }
        assert!(begun.elapsed() < LONGEST, "{jobs:#?} {:#?}", world.processes());
        if world.is_busy() {
            busy_until = Instant::now();
        }
        if Instant::now() > next_sweep {
            if busy_until.elapsed() > 3 * BETWEEN_SWEEPS {
                // Whoever is left waits for a claim to get old: of one that is dead, or that had no answer.
                world.processes().into_iter().for_each(|(process, _)| kill(process));
            }
            world.ten_minutes_pass();
            world.may_fail(&["sweep"]).await;
            next_sweep = Instant::now() + BETWEEN_SWEEPS;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// The most runs that an agent had at the same time, from a Job's making to its end.
fn most_at_once(jobs: &[Value], agent: &str) -> usize {
    let of_agent = || jobs.iter().filter(|job| job["agent"] == agent);
    let time = |value: &Value| value.as_str().map(|text| text.parse::<jiff::Timestamp>().unwrap());
    let begins = |job: &Value| time(&job["created_at"]).unwrap();
    let lives_at = |job: &&Value, at| begins(job) <= at && time(&job["end"]["at"]).is_none_or(|end| at < end);
    let at_once = |at| of_agent().filter(|job| lives_at(job, at)).count();
    of_agent().map(|job| at_once(begins(job))).max().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "takes a minute and a half"]
async fn a_crowd_of_tasks_ends_each_with_one_pull_request_and_one_comment() {
    let begun = Instant::now();
    let seed = std::env::var("ASTRA_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(rand::random::<u64>);
    println!("ASTRA_TEST_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let world = Arc::new(world().await);
    let raised = tokio::task::block_in_place(|| webhooks(&world, &mut random));
    println!("{:.0?}: {} events are raised", begun.elapsed(), raised.len());

    let killer = {
        let (world, random) = (Arc::clone(&world), StdRng::seed_from_u64(random.random()));
        tokio::spawn(async move { kill_supervisors(&world, random).await })
    };
    let killed = dispatch(&world, &raised, &mut random).await;
    println!("{:.0?}: all are dispatched, {killed} dispatchers were killed", begun.elapsed());

    until_all_are_published(&world, begun).await;
    // Where everything was over before it found its last victim.
    killer.abort();
    println!("{:.0?}: all are published", begun.elapsed());

    let jobs = world.jobs();
    let lost = jobs.len() - TASKS as usize;
    println!("{} runs, {lost} of them were lost on the way", jobs.len());
    assert!(lost > 0, "no supervisor was killed in time");
    let agents = OTHER_CODERS.iter().chain(&["vega"]).map(|agent| (*agent, most_at_once(&jobs, agent)));
    let agents: Vec<_> = agents.collect();
    println!("most runs at once: {agents:?}");
    assert!(agents.iter().all(|(_, most)| (1..=CAPACITY).contains(most)), "{agents:?}");
    let faults = (1..=TASKS).flat_map(|number| {
        let faults = world.faults(&id(number));
        faults.into_iter().map(move |fault| format!("task {number}: {fault}"))
    });
    let faults: Vec<String> = faults.collect();
    assert!(faults.is_empty(), "{faults:#?}");
    // A lost attempt may have pushed its branch: the last traces of a run take it with them.
    world.json(&["sweep", "--keep-days", "0"]).await;
    let left = world.left_over().await;
    assert!(left.is_empty(), "{left:#?}");
    println!("{:.0?}: done", begun.elapsed());
}
