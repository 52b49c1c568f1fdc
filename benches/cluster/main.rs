//! What a run costs on a cluster (`ASTRA_TEST_KUBECONFIG`, see tests/cluster/up), as ratios of what was
//! measured in the same run on the same server. Without a cluster nothing is measured.
//!
//!     cargo bench --bench cluster [one_event | burst | history]

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a benchmark may panic, and prints"
)]

mod burst;
#[path = "../../tests/support/cluster.rs"]
mod cluster;
#[path = "../../tests/support/coders.rs"]
mod coders;
mod history;
mod one_event;
#[path = "../../tests/support/plane_fake.rs"]
mod plane_fake;
#[path = "../../tests/support/plane_world.rs"]
mod plane_world;
#[path = "../../tests/support/site.rs"]
mod site;
#[path = "../../tests/support/small_world.rs"]
mod small_world;

use std::time::Duration;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    if std::env::var_os("ASTRA_TEST_KUBECONFIG").is_none() {
        println!("cluster: skipped, since ASTRA_TEST_KUBECONFIG is not set (tests/cluster/up)");
        return;
    }
    // Cargo adds options of its own.
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let is_wanted = |name: &str| only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    if is_wanted("one_event") {
        one_event::measure().await;
    }
    if is_wanted("burst") {
        burst::measure().await;
    }
    if is_wanted("history") {
        history::measure().await;
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Milliseconds, for people.
fn ms(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1e3)
}
