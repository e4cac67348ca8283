//! What is wrong with what a Delivery names, and what a person can do about it. Each of these stops every forward move.

use std::collections::BTreeMap;

use futures::future::try_join_all;
use k8s_openapi::{
    api::core::v1::{Node, PersistentVolumeClaim},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::{
    Api,
    core::{DynamicObject, Selector, SelectorExt as _},
};
use serde_json::Value;

use super::workloads::{Found, annotation, owns};
use crate::{
    api::{FIELD_MANAGER, delivery::Delivery},
    edge::kube::{Cluster, KubeError, get},
    model::{
        decision::Reason,
        plan::{Plan, PlannedWorkload},
        world::{Probes, Workload},
    },
};

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const HOSTNAME: &str = "kubernetes.io/hostname";

/// What the Deployment itself shows.
pub(super) fn of_workload(planned: &PlannedWorkload, found: &Found) -> Vec<Reason> {
    let mut problems = found.problems.clone();
    let (Some(workload), Some(raw)) = (&found.workload, &found.raw) else { return problems };
    let name = workload.name.to_string();
    let missing = planned
        .containers
        .iter()
        .filter(|name| !containers(&workload.template).any(|c| c.get("name") == Some(&Value::from(name.as_str()))));
    let field = "spec.workloads[].containers";
    problems.extend(missing.map(|container| Reason::ContainerMissing { workload: name.clone(), container: container.clone(), field }));
    if labels(&workload.template).keys().any(|key| key.starts_with("haldane.dev/")) {
        let why = format!(
            "the template of Deployment {name} carries labels of haldane.dev, by which stable and canary are told apart; take them out of it"
        );
        problems.push(Reason::Invalid { why });
    }
    if let Some(by) = paused_in_manifest(raw) {
        problems.push(Reason::PausedInManifest { workload: name.clone(), by });
    }
    if let Some(why) = one_at_a_time(raw, workload) {
        problems.push(Reason::CannotRunTwo { workload: name, why });
    }
    problems
}

/// The container whose log is to be read is in no workload.
pub(super) fn of_logs(plan: &Plan, found: &[Found]) -> Option<Reason> {
    let container = plan.logs.as_ref()?.container.clone()?;
    let named = |w: &Workload| containers(&w.template).any(|c| c.get("name") == Some(&Value::from(container.as_str())));
    let mut workloads = found.iter().filter_map(|found| found.workload.as_ref());
    let first = workloads.clone().next()?;
    (!workloads.any(named)).then(|| Reason::ContainerMissing {
        workload: first.name.to_string(),
        container: container.clone(),
        field: "spec.verify.logs.container",
    })
}

/// The probes that are not run, and why.
pub(super) fn of_probes(probes: &Probes) -> Vec<Reason> {
    let stopped = |(probe, says): &(String, String)| Reason::ProbeStopped { probe: probe.clone(), says: says.clone() };
    let barred = |(probe, why): &(String, String)| Reason::ProbeBarred { probe: probe.clone(), why: why.clone() };
    probes.stopped.iter().map(stopped).chain(probes.barred.iter().map(barred)).collect()
}

/// Whose applied manifest names `spec.paused`, so that each of its applies opens or closes the gate.
fn paused_in_manifest(raw: &DynamicObject) -> Option<String> {
    let applied = raw.metadata.managed_fields.iter().flatten().filter(|e| e.operation.as_deref() == Some("Apply"));
    let mut owners = applied.filter(|e| e.manager.as_deref() != Some(FIELD_MANAGER) && owns(e, "f:paused"));
    if let Some(owner) = owners.next() {
        return Some(owner.manager.clone().unwrap_or_else(|| "an apply".to_owned()));
    }
    let last = serde_json::from_str::<Value>(annotation(&raw.metadata, LAST_APPLIED)?).ok()?;
    last.pointer("/spec/paused").map(|_| "kubectl apply".to_owned())
}

/// What in the manifest forbids two versions side by side.
fn one_at_a_time(raw: &DynamicObject, workload: &Workload) -> Option<String> {
    if raw.data.pointer("/spec/strategy/type").and_then(Value::as_str) == Some("Recreate") {
        return Some("its strategy is Recreate; use RollingUpdate if it can run twice".to_owned());
    }
    let template = &workload.template;
    if template.pointer("/spec/hostNetwork").and_then(Value::as_bool) == Some(true) {
        return Some("it uses the network of its node (hostNetwork), so two of its pods contend for ports".to_owned());
    }
    let ports = containers(template).filter_map(|c| c.get("ports")?.as_array()).flatten();
    let taken = ports.filter_map(|port| port.get("hostPort")?.as_u64()).find(|port| *port > 0);
    taken.map(|port| format!("it takes port {port} of its node (hostPort)"))
}

/// What only other objects show: claims that one node at a time may mount, and nodes that one pod each may use.
pub(super) async fn of_surroundings(cluster: &Cluster, namespace: &str, workload: &Workload) -> Result<Vec<Reason>, KubeError> {
    let cannot = |why: String| Reason::CannotRunTwo { workload: workload.name.to_string(), why };
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(cluster.client.clone(), namespace);
    let named = claim_names(&workload.template);
    let read = try_join_all(named.iter().map(|name| get(&claims, "PersistentVolumeClaim", name))).await?;
    let mut problems: Vec<Reason> = read.iter().flatten().filter_map(single_node).map(cannot).collect();
    if keeps_apart(&workload.template)
        && let Some(nodes) = schedulable(cluster).await?
        && nodes <= workload.replicas as usize
    {
        let why = format!("its pods must not share a node, and {nodes} schedulable nodes leave no room beside {} pods", workload.replicas);
        problems.push(cannot(why));
    }
    Ok(problems)
}

fn claim_names(template: &Value) -> Vec<String> {
    let volumes = template.pointer("/spec/volumes").and_then(Value::as_array).into_iter().flatten();
    volumes.filter_map(|v| v.pointer("/persistentVolumeClaim/claimName")?.as_str().map(str::to_owned)).collect()
}

fn single_node(claim: &PersistentVolumeClaim) -> Option<String> {
    let modes = claim.spec.as_ref()?.access_modes.as_ref()?;
    let many = modes.iter().any(|mode| mode == "ReadWriteMany" || mode == "ReadOnlyMany");
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    (!many).then(|| format!("volume claim {name} is {}", modes.join(", ")))
}

/// Its pods demand nodes without pods like themselves.
fn keeps_apart(template: &Value) -> bool {
    let own = labels(template);
    let terms = template.pointer("/spec/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution").and_then(Value::as_array);
    terms.into_iter().flatten().any(|term| {
        let on_node = term.get("topologyKey").and_then(Value::as_str) == Some(HOSTNAME);
        let selector = term.get("labelSelector").cloned().and_then(|s| serde_json::from_value::<LabelSelector>(s).ok());
        on_node && selector.and_then(|s| Selector::try_from(s).ok()).is_some_and(|s| s.matches(&own))
    })
}

/// How many nodes take pods; none: we may not know, and the scheduler will say.
async fn schedulable(cluster: &Cluster) -> Result<Option<usize>, KubeError> {
    let nodes: Vec<Node> = match cluster.list(&Api::all(cluster.client.clone()), "nodes", "").await {
        Err(KubeError::Refused { .. }) => return Ok(None),
        other => other?,
    };
    let takes = |node: &&Node| !node.spec.as_ref().and_then(|s| s.unschedulable).unwrap_or_default();
    Ok(Some(nodes.iter().filter(takes).count()))
}

/// Other Deliveries that named the same Deployment, or the same `CronJob`, first.
pub(super) fn delivered_already(delivery: &Delivery, others: &[Delivery], plan: &Plan) -> Vec<Reason> {
    let age = |d: &Delivery| (d.metadata.creation_timestamp.as_ref().map(|t| t.0), d.metadata.name.clone());
    let older = others.iter().filter(|other| other.metadata.name != delivery.metadata.name && age(other) < age(delivery));
    let mut problems = Vec::new();
    for other in older {
        let both = plan.workloads.iter().filter(|w| other.spec.workloads.iter().any(|o| o.name == w.name.as_str()));
        let by = other.metadata.name.clone().unwrap_or_default();
        problems.extend(both.map(|w| Reason::AlreadyDelivered { workload: w.name.to_string(), by: by.clone() }));
        let both = plan.cron_jobs.iter().filter(|c| other.spec.cron_jobs.iter().any(|o| o.name == c.name));
        problems.extend(both.map(|c| Reason::CronJobDelivered { cron_job: c.name.clone(), by: by.clone() }));
    }
    problems
}

fn containers(template: &Value) -> impl Iterator<Item = &Value> {
    ["/spec/containers", "/spec/initContainers"].into_iter().filter_map(|list| template.pointer(list)?.as_array()).flatten()
}

/// The labels of a template.
pub(super) fn labels(template: &Value) -> BTreeMap<String, String> {
    let labels = template.pointer("/metadata/labels").and_then(Value::as_object);
    labels.into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

#[cfg(test)]
mod tests;
