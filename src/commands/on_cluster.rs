//! Runs on a cluster: the same pass as on one machine, over the cluster's ledger and Jobs.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use futures_util::StreamExt;

use crate::adapters::kubernetes::manifests::{CredentialSource, RunMaker};
use crate::adapters::kubernetes::{Cluster, KubernetesStore};
use crate::adapters::local::StateDirectory;
use crate::adapters::plane::PlaneClient;
use crate::adapters::store::drive::{Deliver, Delivered, ItemStates, Undelivered};
use crate::adapters::store::{Items, Store, StoreError, StoreResult};
use crate::commands::credentials::{Held, for_cluster};
use crate::commands::passes::{FailedPublications, ItemMoves, World};
use crate::commands::place::Opened;
use crate::commands::word::{Forge, Spoken, Word};
use crate::domain::job::{ItemState, Job, JobPhase};
use crate::domain::kubernetes::diagnosis::{Diagnosis, Progress};
use crate::domain::kubernetes::pod::Step;
use crate::domain::ledger::Ledger;
use crate::domain::matching::Workforce;
use crate::domain::message;
use crate::domain::name::{AgentName, RunId, TaskKey};
use crate::domain::pass::{Hint, ItemRead, PassReport, StateTarget, Timing};
use crate::domain::publish::Ending;
use crate::domain::registry::{ExecutorKind, Registry};
use crate::domain::report::ExecutorReport;
use crate::domain::request_budget::Importance;
use crate::domain::run_log::TRANSCRIPT_KEPT;
use crate::domain::run_plan::Surroundings;
use crate::domain::status::KnownRun;
use crate::domain::work_item::{ItemRef, WorkItem};
use crate::error::UserError;
use crate::output;

/// Namespaces that are listed at once.
const LISTS_AT_ONCE: usize = 16;

/// The cluster with everything that a command needs.
pub(crate) struct OnCluster {
    pub(crate) store: KubernetesStore,
    pub(crate) workforce: Workforce,
    pub(crate) items: ClusterItems,
    /// Where publishing leaves its plan.
    pub(crate) state: StateDirectory,
    /// Where pull requests go.
    pub(crate) forge: Forge,
    /// The agents' credentials, as far as this caller may see them.
    pub(crate) held: Arc<Held>,
    /// Where runs push to.
    pub(crate) git_base_url: String,
    failed: FailedPublications,
}

/// Work items: Plane's where there is a key; else the one that the event told.
pub(crate) struct ClusterItems {
    pub(crate) plane: Option<PlaneClient>,
    pub(crate) told: OnceLock<WorkItem>,
}

impl OnCluster {
    /// Connects. Nothing is sent yet.
    pub(crate) async fn open(opened: Opened) -> anyhow::Result<Self> {
        let Opened { registry, directory, state, surroundings, forge, .. } = opened;
        let cluster = Cluster::connect(registry.kubernetes.context.as_deref()).await?;
        let plane = PlaneClient::of_environment(&registry.plane, Some(state.root()))?;
        let held = Arc::new(Held::open(&directory)?);
        let git_base_url = surroundings.git_base_url.clone();
        let maker = run_maker(&registry, Arc::clone(&held), surroundings)?;
        let store = KubernetesStore::new(cluster, &registry.kubernetes.system_namespace, Some(maker));
        let items = ClusterItems { plane, told: OnceLock::new() };
        let failed = FailedPublications::default();
        Ok(Self {
            store,
            workforce: Workforce::new(registry),
            items,
            state,
            forge,
            held,
            git_base_url,
            failed,
        })
    }

    /// The registry in use.
    pub(crate) fn registry(&self) -> &Registry {
        self.workforce.registry()
    }

