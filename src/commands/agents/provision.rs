//! `agents provision`: what a cluster needs before agents can work there, as manifests to read and
//! apply; or what a vault server needs, as commands to read and run.

use std::path::Path;

use anyhow::Context;
use serde_json::Value;

use crate::adapters::registry_files;
use crate::adapters::vault_server::ADDRESS_VARIABLE;
use crate::cli::{AgentsProvisionArgs, VaultRoleArgs};
use crate::domain::escape;
use crate::domain::kubernetes::provision;
use crate::domain::name::AgentName;
use crate::domain::registry::Agent;
use crate::domain::vault_provision::{Workflow, commands};
use crate::environment;
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
    match &args.kustomize {
        Some(directory) => write(directory, &manifests)?,
        None => output::result(&yaml(&manifests)?)?,
    }
    Ok(Exit::Handled)
}

fn yaml<'a>(manifests: impl IntoIterator<Item = &'a Value>) -> anyhow::Result<String> {
    let mut text = String::new();
    for manifest in manifests {
        let yaml = serde_saphyr::to_string(manifest).context("write a manifest as YAML")?;
        text.push_str("---\n");
        text.push_str(&yaml);
    }
    Ok(text)
}

/// One file for each namespace, and the file that names them. A file of an agent that has left stays, and
/// is told of: what is in it is on the cluster still.
fn write(directory: &Path, manifests: &[Value]) -> anyhow::Result<()> {
    let files = provision::by_namespace(manifests);
    let write = |name: &str, text: &str| {
        let path = directory.join(name);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    };
    std::fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    for (file, manifests) in &files {
        write(file, &yaml(manifests.iter().copied())?)?;
    }
    write("kustomization.yaml", &yaml([&provision::kustomization(files.keys())])?)?;
    for entry in directory.read_dir().with_context(|| format!("read {}", directory.display()))? {
        let name = entry.context("read a name")?.file_name().to_string_lossy().into_owned();
        if name.starts_with("agent-") && name.ends_with(".yaml") && !files.contains_key(&name) {
            output::say(&format!(
                "note: {} is of no agent in the registry: delete it, and its namespace when its runs are published",
                escape::terminal(&name)
            ));
        }
    }
    Ok(())
}

/// `None` without `--vault`.
fn workflow(args: &VaultRoleArgs) -> Result<Option<Workflow>, UserError> {
    let (true, Some(repository_id), Some(workflow_ref)) =
        (args.vault, args.repository_id, &args.workflow_ref)
    else {
        return Ok(None);
    };
    let audience = environment::text(ADDRESS_VARIABLE);
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
