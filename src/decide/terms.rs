//! What is agreed when a rollout begins, and whether its users' requests say enough to go on.
//!
//! The purses of the book are fixed here, before the first bet, from what was usual until then.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    Case,
    judge::{
        block::{Block, Manner},
        mirror::{self, ENOUGH},
        platform,
        terms::{STEPS, Terms},
        words,
    },
    route, size,
};
use crate::{
    api::verify::NoTraffic,
    model::{
        decision::Reason,
        phase::{Direction, Rollout, Stage, after},
        version::Weight,
        world::{Silent, Workload},
    },
};

/// A canary that fails in fewer of its requests than one in 200 may go on, however much worse than stable that is (research on the judge, §4).
const MARGIN: f64 = 0.005;
/// Load per pod within these bounds of stable's is alike (research on the judge, §2).
const ALIKE: (f64, f64) = (0.5, 2.0);
/// How long nobody knows how many users come: pods count from half a minute on, and those of a step are ready at different moments.
const UNKNOWN: Duration = Duration::from_mins(2);
/// How long it must be quiet after the split was opened again.
pub(super) const QUIET: Duration = Duration::from_mins(2);

/// The terms of a rollout that begins now.
pub(super) fn of(case: &Case<'_>, direction: &Direction) -> Terms {
    let false_rollback_rate = 1.0 / f64::from(case.plan.one_false_rollback_in.max(1));
    let ratios = case.plan.steps.iter().enumerate().map(|(step, planned)| ratio(planned.weight, step + 1 == case.plan.steps.len()));
    let forward = *direction == Direction::Forward;
    let agreed = Terms {
        false_rollback_rate,
        ratios: ratios.take(STEPS).collect(),
        logs: (forward && case.plan.logs.is_some()).then(|| Manner::of(Block::default())),
        restarts: forward.then(|| usual_restarts(case)),
        ..Terms::default()
    };
    let counted = forward && case.plan.measures.is_some();
    let Some(known) = case.seen.probes.meters.as_ref().filter(|_| counted) else { return agreed };
    let usual = known.usual.map_or_else(|| Some(Manner::of(Block::default())), |usual| usual.manner);
    // What was read at moments that differ for each pod is compared over a minute.
    let late = case.plan.measures.as_ref().is_some_and(|measures| measures.late());
    let manner = if late { Some(Manner::of(Block::S60)) } else { usual };
    // Where slowness is not learnt from, it is looked at in no shorter blocks than where nothing is known.
    let careful = |manner: Manner| Manner { block: manner.block.max(Block::default()), ..manner };
    Terms {
        errors: manner,
        // One stratum is all of them.
        strata: if known.strata.len() > 1 { known.strata.clone() } else { Vec::new() },
        latency: manner.filter(|_| known.edges.is_some()).map(careful),
        edges: known.edges,
        margin: mirror::margin(MARGIN, known.usual.and_then(|usual| usual.rate)),
        by_pods: known.usual.is_some_and(|usual| usual.bursty) && unevenly_loaded(case),
        usual_rate: known.usual.and_then(|usual| usual.day),
        ..agreed
    }
}

/// How often stable's pods were restarted since each of them was made.
fn usual_restarts(case: &Case<'_>) -> u32 {
    let age = |created: Timestamp| u64::try_from(case.now.duration_since(created).as_mins()).unwrap_or(0);
    let pods = || case.seen.workloads.iter().flat_map(|w| &w.pods);
    let restarts = pods().fold(0_u32, |sum, pod| sum.saturating_add(pod.restarts));
    platform::usual(restarts, pods().filter_map(|pod| pod.created).map(age).sum())
}

/// What a step rules out before it is left: few users may meet what is very bad, many only what is at most twice as bad.
fn ratio(weight: Weight, last: bool) -> f64 {
    match weight.percent() {
        _ if last => 2.0,
        0..=9 => 20.0,
        10..=39 => 5.0,
        _ => 2.0,
    }
}

