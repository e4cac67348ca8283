//! The way back: traffic first, in one write, then pods, then the record. It asks no hold, no window, no probe, and not
//! whether every stable pod is ready.

use std::time::Duration;

use super::{Case, candidate, cron_jobs, pin, pin::Side, route, size, stable, stable::Resumed, step, verdict, words};
use crate::{
    api::{release::Outcome, status::QUARANTINE},
    model::{
        decision::{Decision, Effect, Reason, Wait},
        phase::{Direction, Phase, Quarantined, Rollout, Stage, State, Why, after},
        version::ReleaseName,
        world::{Canary, Pin, Release, ReplicaSet, Service, Workload},
    },
};

/// How long a failed canary's pods stay after the pin: kube-proxy writes its rules at most once a second (measured: the
/// last new connection after 15–1,100 ms), and connections that are open end only with the pods.
const LEAVE: Duration = Duration::from_millis(1500);
/// How long the way back may take to be confirmed before production is called not fine.
pub const CONFIRM: Duration = Duration::from_secs(30);

/// Turns a rollout back. The traffic moves in this pass; the state is stored after it.
pub(super) fn begin(case: &Case<'_>, rollout: &Rollout, outcome: Outcome, reason: Reason) -> Decision {
    let why = Why::from(&reason);
    let stage = Stage::RollingBack { outcome, why: why.clone(), at: rollout.stage.label().to_owned() };
    let back = Rollout { stage, suspended: None, halted: None, ..rollout.clone() };
    let mut turned = case.state.to(Phase::Rolling(back.clone()), case.now);
    if rollout.direction == Direction::Forward && outcome != Outcome::Superseded {
        quarantine(case, &mut turned, &rollout.release, outcome, why);
    }
    let inner = Case { state: &turned, ..*case };
    let mut decision = next(&inner, &back);
    let again: Vec<Effect> = home_again(case, rollout).filter(|write| !decision.effects.contains(write)).collect();
    if !again.is_empty() {
        decision.wait = Wait::Now;
    }
    decision.effects.splice(..0, again);
    decision.reason = reason;
    decision
}

/// The stage gave the canary traffic, and the world shows none: what is read may be older than our own last write. So the writes that
/// take it home are sent all the same, and find what there is.
fn home_again<'a>(case: &'a Case<'a>, rollout: &'a Rollout) -> impl Iterator<Item = Effect> + 'a {
    let from = candidate::known(case, &rollout.from);
    let given: Vec<&Workload> = size::changed(case, rollout).filter(|w| w.canary.is_some()).collect();
    let routes: Vec<Effect> = given.iter().flat_map(|w| route::home_again(case, rollout, w)).collect();
    let reached = given.into_iter().filter(move |w| matches!(step::side(case, rollout, w, &from), Side::Canary | Side::Both));
    let stable = |s: &&Service| matches!(s.pin, Pin::Stable(_));
    let pinned = |s: &Service| Effect::PinService { service: s.name.clone(), pin: s.pin.clone() };
    routes.into_iter().chain(reached.flat_map(move |w| case.seen.services_of(&w.name).filter(stable).map(pinned)))
}

/// Keeps a content from being started again by itself.
pub(super) fn quarantine(case: &Case<'_>, state: &mut State, release: &ReleaseName, outcome: Outcome, why: Why) {
    let Some(identity) = case.seen.release(release).and_then(|r| r.identity.clone()) else { return };
    state.quarantine.retain(|q| q.identity != identity);
    state.quarantine.push(Quarantined { identity, release: release.clone(), outcome, why });
    let over = state.quarantine.len().saturating_sub(QUARANTINE);
    state.quarantine.drain(..over);
}

/// The next move of a rollout that goes back.
pub(super) fn next(case: &Case<'_>, rollout: &Rollout) -> Decision {
    let from = candidate::known(case, &rollout.from);
    let from = &*from;
    let standing = stable::keep_all(case, from, Resumed::Welcome, false);
    let effects = emptying(case, rollout, from, standing.effects);
    let left = case.seen.workloads.iter().any(beside);
    let mut decision = if effects.is_empty() && !left && standing.settled {
        arrived(case, rollout)
    } else {
        let wait = if effects.is_empty() { soonest(case, rollout, from) } else { Wait::Now };
        let mut decision = step::stay(case, rollout, words::of(case, rollout), wait);
        decision.effects = effects;
        decision
    };
    decision.notes.extend(standing.note);
    decision.holds.extend(route::unread(case));
    if let Some(lost @ Reason::TemplateLost { .. }) = standing.hold {
        decision.reason = lost.clone();
        decision.holds.push(lost);
    }
    decision
}

