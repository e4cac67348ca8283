//! Stable comes first: where the cluster has no room for all of its pods while a canary stands, the canary makes room, and begins anew
//! when stable is whole.

use super::{Case, barrier, rollback, size, stable, stable::Resumed, step, words};
use crate::model::{
    decision::{Decision, Reason, Wait},
    phase::{Direction, Rollout, Stage},
    world::{Release, Trouble, Workload},
};

/// What the scheduler says of a pod that fits nowhere.
const UNSCHEDULABLE: &str = "Unschedulable";

/// A workload of which the cluster refuses a pod, and how. When all of the traffic is on the canary, stable can wait; and beyond a barrier
/// there is no way back to it.
pub(super) fn lacking(case: &Case<'_>, rollout: &Rollout) -> Option<Reason> {
    let early = matches!(rollout.stage, Stage::Preflight | Stage::Canary { .. } | Stage::Promoting);
    if !early || rollout.direction != Direction::Forward || barrier::stands(case, rollout) {
        return None;
    }
    size::changed(case, rollout)
        .find_map(|workload| Some(Reason::StableLacksRoom { workload: workload.name.to_string(), says: refused(workload)? }))
}

fn refused(workload: &Workload) -> Option<String> {
    let unplaced = |trouble: &&Trouble| matches!(trouble, Trouble::Refused { word, .. } if word == UNSCHEDULABLE);
    let of_pods = workload.pods.iter().filter_map(|pod| pod.trouble.as_ref()).filter(unplaced);
    of_pods.chain(&workload.refused).find_map(|trouble| match trouble {
        Trouble::Refused { says, .. } => Some(says.clone()),
        Trouble::Fault { .. } => None,
    })
}

/// The canary leaves, its traffic first, and is not made again before stable is whole.
pub(super) fn made(case: &Case<'_>, rollout: &Rollout, from: &Release, reason: Reason, mut holds: Vec<Reason>) -> Decision {
    holds.insert(0, reason.clone());
    let mut decision = if rollout.stage == Stage::Preflight {
        let standing = stable::keep_all(case, from, Resumed::Respected, false);
        let effects = rollback::emptying(case, rollout, from, standing.effects);
        let wait = if effects.is_empty() { rollback::soonest(case, rollout, from) } else { Wait::Now };
        let mut decision = step::stay(case, rollout, words::of(case, rollout), wait);
        decision.effects = effects;
        decision.notes.extend(standing.note);
        holds.extend(standing.hold);
        decision
    } else {
        let mut decision = step::enter(case, &Rollout { suspended: None, ..rollout.clone() }, Stage::Preflight);
        decision.notes.push(reason.clone());
        decision
    };
    decision.reason = reason;
    decision.holds = holds;
    decision
}
