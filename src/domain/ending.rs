//! What a run comes to, from what its phases report.

use super::phase::{AgentEnding, AgentReport, CollectReport, PhaseFailure, PrepareReport};
use super::result::{FailureClass, RunOutcome};

/// What the phases before `deliver` have left; `None` where one left nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reports {
    /// Trusted.
    pub prepare: Option<PrepareReport>,
    /// A claim: it can make a run fail, never succeed.
    pub agent: Option<AgentReport>,
    /// A claim.
    pub collect: Option<CollectReport>,
}

/// How a run ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEnding {
    /// The outcome.
    pub outcome: RunOutcome,
    /// Work that was cut short is delivered.
    pub partial: bool,
    /// Whose failure it is, if it is one.
    pub class: Option<FailureClass>,
    /// One sentence.
    pub reason: String,
    /// There is a commit to gate and push.
    pub has_work: bool,
}

impl RunEnding {
    /// An ending in which nothing is delivered.
    pub fn failed(failure: PhaseFailure) -> Self {
        Self {
            outcome: RunOutcome::Failed,
            partial: false,
            class: Some(failure.class),
            reason: failure.reason,
            has_work: false,
        }
    }

    /// The gate, or a limit before it, refused the work.
    pub fn refused(reason: impl Into<String>) -> Self {
        let failure = PhaseFailure { class: FailureClass::Policy, reason: reason.into() };
        Self { outcome: RunOutcome::Refused, ..Self::failed(failure) }
    }

    fn agent_failed(reason: impl Into<String>) -> Self {
        Self::failed(PhaseFailure { class: FailureClass::Agent, reason: reason.into() })
    }

    fn good(outcome: RunOutcome, reason: &str) -> Self {
        Self { outcome, partial: false, class: None, reason: reason.to_owned(), has_work: false }
    }
}

/// The ending, provided that the gate lets the work through. `is_review`: the run was to review a
/// pull request; what it did to files does not count.
pub fn ending(reports: &Reports, is_review: bool) -> RunEnding {
    let missing = |phase: &str| {
        let reason = format!("{phase} left no report: it was ended from outside");
        RunEnding::failed(PhaseFailure { class: FailureClass::Infrastructure, reason })
    };
    let Some(prepare) = &reports.prepare else { return missing("prepare") };
    if let Some(failure) = &prepare.failure {
        return RunEnding::failed(failure.clone());
    }
    let Some(agent) = &reports.agent else {
        return RunEnding::agent_failed(
            "the agent step left no report: it was ended from outside, as for lack of memory",
        );
    };
    if matches!(agent.ending, AgentEnding::Failed | AgentEnding::Cancelled) {
        let class =
            if agent.ending == AgentEnding::Cancelled { Some(FailureClass::Cancelled) } else { agent.class };
        let class = class.unwrap_or(FailureClass::Agent);
        return RunEnding::failed(PhaseFailure { class, reason: agent.reason.clone() });
    }
    let Some(collect) = &reports.collect else { return missing("collect") };
    match &collect.failure {
        Some(failure) if failure.class == FailureClass::Policy => RunEnding::refused(failure.reason.clone()),
        Some(failure) => RunEnding::failed(failure.clone()),
        None if is_review => reviewed(agent, collect),
        None => worked(agent, collect),
    }
}

fn reviewed(agent: &AgentReport, collect: &CollectReport) -> RunEnding {
    match (agent.ending, &collect.review) {
        (AgentEnding::Done, Some(_)) => RunEnding::good(RunOutcome::Review, "a review was written"),
        // Cut short after it had written one: it stands.
        (_, Some(_)) => RunEnding {
            partial: true,
            class: Some(FailureClass::Agent),
            ..RunEnding::good(RunOutcome::Review, &agent.reason)
        },
        (AgentEnding::Done, None) => RunEnding::agent_failed("the reviewer wrote no review.json"),
        (ending, None) => cut_short(agent, ending, false),
    }
}

