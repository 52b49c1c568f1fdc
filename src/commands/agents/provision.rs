//! `agents provision`: what a cluster needs before agents can work there, as manifests to read and apply.

use anyhow::Context;

use crate::adapters::registry_files;
use crate::cli::AgentsProvisionArgs;
use crate::domain::kubernetes::provision;
use crate::domain::name::AgentName;
use crate::error::{Exit, UserError};
use crate::output;

pub(super) fn run(args: &AgentsProvisionArgs) -> anyhow::Result<Exit> {
    let registry = registry_files::load(&args.registry.registry)?;
    if let Some(agent) = args.agent.as_ref().filter(|agent| !registry.agents.contains_key(agent)) {
        return Err(removed(agent).into());
    }
    let manifests = provision::manifests(&registry, args.agent.as_ref(), &args.api_server)
        .map_err(|error| UserError::usage(error.to_string(), "correct it and run this again"))?;
    let mut text = String::new();
    for manifest in &manifests {
        let yaml = serde_saphyr::to_string(manifest).context("write a manifest as YAML")?;
        text.push_str("---\n");
        text.push_str(&yaml);
    }
    output::result(&text)?;
    Ok(Exit::Handled)
}

/// Nothing on stdout: whatever is printed may be on its way to `kubectl apply`.
fn removed(agent: &AgentName) -> UserError {
    let namespace = agent.namespace();
    UserError::usage(
        format!("the registry has no agent {agent}"),
        format!(
            "if it was removed: `astra-dispatch publish`, then, when `kubectl get jobs -n {namespace}` shows none \
             that you need, `kubectl delete namespace {namespace}`, and remove its credentials from the vault"
        ),
    )
    .at("--agent")
}
