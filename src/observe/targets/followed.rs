//! Whose logs are read now and whose restarts are counted, and what is compared.

use super::{Ports, canary_of, running};
use crate::{
    model::{
        logs::LogRules,
        phase::{Direction, Rollout, Stage, State},
        plan::Plan,
        version::Weight,
        world::{Observation, Pod, count},
    },
    observe::probes::{
        falls::{Fallible, Standing},
        follow::{Course, Followed, Source},
    },
};

/// So many pods of the canary are followed: kubectl and stern stop at 50 streams, and they ask one cluster for one person.
const CANARY: usize = 20;
/// And so many of stable speak for it.
const STABLE: usize = 5;

/// Whose logs are read, if the plan says so.
pub(super) fn followed(state: &State, seen: &Observation, plan: &Plan, ports: &Ports<'_>) -> Option<Followed> {
    let rules = plan.logs.as_ref()?;
    let rollout = state.phase.rollout().filter(|rollout| is_judged(rollout))?;
    let (canary, stable) = sides(seen, rollout);
    let ready = |pods: &[&Pod]| count(pods.iter().filter(|pod| pod.ready_since.is_some()));
    let all = (ready(&canary), ready(&stable));
    let canary = sources(canary, CANARY, rules, ports);
    // One that is not ready serves nobody and is compared with nobody.
    let stable = sources(stable.into_iter().filter(|pod| pod.ready_since.is_some()).collect(), STABLE, rules, ports);
    let heard = |sources: &[Source]| count(sources.iter().filter(|source| source.ready.is_some()));
    let course = course(rollout, plan, (heard(&canary), all.0), (heard(&stable), all.1));
    Some(Followed { rules: rules.clone(), canary, stable, course })
}

/// Whose restarts are counted.
pub(super) fn fallible(state: &State, seen: &Observation) -> Fallible {
    let Some(rollout) = state.phase.rollout().filter(|rollout| is_judged(rollout)) else { return Fallible::default() };
    let standing = |pods: Vec<&Pod>| {
        let pods = pods.into_iter();
        pods.filter_map(|pod| Some(Standing { pod: pod.name.clone(), created: pod.created?, restarts: pod.restarts })).collect()
    };
    let (canary, stable) = sides(seen, rollout);
    Fallible { canary: standing(canary), stable: standing(stable) }
}

/// A version is on its way up, and its pods stand beside stable's.
fn is_judged(rollout: &Rollout) -> bool {
    let beside = match rollout.stage {
        Stage::Preflight | Stage::Canary { .. } | Stage::Promoting | Stage::Guarding { .. } => true,
        Stage::Preparing | Stage::Finalizing | Stage::RollingBack { .. } => false,
    };
    beside && rollout.direction == Direction::Forward
}

/// The pods of canary and stable, of workloads that have a canary: what this version does not change is neither side of it.
fn sides<'a>(seen: &'a Observation, rollout: &Rollout) -> (Vec<&'a Pod>, Vec<&'a Pod>) {
    let (mut canary, mut stable) = (Vec::new(), Vec::new());
    for workload in &seen.workloads {
        let new = canary_of(workload, &rollout.release);
        if !new.is_empty() || rollout.stage == Stage::Preflight {
            stable.extend(running(seen, workload, &rollout.from));
        }
        canary.extend(new);
    }
    (canary, stable)
}

fn sources(mut pods: Vec<&Pod>, most: usize, rules: &LogRules, ports: &Ports<'_>) -> Vec<Source> {
    pods.sort_by(|one, other| one.name.cmp(&other.name));
    pods.truncate(most);
    let default = |pod: &Pod| ports.pods.iter().find(|seen| seen.pod.name == pod.name)?.container.clone();
    let source = |pod: &Pod| Source {
        pod: pod.name.clone(),
        container: rules.container.clone().or_else(|| default(pod)),
        ready: pod.ready_since,
        restarts: pod.restarts,
    };
    pods.into_iter().map(source).collect()
}

/// What is compared: lines where both sides have users. The traffic of a side is the share of the step, as far as its pods are heard.
fn course(rollout: &Rollout, plan: &Plan, canary: (u32, u32), stable: (u32, u32)) -> Course {
    let terms = rollout.book.terms();
    let weight = match rollout.stage {
        Stage::Canary { step } => plan.steps.get(step).map_or(Weight::ZERO, |step| step.weight),
        Stage::Promoting => plan.steps.last().map_or(Weight::ZERO, |step| step.weight),
        Stage::Preparing | Stage::Preflight | Stage::Guarding { .. } | Stage::Finalizing | Stage::RollingBack { .. } => Weight::ZERO,
    };
    let heard = |share: u8, (heard, all): (u32, u32)| u32::from(share) * 100 * heard / all.max(1);
    let percent = weight.percent().min(100);
    let traffic = (heard(percent, canary), heard(100 - percent, stable));
    if terms.logs.is_none() || rollout.suspended.is_some() || traffic.0 == 0 || traffic.1 == 0 {
        return Course::Apart;
    }
    Course::Shared { terms: Box::new(terms.clone()), traffic }
}
