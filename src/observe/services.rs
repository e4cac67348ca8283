//! The Services that select pods of a workload: what our key in their selector says, which pods they route to, and why one
//! write may be no switch of their traffic.

use std::collections::BTreeMap;

use futures::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{Pod as RawPod, Service as Raw, ServiceSpec},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api,
    core::{Selector, SelectorExt as _},
};

use super::{
    pods::{self, Seen},
    problems::labels,
    routes::is_front,
    workloads::{Found, annotation, owns_fields},
};
use crate::{
    api::{self, PINNED_ANNOTATION, POD_TEMPLATE_HASH, TRACK_CANARY, TRACK_LABEL},
    edge::kube::{Cluster, KubeError},
    model::{
        decision::Reason,
        plan::{Plan, PlannedWorkload},
        version::{PodHash, WorkloadName},
        world::{Pin, Service, Workload},
    },
};

/// The label by which `EndpointSlices` name their Service.
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Annotations that make pods the targets of a load balancer: of AWS, where they name the type of a target, and of GKE, where they
/// ask for network endpoint groups.
const POD_TARGETS: [(&str, &str); 3] = [
    ("service.beta.kubernetes.io/aws-load-balancer-nlb-target-type", "ip"),
    ("service.beta.kubernetes.io/aws-load-balancer-type", "nlb-ip"),
    ("cloud.google.com/neg", ""),
];
/// Readiness gates of load balancers: of AWS and of GKE.
const TARGET_GATES: [&str; 2] = ["target-health.", "cloud.google.com/load-balancer-neg-ready"];

type Labels = BTreeMap<String, String>;

/// A Service and the workload whose pods it selects.
pub(super) struct Selects<'a> {
    raw: &'a Raw,
    found: &'a Found,
    workload: &'a Workload,
    /// As its owner wrote it.
    selector: Labels,
}

impl Selects<'_> {
    /// The Service's name.
    pub(super) fn name(&self) -> String {
        name(self.raw)
    }

    /// Whose pods it selects.
    pub(super) fn workload_name(&self) -> &WorkloadName {
        &self.workload.name
    }
}

/// Which of these Services select pods of which workload. One that fits several belongs to the one that names it, else to the
/// first in the plan. One that another Delivery has pinned is left to that.
pub(super) fn selecting<'a>(plan: &Plan, services: &'a [Raw], found: &'a [Found], others: &[String]) -> Vec<Selects<'a>> {
    let free = services.iter().filter(|raw| pinned_by_another(raw, others).is_none() && !is_front(raw));
    let mut all: Vec<Selects<'a>> = free.filter_map(|raw| selects(plan, raw, found)).collect();
    all.sort_by_key(|s| name(s.raw));
    all
}

