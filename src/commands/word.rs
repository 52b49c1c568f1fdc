//! The word about an ended run: the plan as files, the pull request or review on GitHub, and one
//! comment in Plane, which is edited where it exists. Repeated, it changes nothing.

use serde::{Deserialize, Serialize};

use crate::adapters::github::GitHub;
use crate::adapters::github::app_token::Tokens;
use crate::adapters::github::pulls::Pulls;
use crate::adapters::plane::{PlaneClient, PlaneError, PlaneFault};
use crate::adapters::run_directory::{PUBLISH_PAGE, PUBLISH_PLAN, PUBLISH_TOLD, RunDirectory};
use crate::adapters::store::drive::Undelivered;
use crate::domain::github_answer::GitHubFault;
use crate::domain::pass::PassReport;
use crate::domain::plane_answer::PlaneRefusal;
use crate::domain::publish::github::{Opened, Reviewed};
use crate::domain::publish::notice::notice;
use crate::domain::publish::{PublishPlan, TrackerUpdate};
use crate::domain::request_budget::Importance;
use crate::error::UserError;

/// Where pull requests go.
pub(crate) enum Forge {
    /// To GitHub.
    GitHub(Box<Pulls>),
    /// They stay files, because that was asked for or the Git remotes are files themselves.
    Files,
    /// They belong on GitHub, and there is no way to sign in to it.
    Closed,
}

impl Forge {
    /// Where those of these Git remotes go.
    pub(crate) fn of_environment(git_base_url: &str, no_github: bool) -> anyhow::Result<Self> {
        if no_github || git_base_url.starts_with("file://") {
            return Ok(Self::Files);
        }
        match Tokens::of_environment()? {
            Some(tokens) => Ok(Self::GitHub(Box::new(Pulls::new(GitHub::beside(git_base_url)?, tokens)))),
            None => Ok(Self::Closed),
        }
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

/// Tells what the plan says.
pub(crate) async fn tell(
    plan: &PublishPlan,
    directory: &RunDirectory,
    forge: &Forge,
    plane: Option<&PlaneClient>,
) -> Result<(), Undelivered> {
    tell_all(plan, directory, forge, plane).await.map_err(|error| {
        let github = error.downcast_ref::<GitHubFault>().is_some_and(GitHubFault::is_passing);
        let plane = error.downcast_ref::<PlaneError>().is_some_and(|error| error.fault.is_passing());
        if github || plane { Undelivered::Failed(error) } else { Undelivered::Refused(error) }
    })
}

async fn tell_all(
    plan: &PublishPlan,
    directory: &RunDirectory,
    forge: &Forge,
    plane: Option<&PlaneClient>,
) -> anyhow::Result<()> {
    directory.write(PUBLISH_PLAN, plan)?;
    directory.write_bytes(PUBLISH_PAGE, plan.to_markdown().as_bytes())?;
    let told = match forge {
        Forge::GitHub(pulls) => tell_github(pulls, plan).await?,
        Forge::Files | Forge::Closed => Told::default(),
    };
    directory.write(PUBLISH_TOLD, &told)?;
    match (plane, &plan.tracker) {
        (Some(plane), Some(tracker)) => Ok(tell_plane(plane, tracker, &told).await?),
        _ => Ok(()),
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
