//! Several apps fail at once: then the cause may be what they share, and no version should go on into it.
//!
//! It holds what moves forward, ends by itself when no further ones fail, and is never asked on the way back.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;

use super::{Case, words};
use crate::model::{decision::Reason, phase::after, world::Troubled};

/// What counts as at once. Probes ask every 15 s by default, and two failing pairs suspend: what goes down for all is seen by
/// all within 30 s; four times that leaves room for slower probes.
pub const WITHIN: Duration = Duration::from_mins(2);
/// How many apps. Where 100 versions an hour go out and one in twenty is bad, 0.17 fail by themselves in two minutes, and three
/// of them in one of a thousand such times (0.17³ / 6): once in a day and a half, and then all wait for two minutes.
pub const APPS: usize = 3;

/// The apps that fail at once, as the reason why nothing moves forward.
#[must_use]
pub fn cause(case: &Case<'_>) -> Option<Reason> {
    let recent = recent(case);
    let apps: BTreeSet<&str> = recent.iter().map(|troubled| troubled.app.as_str()).collect();
    if apps.len() < APPS {
        return None;
    }
    let here: BTreeSet<&String> = recent.iter().filter_map(|troubled| troubled.name.as_ref()).collect();
    Some(Reason::SharedCause { count: apps.len(), apps: words::apps(here, apps.len()), minutes: WITHIN.as_secs() / 60 })
}

/// When it ends, if no further app fails.
#[must_use]
pub fn until(case: &Case<'_>) -> Option<Timestamp> {
    cause(case)?;
    let mut latest = std::collections::BTreeMap::new();
    for troubled in recent(case) {
        let at = latest.entry(troubled.app.as_str()).or_insert(troubled.at);
        *at = troubled.at.max(*at);
    }
    let mut ends: Vec<Timestamp> = latest.into_values().collect();
    ends.sort();
    // With the one that is this far from the end, too few are left.
    ends.len().checked_sub(APPS).and_then(|at| ends.get(at)).map(|at| after(*at, WITHIN))
}

fn recent<'a>(case: &Case<'a>) -> Vec<&'a Troubled> {
    case.seen.troubled.iter().filter(|troubled| after(troubled.at, WITHIN) > case.now).collect()
}