    /// Runs the pass, publishes what has ended, and goes on until nothing is left to do.
    pub(crate) async fn pass(&self, hints: Vec<Hint>, stop: Option<RunId>) -> anyhow::Result<PassReport<'_>> {
        let world = World {
            workforce: &self.workforce,
            store: &self.store,
            items: &self.items,
            // Who cannot sign in to GitHub leaves ended runs to somebody who can.
            publisher: (!matches!(self.forge, Forge::Closed)).then_some(Teller(self)),
            moves: if self.items.plane.is_some() { ItemMoves::InPlane } else { ItemMoves::None },
            failed: &self.failed,
            timing: Timing::default(),
            before: |_| Ok(()),
            remedy: cluster_error,
        };
        let mut report = world.pass(hints, stop).await?;
        match self.store.end_overdue().await {
            Ok(runs) => {
                for run in runs {
                    output::say(&format!("note: {run} is ended: it did not start in time"));
                }
            }
            // What the pass did is done, and is to be told.
            Err(error) => report.problems.push(format!("runs that do not start are not ended: {error}")),
        }
        Ok(report)
    }

    /// This cluster, for the report.
    pub(crate) fn executor(&self, run: Option<(&AgentName, &RunId)>) -> ExecutorReport {
        ExecutorReport {
            kind: ExecutorKind::Kubernetes,
            context: Some(self.store.cluster().context.clone()),
            namespace: run.map(|(agent, _)| agent.namespace()),
            job: run.map(|(_, run)| run.to_string()),
        }
    }

    /// The ledger, for people to see.
    pub(crate) async fn ledger(&self) -> anyhow::Result<Ledger> {
        Ok(self.store.read_ledger().await.map_err(cluster_error)?.ledger)
    }

    /// Every run of the registry's agents, the oldest first. A namespace that is closed to us is said;
    /// the others go on.
    pub(crate) async fn runs(&self) -> anyhow::Result<Vec<Job>> {
        self.all_of(|namespace| async move { (self.store.all_runs(&namespace).await, namespace) }).await
    }

    /// The runs of one task, the oldest first; of those that have ended it is not said why.
    pub(crate) async fn runs_of(&self, task: &TaskKey) -> anyhow::Result<Vec<Job>> {
        self.all_of(|namespace| async move { (self.store.runs_of_task(&namespace, task).await, namespace) })
            .await
    }

    async fn all_of<F>(&self, list: impl Fn(String) -> F) -> anyhow::Result<Vec<Job>>
    where
        F: Future<Output = (StoreResult<Vec<Job>>, String)>,
    {
        let namespaces = self.registry().agents.keys().map(AgentName::namespace);
        let mut listed = futures_util::stream::iter(namespaces).map(list).buffered(LISTS_AT_ONCE);
        let mut runs = Vec::new();
        while let Some((jobs, namespace)) = listed.next().await {
            match jobs {
                Ok(jobs) => runs.extend(jobs),
                Err(StoreError::Denied(why)) => {
                    output::say(&format!("note: {namespace} cannot be read: {why}"))
                }
                Err(error) => return Err(cluster_error(error).into()),
            }
        }
        runs.sort_by_key(|job| job.created_at);
        Ok(runs)
    }

    /// A run with what it brought and where it is.
    pub(crate) async fn known(&self, job: Job) -> anyhow::Result<KnownRun> {
        let (mut result, mut step, mut hindrance) = (None, None, None);
        if job.end.is_some() {
            result = self.seen_result(&job).await?;
        } else if job.pod_alive || job.phase == JobPhase::Released {
            let diagnosis = self.store.diagnose(&job.reference()).await.map_err(cluster_error)?;
            if let Some(Progress::Running(Some(at))) = diagnosis.as_ref().map(|diagnosis| diagnosis.progress)
            {
                step = Some(at.name().to_owned());
            }
            hindrance = diagnosis.and_then(Diagnosis::hindrance);
        }
        Ok(KnownRun { job, result, step, hindrance })
    }

    /// What publishing a run tells. A Job that is gone, or does not say what it was for, has nothing
    /// to tell.
    async fn word(&self, job: &Job) -> anyhow::Result<Option<Word>> {
        let cluster = self.store.cluster();
        let Some(subject) = cluster.subject(&job.reference()).await? else { return Ok(None) };
        let (result, lost) = (self.result(job).await?, message::without_result());
        let ending = Ending::of(job, result.as_ref(), &lost);
        Ok(Some(Word::new(job, &subject, ending, &self.registry().states)))
    }

    /// One run that must be there.
    pub(crate) async fn known_job(&self, run: &RunId) -> anyhow::Result<Job> {
        for agent in self.registry().agents.keys() {
            let found = self.store.find_job(&agent.namespace(), run).await.map_err(cluster_error)?;
            if let (Some(job), _) = found {
                return Ok(job);
            }
        }
        let context = &self.store.cluster().context;
        let error = UserError::usage(format!("there is no run {run}"), "see `astra-dispatch status`");
        Err(error.at(format!("cluster {context}")).into())
    }
}

