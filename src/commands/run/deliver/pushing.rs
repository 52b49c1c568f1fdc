//! Pushes a result, and the work that it tells of, in one step. Done again, it finds what is there.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;

use super::failure;
use crate::adapters::delivery::Delivery;
use crate::adapters::git::Trouble;
use crate::commands::run::git_failure;
use crate::domain::phase::PhaseFailure;
use crate::domain::result::{FailureClass, RunResult};
use crate::domain::run_plan::RunPlan;

/// The result that is at the remote in the end: this one, or that of an attempt before which had
/// got as far as pushing the same work.
pub(super) async fn push(
    delivery: &Delivery,
    plan: &RunPlan,
    result: &RunResult,
    commit: Option<&str>,
) -> anyhow::Result<Result<RunResult, PhaseFailure>> {
    let branch = result.branch.as_ref().map(|branch| format!("refs/heads/{branch}"));
    let work = commit.map(|commit| {
        let name = branch.unwrap_or_else(|| plan.run.refused_ref());
        (name, commit.to_owned())
    });
    match earlier(delivery, plan, result, work.as_ref()).await {
        Ok(None) => {}
        Ok(Some(earlier)) => return Ok(Ok(earlier)),
        Err(failure) => return Ok(Err(failure)),
    }
    let mut document = serde_json::to_vec_pretty(result).context("write the result as JSON")?;
    document.push(b'\n');
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let pushed = async {
        let seconds = i64::try_from(now).unwrap_or_default();
        let kept = delivery.result_commit(&document, plan.run.as_str(), seconds).await?;
        let refs: Vec<_> = work.clone().into_iter().chain([(plan.run.result_ref(), kept)]).collect();
        delivery.push(&refs).await
    };
    match pushed.await {
        Ok(()) => Ok(Ok(result.clone())),
        // The answer may have got lost after the push was done.
        Err(error) if matches!(error.trouble(), Trouble::Network | Trouble::RefExists | Trouble::Other) => {
            let found = earlier(delivery, plan, result, work.as_ref()).await;
            Ok(match found {
                Ok(Some(earlier)) => Ok(earlier),
                Ok(None) => Err(git_failure("push the work", &error)),
                Err(failure) if error.trouble() == Trouble::RefExists => Err(failure),
                Err(_) => Err(git_failure("push the work", &error)),
            })
        }
        Err(error) => Ok(Err(git_failure("push the work", &error))),
    }
}

/// What is at the remote already: nothing, the result of the same work, or (a failure) something else.
async fn earlier(
    delivery: &Delivery,
    plan: &RunPlan,
    result: &RunResult,
    work: Option<&(String, String)>,
) -> Result<Option<RunResult>, PhaseFailure> {
    let ours = [format!("refs/heads/{}", plan.run.branch()), plan.run.result_ref(), plan.run.refused_ref()];
    let refs = delivery.remote_refs(&ours).await.map_err(failure("look at the remote"))?;
    if refs.is_empty() {
        return Ok(None);
    }
    let foreign = |name: &str| PhaseFailure {
        class: FailureClass::Infrastructure,
        reason: format!("{name} is at the remote already, with something else than this run's work"),
    };
    let mut document = None;
    for (name, id) in &refs {
        if *name == plan.run.result_ref() {
            document = Some(id);
        } else if work.is_none_or(|(wanted, commit)| wanted != name || commit != id) {
            return Err(foreign(name));
        }
    }
    // Work and result are pushed in one step: one without the other is not from us.
    let (Some(id), true) = (document, refs.len() == 1 + usize::from(work.is_some())) else {
        return Err(foreign(&refs[0].0));
    };
    let bytes = delivery.fetch_result(id).await.map_err(failure("read the earlier result"))?;
    let earlier: Option<RunResult> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let same = |earlier: &RunResult| {
        earlier.version == result.version
            && earlier.run == result.run
            && earlier.outcome == result.outcome
            && earlier.head == result.head
            && earlier.base == result.base
    };
    earlier.filter(same).map(Some).ok_or_else(|| foreign(&plan.run.result_ref()))
}
