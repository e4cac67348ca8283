//! The Job that runs a `CronJob` once before a version.
//!
//! It has no owner reference on purpose: what changes a database must not be cut short because something else is removed.
//! Where nobody is left to remove it, Kubernetes does, some days after its end.

use serde_json::{Map, Value, json};

use super::{
    calls::{Kind, what},
    error::ActError,
    session::Session,
};
use crate::{
    api::{BEFORE_LABEL, DELIVERY_LABEL, FIELD_MANAGER, RELEASE_ANNOTATION},
    model::version::ReleaseName,
};

/// How long after its end Kubernetes keeps it, where Haldane does not remove it before: a week. Not what its owner says there:
/// one that is gone before its end was seen would be run again.
const KEPT_S: u32 = 7 * 24 * 60 * 60;

/// What a Job is made of.
pub(super) struct Wanted<'a> {
    pub(super) job: &'a str,
    pub(super) cron_job: &'a str,
    pub(super) release: &'a ReleaseName,
    pub(super) spec: &'a Value,
}

/// Makes it. One that is there already is fine if it is the same.
pub(super) async fn run(session: &Session<'_>, wanted: &Wanted<'_>) -> Result<(), ActError> {
    let delivery = session.delivery.metadata.name.clone().unwrap_or_default();
    let object = job(&delivery, session.calls.namespace, wanted);
    if session.calls.create(Kind::Job, wanted.job, &object).await? {
        return Ok(());
    }
    let there = session.calls.get(Kind::Job, wanted.job).await?;
    let same = |pointer: &str, key: &str| {
        let said = |object: &'_ Value| object.pointer(pointer).and_then(|all| all.get(key)).cloned();
        said(&there) == said(&object)
    };
    if same("/metadata/labels", DELIVERY_LABEL)
        && same("/metadata/labels", BEFORE_LABEL)
        && same("/metadata/annotations", RELEASE_ANNOTATION)
    {
        return Ok(());
    }
    let message = "it is there and runs for something else; delete it when it has ended".to_owned();
    Err(ActError::Refused { what: what(Kind::Job, wanted.job), message })
}

/// Removes one that was seen, with its pods.
pub(super) async fn remove(session: &Session<'_>, name: &str) -> Result<(), ActError> {
    let Some(seen) = session.seen.jobs.iter().find(|job| job.name == name) else { return Ok(()) };
    session.calls.delete(Kind::Job, name, Some(&seen.uid)).await
}

/// The Job. Of the owner's labels and annotations only those of the pods are copied: by those of the Job itself tools would take
/// it for theirs, and remove it as one that is in no manifest.
fn job(delivery: &str, namespace: &str, wanted: &Wanted<'_>) -> Value {
    let labels = json!({DELIVERY_LABEL: delivery, BEFORE_LABEL: wanted.cron_job, "app.kubernetes.io/managed-by": FIELD_MANAGER});
    let annotations = json!({RELEASE_ANNOTATION: wanted.release.as_str()});
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": wanted.job, "namespace": namespace, "labels": labels, "annotations": annotations},
        "spec": spec(wanted.spec, &json!({DELIVERY_LABEL: delivery, BEFORE_LABEL: wanted.cron_job})),
    })
}

/// The owner's spec, with our labels on its pods. Which pods are its own Kubernetes says.
fn spec(owners: &Value, own: &Value) -> Value {
    let mut spec = owners.as_object().cloned().unwrap_or_default();
    for key in ["selector", "manualSelector", "suspend"] {
        spec.remove(key);
    }
    spec.insert("ttlSecondsAfterFinished".to_owned(), json!(KEPT_S));
    let template = spec.entry("template").or_insert_with(|| Value::Object(Map::new()));
    let metadata = template.as_object_mut().map(|t| t.entry("metadata").or_insert_with(|| Value::Object(Map::new())));
    if let Some(metadata) = metadata.and_then(Value::as_object_mut) {
        let mut labels = metadata.get("labels").and_then(Value::as_object).cloned().unwrap_or_default();
        labels.extend(own.as_object().cloned().unwrap_or_default());
        metadata.insert("labels".to_owned(), Value::Object(labels));
    }
    Value::Object(spec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_field_of_the_owners_job_is_lost_but_those_that_would_end_it_early_or_keep_it_from_running() {
        let owners = json!({
            "backoffLimit": 0, "activeDeadlineSeconds": 60, "fieldOfTomorrow": 1, "ttlSecondsAfterFinished": 0, "suspend": true,
            "manualSelector": true, "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"app": "migrate"}}, "spec": {"restartPolicy": "Never", "newer": 1}},
        });
        let own = json!({"haldane.dev/delivery": "shop"});
        assert_eq!(
            spec(&owners, &own),
            json!({
                "backoffLimit": 0, "activeDeadlineSeconds": 60, "fieldOfTomorrow": 1, "ttlSecondsAfterFinished": 604_800,
                "template": {
                    "metadata": {"labels": {"app": "migrate", "haldane.dev/delivery": "shop"}},
                    "spec": {"restartPolicy": "Never", "newer": 1},
                },
            })
        );
    }
}
