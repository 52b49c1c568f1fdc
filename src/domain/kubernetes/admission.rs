//! The admission policy of the agents' namespaces: Jobs of our shape get in, others do not. A wall for
//! the day on which somebody else may create Jobs there, or acts as the dispatcher.
//!
//! What Pod Security refuses by itself is refused here too: a namespace can lose its labels.

use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MatchResources, NamedRuleWithOperations, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBindingSpec, ValidatingAdmissionPolicySpec,
    Validation, Variable,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use serde_json::Value;

use super::provision::{metadata, value};
use super::{
    AGENT_SERVICE_ACCOUNT, ANNOTATION_ATTEMPT, ANNOTATION_ITEM, ANNOTATION_REGISTRY, LABEL_AGENT,
    LABEL_MANAGED_BY, LABEL_PHASE, LABEL_ROLE, LABEL_RUN, LABEL_TASK, MANAGED_BY, string_map,
};

/// The policy and its binding. They are nobody's namespace, so their name has the system namespace's.
pub fn policy(system_namespace: &str) -> Vec<Value> {
    let name = format!("{system_namespace}-jobs");
    let policy = ValidatingAdmissionPolicy {
        metadata: metadata(&name, None, None),
        spec: Some(ValidatingAdmissionPolicySpec {
            failure_policy: Some("Fail".to_owned()),
            match_constraints: Some(jobs_of_agents()),
            match_conditions: Some(vec![MatchCondition {
                name: "new-or-other-work".to_owned(),
                // What is there already, of whatever shape, can still be labelled, stopped and removed.
                expression:
                    "request.operation == 'CREATE' || object.spec.template != oldObject.spec.template"
                        .to_owned(),
            }]),
            variables: Some(variables()),
            validations: Some(validations()),
            ..ValidatingAdmissionPolicySpec::default()
        }),
        status: None,
    };
    let binding = ValidatingAdmissionPolicyBinding {
        metadata: metadata(&name, None, None),
        spec: Some(ValidatingAdmissionPolicyBindingSpec {
            policy_name: Some(name),
            validation_actions: Some(vec!["Deny".to_owned()]),
            ..ValidatingAdmissionPolicyBindingSpec::default()
        }),
    };
    vec![value(&policy), value(&binding)]
}

/// With the values that the API server would fill in, so that nothing differs from what it keeps.
fn jobs_of_agents() -> MatchResources {
    MatchResources {
        match_policy: Some("Equivalent".to_owned()),
        namespace_selector: Some(LabelSelector {
            match_labels: Some(string_map([(LABEL_MANAGED_BY, MANAGED_BY.to_owned())])),
            match_expressions: Some(vec![LabelSelectorRequirement {
                key: LABEL_AGENT.to_owned(),
                operator: "Exists".to_owned(),
                values: None,
            }]),
        }),
        object_selector: Some(LabelSelector::default()),
        resource_rules: Some(vec![NamedRuleWithOperations {
            api_groups: Some(vec!["batch".to_owned()]),
            api_versions: Some(vec!["v1".to_owned()]),
            operations: Some(vec!["CREATE".to_owned(), "UPDATE".to_owned()]),
            resources: Some(vec!["jobs".to_owned()]),
            scope: Some("*".to_owned()),
            ..NamedRuleWithOperations::default()
        }]),
        ..MatchResources::default()
    }
}

fn variables() -> Vec<Variable> {
    [
        ("labels", "object.metadata.?labels.orValue({})".to_owned()),
        ("annotations", "object.metadata.?annotations.orValue({})".to_owned()),
        ("pod", "object.spec.template.spec".to_owned()),
        ("containers", "variables.pod.containers + variables.pod.?initContainers.orValue([])".to_owned()),
        // A probe of `agents doctor` is no run.
        ("isRun", format!("'{LABEL_RUN}' in variables.labels")),
    ]
    .map(|(name, expression)| Variable { name: name.to_owned(), expression })
    .into()
}

fn validations() -> Vec<Validation> {
    let rules = rules_of_jobs().into_iter().chain(rules_of_pods());
    let validation = |(expression, message): Rule| Validation {
        expression,
        message: Some(message.to_owned()),
        ..Validation::default()
    };
    rules.map(validation).collect()
}

/// What must hold, in CEL, and what is said where it does not.
type Rule = (String, &'static str);

fn rules_of_jobs() -> [Rule; 4] {
    let all_in = |keys: &[&str], map: &str| {
        keys.iter().map(|key| format!("'{key}' in variables.{map}")).collect::<Vec<_>>().join(" && ")
    };
    let run_labels = all_in(&[LABEL_TASK, LABEL_ROLE, LABEL_PHASE], "labels");
    let run_annotations = all_in(&[ANNOTATION_ITEM, ANNOTATION_REGISTRY, ANNOTATION_ATTEMPT], "annotations");
    [
        (
            format!(
                "variables.labels[?'{LABEL_MANAGED_BY}'].orValue('') == '{MANAGED_BY}' && \
                 variables.labels[?'{LABEL_AGENT}'].orValue('') == namespaceObject.metadata.labels['{LABEL_AGENT}']"
            ),
            "only Jobs of astra-dispatch for this namespace's agent run here, and this one does not have their labels",
        ),
        (
            format!(
                "!variables.isRun || (variables.labels['{LABEL_RUN}'] == object.metadata.name && {run_labels} && \
                 {run_annotations})"
            ),
            "the Job of a run must have the run's name, labels and annotations",
        ),
        (
            "!variables.isRun || (object.spec.?parallelism.orValue(1) == 1 && \
             object.spec.?completions.orValue(1) == 1 && object.spec.?backoffLimit.orValue(6) == 0)"
                .to_owned(),
            "the Job of a run must be one pod, and one attempt",
        ),
        (
            "!variables.isRun || request.operation != 'CREATE' || object.spec.?suspend.orValue(false)"
                .to_owned(),
            "the Job of a run must be created suspended: it is let go once the ledger names it",
        ),
    ]
}

fn rules_of_pods() -> [Rule; 4] {
    [
        (
            format!(
                "variables.pod.?serviceAccountName.orValue('') == '{AGENT_SERVICE_ACCOUNT}' && \
                 !variables.pod.?automountServiceAccountToken.orValue(true)"
            ),
            "a pod must have the agent's service account, and not its token",
        ),
        (
            "variables.pod.?volumes.orValue([]).all(v, has(v.emptyDir) || \
             (has(v.secret) && v.secret.?secretName.orValue('') == object.metadata.name))"
                .to_owned(),
            "a pod may have empty volumes and the Secret of its own run, and nothing of the node or the cluster",
        ),
        (
            "variables.containers.all(c, !has(c.envFrom) && c.?env.orValue([]).all(e, !has(e.valueFrom) || \
             (has(e.valueFrom.secretKeyRef) && e.valueFrom.secretKeyRef.name == object.metadata.name)))"
                .to_owned(),
            "a container may take variables from the Secret of its own run, and from nothing else",
        ),
        (
            "!variables.pod.?hostNetwork.orValue(false) && !variables.pod.?hostPID.orValue(false) && \
             !variables.pod.?hostIPC.orValue(false) && variables.containers.all(c, \
             !c.?securityContext.?privileged.orValue(false) && \
             c.?ports.orValue([]).all(p, p.?hostPort.orValue(0) == 0))"
                .to_owned(),
            "a pod must not be privileged, nor share what is the node's",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed() {
        let text: String = policy("astra-system")
            .iter()
            .map(|one| serde_saphyr::to_string(one).unwrap() + "---\n")
            .collect();
        insta::assert_snapshot!(text);
    }
}
