//! What people are told beside the decision itself: is production fine, was it asked, does anything happen by itself?

use super::{Case, candidate, rest, rollback, size, step};
use crate::model::{
    decision::{Decision, Effect, Health, Reason},
    phase::{Phase, Stage, Why, after},
};

/// The decision with what it says about production.
#[must_use]
pub fn told(case: &Case<'_>, mut decision: Decision) -> Decision {
    decision.desired = desired(case, &decision);
    let state = &decision.next;
    let after_case = Case { state, ..*case };
    let rollout = state.phase.rollout();
    let weight = rollout.map(|r| size::weight(&after_case, r));
    let until = rollout.and_then(|r| step::baked(&after_case, r));
    decision.health = Health {
        unavailable: unavailable(&after_case, &decision),
        verified: verified(&after_case),
        stalled: stalled(&after_case, &decision),
        weight,
        until,
    };
    decision
}

/// The version that should serve.
fn desired(case: &Case<'_>, decision: &Decision) -> Option<crate::model::version::ReleaseName> {
    let live = case.state.live.as_ref().map(|l| l.release.clone());
    let made = decision.effects.iter().find_map(|e| if let Effect::RecordRelease { name, .. } = e { Some(name.clone()) } else { None });
    candidate::wish(case).and_then(|w| w.release.or(w.compose)).or(made).or(live)
}

fn unavailable(case: &Case<'_>, decision: &Decision) -> Option<Why> {
    if let Some(halted) = halted(case) {
        return Some(halted.clone());
    }
    let both = decision.holds.iter().find(|r| matches!(r, Reason::BothFailing { .. } | Reason::ServiceChangedAhead { .. }));
    if let Some(reason) = both {
        return Some(Why::from(reason));
    }
    match &case.state.phase {
        Phase::Rolling(rollout) => match &rollout.stage {
            Stage::RollingBack { why, .. } if after(case.state.since, rollback::CONFIRM) <= case.now => {
                Some(Why::from(&Reason::WayBackBlocked { why: why.says.clone() }))
            }
            _ => None,
        },
        Phase::Live | Phase::RolledBack { .. } => red(case),
        Phase::Adopting => None,
    }
}

fn halted<'a>(case: &Case<'a>) -> Option<&'a Why> {
    case.state.phase.rollout()?.halted.as_ref()
}

/// Production fails its probes at rest.
fn red(case: &Case<'_>) -> Option<Why> {
    let since = case.state.live.as_ref()?.since;
    rest::failing(case, since).map(|failure| Why::from(&Reason::ProductionFailing { failure }))
}

/// What serves was asked: well, badly, or not at all.
fn verified(case: &Case<'_>) -> Option<Result<(), Why>> {
    if let Some(halted) = halted(case) {
        return Some(Err(halted.clone()));
    }
    if case.plan.probes.is_empty() {
        return None;
    }
    if let Phase::Live | Phase::RolledBack { .. } = case.state.phase
        && let Some(why) = red(case)
    {
        return Some(Err(why));
    }
    case.seen.probes.rest.iter().any(|s| s.wrong.is_none()).then_some(Ok(()))
}

/// Nothing moves until a person acts.
fn stalled(case: &Case<'_>, decision: &Decision) -> Option<Why> {
    let mendable = |r: &&Reason| {
        !r.passes()
            && !matches!(
                r,
                Reason::WorkloadRolling { .. }
                    | Reason::NoData { .. }
                    | Reason::BothFailing { .. }
                    | Reason::ClusterRefuses { .. }
                    | Reason::BeforeRefused { .. }
                    | Reason::BeforeBusy { .. }
                    | Reason::ScaledToZero { .. }
                    | Reason::GateForced { .. }
                    | Reason::StableNotRolling { .. }
                    | Reason::SourceSilent { .. }
                    | Reason::RepositoryRenamed { .. }
            )
    };
    if let Phase::RolledBack { why, .. } = &case.state.phase {
        return Some(why.clone());
    }
    decision.holds.iter().find(mendable).map(Why::from)
}
