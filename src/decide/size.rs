//! How many pods the canary has at each stage, and which steps of the plan are real ones.
//!
//! With the capacity Small it has a fourth of stable's pods at most, and no share above what these carry: steps beyond are one stop.
//!
//! In the Service way a share is a number of pods, so steps that ask for the same number are one stop, and there is none for those
//! who test.

use super::{Case, hold, in_place, route, verdict};
use crate::{
    api::delivery::Capacity,
    model::{
        decision::Reason,
        phase::{Rollout, Stage},
        version::Weight,
        world::{Release, Workload},
    },
};

/// Of stable's pods, how many the canary may have with the capacity Small: one of four, but one at least.
const SMALL: u32 = 4;

/// What may stand beside stable in a rollout that starts now.
#[must_use]
pub fn capacity(case: &Case<'_>) -> Capacity {
    if hold::gradual(case).is_some() { Capacity::Small } else { case.plan.capacity }
}

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
        Stage::Canary { step } if worker && !alone && first_share(case, rollout).is_none_or(|first| *step <= first) => 0,
        // It gets all of the traffic back, or leaves.
        Stage::Canary { .. } if rollout.asked_again() => workload.replicas,
        Stage::Canary { step } => case.plan.steps.get(*step).map_or(workload.replicas, |s| {
            let pods =
                if route::leads(case, workload) { s.weight.pods_of(workload.replicas) } else { s.weight.pods_beside(workload.replicas) };
            pods.min(room(rollout, workload))
        }),
        Stage::Promoting | Stage::Guarding { .. } | Stage::Finalizing => workload.replicas,
        Stage::Preparing | Stage::RollingBack { .. } => 0,
    }
}

/// The pods that may be there beside stable.
fn room(rollout: &Rollout, workload: &Workload) -> u32 {
    match rollout.capacity {
        Capacity::Full => workload.replicas,
        Capacity::Small => (workload.replicas / SMALL).max(1),
    }
}

/// The greatest share that the pods beside stable can carry, of every workload that has one.
#[must_use]
pub fn most(case: &Case<'_>, rollout: &Rollout) -> Weight {
    let carried = |w: &Workload| match (room(rollout, w), route::leads(case, w)) {
        (room, _) if room >= w.replicas => Weight::FULL,
        (room, true) => Weight::new(u8::try_from(u64::from(room) * 100 / u64::from(w.replicas)).unwrap_or(100)),
        (room, false) => Weight::of_pods(room, w.replicas),
    };
    changed(case, rollout).filter(|w| routed(case, w)).map(carried).min().unwrap_or(Weight::FULL)
}

/// The share of everybody at a step.
#[must_use]
pub fn share(case: &Case<'_>, rollout: &Rollout, step: usize) -> Weight {
    case.plan.steps.get(step).map_or(Weight::ZERO, |step| step.weight.min(most(case, rollout)))
}

/// What people are told once, when the plan asks for more than may be there beside stable.
#[must_use]
pub fn cut(case: &Case<'_>, rollout: &Rollout) -> Option<Reason> {
    let most = most(case, rollout);
    let beyond = rollout.capacity == Capacity::Small && most < Weight::FULL;
    beyond.then(|| Reason::CapacitySmall { version: verdict::version_of(case, rollout), most })
}

/// The stops of the plan, by their steps. Each is the last of the steps that mean the same: by pods for the largest workload, and by
/// routes where the pods that may be there carry no more.
fn stops(case: &Case<'_>, rollout: &Rollout) -> Vec<usize> {
    let by_route = case.seen.workloads.iter().any(|w| route::leads(case, w));
    let passed_over = !by_route || case.seen.routes.iter().any(|route| route.no_testers.is_some());
    let largest = case.seen.workloads.iter().max_by_key(|w| w.replicas);
    let meaning = |weight: Weight| match largest {
        Some(largest) if !by_route => weight.pods_beside(largest.replicas).min(room(rollout, largest)),
        _ => weight.min(most(case, rollout)).percent().into(),
    };
    let steps = case.plan.steps.iter().enumerate().filter(|(_, step)| step.testers.is_none() || !passed_over);
    let mut found: Vec<(usize, Option<u32>)> = Vec::new();
    for (at, step) in steps {
        let means = step.testers.is_none().then(|| meaning(step.weight));
        match found.last_mut() {
            Some((last, same)) if *same == means => *last = at,
            _ => found.push((at, means)),
        }
    }
    found.into_iter().map(|(at, _)| at).collect()
}

/// The first stop; none: the plan has none that is one here.
#[must_use]
pub fn first(case: &Case<'_>, rollout: &Rollout) -> Option<usize> {
    stops(case, rollout).into_iter().next()
}

/// The first stop at which everybody has a share.
pub(super) fn first_share(case: &Case<'_>, rollout: &Rollout) -> Option<usize> {
    stops(case, rollout).into_iter().find(|at| case.plan.steps.get(*at).is_some_and(|step| step.testers.is_none()))
}

/// The stop after this one; none: it is the last.
#[must_use]
pub fn after(case: &Case<'_>, rollout: &Rollout, step: usize) -> Option<usize> {
    stops(case, rollout).into_iter().find(|at| *at > step)
}

/// The bake of a stop: the longest among the steps that it stands for.
#[must_use]
pub fn bake(case: &Case<'_>, rollout: &Rollout, step: usize) -> std::time::Duration {
    let before = stops(case, rollout).into_iter().rfind(|at| *at < step);
    let meant = case.plan.steps.iter().enumerate().filter(|(at, s)| *at == step || s.testers.is_none());
    let meant = meant.filter(|(at, _)| *at <= step && before.is_none_or(|before| *at > before));
    meant.map(|(_, s)| s.bake).max().unwrap_or_default()
}

/// The share asked for at a stage, and the one that ready pods give.
#[must_use]
pub fn weight(case: &Case<'_>, rollout: &Rollout) -> (Weight, Weight) {
    if rollout.in_place() {
        return (Weight::FULL, in_place::rolled_share(case, rollout));
    }
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
        Stage::Canary { step } => (share(case, rollout, *step), served()),
        Stage::Promoting => (case.plan.steps.last().map_or(Weight::ZERO, |s| s.weight), served()),
        Stage::Guarding { .. } if changed(case, rollout).any(|w| route::leads(case, w)) => (Weight::FULL, served()),
        Stage::Guarding { .. } | Stage::Finalizing => (Weight::FULL, Weight::FULL),
    }
}
