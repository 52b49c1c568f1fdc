//! `run supervise`: carries out one released run on this machine, phase by phase, in a session of
//! its own. Its death is noticed by the next pass; when it ends, it runs that pass itself.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use jiff::Timestamp;
use rustix::process::setsid;

use super::guard_credentials;
use crate::adapters::git::TOKEN_VARIABLE;
use crate::adapters::local::phase_process::{Phase, PhaseProcess};
use crate::adapters::process_identity::ProcessIdentity;
use crate::adapters::run_directory::{DELIVER_SECRETS, PREPARE_REPORT, RESULT, RunDirectory};
use crate::cli::RunSuperviseArgs;
use crate::commands::credentials::{Held, Sourced, find, in_a_sentence, remedy};
use crate::commands::local::{Local, store_error};
use crate::domain::job::{JobEnd, JobFailure, JobRef};
use crate::domain::phase::PrepareReport;
use crate::domain::result::{FailureClass, RunResult};
use crate::domain::run_plan::RunPlan;
use crate::domain::secret_scan::SecretPrints;
use crate::domain::vault::GIT_TOKEN;
use crate::environment;
use crate::error::Exit;
use crate::output;

/// How often the supervisor looks whether its run was cancelled.
const CANCEL_POLL: Duration = Duration::from_millis(200);
/// Between asking a cancelled phase to end and ending it.
const CANCEL_GRACE: Duration = Duration::from_secs(10);
/// A back-off that is longer is left to the next event.
const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);
/// What every phase takes over from the caller's environment.
const FOR_EVERY_PHASE: [&str; 6] = ["PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "ASTRA_LOG"];
/// What Git needs on the way to its remote.
const GIT_NETWORK: [&str; 4] = ["HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "GIT_SSL_CAINFO"];

pub(crate) async fn run(args: &RunSuperviseArgs) -> anyhow::Result<Exit> {
    guard_credentials();
    // Refused only where it leads a group already, as it does when a shell started it.
    let _ = setsid();
    let local = Local::open(&args.registry, &args.state, args.git_base_url.as_deref())?;
    let own = ProcessIdentity::own()?;
    let taken = local.executor.store.take_over(&args.run, own).map_err(store_error)?;
    let Some(job) = taken else { return Ok(Exit::Handled) };
    let directory = local.executor.state.run(&args.run);
    let end = carry_out(&local, &job, &directory).await;
    local.executor.store.finish(&job, own, &end).map_err(store_error)?;
    let is_lost = end.failure.is_some_and(|failure| failure.class == FailureClass::Infrastructure);
    if !is_lost && local.ledger().await?.waiting.is_empty() {
        // It is not tried again, and nobody wants its slot: what a pass reads of the items now it would have
        // to read again once the run may be published.
        tokio::time::sleep(local.claim_margin()).await;
    }
    // The registry may have changed meanwhile, and only the present one may admit.
    drop(local);
    let local = Local::open(&args.registry, &args.state, args.git_base_url.as_deref())?;
    pass_until_nothing_is_to_come(&local).await?;
    Ok(Exit::Handled)
}

/// The next waiting task starts now, a run that has ended is published as soon as it may be, and a lost
/// one starts again once its back-off is over: nobody else may be there to do it.
async fn pass_until_nothing_is_to_come(local: &Local) -> anyhow::Result<()> {
    loop {
        let report = local.pass(Vec::new(), None).await?;
        for problem in &report.problems {
            output::say(&format!("note: {problem}"));
        }
        let now = Timestamp::now();
        let until = |at: Timestamp| Duration::try_from(at.duration_since(now)).unwrap_or_default();
        let retry = report.wake_at.map(until).filter(|wait| *wait <= LONGEST_WAIT);
        // What is waited for may be over much sooner: another supervisor's claim, as a rule at once.
        let retry = retry.map(|wait| wait.min(local.look_again()));
        let next = retry.into_iter().chain(report.publishable_at.map(until));
        let Some(wait) = next.min() else { break };
        tokio::time::sleep(wait.max(CANCEL_POLL)).await;
    }
    Ok(())
}

/// Runs the phases, whatever happens: there is an end to note.
async fn carry_out(local: &Local, job: &JobRef, directory: &RunDirectory) -> JobEnd {
    let failure = match phases(local, job, directory).await {
        Ok(failure) => failure,
        Err(error) => Some(JobFailure {
            class: FailureClass::Infrastructure,
            reason: format!("its supervisor failed: {error:#}"),
        }),
    };
    JobEnd { at: Timestamp::now(), failure }
}

async fn phases(local: &Local, job: &JobRef, directory: &RunDirectory) -> anyhow::Result<Option<JobFailure>> {
    let plan = directory.plan()?;
    let Some(agent) = local.registry().agents.get(&plan.agent) else {
        return Ok(Some(JobFailure {
            class: FailureClass::Task,
            reason: format!("the registry has no agent {} any more", plan.agent),
        }));
    };
    let credentials = match Held::of_agent(&local.executor.registry, agent).await {
        Ok(held) => Credentials::of(&plan, &held),
        Err(error) => return Ok(Some(no_credentials(&error))),
    };
    directory.write(DELIVER_SECRETS, &credentials.prints())?;
    for phase in Phase::ALL {
        if matches!(phase, Phase::Agent | Phase::Collect) && !is_prepared(directory)? {
            // Nothing to work on: `deliver` tells why.
            continue;
        }
        output::say(&format!("{}: {phase}", job.run));
        let mut process = PhaseProcess::start(phase, directory, &credentials.variables(phase))?;
        loop {
            tokio::select! {
                status = process.wait() => {
                    if !status?.success() && phase == Phase::Deliver {
                        return Ok(Some(no_report(phase)));
                    }
                    break;
                }
                () = tokio::time::sleep(CANCEL_POLL) => {
                    // A store that does not answer says nothing: the run goes on.
                    if is_cancelled(local, job).unwrap_or(false) {
                        process.stop(CANCEL_GRACE).await?;
                        return Ok(Some(cancelled()));
                    }
                }
            }
        }
        if is_cancelled(local, job)? {
            return Ok(Some(cancelled()));
        }
    }
    let result: Option<RunResult> = directory.read(RESULT)?;
    Ok(result.map_or_else(|| Some(no_report(Phase::Deliver)), |result| JobFailure::of_result(&result)))
}

fn is_prepared(directory: &RunDirectory) -> anyhow::Result<bool> {
    let report: Option<PrepareReport> = directory.read(PREPARE_REPORT)?;
    Ok(report.is_some_and(|report| report.failure.is_none()))
}

fn no_report(phase: Phase) -> JobFailure {
    JobFailure {
        class: FailureClass::Infrastructure,
        reason: format!("the phase {phase} ended without a report; see `astra-dispatch logs`"),
    }
}

/// A vault that does not open: its owner has to act, and another attempt would not help, unless it
/// only did not answer.
fn no_credentials(error: &anyhow::Error) -> JobFailure {
    let (reason, is_passing) = in_a_sentence(error);
    let class = if is_passing { FailureClass::Infrastructure } else { FailureClass::Credentials };
    JobFailure { class, reason }
}

fn cancelled() -> JobFailure {
    JobFailure { class: FailureClass::Cancelled, reason: "it was cancelled".to_owned() }
}

fn is_cancelled(local: &Local, job: &JobRef) -> anyhow::Result<bool> {
    let known = local.job(&job.run)?;
    Ok(known.is_none_or(|known| known.uid != job.uid || known.cancel.is_some()))
}

/// The agent's credentials. Values are in this process's memory and in the environment of the one
/// phase that may have them, never in arguments or files; what opens the vault is in no phase.
struct Credentials {
    agent: Vec<(String, Sourced)>,
    git_token: Option<Sourced>,
}

impl Credentials {
    /// From the vault, else from the caller's environment.
    fn of(plan: &RunPlan, held: &Held) -> Self {
        let mut agent = Vec::new();
        for name in &plan.credential_names {
            match find(held, &plan.agent, name) {
                Some(found) => {
                    output::say(&format!("{}: {name} comes from {}", plan.run, found.source));
                    agent.push((name.clone(), found));
                }
                None => output::say(&format!(
                    "{}: {name} is not there; {}",
                    plan.run,
                    remedy(held, &plan.agent, name)
                )),
            }
        }
        let needs_token = !plan.git_base_url.starts_with("file:");
        let git_token = needs_token.then(|| find(held, &plan.agent, GIT_TOKEN)).flatten();
        if let Some(found) = &git_token {
            output::say(&format!("{}: {GIT_TOKEN} comes from {}", plan.run, found.source));
        }
        Self { agent, git_token }
    }

    fn prints(&self) -> SecretPrints {
        let named = self.agent.iter().map(|(name, found)| (name.as_str(), found.expose()));
        let token = self.git_token.iter().map(|found| (GIT_TOKEN, found.expose()));
        SecretPrints::new(rand::random(), named.chain(token))
    }

    /// An environment built from empty, for one phase.
    fn variables(&self, phase: Phase) -> BTreeMap<String, OsString> {
        let mut variables: BTreeMap<String, OsString> = BTreeMap::new();
        variables.extend(FOR_EVERY_PHASE.iter().filter_map(of_caller));
        match phase {
            Phase::Agent => {
                let own =
                    self.agent.iter().map(|(name, found)| (name.clone(), OsString::from(found.expose())));
                variables.extend(own);
            }
            Phase::Prepare | Phase::Deliver => {
                // Not for the agent: a proxy's address may hold a password.
                variables.extend(GIT_NETWORK.iter().filter_map(of_caller));
                if let Some(token) = &self.git_token {
                    variables.insert(TOKEN_VARIABLE.to_owned(), token.expose().into());
                }
            }
            Phase::Collect => {}
        }
        variables
    }
}

fn of_caller(name: &&str) -> Option<(String, OsString)> {
    let value = environment::value(name)?;
    Some(((*name).to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_phase_gets_its_own_credentials_and_no_others() {
        let found = |value: &str| Sourced { value: value.to_owned().into(), source: "the vault" };
        let credentials = Credentials {
            agent: vec![("ANTHROPIC_API_KEY".to_owned(), found("model-key-value"))],
            git_token: Some(found("git-token-value")),
        };
        let holds = |phase: Phase, value: &str| {
            credentials.variables(phase).values().any(|held| held.to_string_lossy().contains(value))
        };
        for phase in Phase::ALL {
            assert_eq!(holds(phase, "model-key-value"), phase == Phase::Agent, "{phase}");
            let may = matches!(phase, Phase::Prepare | Phase::Deliver);
            assert_eq!(holds(phase, "git-token-value"), may, "{phase}");
        }
        let prints = serde_json::to_string(&credentials.prints()).unwrap();
        assert!(!prints.contains("model-key-value") && !prints.contains("git-token-value"));
    }
}
