//! Rules about Services, canaries, autoscalers and budgets.

use kube::ResourceExt as _;
use serde_json::Value;

use super::{Finding, Snapshot, risk, wrong};
use crate::{
    api::{DELIVERY_LABEL, POD_TEMPLATE_HASH, TRACK_CANARY, TRACK_LABEL},
    cli::{
        gate,
        json::{covers, flag, label, list, name, selects, text},
        status::view::{self, Pin},
    },
};

fn object(service: &Value) -> String {
    format!("Service/{}", name(service))
}

/// The command that takes a pin off.
fn unpin(service: &Value) -> String {
    let patch = Value::Array(gate::unpin(service));
    format!("kubectl patch service {} --type=json -p '{patch}'", name(service))
}

/// A pin of ours. A Service that has one of our keys by its owner's own wish carries no mark of ours; a canary pin is always ours.
fn pinned(snapshot: &Snapshot) -> impl Iterator<Item = &Value> {
    snapshot.services.iter().filter(|s| view::service(s).pin != Pin::Off && !is_front(s))
}

/// A Service of Haldane's own, in front of a canary.
pub(crate) fn is_front(service: &Value) -> bool {
    label(service, TRACK_LABEL) == Some(TRACK_CANARY) && label(service, DELIVERY_LABEL).is_some()
}

/// One that is there while no rollout is in flight was left behind.
pub(crate) fn fronts_left_behind(snapshot: &Snapshot) -> Vec<Finding> {
    let flying = |front: &Value| {
        let of = |d: &&crate::api::delivery::Delivery| label(front, DELIVERY_LABEL) == Some(d.name_any().as_str());
        snapshot.deliveries.iter().find(of).is_some_and(|d| d.status.as_ref().is_some_and(|s| s.rollout.is_some()))
    };
    let found = snapshot.services.iter().filter(|s| is_front(s) && !flying(s)).map(|front| {
        let mend = format!(
            "see first that no route names it: kubectl get httproutes,grpcroutes -o yaml | grep {0}; then: kubectl delete service {0}",
            name(front)
        );
        wrong(object(front), "it leads to a canary while no rollout is in flight: it was left behind", mend)
    });
    found.collect()
}

/// The finding is about the Delivery whose pods the Service selects, if there is one.
fn about(snapshot: &Snapshot, service: &Value, finding: Finding) -> Finding {
    let mut owners = snapshot.delivered().filter(|(_, w)| snapshot.services_of(w).any(|s| name(s) == name(service)));
    match owners.next() {
        Some((delivery, _)) => finding.of(delivery),
        None => finding,
    }
}

fn ready(pod: &Value) -> bool {
    let well = list(pod, "/status/conditions").iter().any(|c| text(c, "/type") == "Ready" && text(c, "/status") == "True");
    well && pod.pointer("/metadata/deletionTimestamp").is_none()
}

/// A pin that no ready pod matches is an outage.
pub(crate) fn pin_without_pods(snapshot: &Snapshot) -> Vec<Finding> {
    let none = Value::Null;
    let matched = |service: &Value| {
        let selector = service.pointer("/spec/selector").unwrap_or(&none);
        snapshot.pods.iter().any(|p| ready(p) && covers(selector, p.pointer("/metadata/labels").unwrap_or(&none)))
    };
    let found = pinned(snapshot)
        .filter(|s| !matched(s))
        .map(|s| about(snapshot, s, wrong(object(s), "it is pinned, and no ready pod matches the pin: it serves nobody", unpin(s))));
    found.collect()
}

/// A pin while nothing is in flight was left behind: it stays right only as long as the gate is closed.
pub(crate) fn pin_left_behind(snapshot: &Snapshot) -> Vec<Finding> {
    let flying = |service: &Value| {
        snapshot.delivered().any(|(d, w)| {
            d.status.as_ref().is_some_and(|s| s.rollout.is_some()) && snapshot.services_of(w).any(|s| name(s) == name(service))
        })
    };
    let found = pinned(snapshot).filter(|s| !flying(s));
    found
        .map(|s| about(snapshot, s, wrong(object(s), "it is pinned while no rollout is in flight: the pin was left behind", unpin(s))))
        .collect()
}

