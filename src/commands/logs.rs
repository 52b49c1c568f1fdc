//! `logs`: what a run and its agent said. Agents are strangers: control characters are made visible.

use std::time::Duration;

use crate::adapters::local::log_reader::LogReader;
use crate::cli::LogsArgs;
use crate::commands::local::Local;
use crate::commands::on_cluster::OnCluster;
use crate::commands::place::Place;
use crate::domain::escape;
use crate::domain::job::Job;
use crate::domain::kubernetes::pod::Step;
use crate::error::Exit;
use crate::output;

/// How often a followed log is looked at.
const POLL: Duration = Duration::from_millis(200);
/// How often it is asked whether a pod's next step has begun.
const POD_POLL: Duration = Duration::from_secs(1);

pub(super) async fn run(args: &LogsArgs) -> anyhow::Result<Exit> {
    match Place::open(&args.place, None).await? {
        Place::Local(local) => of_process(&local, args).await,
        Place::Cluster(cluster) => of_pod(&cluster, args).await,
    }
}

async fn of_process(local: &Local, args: &LogsArgs) -> anyhow::Result<Exit> {
    let mut job = local.known_job(&args.run)?;
    let mut reader = LogReader::new(&local.executor.state.run(&args.run));
    loop {
        let over = !args.follow || has_ended(&job);
        print(&reader.read(over)?)?;
        if over {
            return Ok(Exit::Handled);
        }
        tokio::time::sleep(POLL).await;
        job = local.known_job(&args.run)?;
    }
}

/// The steps of a pod, each from its beginning to its end. A step is followed where the run goes on.
async fn of_pod(cluster: &OnCluster, args: &LogsArgs) -> anyhow::Result<Exit> {
    let mut job = cluster.known_job(&args.run).await?;
    let mut any = false;
    for step in Step::ALL {
        loop {
            let follow = args.follow && !has_ended(&job);
            let line = |line: &str| print(&[line.to_owned()]);
            let found = cluster.store.cluster().log(&job.reference(), step, follow, line).await?;
            any |= found;
            if found || !follow {
                break;
            }
            tokio::time::sleep(POD_POLL).await;
            job = cluster.known_job(&args.run).await?;
        }
    }
    // The last step's log ends a moment before its run.
    while args.follow && !has_ended(&job) {
        tokio::time::sleep(POD_POLL).await;
        job = cluster.known_job(&args.run).await?;
    }
    if !any {
        output::say("note: there is no log: its pod has not started, or is gone");
    }
    Ok(Exit::Handled)
}

/// Ended, or cancelled before anything of it ran.
fn has_ended(job: &Job) -> bool {
    job.end.is_some() || (job.cancel.is_some() && !job.pod_alive)
}

fn print(lines: &[String]) -> anyhow::Result<()> {
    for line in lines {
        output::result(&escape::inert(&escape::terminal(line)))?;
    }
    Ok(())
}