/// The writes that take the traffic to stable, keep that as it stands, and end the canaries when they have none.
pub(super) fn emptying(case: &Case<'_>, rollout: &Rollout, from: &Release, standing: Vec<Effect>) -> Vec<Effect> {
    // By routes first: one write each, and nobody reaches the canary any more.
    let home = |w| route::writes(case, w, &route::alone(case, w, side(w, from)));
    let mut effects: Vec<Effect> = case.seen.workloads.iter().flat_map(home).collect();
    for workload in &case.seen.workloads {
        let two_sides = beside(workload) || half_way(workload, from);
        effects.extend(if two_sides { pin::writes(case, workload, side(workload, from)) } else { emptied(case, workload) });
    }
    effects.extend(standing);
    effects.extend(leaving(case, rollout, from));
    effects
}

/// Something of the new side is there. Asked of the world and not of the Releases: their templates may be gone.
pub(super) fn beside(workload: &Workload) -> bool {
    workload.canary.is_some() || workload.canary_left > 0
}

/// Stable itself runs the good version and another.
fn half_way(workload: &Workload, from: &Release) -> bool {
    let good = from.template_hash(&workload.name).and_then(|template| workload.replica_set(&template));
    good.is_some_and(|good| workload.ready(&good.pod_hash) > 0 && !is_alone(workload, good))
}

/// Nothing else of stable is meant to run.
fn is_alone(workload: &Workload, set: &ReplicaSet) -> bool {
    workload.replica_sets.iter().all(|other| other.pod_hash == set.pod_hash || other.wanted == 0)
}

/// With the canary gone there is one side: a pin that it leaves empty comes off at once, whatever stable still waits for.
fn emptied(case: &Case<'_>, workload: &Workload) -> Vec<Effect> {
    let empty = |pin: &Pin| match pin {
        Pin::Off => false,
        Pin::Canary => true,
        Pin::Stable(hash) => workload.ready(hash) == 0,
    };
    let off = |s: &Service| Effect::PinService { service: s.name.clone(), pin: Pin::Off };
    case.seen.services_of(&workload.name).filter(|s| empty(&s.pin)).map(off).collect()
}

/// Which side serves while it goes back: stable, when it has pods of the good version; else, in mid-roll, what there is.
fn side<'a>(workload: &Workload, from: &'a Release) -> Side<'a> {
    // Where nobody knows the good version any more, no side is known to be the better one.
    let Some(hash) = from.template_hash(&workload.name) else { return Side::Both };
    let set = workload.replica_set(&hash);
    let ready = set.map_or(0, |rs| workload.ready(&rs.pod_hash));
    // Not by the number that is wanted: an autoscaler's write reaches the ReplicaSet a moment later.
    let untouched = set.is_some_and(|rs| rs.wanted > 0 && is_alone(workload, rs));
    let enough = if untouched { 1 } else { workload.replicas.saturating_sub(workload.max_unavailable).max(1) };
    if ready >= enough {
        return Side::Back(from);
    }
    // Stable was on its way to the bad version: the canary holds what traffic there is until the good one is back.
    let canary = workload.canary.as_ref().map_or(0, Canary::ready);
    if !untouched && canary > 0 { Side::Canary } else { Side::Both }
}

/// The writes that end canaries whose traffic has left.
fn leaving(case: &Case<'_>, rollout: &Rollout, from: &Release) -> Vec<Effect> {
    let canaries = case.seen.workloads.iter().filter(|w| w.canary.as_ref().is_some_and(|c| !c.deleting));
    canaries
        .filter(|w| due(case, rollout, w, from).is_some_and(|at| at <= case.now))
        .map(|w| Effect::DeleteCanary { workload: w.name.clone() })
        .collect()
}

