//! How many pods the canary has at each stage, and which steps of the plan are real ones.
//!
//! In the Service way a share is a number of pods, so steps that ask for the same number are one stop, and there is none for those
//! who test.

use super::{Case, route};
use crate::model::{
    phase::{Rollout, Stage},
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
        Stage::Canary { step } if worker && !alone && first_share(case).is_none_or(|first| *step <= first) => 0,
        Stage::Canary { step } => case.plan.steps.get(*step).map_or(workload.replicas, |s| {
            if route::leads(case, workload) { s.weight.pods_of(workload.replicas) } else { s.weight.pods_beside(workload.replicas) }
        }),
        Stage::Promoting | Stage::Guarding { .. } | Stage::Finalizing => workload.replicas,
        Stage::Preparing | Stage::RollingBack { .. } => 0,
    }
}

/// The stops of the plan, by their steps. By pods, each is the last of the steps that mean the same number for the largest workload.
fn stops(case: &Case<'_>) -> Vec<usize> {
    let steps = case.plan.steps.iter().enumerate();
    if case.seen.workloads.iter().any(|w| route::leads(case, w)) {
        let passed_over = case.seen.routes.iter().any(|route| route.no_testers.is_some());
        return steps.filter(|(_, step)| step.testers.is_none() || !passed_over).map(|(at, _)| at).collect();
    }
    let replicas = case.seen.workloads.iter().map(|w| w.replicas).max().unwrap_or(0);
    let mut found: Vec<(usize, u32)> = Vec::new();
    for (at, step) in steps.filter(|(_, step)| step.testers.is_none()) {
        let pods = step.weight.pods_beside(replicas);
        match found.last_mut() {
            Some((last, same)) if *same == pods => *last = at,
            _ => found.push((at, pods)),
        }
    }
    found.into_iter().map(|(at, _)| at).collect()
}

/// The first stop; none: the plan has none that is one here.
#[must_use]
pub fn first(case: &Case<'_>) -> Option<usize> {
    stops(case).into_iter().next()
}

/// The first stop at which everybody has a share.
fn first_share(case: &Case<'_>) -> Option<usize> {
    stops(case).into_iter().find(|at| case.plan.steps.get(*at).is_some_and(|step| step.testers.is_none()))
}

/// The stop after this one; none: the next is full size.
#[must_use]
pub fn after(case: &Case<'_>, step: usize) -> Option<usize> {
    stops(case).into_iter().find(|at| *at > step)
}

/// The bake of a stop: the longest among the steps that it stands for.
#[must_use]
pub fn bake(case: &Case<'_>, step: usize) -> std::time::Duration {
    let before = stops(case).into_iter().rfind(|at| *at < step);
    let meant = case.plan.steps.iter().enumerate().filter(|(at, s)| *at == step || s.testers.is_none());
    let meant = meant.filter(|(at, _)| *at <= step && before.is_none_or(|before| *at > before));
    meant.map(|(_, s)| s.bake).max().unwrap_or_default()
}

/// The share asked for at a stage, and the one that ready pods give.
#[must_use]
pub fn weight(case: &Case<'_>, rollout: &Rollout) -> (Weight, Weight) {
    let served = || {
        let shares = changed(case, rollout).map(|w| {
            if route::leads(case, w) {
                return route::given(case, w);
            }
            let canary = w.canary.as_ref().map_or(0, crate::model::world::Canary::ready);
            let stable = crate::model::world::count(w.pods.iter().filter(|p| p.ready_since.is_some()));
            Weight::of_pods(canary, stable)
        });
        shares.max().unwrap_or(Weight::ZERO)
    };
    match &rollout.stage {
        Stage::Preparing | Stage::Preflight | Stage::RollingBack { .. } => (Weight::ZERO, Weight::ZERO),
        Stage::Canary { .. } | Stage::Promoting | Stage::Guarding { .. } if rollout.suspended.is_some() => (Weight::ZERO, Weight::ZERO),
        Stage::Canary { step } => (case.plan.steps.get(*step).map_or(Weight::ZERO, |s| s.weight), served()),
        Stage::Promoting => (case.plan.steps.last().map_or(Weight::ZERO, |s| s.weight), served()),
        Stage::Guarding { .. } if changed(case, rollout).any(|w| route::leads(case, w)) => (Weight::FULL, served()),
        Stage::Guarding { .. } | Stage::Finalizing => (Weight::FULL, Weight::FULL),
    }
}
