//! Conditional changes of a Job, as JSON Patches (RFC 6902) with `test` operations: the server
//! checks them in one step with the change, and the Job controller's writes do not disturb them.

use serde_json::{Value, json};

use crate::domain::job::{CancelReason, Claim, ItemState, JobFailure, JobPhase};
use crate::domain::kubernetes::identity::{cancel_annotation, claim_annotation, phase_label};
use crate::domain::kubernetes::{
    ANNOTATION_CANCEL, ANNOTATION_CLAIM, ANNOTATION_ITEM_STATE, ANNOTATION_PENDING, FINALIZER, LABEL_PHASE,
};

/// Collects operations; each change starts with the Job's UID, so a newer Job of the same name is
/// never touched.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct JobPatch(Vec<Value>);

impl JobPatch {
    pub(super) fn new(uid: &str) -> Self {
        Self(Vec::new()).test("/metadata/uid", uid)
    }

    /// Queued becomes released.
    pub(super) fn release(self) -> Self {
        self.phase(JobPhase::Queued, JobPhase::Released)
            .test("/spec/suspend", true)
            .replace("/spec/suspend", false)
    }

    /// The given phase becomes cancelled, and the Job stops.
    pub(super) fn cancel(self, seen: JobPhase, reason: CancelReason) -> Self {
        self.phase(seen, JobPhase::Cancelled)
            .annotate(ANNOTATION_CANCEL, cancel_annotation(reason))
            .replace("/spec/suspend", true)
    }

    /// A released run's time is up: the Job controller fails the Job and deletes its pod.
    pub(super) fn time_is_up(self, deadline: i64, failure: &JobFailure) -> Self {
        self.test(&format!("/metadata/labels/{}", escape(LABEL_PHASE)), phase_label(JobPhase::Released))
            .test("/spec/activeDeadlineSeconds", deadline)
            .annotate(ANNOTATION_PENDING, &json!(failure).to_string())
            .replace("/spec/activeDeadlineSeconds", 1)
    }

    /// A released attempt becomes published and replaced.
    pub(super) fn close(self) -> Self {
        self.phase(JobPhase::Released, JobPhase::Published)
            .annotate(ANNOTATION_CANCEL, cancel_annotation(CancelReason::Replaced))
    }

    /// The given phase and claim become claimed by somebody else. `finalizers` are those that the
    /// Job had when it was read.
    pub(super) fn claim(
        self,
        phase: JobPhase,
        seen: Option<&Claim>,
        claim: &Claim,
        finalizers: &[String],
    ) -> Self {
        let mut patch = self.phase(phase, JobPhase::Claimed);
        if let Some(seen) = seen {
            patch = patch.test(&annotation_path(ANNOTATION_CLAIM), claim_annotation(seen));
        }
        patch = patch.annotate(ANNOTATION_CLAIM, &claim_annotation(claim));
        if finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            return patch;
        }
        let all: Vec<&str> = finalizers.iter().map(String::as_str).chain([FINALIZER]).collect();
        patch.expect_finalizers(finalizers).add("/metadata/finalizers", json!(all))
    }

    /// Claimed by this claim becomes published.
    pub(super) fn publish(self, claim: &Claim, finalizers: &[String]) -> Self {
        let patch = self
            .phase(JobPhase::Claimed, JobPhase::Published)
            .test(&annotation_path(ANNOTATION_CLAIM), claim_annotation(claim));
        let left: Vec<&String> = finalizers.iter().filter(|&finalizer| finalizer != FINALIZER).collect();
        if left.len() == finalizers.len() {
            return patch;
        }
        patch.expect_finalizers(finalizers).replace("/metadata/finalizers", json!(left))
    }

    /// Notes a Plane state.
    pub(super) fn item_state(self, state: &ItemState) -> Self {
        let text = json!(state).to_string();
        self.annotate(ANNOTATION_ITEM_STATE, &text)
    }

    pub(super) fn operations(&self) -> &[Value] {
        &self.0
    }

    fn phase(self, from: JobPhase, to: JobPhase) -> Self {
        let path = format!("/metadata/labels/{}", escape(LABEL_PHASE));
        self.test(&path, phase_label(from)).replace(&path, phase_label(to))
    }

    fn annotate(self, name: &str, value: &str) -> Self {
        self.add(&annotation_path(name), json!(value))
    }

    /// A list that is not there equals null.
    fn expect_finalizers(self, finalizers: &[String]) -> Self {
        let seen = if finalizers.is_empty() { Value::Null } else { json!(finalizers) };
        self.test("/metadata/finalizers", seen)
    }

    fn test(mut self, path: &str, value: impl Into<Value>) -> Self {
        self.0.push(json!({"op": "test", "path": path, "value": value.into()}));
        self
    }

    fn add(mut self, path: &str, value: Value) -> Self {
        self.0.push(json!({"op": "add", "path": path, "value": value}));
        self
    }

    fn replace(mut self, path: &str, value: impl Into<Value>) -> Self {
        self.0.push(json!({"op": "replace", "path": path, "value": value.into()}));
        self
    }
}

fn annotation_path(name: &str) -> String {
    format!("/metadata/annotations/{}", escape(name))
}

/// A name as part of a JSON Pointer (RFC 6901).
fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(holder: &str) -> Claim {
        Claim { holder: holder.to_owned(), at: "2026-11-24T10:00:00Z".parse().unwrap() }
    }

    fn lines(patch: &JobPatch) -> Vec<String> {
        let line = |operation: &Value| {
            let path = operation["path"].as_str().unwrap();
            format!("{} {path} {}", operation["op"].as_str().unwrap(), operation["value"])
        };
        patch.operations().iter().map(line).collect()
    }

    /// Release and cancel test the same label: exactly one of them can win.
    #[test]
    fn every_change_tests_what_it_rests_on() {
        let phase = "/metadata/labels/dispatch.astra.dev~1phase";
        let annotation = "/metadata/annotations/dispatch.astra.dev~1";
        let released = lines(&JobPatch::new("u").release());
        assert_eq!(
            released,
            [
                "test /metadata/uid \"u\"".to_owned(),
                format!("test {phase} \"queued\""),
                format!("replace {phase} \"released\""),
                "test /spec/suspend true".to_owned(),
                "replace /spec/suspend false".to_owned(),
            ]
        );
        let cancelled = lines(&JobPatch::new("u").cancel(JobPhase::Queued, CancelReason::Unwanted));
        assert_eq!(cancelled[1], released[1]);
        assert_eq!(cancelled[3], format!("add {annotation}cancel \"unwanted\""));
        assert_eq!(cancelled[4], "replace /spec/suspend true");
        let claimed =
            lines(&JobPatch::new("u").claim(JobPhase::Claimed, Some(&claim("a")), &claim("b"), &[]));
        assert_eq!(claimed[1], format!("test {phase} \"claimed\""));
        assert_eq!(claimed[3], format!("test {annotation}claim \"a 2026-11-24T10:00:00Z\""));
        assert_eq!(claimed[4], format!("add {annotation}claim \"b 2026-11-24T10:00:00Z\""));
        assert_eq!(claimed[5], "test /metadata/finalizers null");
        assert_eq!(claimed[6], "add /metadata/finalizers [\"dispatch.astra.dev/publishing\"]");
        let held = ["x/y".to_owned(), FINALIZER.to_owned()];
        let published = lines(&JobPatch::new("u").publish(&claim("b"), &held));
        assert_eq!(published.last().unwrap(), "replace /metadata/finalizers [\"x/y\"]");
    }
}
