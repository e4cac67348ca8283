//! Capacity Small: nothing serves beside stable while it rolls. The canary leaves first, then stable takes the version by its own
//! strategy, with its traffic on it, and is asked as it goes.
//!
//! What the pods beside stable would have guarded, time guards: the version is live when stable has served it alone for as long as
//! the guard says. A failure on the way, or then, writes the good template back; while enough of its pods are there, the traffic goes
//! to these at once.

use std::collections::BTreeSet;

use super::{Case, home, pin, pin::Side, rest, rollback, route, size, stable, stable::Resumed, step, verdict, verdict::Judgement, words};
use crate::model::{
    decision::{Decision, Effect, Reason, Wait},
    phase::{Direction, Rollout, after},
    version::Weight,
    world::{Canary, Release, Workload, count},
};

/// The next move of a version that stable takes in place.
pub(super) fn next(case: &Case<'_>, rollout: &Rollout, (to, from): (&Release, &Release), holds: &[Reason]) -> Decision {
    let stay = |effects: Vec<Effect>, quiet: Wait| {
        let wait = if effects.is_empty() { quiet } else { Wait::Now };
        let mut decision = step::stay(case, rollout, words::of(case, rollout), wait);
        decision.effects = effects;
        decision
    };
    if case.seen.workloads.iter().any(rollback::beside) {
        let standing = stable::keep_all(case, from, Resumed::Respected, false);
        let mut decision = stay(rollback::emptying(case, rollout, from, standing.effects), rollback::soonest(case, rollout, from));
        decision.notes.extend(standing.note);
        return held(case, decision, holds, standing.hold);
    }
    // No Service may name a hash while the gate is open.
    let both = |w| pin::writes(case, w, Side::Both).into_iter().chain(route::writes(case, w, &route::alone(case, w, Side::Both)));
    let open: Vec<Effect> = case.seen.workloads.iter().flat_map(both).collect();
    if !open.is_empty() {
        return held(case, stay(open, Wait::Now), holds, None);
    }
    let (standing, fought) = home::truce(case, rollout, stable::keep_all(case, to, Resumed::Welcome, true));
    let rollout = &Rollout { fought, ..rollout.clone() };
    let rolled = standing.settled && case.seen.workloads.iter().all(|w| home::at(w, to));
    let until = guarded(case, rollout).filter(|_| rolled && standing.effects.is_empty());
    let silent = until.is_some_and(|until| after(until, verdict::PATIENCE) <= case.now) && !asked(case, rollout);
    let mut decision = match until {
        Some(until) if until <= case.now && asked(case, rollout) => home::arrived(case, rollout, to),
        until => {
            let quiet = until.filter(|until| *until > case.now).map_or(Wait::Poll, Wait::Until);
            let wait = if standing.effects.is_empty() { quiet } else { Wait::Now };
            let mut decision = step::stay(case, rollout, words::of(case, rollout), wait);
            decision.effects = standing.effects;
            decision
        }
    };
    decision.notes.extend(standing.note);
    let silent = || silent.then(|| Reason::NoData { why: "its probes have not answered well often enough since stable has it".to_owned() });
    held(case, decision, holds, standing.hold.filter(|hold| matches!(hold, Reason::FoughtBy { .. })).or_else(silent))
}

/// The decision with what stands in its way.
fn held(case: &Case<'_>, mut decision: Decision, holds: &[Reason], hold: Option<Reason>) -> Decision {
    decision.holds = holds.to_vec();
    let stuck = case.seen.workloads.iter().find(|w| w.stuck && !w.paused);
    let stuck = stuck.map(|w| Reason::StableNotRolling { workload: w.name.to_string() }).or(hold);
    decision.holds.extend(stuck.clone());
    decision.holds.extend(route::unread(case));
    if let Some(reason) = stuck {
        decision.reason = reason;
    }
    decision
}

/// Until when the version is guarded; none: not all of its pods are ready.
fn guarded(case: &Case<'_>, rollout: &Rollout) -> Option<jiff::Timestamp> {
    let guard = if rollout.direction == Direction::Forward { case.plan.guard } else { std::time::Duration::ZERO };
    let pods = || size::changed(case, rollout).flat_map(|w| &w.pods);
    let since = pods().map(|pod| pod.ready_since).try_fold(case.state.since, |latest, since| Some(latest.max(since?)));
    since.map(|since| after(since, guard))
}

/// Each voting probe has seen it answer well, alone, as often in a row as failures would have taken it back. A controller that was away
/// in between has guarded nothing.
fn asked(case: &Case<'_>, rollout: &Rollout) -> bool {
    let probes = &case.seen.probes;
    let well = |probe: &str| {
        let runs = probes.rest.iter().rev().filter(|run| run.probe == probe && run.at > case.state.since);
        runs.take_while(|run| run.wrong.is_none()).count() >= rest::REST_FAILURES
    };
    let names: BTreeSet<&str> = probes.rest.iter().map(|run| run.probe.as_str()).collect();
    let by_nobody = rollout.direction != Direction::Forward || !size::changed(case, rollout).any(|w| size::routed(case, w));
    by_nobody || names.into_iter().filter(|probe| well(probe)).count() >= probes.voting.len()
}

/// What stable's own pods say of the version that it takes: those that have it are judged like a canary's.
pub(super) fn judge(case: &Case<'_>, rollout: &Rollout, version: &str) -> Judgement {
    let mut hold = None;
    for workload in size::changed(case, rollout) {
        let Some(taken) = taken(case, rollout, workload) else { continue };
        let others = workload.pods.iter().filter(|pod| taken.pods.iter().all(|new| new.name != pod.name)).cloned().collect();
        match verdict::platform(version, &Workload { pods: others, ..workload.clone() }, &taken) {
            Judgement::Fine => {}
            Judgement::Hold(reason) => hold = hold.or(Some(reason)),
            worse @ (Judgement::Fail(_) | Judgement::Suspend(_) | Judgement::Recheck(_)) => return worse,
        }
    }
    // Beside nothing of the good version there is nobody to compare with: it is judged as it will be once it is live.
    match rest::failing(case, case.state.since).filter(|_| rollout.direction == Direction::Forward) {
        Some(failure) => Judgement::Fail(Reason::CanaryFailed { version: version.to_owned(), failure }),
        None => hold.map_or(Judgement::Fine, Judgement::Hold),
    }
}

/// The pods of stable that have the version, as if they were a canary.
fn taken(case: &Case<'_>, rollout: &Rollout, workload: &Workload) -> Option<Canary> {
    let template = case.seen.release(&rollout.release)?.template_hash(&workload.name)?;
    let set = workload.replica_set(&template)?;
    Some(Canary {
        name: workload.name.to_string(),
        uid: workload.uid.clone(),
        resource_version: workload.resource_version.clone(),
        deleting: false,
        release: Some(rollout.release.clone()),
        wanted: set.wanted,
        observed: workload.observed,
        stuck: workload.stuck && !workload.paused,
        refused: None,
        pods: workload.pods.iter().filter(|pod| pod.pod_hash.as_ref() == Some(&set.pod_hash)).cloned().collect(),
        ending: 0,
    })
}

/// The share that stable's ready pods of the version have among all of them.
pub(super) fn rolled_share(case: &Case<'_>, rollout: &Rollout) -> Weight {
    let share = |w: &Workload| {
        let ready = count(w.pods.iter().filter(|pod| pod.ready_since.is_some()));
        let new = taken(case, rollout, w).map_or(0, |taken| taken.ready());
        Weight::of_pods(new, ready.saturating_sub(new))
    };
    size::changed(case, rollout).map(share).min().unwrap_or(Weight::ZERO)
}
