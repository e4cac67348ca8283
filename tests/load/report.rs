//! What a run found, as JSON for the tests and as text for people. Times are Unix µs, spans µs.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::clock::readable;
use crate::ledger::Failures;
use crate::outcome::{Kind, Outcome};
use crate::schedule::Ran;

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) begun_us: i64,
    pub(crate) ended_us: i64,
    /// Requests that were sent, or failed to be; a repeated one counts once.
    pub(crate) requests: u64,
    pub(crate) ok: u64,
    pub(crate) failed: u64,
    /// `http_500`, `refused`, `reset`, `eof`, `timeout`, `other` → version → count.
    pub(crate) failures: Failures,
    /// Requests that met a connection which the server was closing, and were repeated on a new one.
    pub(crate) reconnects: u64,
    /// Connections opened by keep-alive clients, the first of each included.
    pub(crate) keepalive_connects: u64,
    #[serde(flatten)]
    pub(crate) ran: Ran,
    /// Of every request that was answered, with whatever status.
    pub(crate) latency: Latency,
    pub(crate) longest_gap: Gap,
    pub(crate) versions: BTreeMap<String, VersionReport>,
    /// What the first failure of class `other` was.
    pub(crate) first_other: Option<String>,
}

/// By nearest rank, so that each value was really measured.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Latency {
    pub(crate) answers: usize,
    pub(crate) min_us: u32,
    pub(crate) median_us: u32,
    pub(crate) p99_us: u32,
    pub(crate) max_us: u32,
}

impl Latency {
    pub(crate) fn of(mut all: Vec<u32>) -> Self {
        all.sort_unstable();
        let answers = all.len();
        let rank = |percent: usize| all.get((answers * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default();
        Self { answers, min_us: rank(0), median_us: rank(50), p99_us: rank(99), max_us: rank(100) }
    }
}

/// The longest time in which no good answer came.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Gap {
    pub(crate) us: i64,
    pub(crate) from_us: i64,
}

impl Gap {
    pub(crate) fn longer(self, from_us: i64, until_us: i64) -> Self {
        let us = until_us.saturating_sub(from_us);
        if us > self.us { Self { us, from_us } } else { self }
    }
}

/// What one version answered.
#[derive(Debug, Default, Clone, Serialize)]
pub(crate) struct VersionReport {
    pub(crate) all: Answered,
    /// Fresh connections alone: keep-alive ones stay with a pod for as long as it lives.
    pub(crate) fresh: Answered,
}

/// First and last are the times at which the answered requests started.
#[derive(Debug, Default, Clone, Serialize)]
pub(crate) struct Answered {
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    pub(crate) first_us: Option<i64>,
    pub(crate) last_us: Option<i64>,
    /// The first request that failed.
    pub(crate) first_failed_us: Option<i64>,
}

impl VersionReport {
    pub(crate) fn enter(&mut self, outcome: &Outcome, failed: bool) {
        self.all.enter(outcome.start_us, failed);
        if outcome.kind == Kind::Fresh {
            self.fresh.enter(outcome.start_us, failed);
        }
    }
}

impl Answered {
    fn enter(&mut self, start_us: i64, failed: bool) {
        self.requests += 1;
        self.failed += u64::from(failed);
        self.first_us = Some(self.first_us.map_or(start_us, |first| first.min(start_us)));
        self.last_us = self.last_us.max(Some(start_us));
        if failed {
            self.first_failed_us = Some(self.first_failed_us.map_or(start_us, |first| first.min(start_us)));
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = Millis(self.ended_us.saturating_sub(self.begun_us) / 1000);
        writeln!(f, "requests {} ok {} failed {} in {seconds} s", self.requests, self.ok, self.failed)?;
        for (class, by_version) in &self.failures {
            let versions: Vec<_> = by_version.iter().map(|(version, count)| format!("{version}={count}")).collect();
            writeln!(f, "failed {class} {}", versions.join(" "))?;
        }
        if let Some(what) = &self.first_other {
            writeln!(f, "first of other: {what}")?;
        }
        writeln!(f, "reconnects {} keepalive-connects {}", self.reconnects, self.keepalive_connects)?;
        writeln!(
            f,
            "skipped {} latest-start {} ms",
            self.ran.skipped,
            Millis(i64::try_from(self.ran.latest_start_us).unwrap_or(i64::MAX))
        )?;
        let ms = |us: u32| Millis(i64::from(us));
        let Latency { answers, min_us, median_us, p99_us, max_us } = self.latency;
        let (min, median, p99, max) = (ms(min_us), ms(median_us), ms(p99_us), ms(max_us));
        writeln!(f, "latency ms min {min} median {median} p99 {p99} max {max} of {answers}")?;
        writeln!(f, "longest time without a good answer {} ms from {}", Millis(self.longest_gap.us), readable(self.longest_gap.from_us))?;
        for (name, version) in &self.versions {
            writeln!(f, "version {name} all {}", version.all)?;
            writeln!(f, "version {name} fresh {}", version.fresh)?;
        }
        Ok(())
    }
}

impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |at: Option<i64>| at.map_or_else(|| "-".to_owned(), readable);
        write!(f, "requests {} failed {} first {} last {}", self.requests, self.failed, time(self.first_us), time(self.last_us))
    }
}

/// Thousandths, written with their point.
struct Millis(i64);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_measured_values() {
        let latency = Latency::of((1..=200).rev().collect());
        assert_eq!(latency, Latency { answers: 200, min_us: 1, median_us: 100, p99_us: 198, max_us: 200 });
        assert_eq!(Latency::of(vec![]), Latency::default());
    }
}
