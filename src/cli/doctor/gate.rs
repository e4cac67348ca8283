//! Rules about the gate.

use kube::ResourceExt as _;
use serde_json::Value;

use super::{Finding, Snapshot, wrong};
use crate::{
    api::{FIELD_MANAGER, delivery::Delivery},
    cli::{
        gate,
        json::{list, name, text},
    },
    model::decision::Reason,
};

/// A gate that was opened by hand acts on every change without a canary.
pub(crate) fn opened_by_hand(snapshot: &Snapshot) -> Vec<Finding> {
    let open = |delivery: &Delivery, deployment: &Value| {
        // While stable is rolled, the gate is open, and that is ours.
        let rolling = delivery.status.as_ref().is_some_and(|s| s.rollout.is_some());
        let known = delivery.status.as_ref().is_some_and(|s| s.ungated);
        gate::opened(deployment) && (known || !rolling)
    };
    let found = snapshot.delivered().filter(|(d, w)| open(d, w)).map(|(delivery, deployment)| {
        let says = Reason::Ungated { workload: name(deployment).to_owned() }.to_string();
        let what = says.split(';').next().unwrap_or(&says).to_owned();
        wrong(format!("Deployment/{}", name(deployment)), what, format!("kubectl haldane adopt {}", delivery.name_any())).of(delivery)
    });
    found.collect()
}

/// A manifest that names `paused` opens the gate with each apply.
pub(crate) fn paused_in_manifest(snapshot: &Snapshot) -> Vec<Finding> {
    let mut found = Vec::new();
    for (delivery, deployment) in snapshot.delivered() {
        if let Some(by) = applies_paused(deployment) {
            let says = Reason::PausedInManifest { workload: name(deployment).to_owned(), by }.to_string();
            let (what, mend) = says.rsplit_once("; ").unwrap_or((&says, ""));
            found.push(wrong(format!("Deployment/{}", name(deployment)), what, mend).of(delivery));
        }
    }
    found
}

/// Who applies `spec.paused` from a manifest: a server-side apply that owns the field, or the last client-side one.
fn applies_paused(deployment: &Value) -> Option<String> {
    let last = crate::cli::json::annotation(deployment, "kubectl.kubernetes.io/last-applied-configuration");
    let last = last.and_then(|text| serde_json::from_str::<Value>(text).ok());
    if last.is_some_and(|manifest| manifest.pointer("/spec/paused").is_some()) {
        return Some("kubectl apply".to_owned());
    }
    let managers = list(deployment, "/metadata/managedFields").iter();
    let mut applied = managers.filter(|m| text(m, "/operation") == "Apply" && m.pointer("/fieldsV1/f:spec/f:paused").is_some());
    applied.find(|m| text(m, "/manager") != FIELD_MANAGER).map(|m| text(m, "/manager").to_owned())
}
