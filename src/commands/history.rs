//! `status --history`: the newest runs of the run log, from any machine.

use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::cli::{Format, StatusArgs};
use crate::commands::place::Opened;
use crate::commands::word::Forge;
use crate::domain::escape;
use crate::domain::message;
use crate::error::{Exit, UserError};
use crate::output;

/// Of the document.
const HISTORY_VERSION: u32 = 1;

pub(super) async fn run(args: &StatusArgs, count: u8) -> anyhow::Result<Exit> {
    let opened = Opened::new(&args.place.registry, &args.place.state, None)?;
    opened.forge.must_be_open()?;
    let log = match &opened.forge {
        Forge::GitHub(github) => github.log.as_ref(),
        Forge::Files | Forge::Closed => None,
    };
    let log = log.ok_or_else(|| {
        UserError::usage(
            "nobody says which repository has the run log",
            "set GITHUB_REPOSITORY to the registry's repository, or run_log.repository in astra.yaml",
        )
        .at("--history")
    })?;
    let runs = log.newest(count.into()).await.map_err(|fault| {
        let remedy = fault.remedy();
        let cause = format!("the run log of {} cannot be read: {fault}", log.repository);
        if fault.is_passing() { UserError::retry(cause, remedy) } else { UserError::usage(cause, remedy) }
    })?;
    match args.format.format {
        Format::Json => output::json(&json!({"version": HISTORY_VERSION, "runs": runs}))?,
        Format::Text if runs.is_empty() => output::result("no run was published yet")?,
        Format::Text => output::result(&table(&runs))?,
    }
    Ok(Exit::Handled)
}

fn table(runs: &[Value]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["ENDED", "RUN", "TASK", "AGENT", "OUTCOME", "WHERE"]);
    for run in runs {
        let text = |key: &str| run.get(key).and_then(Value::as_str).unwrap_or("-");
        let written = |kind: &str| {
            let writes = run.get("writes").and_then(Value::as_array).into_iter().flatten();
            writes.filter(|write| write["kind"] == kind).find_map(|write| write["what"].as_str())
        };
        let place = written("pull_request").or_else(|| written("review")).unwrap_or("-");
        let cells = [text("ended"), text("run"), text("task"), text("agent"), text("outcome"), place];
        table.add_row(cells.map(|cell| escape::terminal(&message::one_line(cell, 200)).into_owned()));
    }
    table.to_string()
}
