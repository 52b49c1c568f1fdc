//! `agents doctor`: whether the cluster, or GitHub, is as the registry says, and keeps apart what it must.

use futures_util::StreamExt;
use serde::Serialize;
use serde_json::{Value, json};

use super::{doctor_github, probe};
use crate::adapters::kubernetes::Cluster;
use crate::adapters::kubernetes::call::CallError;
use crate::adapters::registry_files;
use crate::cli::{AgentsDoctorArgs, Format};
use crate::domain::finding::{Finding, State};
use crate::domain::kubernetes::doctor::{
    AccessCheck, access_checks, drift, foreign_policies, removed_agents,
};
use crate::domain::kubernetes::{LABEL_AGENT, admission, provision};
use crate::domain::registry::{Agent, Registry};
use crate::error::{Exit, UserError};
use crate::output;

/// Who may look at what could not be looked at.
const READER: &str = "run this with a kubeconfig whose user may read it, such as an administrator's";
/// Questions that are asked at once.
const CONCURRENCY: usize = 16;

#[derive(Debug, Serialize)]
struct Report {
    version: u32,
    context: String,
    findings: Vec<Finding>,
}

pub(super) async fn run(args: &AgentsDoctorArgs) -> anyhow::Result<Exit> {
    let registry = registry_files::load(&args.registry.registry)?;
    let (context, findings) = if args.github {
        ("GitHub".to_owned(), doctor_github::run(&registry).await?)
    } else {
        let cluster = Cluster::connect(registry.kubernetes.context.as_deref()).await?;
        answers(&cluster).await?;
        let mut findings = examine(&cluster, &registry, &args.api_server).await?;
        if args.probe {
            findings.extend(probe::run(&cluster, &registry).await?);
        }
        (cluster.context, findings)
    };
    let exit = exit(&findings);
    match args.format.format {
        Format::Text => output::result(&output::findings::text(&findings))?,
        Format::Json => output::json(&Report { version: 1, context, findings })?,
    }
    Ok(exit)
}

/// What is wrong outranks what is not known yet.
fn exit(findings: &[Finding]) -> Exit {
    let has = |state| findings.iter().any(|finding| finding.state == state);
    if has(State::Failed) {
        Exit::Failed
    } else if has(State::Unanswered) {
        Exit::Retry
    } else {
        Exit::Handled
    }
}

/// Else every question would wait for an answer of its own.
async fn answers(cluster: &Cluster) -> Result<(), UserError> {
    match cluster.version().await {
        Err(CallError::Unavailable(why)) => Err(UserError::retry(
            format!("the API server does not answer: {why}"),
            format!("check that `kubectl --context {} version` works, and run this again", cluster.context),
        )),
        // Whoever may not ask for the version may ask for other things.
        _ => Ok(()),
    }
}

fn untold(check: impl Into<String>, error: &CallError) -> Finding {
    match error {
        CallError::Unavailable(why) => Finding::unanswered(check, why),
        error => Finding::unknown(check, error.to_string(), READER),
    }
}

async fn examine(
    cluster: &Cluster,
    registry: &Registry,
    api_server: &[String],
) -> anyhow::Result<Vec<Finding>> {
    let system_namespace = &registry.kubernetes.system_namespace;
    let mut findings =
        vec![objects(cluster, system_namespace, &provision::system(system_namespace), "").await];
    for agent in registry.agents.values() {
        let manifests = provision::agent(agent, system_namespace, api_server)
            .map_err(|error| UserError::usage(error.to_string(), "correct it and run this again"))?;
        let option = format!(" --agent {}", agent.name);
        findings.push(objects(cluster, &agent.name.namespace(), &manifests, &option).await);
        findings.push(policies(cluster, agent, &manifests).await);
        findings.push(admission(cluster, agent).await);
    }
    findings.push(admission_policy(cluster, system_namespace).await);
    findings.push(removed(cluster, registry).await);
    let checks = access_checks(registry);
    let answered =
        futures_util::stream::iter(&checks).map(|check| access(cluster, check)).buffered(CONCURRENCY);
    findings.extend(answered.collect::<Vec<_>>().await);
    Ok(findings)
}

