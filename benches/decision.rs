//! One decision about one work item. Goal: within 100 µs against 1,000 agents.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark may panic")]

use std::path::Path;
use std::sync::Arc;

use astra_dispatch::adapters::registry_files;
use astra_dispatch::domain::decision::{Situation, Verdict, judge};
use astra_dispatch::domain::event::{Delivery, Event};
use astra_dispatch::domain::matching::{Running, Workforce};
use astra_dispatch::domain::registry::Agent;
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

/// The sample registry with `agents` agents: five skills each out of 200, in these roles by turns.
fn workforce(agents: usize, roles: &[&str]) -> Workforce {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/registry");
    let mut registry = registry_files::load(&sample).unwrap();
    let model = registry.agents.remove(&"vega".parse().unwrap()).unwrap();
    registry.agents.clear();
    for number in 0..agents {
        let mut agent = Agent { name: format!("vega-{number}").parse().unwrap(), ..model.clone() };
        agent.role = roles[number % roles.len()].parse().unwrap();
        agent.skills = (0..5).map(|place| format!("skill-{}", (number * 7 + place * 31) % 200)).collect();
        agent.max_concurrent_tasks = 4;
        registry.agents.insert(agent.name.clone(), agent);
    }
    Workforce::new(Arc::new(registry))
}

fn recorded(name: &str) -> Delivery {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/events").join(name);
    let Event::Delivered(delivery) = Event::parse(&std::fs::read(path).unwrap()).unwrap() else { panic!() };
    *delivery
}

/// How many tasks each agent works on.
fn load(workforce: &Workforce, each: u32) -> Running {
    let mut running = Running::default();
    for agent in workforce.registry().agents.keys() {
        (0..each).for_each(|_| running.add(agent));
    }
    running
}

fn decide(bencher: Bencher<'_, '_>, workforce: &Workforce, running: &Running, dispatched: bool) {
    let mut delivery = recorded("10-issue-created-label-agent-coder.json");
    if let astra_dispatch::domain::event::Subject::Item(item) = &mut delivery.subject {
        item.labels.push("skill:skill-17".to_owned());
        item.description.push_str("\nSkills: skill-3, skill-4\nIt mentions skill-100 and skill 101.");
        item.description.push_str(&"\nand then some more words for people".repeat(50));
    }
    let item = delivery.item().unwrap();
    bencher.bench(|| {
        let verdict = judge(black_box(Some(item)), workforce, &Situation::fresh(running));
        assert_eq!(matches!(verdict, Verdict::Dispatched { .. }), dispatched);
        verdict
    });
}

#[divan::bench(args = [10, 100, 1_000])]
fn agents_of_four_roles(bencher: Bencher<'_, '_>, agents: usize) {
    let workforce = workforce(agents, &["coder", "ops", "docs", "reviewer"]);
    decide(bencher, &workforce, &Running::default(), true);
}

#[divan::bench(args = [10, 100, 1_000])]
fn agents_of_one_role_at_work(bencher: Bencher<'_, '_>, agents: usize) {
    let workforce = workforce(agents, &["coder"]);
    let running = load(&workforce, 3);
    decide(bencher, &workforce, &running, true);
}

#[divan::bench(args = [10, 100, 1_000])]
fn agents_of_one_role_all_busy(bencher: Bencher<'_, '_>, agents: usize) {
    let workforce = workforce(agents, &["coder"]);
    let running = load(&workforce, 4);
    decide(bencher, &workforce, &running, false);
}

#[divan::bench(args = [1_000])]
fn prepare_the_workforce(bencher: Bencher<'_, '_>, agents: usize) {
    let registry = Arc::new(workforce(agents, &["coder"]).registry().clone());
    bencher.bench(|| Workforce::new(Arc::clone(&registry)));
}

#[divan::bench]
fn read_an_event(bencher: Bencher<'_, '_>) {
    read(bencher, "10-issue-created-label-agent-coder.json");
}

#[divan::bench]
fn read_an_event_of_462_kilobytes(bencher: Bencher<'_, '_>) {
    read(bencher, "46-issue-created-200kb.json");
}

fn read(bencher: Bencher<'_, '_>, name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/events").join(name);
    let json = std::fs::read(path).unwrap();
    bencher.bench(|| Event::parse(black_box(&json)).unwrap());
}
