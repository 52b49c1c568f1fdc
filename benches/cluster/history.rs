//! What published Jobs cost those who look for others: the time of a pass, and memory.
//! Goal: with 10,000 at most 1.5 of the time with 100.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use astra_dispatch::domain::kubernetes::LABEL_PHASE;
use astra_dispatch::domain::matching::Running;
use futures_util::StreamExt;
use http::Method;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::coders::Coders;
use crate::{median, ms, site};

const ROUNDS: usize = 15;
const FEW: u64 = 100;
const MANY: u64 = 10_000;

pub(crate) async fn measure() {
    let coders = Coders::new(5, 10, 1).await;
    let program = assert_cmd::cargo::cargo_bin("astra-dispatch");
    // The event that is repeated below.
    passed(&coders, &program, true).await;
    publish(&coders, 0..FEW).await;
    let few = [measured(&coders, &program, true).await, measured(&coders, &program, false).await];
    publish(&coders, FEW..MANY).await;
    println!("a pass over published Jobs (median of {ROUNDS}; goal: with {MANY} at most 1.5 of {FEW})");
    for (few, (name, has_plane)) in few.into_iter().zip([("with Plane", true), ("without Plane", false)]) {
        let many = measured(&coders, &program, has_plane).await;
        println!(
            "  dispatch {name:13}  {} → {}, ratio {:.2}; memory {:.1} → {:.1} MiB",
            ms(few.0),
            ms(many.0),
            many.0.as_secs_f64() / few.0.as_secs_f64(),
            few.1,
            many.1,
        );
    }
    println!("  relay --watch-jobs     memory {:.1} MiB", watching(&coders, &program).await);
    coders.cluster.remove().await;
}

/// Jobs of runs that were published. No controller looks at them.
async fn publish(coders: &Coders, numbers: std::ops::Range<u64>) {
    let maker = coders.cluster.maker(|_, name| format!("value of {name}"));
    let agents: Vec<_> = coders.cluster.registry.agents.keys().cloned().collect();
    let create = |number: u64| {
        let mut new = coders.cluster.new_job(1_000_000 + number);
        new.agent = agents[number as usize % agents.len()].clone();
        new.namespace = new.agent.namespace();
        let mut job = serde_json::to_value(maker.job(&new, &Running::default()).unwrap()).unwrap();
        job["metadata"]["labels"][LABEL_PHASE] = json!("published");
        job["spec"]["managedBy"] = json!("benches.astra.dev/nobody");
        let path = format!("/apis/batch/v1/namespaces/{}/jobs", new.namespace);
        async move {
            let created = coders.cluster.call(Method::POST, &path, "application/json", &job).await;
            assert_eq!(created.status, 201, "{}", created.body);
        }
    };
    futures_util::stream::iter(numbers).map(create).buffer_unordered(16).collect::<Vec<()>>().await;
}

/// Time and memory of a pass.
async fn measured(coders: &Coders, program: &Path, has_plane: bool) -> (Duration, f64) {
    let (mut times, mut memory) = (Vec::new(), 0_f64);
    for _ in 0..ROUNDS {
        let (time, most) = passed(coders, program, has_plane).await;
        times.push(time);
        memory = memory.max(most);
    }
    (median(times), memory)
}

/// `dispatch` for the one event, with what it took: time, and memory in MiB.
async fn passed(coders: &Coders, program: &Path, has_plane: bool) -> (Duration, f64) {
    // A new state: the budget of requests to Plane is kept there.
    let mut command = coders.dispatch(program, &format!("state-{:08x}", rand::random::<u32>()), 1);
    if !has_plane {
        command.env_remove("PLANE_API_KEY");
    }
    let begun = Instant::now();
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let process = child.id().unwrap();
    let mut end = std::pin::pin!(child.wait_with_output());
    let mut memory = 0_f64;
    let output = loop {
        tokio::select! {
            output = &mut end => break output.unwrap(),
            () = tokio::time::sleep(Duration::from_millis(2)) => memory = memory.max(peak(process)),
        }
    };
    let time = begun.elapsed();
    assert!(output.status.success(), "{}", site::text(&output.stderr));
    (time, memory)
}

/// The most memory that a process has had, in MiB; 0 where it has ended.
fn peak(process: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or(0.0, |line| line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0)
}

/// The memory of a watcher that has listed everything, in MiB.
async fn watching(coders: &Coders, program: &Path) -> f64 {
    let mut command =
        coders.command(program, "state-relay", &["relay", "--listen", "127.0.0.1:0", "--watch-jobs"]);
    command.env_remove("ASTRA_NO_GITHUB");
    command.envs([
        ("GITHUB_TOKEN", "ghs_token"),
        ("GITHUB_REPOSITORY", "astra/ops"),
        ("ASTRA_WEBHOOK_SECRET", "s"),
    ]);
    command.env("GITHUB_API_URL", "http://127.0.0.1:1");
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().unwrap_or_default();
    assert!(line.starts_with("listening"), "{line}");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let memory = peak(child.id().unwrap());
    child.kill().await.unwrap();
    memory
}
