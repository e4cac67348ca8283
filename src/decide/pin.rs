//! Which side a Service should reach, and whether that can be said of it now.
//!
//! A pin must match a ready pod, and a pin to a hash needs a closed gate: otherwise the Service is left as its owner wrote
//! it, whatever else is going on. That stands above every hold.

use super::Case;
use crate::model::{
    decision::Effect,
    version::{PodHash, TemplateHash},
    world::{Pin, Release, Workload},
};

/// The side that should be reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Side<'a> {
    /// Both, as the owner wrote it.
    Both,
    /// The pods of stable that run this Release.
    Stable(&'a Release),
    /// The same on the way back, while stable is brought to that template: more of its pods are on their way, not fewer.
    Back(&'a Release),
    /// The canary.
    Canary,
}

/// The pin that reaches a side, as far as it may be set now.
#[must_use]
pub fn to(workload: &Workload, side: Side<'_>) -> Pin {
    match side {
        Side::Canary => {
            let ready = workload.canary.as_ref().filter(|c| !c.deleting).map_or(0, crate::model::world::Canary::ready);
            if ready > 0 { Pin::Canary } else { Pin::Off }
        }
        Side::Stable(release) if workload.paused => to_hash(workload, release),
        Side::Both | Side::Stable(_) => Pin::Off,
        Side::Back(release) => to_hash(workload, release),
    }
}

fn to_hash(workload: &Workload, release: &Release) -> Pin {
    let hash = release.template_hash(&workload.name).and_then(|t| pod_hash(workload, &t));
    hash.filter(|hash| workload.ready(hash) > 0).map_or(Pin::Off, Pin::Stable)
}

/// The label value that Kubernetes gave the pods of that template. Read from the `ReplicaSet`, never computed.
#[must_use]
pub fn pod_hash(workload: &Workload, template: &TemplateHash) -> Option<PodHash> {
    workload.replica_set(template).map(|rs| rs.pod_hash.clone())
}

/// The writes that bring every Service of the workload to that side.
#[must_use]
pub fn writes(case: &Case<'_>, workload: &Workload, side: Side<'_>) -> Vec<Effect> {
    let pin = to(workload, side);
    case.seen
        .services_of(&workload.name)
        .filter(|service| service.pin != pin)
        .map(|service| Effect::PinService { service: service.name.clone(), pin: pin.clone() })
        .collect()
}

/// Every Service of the workload reaches that side, and has since then; none: not yet, or not to be said now.
#[must_use]
pub fn stands_since(case: &Case<'_>, workload: &Workload, side: Side<'_>) -> Option<jiff::Timestamp> {
    let pin = to(workload, side);
    let mut latest = jiff::Timestamp::MIN;
    for service in case.seen.services_of(&workload.name) {
        if service.pin != pin {
            return None;
        }
        // A pin without a time was put there by a hand that copied it: count from now.
        latest = latest.max(service.pinned_since.unwrap_or(case.now));
    }
    Some(latest)
}

/// Every ready pod of that `ReplicaSet` is a ready endpoint of every Service of the workload.
#[must_use]
pub fn routable(case: &Case<'_>, workload: &Workload, hash: &PodHash) -> bool {
    let ready: Vec<&str> =
        workload.pods.iter().filter(|p| p.ready_since.is_some() && p.pod_hash.as_ref() == Some(hash)).map(|p| p.name.as_str()).collect();
    case.seen.services_of(&workload.name).all(|s| ready.iter().all(|pod| s.routable.iter().any(|r| r == pod)))
}
