//! A rollout on its way up: when does it move on, wait, or turn back?
//!
//! The order of the questions is the policy: a verdict against the canary beats every reason to wait, so that nothing (a
//! freeze, a missing metric, a stable pod that is not ready) can stand between a bad version and the way back.
//!
//! A pass either brings the world to what the stage asks for, or moves on to the next stage; the new stage is stored
//! before anything is done for it. Only the way back and a suspension act first and store afterwards.

use super::{
    Case, approval, barrier, before, candidate, command, cron_jobs, external, hold, in_place,
    judge::{self, book::Book, probes::ProbeTerms},
    pin,
    pin::Side,
    rollback, room, route, size, stable,
    stable::Resumed,
    stage, suites,
    terms::Requests,
    verdict::{self, Judgement},
    words,
};
use crate::{
    api::{
        command::Action,
        delivery::{Capacity, OnDeadline},
        release::{OriginType, Outcome},
    },
    model::{
        decision::{Decision, Effect, Reason, Wait},
        phase::{Direction, Phase, Rollout, Stage, State, after},
        world::{Pin, Release, Service, Workload},
    },
};

/// The next move of a rollout.
#[must_use]
pub fn next(case: &Case<'_>, stored: &Rollout) -> Decision {
    let rollout = Rollout { book: learnt(case, &stored.book), ..stored.clone() };
    let mut decision = answer(case, &rollout);
    decision.effects.extend(unpinned(case));
    decision.holds.extend(hold::missing(case).filter(|missing| !decision.holds.contains(missing)));
    decision
}

/// The book with what was seen since: each way of a probe has its own place in it.
fn learnt(case: &Case<'_>, book: &Book) -> Book {
    let probes = &case.seen.probes;
    let by_route = probes.by_route.iter().filter_map(|way| {
        let of = probes.voting.iter().find(|terms| terms.name == way.probe)?;
        Some(ProbeTerms { name: judge::probes::by_route(&way.probe), ..of.clone() })
    });
    let by_route: Vec<ProbeTerms> = by_route.collect();
    book.admitting(probes.voting.iter().chain(&by_route)).with(&probes.samples)
}

/// A Deployment was deleted in mid-rollout. Its canary serves on alone; a pin to pods that are gone comes off at once.
fn unpinned(case: &Case<'_>) -> impl Iterator<Item = Effect> {
    let gone = |s: &&Service| case.seen.workload(&s.workload).is_none() && matches!(s.pin, Pin::Stable(_));
    case.seen.services.iter().filter(gone).map(|s| Effect::PinService { service: s.name.clone(), pin: Pin::Off })
}

/// The questions, in the order that is the policy.
fn answer(case: &Case<'_>, rollout: &Rollout) -> Decision {
    if let Stage::RollingBack { .. } = rollout.stage {
        return rollback::next(case, rollout);
    }
    let judgement = verdict::judge(case, rollout);
    if let Judgement::Fail(reason) = &judgement
        && !barrier::stands(case, rollout)
    {
        return rollback::begin(case, rollout, Outcome::RolledBack, reason.clone());
    }
    if let Some(back) = called_back(case, rollout) {
        return back;
    }
    let (Some(to), Some(from)) = (with_templates(case, &rollout.release), with_templates(case, &rollout.from)) else {
        let mut lost = stay(case, rollout, Reason::TemplateLost { release: rollout.release.to_string() }, Wait::Change);
        lost.effects = queued(case);
        if !lost.effects.is_empty() {
            lost.wait = Wait::Now;
        }
        return lost;
    };
    if let Some(decision) = barrier::next(case, rollout, from, &judgement) {
        return decision;
    }
    if let Judgement::Suspend(failure) = &judgement
        && rollout.suspended.is_none()
        && rollout.stage != Stage::Finalizing
        && !barrier::passed(case, rollout)
    {
        return suspend(case, rollout, failure.clone());
    }
    if let Judgement::Recheck(jump) = &judgement
        && let Stage::Guarding { .. } = rollout.stage
        && !barrier::passed(case, rollout)
    {
        return recheck(case, rollout, jump.clone());
    }
    if let Some(approved) = approval::given(case, rollout) {
        return approved;
    }
    if let Some(asked) = external::next(case, rollout) {
        return asked;
    }
    let mut holds = held(case, rollout);
    holds.extend(barrier::hold(case, rollout, &judgement).or_else(|| approval::awaited(case, rollout)));
    holds.extend(external::awaited(case, rollout));
    if let Judgement::Hold(reason) = &judgement {
        holds.push(reason.clone());
    }
    if let Some(Requests::TooFew(reason)) = stage::waits_for_requests(case, rollout) {
        holds.push(reason);
    }
    if let Some(reason) = superseding(case, rollout, &holds, &judgement) {
        return rollback::begin(case, rollout, Outcome::Superseded, reason);
    }
    if let Some(decision) = overdue(case, rollout, &holds) {
        return decision;
    }
    if rollout.in_place() {
        return in_place::next(case, rollout, (to, from), &holds);
    }
    if let Some(lacking) = room::lacking(case, rollout) {
        return room::made(case, rollout, from, lacking, holds);
    }
    if rollout.stage == Stage::Finalizing {
        return super::home::finalize(case, rollout, to, &holds);
    }
    up(case, rollout, (to, from), holds, &judgement)
}

