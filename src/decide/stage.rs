//! When is a stage over? By its pods, its time and its evidence.

use super::{
    Case, candidate, command, pin,
    pin::Side,
    queries, route, size,
    terms::{self, QUIET, Requests},
    verdict,
};
use crate::{
    api::command::Action,
    model::{
        decision::{Reason, Wait},
        phase::{Direction, Rollout, Stage, after},
        world::{Canary, Command, Workload},
    },
};

/// Good pairs of each probe under all of the traffic that end a guard for something newer: after 30 without a failure fewer than one
/// in ten fails, with 95 % certainty (the rule of three: 3 / 30; Hanley and Lippman-Hand 1983).
const ENOUGH: u32 = 30;

/// By its pods, its time and its evidence the stage is over, perhaps by a person's word; else what it waits for.
pub(super) fn over<'a>(case: &Case<'a>, rollout: &Rollout) -> Result<Option<&'a Command>, Wait> {
    let ready = ready_since(case, rollout).ok_or(Wait::Poll)?;
    let order = command::pending(case, |action| action == Action::Promote);
    let over = match &rollout.stage {
        Stage::Canary { .. } if rollout.asked_again() => quiet(case, rollout),
        Stage::Canary { .. } => baked(case, rollout).unwrap_or(jiff::Timestamp::MAX),
        // It counts from when the traffic is there: a controller that was away in between did not guard anything.
        Stage::Guarding { until } => {
            let whole = (*until).max(after(moved(case, rollout), guard(case, rollout)));
            let least = after(moved(case, rollout), case.plan.limits.guard.max(case.plan.settle));
            if hurried(case, rollout).is_some() { whole.min(least) } else { whole }
        }
        // The traffic moves to pods that have stayed ready: a pin does not follow every flap of theirs.
        Stage::Promoting => after(ready, case.plan.settle),
        Stage::Preparing | Stage::Preflight | Stage::Finalizing | Stage::RollingBack { .. } => case.now,
    };
    if queries::unread(case, rollout) {
        return Err(Wait::Poll);
    }
    let shared = shared_since(case, rollout).ok_or(Wait::Poll)?;
    let over = if rollout.stage == Stage::Promoting { over.max(after(shared, case.plan.settle)) } else { over };
    if order.is_none() && over > case.now {
        return Err(Wait::Until(over));
    }
    if evidence_is_enough(case, rollout, ready) { Ok(order) } else { Err(Wait::Poll) }
}

/// Until when both sides are compared once more after errors had jumped under all of the traffic: two quiet minutes.
fn quiet(case: &Case<'_>, rollout: &Rollout) -> jiff::Timestamp {
    let (_, loud) = rollout.book.rechecked();
    let shared = shared_since(case, rollout).unwrap_or(case.now).max(case.state.since);
    after(loud.map_or(shared, |loud| loud.max(shared)), QUIET)
}

/// What a step waits for whose time is over: more requests of users, if that is what is missing.
pub(super) fn waits_for_requests(case: &Case<'_>, rollout: &Rollout) -> Option<Requests> {
    let over = rollout.stage == Stage::Promoting || baked(case, rollout).is_some_and(|over| over <= case.now);
    Some(terms::requests(case, rollout)).filter(|requests| over && *requests != Requests::Enough)
}

/// The guard need not last any longer: something newer waits, and the evidence is in. What is said then.
pub(super) fn hurried(case: &Case<'_>, rollout: &Rollout) -> Option<Reason> {
    let guards = matches!(rollout.stage, Stage::Guarding { .. }) && rollout.direction == Direction::Forward && rollout.suspended.is_none();
    let pairs = good_of_each(case, rollout);
    let waits = candidate::waiting(case, rollout).filter(|_| guards && !case.seen.probes.voting.is_empty() && pairs >= ENOUGH)?;
    Some(Reason::GuardEnds { version: verdict::version_of(case, rollout), waits: waits.version.clone(), pairs })
}

/// When the step has baked; none: not a step, or pods of it are still missing.
pub(super) fn baked(case: &Case<'_>, rollout: &Rollout) -> Option<jiff::Timestamp> {
    let Stage::Canary { step } = rollout.stage else { return None };
    let short = |w: &Workload| w.canary.as_ref().map_or(0, Canary::ready) < size::pods(case, rollout, w, &rollout.stage);
    if size::changed(case, rollout).any(short) {
        return None;
    }
    let since = ready_since(case, rollout)?.max(beside(case, rollout)).max(shared_since(case, rollout)?);
    Some(after(since, size::bake(case, rollout, step)))
}

