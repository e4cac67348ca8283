//! Rules about what a Delivery names, and about what its status says.

use kube::ResourceExt as _;
use serde_json::Value;

use super::{Finding, Snapshot, risk, wrong};
use crate::{
    api::{
        delivery::{Delivery, WorkloadRef},
        probe_run::RunPhase,
    },
    cli::{
        init,
        json::{list, name, text},
    },
    model::decision::Reason,
};

/// The advice where no command mends it.
pub(crate) const READ_ON: &str = "kubectl haldane why";

fn object(delivery: &Delivery) -> String {
    format!("Delivery/{}", delivery.name_any())
}

fn edit(delivery: &Delivery) -> String {
    format!("kubectl edit dlv {}", delivery.name_any())
}

/// Each Delivery with each of its entries in `spec.workloads`.
fn entries(snapshot: &Snapshot) -> impl Iterator<Item = (&Delivery, &WorkloadRef)> {
    snapshot.deliveries.iter().flat_map(|d| d.spec.workloads.iter().map(move |w| (d, w)))
}

/// Each Deployment that is named exists.
pub(crate) fn missing_workload(snapshot: &Snapshot) -> Vec<Finding> {
    let absent = entries(snapshot).filter(|(_, w)| snapshot.deployment(&w.name).is_none());
    absent.map(|(d, w)| wrong(object(d), Reason::WorkloadMissing { workload: w.name.clone() }.to_string(), edit(d)).of(d)).collect()
}

/// Each container that is named exists.
pub(crate) fn missing_container(snapshot: &Snapshot) -> Vec<Finding> {
    let mut found = Vec::new();
    for (delivery, entry) in entries(snapshot) {
        let Some(deployment) = snapshot.deployment(&entry.name) else { continue };
        let all = ["/spec/template/spec/containers", "/spec/template/spec/initContainers"].into_iter().flat_map(|l| list(deployment, l));
        let names: Vec<&str> = all.map(|c| text(c, "/name")).collect();
        for container in entry.containers.iter().filter(|c| !names.contains(&c.as_str())) {
            let says = Reason::ContainerMissing {
                workload: entry.name.clone(),
                container: container.clone(),
                field: "spec.workloads[].containers",
            }
            .to_string();
            found.push(wrong(object(delivery), says, edit(delivery)).of(delivery));
        }
    }
    found
}

/// The Service that is named exists and selects the pods; without one, there is not more than one to choose from.
pub(crate) fn services(snapshot: &Snapshot) -> Vec<Finding> {
    let mut found = Vec::new();
    for (delivery, entry) in entries(snapshot) {
        let Some(deployment) = snapshot.deployment(&entry.name) else { continue };
        let names: Vec<&str> = snapshot.services_of(deployment).map(name).collect();
        match &entry.service_ref {
            Some(service) if !names.contains(&service.name.as_str()) => {
                found.push(
                    wrong(object(delivery), Reason::ServiceMissing { service: service.name.clone() }.to_string(), edit(delivery))
                        .of(delivery),
                );
            }
            None if names.len() > 1 => {
                let says = Reason::ServiceAmbiguous { workload: entry.name.clone(), services: names.join(", ") }.to_string();
                found.push(wrong(object(delivery), says, edit(delivery)).of(delivery));
            }
            _ => {}
        }
    }
    found
}

/// Each probe that is named exists, and asks a Service that is there.
pub(crate) fn missing_probe(snapshot: &Snapshot) -> Vec<Finding> {
    let mut found = Vec::new();
    for delivery in &snapshot.deliveries {
        for probe in delivery.spec.verify.iter().flat_map(|v| &v.probes) {
            let Some(there) = snapshot.probes.iter().find(|p| p.name_any() == probe.name) else {
                found.push(
                    wrong(object(delivery), Reason::ProbeMissing { probe: probe.name.clone() }.to_string(), edit(delivery)).of(delivery),
                );
                continue;
            };
            let service = &there.spec.target.service_ref.name;
            if !snapshot.services.iter().any(|s| name(s) == service) {
                let says = Reason::ServiceMissing { service: service.clone() }.to_string();
                found.push(wrong(format!("ProductionProbe/{}", probe.name), says, format!("kubectl edit pp {}", probe.name)).of(delivery));
            }
        }
    }
    found
}

