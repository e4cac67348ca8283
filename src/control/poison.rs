//! A Delivery that cannot be decoded: it is said on the object itself, and the others are not touched by it.
//!
//! The definition in the cluster refuses nearly all of these at the door; what is left comes from a definition that is
//! newer or older than this controller.

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Client, Resource as _,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::error_boundary::InvalidObject,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    Key,
    lease::LeaderProof,
    pace,
    reconcile::{CALL, Error},
    turn::Passed,
};
use crate::{
    api::{
        FIELD_MANAGER,
        delivery::{Delivery, DeliverySpec},
    },
    metrics::{Attempt, Metrics},
};

const WORD: &str = "Invalid";

/// What it takes to say that a Delivery cannot be decoded.
pub(super) struct Poison<'a> {
    pub(super) client: &'a Client,
    pub(super) now: Timestamp,
    pub(super) metrics: &'a Metrics,
}

impl Poison<'_> {
    /// Says it on the object, once: what stands there already is not written again.
    pub(super) async fn mark(&self, key: &Key, proof: &LeaderProof, invalid: &InvalidObject) -> Result<Passed, Error> {
        let uid = invalid.metadata.uid.clone().unwrap_or_default();
        let resync = Passed::Again(pace::after(crate::model::decision::Wait::Change, false, self.now, &uid));
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &key.namespace, &ApiResource::erase::<Delivery>(&()));
        let Some(object) = limited(api.get_opt(&key.name)).await?.map_err(|e| self.failed(e))? else { return Ok(Passed::Gone) };
        let message = message(&object, &invalid.error);
        let Some(patch) = patch(&object, &message, self.now) else { return Ok(resync) };
        if proof.ensure().is_err() {
            return Ok(resync);
        }
        tracing::error!(
            namespace = key.namespace,
            delivery = key.name,
            error = invalid.error,
            "this Delivery cannot be decoded and is left as it is"
        );
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        limited(api.patch_status(&key.name, &params, &Patch::Merge(patch))).await?.map_err(|e| self.failed(e))?;
        self.announce(key, &invalid.metadata, message).await;
        Ok(resync)
    }

    /// An Event is a courtesy: one that cannot be written ends nothing.
    async fn announce(&self, key: &Key, metadata: &ObjectMeta, message: String) {
        let recorder = Recorder::new(self.client.clone(), Reporter { controller: FIELD_MANAGER.to_owned(), instance: None });
        let reference = ObjectReference {
            api_version: Some(Delivery::api_version(&()).into_owned()),
            kind: Some(Delivery::kind(&()).into_owned()),
            name: Some(key.name.clone()),
            namespace: Some(key.namespace.clone()),
            uid: metadata.uid.clone(),
            ..ObjectReference::default()
        };
        let event =
            Event { type_: EventType::Warning, reason: WORD.to_owned(), note: Some(message), action: "Decode".to_owned(), secondary: None };
        let written = matches!(timeout(CALL, recorder.publish(&event, &reference)).await, Ok(Ok(())));
        self.metrics.event(if written { Attempt::Done } else { Attempt::Failed });
    }

    fn failed(&self, error: kube::Error) -> Error {
        self.metrics.api_error(&error);
        Error::Poison(error)
    }
}

async fn limited<T>(call: impl Future<Output = T>) -> Result<T, Error> {
    timeout(CALL, call).await.map_err(|_| Error::Unanswered { limit: CALL })
}

/// Whether the object was changed between our read and our write.
pub(super) fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

fn message(object: &DynamicObject, error: &str) -> String {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let text = match misfit(object) {
        Some(field) => format!(
            "Delivery {name} cannot be decoded: {field} is not as this controller knows it ({error}); nothing of it is moved until that is mended: kubectl explain delivery.{field}"
        ),
        None => format!("Delivery {name} cannot be decoded ({error}); nothing of it is moved until it is mended or applied again"),
    };
    text.chars().take(1024).collect()
}

/// The field of the spec that does not fit, found by decoding each alone, as the error names none. None: it is not in the spec.
fn misfit(object: &DynamicObject) -> Option<String> {
    let fits = |key: &str, value: &Value| {
        let mut alone = serde_json::Map::from_iter([("workloads".to_owned(), json!([]))]);
        alone.insert(key.to_owned(), value.clone());
        serde_json::from_value::<DeliverySpec>(Value::Object(alone)).is_ok()
    };
    let spec = object.data.get("spec")?.as_object()?;
    spec.iter().find(|(key, value)| !fits(key, value)).map(|(key, _)| format!("spec.{key}"))
}

/// What to write into the status; none when it says so already. Where the delivery stands is left as it is: a controller
/// that can decode it goes on from there.
fn patch(object: &DynamicObject, message: &str, now: Timestamp) -> Option<Value> {
    let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    let is_stalled = |c: &Value| c.get("type").and_then(Value::as_str) == Some("Stalled");
    let said = |c: &Value| c.get("status") == Some(&json!("True")) && c.get("message") == Some(&json!(message));
    if conditions.iter().any(|c| is_stalled(c) && said(c)) {
        return None;
    }
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now).to_string();
    let mut conditions: Vec<Value> = conditions.into_iter().filter(|c| !is_stalled(c)).collect();
    let mut stalled = json!({"type": "Stalled", "status": "True", "reason": WORD, "message": message, "lastTransitionTime": now});
    if let (Some(stalled), Some(generation)) = (stalled.as_object_mut(), object.metadata.generation) {
        stalled.insert("observedGeneration".to_owned(), json!(generation));
    }
    conditions.push(stalled);
    Some(json!({
        // The precondition: of this object, as it was read.
        "metadata": {"uid": object.metadata.uid, "resourceVersion": object.metadata.resource_version},
        "status": {"reason": WORD, "message": message, "conditions": conditions},
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(status: &Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "haldane.dev/v1alpha1", "kind": "Delivery",
            "metadata": {"name": "broken", "namespace": "shop", "uid": "u", "resourceVersion": "7", "generation": 3},
            "spec": {"workloads": 7}, "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn the_field_that_does_not_fit_is_named() {
        let says = |spec: &Value| {
            let mut object = object(&Value::Null);
            object.data["spec"] = spec.clone();
            message(&object, "invalid type")
        };
        assert!(says(&json!({"workloads": "x"})).starts_with("Delivery broken cannot be decoded: spec.workloads is not as"));
        let newer = says(&json!({"workloads": [{"name": "shop"}], "rollout": {"guard": []}}));
        assert!(newer.ends_with("until that is mended: kubectl explain delivery.spec.rollout"), "{newer}");
        let elsewhere = says(&json!({"workloads": [{"name": "shop"}]}));
        assert!(elsewhere.starts_with("Delivery broken cannot be decoded (invalid type); "), "{elsewhere}");
    }

    #[test]
    fn it_is_said_once_and_only_stalled_is_touched() {
        let now = Timestamp::from_second(1_000_000_000).unwrap();
        let available = json!({"type": "Available", "status": "True"});
        let patch = patch(&object(&json!({"phase": "Canary", "conditions": [available]})), "cannot", now).unwrap();
        assert_eq!(patch["metadata"], json!({"uid": "u", "resourceVersion": "7"}));
        assert_eq!(patch["status"]["conditions"][0], available);
        assert_eq!(patch["status"]["conditions"][1]["type"], "Stalled");
        assert_eq!(patch["status"].get("phase"), None, "where it stands is not forgotten");

        let after = object(&patch["status"]);
        assert_eq!(super::patch(&after, "cannot", now), None, "a second write would wake us up for ever");
        assert!(super::patch(&after, "cannot for another reason", now).is_some());
    }
}