fn with_templates<'a>(case: &Case<'a>, name: &crate::model::version::ReleaseName) -> Option<&'a Release> {
    case.seen.release(name).filter(|r| r.templates.is_some())
}

/// People or the owner want it back.
fn called_back(case: &Case<'_>, rollout: &Rollout) -> Option<Decision> {
    let version = verdict::version_of(case, rollout);
    if let Some(order) = command::pending(case, |action| matches!(action, Action::Abort | Action::Rollback)) {
        let (by, why) = command::words(order);
        let (outcome, reason) = match order.action {
            Action::Rollback => (Outcome::RolledBack, Reason::RolledBackBy { version, by, why }),
            Action::Abort | Action::Promote | Action::Retry | Action::Adopt | Action::Approve => {
                (Outcome::Undecided, Reason::Aborted { version, by, why })
            }
        };
        let mut decision = rollback::begin(case, rollout, outcome, reason);
        decision.next.last_command = Some(order.name.clone());
        return Some(decision);
    }
    let wish = candidate::wish(case)?;
    let back = case.seen.release(&rollout.from).is_some_and(|from| from.identity.as_ref() == Some(&wish.identity));
    let withdrawn = rollout.direction == Direction::Forward && rollout.stage != Stage::Finalizing && back;
    withdrawn.then(|| {
        let live = verdict::called(case, &rollout.from);
        rollback::begin(case, rollout, Outcome::Superseded, Reason::Withdrawn { version, live })
    })
}

/// Reasons not to move forward. A version that comes back is held by nobody, and by nothing that is wrong with the set-up.
fn held(case: &Case<'_>, rollout: &Rollout) -> Vec<Reason> {
    let mut holds = match rollout.direction {
        Direction::Forward => {
            let away = hold::away(case);
            let reasons = hold::reasons(case, Some(&rollout.release)).into_iter();
            let reasons = reasons.chain(away).chain(hold::unswitchable(case)).chain(route::reasons(case));
            reasons.chain(hold::unlike(case)).chain(suites::awaited(case, rollout)).collect()
        }
        Direction::Return(_) => Vec::new(),
    };
    holds.extend(hold::missing(case).filter(|missing| !holds.contains(missing)));
    holds
}

