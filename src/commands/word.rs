//! The word about an ended run: the plan as files, the pull request or review on GitHub, and one
//! comment in Plane, which is edited where it exists. Repeated, it changes nothing.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use crate::adapters::github::GitHub;
use crate::adapters::github::app_token::Tokens;
use crate::adapters::github::pulls::Pulls;
use crate::adapters::github::run_log::RunLog;
use crate::adapters::plane::{PlaneClient, PlaneError, PlaneFault};
use crate::adapters::run_directory::{PUBLISH_PAGE, PUBLISH_PLAN, PUBLISH_TOLD, RunDirectory};
use crate::adapters::store::drive::{Delivered, Undelivered};
use crate::domain::github_answer::GitHubFault;
use crate::domain::job::{ItemState, Job};
use crate::domain::name::RunId;
use crate::domain::pass::PassReport;
use crate::domain::plane_answer::PlaneRefusal;
use crate::domain::publish::github::{Opened, Reviewed};
use crate::domain::publish::notice::notice;
use crate::domain::publish::{self, Ending, PublishPlan, Subject, TrackerUpdate};
use crate::domain::registry::{self, States};
use crate::domain::request_budget::Importance;
use crate::domain::run_log::{RunRecord, transcript_end};
use crate::error::UserError;

/// Where pull requests and the run log go.
pub(crate) enum Forge {
    /// To GitHub.
    GitHub(Box<OnGitHub>),
    /// They stay files, because that was asked for or the Git remotes are files themselves.
    Files,
    /// They belong on GitHub, and there is no way to sign in to it.
    Closed,
}

/// What is written there.
pub(crate) struct OnGitHub {
    pub(crate) pulls: Pulls,
    /// `None`: nobody says which repository it is in.
    pub(crate) log: Option<RunLog>,
}

impl Forge {
    /// Where those of these Git remotes go.
    pub(crate) fn of_environment(
        git_base_url: &str,
        no_github: bool,
        run_log: &registry::RunLog,
    ) -> anyhow::Result<Self> {
        if no_github || git_base_url.starts_with("file://") {
            return Ok(Self::Files);
        }
        let github = GitHub::beside(git_base_url)?;
        let Some(tokens) = Tokens::of_environment()?.map(Arc::new) else { return Ok(Self::Closed) };
        let own = || std::env::var("GITHUB_REPOSITORY").ok().and_then(|name| name.parse().ok());
        let log = run_log.repository.clone().or_else(own).map(|repository| RunLog {
            github: github.clone(),
            tokens: Arc::clone(&tokens),
            repository,
            public: run_log.public,
            is_public: OnceCell::new(),
        });
        Ok(Self::GitHub(Box::new(OnGitHub { pulls: Pulls::new(github, tokens), log })))
    }

    /// Fails where there is no way to sign in.
    pub(crate) fn must_be_open(&self) -> Result<(), UserError> {
        match self {
            Self::GitHub(_) | Self::Files => Ok(()),
            Self::Closed => Err(UserError::usage(
                "there is no way to sign in to GitHub",
                "set GITHUB_TOKEN, or ASTRA_APP_ID and ASTRA_APP_PRIVATE_KEY; with --no-github, pull requests \
                 stay files",
            )),
        }
    }
}

/// What was told, as it is kept beside the plan.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) pull_request: Option<Opened>,
    pub(crate) review: Option<Reviewed>,
}

impl Told {
    /// The number of the pull request that was opened.
    pub(crate) fn number(&self) -> Option<u64> {
        match &self.pull_request {
            Some(Opened::There(there)) => Some(there.number),
            _ => None,
        }
    }

    /// The page of the pull request or review, if there is one.
    pub(crate) fn url(&self) -> Option<&str> {
        match (&self.pull_request, &self.review) {
            (Some(Opened::There(there)), _) => Some(&there.url),
            (_, Some(Reviewed::There(url))) => url.as_deref(),
            _ => None,
        }
    }
}

/// Everything that is told about an ended run.
pub(crate) struct Word {
    pub(crate) plan: PublishPlan,
    record: RunRecord,
}

impl Word {
    /// Of a run that ended like this.
    pub(crate) fn new(job: &Job, subject: &Subject, ending: Ending<'_>, states: &States) -> Self {
        Self { plan: publish::plan(subject, ending, states), record: RunRecord::new(job, subject, ending) }
    }

    /// Tells it.
    pub(crate) async fn tell(
        self,
        directory: &RunDirectory,
        forge: &Forge,
        plane: Option<&PlaneClient>,
    ) -> Result<Delivered<Option<Spoken>>, Undelivered> {
        let outcome = self.plan.outcome_state();
        let spoken = self.tell_all(directory, forge, plane).await.map_err(undelivered)?;
        Ok(Delivered { outcome, told: Some(spoken) })
    }

    async fn tell_all(
        mut self,
        directory: &RunDirectory,
        forge: &Forge,
        plane: Option<&PlaneClient>,
    ) -> anyhow::Result<Spoken> {
        directory.write(PUBLISH_PLAN, &self.plan)?;
        directory.write_bytes(PUBLISH_PAGE, self.plan.to_markdown().as_bytes())?;
        let told = match forge {
            Forge::GitHub(github) => tell_github(&github.pulls, &self.plan).await?,
            Forge::Files => Told::default(),
            Forge::Closed => {
                // It was begun by somebody who could sign in: whoever can again publishes it.
                if self.plan.pull_request.is_some() || self.plan.review.is_some() {
                    forge.must_be_open()?;
                }
                Told::default()
            }
        };
        directory.write(PUBLISH_TOLD, &told)?;
        let tracker = self.plan.tracker.as_ref().filter(|_| plane.is_some());
        if let (Some(plane), Some(tracker)) = (plane, tracker) {
            tell_plane(plane, tracker, &told).await?;
        }
        self.record.add_writes(tracker, told.pull_request.as_ref(), told.review.as_ref());
        Ok(Spoken { run: self.plan.run, record: self.record })
    }
}

