//! Rules about the cluster and the namespace: definitions, the controller, rights.

use serde_json::Value;

use super::{Finding, Snapshot, wrong};
use crate::{
    api::{LEADER_ADDRESS_ANNOTATION, crd_yaml},
    cli::{
        json::{self, list, moment, name, text},
        paint::ago,
    },
    model::decision::Reason,
};

/// The `ClusterRole` that opts a namespace in.
const ROLE: &str = "haldane-delivery";
/// The controller's `ServiceAccount`.
const ACCOUNT: &str = "haldane";

/// How the controller hears of merges, if anybody delivers them.
pub(crate) fn hearing(snapshots: &[Snapshot]) -> Option<&'static str> {
    let merges = |s: &Snapshot| s.deliveries.iter().any(|d| d.spec.source.as_ref().is_some_and(|source| source.github.is_some()));
    let leases = snapshots.first()?.leases.as_ref()?;
    // Only one that takes webhooks says where the others hand them on to.
    let door = leases.iter().any(|lease| json::annotation(lease, LEADER_ADDRESS_ANNOTATION).is_some());
    snapshots.iter().any(merges).then_some(if door {
        "the controller takes webhooks, and looks once a minute"
    } else {
        "the controller looks once a minute; it takes no webhooks (github.webhooks of the chart), so a merge is seen up to a minute later"
    })
}

/// The definitions of our kinds are there, and know every field that this plugin knows.
pub(crate) fn definitions(snapshot: &Snapshot) -> Vec<Finding> {
    let Some(stored) = &snapshot.definitions else { return Vec::new() };
    let ours = crd_yaml::definitions().into_iter().filter_map(|crd| serde_json::to_value(crd).ok());
    ours.filter_map(|ours| {
        let object = format!("CustomResourceDefinition/{}", name(&ours));
        let mend = "haldane crds | kubectl apply --server-side -f -     # or upgrade the chart that installed it";
        let Some(stored) = stored.iter().find(|s| name(s) == name(&ours)) else {
            return Some(wrong(object, "it is not installed", mend));
        };
        let missing = missing(schema(&ours)?, schema(stored)?, "");
        let first = missing.first()?;
        Some(wrong(
            object,
            format!(
                "it is older than this plugin: it lacks {first} ({} fields); the API server drops what it does not know",
                missing.len()
            ),
            mend,
        ))
    })
    .collect()
}

fn schema(definition: &Value) -> Option<&Value> {
    definition.pointer("/spec/versions/0/schema/openAPIV3Schema")
}

/// The paths of properties that `ours` has and `stored` has not.
pub(crate) fn missing(ours: &Value, stored: &Value, at: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (key, inner) in ours.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let path = format!("{at}.{key}");
        match stored.get("properties").and_then(|p| p.get(key)) {
            Some(theirs) => found.extend(missing(inner, theirs, &path)),
            None => found.push(path),
        }
    }
    if let (Some(ours), Some(stored)) = (ours.get("items"), stored.get("items")) {
        found.extend(missing(ours, stored, &format!("{at}[]")));
    }
    found
}

/// A controller leads, and says so again and again.
pub(crate) fn leader(snapshot: &Snapshot) -> Vec<Finding> {
    let Some(leases) = &snapshot.leases else { return Vec::new() };
    let place = &snapshot.controller;
    let mend = format!("kubectl get pods -n {place}; kubectl logs -n {place} deploy/haldane");
    let Some(lease) = leases.iter().find(|l| name(l).starts_with("haldane")) else {
        return vec![wrong(format!("Namespace/{place}"), "no Lease of Haldane is there, so no controller has ever run", mend)];
    };
    let object = format!("Lease/{}", name(lease));
    let renewed = moment(lease, "/spec/renewTime");
    // Four times its own length: a lease that was only just lost is taken over by then.
    let limit = 4 * json::number(lease, "/spec/leaseDurationSeconds").max(15);
    match renewed {
        Some(at) if snapshot.now.duration_since(at).as_secs() <= limit => Vec::new(),
        Some(at) => vec![wrong(object, format!("nobody has renewed it for {}: the controller does not run", ago(at, snapshot.now)), mend)],
        None => vec![wrong(object, "nobody holds it: the controller does not run", mend)],
    }
}

/// The namespace lets the controller write.
pub(crate) fn granted(snapshot: &Snapshot) -> Vec<Finding> {
    let Some(bindings) = &snapshot.bindings else { return Vec::new() };
    let ours = |subject: &Value| {
        text(subject, "/kind") == "ServiceAccount"
            && text(subject, "/name") == ACCOUNT
            && text(subject, "/namespace") == snapshot.controller
    };
    let granted = bindings
        .iter()
        .any(|b| text(b, "/roleRef/kind") == "ClusterRole" && text(b, "/roleRef/name") == ROLE && list(b, "/subjects").iter().any(ours));
    if granted || snapshot.deliveries.is_empty() {
        return Vec::new();
    }
    let says = Reason::NotGranted { namespace: snapshot.namespace.clone() }.to_string();
    let (what, command) = says.split_once(": ").unwrap_or((&says, ""));
    let command = command.replace("haldane-system:", &format!("{}:", snapshot.controller));
    vec![wrong(format!("Namespace/{}", snapshot.namespace), what, command)]
}
