//! The Secret of a run: inputs and credentials, each key for one container.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::{LABEL_AGENT, LABEL_MANAGED_BY, LABEL_RUN, MANAGED_BY, string_map};
use crate::domain::name::{AgentName, RunId};

/// Key of the run's plan.
pub const KEY_PLAN: &str = "plan.json";
/// Key of the agent's system prompt.
pub const KEY_SYSTEM_PROMPT: &str = "system-prompt.md";
/// Key of the agent's task prompt.
pub const KEY_TASK: &str = "task.md";
/// Key of the shapes of the run's secrets, for the gate.
pub const KEY_DELIVER_SECRETS: &str = "deliver-secrets.json";
/// Key of the Git token that `prepare` gets.
pub const KEY_PREPARE_TOKEN: &str = "prepare.ASTRA_GIT_TOKEN";
/// Key of the Git token that `deliver` gets.
pub const KEY_DELIVER_TOKEN: &str = "deliver.ASTRA_GIT_TOKEN";

/// Stands for a Job that does not exist yet.
pub const NO_UID: &str = "00000000-0000-0000-0000-000000000000";

/// Key of one credential of the agent step.
pub fn agent_credential_key(name: &str) -> String {
    format!("agent.{name}")
}

/// The Secret's manifest, owned by the Job, so that it goes when the Job goes. It has the Job's name.
pub fn secret(
    run: &RunId,
    agent: &AgentName,
    job_uid: &str,
    values: impl IntoIterator<Item = (String, Vec<u8>)>,
) -> Secret {
    let data: BTreeMap<String, ByteString> =
        values.into_iter().map(|(key, value)| (key, ByteString(value))).collect();
    Secret {
        metadata: ObjectMeta {
            name: Some(run.to_string()),
            namespace: Some(agent.namespace()),
            labels: Some(string_map([
                (LABEL_MANAGED_BY, MANAGED_BY.to_owned()),
                (LABEL_RUN, run.to_string()),
                (LABEL_AGENT, agent.to_string()),
            ])),
            owner_references: Some(vec![OwnerReference {
                api_version: "batch/v1".to_owned(),
                kind: "Job".to_owned(),
                name: run.to_string(),
                uid: job_uid.to_owned(),
                block_owner_deletion: None,
                controller: None,
            }]),
            ..ObjectMeta::default()
        },
        data: Some(data),
        immutable: Some(true),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_goes_with_its_job() {
        let run: RunId = "ast-1-x7k2p".parse().unwrap();
        let values = [(KEY_PLAN.to_owned(), b"{}".to_vec()), (agent_credential_key("KEY"), b"v".to_vec())];
        let secret = secret(&run, &"vega".parse().unwrap(), "u-1", values);
        insta::assert_snapshot!(serde_saphyr::to_string(&secret).unwrap(), @r"
        apiVersion: v1
        kind: Secret
        data:
          agent.KEY: dg==
          plan.json: e30=
        immutable: true
        metadata:
          labels:
            app.kubernetes.io/managed-by: astra-dispatch
            dispatch.astra.dev/agent: vega
            dispatch.astra.dev/run: ast-1-x7k2p
          name: ast-1-x7k2p
          namespace: agent-vega
          ownerReferences:
          - apiVersion: batch/v1
            kind: Job
            name: ast-1-x7k2p
            uid: u-1
        type: Opaque
        ");
    }
}