/// When the canary of a workload may end; none: not while it is the one that serves, or before its traffic has left.
fn due(case: &Case<'_>, rollout: &Rollout, workload: &Workload, from: &Release) -> Option<jiff::Timestamp> {
    if !size::routed(case, workload) {
        return Some(case.now);
    }
    let failed = matches!(rollout.stage, Stage::RollingBack { outcome: Outcome::RolledBack, .. });
    match side(workload, from) {
        Side::Canary => None,
        // Nothing of stable is ready: a healthy canary is better than nothing, a failed one is not.
        Side::Both => failed.then_some(case.now),
        back @ (Side::Back(_) | Side::Stable(_)) => {
            let wait = if failed { LEAVE.min(case.plan.settle) } else { case.plan.settle };
            // Not sooner than it turned back, whatever the world shows: what is read may be older than our own last write, which may have
            // given the canary its traffic.
            let left =
                |since: jiff::Timestamp, wait| if since == jiff::Timestamp::MIN { since } else { after(since.max(case.state.since), wait) };
            let routes = route::stands_since(case, workload, &route::alone(case, workload, back));
            // By routes requests in hand end with the pods, so they get their time also from a failed one.
            let routes = routes.map(|since| left(since, case.plan.settle));
            pin::stands_since(case, workload, back).map(|since| left(since, wait)).and_then(|at| Some(at.max(routes?)))
        }
    }
}

pub(super) fn soonest(case: &Case<'_>, rollout: &Rollout, from: &Release) -> Wait {
    let canaries = case.seen.workloads.iter().filter(|w| w.canary.as_ref().is_some_and(|c| !c.deleting));
    canaries
        .filter_map(|w| due(case, rollout, w, from))
        .filter(|at| *at > case.now)
        .fold(Wait::Poll, |wait, at| if wait == Wait::Poll { Wait::Until(at) } else { wait.sooner(Wait::Until(at)) })
}

/// Everything is as it was before: pins off, and the record.
fn arrived(case: &Case<'_>, rollout: &Rollout) -> Decision {
    let Stage::RollingBack { outcome, why, .. } = &rollout.stage else {
        return step::stay(case, rollout, words::of(case, rollout), Wait::Now);
    };
    let mut effects: Vec<Effect> = case
        .seen
        .services
        .iter()
        .filter(|s| s.pin != Pin::Off)
        .map(|s| Effect::PinService { service: s.name.clone(), pin: Pin::Off })
        .collect();
    effects.extend(route::left(case));
    let from = candidate::known(case, &rollout.from);
    let given_back = cron_jobs::given_back(case, rollout, &from);
    let differing: Vec<Reason> = cron_jobs::differing(case, &from).filter(|_| given_back.is_empty()).collect();
    effects.extend(given_back);
    let forward = rollout.direction == Direction::Forward;
    if forward {
        let by = (*outcome == Outcome::Superseded).then(|| candidate::wish(case)).flatten().and_then(|w| w.release);
        effects.push(Effect::SettleRelease {
            release: rollout.release.clone(),
            outcome: *outcome,
            why: why.clone(),
            superseded_by: by,
            started: Some(rollout.started_at),
        });
    }
    let phase = match outcome {
        Outcome::RolledBack | Outcome::Undecided if forward => {
            Phase::RolledBack { release: rollout.release.clone(), outcome: *outcome, why: why.clone() }
        }
        _ => Phase::Live,
    };
    let reason = match &phase {
        Phase::RolledBack { why, .. } => Reason::Quarantined { version: verdict::version_of(case, rollout), why: why.says.clone() },
        Phase::Adopting | Phase::Live | Phase::Rolling(_) => Reason::Serving { version: verdict::called(case, &rollout.from) },
    };
    let mut decision = Decision::stay(&case.state.to(phase, case.now), reason, Wait::Now);
    decision.effects = effects;
    decision.notes.extend(differing);
    decision
}

/// The write that says what became of a Release.
pub(super) fn settled(release: &ReleaseName, outcome: Outcome, reason: &Reason, started: Option<jiff::Timestamp>) -> Effect {
    Effect::SettleRelease { release: release.clone(), outcome, why: Why::from(reason), superseded_by: None, started }
}
