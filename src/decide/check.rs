//! What may never happen, asked of every decision before it is carried out, and in every test. A decision that breaks one
//! of these is a defect of ours: it is not carried out, it is logged and counted, and production stays as it is.

use super::{Case, approval, external, route, size};
use crate::model::{
    decision::{Decision, Effect},
    phase::{Direction, Phase, Stage, State},
    plan::Plan,
    route::{Course, Route, RouteName},
    version::{Weight, WorkloadName},
    world::{Canary, Observation, Pin, Service, Workload},
};

/// A decision that must not be carried out.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the decision breaks {rule}: {what}")]
pub struct Broken {
    /// Which invariant, by its number in the crate's documentation.
    pub rule: &'static str,
    /// What exactly.
    pub what: String,
}

/// Asks the invariants that can be seen in one decision.
///
/// # Errors
/// The first one that is broken.
pub fn check(plan: &Plan, state: &State, seen: &Observation, decision: &Decision, now: jiff::Timestamp) -> Result<(), Broken> {
    let case = Case { plan, state, seen, now };
    let mut pins: Vec<(&str, &Pin)> = Vec::new();
    let mut routes: Vec<(&RouteName, &Course)> = Vec::new();
    for effect in &decision.effects {
        match effect {
            Effect::PinService { service, pin } => {
                matches_a_ready_pod(seen, service, pin)?;
                pins.push((service, pin));
            }
            Effect::CreateCanary { .. } if prepares(&decision.next) => broken("I2", "starts a canary before what runs before it has run")?,
            Effect::CreateCanary { .. } | Effect::RunBefore { .. }
                if decision.next.phase.rollout().is_some_and(|r| external::bars(&case, r)) =>
            {
                broken("I20", "starts a pod before somebody else's word")?;
            }
            Effect::RunBefore { .. } => runs_before(state, decision)?,
            Effect::CreateCanary { workload, .. } => kept_apart(&case, seen.workload(workload), &pins, decision)?,
            Effect::DeleteCanary { workload } => carries_nothing(seen, workload, &pins, &routes)?,
            Effect::ScaleCanary { workload, replicas } => not_below_traffic(seen, workload, *replicas)?,
            Effect::SendRoute { route, course } => {
                leads_to_pods(&case, route, course, decision)?;
                routes.push((route, course));
            }
            Effect::SetImage { cron_job, image, .. } => serves_already(seen, cron_job, image, decision)?,
            Effect::RemoveCanaryService { service } => led_to_by_nobody(seen, service, &routes)?,
            _ => {}
        }
    }
    approved(&case, decision)?;
    advances_unheld(state, decision)
}

fn broken(rule: &'static str, what: impl Into<String>) -> Result<(), Broken> {
    Err(Broken { rule, what: what.into() })
}