/// What runs of probes have left is put right.
pub(crate) fn left_by_probes(snapshot: &Snapshot) -> Vec<Finding> {
    let mut found = Vec::new();
    for run in &snapshot.runs {
        let Some(status) = run.status.as_ref().filter(|status| status.phase == Some(RunPhase::Left)) else { continue };
        let (probe, left) = (&run.spec.probe_ref.name, status.message.as_deref().unwrap_or("it does not say what"));
        let says =
            format!("a run of ProductionProbe {probe} has left something in production, tried {} times: {left}", status.tries.unwrap_or(0));
        let mend = format!("mend the app, or what it is asked in spec.putRight; to give up on it: kubectl delete pr {}", run.name_any());
        let finding = wrong(format!("ProbeRun/{}", run.name_any()), says, mend);
        found.push(match snapshot.deliveries.iter().find(|delivery| delivery.name_any() == run.spec.delivery_ref.name) {
            Some(delivery) => finding.of(delivery),
            None => finding,
        });
    }
    found
}

/// No two Deliveries have the same Deployment.
pub(crate) fn twice(snapshot: &Snapshot) -> Vec<Finding> {
    let mut found = Vec::new();
    for (delivery, entry) in entries(snapshot) {
        let older =
            |d: &&Delivery| (&d.metadata.creation_timestamp, d.name_any()) < (&delivery.metadata.creation_timestamp, delivery.name_any());
        let other = entries(snapshot).find(|(d, w)| w.name == entry.name && older(d));
        if let Some((other, _)) = other {
            let says = Reason::AlreadyDelivered { workload: entry.name.clone(), by: other.name_any() }.to_string();
            found.push(wrong(object(delivery), says, format!("kubectl delete dlv {}", delivery.name_any())).of(delivery));
        }
    }
    found
}

/// Two versions can stand side by side.
pub(crate) fn cannot_run_two(snapshot: &Snapshot) -> Vec<Finding> {
    let refused = |(delivery, deployment): (&Delivery, &Value)| {
        let why = init::cannot_run_two(deployment, &snapshot.claims)?;
        let says = Reason::CannotRunTwo { workload: name(deployment).to_owned(), why }.to_string();
        Some(
            wrong(
                format!("Deployment/{}", name(deployment)),
                says,
                format!("kubectl edit deployment {0}; or do not deliver it: kubectl delete dlv {1}", name(deployment), delivery.name_any()),
            )
            .of(delivery),
        )
    };
    snapshot.delivered().filter_map(refused).collect()
}

/// What the controller itself says is wrong: a probe that reaches neither side, pods that the cluster refuses, …
pub(crate) fn conditions(snapshot: &Snapshot) -> Vec<Finding> {
    let mut found = Vec::new();
    for delivery in &snapshot.deliveries {
        let Some(status) = &delivery.status else { continue };
        let why = format!("{READ_ON} {}", delivery.name_any());
        let says = |type_: &str, value: &str| status.conditions.iter().find(|c| c.type_ == type_ && c.status == value);
        if let Some(stalled) = says("Stalled", "True") {
            found.push(wrong(object(delivery), format!("{}: {}", stalled.reason, stalled.message), why.clone()).of(delivery));
        }
        if let Some(down) = says("Available", "False") {
            found.push(wrong(object(delivery), format!("{}: {}", down.reason, down.message), why.clone()).of(delivery));
        }
        let quiet = status.holds.iter().filter(|h| h.reason == "NoData" || h.reason == "QuerySilent");
        found.extend(quiet.map(|h| wrong(object(delivery), format!("{}: {}", h.reason, h.message), why.clone()).of(delivery)));
        let seen = delivery.metadata.generation.is_none() || status.observed_generation >= delivery.metadata.generation;
        if !seen {
            found.push(
                risk(
                    object(delivery),
                    "the controller has not seen the latest change of its spec",
                    "wait a moment; if it stays so: kubectl haldane doctor",
                )
                .of(delivery),
            );
        }
    }
    found
}

/// What is desired is not in quarantine.
pub(crate) fn quarantine(snapshot: &Snapshot) -> Vec<Finding> {
    let held = |delivery: &Delivery| {
        let status = delivery.status.as_ref()?;
        let desired = &status.desired.as_ref()?.release;
        let entry = status.quarantine.iter().find(|q| q.release == *desired)?;
        // A retry is under way.
        if status.rollout.as_ref().is_some_and(|r| r.release == *desired) {
            return None;
        }
        let mend = format!("ship something newer, or try it again: kubectl haldane retry {} {desired}", delivery.name_any());
        Some(wrong(object(delivery), format!("{desired} is desired and in quarantine: {}", entry.why.message), mend).of(delivery))
    };
    snapshot.deliveries.iter().filter_map(held).collect()
}
