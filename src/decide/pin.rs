//! Which side a Service should reach, and whether that can be said of it now.
//!
//! A pin must match a ready pod, and a pin to a hash needs a closed gate: otherwise the Service is left as its owner wrote
//! it, whatever else is going on. That stands above every hold.

use super::Case;
use crate::model::{
    decision::Effect,
    version::{PodHash, TemplateHash},
    world::{Pin, Release, Service, Workload},
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

/// The pin with which a Service reaches a side, as far as it may be set now.
#[must_use]
pub fn to(service: &Service, workload: &Workload, side: Side<'_>) -> Pin {
    let pin = reaching(workload, side);
    // Ready pods are no use to a Service whose own selector leaves them out.
    if service.fits.contains(&pin) { pin } else { Pin::Off }
}

/// Every Service of the workload can be pinned to that side now.
#[must_use]
pub fn keeps_apart(case: &Case<'_>, workload: &Workload, side: Side<'_>) -> bool {
    case.seen.services_of(&workload.name).all(|service| to(service, workload, side) != Pin::Off)
}

fn reaching(workload: &Workload, side: Side<'_>) -> Pin {
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
    case.seen
        .services_of(&workload.name)
        .map(|service| (service, to(service, workload, side)))
        .filter(|(service, pin)| service.pin != *pin)
        .map(|(service, pin)| Effect::PinService { service: service.name.clone(), pin })
        .collect()
}

/// Every Service of the workload reaches that side, and has since then; none: not yet, or not to be said now.
#[must_use]
pub fn stands_since(case: &Case<'_>, workload: &Workload, side: Side<'_>) -> Option<jiff::Timestamp> {
    let mut latest = jiff::Timestamp::MIN;
    for service in case.seen.services_of(&workload.name) {
        let pin = to(service, workload, side);
        if service.pin != pin {
            return None;
        }
        // It cannot reach that side at all, so nothing is to be waited for.
        if pin == Pin::Off && reaching(workload, side) != Pin::Off {
            continue;
        }
        // A pin without a time was put there by a hand that copied it: count from now.
        latest = latest.max(service.pinned_since.unwrap_or(case.now));
    }
    Some(latest)
}

/// Every ready pod of that `ReplicaSet` is a ready endpoint of every Service of the workload that selects them.
#[must_use]
pub fn routable(case: &Case<'_>, workload: &Workload, hash: &PodHash) -> bool {
    let ready: Vec<&str> =
        workload.pods.iter().filter(|p| p.ready_since.is_some() && p.pod_hash.as_ref() == Some(hash)).map(|p| p.name.as_str()).collect();
    let mut selecting = case.seen.services_of(&workload.name).filter(|s| s.fits.contains(&Pin::Stable(hash.clone())));
    selecting.all(|s| ready.iter().all(|pod| s.routable.iter().any(|r| r == pod)))
}
