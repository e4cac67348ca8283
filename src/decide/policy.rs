//! What policies say against starting a version: a window that is closed, a cap that is reached.
//!
//! Asked when a version would start, and not of one that has: half-way is no good place to wait for Monday. Never asked on the
//! way back, nor of a version that comes back.

use jiff::Timestamp;

use super::{Case, words};
use crate::model::{
    decision::Reason,
    policy::{self, Policy},
};

/// The reasons not to start now.
#[must_use]
pub fn reasons(case: &Case<'_>) -> Vec<Reason> {
    let closed = policy::closed(&case.seen.policies, case.now).map(|closed| Reason::WindowClosed {
        policy: closed.policy,
        until: closed.until.map_or_else(|| "and at no time within a year".to_owned(), |at| format!("it may from {at} on")),
    });
    let full = case.seen.policies.iter().filter_map(full);
    closed.into_iter().chain(full).collect()
}

/// When a window that is closed opens.
#[must_use]
pub fn until(case: &Case<'_>) -> Option<Timestamp> {
    policy::closed(&case.seen.policies, case.now)?.until
}

fn full(policy: &Policy) -> Option<Reason> {
    let cap = policy.cap.filter(|cap| policy.running.len() >= *cap)?;
    let apps = words::apps(policy.running.iter().flatten(), policy.running.len());
    Some(Reason::CapReached { policy: policy.name.clone(), apps, cap })
}
