//! Where runs are carried out, and what every command does alike there.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use crate::adapters::github::GITHUB;
use crate::adapters::local::StateDirectory;
use crate::adapters::plane::PlaneClient;
use crate::adapters::registry_files;
use crate::adapters::run_directory::{RunDirectory, SUBJECT};
use crate::cli::{ExecutorChoice, PlaceArgs, RegistryArgs, StateArgs};
use crate::commands::local::{Local, store_error};
use crate::commands::on_cluster::OnCluster;
use crate::commands::word::Forge;
use crate::commands::{credentials, passes};
use crate::domain::job::{Job, JobPhase};
use crate::domain::ledger::Ledger;
use crate::domain::name::{Repository, RunId};
use crate::domain::pass::{Hint, PassReport, Timing};
use crate::domain::publish::Subject;
use crate::domain::registry::{ExecutorKind, Registry};
use crate::domain::run_plan::Surroundings;
use crate::environment;
use crate::error::UserError;
use crate::output::{self, workflow};

/// Remembers, in the state directory, where Git remotes are.
const GIT_BASE: &str = "git-base-url";

/// One machine, or a cluster.
pub(crate) enum Place {
    Local(Box<Local>),
    Cluster(Box<OnCluster>),
}

/// What both begin with.
pub(crate) struct Opened {
    pub(crate) registry: Arc<Registry>,
    /// Where it is.
    pub(crate) directory: PathBuf,
    pub(crate) state: StateDirectory,
    pub(crate) surroundings: Surroundings,
    /// Where pull requests go.
    pub(crate) forge: Forge,
    /// They are to stay files.
    pub(crate) no_github: bool,
}

impl Opened {
    /// Reads the registry and opens the state.
    pub(crate) fn new(
        registry: &RegistryArgs,
        state: &StateArgs,
        git_base_url: Option<&str>,
    ) -> anyhow::Result<Self> {
        let loaded = registry_files::load(&registry.registry)?;
        let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let no_github = state.no_github;
        let state = StateDirectory::open(state.state_dir.as_deref(), &loaded.plane.workspace, variable)?;
        let directory = std::path::absolute(&registry.registry).context("find the registry")?;
        let surroundings = Surroundings {
            git_base_url: git_base(&state, git_base_url)?,
            registry_path: path_in_repository(&directory),
        };
        let forge = Forge::of_environment(&surroundings.git_base_url, no_github, &loaded.run_log)?;
        Ok(Self { registry: Arc::new(loaded), directory, state, surroundings, forge, no_github })
    }
}

impl Place {
    /// Opens the one that is meant, to change something there: where Git remotes are is remembered, since
    /// whoever starts the next run must fetch from where the first one did.
    pub(crate) async fn open(args: &PlaceArgs, git_base_url: Option<&str>) -> anyhow::Result<Self> {
        let place = Self::open_to_look(args, git_base_url).await?;
        remember_git_base(place.state(), git_base_url)?;
        Ok(place)
    }

    /// Opens the one that is meant, and changes nothing.
    pub(crate) async fn open_to_look(args: &PlaceArgs, git_base_url: Option<&str>) -> anyhow::Result<Self> {
        let opened = Opened::new(&args.registry, &args.state, git_base_url)?;
        Ok(match executor_kind(args.executor.executor, &opened.registry) {
            ExecutorKind::Local => {
                credentials::hide_here(&opened.directory, &opened.registry);
                Self::Local(Box::new(Local::with(opened)?))
            }
            ExecutorKind::Kubernetes => Self::Cluster(Box::new(OnCluster::open(opened).await?)),
        })
    }

