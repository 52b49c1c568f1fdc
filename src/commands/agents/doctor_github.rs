//! `agents doctor --github`: whether the App or the token may do what the registry needs, and no more.

use std::collections::{BTreeMap, BTreeSet};

use crate::adapters::github::GitHub;
use crate::adapters::github::app_token::Tokens;
use crate::adapters::github::inspection::Inspection;
use crate::domain::finding::Finding;
use crate::domain::github_answer::GitHubFault;
use crate::domain::github_doctor::{self, Installation, OTHER_BRANCH, OWN_BRANCH, Rules, workflows};
use crate::domain::name::{Branch, Repository};
use crate::domain::registry::Registry;
use crate::error::UserError;

/// What does not mend itself is a failure; the rest is worth another try.
fn untold(check: String, fault: &GitHubFault) -> Finding {
    if fault.is_passing() {
        Finding::unanswered(check, fault.to_string())
    } else {
        Finding::new(check, vec![fault.to_string()], fault.remedy())
    }
}

/// Looks at every repository of `projects:`.
pub(super) async fn run(registry: &Registry) -> anyhow::Result<Vec<Finding>> {
    let tokens = Tokens::of_environment()?.ok_or_else(|| {
        UserError::usage(
            "there is no way to sign in to GitHub",
            "set ASTRA_APP_ID and ASTRA_APP_PRIVATE_KEY, or GITHUB_TOKEN: what runs are given",
        )
    })?;
    let inspection = Inspection::new(GitHub::of_environment()?, tokens);
    let mut repositories: BTreeMap<Repository, BTreeSet<Branch>> = BTreeMap::new();
    for project in registry.projects.values() {
        repositories.entry(project.repository.clone()).or_default().insert(project.base.clone());
    }
    // The registry's own is reached for its workflows and the run log.
    let own = std::env::var("GITHUB_REPOSITORY").ok().and_then(|name| name.parse().ok());
    let others = own.into_iter().chain(registry.run_log.repository.clone());
    let names: Vec<Repository> = repositories.keys().cloned().chain(others).collect();
    let mut found = Vec::new();
    let mut installations: BTreeMap<u64, Installation> = BTreeMap::new();
    for (name, bases) in &repositories {
        match access(&inspection, name, &mut installations).await {
            Ok(findings) => found.extend(findings),
            Err(fault) => {
                found.push(untold(format!("{name}: it can be reached"), &fault));
                continue;
            }
        }
        match rules(&inspection, name, bases).await {
            Ok(findings) => found.extend(findings),
            Err(fault) => found.push(untold(format!("{name}: its rules can be read"), &fault)),
        }
        match inspection.workflows(name).await {
            Ok(workflows) => found.push(workflows::judge(name, &workflows)),
            Err(fault) => found.push(untold(format!("{name}: its workflows can be read"), &fault)),
        }
    }
    for installation in installations.values() {
        found.push(installation.excess());
        match reachable(&inspection, installation).await {
            Ok(reachable) => found.push(installation.reach(&names, reachable.as_deref())),
            Err(fault) => {
                let account = &installation.account;
                found.push(untold(
                    format!("{account}: which repositories the App reaches can be read"),
                    &fault,
                ));
            }
        }
    }
    Ok(found)
}

/// Whether runs can work in one repository.
pub(in crate::commands) async fn github_access(inspection: &Inspection, name: &Repository) -> Vec<Finding> {
    match access(inspection, name, &mut BTreeMap::new()).await {
        Ok(findings) => findings,
        Err(fault) => vec![untold(format!("{name}: it can be reached"), &fault)],
    }
}

/// Whether runs can work in a repository.
async fn access(
    inspection: &Inspection,
    name: &Repository,
    installations: &mut BTreeMap<u64, Installation>,
) -> Result<Vec<Finding>, GitHubFault> {
    let Some(answer) = inspection.installation(name).await? else {
        let (repository, scopes) = inspection.repository(name).await?;
        return Ok(github_doctor::token(name, &repository, scopes.as_deref()));
    };
    let installation = Installation::read(&answer).ok_or(GitHubFault::Unreadable("an installation"))?;
    let finding = installation.suffices(name);
    installations.insert(installation.id, installation);
    Ok(vec![finding])
}

async fn rules(
    inspection: &Inspection,
    name: &Repository,
    bases: &BTreeSet<Branch>,
) -> Result<Vec<Finding>, GitHubFault> {
    let mut rules = Rules {
        own: inspection.rules(name, OWN_BRANCH).await?,
        other: inspection.rules(name, OTHER_BRANCH).await?,
        bases: BTreeMap::new(),
    };
    let mut missing = Vec::new();
    for base in bases {
        match inspection.protection(name, base.as_str()).await? {
            Some(protected) => {
                let kinds = inspection.rules(name, base.as_str()).await?;
                rules.bases.insert(base.clone(), (kinds, protected));
            }
            None => missing.push(Finding::new(
                format!("{name}: `{base}` is there"),
                vec!["work of a project starts from it, and there is no such branch".to_owned()],
                "correct `base` under `projects` in astra.yaml, or push the branch",
            )),
        }
    }
    Ok(github_doctor::rules(name, &rules).into_iter().chain(missing).collect())
}

/// The repositories that an installation reaches; `None`: all of its account.
async fn reachable(
    inspection: &Inspection,
    installation: &Installation,
) -> Result<Option<Vec<String>>, GitHubFault> {
    if installation.reaches_all {
        return Ok(None);
    }
    inspection.reachable(installation.id).await.map(Some)
}
