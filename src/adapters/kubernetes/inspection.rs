//! What `agents doctor` looks up: objects, the authorizer's answers, admission without consequences.

use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Cluster;
use super::call::{Call, CallError, JSON};
use crate::domain::kubernetes::LEDGER_NAME;
use crate::domain::kubernetes::doctor::{Access, Who};

#[derive(Debug, Deserialize)]
struct Items {
    #[serde(default)]
    items: Vec<Value>,
}

impl Cluster {
    /// The live object of a manifest.
    pub async fn live(&self, manifest: &Value) -> Result<Option<Value>, CallError> {
        match self.call::<Value>(&Call::get(object_path(manifest))).await {
            Ok(found) => Ok(Some(found.value)),
            Err(CallError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The namespaces that carry a label.
    pub async fn namespaces_with(&self, label: &str) -> Result<Vec<Value>, CallError> {
        let path = format!("/api/v1/namespaces?labelSelector={}", label.replace('/', "%2F"));
        Ok(self.call::<Items>(&Call::get(path)).await?.value.items)
    }

    /// The names of a namespace's network policies.
    pub async fn network_policies(&self, namespace: &str) -> Result<Vec<String>, CallError> {
        let path = format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies");
        let items = self.call::<Items>(&Call::get(path)).await?.value.items;
        Ok(items.iter().filter_map(|item| item["metadata"]["name"].as_str().map(str::to_owned)).collect())
    }

    /// Asks the authorizer on somebody's behalf.
    pub async fn is_allowed(&self, who: &Who, access: &Access) -> Result<bool, CallError> {
        let (user, groups) = who.identity();
        let (resource, subresource) = match access.resource.split_once('/') {
            Some((resource, subresource)) => (resource, Some(subresource)),
            None => (access.resource.as_str(), None),
        };
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {"user": user, "groups": groups, "resourceAttributes": {
                "namespace": access.namespace, "verb": access.verb, "group": access.group,
                "resource": resource, "subresource": subresource, "name": access.name,
            }}
        });
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews".to_owned();
        let answer = self.call::<Value>(&Call::with_json(Method::POST, path, JSON, &review)?).await?;
        Ok(answer.value["status"]["allowed"] == true)
    }

    /// The API server's version, such as `v1.33.2`.
    pub async fn version(&self) -> Result<String, CallError> {
        let version = self.call::<Value>(&Call::get("/version".to_owned())).await?.value;
        Ok(version["gitVersion"].as_str().unwrap_or("an unknown version").to_owned())
    }

    /// Asks the authorizer whether we ourselves may update the ledger.
    pub async fn may_write_ledger(&self, namespace: &str) -> Result<bool, CallError> {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {
                "namespace": namespace, "verb": "update", "resource": "configmaps", "name": LEDGER_NAME,
            }}
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews".to_owned();
        let answer = self.call::<Value>(&Call::with_json(Method::POST, path, JSON, &review)?).await?;
        Ok(answer.value["status"]["allowed"] == true)
    }

    /// Asks admission whether it would take a pod; nothing is made. The refusal, if it would not.
    pub async fn try_pod(&self, namespace: &str, pod: &Value) -> Result<Option<String>, CallError> {
        let path = format!("/api/v1/namespaces/{namespace}/pods?dryRun=All");
        match self.call::<Value>(&Call::with_json(Method::POST, path, JSON, pod)?).await {
            Ok(_) => Ok(None),
            Err(CallError::Forbidden(text) | CallError::Invalid(text)) => Ok(Some(text)),
            Err(error) => Err(error),
        }
    }
}

/// Where the API server has the object of a manifest of `provision`.
fn object_path(manifest: &Value) -> String {
    let text = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let version = text("/apiVersion");
    let prefix = if version.contains('/') { "/apis" } else { "/api" };
    let kind = text("/kind").to_lowercase();
    let plural = match kind.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{kind}s"),
    };
    let name = text("/metadata/name");
    match text("/metadata/namespace") {
        "" => format!("{prefix}/{version}/{plural}/{name}"),
        namespace => format!("{prefix}/{version}/namespaces/{namespace}/{plural}/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_place() {
        let path = |version: &str, kind: &str, namespace: Option<&str>| {
            object_path(
                &json!({"apiVersion": version, "kind": kind, "metadata": {"name": "n", "namespace": namespace}}),
            )
        };
        assert_eq!(path("v1", "Namespace", None), "/api/v1/namespaces/n");
        assert_eq!(path("v1", "LimitRange", Some("a")), "/api/v1/namespaces/a/limitranges/n");
        let networking = path("networking.k8s.io/v1", "NetworkPolicy", Some("a"));
        assert_eq!(networking, "/apis/networking.k8s.io/v1/namespaces/a/networkpolicies/n");
    }
}
