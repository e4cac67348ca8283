//! Whether the definitions of our kinds in the cluster are as new as this controller.
//!
//! Helm never upgrades the CRDs of a chart. With an older one in the cluster the API server drops what it does not know
//! from every status, with no more than a warning, and a rollout would forget where it stands. So nothing moves forward
//! until they are upgraded; the way back goes on.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, CustomResourceValidation};
use kube::{Api, Client, ResourceExt as _};
use serde_json::Value;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::reconcile::CALL;
use crate::{api::crd_yaml, metrics::Metrics, model::decision::Reason};

/// Between two looks while all is well: they can be downgraded under a running controller, too.
const AGAIN: Duration = Duration::from_mins(10);
/// Between two looks while something is wrong or unknown.
const AGAIN_SOON: Duration = Duration::from_secs(15);
/// How many differences a message names; the first is enough to find the rest.
const NAMED: usize = 3;

/// What a look at the definitions gave.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    Current,
    Outdated(Reason),
    /// We were not answered. That says nothing about them.
    Unknown(String),
    /// We may not look, and will not be allowed to soon.
    Refused(String),
}

/// Looks once, then again and again, and says what it sees.
pub(super) struct Definitions {
    client: Client,
    metrics: Arc<Metrics>,
    says: watch::Sender<Option<Reason>>,
}

impl Definitions {
    /// And where the result is seen: the reason why nothing may move forward, if there is one.
    pub(super) fn new(client: Client, metrics: Arc<Metrics>) -> (Self, watch::Receiver<Option<Reason>>) {
        let (says, seen) = watch::channel(None);
        (Self { client, metrics, says }, seen)
    }

    /// One look; returns when the next is due.
    pub(super) async fn look(&self) -> Duration {
        let look = self.compare().await;
        self.metrics.definitions_outdated(matches!(look, Look::Outdated(_)));
        match look {
            Look::Current => {
                self.says.send_replace(None);
                AGAIN
            }
            Look::Outdated(reason) => {
                tracing::error!(%reason, "nothing moves forward");
                self.says.send_replace(Some(reason));
                AGAIN_SOON
            }
            Look::Unknown(why) => {
                tracing::warn!(why, "the CRDs in the cluster cannot be compared with this controller yet");
                AGAIN_SOON
            }
            Look::Refused(why) => {
                tracing::warn!(why, "the CRDs in the cluster may not be compared with this controller; allow get on them by name");
                AGAIN
            }
        }
    }

    /// The look before the first pass, so that nothing moves forward that should not; an API server that is slow or a stop
    /// does not wait for it.
    pub(super) async fn first_look(&self, stop: &CancellationToken) -> Duration {
        tokio::select! {
            () = stop.cancelled() => AGAIN_SOON,
            next = timeout(CALL, self.look()) => next.unwrap_or(AGAIN_SOON),
        }
    }

    /// Looks for ever.
    pub(super) async fn keep_looking(self, mut next: Duration) {
        loop {
            sleep(next).await;
            next = self.look().await;
        }
    }

    async fn compare(&self) -> Look {
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        for own in crd_yaml::definitions() {
            let name = own.name_any();
            let stored = match timeout(CALL, api.get_opt(&name)).await {
                Ok(Ok(stored)) => stored,
                Ok(Err(error)) => {
                    self.metrics.api_error(&error);
                    let says = format!("{name}: {error}");
                    let refused = matches!(&error, kube::Error::Api(status) if status.code == 403);
                    return if refused { Look::Refused(says) } else { Look::Unknown(says) };
                }
                Err(_) => return Look::Unknown(format!("{name}: no answer within {CALL:?}")),
            };
            let missing = stored.map_or_else(|| vec!["the CRD itself".to_owned()], |stored| differences(&own, &stored));
            if !missing.is_empty() {
                return Look::Outdated(outdated(&name, &missing));
            }
        }
        Look::Current
    }
}