/// Promotion needs evidence of its own: a good pair of every voting probe at this stage. Growing is not a stage of its own.
fn evidence_is_enough(case: &Case<'_>, rollout: &Rollout, ready: jiff::Timestamp) -> bool {
    let asks = size::changed(case, rollout).any(|w| size::routed(case, w));
    let any = rollout.book.each_probe().any(|(_, probe)| probe.at_this_stage() > 0);
    !asks
        || (terms::requests(case, rollout) == Requests::Enough
            && (rollout.stage == Stage::Promoting || probes_are_enough(case, rollout, ready, any)))
}

/// As far as the probes go.
fn probes_are_enough(case: &Case<'_>, rollout: &Rollout, ready: jiff::Timestamp, any: bool) -> bool {
    case.seen.probes.voting.is_empty()
        || match rollout.direction {
            Direction::Forward => good_of_each(case, rollout) > 0,
            // It was proven before, and what serves now is bad: it is asked, but silence does not keep it waiting.
            Direction::Return(_) => any || verdict::commanded(rollout) || after(ready, verdict::PATIENCE) <= case.now,
        }
}

/// Good samples at this stage of the voting probe that has the fewest.
fn good_of_each(case: &Case<'_>, rollout: &Rollout) -> u32 {
    rollout.book.good_of_each(case.seen.probes.voting.iter().map(|terms| terms.name.as_str()))
}

/// Every canary that should have pods at this stage has them ready, since then.
fn ready_since(case: &Case<'_>, rollout: &Rollout) -> Option<jiff::Timestamp> {
    let mut since = case.state.since;
    for workload in size::changed(case, rollout) {
        if size::pods(case, rollout, workload, &rollout.stage) > 0 {
            since = since.max(workload.canary.as_ref().and_then(Canary::ready_since)?);
        }
    }
    Some(since)
}

/// Since when stable serves beside the canary, where it serves at all: what baked while its Deployment was gone was compared
/// with nothing. Its oldest pod counts, so that one that was moved or added by an autoscaler starts no bake anew.
fn beside(case: &Case<'_>, rollout: &Rollout) -> jiff::Timestamp {
    let oldest = |w: &Workload| w.pods.iter().filter_map(|p| p.ready_since).min();
    size::changed(case, rollout).filter_map(oldest).max().unwrap_or(jiff::Timestamp::MIN)
}

/// Since when every route gives the share of the stage; none: not yet.
fn shared_since(case: &Case<'_>, rollout: &Rollout) -> Option<jiff::Timestamp> {
    let since = |w: &Workload| route::reached(case, rollout, w);
    size::changed(case, rollout).map(since).try_fold(jiff::Timestamp::MIN, |latest, since| Some(latest.max(since?)))
}

/// Since when all that is moved on the way up reaches the canary alone.
fn moved(case: &Case<'_>, rollout: &Rollout) -> jiff::Timestamp {
    let pinned = size::changed(case, rollout).filter(|w| rollout.direction != Direction::Forward || !route::leads(case, w));
    let since = pinned.filter_map(|w| pin::stands_since(case, w, Side::Canary)).max();
    since.unwrap_or(jiff::Timestamp::MIN).max(shared_since(case, rollout).unwrap_or(case.now))
}

/// All of the traffic is on a canary that has fewer pods than stable may have.
pub(super) fn weak(case: &Case<'_>, rollout: &Rollout) -> bool {
    rollout.suspended.is_none()
        && size::changed(case, rollout).filter(|w| size::routed(case, w)).any(|w| {
            let ready = w.canary.as_ref().map_or(0, Canary::ready);
            ready < w.replicas.saturating_sub(w.max_unavailable)
        })
}

pub(super) fn guard(case: &Case<'_>, rollout: &Rollout) -> std::time::Duration {
    match rollout.direction {
        Direction::Forward => case.plan.guard,
        // The version that comes back was proven before; only the traffic needs time to arrive.
        Direction::Return(_) => case.plan.settle,
    }
}
