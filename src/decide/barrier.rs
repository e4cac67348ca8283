//! A version from which there is no way back by itself: its Release says so.
//!
//! What was migrated for it may be nothing that the version before it can live with. So it gets all of the traffic only after
//! an approval ([`super::approval`]), and once it has traffic no verdict, deadline or newer version takes it back. As long as
//! the old version serves beside it, that one evidently can: a failure takes the traffic off, and halts it. When the old
//! version serves nobody any more, a failure moves nothing. Deliberately unchanged: a failure before it has any traffic, the
//! orders of people, the owner who takes a wish back, and the way out of a Delivery that goes.

use super::{Case, command, judge::book::Book, pin::Side, rollback, size, step, verdict, verdict::Judgement, words};
use crate::{
    api::{command::Action, release::Outcome},
    model::{
        decision::{Decision, Effect, Reason, Wait},
        phase::{Direction, Phase, Rollout, Stage, Why},
        version::ReleaseName,
        world::Release,
    },
};

/// Why there is no way from a Release back to another by itself, if so.
#[must_use]
pub fn between<'a>(case: &Case<'a>, from: &ReleaseName, back: &ReleaseName) -> Option<&'a str> {
    let barrier = behind(case, from)?;
    // A template that the owner changed since is beyond the same barrier.
    let same = behind(case, back).is_some_and(|other| other.name == barrier.name);
    barrier.barrier.as_deref().filter(|_| !same)
}

/// The Release with the barrier that this one is beyond: itself, or the merge whose image it has.
fn behind<'a>(case: &Case<'a>, name: &ReleaseName) -> Option<&'a Release> {
    let release = case.seen.release(name)?;
    Some(release).filter(|r| r.barrier.is_some()).or_else(|| case.seen.merge_of(release)).filter(|r| r.barrier.is_some())
}

fn of<'a>(case: &Case<'a>, rollout: &Rollout) -> Option<&'a str> {
    between(case, &rollout.release, &rollout.from).filter(|_| rollout.direction == Direction::Forward)
}

/// By itself nothing takes this rollout back any more.
#[must_use]
pub fn stands(case: &Case<'_>, rollout: &Rollout) -> bool {
    !matches!(rollout.stage, Stage::Preparing | Stage::Preflight | Stage::RollingBack { .. }) && of(case, rollout).is_some()
}

/// All of the traffic is beyond the barrier: nothing moves it back, for however short a while.
#[must_use]
pub fn passed(case: &Case<'_>, rollout: &Rollout) -> bool {
    matches!(rollout.stage, Stage::Guarding { .. } | Stage::Finalizing) && of(case, rollout).is_some()
}

/// What a failure, or a person's word after it, asks for beyond a barrier.
pub(super) fn next(case: &Case<'_>, rollout: &Rollout, from: &Release, judgement: &Judgement) -> Option<Decision> {
    if !stands(case, rollout) || rollout.stage == Stage::Finalizing {
        return None;
    }
    match judgement {
        _ if rollout.halted.is_some() => anew(case, rollout),
        Judgement::Fail(reason) => Some(halt(case, rollout, from, reason)),
        Judgement::Suspend(_) | Judgement::Recheck(_) | Judgement::Hold(_) | Judgement::Fine => None,
    }
}

/// Stops where it is; its traffic goes to the old version as long as that serves beside it.
fn halt(case: &Case<'_>, rollout: &Rollout, from: &Release, reason: &Reason) -> Decision {
    let beside = !passed(case, rollout);
    let halted = Rollout {
        halted: Some(Why { word: reason.word().to_owned(), says: failure(reason) }),
        suspended: if beside { rollout.suspended.or(Some(case.now)) } else { rollout.suspended },
        ..rollout.clone()
    };
    let says = hold(case, &halted, &Judgement::Fail(reason.clone())).unwrap_or_else(|| reason.clone());
    let mut decision = Decision::stay(&case.state.to(Phase::Rolling(halted.clone()), case.now), says.clone(), Wait::Now);
    if beside {
        decision.effects = size::changed(case, &halted).flat_map(|w| step::moved_to(case, &halted, w, Side::Back(from))).collect();
    }
    decision.effects.push(settled(rollout, Outcome::Halted, &says));
    decision.holds.push(says);
    decision
}

/// What is wrong with it, without the words for a way back that is not taken.
fn failure(reason: &Reason) -> String {
    match reason {
        Reason::CanaryFailed { failure, .. } | Reason::CanaryCrashed { failure, .. } => failure.clone(),
        other => other.to_string(),
    }
}

fn settled(rollout: &Rollout, outcome: Outcome, reason: &Reason) -> Effect {
    rollback::settled(&rollout.release, outcome, reason, Some(rollout.started_at))
}

/// A person wants it to go on: what was seen of it so far counts no more. To promote means the next step, too.
fn anew(case: &Case<'_>, rollout: &Rollout) -> Option<Decision> {
    let order = command::pending(case, |action| matches!(action, Action::Retry | Action::Promote))?;
    let book = Book::begun(rollout.book.terms().clone(), case.now);
    let mut asked = Rollout { book, halted: None, ..rollout.clone() };
    // Whoever said no is asked again.
    asked.sought.retain(|sought| sought.passed);
    let mut decision = Decision::stay(&case.state.to(Phase::Rolling(asked), case.now), words::of(case, rollout), Wait::Now);
    let version = verdict::version_of(case, rollout);
    decision.effects.push(settled(rollout, Outcome::Rolling, &Reason::ReleaseSeen { version }));
    if order.action == Action::Retry {
        decision.next.last_command = Some(order.name.clone());
    }
    Some(decision)
}

/// What keeps it from going on beyond its barrier.
#[must_use]
pub fn hold(case: &Case<'_>, rollout: &Rollout, judgement: &Judgement) -> Option<Reason> {
    let version = verdict::version_of(case, rollout);
    if let Some(why) = &rollout.halted {
        let barrier = of(case, rollout).unwrap_or_default().to_owned();
        return Some(Reason::Halted { version, why: why.says.clone(), barrier });
    }
    let barrier = of(case, rollout).filter(|_| passed(case, rollout))?.to_owned();
    match judgement {
        Judgement::Suspend(failure) | Judgement::Recheck(failure) => Some(Reason::Doubted { version, failure: failure.clone(), barrier }),
        // Both sides are on their way to it: that goes on to its end, and people are told.
        Judgement::Fail(reason) => Some(Reason::Doubted { version, failure: failure(reason), barrier }),
        Judgement::Hold(_) | Judgement::Fine => None,
    }
}
