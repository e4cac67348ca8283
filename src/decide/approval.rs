//! Steps that a person must approve: which one waits, and which one an order is about.
//!
//! Places are counted as the plan counts its steps, from 0; the place after the last step is all of the traffic. A place that
//! needs an approval is not entered without it, whatever else is well; steps that are one stop by their pods wait together.
//! Deliberately absent: the way back, and a version that comes back. Neither asks anybody.

use super::{Case, barrier, command, stage, step, verdict, words};
use crate::{
    api::command::Action,
    model::{
        decision::{Decision, Reason, Wait},
        phase::{Direction, Rollout, Stage},
        version::Weight,
        world::Command,
    },
};

/// What the rollout stands before, when nothing else keeps it from going on: an approval that nobody has given.
#[must_use]
pub fn awaited(case: &Case<'_>, rollout: &Rollout) -> Option<Reason> {
    // Traffic that was taken off may come back to where it was; that is no step.
    if rollout.suspended.is_some() || stage::over(case, rollout).is_err() {
        return None;
    }
    missing(case, rollout, &step::following(case, rollout)).map(|place| wanted(case, rollout, place))
}

/// The first place on the way to a stage that needs an approval and has none.
#[must_use]
pub fn missing(case: &Case<'_>, rollout: &Rollout, to: &Stage) -> Option<usize> {
    (reached(case, &rollout.stage)..reached(case, to)).find(|place| open(case, rollout, *place))
}

/// How many places a rollout at that stage has entered.
fn reached(case: &Case<'_>, stage: &Stage) -> usize {
    match stage {
        // On its way back it enters nothing any more.
        Stage::Preparing | Stage::Preflight | Stage::RollingBack { .. } => 0,
        Stage::Canary { step } => step + 1,
        Stage::Promoting | Stage::Guarding { .. } | Stage::Finalizing => case.plan.steps.len() + 1,
    }
}

fn open(case: &Case<'_>, rollout: &Rollout, place: usize) -> bool {
    needs(case, rollout, place) && !rollout.approved.contains(&place)
}

fn needs(case: &Case<'_>, rollout: &Rollout, place: usize) -> bool {
    let asked = || match case.plan.steps.get(place) {
        Some(step) => step.approval,
        // Beyond a barrier there is no way back.
        None => place == case.plan.steps.len() && barrier::between(case, &rollout.release, &rollout.from).is_some(),
    };
    rollout.direction == Direction::Forward && asked()
}

fn wanted(case: &Case<'_>, rollout: &Rollout, place: usize) -> Reason {
    Reason::ApprovalRequired {
        delivery: case.seen.delivery.clone(),
        version: verdict::version_of(case, rollout),
        step: place + 1,
        share: match case.plan.steps.get(place) {
            Some(step) if step.testers.is_some() => "testers".to_owned(),
            Some(step) => step.weight.to_string(),
            None => Weight::FULL.to_string(),
        },
    }
}

/// The place that an approval is about.
///
/// # Errors
/// Why it is about none: it comes late, or nothing asks for it.
pub fn about(case: &Case<'_>, rollout: &Rollout, order: &Command) -> Result<usize, String> {
    let here = reached(case, &rollout.stage);
    let Some(step) = order.step else {
        let next = (here..=case.plan.steps.len()).find(|place| open(case, rollout, *place));
        return next.ok_or_else(|| "nothing before it needs an approval".to_owned());
    };
    let place = step.saturating_sub(1);
    match () {
        () if place < here => Err(format!("it has step {step} already")),
        () if !needs(case, rollout, place) => Err(format!("step {step} needs no approval")),
        () if rollout.approved.contains(&place) => Err(format!("step {step} is approved already")),
        () => Ok(place),
    }
}

/// An approval that was given just now: it is stored before anything is done for it.
pub(super) fn given(case: &Case<'_>, rollout: &Rollout) -> Option<Decision> {
    let order = command::pending(case, |action| action == Action::Approve)?;
    let place = about(case, rollout, order).ok()?;
    let mut approved = rollout.clone();
    approved.approved.push(place);
    let mut decision = step::stay(case, &approved, words::of(case, rollout), Wait::Now);
    decision.next.last_command = Some(order.name.clone());
    let (by, why) = command::words(order);
    decision.notes.push(Reason::Approved { version: verdict::version_of(case, rollout), step: place + 1, by, why });
    Some(decision)
}
