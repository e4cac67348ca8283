//! A suite that a version needs and that is not started now holds the version, and says until when.
//!
//! It need not be waited for where it has passed in this rollout already. Deliberately absent: the way back, which asks no suite.

use super::Case;
use crate::model::{
    decision::Reason,
    phase::Rollout,
    world::{NotStarted, Probes},
};

/// The suites that this version waits for, and why they do not run.
pub(super) fn awaited<'a>(case: &Case<'a>, rollout: &'a Rollout) -> impl Iterator<Item = Reason> + use<'a> {
    let probes: &'a Probes = &case.seen.probes;
    let votes = |name: &str| probes.voting.iter().any(|probe| probe.name == name);
    let needed = move |name: &str| votes(name) && rollout.book.good_of_each([name]) == 0;
    probes.not_started.iter().filter(move |(probe, _)| needed(probe)).map(|(probe, why)| {
        let probe = probe.clone();
        match why {
            NotStarted::Quiet { until: Some(until) } => Reason::SuiteQuiet { probe, until: format!("until {until}") },
            NotStarted::Quiet { until: None } => Reason::SuiteQuiet { probe, until: "and there is no time at which it is".to_owned() },
            NotStarted::Full { most } => Reason::SuiteQueued { probe, most: *most },
            NotStarted::Loaded { sends, most } if sends > most => Reason::LoadTooMuch { probe, sends: *sends, most: *most },
            NotStarted::Loaded { most, .. } => Reason::LoadQueued { probe, most: *most },
        }
    })
}
