//! `logs`: what a run and its agent said. Agents are strangers: control characters are made visible.

use std::time::Duration;

use crate::adapters::local::log_reader::LogReader;
use crate::cli::LogsArgs;
use crate::commands::local::Local;
use crate::domain::escape;
use crate::domain::job::Job;
use crate::error::Exit;
use crate::output;

/// How often a followed log is looked at.
const POLL: Duration = Duration::from_millis(200);

pub(super) async fn run(args: &LogsArgs) -> anyhow::Result<Exit> {
    let local = Local::open(&args.registry, &args.state, None)?;
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
