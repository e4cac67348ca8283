//! `(Plan, State, Observation, now) -> Decision`: pure and synchronous.
//!
//! The order of the questions is the policy. What must never wait (a terminating namespace, the way back) is asked before
//! what may (holds, bakes). Every answer carries its reason. Absent on purpose: clients, clocks, randomness, async, and
//! the types of Kubernetes; `now` is an argument.

pub mod approval;
pub mod barrier;
pub mod before;
pub mod candidate;
pub mod check;
pub mod command;
pub mod cron_jobs;
pub mod external;
pub mod health;
pub mod hold;
pub mod home;
pub mod in_place;
pub mod judge;
pub mod leave;
pub mod observed;
pub mod pin;
pub mod policy;
pub mod queries;
pub mod rest;
pub mod rollback;
pub mod room;
pub mod route;
pub mod shared;
pub mod size;
pub mod source;
pub mod stable;
pub mod stage;
pub mod step;
pub mod suites;
pub mod terms;
pub mod verdict;
pub mod words;

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    api::delivery::Mode,
    model::{
        decision::{Decision, Effect, Reason, Wait},
        phase::{Phase, State, after},
        plan::Plan,
        world::{Observation, Pin},
    },
};

/// How soon a set-up that is wrong is looked at again: a person who has just mended it should not wait long, and 10 reads
/// in that time cost next to nothing.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// What one decision is about. Borrowed, so that every rule may look at all of it and change none of it.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// What the owner asked for.
    pub plan: &'a Plan,
    /// Where the delivery stands.
    pub state: &'a State,
    /// The world around it.
    pub seen: &'a Observation,
    /// The time of the decision.
    pub now: Timestamp,
}

/// What to do now.
#[must_use]
pub fn decide(plan: &Plan, state: &State, seen: &Observation, now: Timestamp) -> Decision {
    let plan = plan.with(seen.config(state));
    let case = Case { plan: &plan, state, seen, now };
    let barred = seen.problems.iter().find(|p| matches!(p, Reason::NotGranted { .. }));
    let stands = !(seen.namespace_terminating || seen.deleting) && barred.is_none();
    let decision = if seen.namespace_terminating || seen.deleting {
        leave::next(&case)
    } else if let Some(barred) = barred {
        blind(&case, barred)
    } else if plan.mode == Mode::Observe {
        observed::next(&case)
    } else {
        match &state.phase {
            Phase::Adopting => rest::adopt(&case),
            Phase::Live | Phase::RolledBack { .. } => rest::next(&case),
            Phase::Rolling(rollout) => step::next(&case, rollout),
        }
    };
    let decision = if stands && plan.mode == Mode::Deliver { source::with_merges(&case, decision) } else { decision };
    let mut decision = health::told(&case, command::acknowledged(&case, mended_unseen(&case, decision)));
    // The write that cannot hurt goes first: another that is refused must not keep a Service on pods that are gone.
    decision.effects.sort_by_key(|effect| !matches!(effect, Effect::PinService { pin: Pin::Off, .. }));
    decision.next.ungated = decision.holds.iter().any(|hold| matches!(hold, Reason::Ungated { .. }));
    decision
}

/// The namespace takes its opt-in back, or has not given it yet: nothing of the app was read, so nothing that is missing
/// there says anything. All stays as it is stored.
fn blind(case: &Case<'_>, barred: &Reason) -> Decision {
    let mut decision = Decision::stay(case.state, barred.clone(), Wait::Change);
    decision.holds.clone_from(&case.seen.problems);
    decision
}

/// What keeps it from moving may be mended where nobody tells us: a right, a `ConfigMap`, a volume claim, another Delivery
/// that goes. What people hold, they lift before our eyes, and what forges and registries say we are told.
fn mended_unseen(case: &Case<'_>, mut decision: Decision) -> Decision {
    let told = |hold: &Reason| {
        // That a place is free is told to nobody, nor that an app that failed has gone.
        let untold = matches!(hold, Reason::CapReached { .. } | Reason::SharedCause { .. });
        (hold.passes() && !untold)
            || matches!(
                hold,
                Reason::SourceSilent { .. }
                    | Reason::SourceUnread { .. }
                    | Reason::RepositoryRenamed { .. }
                    | Reason::ReleaseRefused { .. }
                    | Reason::ImageRefused { .. }
            )
    };
    if decision.holds.iter().any(|hold| !told(hold)) {
        decision.wait = decision.wait.sooner(Wait::Until(after(case.now, LOOK_AGAIN)));
    }
    decision
}

#[cfg(test)]
mod tests;
