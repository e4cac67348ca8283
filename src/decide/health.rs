//! What people are told beside the decision itself: is production fine, was it asked, does anything happen by itself?

use std::time::Duration;

use super::{Case, candidate, rest, rollback, size, stage, terms};
use crate::{
    api::delivery::Capacity,
    model::{
        decision::{Decision, Effect, Health, Reason},
        phase::{Phase, Rollout, Stage, Why, after},
        world::{Voice, Workload},
    },
};

/// The way back by one write, whole seconds: what the first error costs until the last new customer was measured at is below it, in
/// either way.
const SWITCH: Duration = Duration::from_secs(1);
/// A probe is new for so long: the first run of a suite may take half an hour, and waits for its turn.
const NEW: Duration = Duration::from_hours(1);
/// An estimate that changes with every pod would be one status write for each.
const COARSE: u64 = 5;

/// The decision with what it says about production.
#[must_use]
pub fn told(case: &Case<'_>, mut decision: Decision) -> Decision {
    decision.desired = desired(case, &decision);
    let state = &decision.next;
    let after_case = Case { state, ..*case };
    let rollout = state.phase.rollout();
    let weight = rollout.map(|r| size::weight(&after_case, r));
    let until = rollout.and_then(|r| stage::baked(&after_case, r));
    decision.health = Health {
        unavailable: unavailable(&after_case, &decision),
        verified: verified(&after_case),
        mute: case.seen.probes.mute.clone(),
        mute_requests: terms::mute(case),
        stalled: stalled(&after_case, &decision),
        weight,
        until,
        way_back: way_back(&after_case),
    };
    decision.notes.extend(case.seen.probes.turned.iter().filter(|voice| is_news(case, voice)).map(voice));
    decision
}

/// One that has no right answer is told of when it is new. Of an older one only this leader has had none: then it is production that fails.
fn is_news(case: &Case<'_>, voice: &Voice) -> bool {
    let Voice::Never { probe, .. } = voice else { return true };
    case.seen.probes.untried.get(probe).is_some_and(|changed| after(*changed, NEW) > case.now)
}

/// That a probe has lost its voice, has it back, or never had one.
fn voice(voice: &Voice) -> Reason {
    match voice.clone() {
        Voice::Lost { probe, runs, flakes } => Reason::ProbeFlaky { probe, flakes, runs },
        Voice::Back { probe, runs, flakes } => Reason::ProbeSteady { probe, flakes, runs },
        Voice::Never { probe, says } => Reason::ProbeUnanswered { probe, says },
    }
}

/// By one write when the other side is warm; else as long as its pods take to get ready, one part of them after the other where they
/// cannot all be there at once.
fn way_back(case: &Case<'_>) -> Option<Duration> {
    let capacity = match &case.state.phase {
        Phase::Rolling(Rollout { stage: Stage::RollingBack { .. }, .. }) | Phase::Adopting => return None,
        Phase::Rolling(Rollout { stage: Stage::Finalizing, .. }) => Capacity::Small,
        Phase::Rolling(_) => return Some(SWITCH),
        Phase::Live | Phase::RolledBack { .. } => size::capacity(case),
    };
    let rolled = |w: &Workload| {
        let parts = if capacity == Capacity::Small { w.replicas.div_ceil(w.at_once.max(1)) } else { 1 };
        Some(start(w)?.saturating_add(w.min_ready).saturating_mul(parts).saturating_add(SWITCH))
    };
    let slowest = case.seen.workloads.iter().map(rolled).try_fold(Duration::ZERO, |all, one| Some(all.max(one?)))?;
    Some(Duration::from_secs(slowest.as_secs().next_multiple_of(COARSE)))
}

/// How long a pod takes to get ready: the shortest that is seen, as one that once was not ready again counts from then.
fn start(workload: &Workload) -> Option<Duration> {
    let pods = workload.canary.iter().flat_map(|canary| &canary.pods).chain(&workload.pods);
    pods.filter_map(|pod| Duration::try_from(pod.ready_since?.duration_since(pod.created?)).ok()).min()
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
                    | Reason::QuerySilent { .. }
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
