//! `dispatch --dry-run`: what a run on a cluster would be made of; nothing is changed.

use std::sync::{Arc, OnceLock};

use anyhow::Context;
use serde_json::{Value, json};

use crate::adapters::kubernetes::manifests::NoCredentials;
use crate::adapters::plane::PlaneClient;
use crate::adapters::store::StoreError;
use crate::adapters::store::memory::MemoryStore;
use crate::cli::TaskArgs;
use crate::commands::credentials::Held;
use crate::commands::explain::{Told, tried, tried_on_cluster};
use crate::commands::meant::{Meant, fresh, meant_on_cluster, meant_without_cluster};
use crate::commands::on_cluster::{ClusterItems, OnCluster, cluster_error, run_maker};
use crate::commands::place::Opened;
use crate::domain::kubernetes::secret::{NO_UID, secret};
use crate::domain::ledger::Ledger;
use crate::domain::matching::{Running, Workforce};
use crate::domain::pass::{Hint, NewJob};
use crate::domain::report::DecisionReport;
use crate::error::{Exit, UserError};
use crate::output::{self, decision_table};

/// Stands for each value of the Secret.
const HIDDEN: &str = "(not shown)";

/// Prints the manifests of the run that an idle workforce would start. Only Plane
/// and the vault may be asked.
pub(super) async fn on_client(opened: Opened, task: &TaskArgs) -> anyhow::Result<Exit> {
    let workforce = Workforce::new(Arc::clone(&opened.registry));
    let items = ClusterItems {
        plane: PlaneClient::of_environment(&opened.registry.plane, None)?,
        told: OnceLock::new(),
    };
    let plane = items.plane.as_ref();
    let meant = fresh(meant_without_cluster(task, &opened.registry, plane).await?, plane).await;
    let (item, by_hand) = match &meant {
        Meant::Told { item, .. } => (item, false),
        Meant::ByHand { item } => (item, true),
        Meant::NoItem { delivery } => {
            let report = DecisionReport::not_a_work_item(delivery, &opened.registry);
            output::say(&decision_table::text(&report, &opened.registry, true));
            return Ok(Exit::Handled);
        }
    };
    let copy = MemoryStore::copy_of(Ledger::default(), Vec::new());
    let told = Told { item, others: &items };
    let hint = Hint { item: item.reference(), by_hand };
    let (report, new) = tried(&workforce, &copy, &told, hint, meant.delivery(), None).await?;
    let held = Arc::new(Held::open(&opened.directory)?);
    output::say(&decision_table::text(&report, &opened.registry, true));
    if let Some(new) = new {
        let maker = run_maker(&opened.registry, held, opened.surroundings)?;
        let unmakeable = |reason: String| UserError::usage(reason, "correct it and run this again");
        let job = maker.job(&new, &Running::default()).map_err(unmakeable)?;
        let names = maker.secret_keys(&new).await.map_err(|error| match error {
            NoCredentials::Refused(reason) => unmakeable(reason),
            NoCredentials::Unavailable(why) => cluster_error(StoreError::NoCredentials(why)),
        })?;
        output::result(&yaml(&serde_json::to_value(&job)?, &shown_secret(&new, names)?)?)?;
    }
    Ok(Exit::Handled)
}

/// The Secret with its keys and without its values. Its owner is known once there is a Job.
fn shown_secret(new: &NewJob, keys: Vec<String>) -> anyhow::Result<Value> {
    let empty = secret(&new.run, &new.agent, NO_UID, Vec::new());
    let mut manifest = serde_json::to_value(&empty)?;
    let fields = manifest.as_object_mut().context("a Secret is an object")?;
    fields.remove("data");
    fields.insert("stringData".to_owned(), keys.into_iter().map(|key| (key, json!(HIDDEN))).collect());
    Ok(manifest)
}

fn yaml(job: &Value, secret: &Value) -> anyhow::Result<String> {
    let mut text = String::new();
    for manifest in [job, secret] {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(manifest).context("write a manifest as YAML")?);
    }
    Ok(text)
}

/// Asks the cluster whether it would take the run that would start now.
pub(super) async fn on_server(cluster: &OnCluster, task: &TaskArgs) -> anyhow::Result<Exit> {
    let meant = fresh(meant_on_cluster(task, cluster).await?, cluster.items.plane.as_ref()).await;
    let (report, new) = match &meant {
        Meant::Told { item, delivery } => tried_on_cluster(cluster, item, false, Some(delivery)).await?,
        Meant::ByHand { item } => tried_on_cluster(cluster, item, true, None).await?,
        Meant::NoItem { delivery } => (DecisionReport::not_a_work_item(delivery, cluster.registry()), None),
    };
    output::say(&decision_table::text(&report, cluster.registry(), true));
    let Some(new) = new else { return Ok(Exit::Handled) };
    let answers = cluster.store.try_run(&new).await.map_err(cluster_error)?;
    let mut lines = Vec::new();
    for (kind, refused) in &answers {
        let place = format!("{kind} {}/{}", new.namespace, new.run);
        lines.push(match refused {
            None => format!("{place}: would be taken"),
            Some(why) => format!("{place}: would be refused: {why}"),
        });
    }
    output::result(&lines.join("\n"))?;
    Ok(if answers.iter().all(|(_, refused)| refused.is_none()) { Exit::Handled } else { Exit::Failed })
}

/// Runs on one machine have no manifests.
pub(super) fn needs_cluster() -> UserError {
    UserError::usage(
        "the executor of this machine has nothing to ask a server",
        "use --executor kubernetes, or `explain` to see what would be done",
    )
    .at("--dry-run server")
}