    /// Runs the pass, publishes what has ended, and goes on until nothing is left to do.
    pub(crate) async fn pass(&self, hints: Vec<Hint>, stop: Option<RunId>) -> anyhow::Result<PassReport<'_>> {
        match self {
            Self::Local(local) => local.pass(hints, stop).await,
            Self::Cluster(cluster) => cluster.pass(hints, stop).await,
        }
    }

    /// The same, and once more when a run that has just ended may be published, if that is soon.
    pub(crate) async fn publishing_pass(&self, hints: Vec<Hint>) -> anyhow::Result<PassReport<'_>> {
        let mut report = self.pass(hints, None).await?;
        if passes::wait_for(report.publishable_at).await {
            match self.pass(Vec::new(), None).await {
                Ok(next) => passes::add(&mut report, next),
                // What the first one did is still to be told.
                Err(error) => report.problems.push(format!("{error:#}")),
            }
        }
        Ok(report)
    }

    /// The registry in use.
    pub(crate) fn registry(&self) -> &Registry {
        match self {
            Self::Local(local) => local.registry(),
            Self::Cluster(cluster) => cluster.registry(),
        }
    }

    /// Plane, where there is a key for it.
    pub(crate) fn plane(&self) -> Option<&PlaneClient> {
        match self {
            Self::Local(local) => local.plane.as_ref(),
            Self::Cluster(cluster) => cluster.items.plane.as_ref(),
        }
    }

    /// The ledger, for people to see.
    pub(crate) async fn ledger(&self) -> anyhow::Result<Ledger> {
        match self {
            Self::Local(local) => local.ledger().await,
            Self::Cluster(cluster) => cluster.ledger().await,
        }
    }

    /// Every run that is kept, published ones too, the oldest first.
    pub(crate) async fn runs(&self) -> anyhow::Result<Vec<Job>> {
        match self {
            Self::Local(local) => {
                let runs = local.executor.store.all_runs().map_err(store_error)?;
                Ok(runs.into_iter().map(|known| known.job).collect())
            }
            Self::Cluster(cluster) => cluster.runs().await,
        }
    }

    /// The runs that are not published.
    pub(crate) async fn unpublished(&self) -> anyhow::Result<Vec<Job>> {
        match self {
            Self::Local(local) => {
                let runs = local.executor.store.unpublished_runs().map_err(store_error)?;
                Ok(runs.into_iter().map(|known| known.job).collect())
            }
            Self::Cluster(cluster) => {
                let mut runs = cluster.runs().await?;
                runs.retain(|job| job.phase != JobPhase::Published);
                Ok(runs)
            }
        }
    }

    /// Where a run worked; `None`: nothing is kept that says so.
    pub(crate) async fn repository_of(&self, job: &Job) -> anyhow::Result<Option<Repository>> {
        let subject = match self {
            Self::Local(local) => local.executor.state.run(&job.run).read::<Subject>(SUBJECT)?,
            Self::Cluster(cluster) => cluster.store.cluster().subject(&job.reference()).await?,
        };
        Ok(subject.map(|subject| subject.repository))
    }

    /// Where pull requests go.
    pub(crate) fn forge(&self) -> &Forge {
        match self {
            Self::Local(local) => &local.forge,
            Self::Cluster(cluster) => &cluster.forge,
        }
    }

    /// Where Git remotes are.
    pub(crate) fn git_base_url(&self) -> &str {
        match self {
            Self::Local(local) => &local.executor.surroundings.git_base_url,
            Self::Cluster(cluster) => &cluster.git_base_url,
        }
    }

    /// How long after its end a run may not be published yet.
    pub(crate) fn claim_margin(&self) -> Duration {
        match self {
            Self::Cluster(cluster) if cluster.items.plane.is_some() => Timing::default().claim_margin,
            Self::Cluster(_) => Duration::ZERO,
            Self::Local(local) => local.claim_margin(),
        }
    }

    /// The state directory: publishing leaves its plans there.
    pub(crate) fn state(&self) -> &StateDirectory {
        match self {
            Self::Local(local) => &local.executor.state,
            Self::Cluster(cluster) => &cluster.state,
        }
    }

    /// Fails where there is no such run.
    pub(crate) async fn must_know(&self, run: &RunId) -> anyhow::Result<()> {
        match self {
            Self::Local(local) => local.known_job(run).map(drop),
            Self::Cluster(cluster) => cluster.known_job(run).await.map(drop),
        }
    }
}

/// Which executor is meant: the option, then `astra.yaml`, then where this runs.
fn executor_kind(choice: Option<ExecutorChoice>, registry: &Registry) -> ExecutorKind {
    match (choice, registry.executor) {
        (Some(ExecutorChoice::Local), _) => ExecutorKind::Local,
        (Some(ExecutorChoice::Kubernetes), _) => ExecutorKind::Kubernetes,
        (None, Some(kind)) => kind,
        (None, None) if workflow::is_here() => ExecutorKind::Kubernetes,
        (None, None) => ExecutorKind::Local,
    }
}

/// Where Git remotes are: as given, else as given last time here, else the server of the workflow, else
/// GitHub.
fn git_base(state: &StateDirectory, given: Option<&str>) -> anyhow::Result<String> {
    if let Some(given) = given.filter(|given| !given.is_empty()) {
        if !["https://", "http://", "file://"].iter().any(|scheme| given.starts_with(scheme)) {
            let error = UserError::usage(
                format!("{given} is no address of Git remotes"),
                "give one such as https://github.com or file:///srv/git",
            );
            return Err(error.at("--git-base-url").into());
        }
        return Ok(given.to_owned());
    }
    let server = || environment::text("GITHUB_SERVER_URL");
    Ok(kept_git_base(state).or_else(server).unwrap_or_else(|| GITHUB.to_owned()))
}

fn kept_git_base(state: &StateDirectory) -> Option<String> {
    let kept = std::fs::read_to_string(state.root().join(GIT_BASE)).ok()?.trim().to_owned();
    (!kept.is_empty()).then_some(kept)
}

/// For the next commands with this state.
pub(crate) fn remember_git_base(state: &StateDirectory, given: Option<&str>) -> anyhow::Result<()> {
    let Some(given) = given.filter(|given| !given.is_empty()) else { return Ok(()) };
    if kept_git_base(state).as_deref() != Some(given) {
        // Whole or not at all: others read it at any moment.
        RunDirectory::new(state.root()).write_bytes(GIT_BASE, given.as_bytes())?;
        output::say(&format!(
            "note: Git remotes are at {given} from now on, for every command with the state in {}",
            state.root().display()
        ));
    }
    Ok(())
}

/// Where the registry is within its repository: protected from the agents' work. Outside of a
/// repository it is taken for the usual place.
fn path_in_repository(registry: &Path) -> String {
    let root = registry.ancestors().skip(1).find(|ancestor| ancestor.join(".git").exists());
    let relative = root.and_then(|root| registry.strip_prefix(root).ok()).and_then(Path::to_str);
    relative.filter(|path| !path.is_empty()).unwrap_or(".astra").to_owned()
}