fn outdated(name: &str, missing: &[String]) -> Reason {
    let named = missing.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    let why = format!(
        "the CRD {name} in the cluster is older than this controller (it lacks {named}), so nothing moves forward: \
         haldane crds | kubectl apply --server-side -f -"
    );
    Reason::Invalid { why }
}

/// What the stored definition lacks of our own: properties and words, by path.
fn differences(own: &CustomResourceDefinition, stored: &CustomResourceDefinition) -> Vec<String> {
    let mut missing = Vec::new();
    for version in &own.spec.versions {
        let theirs = stored.spec.versions.iter().find(|v| v.name == version.name && v.served);
        match theirs {
            None => missing.push(format!("the version {}", version.name)),
            Some(theirs) => lacks(&json(version.schema.as_ref()), &json(theirs.schema.as_ref()), "", &mut missing),
        }
    }
    missing
}

/// The schema as JSON; one that cannot be written as JSON is an empty one.
fn json(validation: Option<&CustomResourceValidation>) -> Value {
    let schema = validation.and_then(|v| v.open_api_v3_schema.as_ref());
    schema.and_then(|schema| serde_json::to_value(schema).ok()).unwrap_or_default()
}

fn lacks(own: &Value, stored: &Value, path: &str, missing: &mut Vec<String>) {
    if stored.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true)) {
        return;
    }
    for (name, property) in own.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let path = format!("{path}.{name}");
        match stored.get("properties").and_then(|p| p.get(name)) {
            Some(theirs) => lacks(property, theirs, &path, missing),
            None => missing.push(path),
        }
    }
    for (inner, mark) in [("items", "[]"), ("additionalProperties", ".*")] {
        if let (Some(own), Some(theirs)) = (own.get(inner), stored.get(inner)) {
            lacks(own, theirs, &format!("{path}{mark}"), missing);
        }
    }
    let words = |schema: &Value| -> Option<BTreeSet<String>> {
        Some(schema.get("enum")?.as_array()?.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    };
    if let (Some(own), Some(theirs)) = (words(own), words(stored)) {
        missing.extend(own.difference(&theirs).map(|word| format!("{path}={word}")));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn missing(own: &Value, stored: &Value) -> Vec<String> {
        let mut missing = Vec::new();
        lacks(own, stored, "", &mut missing);
        missing
    }

    #[test]
    fn our_own_definitions_lack_nothing_and_a_newer_one_in_the_cluster_is_fine() {
        for own in crd_yaml::definitions() {
            assert_eq!(differences(&own, &own), Vec::<String>::new(), "{}", own.name_any());
        }
        let (own, newer) = (json!({"properties": {"a": {}}}), json!({"properties": {"a": {}, "b": {}}}));
        assert_eq!(missing(&own, &newer), Vec::<String>::new());
    }

    #[test]
    fn a_field_or_a_word_that_the_cluster_does_not_know_is_named_by_its_path() {
        let own = json!({"properties": {"status": {"properties": {
            "wayBack": {"type": "object"},
            "history": {"items": {"properties": {"outcome": {"enum": ["Live", "Halted"]}, "at": {}}}},
        }}}});
        let stored = json!({"properties": {"status": {"properties": {
            "history": {"items": {"properties": {"outcome": {"enum": ["Live"]}}}},
        }}}});
        assert_eq!(missing(&own, &stored), [".status.history[].at", ".status.history[].outcome=Halted", ".status.wayBack"]);
        let free = json!({"properties": {"status": {"x-kubernetes-preserve-unknown-fields": true}}});
        assert_eq!(missing(&own, &free), Vec::<String>::new());
    }

    #[test]
    fn a_version_that_is_not_served_is_missing() {
        let own = crd_yaml::definitions().remove(0);
        let mut stored = own.clone();
        stored.spec.versions[0].served = false;
        assert_eq!(differences(&own, &stored), ["the version v1alpha1"]);
    }
}
