//! `agents check`: every fault of the registry, in one go.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use super::fault_report::{self, Checked};
use super::sarif;
use crate::adapters::registry_files;
use crate::adapters::vault_file::VAULT;
use crate::cli::{AgentsCheckArgs, CheckFormat};
use crate::commands::credentials::Held;
use crate::domain::registry::{Fault, Registry, Rule, Severity, parse};
use crate::domain::vault;
use crate::environment;
use crate::error::{Exit, UserError};
use crate::output::{self, workflow};

pub(super) fn run(args: &AgentsCheckArgs) -> anyhow::Result<Exit> {
    let sources = registry_files::read(&args.registry.registry)?;
    let outcome = parse(&sources);
    let (registry, faults) = match &outcome {
        Ok(parsed) => {
            let lacked = lacking(&args.registry.registry, &parsed.registry)?;
            (Some(&parsed.registry), [parsed.warnings.clone(), lacked].concat())
        }
        Err(faults) => (None, faults.clone()),
    };
    let directory = shown(&args.registry.registry);
    let checked = Checked { directory: &directory, sources: &sources, registry, faults: &faults };
    match args.format.unwrap_or_else(default_format) {
        CheckFormat::Text => output::result(&fault_report::text(&checked, may_colour()))?,
        CheckFormat::Json => output::json(&fault_report::json(&checked))?,
        CheckFormat::Sarif => output::json(&sarif::log(&checked))?,
        CheckFormat::Github => output::result(&fault_report::github(&checked))?,
    }
    Ok(if registry.is_some() { Exit::Handled } else { Exit::Usage })
}

/// What the vault lacks, where it is there and can be opened.
fn lacking(directory: &Path, registry: &Registry) -> anyhow::Result<Vec<Fault>> {
    match Held::open(directory) {
        Ok(Held::Open(vault)) => Ok(vault::missing(&vault, registry)),
        Ok(Held::Absent | Held::Locked | Held::Elsewhere | Held::OfServer(_)) => Ok(Vec::new()),
        // A fault among others: the registry itself can be checked all the same.
        Err(error) => error.downcast::<UserError>().map(|error| {
            vec![Fault {
                file: VAULT.to_owned(),
                place: None,
                severity: Severity::Warning,
                rule: Rule::MissingCredential,
                cause: error.cause,
                cure: error.remedy,
            }]
        }),
    }
}

fn default_format() -> CheckFormat {
    if workflow::is_here() { CheckFormat::Github } else { CheckFormat::Text }
}

fn may_colour() -> bool {
    io::stdout().is_terminal() && environment::value("NO_COLOR").is_none()
}

/// The registry's directory as reports show it: below the working directory where it is, since
/// annotations count from there.
fn shown(directory: &Path) -> PathBuf {
    std::env::current_dir()
        .ok()
        .and_then(|current| directory.strip_prefix(current).ok())
        .unwrap_or(directory)
        .to_owned()
}
