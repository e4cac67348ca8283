//! Counting. Every answer is entered once; what is asked of the sums stands in `report.rs`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::clock::readable;
use crate::outcome::{End, Kind, Outcome};
use crate::report::{Gap, Latency, Report, VersionReport};
use crate::schedule::Ran;

/// Failures of one class, by the version that answered (`-` where nobody did).
pub(crate) type Failures = BTreeMap<String, BTreeMap<String, u64>>;

/// The sums of a run: 4 bytes for each answer's latency, a few maps by class and version.
pub(crate) struct Ledger {
    begun_us: i64,
    requests: u64,
    failed: u64,
    failures: Failures,
    reconnects: u64,
    keepalive_connects: u64,
    latencies_us: Vec<u32>,
    versions: BTreeMap<String, VersionReport>,
    last_good_us: i64,
    gap: Gap,
    first_other: Option<String>,
    second: Second,
}

/// The second that is running.
#[derive(Default)]
struct Second {
    requests: u64,
    failures: BTreeMap<String, u64>,
    versions: BTreeMap<String, u64>,
    latencies_us: Vec<u32>,
}

impl Ledger {
    pub(crate) fn new(begun_us: i64) -> Self {
        Self {
            begun_us,
            requests: 0,
            failed: 0,
            failures: Failures::new(),
            reconnects: 0,
            keepalive_connects: 0,
            latencies_us: Vec::new(),
            versions: BTreeMap::new(),
            last_good_us: begun_us,
            gap: Gap::default(),
            first_other: None,
            second: Second::default(),
        }
    }

    pub(crate) fn record(&mut self, outcome: &Outcome) {
        let failed = outcome.failed();
        self.requests += 1;
        self.second.requests += 1;
        self.reconnects += u64::from(outcome.reconnect);
        self.keepalive_connects += u64::from(outcome.kind == Kind::Keepalive && outcome.connect_us > 0);
        if failed {
            self.fail(outcome);
        } else {
            self.good_at(outcome.start_us.saturating_add(i64::from(outcome.total_us)));
        }
        if let End::Status(_) = outcome.end {
            self.latencies_us.push(outcome.total_us);
            self.second.latencies_us.push(outcome.total_us);
        }
        if let Some(version) = &outcome.version {
            self.versions.entry(version.clone()).or_default().enter(outcome, failed);
            *self.second.versions.entry(version.clone()).or_default() += 1;
        }
    }

    fn fail(&mut self, outcome: &Outcome) {
        let class = match outcome.end {
            End::Status(code) => format!("http_{code}"),
            End::Error(_) => outcome.end.to_string(),
        };
        let version = outcome.version.clone().unwrap_or_else(|| "-".to_owned());
        self.failed += 1;
        *self.second.failures.entry(class.clone()).or_default() += 1;
        *self.failures.entry(class).or_default().entry(version).or_default() += 1;
        if self.first_other.is_none() {
            self.first_other.clone_from(&outcome.detail);
        }
    }

    fn good_at(&mut self, now_us: i64) {
        self.gap = self.gap.longer(self.last_good_us, now_us);
        self.last_good_us = self.last_good_us.max(now_us);
    }

    /// The line of the second that is over, and a new second.
    pub(crate) fn close_second(&mut self, now_us: i64) -> String {
        let Second { requests, failures, versions, latencies_us } = std::mem::take(&mut self.second);
        let latency = Latency::of(latencies_us);
        let failed: u64 = failures.values().sum();
        let (median, max) = (latency.median_us, latency.max_us);
        format!(
            "{} requests={requests} failed={failed}{} median={median}us max={max}us{}",
            readable(now_us),
            pairs(&failures),
            pairs(&versions)
        )
    }

    /// The sums, now that everything is over.
    pub(crate) fn report(mut self, now_us: i64, ran: Ran) -> Report {
        // A silence at the end is one, too.
        self.gap = self.gap.longer(self.last_good_us, now_us);
        Report {
            begun_us: self.begun_us,
            ended_us: now_us,
            requests: self.requests,
            ok: self.requests.saturating_sub(self.failed),
            failed: self.failed,
            failures: self.failures,
            reconnects: self.reconnects,
            keepalive_connects: self.keepalive_connects,
            ran,
            latency: Latency::of(self.latencies_us),
            longest_gap: self.gap,
            versions: self.versions,
            first_other: self.first_other,
        }
    }
}