/// Why a newer version takes the place of the one on its way: it takes that one back, or that one is held or failing, and the newer
/// one may be the mend.
fn superseding(case: &Case<'_>, rollout: &Rollout, holds: &[Reason], judgement: &Judgement) -> Option<Reason> {
    // What has its traffic off already can make room for its mend, also beyond a barrier.
    if rollout.stage == Stage::Finalizing || (barrier::stands(case, rollout) && rollout.suspended.is_none()) {
        return None;
    }
    let newer = candidate::waiting(case, rollout)?;
    let here = case.seen.release(&rollout.release);
    let (version, by) = (verdict::version_of(case, rollout), newer.version.clone());
    if rollout.direction == Direction::Forward && here.is_some_and(|here| newer.takes_back(here)) {
        return Some(Reason::Reverted { version, by });
    }
    let early = matches!(rollout.stage, Stage::Preparing | Stage::Preflight | Stage::Canary { .. } | Stage::Promoting);
    // A probe that its own file names and that cannot be asked: the next commit may mend that.
    let own = here.and_then(|here| here.config.as_ref()).map(|config| config.probes.as_slice()).unwrap_or_default();
    let unasked = case.seen.problems.iter().filter_map(Reason::probe).any(|probe| own.iter().any(|named| named == probe));
    let awaits = holds.iter().any(|hold| hold.waits_for().is_some() || matches!(hold, Reason::ExternalWaits { .. }));
    let stopped = rollout.suspended.is_some()
        || matches!(judgement, Judgement::Hold(_))
        || hold::of_its_own(case, &rollout.release)
        || unasked
        || awaits;
    let yields = early && stopped && !(holds.is_empty() && rollout.suspended.is_none());
    yields.then_some(Reason::Superseded { version, by })
}

fn suspend(case: &Case<'_>, rollout: &Rollout, failure: String) -> Decision {
    let reason = Reason::Suspended { version: verdict::version_of(case, rollout), failure };
    let suspended = Rollout { suspended: Some(case.now), ..rollout.clone() };
    let mut decision = stay(case, &suspended, reason, Wait::Poll);
    if let Some(from) = with_templates(case, &rollout.from) {
        decision.effects = size::changed(case, &suspended).flat_map(|w| moved_to(case, &suspended, w, Side::Back(from))).collect();
    }
    decision
}

/// Errors jumped under all of the traffic: it is compared once more, at the first share, and the same book goes on. Nothing is taken back by
/// that. Its pods stay, so that it gets everything back in one write; and where few meet it, each of its failures says more.
fn recheck(case: &Case<'_>, rollout: &Rollout, jump: String) -> Decision {
    let stage = size::first_share(case, rollout).map_or(Stage::Promoting, |step| Stage::Canary { step });
    let mut decision = enter(case, rollout, stage);
    decision.notes.push(Reason::ErrorsJumped { version: verdict::version_of(case, rollout), jump });
    decision
}

/// The deadline has passed before all of the traffic had moved.
fn overdue(case: &Case<'_>, rollout: &Rollout, holds: &[Reason]) -> Option<Decision> {
    let counts = matches!(rollout.stage, Stage::Preparing | Stage::Preflight | Stage::Canary { .. } | Stage::Promoting);
    let late = after(rollout.started_at, case.plan.deadline) <= case.now;
    // A question about what had all of the traffic costs minutes and takes nothing back.
    if !counts
        || rollout.asked_again()
        || !late
        || rollout.direction != Direction::Forward
        || case.plan.on_deadline == OnDeadline::Hold
        || barrier::stands(case, rollout)
    {
        return None;
    }
    let waited_for = holds.first().map_or_else(|| rollout.stage.label().to_owned(), ToString::to_string);
    let reason = Reason::DeadlineExceeded { version: verdict::version_of(case, rollout), waited_for };
    Some(rollback::begin(case, rollout, Outcome::Undecided, reason))
}

/// What runs before, Preflight, steps, growing, guarding: bring the world to the stage, then look whether the stage is over.
fn up(case: &Case<'_>, rollout: &Rollout, (to, from): (&Release, &Release), mut holds: Vec<Reason>, judgement: &Judgement) -> Decision {
    let standing = stable::keep_all(case, from, Resumed::Respected, false);
    holds.extend(standing.hold.clone());
    let recovered = rollout.suspended.is_some() && *judgement == Judgement::Fine && holds.is_empty();
    let mut decision = if recovered && standing.effects.is_empty() {
        resume(case, rollout)
    } else {
        let mut effects = standing.effects.clone();
        effects.extend(match rollout.stage {
            Stage::Preparing => before::made(case, rollout, to, &holds),
            Stage::Preflight if external::bars(case, rollout) => Vec::new(),
            _ => arrange(case, rollout, to, from),
        });
        effects.extend(queued(case));
        if effects.is_empty() {
            onward(case, rollout, &holds)
        } else {
            let mut decision = stay(case, rollout, words::of(case, rollout), Wait::Now);
            decision.notes.extend(route::told(case, &effects));
            decision.effects = effects;
            decision
        }
    };
    decision.notes.extend(standing.note);
    if let Some(hold) = holds.first() {
        decision.reason = hold.clone();
    }
    if rollout.suspended.is_some() && !recovered && rollout.halted.is_none() {
        let failure = rollout.book.said().unwrap_or_default().to_owned();
        decision.reason = Reason::Suspended { version: verdict::version_of(case, rollout), failure };
    }
    decision.holds = holds;
    decision
}