/// Makes the runs of this registry.
pub(crate) fn run_maker(
    registry: &Arc<Registry>,
    held: Arc<Held>,
    surroundings: Surroundings,
) -> anyhow::Result<RunMaker> {
    if !surroundings.git_base_url.starts_with("https://") {
        let base = &surroundings.git_base_url;
        return Err(UserError::usage(
            format!("pods cannot clone from {base}: it is not an https:// address"),
            "give --git-base-url with the address of a Git server that the cluster reaches",
        )
        .at("--git-base-url")
        .into());
    }
    let credentials: CredentialSource = Box::new(move |agent| {
        let held = Arc::clone(&held);
        Box::pin(async move { for_cluster(&held, agent).await })
    });
    Ok(RunMaker::new(Arc::clone(registry), surroundings, credentials))
}

impl Items for ClusterItems {
    async fn read(&self, items: &[ItemRef]) -> Vec<ItemRead> {
        if let Some(plane) = &self.plane {
            return plane.read(items).await;
        }
        let told = self.told.get();
        let read = |wanted: &ItemRef| match told.filter(|item| item.reference() == *wanted) {
            Some(item) => ItemRead::Found(Box::new(item.clone())),
            None => ItemRead::Unread,
        };
        items.iter().map(read).collect()
    }

    fn last_read(&self, item: ItemRef) -> Option<(WorkItem, Instant)> {
        self.plane.as_ref()?.last_read(item)
    }
}

impl ItemStates for ClusterItems {
    async fn write_state(
        &self,
        item: ItemRef,
        to: &StateTarget,
        importance: Importance,
    ) -> Result<ItemState, Undelivered> {
        match &self.plane {
            Some(plane) => plane.write_state(item, to, importance).await,
            None => Err(anyhow::anyhow!("there is no PLANE_API_KEY").into()),
        }
    }
}

/// Tells what a run brought, as far as there are ways to do so.
struct Teller<'a>(&'a OnCluster);

impl Deliver for Teller<'_> {
    type Told = Option<(Job, Spoken)>;

    async fn deliver(&self, job: &Job) -> Result<Delivered<Self::Told>, Undelivered> {
        let word = self.0.word(job).await.map_err(Undelivered::Refused)?;
        let Some(word) = word else { return Ok(Delivered { outcome: None, told: None }) };
        let directory = self.0.state.run(&job.run);
        let told = word.tell(&directory, &self.0.forge, self.0.items.plane.as_ref()).await?;
        Ok(Delivered { outcome: told.outcome, told: told.told.map(|spoken| (job.clone(), spoken)) })
    }

    async fn keep(&self, told: &Self::Told, moved: Option<&ItemState>) -> Result<(), Undelivered> {
        let Some((job, spoken)) = told else { return Ok(()) };
        let (cluster, job) = (self.0.store.cluster(), job.reference());
        let transcript = cluster.log_end(&job, Step::Agent, TRANSCRIPT_KEPT);
        spoken.keep(&self.0.forge, moved, transcript).await
    }
}

/// Says what a person can do about the cluster.
pub(crate) fn cluster_error(error: StoreError) -> UserError {
    let text = error.to_string();
    match error {
        StoreError::BrokenLedger(_) => UserError::usage(
            text,
            "use the version of astra-dispatch that wrote it; if it is damaged, cancel all runs and remove its data",
        ),
        StoreError::Full(_) => UserError::failed(
            text,
            "the ledger holds as many tasks as it can: cancel runs, or take labels off waiting tasks",
        ),
        StoreError::Denied(_) => {
            UserError::usage(text, "`astra-dispatch agents doctor` says what is missing and how to mend it")
        }
        StoreError::Unavailable(_) => UserError::retry(
            text,
            "try again, nothing was lost; if it stays so, check that `kubectl get namespaces` works",
        ),
        StoreError::NoCredentials(_) => UserError::retry(text, "try again; nothing was lost"),
    }
}