async fn objects(cluster: &Cluster, namespace: &str, manifests: &[Value], option: &str) -> Finding {
    let check = format!("{namespace}: everything is as `agents provision` prints it");
    let mut faults = Vec::new();
    for manifest in manifests {
        match cluster.live(manifest).await {
            Ok(live) => faults.extend(drift(manifest, live.as_ref())),
            Err(error) => return untold(check, &error),
        }
    }
    Finding::new(check, faults, format!("run `astra-dispatch agents provision{option} | kubectl apply -f -`"))
}

async fn policies(cluster: &Cluster, agent: &Agent, manifests: &[Value]) -> Finding {
    let namespace = agent.name.namespace();
    let check = format!("{namespace}: no network policy but ours");
    match cluster.network_policies(&namespace).await {
        Ok(live) => Finding::new(
            check,
            foreign_policies(manifests, &live),
            format!(
                "put what it allows into `network` of the agent, then `kubectl delete networkpolicy -n {namespace} NAME`"
            ),
        ),
        Err(error) => untold(check, &error),
    }
}

/// Pod Security is proved, not read from labels: admission is asked about a pod it must refuse.
async fn admission(cluster: &Cluster, agent: &Agent) -> Finding {
    let namespace = agent.name.namespace();
    let check = format!("{namespace}: Pod Security refuses a pod in the host's network");
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "doctor"},
        "spec": {"hostNetwork": true, "automountServiceAccountToken": false, "containers": [
            {"name": "c", "image": "none.invalid/none:1"}]}
    });
    match cluster.try_pod(&namespace, &pod).await {
        Ok(Some(refusal)) if refusal.contains("PodSecurity") => Finding::new(check, Vec::new(), ""),
        Ok(Some(refusal)) => Finding::unknown(check, refusal, READER),
        Ok(None) => Finding::new(
            check,
            vec!["it would be let in".to_owned()],
            format!(
                "label the namespace: `astra-dispatch agents provision --agent {} | kubectl apply -f -`",
                agent.name
            ),
        ),
        Err(error) => untold(check, &error),
    }
}

/// A second wall: without it, everything works.
async fn admission_policy(cluster: &Cluster, system_namespace: &str) -> Finding {
    let check = "only Jobs of astra-dispatch are let into the agents' namespaces";
    let found = objects(cluster, "", &admission::policy(system_namespace), "").await;
    match found.state {
        State::Unknown | State::Unanswered => Finding { check: check.to_owned(), ..found },
        _ => Finding::warning(check, found.faults, found.remedy.unwrap_or_default()),
    }
}

async fn removed(cluster: &Cluster, registry: &Registry) -> Finding {
    let check = "no namespace of an agent that left the registry";
    match cluster.namespaces_with(LABEL_AGENT).await {
        Ok(namespaces) => {
            let removed = removed_agents(registry, &namespaces);
            let remedy =
                format!("when their runs are published: `kubectl delete namespace {}`", removed.join(" "));
            Finding::new(check, removed.iter().map(|name| format!("{name} is left over")).collect(), remedy)
        }
        Err(error) => untold(check, &error),
    }
}

async fn access(cluster: &Cluster, check: &AccessCheck) -> Finding {
    let mut faults = Vec::new();
    for question in &check.questions {
        match cluster.is_allowed(&check.who, question).await {
            Ok(allowed) if allowed == question.allowed => {}
            Ok(_) => faults.push(question.fault(&check.who)),
            Err(error) => return untold(check.check.clone(), &error),
        }
    }
    Finding::new(
        check.check.clone(),
        faults,
        "find the Role or ClusterRole that says so with `kubectl get rolebindings,clusterrolebindings -A -o wide`, \
         and apply `agents provision`",
    )
}