/// A newer wish becomes a Release while it waits its turn: it may be the mend of what is held here.
fn queued(case: &Case<'_>) -> Vec<Effect> {
    candidate::wish(case).map(|wish| wish.record(case, OriginType::Workload)).unwrap_or_default()
}

fn resume(case: &Case<'_>, rollout: &Rollout) -> Decision {
    let stage = match &rollout.stage {
        Stage::Guarding { .. } => Stage::Guarding { until: after(case.now, case.plan.guard) },
        other => other.clone(),
    };
    enter(case, &Rollout { suspended: None, ..rollout.clone() }, stage)
}

/// The side that the Services of a workload reach at the stage. By routes a new version gets its share there alone, and whoever
/// calls a Service by its name stays on stable until stable is the new version.
pub(super) fn side<'a>(case: &Case<'_>, rollout: &Rollout, workload: &Workload, from: &'a Release) -> Side<'a> {
    match &rollout.stage {
        _ if rollout.suspended.is_some() => Side::Back(from),
        Stage::Preflight => Side::Stable(from),
        Stage::Canary { .. } | Stage::Promoting | Stage::Guarding { .. }
            if rollout.direction == Direction::Forward && route::leads(case, workload) =>
        {
            Side::Stable(from)
        }
        Stage::Guarding { .. } if stage::weak(case, rollout) => Side::Both,
        Stage::Guarding { .. } => Side::Canary,
        Stage::Preparing | Stage::Canary { .. } | Stage::Promoting | Stage::Finalizing | Stage::RollingBack { .. } => Side::Both,
    }
}

/// The writes that move the traffic of a workload to where it belongs at the stage: they are carried out at once.
pub(super) fn moved_to(case: &Case<'_>, rollout: &Rollout, workload: &Workload, side: Side<'_>) -> Vec<Effect> {
    let routes = route::writes(case, workload, &route::up(case, rollout, workload));
    routes.into_iter().chain(pin::writes(case, workload, side)).collect()
}

/// The writes that the stage asks for and the world does not show yet.
fn arrange(case: &Case<'_>, rollout: &Rollout, to: &Release, from: &Release) -> Vec<Effect> {
    let moves = |w| moved_to(case, rollout, w, side(case, rollout, w, from));
    let mut effects: Vec<Effect> = size::changed(case, rollout).flat_map(moves).collect();
    effects.extend(size::changed(case, rollout).filter_map(|w| route::fronted(case, w)));
    if hold::missing(case).is_some() {
        // Who starts when, and with how many pods, cannot be said without all of them.
        return effects;
    }
    for workload in size::changed(case, rollout) {
        let side = side(case, rollout, workload, from);
        // A canary that cannot be kept apart from the users' traffic has no pods, unless nothing else serves: then it may be
        // the mend, and there is no traffic to keep it from.
        let apart = rollout.stage != Stage::Preflight || !size::routed(case, workload) || pin::keeps_apart(case, workload, side);
        let replicas = if apart || !serves(workload) { size::pods(case, rollout, workload, &rollout.stage) } else { 0 };
        effects.extend(canary(workload, to, replicas));
    }
    effects
}

/// Stable has a ready pod.
fn serves(workload: &Workload) -> bool {
    workload.pods.iter().any(|p| p.ready_since.is_some())
}

