//! Opens the bundle in the private repository and puts its contents before the gate.

use super::failure;
use crate::adapters::beneath;
use crate::adapters::delivery::{Contents, Delivery, OpenError, PACK_LIMIT};
use crate::adapters::run_directory::{BUNDLE, RunDirectory};
use crate::commands::run::git_failure;
use crate::domain::commit;
use crate::domain::gate::{self, Change, Gate, MAX_FILE_BYTES, MAX_TOTAL_BYTES, MODE_SUBMODULE, Version};
use crate::domain::phase::PhaseFailure;
use crate::domain::result::{FailureClass, Finding};
use crate::domain::run_plan::RunPlan;

/// What became of the work.
pub(super) enum Opened {
    /// The gate lets this commit through.
    Passed(String),
    /// The gate refuses it.
    Refused {
        /// Why.
        findings: Vec<Finding>,
        /// To be kept under the refused ref; `None` where it was not looked through.
        commit: Option<String>,
    },
    /// It cannot be opened.
    Failed(PhaseFailure),
}

/// Opens the work of a run and gates it.
pub(super) async fn open(
    directory: &RunDirectory,
    plan: &RunPlan,
    base: &str,
    delivery: &Delivery,
    gate: &Gate,
) -> anyhow::Result<Opened> {
    let unusable = |reason: String| Opened::Failed(PhaseFailure { class: FailureClass::Agent, reason });
    let bundle = match beneath::read_file(directory.root(), BUNDLE, PACK_LIMIT) {
        Ok(Some(bundle)) => bundle,
        Ok(None) => return Ok(unusable("the bundle of the work is missing".into())),
        Err(error) => return Ok(unusable(format!("the bundle of the work cannot be opened: {error}"))),
    };
    if let Err(failed) = delivery.fetch_commit(base).await.map_err(failure("fetch the base commit")) {
        return Ok(Opened::Failed(failed));
    }
    let looked = async {
        let commit = delivery.open(&bundle, base).await?;
        let text = delivery.commit_text(&commit).await?;
        if !commit::is_expected(plan, base, &text) {
            let finding =
                gate::commit_finding("the commit is not the one that this run may deliver on its base");
            return Ok((vec![finding], None));
        }
        let changes = delivery.changes(base, &commit).await?;
        let (findings, is_whole) = check(delivery, gate, &changes).await?;
        Ok::<_, OpenError>((findings, is_whole.then_some(commit)))
    };
    Ok(match looked.await {
        Ok((findings, Some(commit))) if findings.is_empty() => Opened::Passed(commit),
        Ok((findings, commit)) => Opened::Refused { findings, commit },
        Err(OpenError::Git(error)) => Opened::Failed(git_failure("look through the work", &error)),
        Err(error) => unusable(error.to_string()),
    })
}

/// The findings, and whether everything was looked through.
async fn check(
    delivery: &Delivery,
    gate: &Gate,
    changes: &[Change],
) -> Result<(Vec<Finding>, bool), OpenError> {
    let mut findings = gate.check_changes(changes);
    let sizes = changes.iter().filter_map(|change| change.new.as_ref()).map(|new| new.bytes);
    if sizes.clone().sum::<u64>() > MAX_TOTAL_BYTES || sizes.clone().any(|bytes| bytes > MAX_FILE_BYTES) {
        return Ok((findings, false));
    }
    let mut contents = delivery.contents()?;
    for change in changes {
        let Some(new) = content(&mut contents, change.new.as_ref()).await? else { continue };
        let old = content(&mut contents, change.old.as_ref()).await?;
        findings.extend(gate.check_content(&change.path, old.as_deref(), &new));
    }
    contents.finish().await?;
    Ok((findings, true))
}

/// A link's content is where it leads: looked at like any other. A large file that is replaced is
/// not read.
async fn content(contents: &mut Contents, version: Option<&Version>) -> Result<Option<Vec<u8>>, OpenError> {
    match version.filter(|version| version.mode != MODE_SUBMODULE && version.bytes <= MAX_FILE_BYTES) {
        Some(version) => contents.read(version).await.map(Some),
        None => Ok(None),
    }
}
