//! The Services that select pods of a workload: what our key in their selector says, which pods they route to, and why one
//! write may be no switch of their traffic.

use std::collections::BTreeMap;

use futures::future::try_join_all;
use k8s_openapi::api::{
    core::v1::{Pod as RawPod, Service as Raw, ServiceSpec},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client,
    core::{Selector, SelectorExt as _},
};

use super::{
    pods::{self, Seen},
    problems::labels,
    workloads::{Found, annotation, owns_fields},
};
use crate::{
    api::{PINNED_ANNOTATION, POD_TEMPLATE_HASH, TRACK_CANARY, TRACK_LABEL},
    edge::kube::{KubeError, list},
    model::{
        decision::Reason,
        plan::{Plan, PlannedWorkload},
        version::PodHash,
        world::{Pin, Service, Workload},
    },
};

/// The label by which `EndpointSlices` name their Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

type Labels = BTreeMap<String, String>;

/// A Service and the workload whose pods it selects.
pub(super) struct Selects<'a> {
    raw: &'a Raw,
    found: &'a Found,
    workload: &'a Workload,
    /// As its owner wrote it.
    selector: Labels,
}

/// Which of these Services select pods of which workload. One that fits several belongs to the one that names it, else to the
/// first in the plan.
pub(super) fn selecting<'a>(plan: &Plan, services: &'a [Raw], found: &'a [Found]) -> Vec<Selects<'a>> {
    let mut all: Vec<Selects<'a>> = services.iter().filter_map(|raw| selects(plan, raw, found)).collect();
    all.sort_by_key(|s| name(s.raw));
    all
}

fn selects<'a>(plan: &Plan, raw: &'a Raw, found: &'a [Found]) -> Option<Selects<'a>> {
    let (_, selector) = pin(raw);
    let fits = |workload: &&Workload| fits_template(&selector, workload) || fits_running(&selector, workload);
    let mut fitting: Vec<(&Found, &Workload)> = found.iter().filter_map(|f| Some((f, f.workload.as_ref().filter(fits)?))).collect();
    let names_it = |workload: &Workload| plan.workloads.iter().any(|w| w.name == workload.name && w.service == raw.metadata.name);
    fitting.sort_by_key(|(_, workload)| !names_it(workload));
    let (found, workload) = fitting.into_iter().next()?;
    Some(Selects { raw, found, workload, selector })
}

fn fits_template(selector: &Labels, workload: &Workload) -> bool {
    matches(selector, &labels(&workload.template))
}

/// It selects pods that are meant to run now. The waiting template may have other labels.
fn fits_running(selector: &Labels, workload: &Workload) -> bool {
    let mut running = workload.replica_sets.iter().filter(|rs| rs.wanted > 0 || rs.pods > 0);
    running.any(|rs| matches(selector, &labels(&rs.raw)))
}

