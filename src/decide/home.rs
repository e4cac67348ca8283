//! Finalizing: stable rolls to the proven version without traffic, then takes the traffic back, and the canary leaves.
//!
//! The order is what keeps every request whole: every Service on the canary, the gate opened for the proven template alone,
//! all workloads rolled and closed again, every Service on the new hash, seen routable, settle, the canary away, and only
//! when its pods are gone the pins off.

use std::time::Duration;

use super::{
    Case, cron_jobs, hold, pin,
    pin::Side,
    rollback, route, size, stable,
    stable::{Resumed, Standing},
    step, verdict, words,
};
use crate::{
    api::release::Outcome,
    model::{
        decision::{Decision, Effect, Reason, Wait},
        phase::{Direction, Fought, Live, Phase, Rollout, State, after},
        world::{Canary, Pin, Release, Workload},
    },
};

/// How long a foreign template that came back is left behind the closed gate before stable is rolled anew: each try gives it
/// a moment in the open. To write the proven one there ends it at once.
const TRUCE: Duration = Duration::from_mins(5);

/// The next move of a rollout whose version has all of the traffic. Deadlines and holds do not apply any more.
pub(super) fn finalize(case: &Case<'_>, rollout: &Rollout, to: &Release, holds: &[Reason]) -> Decision {
    let (standing, fought) = truce(case, rollout, stable::keep_all(case, to, Resumed::Welcome, true));
    let rollout = &Rollout { fought, ..rollout.clone() };
    let rolled = standing.settled && case.seen.workloads.iter().all(|w| at(w, to));
    let mut decision = if rolled {
        let mut decision = come_home(case, rollout, to);
        decision.effects.splice(0..0, standing.effects);
        decision
    } else {
        // The canary serves while stable has no traffic: first where the traffic is, then the roll.
        let mut effects: Vec<Effect> = size::changed(case, rollout).flat_map(|w| kept(case, w)).collect();
        // Once all of it has rolled, the gate closes behind it, and the traffic comes back in the same moment.
        let closing = standing.effects.iter().all(|e| matches!(e, Effect::CloseGate { .. })) && !standing.effects.is_empty();
        if closing && standing.hold.is_none() && case.seen.workloads.iter().all(|w| at(w, to)) {
            effects.clear();
            effects.extend(standing.effects);
            effects.extend(size::changed(case, rollout).flat_map(|w| pin::writes(case, w, Side::Back(to))));
        } else {
            effects.extend(standing.effects);
            effects.extend(canary_kept(case, rollout));
        }
        let wait = if effects.is_empty() { Wait::Poll } else { Wait::Now };
        let mut decision = step::stay(case, rollout, words::of(case, rollout), wait);
        decision.effects = effects;
        decision
    };
    decision.notes.extend(standing.note);
    decision.holds = holds.to_vec();
    let stuck = case.seen.workloads.iter().find(|w| w.stuck && !w.paused);
    let stuck = stuck.map(|w| Reason::StableNotRolling { workload: w.name.to_string() });
    let stuck = stuck.or(standing.hold.filter(|hold| matches!(hold, Reason::FoughtBy { .. })));
    decision.holds.extend(stuck.clone());
    decision.holds.extend(route::unread(case));
    if let Some(reason) = stuck.or_else(|| hold::missing(case)) {
        decision.reason = reason;
    }
    decision
}

/// What is written about stable, and who fights it. A foreign template that comes back is left behind the closed gate for a
/// while, where it does nothing: to write ours again would only call for the next of theirs.
pub(super) fn truce(case: &Case<'_>, rollout: &Rollout, mut standing: Standing) -> (Standing, Option<Fought>) {
    let replaced = |effect: &Effect| match effect {
        Effect::OpenGate { workload, template: Some(_), .. } => case.seen.workload(workload),
        _ => None,
    };
    let Some(workload) = standing.effects.iter().find_map(replaced) else { return (standing, rollout.fought.clone()) };
    let theirs = workload.template_hash();
    let again = rollout.fought.clone().filter(|f| f.template == theirs);
    let mut fought = match (again, workload.paused) {
        (Some(fought), true) if after(fought.at, TRUCE) <= case.now => return (standing, Some(fought)),
        (Some(fought), _) => fought,
        (None, true) => return (standing, rollout.fought.clone()),
        (None, false) => return (standing, Some(Fought { template: theirs, at: case.now })),
    };
    standing.effects.retain(|effect| replaced(effect).is_none());
    if !workload.paused {
        standing.effects.push(Effect::CloseGate { workload: workload.name.clone(), exact: false });
        fought.at = case.now;
    }
    standing.hold = Some(Reason::FoughtBy { workload: workload.name.to_string(), by: stable::writer(workload) });
    standing.note = None;
    (standing, Some(fought))
}

/// The workload runs that Release and nothing else, all of it available.
pub(super) fn at(workload: &Workload, release: &Release) -> bool {
    release.template_hash(&workload.name).is_some_and(|hash| workload.rolled_to(&hash))
}

