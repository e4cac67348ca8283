//! Whom the probes ask now: canary beside stable while a version rolls out, else whatever serves. Pure.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::{api::core::v1::Service as RawService, apimachinery::pkg::util::intstr::IntOrString};

use super::{
    checks::Probe,
    pods::Seen,
    probes::{Asks, Door, Target, Watch, Watched},
};
use crate::decide::queries;
use crate::model::{
    decision::Reason,
    phase::{Direction, Rollout, Stage, State},
    plan::Plan,
    probe::Scheme,
    route::{Course, Route, RouteKind, Word},
    version::{ReleaseName, Weight},
    world::{Observation, Pin, Pod, Service, Workload},
};

mod followed;
mod metered;

/// What was read beside the observation: the Services' ports and the pods'.
pub(super) struct Ports<'a> {
    pub(super) services: &'a [RawService],
    pub(super) pods: Vec<&'a Seen>,
}

/// What is to be asked now, and the probes that cannot be: they name no Service or port of this Delivery.
pub(super) fn watch(state: &State, seen: &Observation, (plan, probes): (&Plan, &[Probe]), ports: &Ports<'_>) -> (Watch, Vec<Reason>) {
    let rollout = state.phase.rollout();
    // Where nothing serves beside it, what it says alone is its evidence.
    let rolls = rollout.is_some_and(Rollout::in_place);
    let compares = rollout.is_none_or(|rollout| goes_forward(rollout, seen));
    let (mut watched, mut problems) = (Vec::new(), Vec::new());
    for probe in probes {
        match one(state, seen, probe, ports).map(|asks| if rolls { asks } else { unloaded(probe, asks) }) {
            Ok(asks) => watched.push(Watched {
                check: probe.check.clone(),
                every: if rolls || matches!(asks, Asks::Pair { .. }) { probe.rollout } else { probe.always },
                votes: probe.votes,
                changed: probe.changed,
                burst: probe.burst.filter(|_| rollout.is_some()),
                pods: probe.pods,
                compares,
                page: probe.page.clone(),
                route_of: probe.route.then(|| probe.service.clone()),
                asks,
            }),
            Err(why) => problems.push(Reason::ProbeInvalid { probe: probe.check.name.clone(), why }),
        }
    }
    let watch = Watch {
        about: about(state),
        stage: rollout.map(|r| stage(&r.stage)).unwrap_or_default(),
        eager: rollout.is_some_and(|r| r.suspended.is_some()),
        after: rollout.and_then(|r| r.book.until()),
        probes: watched,
        meter: metered::metered(state, seen, plan, ports),
        questions: Vec::new(),
        queries: queries::asked(plan, rollout),
        follower: followed::followed(state, seen, plan, ports),
        fallible: followed::fallible(state, seen),
    };
    (watch, problems)
}

/// A load is for a version on its way: what serves is left alone.
fn unloaded(probe: &Probe, asks: Asks) -> Asks {
    let load = probe.check.suite.as_ref().is_some_and(|suite| suite.load.is_some());
    if load && matches!(asks, Asks::Rest { .. }) { Asks::Rest { pods: Vec::new() } } else { asks }
}

/// It is no way back: what that lacks, it is meant to lack.
fn goes_forward(rollout: &Rollout, seen: &Observation) -> bool {
    rollout.direction == Direction::Forward && seen.release(&rollout.release).is_none_or(|release| release.reverts.is_empty())
}

/// The rollout, by its start too: a second try of a version is another rollout. At rest the version.
fn about(state: &State) -> String {
    match state.phase.rollout() {
        Some(rollout) => format!("{} since {}", rollout.release, rollout.started_at),
        None => state.live.as_ref().map(|live| live.release.to_string()).unwrap_or_default(),
    }
}

fn stage(stage: &Stage) -> String {
    match stage {
        Stage::Canary { step } => format!("{} {step}", stage.label()),
        Stage::Preparing | Stage::Preflight | Stage::Promoting | Stage::Guarding { .. } | Stage::Finalizing | Stage::RollingBack { .. } => {
            stage.label().to_owned()
        }
    }
}

fn one(state: &State, seen: &Observation, probe: &Probe, ports: &Ports<'_>) -> Result<Asks, String> {
    let missing = || format!("Service {} selects no pods of this Delivery; see target.serviceRef", probe.service);
    let service = seen.services.iter().find(|s| s.name == probe.service).ok_or_else(missing)?;
    let workload = seen.workload(&service.workload).ok_or_else(missing)?;
    let port = port(ports.services, &probe.service, probe.port.as_deref())?;
    let targets = |pods: Vec<&Pod>| pods.into_iter().filter_map(|pod| target(pod, &port, &ports.pods)).collect::<Vec<Target>>();
    Ok(match state.phase.rollout() {
        Some(rollout) if rollout.in_place() => {
            let (new, old) = (targets(rolled(seen, workload, &rollout.release)), targets(rolled(seen, workload, &rollout.from)));
            if new.is_empty() || old.is_empty() { Asks::Rest { pods: new } } else { Asks::Pair { canary: new, stable: old, door: None } }
        }
        Some(rollout) if is_paired(&rollout.stage) => {
            let (canary, stable) = (canary_of(workload, &rollout.release), running(seen, workload, &rollout.from));
            Asks::Pair { canary: targets(canary), stable: targets(stable), door: door(seen, probe) }
        }
        Some(rollout) => Asks::Rest { pods: targets(serving(seen, workload, service, rollout)) },
        None => Asks::Rest {
            pods: targets(state.live.as_ref().map_or_else(|| active(workload), |live| running(seen, workload, &live.release))),
        },
    })
}