fn matches(selector: &Labels, labels: &Labels) -> bool {
    !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// What our key says, and the selector without it.
fn pin(raw: &Raw) -> (Pin, Labels) {
    let mut selector = raw.spec.as_ref().and_then(|s| s.selector.clone()).unwrap_or_default();
    let track = selector.remove(TRACK_LABEL);
    // Without our annotation the key is the owner's own, strange as it is.
    let ours = annotation(&raw.metadata, PINNED_ANNOTATION).is_some();
    let hash = if ours { selector.remove(POD_TEMPLATE_HASH) } else { None };
    match (track.as_deref(), hash) {
        (Some(TRACK_CANARY), _) => (Pin::Canary, selector),
        (_, Some(hash)) => (Pin::Stable(PodHash::new(hash)), selector),
        (_, None) => (Pin::Off, selector),
    }
}

/// Whether any of these is pinned now.
pub(super) fn any_pinned(services: &[Selects<'_>]) -> bool {
    services.iter().any(|s| pin(s.raw).0 != Pin::Off)
}

/// Reads what only other objects show of them. `routable`: also who is ready in their `EndpointSlices`.
pub(super) async fn read(
    client: &Client,
    namespace: &str,
    delivery: &str,
    of: &[Selects<'_>],
    routable: bool,
) -> Result<Vec<Service>, KubeError> {
    try_join_all(of.iter().map(|selects| one(client, namespace, delivery, selects, routable))).await
}

/// The Services of a canary whose Deployment was deleted: a pin of theirs to pods that are gone must be seen to be taken off.
pub(super) fn bereft(plan: &Plan, services: &[Raw], found: &[Found]) -> Vec<Service> {
    let of = |raw: &Raw| {
        let (pin, selector) = pin(raw);
        let left = |f: &Found| f.bereft.as_ref().is_some_and(|labels| matches(&selector, labels));
        let (planned, _) = plan.workloads.iter().zip(found).find(|(_, f)| left(f))?;
        Some(Service {
            uid: raw.metadata.uid.clone().unwrap_or_default(),
            resource_version: raw.metadata.resource_version.clone().unwrap_or_default(),
            workload: planned.name.clone(),
            pin,
            shape: Service::shape_of(&serde_json::to_value(raw).unwrap_or_default()),
            pinned_since: annotation(&raw.metadata, PINNED_ANNOTATION).and_then(|text| text.parse().ok()),
            routable: Vec::new(),
            no_switch: None,
            owns_fields: owns_fields(&raw.metadata),
            name: name(raw),
        })
    };
    services.iter().filter_map(of).collect()
}

async fn one(client: &Client, namespace: &str, delivery: &str, of: &Selects<'_>, routable: bool) -> Result<Service, KubeError> {
    let name = name(of.raw);
    let strangers = if same_or_narrower(of) {
        strangers(of, &of.found.pods)
    } else {
        let fitting: Selector = of.selector.clone().into_iter().collect();
        let read: Vec<RawPod> = list(&Api::namespaced(client.clone(), namespace), "Pods", &fitting.to_string()).await?;
        strangers(of, &read.iter().map(|raw| pods::read(raw, delivery)).collect::<Vec<_>>())
    };
    let slices: Vec<EndpointSlice> = if routable {
        list(&Api::namespaced(client.clone(), namespace), "EndpointSlices", &format!("{SERVICE_NAME}={name}")).await?
    } else {
        Vec::new()
    };
    let mut reasons = of.raw.spec.as_ref().map(reasons).unwrap_or_default();
    if !strangers.is_empty() {
        reasons.push(format!(
            "it also selects pods that are not of Deployment {} ({}); make its selector narrower",
            of.workload.name,
            strangers.join(", ")
        ));
    }
    Ok(Service {
        uid: of.raw.metadata.uid.clone().unwrap_or_default(),
        resource_version: of.raw.metadata.resource_version.clone().unwrap_or_default(),
        workload: of.workload.name.clone(),
        pin: pin(of.raw).0,
        shape: Service::shape_of(&serde_json::to_value(of.raw).unwrap_or_default()),
        pinned_since: annotation(&of.raw.metadata, PINNED_ANNOTATION).and_then(|text| text.parse().ok()),
        routable: slices.iter().flat_map(ready_pods).collect(),
        no_switch: Some(reasons.join("; ")).filter(|r| !r.is_empty()),
        owns_fields: owns_fields(&of.raw.metadata),
        name,
    })
}

/// Every pod that the Service can select was read with the workload already.
fn same_or_narrower(of: &Selects<'_>) -> bool {
    of.found.selector.matches(&of.selector)
}

/// Ready pods that the Service selects and that neither the workload nor its canary made. At most three are named.
fn strangers(of: &Selects<'_>, pods: &[Seen]) -> Vec<String> {
    let known = |name: &str| {
        let canary = of.workload.canary.iter().flat_map(|c| &c.pods);
        of.workload.pods.iter().chain(canary).any(|pod| pod.name == name)
    };
    let strange = pods.iter().filter(|p| p.pod.ready_since.is_some() && !p.ending && !p.ours && matches(&of.selector, &p.labels));
    strange.map(|p| p.pod.name.clone()).filter(|name| !known(name)).take(3).collect()
}

fn ready_pods(slice: &EndpointSlice) -> Vec<String> {
    let ready = slice.endpoints.iter().filter(|e| {
        let conditions = e.conditions.as_ref();
        conditions.and_then(|c| c.ready).unwrap_or(true) && !conditions.and_then(|c| c.terminating).unwrap_or_default()
    });
    let mut names: Vec<String> =
        ready.filter_map(|e| e.target_ref.as_ref().filter(|t| t.kind.as_deref() == Some("Pod"))?.name.clone()).collect();
    names.sort();
    names.dedup();
    names
}

/// Why one write of its selector does not move its traffic.
fn reasons(spec: &ServiceSpec) -> Vec<String> {
    let mut reasons = Vec::new();
    if spec.type_.as_deref() == Some("ExternalName") {
        reasons.push("it is an ExternalName and routes to no pod".to_owned());
    }
    if spec.cluster_ip.as_deref() == Some("None") {
        reasons.push("it is headless, so its clients keep the addresses they looked up; make it one with a cluster IP".to_owned());
    }
    for (policy, field) in
        [(&spec.internal_traffic_policy, "internalTrafficPolicy"), (&spec.external_traffic_policy, "externalTrafficPolicy")]
    {
        if policy.as_deref() == Some("Local") {
            reasons.push(format!("its {field} is Local, so a node without a canary pod would drop traffic; make it Cluster"));
        }
    }
    if spec.session_affinity.as_deref() == Some("ClientIP") {
        reasons.push("its sessionAffinity is ClientIP, so its clients stay on the pod they had; make it None".to_owned());
    }
    reasons
}

/// What is wrong with the Services of the plan.
pub(super) fn problems(plan: &Plan, services: &[Selects<'_>]) -> Vec<Reason> {
    let of = |planned: &PlannedWorkload| services.iter().filter(|s| s.workload.name == planned.name).collect::<Vec<_>>();
    let mut problems: Vec<Reason> = plan.workloads.iter().filter_map(|planned| choice(planned, &of(planned))).collect();
    let ahead = services.iter().filter(|s| {
        let runs = s.workload.replica_sets.iter().any(|rs| rs.wanted > 0 || rs.pods > 0);
        runs && !fits_running(&s.selector, s.workload)
    });
    problems.extend(ahead.map(|s| Reason::ServiceChangedAhead { service: name(s.raw) }));
    problems
}

/// Which Service is measured: the named one, or the only one. No Service at all is a worker.
fn choice(planned: &PlannedWorkload, services: &[&Selects<'_>]) -> Option<Reason> {
    let Some(named) = &planned.service else {
        let names: Vec<String> = services.iter().map(|s| name(s.raw)).collect();
        return (names.len() > 1).then(|| Reason::ServiceAmbiguous { workload: planned.name.to_string(), services: names.join(", ") });
    };
    let Some(service) = services.iter().find(|s| name(s.raw) == *named) else {
        return Some(Reason::ServiceMissing { service: named.clone() });
    };
    let port = planned.port.as_ref()?;
    let has_it = service.raw.spec.iter().flat_map(|s| s.ports.iter().flatten()).any(|p| p.name.as_ref() == Some(port));
    let why = || format!("Service {named} has no port named {port}; see spec.workloads[].serviceRef.port");
    (!has_it).then(|| Reason::Invalid { why: why() })
}

fn name(raw: &Raw) -> String {
    raw.metadata.name.clone().unwrap_or_default()
}

#[cfg(test)]
mod tests;