fn pairs(counts: &BTreeMap<String, u64>) -> String {
    counts.iter().fold(String::new(), |mut line, (name, count)| {
        // Writing to a String cannot fail.
        let _ = write!(line, " {name}={count}");
        line
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::outcome::Class;

    pub(crate) fn answer(start_us: i64, version: &str, code: u16) -> Outcome {
        Outcome {
            start_us,
            connect_us: 10,
            total_us: 100,
            kind: Kind::Fresh,
            ask: Arc::new("/products".parse().unwrap()),
            end: End::Status(code),
            version: Some(version.to_owned()),
            reconnect: false,
            detail: None,
        }
    }

    fn lost(start_us: i64, class: Class) -> Outcome {
        Outcome { end: End::Error(class), version: None, ..answer(start_us, "", 0) }
    }

    fn report(outcomes: &[Outcome], ended_us: i64) -> Report {
        let mut ledger = Ledger::new(0);
        for outcome in outcomes {
            ledger.record(outcome);
        }
        ledger.report(ended_us, Ran::default())
    }

    #[test]
    fn failures_are_counted_by_class_and_version() {
        let outcomes = [
            answer(0, "v1", 200),
            answer(1, "v2", 500),
            answer(2, "v2", 500),
            answer(3, "v1", 404),
            lost(4, Class::Refused),
            lost(5, Class::Eof),
        ];
        let report = report(&outcomes, 1000);
        assert_eq!((report.requests, report.ok, report.failed), (6, 1, 5));
        let count = |class: &str, version: &str| report.failures.get(class).and_then(|by| by.get(version)).copied().unwrap_or(0);
        assert_eq!((count("http_500", "v2"), count("http_404", "v1"), count("refused", "-"), count("eof", "-")), (2, 1, 1, 1));
        assert_eq!(report.failures.len(), 4);
    }

    #[test]
    fn a_version_has_its_times_with_fresh_connections_apart() {
        let kept = |start_us| Outcome { kind: Kind::Keepalive, connect_us: 0, ..answer(start_us, "v1", 200) };
        let report = report(&[answer(20, "v1", 200), answer(10, "v1", 200), kept(5), kept(900)], 1000);
        let v1 = report.versions.get("v1").unwrap();
        assert_eq!((v1.all.requests, v1.all.first_us, v1.all.last_us), (4, Some(5), Some(900)));
        assert_eq!((v1.fresh.requests, v1.fresh.first_us, v1.fresh.last_us), (2, Some(10), Some(20)));
        assert_eq!(report.keepalive_connects, 0);
    }

    #[test]
    fn the_longest_silence_is_between_good_answers_and_includes_both_ends() {
        let bad = [answer(0, "v1", 200), answer(300, "v1", 503), answer(700, "v1", 200), answer(900, "v1", 200)];
        assert_eq!(report(&bad, 1100).longest_gap, Gap { us: 700, from_us: 100 });
        assert_eq!(report(&bad, 9000).longest_gap, Gap { us: 8000, from_us: 1000 });
        assert_eq!(report(&[answer(5000, "v1", 200)], 5200).longest_gap, Gap { us: 5100, from_us: 0 });
    }

    #[test]
    fn a_reconnect_that_was_answered_is_no_failure() {
        let report = report(&[Outcome { reconnect: true, kind: Kind::Keepalive, ..answer(0, "v1", 200) }], 500);
        assert_eq!((report.failed, report.reconnects, report.keepalive_connects), (0, 1, 1));
    }

    #[test]
    fn a_second_begins_at_nothing() {
        let mut ledger = Ledger::new(0);
        ledger.record(&answer(0, "v1", 200));
        ledger.record(&answer(1, "v2", 500));
        let line = ledger.close_second(1_000_000);
        assert_eq!(line, "1970-01-01T00:00:01.000000Z requests=2 failed=1 http_500=1 median=100us max=100us v1=1 v2=1");
        assert!(ledger.close_second(2_000_000).contains("requests=0 failed=0"));
    }
}