/// A Service that is pinned to a hash loses all its pods when its Deployment rolls.
pub(crate) fn pin_without_gate(snapshot: &Snapshot) -> Vec<Finding> {
    let mut found = Vec::new();
    for (delivery, deployment) in snapshot.delivered().filter(|(_, w)| !flag(w, "/spec/paused")) {
        for service in snapshot.services_of(deployment) {
            if let Pin::Stable(hash) = view::service(service).pin {
                let says = format!(
                    "it is pinned to {POD_TEMPLATE_HASH}={hash} while the gate of Deployment {} is open: the next roll leaves it without pods",
                    name(deployment)
                );
                found.push(wrong(object(service), says, unpin(service)).of(delivery));
            }
        }
    }
    found
}

/// A canary whose Delivery is gone has nobody who looks after it.
pub(crate) fn orphans(snapshot: &Snapshot) -> Vec<Finding> {
    let orphan = |canary: &&Value| !snapshot.deliveries.iter().any(|d| label(canary, DELIVERY_LABEL) == Some(d.name_any().as_str()));
    let found = snapshot.canaries().filter(orphan).map(|canary| {
        let says = format!("it is a canary of Delivery {}, which is gone", label(canary, DELIVERY_LABEL).unwrap_or_default());
        // Never --cascade=orphan: the owner's Deployment would adopt its ReplicaSet.
        let mend = format!("see first that no Service is pinned to it, then: kubectl delete deployment {}", name(canary));
        wrong(format!("Deployment/{}", name(canary)), says, mend)
    });
    found.collect()
}

/// An autoscaler of a canary, or two over the same pods: then both stop.
pub(crate) fn autoscalers(snapshot: &Snapshot) -> Vec<Finding> {
    let mut found = Vec::new();
    let target = |a: &Value| text(a, "/spec/scaleTargetRef/name").to_owned();
    let deployments = || snapshot.autoscalers.iter().filter(|a| text(a, "/spec/scaleTargetRef/kind") == "Deployment");
    for scaler in deployments() {
        let what = format!("HorizontalPodAutoscaler/{}", name(scaler));
        let mend = format!("kubectl delete hpa {}", name(scaler));
        if let Some(canary) = snapshot.canaries().find(|c| name(c) == target(scaler)) {
            let says = format!(
                "it scales {}, which is a canary: its size is Haldane's, and two autoscalers over the same pods stop each other",
                name(canary)
            );
            found.push(wrong(what, says, mend));
            continue;
        }
        let twin = deployments().find(|other| target(other) == target(scaler) && name(other) < name(scaler));
        if let Some((delivery, twin)) = snapshot.delivered().find(|(_, w)| name(w) == target(scaler)).and_then(|(d, _)| Some((d, twin?))) {
            found.push(
                wrong(
                    what,
                    format!("it and {} scale the same Deployment {}, so both stop (AmbiguousSelector)", name(twin), target(scaler)),
                    mend,
                )
                .of(delivery),
            );
        }
    }
    found
}

/// A budget counts the canary's pods, too, so it guards less of stable while one is there.
pub(crate) fn budgets(snapshot: &Snapshot) -> Vec<Finding> {
    let mut found = Vec::new();
    for (delivery, deployment) in snapshot.delivered() {
        let mut labels = deployment.pointer("/spec/template/metadata/labels").cloned().unwrap_or_default();
        let stable = |b: &&Value| selects(b.pointer("/spec/selector").unwrap_or(&Value::Null), &labels);
        let all: Vec<&Value> = snapshot.budgets.iter().filter(stable).collect();
        if let [first, second, ..] = all.as_slice() {
            let says = format!("it and {} match the same pods: then no pod can be evicted at all", name(first));
            found.push(
                wrong(format!("PodDisruptionBudget/{}", name(second)), says, format!("kubectl delete pdb {}", name(second))).of(delivery),
            );
        }
        if let Some(map) = labels.as_object_mut() {
            map.insert(TRACK_LABEL.to_owned(), TRACK_CANARY.into());
        }
        let both = all.iter().filter(|b| selects(b.pointer("/spec/selector").unwrap_or(&Value::Null), &labels));
        found.extend(both.filter(|b| b.pointer("/spec/minAvailable").is_some()).map(|b| {
            let says = "its minAvailable is counted over canary and stable together: while a canary of full size is there, a drain may evict all of stable";
            let mend = "use maxUnavailable instead: kubectl explain pdb.spec.maxUnavailable";
            risk(format!("PodDisruptionBudget/{}", name(b)), says, mend).of(delivery)
        }));
    }
    found
}
