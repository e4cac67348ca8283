//! What is shared and overloaded holds every version, and condemns none: the queries of the plan are asked while one rolls out.
//!
//! A number says nothing of one version, so it is no evidence and takes nothing back; of a version that comes back it is not asked at
//! all. What cannot be asked holds as well, once that has lasted: silence is a state of its own.

use jiff::Timestamp;

use super::{Case, verdict};
use crate::model::{
    decision::Reason,
    phase::{Direction, Rollout, Stage, after},
    plan::Plan,
    query::{PlannedQuery, Queried, shown},
};

/// What is to be asked now: whatever the plan names, for a version on its way up.
#[must_use]
pub fn asked(plan: &Plan, rollout: Option<&Rollout>) -> Vec<PlannedQuery> {
    let up = |rollout: &&Rollout| rollout.direction == Direction::Forward && !matches!(rollout.stage, Stage::RollingBack { .. });
    rollout.filter(up).map(|_| plan.queries.clone()).unwrap_or_default()
}

/// Nobody knows yet whether a version may go forward: a leader, or a rollout, that has just begun to ask.
pub(super) fn unread(case: &Case<'_>, rollout: &Rollout) -> bool {
    let known = |planned: &PlannedQuery| case.seen.queries.get(&planned.name).is_some_and(|known| known.last.is_some());
    rollout.direction == Direction::Forward && !case.plan.queries.iter().all(known)
}

/// Why nothing goes forward by what is shared.
pub(super) fn reasons<'a>(case: &Case<'a>) -> impl Iterator<Item = Reason> + use<'a> {
    let (seen, now) = (case.seen, case.now);
    case.plan.queries.iter().filter_map(move |planned| reason(planned, seen.queries.get(&planned.name)?, now))
}

fn reason(planned: &PlannedQuery, known: &Queried, now: Timestamp) -> Option<Reason> {
    let query = planned.name.clone();
    // To the second, so that it reads well.
    let since = |since: Timestamp| Timestamp::from_second(since.as_second()).unwrap_or(since).to_string();
    if let Some(silent) = known.silent.as_ref().filter(|silent| after(silent.since, verdict::PATIENCE) <= now) {
        return Some(Reason::QuerySilent { query, why: silent.why.clone(), since: since(silent.since) });
    }
    let last = known.last.as_ref().filter(|last| last.beyond)?;
    Some(Reason::QueryHolds { query, value: shown(last.value), bound: planned.bound.to_string(), since: since(last.since) })
}
