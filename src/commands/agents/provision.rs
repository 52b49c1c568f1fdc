//! `agents provision`: what a cluster needs before agents can work there, as manifests to read and
//! apply; or what a vault server needs, as commands to read and run.

use anyhow::Context;

use crate::adapters::registry_files;
use crate::adapters::vault_server::ADDRESS_VARIABLE;
use crate::cli::{AgentsProvisionArgs, VaultRoleArgs};
use crate::domain::kubernetes::provision;
use crate::domain::name::AgentName;
use crate::domain::registry::Agent;
use crate::domain::vault_provision::{Workflow, commands};
use crate::error::{Exit, UserError};
use crate::output;

pub(super) fn run(args: &AgentsProvisionArgs) -> anyhow::Result<Exit> {
    let registry = registry_files::load(&args.registry.registry)?;
    if let Some(agent) = args.agent.as_ref().filter(|agent| !registry.agents.contains_key(agent)) {
        return Err(removed(agent).into());
    }
    if let Some(workflow) = workflow(&args.vault)? {
        let asked = |agent: &&Agent| args.agent.as_ref().is_none_or(|name| *name == agent.name);
        output::result(&commands(&registry, registry.agents.values().filter(asked), &workflow))?;
        return Ok(Exit::Handled);
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

/// `None` without `--vault`.
fn workflow(args: &VaultRoleArgs) -> Result<Option<Workflow>, UserError> {
    let (true, Some(repository_id), Some(workflow_ref)) =
        (args.vault, args.repository_id, &args.workflow_ref)
    else {
        return Ok(None);
    };
    let audience = std::env::var(ADDRESS_VARIABLE).ok().filter(|address| !address.is_empty());
    let audience = audience.ok_or_else(|| {
        UserError::usage(
            "the audience of the workflow's token is the vault server's address, and it is not set",
            "set it as the workflow does, such as https://vault.example.com:8200",
        )
        .at(ADDRESS_VARIABLE)
    })?;
    Ok(Some(Workflow {
        audience: audience.trim_end_matches('/').to_owned(),
        repository_id,
        reference: args.r#ref.clone(),
        workflow_ref: workflow_ref.clone(),
        environment: args.environment.clone(),
    }))
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
