//! One workload of the plan as it is now: the owner's Deployment, its `ReplicaSets` and pods, and the canary beside it.
//!
//! Deployments and `ReplicaSets` are read as JSON, so that a template keeps fields that are newer than our types.

use std::{collections::BTreeMap, time::Duration};

use futures::try_join;
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet as RawReplicaSet},
        core::v1::Pod as RawPod,
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ManagedFieldsEntry, ObjectMeta},
};
use kube::{
    Api,
    core::{ApiResource, DynamicObject, Selector},
};
use serde_json::Value;

use super::{
    merges::LoginsFor,
    pods::{self, Seen},
    problems::labels,
};
use crate::{
    api::{DELIVERY_LABEL, FIELD_MANAGER, GATE_ANNOTATION, POD_TEMPLATE_HASH, PUT_BACK_ANNOTATION, RELEASE_ANNOTATION, WORKLOAD_LABEL},
    edge::kube::{Cluster, KubeError, get},
    model::{
        decision::Reason,
        plan::PlannedWorkload,
        template,
        version::{PodHash, ReleaseName},
        world::{Canary, ReplicaSet, Trouble, Workload, count},
    },
};

/// The annotation in which Kubernetes counts a Deployment's versions.
const REVISION: &str = "deployment.kubernetes.io/revision";
/// What Kubernetes takes when a Deployment does not say.
const QUARTER: &str = "25%";

/// One workload and what was read with it.
pub(super) struct Found {
    /// None: there is no such Deployment.
    pub(super) workload: Option<Workload>,
    /// The Deployment as it was read.
    pub(super) raw: Option<DynamicObject>,
    /// All pods that its selector matches, those of the canary too.
    pub(super) pods: Vec<Seen>,
    /// Its selector.
    pub(super) selector: Selector,
    /// What is wrong with it.
    pub(super) problems: Vec<Reason>,
    /// The labels of the canary's pods; it may stand alone, when the Deployment is gone.
    pub(super) canary: Option<BTreeMap<String, String>>,
}

/// Reads one workload.
pub(super) async fn read(cluster: &Cluster, namespace: &str, delivery: &str, planned: &PlannedWorkload) -> Result<Found, KubeError> {
    let client = &cluster.client;
    let deployments: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<Deployment>(&()));
    let (name, beside) = (planned.name.as_str(), format!("{}-canary", planned.name));
    let (raw, canary) = try_join!(get(&deployments, "Deployment", name), get(&deployments, "Deployment", &beside))?;
    let Some(raw) = raw else {
        let problems = vec![Reason::WorkloadMissing { workload: name.to_owned() }];
        let canary = canary.filter(|c| is_ours(c, delivery, name)).map(|c| pod_labels(&c));
        return Ok(Found { workload: None, raw: None, pods: Vec::new(), selector: Selector::default(), problems, canary });
    };
    let selector = selector(&raw);
    let selected = selector.to_string();
    // Pods first: then the ReplicaSet of every pod is among the ReplicaSets that are read after it.
    let pods: Vec<RawPod> = cluster.list(&Api::namespaced(client.clone(), namespace), "pods", &selected).await?;
    let sets: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<RawReplicaSet>(&()));
    let sets = cluster.list(&sets, "replicasets", &selected).await?;
    let pods: Vec<Seen> = pods.iter().map(|pod| pods::read(pod, delivery)).collect();
    let mut problems = Vec::new();
    let foreign = canary.as_ref().is_some_and(|c| !is_ours(c, delivery, name));
    if foreign {
        let why = format!("Deployment {beside} is where the canary of {name} would stand, and it is not ours; rename it");
        problems.push(Reason::Invalid { why });
    }
    let canary = canary.filter(|_| !foreign);
    let workload = workload(planned, &raw, &sets, &pods, canary.as_ref().map(|c| self::canary(c, &sets, &pods)));
    Ok(Found { workload: Some(workload), raw: Some(raw), pods, selector, problems, canary: canary.as_ref().map(pod_labels) })
}

/// Where the pods' own logins for registries are, after the Secret that the Delivery names.
pub(super) fn logins(namespace: &str, named: Option<&str>, found: &[Found]) -> LoginsFor {
    let specs = || found.iter().filter_map(|f| f.raw.as_ref()).filter_map(|raw| raw.data.pointer("/spec/template/spec"));
    let listed = specs().filter_map(|spec| spec.get("imagePullSecrets")?.as_array()).flatten();
    let theirs = listed.filter_map(|secret| secret.get("name")?.as_str());
    let account = specs().find_map(|spec| spec.get("serviceAccountName")?.as_str()).unwrap_or("default");
    LoginsFor {
        namespace: namespace.to_owned(),
        secrets: named.into_iter().chain(theirs).map(str::to_owned).collect(),
        account: account.to_owned(),
    }
}

