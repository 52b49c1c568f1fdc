//! Every other credential at hand is tried with one call that changes nothing.

use secrecy::SecretString;

use crate::adapters::github::GitHub;
use crate::adapters::github::app_token::Tokens;
use crate::adapters::github::inspection::Inspection;
use crate::adapters::kubernetes::Cluster;
use crate::adapters::model_key::{self, KeyState};
use crate::commands::agents::github_access;
use crate::domain::finding::Finding;
use crate::domain::init::{SYSTEM_NAMESPACE, Setup};
use crate::environment;

/// What came out.
pub(super) async fn verify(setup: &Setup) -> anyhow::Result<Vec<Finding>> {
    let mut found = Vec::new();
    if let Some(tokens) = Tokens::of_environment()? {
        let inspection = Inspection::new(GitHub::of_environment()?, tokens);
        found.extend(github_access(&inspection, &setup.repository).await);
    }
    if let Some(key) = environment::text("ANTHROPIC_API_KEY") {
        found.push(model(key.into()).await?);
    }
    if setup.images.is_some() {
        found.extend(cluster().await);
    }
    Ok(found)
}

async fn model(key: SecretString) -> anyhow::Result<Finding> {
    let address = environment::text("ANTHROPIC_BASE_URL").unwrap_or_else(|| model_key::ADDRESS.to_owned());
    let check = "Anthropic: ANTHROPIC_API_KEY is accepted";
    let later = "the first run will tell";
    Ok(match model_key::check(&address, &key).await? {
        Ok(KeyState::Good) => Finding::new(check, Vec::new(), ""),
        Ok(KeyState::Refused) => Finding::new(
            check,
            vec!["the API does not know this key".to_owned()],
            "make a key at https://console.anthropic.com and set ANTHROPIC_API_KEY",
        ),
        Ok(KeyState::Untold(status)) => Finding::unknown(check, format!("{address} answers {status}"), later),
        Err(fault) => Finding::unknown(check, fault.to_string(), later),
    })
}

async fn cluster() -> Vec<Finding> {
    let check = "cluster: it answers";
    let cluster = match Cluster::connect(None).await {
        Ok(cluster) => cluster,
        Err(error) => return vec![Finding::unknown(check, error.cause, error.remedy)],
    };
    let version = match cluster.version().await {
        Ok(version) => version,
        Err(error) => {
            let remedy = "check that `kubectl version` works with this kubeconfig";
            return vec![Finding::new(check, vec![error.to_string()], remedy)];
        }
    };
    let answers = format!("cluster: {} answers ({version})", cluster.context);
    let may = "cluster: you may write the ledger";
    let ledger = match cluster.may_write_ledger(SYSTEM_NAMESPACE).await {
        Ok(true) => Finding::new(may, Vec::new(), ""),
        Ok(false) => Finding::warning(
            may,
            vec![format!("not in the namespace {SYSTEM_NAMESPACE}")],
            "after `agents provision`, bind your user to the Role `dispatcher`, or leave dispatching to the workflows",
        ),
        Err(error) => {
            Finding::unknown(may, error.to_string(), "ask again with an administrator's kubeconfig")
        }
    };
    vec![Finding::new(answers, Vec::new(), ""), ledger]
}
