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
use serde::de::DeserializeOwned;
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
        status::DeliveryStatus,
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
    /// What can be read of one that is being deleted, when that is enough to open its gates: else its finalizer, and with it
    /// its namespace, would wait for somebody who mends what is thrown away.
    pub(super) async fn leaving(&self, key: &Key, invalid: &InvalidObject) -> Result<Option<Delivery>, Error> {
        if invalid.metadata.deletion_timestamp.is_none() {
            return Ok(None);
        }
        Ok(self.read(key).await?.and_then(|object| legible(&object)))
    }

    /// Says it on the object, once: what stands there already is not written again.
    pub(super) async fn mark(&self, key: &Key, proof: &LeaderProof, invalid: &InvalidObject) -> Result<Passed, Error> {
        let uid = invalid.metadata.uid.clone().unwrap_or_default();
        let resync = Passed::Again(pace::after(crate::model::decision::Wait::Change, false, self.now, &uid));
        let Some(object) = self.read(key).await? else { return Ok(Passed::Gone) };
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
        limited(self.api(key).patch_status(&key.name, &params, &Patch::Merge(patch))).await?.map_err(|e| self.failed(e))?;
        self.announce(key, &invalid.metadata, message).await;
        Ok(resync)
    }

    fn api(&self, key: &Key) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &key.namespace, &ApiResource::erase::<Delivery>(&()))
    }

    async fn read(&self, key: &Key) -> Result<Option<DynamicObject>, Error> {
        limited(self.api(key).get_opt(&key.name)).await?.map_err(|e| self.failed(e))
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
    // One that goes and is still here: not even its gates can be read, or `leaving` had opened them.
    let ending = object.metadata.deletion_timestamp.is_some();
    let way_out = format!(
        "Delivery {name} is being deleted, and it cannot be read which gates to open ({error}). By hand: take haldane.dev/track and \
         pod-template-hash out of the selectors of its Services, kubectl rollout resume each of its Deployments, then let it go: \
         kubectl patch dlv {name} --type=merge -p '{{\"metadata\":{{\"finalizers\":null}}}}'"
    );
    (if ending { way_out } else { text }).chars().take(1024).collect()
}

/// The Delivery with as much of it as fits: the names of its workloads and what its status says. None: it cannot be read which
/// gates are ours to open.
fn legible(object: &DynamicObject) -> Option<Delivery> {
    let status = object.data.get("status").and_then(Value::as_object).into_iter().flatten();
    let fitting = status.filter(|(key, value)| fits::<DeliveryStatus>(json!({key.as_str(): value})));
    let status: DeliveryStatus = serde_json::from_value(Value::Object(fitting.map(|(k, v)| (k.clone(), v.clone())).collect())).ok()?;
    let gated = object.data.pointer("/status/gated").and_then(Value::as_array).map_or(0, Vec::len);
    if status.gated.len() < gated {
        return None;
    }
    let entries = object.data.pointer("/spec/workloads").and_then(Value::as_array).into_iter().flatten();
    let listed = entries.filter_map(|entry| entry.get("name")?.as_str());
    let mut names: Vec<&str> = listed.chain(status.gated.iter().map(|gated| gated.name.as_str())).collect();
    let mut known = std::collections::BTreeSet::new();
    names.retain(|name| known.insert(*name));
    let workloads: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
    let spec: DeliverySpec = serde_json::from_value(json!({"workloads": workloads})).ok()?;
    Some(Delivery { metadata: object.metadata.clone(), spec, status: Some(status) })
}

fn fits<T: DeserializeOwned>(value: Value) -> bool {
    serde_json::from_value::<T>(value).is_ok()
}

/// The field of the spec that does not fit, found by decoding each alone, as the error names none. None: it is not in the spec.
fn misfit(object: &DynamicObject) -> Option<String> {
    let alone = |key: &str, value: &Value| {
        let mut alone = serde_json::Map::from_iter([("workloads".to_owned(), json!([]))]);
        alone.insert(key.to_owned(), value.clone());
        Value::Object(alone)
    };
    let spec = object.data.get("spec")?.as_object()?;
    spec.iter().find(|(key, value)| !fits::<DeliverySpec>(alone(key, value))).map(|(key, _)| format!("spec.{key}"))
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
    fn of_one_that_is_deleted_what_can_be_read_opens_its_gates() {
        let gated = json!([{"name": "shop", "uid": "d", "wasPaused": false}, {"name": "worker", "uid": "e", "wasPaused": false}]);
        let live = json!({"release": "shop-1", "version": "v1"});
        let mut object = object(&json!({"phase": "Live", "live": live, "gated": gated, "history": 7}));
        object.data["spec"] = json!({"workloads": [{"name": "shop", "kind": "Job"}, 7], "rollout": 7});
        let delivery = legible(&object).unwrap();
        assert_eq!(delivery.spec.workloads.iter().map(|w| w.name.as_str()).collect::<Vec<_>>(), ["shop", "worker"]);
        let status = delivery.status.unwrap();
        assert_eq!(
            (status.phase.as_deref(), status.live.map(|l| l.release), status.gated.len()),
            (Some("Live"), Some("shop-1".to_owned()), 2)
        );
        assert_eq!(delivery.metadata.uid.as_deref(), Some("u"));

        object.data["status"]["gated"] = json!([{"name": 7}]);
        assert_eq!(legible(&object), None, "a gate that nobody would open");
        object.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH));
        let says = message(&object, "invalid type");
        assert!(
            says.contains("kubectl rollout resume")
                && says.contains("kubectl patch dlv broken --type=merge -p '{\"metadata\":{\"finalizers\":null}}'"),
            "{says}"
        );
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