fn pod_labels(deployment: &DynamicObject) -> BTreeMap<String, String> {
    labels(deployment.data.pointer("/spec/template").unwrap_or(&Value::Null))
}

fn is_ours(canary: &DynamicObject, delivery: &str, workload: &str) -> bool {
    let says = |key: &str, value: &str| label(&canary.metadata, key) == Some(value);
    says(DELIVERY_LABEL, delivery) && says(WORKLOAD_LABEL, workload)
}

fn workload(planned: &PlannedWorkload, raw: &DynamicObject, sets: &[DynamicObject], pods: &[Seen], canary: Option<Canary>) -> Workload {
    let meta = &raw.metadata;
    let sets = of_owner(sets, &uid(meta));
    let replicas = number(raw, "/spec/replicas", 1);
    let (max_unavailable, at_once) = rolls(&raw.data, replicas);
    Workload {
        name: planned.name.clone(),
        uid: uid(meta),
        resource_version: meta.resource_version.clone().unwrap_or_default(),
        paused: raw.data.pointer("/spec/paused").and_then(Value::as_bool).unwrap_or_default(),
        gate_marked: annotation(meta, GATE_ANNOTATION).is_some(),
        put_back: annotation(meta, PUT_BACK_ANNOTATION).map(ReleaseName::new),
        replicas,
        max_unavailable,
        at_once,
        min_ready: Duration::from_secs(number(raw, "/spec/minReadySeconds", 0).into()),
        observed: observed(raw),
        stuck: stuck(raw),
        template: raw.data.pointer("/spec/template").cloned().unwrap_or_default(),
        pods: pods::counting(pods_of(pods, &sets), replicas),
        replica_sets: sets.iter().copied().map(replica_set).collect(),
        canary,
        canary_left: count(
            pods.iter().filter(|p| p.ours && !p.ending && !p.over && label_of(p, WORKLOAD_LABEL) == Some(planned.name.as_str())),
        ),
        last_writer: last_writer(meta),
        refused: sets.iter().rev().find(|set| number(set, "/spec/replicas", 1) > 0).and_then(|set| not_created(set)),
        differs: None,
        owns_fields: owns_fields(meta),
    }
}

fn label_of<'a>(pod: &'a Seen, key: &str) -> Option<&'a str> {
    pod.labels.get(key).map(String::as_str)
}

fn canary(raw: &DynamicObject, sets: &[DynamicObject], pods: &[Seen]) -> Canary {
    let meta = &raw.metadata;
    let sets = of_owner(sets, &uid(meta));
    let wanted = number(raw, "/spec/replicas", 1);
    Canary {
        name: meta.name.clone().unwrap_or_default(),
        uid: uid(meta),
        resource_version: meta.resource_version.clone().unwrap_or_default(),
        deleting: meta.deletion_timestamp.is_some(),
        release: annotation(meta, RELEASE_ANNOTATION).map(ReleaseName::new),
        wanted,
        observed: observed(raw),
        stuck: stuck(raw),
        refused: not_created(raw),
        pods: pods::counting(pods_of(pods, &sets), wanted),
        ending: count(pods_of(pods, &sets).filter(|p| p.ending)),
    }
}

fn of_owner<'a>(sets: &'a [DynamicObject], owner: &str) -> Vec<&'a DynamicObject> {
    let made_by =
        |set: &&DynamicObject| set.metadata.owner_references.iter().flatten().any(|o| o.uid == owner && o.controller == Some(true));
    let mut sets: Vec<&DynamicObject> = sets.iter().filter(made_by).collect();
    sets.sort_by_key(|set| annotation(&set.metadata, REVISION).and_then(|text| text.parse::<u64>().ok()));
    sets
}

fn pods_of<'a>(pods: &'a [Seen], sets: &[&DynamicObject]) -> impl Iterator<Item = &'a Seen> {
    let uids: Vec<String> = sets.iter().map(|set| uid(&set.metadata)).collect();
    pods.iter().filter(move |pod| pod.owner.as_ref().is_some_and(|owner| uids.contains(owner)))
}