fn selects<'a>(plan: &Plan, raw: &'a Raw, found: &'a [Found]) -> Option<Selects<'a>> {
    let (_, selector) = pin(raw);
    let fits = |f: &Found, w: &Workload| fits_template(&selector, w) || fits_running(&selector, w) || fits_canary(&selector, f);
    let mut fitting: Vec<(&Found, &Workload)> =
        found.iter().filter_map(|f| Some((f, f.workload.as_ref().filter(|w| fits(f, w))?))).collect();
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

fn fits_canary(selector: &Labels, found: &Found) -> bool {
    found.canary.as_ref().is_some_and(|labels| matches(selector, labels))
}

/// The pins that leave it pods to select, now or when they are ready.
fn fits(selector: &Labels, found: &Found) -> Vec<Pin> {
    let sets = found.workload.iter().flat_map(|w| &w.replica_sets).filter(|rs| matches(selector, &labels(&rs.raw)));
    let canary = fits_canary(selector, found).then_some(Pin::Canary);
    sets.map(|rs| Pin::Stable(rs.pod_hash.clone())).chain(canary).collect()
}

fn matches(selector: &Labels, labels: &Labels) -> bool {
    !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Pods with these labels are its own, as its owner wrote it.
pub(super) fn reaches(raw: &Raw, labels: &Labels) -> bool {
    matches(&selector(raw), labels)
}

/// Its selector as its owner wrote it.
pub(super) fn selector(raw: &Raw) -> Labels {
    pin(raw).1
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

/// Since when it is pinned, and by which Delivery.
fn pinned(raw: &Raw) -> (Option<Timestamp>, Option<&str>) {
    annotation(&raw.metadata, PINNED_ANNOTATION).map(api::read_pinned).unwrap_or_default()
}

/// The Delivery of this namespace, not this one, whose pin it carries. One that is gone has no say any more.
fn pinned_by_another<'a>(raw: &'a Raw, others: &[String]) -> Option<&'a str> {
    pinned(raw).1.filter(|by| pin(raw).0 != Pin::Off && others.iter().any(|other| other == by))
}

/// Whether any of these is pinned now.
pub(super) fn any_pinned(services: &[Selects<'_>]) -> bool {
    services.iter().any(|s| pin(s.raw).0 != Pin::Off)
}

/// What the Delivery is about when it is observed.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    /// A rollout is in flight: the version to come is the one that the canary runs, not the one that waits behind it.
    pub(super) rolling: bool,
    /// Traffic moves, or may have to: who is ready in the `EndpointSlices` is read, too.
    pub(super) routable: bool,
}

/// Reads what only other objects show of them.
pub(super) async fn read(
    cluster: &Cluster,
    namespace: &str,
    delivery: &str,
    of: &[Selects<'_>],
    moment: Moment,
) -> Result<Vec<Service>, KubeError> {
    try_join_all(of.iter().map(|selects| one(cluster, namespace, delivery, selects, moment))).await
}

/// The Services that select pods of no workload and are still ours to look after: those of a canary whose Deployment was
/// deleted, and those that carry this Delivery's pin, which serve nobody while it stands.
pub(super) fn left(plan: &Plan, services: &[Raw], found: &[Found], (delivery, others): (&str, &[String])) -> Vec<Service> {
    let of = |raw: &Raw| {
        let (pin, selector) = pin(raw);
        let alone = |f: &Found| f.workload.is_none() && fits_canary(&selector, f);
        let runs = |f: &Found| f.workload.iter().flat_map(|w| &w.replica_sets).any(|rs| pin == Pin::Stable(rs.pod_hash.clone()));
        let pinned_for = |f: &Found| runs(f) || (pin == Pin::Canary && f.canary.is_some());
        let both = || plan.workloads.iter().zip(found);
        let ours = pin != Pin::Off && pinned(raw).1 == Some(delivery);
        let stray = || both().find(|(_, f)| pinned_for(f)).or_else(|| both().next()).filter(|_| ours);
        let (planned, found) = both().find(|(_, f)| alone(f)).or_else(stray)?;
        Some(service(raw, &planned.name, fits(&selector, found)))
    };
    services.iter().filter(|raw| pinned_by_another(raw, others).is_none() && !is_front(raw)).filter_map(of).collect()
}

/// What the Service itself shows.
fn service(raw: &Raw, workload: &WorkloadName, fits: Vec<Pin>) -> Service {
    Service {
        name: name(raw),
        uid: raw.metadata.uid.clone().unwrap_or_default(),
        resource_version: raw.metadata.resource_version.clone().unwrap_or_default(),
        workload: workload.clone(),
        pin: pin(raw).0,
        shape: Service::shape_of(&serde_json::to_value(raw).unwrap_or_default()),
        pinned_since: pinned(raw).0,
        fits,
        routable: Vec::new(),
        no_switch: None,
        gradual: gradual(raw),
        owns_fields: owns_fields(&raw.metadata),
    }
}

async fn one(cluster: &Cluster, namespace: &str, delivery: &str, of: &Selects<'_>, moment: Moment) -> Result<Service, KubeError> {
    let name = name(of.raw);
    let strangers = if same_or_narrower(of) {
        strangers(of, &of.found.pods)
    } else {
        let fitting: Selector = of.selector.clone().into_iter().collect();
        let read: Vec<RawPod> = cluster.list(&Api::namespaced(cluster.client.clone(), namespace), "pods", &fitting.to_string()).await?;
        strangers(of, &read.iter().map(|raw| pods::read(raw, delivery)).collect::<Vec<_>>())
    };
    let slices: Vec<EndpointSlice> = if moment.routable {
        cluster.list(&Api::namespaced(cluster.client.clone(), namespace), "endpointslices", &format!("{SERVICE_NAME}={name}")).await?
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
    reasons.extend(gate(&of.found.pods));
    reasons.extend(left_out(of, moment.rolling));
    Ok(Service {
        routable: slices.iter().flat_map(ready_pods).collect(),
        no_switch: Some(reasons.join("; ")).filter(|r| !r.is_empty()),
        ..service(of.raw, &of.workload.name, fits(&of.selector, of.found))
    })
}

/// The labels that the pods of the version to come lack, while those that run have them: it would be proven by nobody, and
/// then serve nobody.
fn left_out(of: &Selects<'_>, rolling: bool) -> Option<String> {
    let to_come = if rolling { of.found.canary.clone()? } else { labels(&of.workload.template) };
    let lacking: Vec<String> =
        of.selector.iter().filter(|(key, value)| to_come.get(*key) != Some(*value)).map(|(key, value)| format!("{key}={value}")).collect();
    (!lacking.is_empty() && fits_running(&of.selector, of.workload)).then(|| {
        format!(
            "it would not select the pods of the new version, which lack {}; put that into the template of Deployment {} or take it out of the selector",
            lacking.join(", "),
            of.workload.name
        )
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

pub(super) fn ready_pods(slice: &EndpointSlice) -> Vec<String> {
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
    if spec.session_affinity.as_deref() == Some("ClientIP") {
        reasons.push("its sessionAffinity is ClientIP, so its clients stay on the pod they had; make it None".to_owned());
    }
    reasons
}

/// Why its traffic follows a write of its selector late, or not on every node: with both versions behind it nobody is turned away.
fn gradual(raw: &Raw) -> Option<String> {
    let spec = raw.spec.as_ref()?;
    let policies = [(&spec.internal_traffic_policy, "internalTrafficPolicy"), (&spec.external_traffic_policy, "externalTrafficPolicy")];
    let local = policies.iter().find(|(policy, _)| policy.as_deref() == Some("Local"));
    if let Some((_, field)) = local {
        return Some(format!("its {field} is Local, and a node without a pod of the version drops what comes to it"));
    }
    let balanced = spec.type_.as_deref() == Some("LoadBalancer");
    let by_pods = POD_TARGETS.iter().any(|(key, value)| annotation(&raw.metadata, key).is_some_and(|said| said.contains(value)));
    (by_pods || (balanced && spec.allocate_load_balancer_node_ports == Some(false)))
        .then(|| "its load balancer has pods as targets, and takes its time to register one".to_owned())
}

/// Why its pods must be behind it before they are ready.
fn gate(pods: &[Seen]) -> Option<String> {
    let gated = pods.iter().find_map(|pod| pod.gates.iter().find(|gate| TARGET_GATES.iter().any(|prefix| gate.starts_with(prefix))))?;
    Some(format!(
        "its pods are ready only when a load balancer has them (readiness gate {gated}), so a canary that is kept apart would never be; take the gate away and give the Deployment minReadySeconds instead"
    ))
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

/// The Services of this Delivery that another one has pinned for a rollout of its own.
pub(super) fn shared(plan: &Plan, services: &[Raw], found: &[Found], others: &[String]) -> Vec<Reason> {
    let of = |raw: &Raw| {
        let by = pinned_by_another(raw, others).filter(|_| selects(plan, raw, found).is_some())?;
        let why = format!("Delivery {by} has pinned it, so it selects pods of both; make its selector narrower");
        Some(Reason::SwitchNotProvable { service: name(raw), why })
    };
    services.iter().filter(|raw| !is_front(raw)).filter_map(of).collect()
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
