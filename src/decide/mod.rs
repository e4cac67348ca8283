//! `(Plan, State, Observation, now) -> Decision`: pure and synchronous.

pub mod evidence;

use jiff::Timestamp;

use crate::model::{decision::{Decision, Reason, Wait}, phase::State, plan::Plan, world::Observation};

/// What to do now.
#[must_use]
pub fn decide(_plan: &Plan, state: &State, _seen: &Observation, _now: Timestamp) -> Decision {
    Decision::stay(state, Reason::Serving { version: String::new() }, Wait::Change)
}