fn replica_set(raw: &DynamicObject) -> ReplicaSet {
    let template = raw.data.pointer("/spec/template").cloned().unwrap_or_default();
    ReplicaSet {
        template: template::hash(&template),
        pod_hash: PodHash::new(label(&raw.metadata, POD_TEMPLATE_HASH).unwrap_or_default()),
        wanted: number(raw, "/spec/replicas", 1),
        pods: number(raw, "/status/replicas", 0),
        available: number(raw, "/status/availableReplicas", 0),
        raw: template,
    }
}

fn selector(raw: &DynamicObject) -> Selector {
    let stored = raw.data.pointer("/spec/selector").cloned().unwrap_or_default();
    let parsed = serde_json::from_value::<LabelSelector>(stored).ok();
    // The API server demands a selector that parses and is not empty, and never lets it change.
    parsed.and_then(|selector| Selector::try_from(selector).ok()).unwrap_or_default()
}

/// How many pods may be missing in a roll, and how many it replaces at once: `maxUnavailable` rounded down and with it `maxSurge`
/// rounded up; one, if both would be none, as then nothing could ever roll.
fn rolls(deployment: &Value, replicas: u32) -> (u32, u32) {
    let given = |field: &str| {
        let value = deployment.pointer(&format!("/spec/strategy/rollingUpdate/{field}"));
        value.cloned().unwrap_or_else(|| Value::from(QUARTER))
    };
    let unavailable = pods_of_share(&given("maxUnavailable"), replicas, false);
    let surge = pods_of_share(&given("maxSurge"), replicas, true);
    let missing = if unavailable == 0 && surge == 0 { 1.min(replicas) } else { unavailable.min(replicas) };
    (missing, missing.saturating_add(surge).max(1))
}

fn pods_of_share(value: &Value, replicas: u32, up: bool) -> u32 {
    if let Some(pods) = value.as_u64() {
        return u32::try_from(pods).unwrap_or(u32::MAX);
    }
    let percent = value.as_str().and_then(|text| text.strip_suffix('%')).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let hundredths = percent.saturating_mul(u64::from(replicas));
    u32::try_from(if up { hundredths.div_ceil(100) } else { hundredths / 100 }).unwrap_or(u32::MAX)
}

fn observed(raw: &DynamicObject) -> bool {
    raw.data.pointer("/status/observedGeneration").and_then(Value::as_i64) >= raw.metadata.generation
}

fn stuck(raw: &DynamicObject) -> bool {
    condition(raw, "Progressing").is_some_and(|c| says(c, "status") == "False" && says(c, "reason") == "ProgressDeadlineExceeded")
}

fn not_created(raw: &DynamicObject) -> Option<Trouble> {
    let failure = condition(raw, "ReplicaFailure").filter(|c| says(c, "status") == "True")?;
    Some(pods::refused(says(failure, "reason"), says(failure, "message")))
}

fn condition<'a>(raw: &'a DynamicObject, kind: &str) -> Option<&'a Value> {
    raw.data.pointer("/status/conditions")?.as_array()?.iter().find(|c| says(c, "type") == kind)
}

fn says<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// Who changed the template or opened or closed the gate last, ourselves left out.
fn last_writer(meta: &ObjectMeta) -> Option<String> {
    let writes = |entry: &&ManagedFieldsEntry| owns(entry, "f:template") || owns(entry, "f:paused");
    let others = meta.managed_fields.iter().flatten().filter(|e| e.manager.as_deref() != Some(FIELD_MANAGER));
    let last = others.filter(writes).max_by_key(|e| e.time.as_ref().map_or(Timestamp::MIN, |time| time.0))?;
    last.manager.clone()
}

/// Whether a manager owns a field of the spec, or something in it.
pub(super) fn owns(entry: &ManagedFieldsEntry, field: &str) -> bool {
    entry.fields_v1.as_ref().and_then(|fields| fields.0.get("f:spec")).is_some_and(|spec| spec.get(field).is_some())
}

/// Whether a manager owns anything in the spec.
pub(super) fn owns_any(entry: &ManagedFieldsEntry) -> bool {
    entry.fields_v1.as_ref().is_some_and(|fields| fields.0.get("f:spec").is_some())
}

/// A write of ours is still listed.
pub(super) fn owns_fields(meta: &ObjectMeta) -> bool {
    meta.managed_fields.iter().flatten().any(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER))
}

pub(super) fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

fn label<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.labels.as_ref()?.get(key).map(String::as_str)
}

fn uid(meta: &ObjectMeta) -> String {
    meta.uid.clone().unwrap_or_default()
}

fn number(raw: &DynamicObject, pointer: &str, default: u32) -> u32 {
    raw.data.pointer(pointer).and_then(Value::as_u64).map_or(default, |n| u32::try_from(n).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests;
