//! What may never happen, asked of every decision before it is carried out, and in every test. A decision that breaks one
//! of these is a defect of ours: it is not carried out, it is logged and counted, and production stays as it is.

use super::{Case, size};
use crate::model::{
    decision::{Decision, Effect},
    phase::{Direction, Phase, Stage, State},
    plan::Plan,
    version::WorkloadName,
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
    for effect in &decision.effects {
        match effect {
            Effect::PinService { service, pin } => {
                matches_a_ready_pod(seen, service, pin)?;
                pins.push((service, pin));
            }
            Effect::CreateCanary { workload, .. } => kept_apart(&case, seen.workload(workload), &pins, decision)?,
            Effect::DeleteCanary { workload } => carries_nothing(seen, workload, &pins)?,
            Effect::ScaleCanary { workload, replicas } => not_below_traffic(seen, workload, *replicas)?,
            _ => {}
        }
    }
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
    let preflight = decision.next.phase.rollout().is_some_and(|r| r.stage == Stage::Preflight);
    let Some(workload) = workload.filter(|w| preflight && size::routed(case, w)) else { return Ok(()) };
    let open = case.seen.services_of(&workload.name).find(|s| matches!(pinned(s, so_far), Pin::Off | Pin::Canary));
    // Where nothing of stable serves there is nobody to keep it from.
    let serves = workload.pods.iter().any(|p| p.ready_since.is_some());
    match open.filter(|_| serves) {
        Some(service) => broken("I2", format!("starts a canary that Service {} would reach", service.name)),
        None => Ok(()),
    }
}

/// I1, I3: pods leave after the traffic.
fn carries_nothing(seen: &Observation, name: &WorkloadName, so_far: &[(&str, &Pin)]) -> Result<(), Broken> {
    let Some(workload) = seen.workload(name) else { return Ok(()) };
    let stable = workload.pods.iter().any(|p| p.ready_since.is_some());
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
    let carries = seen.services_of(name).any(|s| s.pin == Pin::Canary);
    if carries && replicas < floor { broken("I1", format!("makes a canary that serves smaller than {floor}")) } else { Ok(()) }
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
            Stage::Preflight => 1,
            Stage::Canary { step } => 2 + step,
            Stage::Promoting => 100,
            Stage::Guarding { .. } => 101,
            Stage::Finalizing => 102,
            Stage::RollingBack { .. } => 0,
        },
        Phase::Adopting | Phase::Live | Phase::RolledBack { .. } | Phase::Rolling(_) => 0,
    }
}