/// What may do next time and may be under way still, and what is not.
fn undelivered(error: anyhow::Error) -> Undelivered {
    let github = error.downcast_ref::<GitHubFault>().is_some_and(GitHubFault::is_passing);
    let plane = error.downcast_ref::<PlaneError>();
    let plane = plane.is_some_and(|error| error.fault.is_passing() && !error.fault.is_without_effect());
    if github || plane { Undelivered::Failed(error) } else { Undelivered::Refused(error) }
}

/// What was told about a run, for the run log.
pub(crate) struct Spoken {
    run: RunId,
    record: RunRecord,
}

impl Spoken {
    /// The run.
    pub(crate) fn run(&self) -> &RunId {
        &self.run
    }

    /// Appends it to the run log, with the move of the item and what the agent's program printed. What
    /// nobody but a person can mend there must not hold up the run.
    pub(crate) async fn keep(
        &self,
        forge: &Forge,
        moved: Option<&ItemState>,
        transcript: impl Future<Output = anyhow::Result<Option<Vec<u8>>>>,
    ) -> Result<(), Undelivered> {
        let Forge::GitHub(github) = forge else { return Ok(()) };
        let Some(log) = &github.log else { return Ok(()) };
        match self.append(log, moved, transcript).await {
            Ok(()) => Ok(()),
            // 409: others were quicker again and again, or the repository is empty.
            Err(fault) if fault.is_passing() && fault != GitHubFault::Unavailable(409) => {
                Err(undelivered(with_remedy(fault, format!("write the run log of {}", log.repository))))
            }
            Err(fault) => {
                log::warn!("run {} is not in the run log of {}: {fault}", self.run, log.repository);
                log::warn!("what to do: {}", fault.remedy());
                Ok(())
            }
        }
    }

    async fn append(
        &self,
        log: &RunLog,
        moved: Option<&ItemState>,
        transcript: impl Future<Output = anyhow::Result<Option<Vec<u8>>>>,
    ) -> Result<(), GitHubFault> {
        if !log.is_open().await? {
            log::warn!(
                "{} is public, so run {} is not in its run log; name another in run_log.repository, or allow it \
                 with run_log.public",
                log.repository,
                self.run
            );
            return Ok(());
        }
        let mut record = self.record.clone();
        if let Some(state) = moved {
            record.add_move(state);
        }
        let printed = transcript.await.unwrap_or_else(|error| {
            log::warn!("the transcript of run {} is not kept: {error:#}", self.run);
            None
        });
        if let Some(text) = printed.and_then(|printed| transcript_end(&printed)) {
            log.append_transcript(&record, &text).await?;
            record.transcript = Some(record.transcript_path());
        }
        log.append(&record).await
    }
}

async fn tell_github(pulls: &Pulls, plan: &PublishPlan) -> anyhow::Result<Told> {
    let mut told = Told::default();
    if let Some(draft) = &plan.pull_request {
        let opened = pulls.open(draft).await;
        let what = || format!("open a pull request in {}", draft.repository);
        told.pull_request = Some(opened.map_err(|fault| with_remedy(fault, what()))?);
    }
    if let Some(draft) = &plan.review {
        let reviewed = pulls.review(&plan.run, draft).await;
        let what = || format!("review pull request #{} of {}", draft.pull_request, draft.repository);
        told.review = Some(reviewed.map_err(|fault| with_remedy(fault, what()))?);
    }
    Ok(told)
}

fn with_remedy(fault: GitHubFault, what: String) -> anyhow::Error {
    let remedy = fault.remedy();
    anyhow::Error::new(fault).context(format!("{what} (what to do: {remedy})"))
}

/// Tells people about tasks that wait or that no agent takes: once each. It is a courtesy, so what
/// Plane does not take is only logged.
pub(crate) async fn tell_outcomes(plane: &PlaneClient, pass: &PassReport<'_>) {
    for outcome in pass.outcomes.iter().filter(|outcome| outcome.hinted) {
        let Some(notice) = notice(outcome, &pass.ledger) else { continue };
        let told =
            plane.tell_once(outcome.item, &notice.external_id, &notice.html, Importance::Progress).await;
        if let Err(error) = told.or_else(|error| if is_gone(&error) { Ok(()) } else { Err(error) }) {
            log::warn!("{error}; {}", error.fault.remedy());
        }
    }
}

/// Comments and links. An item that is gone has nobody to be told.
async fn tell_plane(plane: &PlaneClient, tracker: &TrackerUpdate, told: &Told) -> Result<(), PlaneError> {
    let (item, run) = (tracker.item, tracker.external_id.as_str());
    let html = tracker.comment_after(told.pull_request.as_ref(), told.review.as_ref());
    let importance = Importance::FinalWord;
    if let Err(error) = plane.write_comment(tracker.project, item, run, &html, importance).await {
        return if is_gone(&error) { Ok(()) } else { Err(error) };
    }
    let (Some(Opened::There(there)), Some(title)) = (&told.pull_request, &tracker.link_pull_request) else {
        return Ok(());
    };
    match plane.add_link(tracker.project, item, &there.url, title, importance).await {
        Err(error) if is_gone(&error) => Ok(()),
        linked => linked,
    }
}

fn is_gone(error: &PlaneError) -> bool {
    matches!(error.fault, PlaneFault::Refused(PlaneRefusal::NotFound))
}
