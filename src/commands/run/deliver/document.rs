//! Makes the result document. Everything in it that an agent had a hand in is cut, made visible and
//! looked through for secrets.

use std::time::Duration;

use super::Ready;
use crate::domain::ending::Reports;
use crate::domain::gate::{self, Gate};
use crate::domain::result::{Durations, Finding, RESULT_VERSION, RunOutcome, RunResult};
use crate::domain::run_plan::RunPlan;
use crate::domain::words;

/// Secrets and tokens in what the agent says.
pub(super) fn check_words(gate: &Gate, reports: &Reports) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(agent) = &reports.agent {
        findings.extend(gate.check_words("the agent's report has", &agent.reason));
        findings
            .extend(gate.check_words("the agent's report has", agent.model.as_deref().unwrap_or_default()));
    }
    if let Some(collect) = &reports.collect {
        findings.extend(gate.check_words("the summary has", &collect.summary));
        let failure = collect.failure.as_ref().map(|failure| failure.reason.as_str());
        findings.extend(gate.check_words("the report on the work has", failure.unwrap_or_default()));
        if let Some(review) = &collect.review {
            findings.extend(gate.check_words("the review has", &review.summary));
            for comment in &review.comments {
                findings.extend(gate.check_words("a remark of the review has", &comment.body));
                findings.extend(gate.check_words("a remark of the review has", &comment.path));
            }
        }
    }
    findings.dedup();
    findings
}

/// The result as things stand.
pub(super) fn result(plan: &RunPlan, reports: &Reports, ready: &Ready, elapsed: Duration) -> RunResult {
    let (agent, collect) = (reports.agent.as_ref(), reports.collect.as_ref());
    // Where a secret was found, the agent's words stay here with its work.
    let speaks = !ready.is_secret;
    let ending = &ready.ending;
    let is_pushed = ready.commit.is_some() && ending.outcome != RunOutcome::Refused;
    let review = collect.and_then(|collect| collect.review.clone());
    RunResult {
        version: RESULT_VERSION,
        run: plan.run.clone(),
        outcome: ending.outcome,
        partial: ending.partial,
        branch: is_pushed.then(|| plan.run.branch()),
        head: ready.commit.clone().filter(|_| is_pushed),
        base: reports
            .prepare
            .as_ref()
            .map(|report| report.base_commit.clone())
            .filter(|base| !base.is_empty()),
        summary: collect
            .filter(|_| speaks)
            .map(|collect| words::summary(&collect.summary))
            .unwrap_or_default(),
        review: review.filter(|_| speaks && ending.outcome == RunOutcome::Review).map(words::review),
        tokens: agent.map(|agent| agent.tokens).unwrap_or_default(),
        cost_usd: agent.and_then(|agent| agent.cost_usd).filter(|cost| cost.is_finite() && *cost >= 0.0),
        durations: Durations {
            prepare: reports.prepare.as_ref().map_or(0.0, |report| report.seconds),
            agent: agent.map_or(0.0, |report| report.seconds),
            collect: collect.map_or(0.0, |report| report.seconds),
            deliver: elapsed.as_secs_f64(),
        },
        model: agent.filter(|_| speaks).and_then(|agent| agent.model.as_deref()).map(words::sentence),
        class: ending.class,
        reason: words::sentence(&ending.reason),
        findings: gate::kept(ready.findings.clone()),
        complete: true,
    }
}
