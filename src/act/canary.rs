//! The canary Deployment beside a workload.
//!
//! It has no owner reference on purpose: what may carry traffic must not be collected with something else.

use serde_json::{Map, Value, json};

use super::{
    calls::{Kind, text, what},
    error::ActError,
    patch::Ops,
    session::{AsSeen, Session},
};
use crate::{
    api::{DELIVERY_LABEL, FIELD_MANAGER, POD_TEMPLATE_HASH, RELEASE_ANNOTATION, TRACK_CANARY, TRACK_LABEL, WORKLOAD_LABEL},
    model::version::{ReleaseName, WorkloadName},
};

/// Name of the canary beside a workload: at most 52 + 7 = 59 characters.
#[must_use]
pub fn name(workload: &WorkloadName) -> String {
    format!("{workload}-canary")
}

/// What a canary is made of.
pub(super) struct Wanted<'a> {
    pub(super) workload: &'a WorkloadName,
    pub(super) release: &'a ReleaseName,
    pub(super) template: &'a Value,
    pub(super) replicas: u32,
}

/// Makes it. One that is there already is fine if it is the same; an old one has to go first.
pub(super) async fn create(session: &mut Session<'_>, wanted: &Wanted<'_>) -> Result<(), ActError> {
    let beside = session.workload(wanted.workload, AsSeen::Identity).await?;
    let delivery = session.delivery.metadata.name.clone().unwrap_or_default();
    let object = deployment(&delivery, session.calls.namespace, wanted, &beside.object);
    session.put(beside);
    let name = name(wanted.workload);
    if session.calls.create(Kind::Deployment, &name, &object).await? {
        return Ok(());
    }
    let there = session.calls.get(Kind::Deployment, &name).await?;
    let release = there.pointer("/metadata/annotations").and_then(|a| a.get(RELEASE_ANNOTATION)).and_then(Value::as_str);
    let same = ours(&there, &delivery, wanted.workload)
        && release == Some(wanted.release.as_str())
        && text(&there, "/metadata/deletionTimestamp").is_empty();
    if same { Ok(()) } else { Err(ActError::conflict(&what(Kind::Deployment, &name))) }
}

/// It is the canary of that Delivery beside that workload, by its labels.
fn ours(deployment: &Value, delivery: &str, workload: &WorkloadName) -> bool {
    let label = |key: &str| deployment.pointer("/metadata/labels").and_then(|l| l.get(key)).and_then(Value::as_str);
    label(DELIVERY_LABEL) == Some(delivery) && label(WORKLOAD_LABEL) == Some(workload.as_str())
}

/// Changes the number of its pods.
pub(super) async fn scale(session: &Session<'_>, workload: &WorkloadName, replicas: u32) -> Result<(), ActError> {
    let name = name(workload);
    let gone = || ActError::Gone { what: what(Kind::Deployment, &name) };
    let canary = session.seen_workload(workload)?.canary.as_ref().ok_or_else(gone)?;
    if canary.wanted == replicas {
        return Ok(());
    }
    let ops = Ops::of(&canary.uid).replace(&["spec", "replicas"], json!(replicas));
    session.calls.patch(Kind::Deployment, &name, ops).await.map(|_| ())
}

/// Removes it with its pods; never without them, for the owner's Deployment would adopt what is left.
pub(super) async fn delete(session: &Session<'_>, workload: &WorkloadName) -> Result<(), ActError> {
    let Some(beside) = session.seen.workload(workload) else { return delete_left(session, workload).await };
    let Some(canary) = beside.canary.as_ref().filter(|c| !c.deleting) else { return Ok(()) };
    session.calls.delete(Kind::Deployment, &canary.name, Some(&canary.uid)).await
}