/// Where traffic goes while stable rolls: to the canary, as long as that has the pods for it. What it lost for want of them it
/// gets again when they have stayed ready: a pin does not follow every flap of theirs.
fn serving(case: &Case<'_>, workload: &Workload) -> Side<'static> {
    let ready = workload.canary.as_ref().map_or(0, Canary::ready);
    let enough = ready >= workload.replicas.saturating_sub(workload.max_unavailable).max(1);
    let there = case.seen.services_of(&workload.name).any(|s| s.pin == Pin::Canary);
    let whole = workload.canary.as_ref().and_then(Canary::ready_since);
    let steady = whole.is_some_and(|since| after(since, case.plan.settle) <= case.now);
    if enough && (there || steady) { Side::Canary } else { Side::Both }
}

/// The writes that keep the traffic where it is served.
fn kept(case: &Case<'_>, workload: &Workload) -> Vec<Effect> {
    let side = serving(case, workload);
    let routes = route::writes(case, workload, &route::alone(case, workload, side));
    routes.into_iter().chain(pin::writes(case, workload, side)).collect()
}

/// The canary keeps the size of stable, also when that changes now.
fn canary_kept(case: &Case<'_>, rollout: &Rollout) -> Vec<Effect> {
    size::changed(case, rollout)
        .filter_map(|w| {
            let canary = w.canary.as_ref().filter(|c| !c.deleting && w.replicas > 0 && c.wanted != w.replicas)?;
            (canary.release.as_ref() == Some(&rollout.release))
                .then(|| Effect::ScaleCanary { workload: w.name.clone(), replicas: w.replicas })
        })
        .collect()
}

/// Stable runs the new version: traffic goes back to it, then the canary leaves, then the pins.
fn come_home(case: &Case<'_>, rollout: &Rollout, to: &Release) -> Decision {
    let left = size::changed(case, rollout).any(|w| w.canary.is_some() || w.canary_left > 0);
    if !left {
        return arrived(case, rollout, to);
    }
    let reason = words::of(case, rollout);
    let pins: Vec<Effect> = size::changed(case, rollout).flat_map(|w| pin::writes(case, w, Side::Stable(to))).collect();
    if !pins.is_empty() {
        let mut decision = step::stay(case, rollout, reason, Wait::Now);
        decision.effects = pins;
        return decision;
    }
    let gone = size::changed(case, rollout).all(|w| w.canary.is_none());
    if gone {
        return step::stay(case, rollout, reason, Wait::Poll);
    }
    let routable = size::changed(case, rollout)
        .all(|w| to.template_hash(&w.name).and_then(|t| pin::pod_hash(w, &t)).is_none_or(|hash| pin::routable(case, w, &hash)));
    let since = size::changed(case, rollout).filter_map(|w| pin::stands_since(case, w, Side::Stable(to))).max().unwrap_or(case.now);
    let over = after(since, case.plan.settle);
    if !routable || hold::unsettled(case).is_some() {
        return step::stay(case, rollout, reason, Wait::Poll);
    }
    // The routes last: what they come back to has its endpoints.
    let home = |w| route::writes(case, w, &route::alone(case, w, Side::Stable(to)));
    let moves: Vec<Effect> = size::changed(case, rollout).flat_map(home).collect();
    if !moves.is_empty() {
        return step::stay(case, rollout, reason, Wait::Now).first(moves);
    }
    let back_since = |w: &Workload| route::stands_since(case, w, &route::alone(case, w, Side::Stable(to))).unwrap_or(case.now);
    let over = size::changed(case, rollout).map(|w| after(back_since(w), case.plan.settle)).fold(over, jiff::Timestamp::max);
    if over > case.now {
        return step::stay(case, rollout, reason, Wait::Until(over));
    }
    let mut decision = step::stay(case, rollout, reason, Wait::Poll);
    decision.effects = size::changed(case, rollout)
        .filter(|w| w.canary.as_ref().is_some_and(|c| !c.deleting))
        .map(|w| Effect::DeleteCanary { workload: w.name.clone() })
        .collect();
    decision
}

/// The canary and its pods are gone: pins off, the `CronJobs` follow, and the version is live.
pub(super) fn arrived(case: &Case<'_>, rollout: &Rollout, to: &Release) -> Decision {
    let version = to.version.clone();
    let mut effects: Vec<Effect> = case
        .seen
        .services
        .iter()
        .filter(|s| s.pin != Pin::Off)
        .map(|s| Effect::PinService { service: s.name.clone(), pin: Pin::Off })
        .collect();
    effects.extend(route::left(case));
    if let Some(barred) = cron_jobs::barred(case) {
        // It is live when all of it is; nothing of its traffic waits for that.
        return step::stay(case, rollout, barred.clone(), Wait::Poll).first(effects);
    }
    effects.extend(cron_jobs::taken(case, to));
    let live = Some(Live { release: to.name.clone(), since: case.now });
    let (phase, previous, reason) = match &rollout.direction {
        Direction::Forward => {
            let reason = Reason::WentLive { version };
            effects.push(rollback::settled(&rollout.release, Outcome::Live, &reason, Some(rollout.started_at)));
            (Phase::Live, Some(rollout.from.clone()), reason)
        }
        Direction::Return(why) => {
            let reason = Reason::LiveFailed { version: verdict::called(case, &rollout.from), failure: why.says.clone() };
            effects.push(rollback::settled(&rollout.from, Outcome::RolledBack, &reason, None));
            let phase = Phase::RolledBack { release: rollout.from.clone(), outcome: Outcome::RolledBack, why: why.clone() };
            (phase, None, reason)
        }
    };
    let next = State { live, previous, ..case.state.to(phase, case.now) };
    // At rest people read what serves; what happened is told once.
    let resting = match &next.phase {
        Phase::RolledBack { why, .. } => Reason::Quarantined { version: verdict::called(case, &rollout.from), why: why.says.clone() },
        Phase::Adopting | Phase::Live | Phase::Rolling(_) => Reason::Serving { version: to.version.clone() },
    };
    let mut decision = Decision::stay(&next, resting, Wait::Now);
    decision.notes.push(reason);
    decision.effects = effects;
    decision
}