/// What the pin of a Service says after the writes of this decision so far: they are carried out in order.
fn pinned<'a>(service: &'a Service, so_far: &[(&str, &'a Pin)]) -> &'a Pin {
    so_far.iter().rev().find(|(name, _)| *name == service.name).map_or(&service.pin, |(_, pin)| pin)
}

/// I22: a pin matches a ready pod.
fn matches_a_ready_pod(seen: &Observation, service: &str, to: &Pin) -> Result<(), Broken> {
    let Some(service) = seen.services.iter().find(|s| s.name == service) else { return broken("I15", "pins a Service that was not seen") };
    let Some(workload) = seen.workload(&service.workload) else { return Ok(()) };
    let ready = match to {
        Pin::Off => return Ok(()),
        Pin::Canary => workload.canary.as_ref().map_or(0, Canary::ready),
        Pin::Stable(hash) => workload.ready(hash),
    };
    match (ready, service.fits.contains(to)) {
        (0, _) => broken("I22", format!("pins Service {} to a side without a ready pod", service.name)),
        (_, false) => broken("I22", format!("pins Service {} to pods that its own selector leaves out", service.name)),
        (_, true) => Ok(()),
    }
}

/// I2: nobody reaches a version before its first step: its canary starts behind pins.
fn kept_apart(case: &Case<'_>, workload: Option<&Workload>, so_far: &[(&str, &Pin)], decision: &Decision) -> Result<(), Broken> {
    let preflight = decision.next.phase.rollout().is_some_and(|r| matches!(r.stage, Stage::Preparing | Stage::Preflight));
    let Some(workload) = workload.filter(|w| preflight && size::routed(case, w)) else { return Ok(()) };
    let open = case.seen.services_of(&workload.name).find(|s| matches!(pinned(s, so_far), Pin::Off | Pin::Canary));
    // Where nothing of stable serves there is nobody to keep it from.
    let serves = workload.pods.iter().any(|p| p.ready_since.is_some());
    match open.filter(|_| serves) {
        Some(service) => broken("I2", format!("starts a canary that Service {} would reach", service.name)),
        None => Ok(()),
    }
}

/// Nothing of it may start yet.
fn prepares(state: &State) -> bool {
    state.phase.rollout().is_some_and(|r| r.stage == Stage::Preparing)
}

/// I12, I20: what runs before a version runs for one on its way up, in a stored try, which is in its name, and while nothing holds.
fn runs_before(state: &State, decision: &Decision) -> Result<(), Broken> {
    let forward = decision.next.phase.rollout().is_some_and(|r| r.direction == Direction::Forward);
    match (prepares(state) && prepares(&decision.next) && forward, decision.holds.is_empty()) {
        (false, _) => broken("I12", "runs what runs before a version at another moment"),
        (true, false) => broken("I20", "runs what runs before a version while something holds"),
        (true, true) => Ok(()),
    }
}

/// I23: a `CronJob` has no gate, so it gets the image of what is proven and serves from now on, and no other.
fn serves_already(seen: &Observation, cron_job: &str, image: &str, decision: &Decision) -> Result<(), Broken> {
    let live = decision.next.live.as_ref().and_then(|live| seen.release(&live.release));
    if decision.next.phase.rollout().is_none() && live.is_some_and(|live| live.image == image) {
        return Ok(());
    }
    broken("I23", format!("gives CronJob {cron_job} an image that is not proven: {image}"))
}

/// Where a route leads after the writes of this decision so far.
fn led<'a>(route: &'a Route, so_far: &[(&RouteName, &'a Course)]) -> Option<&'a Course> {
    so_far.iter().rev().find(|(name, _)| **name == route.name).map_or(route.course.as_ref(), |(_, course)| Some(*course))
}

/// I3, I2: a share needs pods that are ready behind the canary's Service, and it is at most what the stage gives.
fn leads_to_pods(case: &Case<'_>, name: &RouteName, course: &Course, decision: &Decision) -> Result<(), Broken> {
    let Some(seen) = case.seen.routes.iter().find(|r| r.name == *name) else { return broken("I15", "writes a route that was not seen") };
    let Some(workload) = case.seen.workload(&seen.workload).filter(|_| !course.is_closed()) else { return Ok(()) };
    if route::there(case, workload) == 0 {
        return broken("I3", format!("leads {name} to a canary without a ready endpoint"));
    }
    let most = decision.next.phase.rollout().map_or(Weight::ZERO, |rollout| match &rollout.stage {
        Stage::Preparing | Stage::Preflight => Weight::ZERO,
        Stage::Canary { step } => size::share(case, rollout, *step),
        Stage::Promoting => case.plan.steps.last().map_or(Weight::ZERO, |step| step.weight),
        Stage::Guarding { .. } | Stage::Finalizing | Stage::RollingBack { .. } => Weight::FULL,
    });
    if course.weight() > most {
        broken("I2", format!("gives a canary {} by {name}, at a stage of {most}", course.weight()))
    } else {
        Ok(())
    }
}

/// I3: no route names a Service that is not there.
fn led_to_by_nobody(seen: &Observation, service: &str, so_far: &[(&RouteName, &Course)]) -> Result<(), Broken> {
    let open = |route: &&Route| !matches!(led(route, so_far), Some(Course::Left | Course::Stable));
    match seen.routes.iter().filter(|route| route.service == service).find(open) {
        Some(route) => broken("I3", format!("removes the Service of the canary while {} names it", route.name)),
        None => Ok(()),
    }
}

/// I1, I3: pods leave after the traffic.
fn carries_nothing(
    seen: &Observation,
    name: &WorkloadName,
    so_far: &[(&str, &Pin)],
    routes: &[(&RouteName, &Course)],
) -> Result<(), Broken> {
    let Some(workload) = seen.workload(name) else { return Ok(()) };
    let stable = workload.pods.iter().any(|p| p.ready_since.is_some());
    let by_route = seen.routes.iter().filter(|route| route.workload == *name);
    let leads = |route: &&Route| !route.is_read() || led(route, routes).is_none_or(|course| course.weight() > Weight::ZERO);
    if let Some(route) = by_route.into_iter().find(leads) {
        return if stable { broken("I3", format!("removes the canary while {} leads to it", route.name)) } else { Ok(()) };
    }
    let on = seen.services_of(name).find(|s| *pinned(s, so_far) == Pin::Canary);
    match on {
        Some(service) if stable => broken("I3", format!("removes the canary while Service {} is pinned to it", service.name)),
        _ => Ok(()),
    }
}

/// I1: a canary that carries all of the traffic is not made smaller than what stable may shrink to.
fn not_below_traffic(seen: &Observation, name: &WorkloadName, replicas: u32) -> Result<(), Broken> {
    let Some(workload) = seen.workload(name) else { return Ok(()) };
    let floor = workload.replicas.saturating_sub(workload.max_unavailable);
    let by_route = |route: &Route| route.workload == *name && route.course.as_ref().is_some_and(|c| c.weight() == Weight::FULL);
    let carries = seen.services_of(name).any(|s| s.pin == Pin::Canary) || seen.routes.iter().any(by_route);
    if carries && replicas < floor { broken("I1", format!("makes a canary that serves smaller than {floor}")) } else { Ok(()) }
}

/// I20: no step forward without the approval, or the word, that it needs.
fn approved(case: &Case<'_>, decision: &Decision) -> Result<(), Broken> {
    let (Some(before), Some(next)) = (case.state.phase.rollout(), decision.next.phase.rollout()) else { return Ok(()) };
    if let Some(place) = approval::missing(case, before, &next.stage) {
        return broken("I20", format!("enters step {} without its approval", place + 1));
    }
    match external::missing(case, before, &next.stage) {
        Some(missing) => broken("I20", format!("goes on without the word of {}", missing.name)),
        None => Ok(()),
    }
}

/// I8, I20: no step forward while something holds.
fn advances_unheld(state: &State, decision: &Decision) -> Result<(), Broken> {
    if advances(state, &decision.next) && !decision.holds.is_empty() {
        return broken("I20", "moves forward while something holds");
    }
    Ok(())
}

/// Whether the next state gives an unproven version more than the one before. Such a state is stored before anything is
/// done for it: after a crash nobody would know why that version has traffic.
#[must_use]
pub fn advances(before: &State, next: &State) -> bool {
    let resumed = |phase: &Phase| phase.rollout().is_some_and(|r| r.suspended.is_none() && !matches!(r.stage, Stage::RollingBack { .. }));
    let off = |phase: &Phase| phase.rollout().is_some_and(|r| r.suspended.is_some());
    rank(&next.phase) > rank(&before.phase) || (off(&before.phase) && resumed(&next.phase))
}

/// How far a new version is; 0: nowhere, or on its way back.
fn rank(phase: &Phase) -> usize {
    match phase {
        Phase::Rolling(r) if r.direction == Direction::Forward => match r.stage {
            Stage::Preparing => 1,
            Stage::Preflight => 2,
            Stage::Canary { step } => 3 + step,
            Stage::Promoting => 100,
            Stage::Guarding { .. } => 101,
            Stage::Finalizing => 102,
            Stage::RollingBack { .. } => 0,
        },
        Phase::Adopting | Phase::Live | Phase::RolledBack { .. } | Phase::Rolling(_) => 0,
    }
}