/// The way by the route, while those who test are on it and others reach stable: at full weight nobody does.
fn door(seen: &Observation, probe: &Probe) -> Option<Door> {
    let of_service = |route: &&Route| route.service == probe.service && route.name.kind == RouteKind::HTTPRoute;
    seen.routes.iter().filter(|_| probe.route).filter(of_service).find_map(|route| {
        let (Some(Course::Shared { testers: Some(tester), .. }), Word::Taken | Word::Stale) = (&route.course, &route.word) else {
            return None;
        };
        let edge = route.edge.as_ref().filter(|_| route.most < Weight::FULL && route.closed.is_none())?;
        Some(Door {
            at: SocketAddr::new(*edge.addresses.first()?, edge.port),
            scheme: if edge.https { Scheme::Https } else { Scheme::Http },
            host: probe.host.clone().or_else(|| edge.host.clone()).unwrap_or_else(|| probe.check.host.clone()),
            tester: tester.clone(),
            shared: route.most > Weight::ZERO,
            since: route.since?,
        })
    })
}

fn is_paired(stage: &Stage) -> bool {
    match stage {
        Stage::Preflight | Stage::Canary { .. } | Stage::Promoting | Stage::Guarding { .. } => true,
        Stage::Preparing | Stage::Finalizing | Stage::RollingBack { .. } => false,
    }
}

/// Pods of the canary, if it runs this Release.
fn canary_of<'a>(workload: &'a Workload, release: &ReleaseName) -> Vec<&'a Pod> {
    let canary = workload.canary.iter().filter(|c| !c.deleting && c.release.as_ref() == Some(release));
    canary.flat_map(|c| &c.pods).collect()
}

/// Stable's pods of this Release; when its template is not known any more, those of the only `ReplicaSet` that has pods.
fn running<'a>(seen: &Observation, workload: &'a Workload, release: &ReleaseName) -> Vec<&'a Pod> {
    let template = seen.release(release).and_then(|r| r.template_hash(&workload.name));
    let Some(set) = template.and_then(|hash| workload.replica_set(&hash)) else { return active(workload) };
    workload.pods.iter().filter(|pod| pod.pod_hash.as_ref() == Some(&set.pod_hash)).collect()
}

/// Stable's pods of this Release, none where its `ReplicaSet` is not known.
fn rolled<'a>(seen: &Observation, workload: &'a Workload, release: &ReleaseName) -> Vec<&'a Pod> {
    let template = seen.release(release).and_then(|r| r.template_hash(&workload.name));
    let hash = template.and_then(|template| workload.replica_set(&template)).map(|set| &set.pod_hash);
    workload.pods.iter().filter(|pod| hash.is_some() && pod.pod_hash.as_ref() == hash).collect()
}

fn active(workload: &Workload) -> Vec<&Pod> {
    let hash = workload.only_active().map(|set| &set.pod_hash);
    workload.pods.iter().filter(|pod| hash.is_some() && pod.pod_hash.as_ref() == hash).collect()
}

/// The pods that have the traffic on the way home or back: those that the pin says, else those of the good version.
fn serving<'a>(seen: &Observation, workload: &'a Workload, service: &Service, rollout: &Rollout) -> Vec<&'a Pod> {
    match (&service.pin, &rollout.stage) {
        (Pin::Canary, _) => canary_of(workload, &rollout.release),
        (Pin::Stable(hash), _) => workload.pods.iter().filter(|pod| pod.pod_hash.as_ref() == Some(hash)).collect(),
        (Pin::Off, Stage::Preparing | Stage::RollingBack { .. }) => running(seen, workload, &rollout.from),
        (Pin::Off, _) => running(seen, workload, &rollout.release),
    }
}

/// Where that port of the Service leads in a pod.
pub(super) fn port(services: &[RawService], name: &str, port: Option<&str>) -> Result<IntOrString, String> {
    let service = services.iter().find(|s| s.metadata.name.as_deref() == Some(name));
    let ports: Vec<_> = service.iter().filter_map(|s| s.spec.as_ref()?.ports.as_ref()).flatten().collect();
    let port = match (port, ports.as_slice()) {
        (Some(port), ports) => ports
            .iter()
            .find(|p| p.name.as_deref() == Some(port))
            .ok_or_else(|| format!("Service {name} has no port named {port}; see target.serviceRef.port"))?,
        (None, [only]) => only,
        (None, _) => return Err(format!("Service {name} has {} ports; name one in target.serviceRef.port", ports.len())),
    };
    Ok(port.target_port.clone().unwrap_or(IntOrString::Int(port.port)))
}

/// Only a ready pod with an address and that port can be asked.
pub(super) fn target(pod: &Pod, port: &IntOrString, seen: &[&Seen]) -> Option<Target> {
    pod.ready_since?;
    let ip: IpAddr = pod.ip.as_ref()?.parse().ok()?;
    let port = match port {
        IntOrString::Int(number) => u16::try_from(*number).ok()?,
        IntOrString::String(name) => *seen.iter().find(|s| s.pod.name == pod.name)?.ports.get(name)?,
    };
    Some(Target { pod: pod.name.clone(), at: SocketAddr::new(ip, port) })
}

#[cfg(test)]
mod tests;
