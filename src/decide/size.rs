//! How many pods the canary has at each stage, and which steps of the plan are real ones.
//!
//! In the Service way a share is a number of pods, so steps that ask for the same number are one stop.

use super::Case;
use crate::model::{
    phase::{Rollout, Stage},
    plan::PlannedStep,
    version::Weight,
    world::{Release, Workload},
};

/// Whether this rollout changes the workload at all.
#[must_use]
pub fn changes(case: &Case<'_>, rollout: &Rollout, workload: &Workload) -> bool {
    let hash = |name| case.seen.release(name).and_then(|r: &Release| r.template_hash(&workload.name));
    match (hash(&rollout.release), hash(&rollout.from)) {
        (Some(new), Some(old)) => new != old,
        // Its templates are gone: nothing can be said, so nothing is made of it.
        (None, _) => false,
        (Some(_), None) => true,
    }
}

/// The workload has a Service, so its share of traffic can be moved.
#[must_use]
pub fn routed(case: &Case<'_>, workload: &Workload) -> bool {
    case.seen.services_of(&workload.name).next().is_some()
}

/// The workloads that this rollout changes.
pub fn changed<'a>(case: &Case<'a>, rollout: &'a Rollout) -> impl Iterator<Item = &'a Workload> {
    let case = *case;
    case.seen.workloads.iter().filter(move |w| changes(&case, rollout, w))
}

/// The pods that the canary of a workload should have at a stage.
///
/// A worker takes work as soon as it runs, so it starts when the others have passed their first step, or, alone, with the
/// first step.
#[must_use]
pub fn pods(case: &Case<'_>, rollout: &Rollout, workload: &Workload, stage: &Stage) -> u32 {
    if workload.replicas == 0 {
        return 0;
    }
    let worker = !routed(case, workload);
    let alone = !changed(case, rollout).any(|w| routed(case, w));
    match stage {
        Stage::Preflight => u32::from(!worker),
        Stage::Canary { step } if worker && !alone && *step <= first(case) => 0,
        Stage::Canary { step } => case.plan.steps.get(*step).map_or(workload.replicas, |s| s.weight.pods_beside(workload.replicas)),
        Stage::Promoting | Stage::Guarding { .. } | Stage::Finalizing => workload.replicas,
        Stage::RollingBack { .. } => 0,
    }
}

/// The number of pods that a step means for the largest workload; steps with the same number are one stop.
fn pods_of(case: &Case<'_>, step: &PlannedStep) -> u32 {
    let replicas = case.seen.workloads.iter().map(|w| w.replicas).max().unwrap_or(0);
    step.weight.pods_beside(replicas)
}

/// The first stop: the last of the steps that mean the same pods as the first.
#[must_use]
pub fn first(case: &Case<'_>) -> usize {
    last_like(case, 0)
}

/// The stop after this one; none: the next is full size.
#[must_use]
pub fn after(case: &Case<'_>, step: usize) -> Option<usize> {
    let here = case.plan.steps.get(step).map(|s| pods_of(case, s))?;
    let next = case.plan.steps.iter().enumerate().skip(step + 1).find(|(_, s)| pods_of(case, s) != here)?.0;
    Some(last_like(case, next))
}

fn last_like(case: &Case<'_>, step: usize) -> usize {
    let like = case.plan.steps.get(step).map(|s| pods_of(case, s));
    let same = case.plan.steps.iter().enumerate().skip(step).take_while(|(_, s)| Some(pods_of(case, s)) == like);
    same.map(|(at, _)| at).last().unwrap_or(step)
}

/// The bake of a stop: the longest among the steps that it stands for.
#[must_use]
pub fn bake(case: &Case<'_>, step: usize) -> std::time::Duration {
    let like = case.plan.steps.get(step).map(|s| pods_of(case, s));
    let same = case.plan.steps.iter().take(step + 1).filter(|s| Some(pods_of(case, s)) == like);
    same.map(|s| s.bake).max().unwrap_or_default()
}

/// The share asked for at a stage, and the one that ready pods give.
#[must_use]
pub fn weight(case: &Case<'_>, rollout: &Rollout) -> (Weight, Weight) {
    let served = || {
        let shares = changed(case, rollout).map(|w| {
            let canary = w.canary.as_ref().map_or(0, crate::model::world::Canary::ready);
            let stable = crate::model::world::count(w.pods.iter().filter(|p| p.ready_since.is_some()));
            Weight::of_pods(canary, stable)
        });
        shares.max().unwrap_or(Weight::ZERO)
    };
    match &rollout.stage {
        Stage::Preflight | Stage::RollingBack { .. } => (Weight::ZERO, Weight::ZERO),
        Stage::Canary { .. } | Stage::Promoting | Stage::Guarding { .. } if rollout.suspended.is_some() => (Weight::ZERO, Weight::ZERO),
        Stage::Canary { step } => (case.plan.steps.get(*step).map_or(Weight::ZERO, |s| s.weight), served()),
        Stage::Promoting => (case.plan.steps.last().map_or(Weight::ZERO, |s| s.weight), served()),
        Stage::Guarding { .. } | Stage::Finalizing => (Weight::FULL, Weight::FULL),
    }
}