fn worked(agent: &AgentReport, collect: &CollectReport) -> RunEnding {
    match (agent.ending, &collect.commit) {
        (AgentEnding::Done, Some(_)) => {
            RunEnding { has_work: true, ..RunEnding::good(RunOutcome::Changed, "the work was pushed") }
        }
        (AgentEnding::Done, None) if agent.denials > 0 => RunEnding::agent_failed(format!(
            "nothing was changed, and {} tool calls were denied",
            agent.denials
        )),
        (AgentEnding::Done, None) => {
            RunEnding::good(RunOutcome::NoChange, "the agent found nothing to change")
        }
        (ending, commit) => cut_short(agent, ending, commit.is_some()),
    }
}

/// Turns, budget or time ran out. What there is, is delivered as partial work.
fn cut_short(agent: &AgentReport, ending: AgentEnding, has_work: bool) -> RunEnding {
    let outcome = if ending == AgentEnding::TimedOut { RunOutcome::TimedOut } else { RunOutcome::Failed };
    RunEnding { outcome, partial: has_work, has_work, ..RunEnding::agent_failed(agent.reason.clone()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::result::{Review, Tokens, Verdict};

    fn reports(ending: AgentEnding, has_commit: bool, has_review: bool) -> Reports {
        let review = Review { verdict: Verdict::Comment, summary: "s".into(), comments: vec![] };
        Reports {
            prepare: Some(PrepareReport { base_commit: "b".into(), seconds: 0.0, failure: None }),
            agent: Some(AgentReport {
                ending,
                reason: "its words".into(),
                class: Some(FailureClass::Credentials),
                exit_code: None,
                model: None,
                tokens: Tokens::default(),
                cost_usd: None,
                turns: None,
                denials: 0,
                seconds: 0.0,
            }),
            collect: Some(CollectReport {
                commit: has_commit.then(|| "c".into()),
                bundle_bytes: 0,
                summary: String::new(),
                review: has_review.then_some(review),
                seconds: 0.0,
                failure: None,
            }),
        }
    }

    fn line(reports: &Reports, is_review: bool) -> String {
        let ending = ending(reports, is_review);
        let class = ending.class.map_or("none".into(), |class| format!("{class:?}"));
        let partial = if ending.partial { " partial" } else { "" };
        let work = if ending.has_work { " with work" } else { "" };
        format!("{:?}/{class}{partial}{work}: {}", ending.outcome, ending.reason)
    }

    #[test]
    fn every_combination_has_its_ending() {
        use AgentEnding::{Cancelled, Done, Failed, Partial, TimedOut};
        let mut table = String::new();
        for ending in [Done, Partial, TimedOut, Failed, Cancelled] {
            for has in [true, false] {
                let work = line(&reports(ending, has, false), false);
                let review = line(&reports(ending, false, has), true);
                table.push_str(&format!("{ending:?}, {has}\n    work    {work}\n    review  {review}\n"));
            }
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn a_phase_that_left_nothing_or_failed_decides() {
        let all = reports(AgentEnding::Done, true, false);
        let failure = |class| Some(PhaseFailure { class, reason: "why".into() });
        let mut table = vec![
            line(&Reports { prepare: None, ..all.clone() }, false),
            line(&Reports { agent: None, ..all.clone() }, false),
            line(&Reports { collect: None, ..all.clone() }, false),
        ];
        let mut broken = all.clone();
        broken.prepare.as_mut().unwrap().failure = failure(FailureClass::Task);
        table.push(line(&broken, false));
        for class in [FailureClass::Policy, FailureClass::Infrastructure] {
            let mut broken = all.clone();
            broken.collect.as_mut().unwrap().failure = failure(class);
            table.push(line(&broken, false));
        }
        let mut denied = reports(AgentEnding::Done, false, false);
        denied.agent.as_mut().unwrap().denials = 2;
        table.push(line(&denied, false));
        insta::assert_snapshot!(table.join("\n"), @"
        Failed/Infrastructure: prepare left no report: it was ended from outside
        Failed/Agent: the agent step left no report: it was ended from outside, as for lack of memory
        Failed/Infrastructure: collect left no report: it was ended from outside
        Failed/Task: why
        Refused/Policy: why
        Failed/Infrastructure: why
        Failed/Agent: nothing was changed, and 2 tool calls were denied
        ");
    }
}
