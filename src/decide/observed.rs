//! Mode Observe: says what it would do, and does none of it.
//!
//! What Haldane has begun before it was told to observe is ended first, in the order of every way back: a version on its way
//! goes back, then the gates are opened on what is proven, then nothing of ours is left but the status. A roll of stable that
//! has begun is finished: half of it is no place to stop.

use super::{Case, leave, rest, rollback, step};
use crate::{
    api::release::Outcome,
    model::{
        decision::{Decision, Reason, Wait},
        phase::{Direction, Phase, Rollout, Stage, State},
        world::Observation,
    },
};

/// The next word of a Delivery that only observes.
#[must_use]
pub fn next(case: &Case<'_>) -> Decision {
    match &case.state.phase {
        Phase::Rolling(rollout) => ended(case, rollout),
        Phase::Adopting | Phase::Live | Phase::RolledBack { .. } if case.seen.finalizer || !case.state.adopted.is_empty() => released(case),
        Phase::Adopting | Phase::Live | Phase::RolledBack { .. } => would(case),
    }
}

/// A version on its way goes back; one that has all of the traffic behind it gets to its end.
fn ended(case: &Case<'_>, rollout: &Rollout) -> Decision {
    match (&rollout.stage, &rollout.direction) {
        (Stage::RollingBack { .. } | Stage::Finalizing, _) | (_, Direction::Return(_)) => step::next(case, rollout),
        (Stage::Preparing | Stage::Preflight | Stage::Canary { .. } | Stage::Promoting | Stage::Guarding { .. }, Direction::Forward) => {
            rollback::begin(case, rollout, Outcome::Superseded, Reason::OnlyObserved)
        }
    }
}

/// The gates are opened, and then it is as if nothing had ever been adopted. What failed is remembered.
fn released(case: &Case<'_>) -> Decision {
    let mut decision = leave::ungate(case);
    decision.reason = Reason::OnlyObserved;
    if decision.effects.is_empty() && decision.wait == Wait::Change {
        decision.next =
            State { adopted: Vec::new(), live: None, previous: None, ungated: false, ..case.state.to(Phase::Adopting, case.now) };
        decision.wait = Wait::Now;
    }
    decision
}

/// What adoption would do now, or what would stand in its way.
fn would(case: &Case<'_>) -> Decision {
    let seen = Observation { finalizer: true, ..case.seen.clone() };
    let dry = rest::adopt(&Case { seen: &seen, ..*case });
    let adopts = dry.notes.iter().find_map(|note| match note {
        Reason::Adopted { workload, version } => {
            Some(Reason::WouldDeliver { workload: workload.clone(), version: version.clone(), way: way(case) })
        }
        _ => None,
    });
    let mut decision = Decision::stay(case.state, adopts.unwrap_or(dry.reason), Wait::Change);
    decision.holds = dry.holds;
    decision
}

fn way(case: &Case<'_>) -> String {
    let mut stops: Vec<String> =
        case.plan.steps.iter().map(|step| if step.testers.is_some() { "testers".to_owned() } else { step.weight.to_string() }).collect();
    stops.push("100 %".to_owned());
    stops.join(", ")
}