/// At some step a pod of the canary has much more or much less to do than one of stable.
fn unevenly_loaded(case: &Case<'_>) -> bool {
    let (least, most) = ALIKE;
    let uneven = |workload: &Workload, weight: Weight| {
        let (share, pods) = (f64::from(weight.percent()) / 100.0, f64::from(weight.pods_of(workload.replicas).max(1)));
        let ratio = (share / pods) / ((1.0 - share) / f64::from(workload.replicas.max(1)));
        !(least..=most).contains(&ratio)
    };
    let shares = || case.plan.steps.iter().map(|step| step.weight).filter(|weight| *weight > Weight::ZERO && *weight < Weight::FULL);
    case.seen.workloads.iter().filter(|w| route::leads(case, w)).any(|w| shares().any(|weight| uneven(w, weight)))
}

/// The requests are counted, and by them stable would be found bad beside itself: they have no vote.
pub(super) fn mute(case: &Case<'_>) -> bool {
    let usual = case.seen.probes.meters.as_ref().and_then(|meters| meters.usual);
    case.plan.measures.is_some() && usual.is_some_and(|usual| usual.manner.is_none())
}

/// Nothing is known yet of the requests that are to be judged by: a leader that has just begun to look.
pub(super) fn unread(case: &Case<'_>) -> bool {
    case.plan.measures.is_some() && !case.seen.probes.meters.as_ref().is_some_and(|known| known.looked)
}

/// Those who should show what they count, or what they log, have not done so for a while.
pub(super) fn silent<'a>(case: &Case<'a>) -> impl Iterator<Item = Reason> + use<'a> {
    let (seen, now) = (case.seen, case.now);
    let meters = seen.probes.meters.iter().flat_map(|known| &known.silent);
    let silent = meters.chain(seen.probes.logs.iter().flat_map(|known| &known.silent));
    let lasts = move |silent: &&Silent| after(silent.since, super::verdict::PATIENCE) <= now;
    silent.filter(lasts).map(|silent| Reason::NoData { why: silent.why.clone() })
}

/// What the users' requests say about leaving a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Requests {
    /// Enough, or nobody counts them here.
    Enough,
    /// Not enough yet.
    Gathering(Reason),
    /// They come too seldom to be waited for, and nobody else judges.
    TooFew(Reason),
}

/// Whether a step may be left as far as the users' requests go.
pub(super) fn requests(case: &Case<'_>, rollout: &Rollout) -> Requests {
    let book = &rollout.book;
    if rollout.direction != Direction::Forward {
        return Requests::Enough;
    }
    let version = super::verdict::version_of(case, rollout);
    let shares = matches!(rollout.stage, Stage::Canary { .. } | Stage::Promoting);
    if let Some(purse) = book.suspected().filter(|_| shares) {
        return Requests::Gathering(Reason::UnderSuspicion { version, purse: purse.word() });
    }
    let Stage::Canary { step } = rollout.stage else { return Requests::Enough };
    let share = size::share(case, rollout, step);
    let unjudged = |reason| match case.plan.no_traffic {
        NoTraffic::Promote => Requests::Enough,
        // Its probes judge it.
        NoTraffic::Hold if !case.seen.probes.voting.is_empty() => Requests::Enough,
        NoTraffic::Hold => Requests::TooFew(reason),
    };
    if share == Weight::ZERO {
        return Requests::Enough;
    }
    if book.terms().errors.is_none() {
        return if mute(case) { unjudged(Reason::RequestsMute { version }) } else { Requests::Enough };
    }
    if book.promotion(step) >= ENOUGH {
        return Requests::Enough;
    }
    if !comes_in_time(case, rollout) {
        return unjudged(Reason::NoTraffic { version });
    }
    Requests::Gathering(Reason::Gathering { version, share })
}

/// At the rate at which requests came so far, enough of them come before the deadline. In the first minutes nobody knows.
fn comes_in_time(case: &Case<'_>, rollout: &Rollout) -> bool {
    let seconds = |from: jiff::Timestamp, to: jiff::Timestamp| to.duration_since(from).as_secs().max(1);
    let lasted = seconds(case.state.since, case.now);
    if lasted < i64::try_from(UNKNOWN.as_secs()).unwrap_or(i64::MAX) {
        return true;
    }
    let whole = seconds(rollout.started_at, after(rollout.started_at, case.plan.deadline));
    let asked = i64::from(rollout.book.asked());
    asked.saturating_mul(whole) / seconds(rollout.started_at, case.now) >= i64::from(words::needed(rollout.book.terms().margin))
}