/// Removes the one whose workload is gone: nobody sees it beside anything, so it is looked for by its name.
async fn delete_left(session: &Session<'_>, workload: &WorkloadName) -> Result<(), ActError> {
    let name = name(workload);
    let there = match session.calls.get(Kind::Deployment, &name).await {
        Ok(there) => there,
        Err(ActError::Gone { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    if !ours(&there, session.delivery.metadata.name.as_deref().unwrap_or_default(), workload) {
        return Ok(());
    }
    session.calls.delete(Kind::Deployment, &name, Some(text(&there, "/metadata/uid"))).await
}

/// The Deployment: the owner's labels on the pods, so that policies and monitors treat them as the app, and a selector of
/// our own, so that neither Deployment sees the other's pods. The owner's labels and annotations of the Deployment itself
/// are not copied: tools would take it for theirs.
fn deployment(delivery: &str, namespace: &str, wanted: &Wanted<'_>, beside: &Value) -> Value {
    let own = json!({DELIVERY_LABEL: delivery, WORKLOAD_LABEL: wanted.workload.as_str(), TRACK_LABEL: TRACK_CANARY});
    let mut spec = json!({
        "replicas": wanted.replicas,
        "revisionHistoryLimit": 0,
        "selector": {"matchLabels": own},
        "strategy": {"type": "RollingUpdate"},
        "template": marked(wanted.template, &own),
    });
    for key in ["minReadySeconds", "progressDeadlineSeconds"] {
        if let (Some(spec), Some(value)) = (spec.as_object_mut(), beside.pointer("/spec").and_then(|s| s.get(key))) {
            spec.insert(key.to_owned(), value.clone());
        }
    }
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": name(wanted.workload),
            "namespace": namespace,
            "labels": {DELIVERY_LABEL: delivery, WORKLOAD_LABEL: wanted.workload.as_str(), "app.kubernetes.io/managed-by": FIELD_MANAGER},
            "annotations": {RELEASE_ANNOTATION: wanted.release.as_str()},
        },
        "spec": spec,
    })
}

/// The template with our labels on its pods, and without the one that Kubernetes gives a `ReplicaSet`.
fn marked(template: &Value, own: &Value) -> Value {
    let mut template = template.clone();
    let mut labels = template.pointer("/metadata/labels").and_then(Value::as_object).cloned().unwrap_or_default();
    labels.remove(POD_TEMPLATE_HASH);
    labels.extend(own.as_object().cloned().unwrap_or_default());
    if let Some(root) = template.as_object_mut() {
        let metadata = root.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.insert("labels".to_owned(), Value::Object(labels));
        }
    }
    template
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_field_of_the_owners_template_is_lost() {
        let template = json!({
            "metadata": {"creationTimestamp": null, "labels": {"app": "shop", "pod-template-hash": "old"}, "annotations": {"a": "b"}},
            "spec": {"containers": [{"name": "app", "image": "shop:2", "fieldOfTomorrow": {"x": 1}}]},
        });
        let (workload, release) = (WorkloadName::new("shop"), ReleaseName::new("shop-1"));
        let wanted = Wanted { workload: &workload, release: &release, template: &template, replicas: 2 };
        let made = deployment("dlv", "ns", &wanted, &json!({"spec": {"minReadySeconds": 7, "replicas": 9}}));
        assert_eq!(made.pointer("/spec/template/spec"), template.pointer("/spec"));
        assert_eq!(made.pointer("/spec/template/metadata/annotations/a"), Some(&json!("b")));
        assert_eq!(
            made.pointer("/spec/template/metadata/labels"),
            Some(&json!({"app": "shop", "haldane.dev/delivery": "dlv", "haldane.dev/track": "canary", "haldane.dev/workload": "shop"}))
        );
        assert_eq!(made.pointer("/spec/minReadySeconds"), Some(&json!(7)));
        assert_eq!(made.pointer("/spec/replicas"), Some(&json!(2)));
        assert_eq!(made.pointer("/metadata/ownerReferences"), None);
    }

    #[test]
    fn a_template_without_metadata_gets_our_labels() {
        let own = json!({"haldane.dev/track": "canary"});
        assert_eq!(marked(&json!({"spec": {}}), &own), json!({"spec": {}, "metadata": {"labels": own}}));
    }
}