/// The write that gives a workload's canary its size.
fn canary(workload: &Workload, to: &Release, replicas: u32) -> Option<Effect> {
    let name = workload.name.clone();
    match &workload.canary {
        None if replicas == 0 || workload.canary_left > 0 => None,
        None => {
            let template = to.templates.as_ref()?.get(&name)?.clone();
            Some(Effect::CreateCanary { workload: name, release: to.name.clone(), template, replicas })
        }
        Some(canary) if canary.deleting => None,
        Some(canary) if canary.release.as_ref() != Some(&to.name) => Some(Effect::DeleteCanary { workload: name }),
        Some(canary) if canary.wanted != replicas => Some(Effect::ScaleCanary { workload: name, replicas }),
        Some(_) => None,
    }
}

/// The world is as the stage asks for: is the stage over?
fn onward(case: &Case<'_>, rollout: &Rollout, holds: &[Reason]) -> Decision {
    let wait = |wait| stay(case, rollout, words::of(case, rollout), wait);
    if rollout.stage == Stage::Preparing {
        return before::onward(case, rollout, holds);
    }
    if let Stage::Guarding { .. } = rollout.stage
        && stage::weak(case, rollout)
    {
        // The canary lost pods (a drain may evict all that serve): both sides match again until it is whole.
        return enter(case, rollout, Stage::Promoting);
    }
    match stage::over(case, rollout) {
        Err(Wait::Until(at)) if rollout.suspended.is_none() && holds.is_empty() => wait(Wait::Until(at)),
        Ok(order) if rollout.suspended.is_none() && holds.is_empty() => {
            let mut decision = enter(case, rollout, following(case, rollout));
            decision.notes.extend(stage::hurried(case, rollout));
            if rollout.stage == Stage::Preflight {
                decision.notes.extend(route::untested(case, rollout));
                decision.notes.extend(route::unasked(case, rollout));
                decision.notes.extend(size::cut(case, rollout));
                decision.notes.extend(case.seen.release(&rollout.from).into_iter().flat_map(|from| cron_jobs::differing(case, from)));
            }
            if let Some(order) = order {
                decision.next.last_command = Some(order.name.clone());
            }
            decision
        }
        Ok(_) | Err(_) => {
            let mut decision = wait(Wait::Poll);
            if let Some(Requests::Gathering(reason)) = stage::waits_for_requests(case, rollout) {
                decision.reason = reason;
            }
            decision
        }
    }
}

/// The stage after this one.
pub(super) fn following(case: &Case<'_>, rollout: &Rollout) -> Stage {
    let full = || {
        let grown =
            size::changed(case, rollout).all(|w| w.canary.as_ref().is_some_and(|c| c.wanted >= w.replicas && c.ready() >= w.replicas));
        if rollout.capacity == Capacity::Small {
            Stage::Finalizing
        } else if grown {
            Stage::Guarding { until: after(case.now, stage::guard(case, rollout)) }
        } else {
            Stage::Promoting
        }
    };
    match &rollout.stage {
        Stage::Preparing => Stage::Preflight,
        Stage::Preflight if rollout.direction != Direction::Forward => full(),
        Stage::Preflight => size::first(case, rollout).map_or_else(full, |step| Stage::Canary { step }),
        // It has had all of the traffic already.
        Stage::Canary { .. } if rollout.asked_again() => full(),
        Stage::Canary { step } => size::after(case, rollout, *step).map_or_else(full, |step| Stage::Canary { step }),
        Stage::Promoting => Stage::Guarding { until: after(case.now, stage::guard(case, rollout)) },
        Stage::Guarding { .. } | Stage::Finalizing => Stage::Finalizing,
        back @ Stage::RollingBack { .. } => back.clone(),
    }
}

/// Stores the next stage; the pass after this one acts on it.
pub(super) fn enter(case: &Case<'_>, rollout: &Rollout, stage: Stage) -> Decision {
    let whole = matches!(stage, Stage::Guarding { .. });
    let rollout = Rollout { book: rollout.book.next_stage(whole), stage, ..rollout.clone() };
    let next = case.state.to(Phase::Rolling(rollout.clone()), case.now);
    Decision::stay(&next, words::of(case, &rollout), Wait::Now)
}

/// Stays at the stage, the book as it is now.
pub(super) fn stay(case: &Case<'_>, rollout: &Rollout, reason: Reason, wait: Wait) -> Decision {
    let next = State { phase: Phase::Rolling(rollout.clone()), ..case.state.clone() };
    Decision::stay(&next, reason, wait)
}
