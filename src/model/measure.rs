//! What of an app's own metrics are requests, failures and slow answers, and what a pod counted between two looks.
//!
//! The owner names a counter and what counts as failed; canary and stable are told apart by pod, so that the app needs no label of ours.

use std::{collections::BTreeMap, time::Duration};

use super::version::WorkloadName;
use crate::{
    api::verify::{LatencySpec, RequestsSpec},
    decide::judge::{bet::Side, collect::Reading, latency::EDGES},
};

pub mod exposition;
pub mod kept;
mod matcher;

use kept::Kept;
pub use matcher::Matchers;

/// Where apps show their metrics.
const METRICS: &str = "/metrics";
/// How often a Prometheus looks at them: the default of most set-ups.
const SCRAPED: Duration = Duration::from_secs(15);

/// So many strata of one pod are told apart; the rest is one. 256 × ~100 bytes = 26 kB a pod.
const STRATA: usize = 256;
/// The stratum of what is beyond.
const REST: &str = "(others)";

/// How the requests of an app's users are known.
#[derive(Clone, Debug, PartialEq)]
pub enum Measures {
    /// Each pod counts since its start.
    Counters(Counters),
    /// Somebody else knows how many there were in a piece of time.
    Kept(Kept),
}

/// How an app counts its requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Counters {
    /// Where the numbers are.
    pub from: From,
    /// The name of the counter of requests.
    pub counter: String,
    /// What of it is failed.
    pub failed: Matchers,
    /// Which of them are of users; none: all.
    pub only: Option<Matchers>,
    /// The labels by which requests are compared with their like.
    pub by: Vec<String>,
    /// The histogram of how long requests take, in seconds.
    pub histogram: Option<String>,
}

/// Where the numbers are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// Each pod is asked itself.
    Scrape {
        /// The name of a container's port, or its number.
        port: String,
        /// Where its metrics are.
        path: String,
    },
    /// The Prometheus of the cluster, which knows each pod by its label `pod`.
    Prometheus {
        /// How often it reads each pod.
        every: Duration,
    },
}

/// What one pod has counted since it started, by stratum.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counted(BTreeMap<String, Count>);

#[derive(Clone, Debug, Default, PartialEq)]
struct Count {
    asked: f64,
    failed: f64,
    timed: f64,
    /// Bounds in seconds and requests up to them, in ascending order.
    up_to: Vec<(f64, f64)>,
}

impl Measures {
    /// As a spec says it.
    ///
    /// # Errors
    /// What of it cannot be read, in words that follow the name of what it is in.
    pub fn read(requests: &RequestsSpec, latency: Option<&LatencySpec>) -> Result<Self, String> {
        if let Some(json) = &requests.from.json {
            return Kept::read(json).map(Self::Kept).map_err(|why| format!("from.json.{why}"));
        }
        let interval = requests.from.prometheus.as_ref().and_then(|prometheus| prometheus.interval);
        let from = match &requests.from.scrape {
            Some(scrape) => From::Scrape { port: scrape.port.clone(), path: scrape.path.clone().unwrap_or_else(|| METRICS.to_owned()) },
            None => From::Prometheus { every: interval.map_or(SCRAPED, |span| span.0) },
        };
        let read = |field: &str, said: &str| Matchers::parse(said).map_err(|why| format!("{field} {why}"));
        Ok(Self::Counters(Counters {
            from,
            counter: requests.counter.clone().ok_or("counter is missing; only from.json does without")?,
            failed: read("failed", requests.failed.as_deref().unwrap_or_default())?,
            only: requests.only.as_ref().map(|only| read("only", only)).transpose()?,
            by: requests.by.clone(),
            histogram: latency.map(|latency| latency.histogram.clone()),
        }))
    }

    /// What is read is some time old, and not of one moment for all pods.
    #[must_use]
    pub fn late(&self) -> bool {
        match self {
            Self::Counters(counters) => matches!(counters.from, From::Prometheus { .. }),
            Self::Kept(_) => true,
        }
    }
}

impl Counters {
    /// What a pod has counted by what it shows. None: it does not know the counter.
    #[must_use]
    pub fn count(&self, exposed: &str) -> Option<Counted> {
        let buckets = self.buckets().unwrap_or_default();
        self.counted(exposition::samples(exposed, &self.counter), exposition::samples(exposed, &buckets))
    }

    /// The name of the series of the histogram.
    #[must_use]
    pub fn buckets(&self) -> Option<String> {
        self.histogram.as_ref().map(|name| format!("{name}_bucket"))
    }

    /// What a pod has counted, by the samples of its counter and of its histogram. None: there is none of the counter.
    pub fn counted<'a>(
        &self,
        counter: impl Iterator<Item = exposition::Sample<'a>>,
        buckets: impl Iterator<Item = exposition::Sample<'a>>,
    ) -> Option<Counted> {
        let mut strata = BTreeMap::<String, Count>::new();
        let mut known = false;
        for sample in counter {
            known = true;
            if !self.is_of_users(&sample) {
                continue;
            }
            let count = stratum(&mut strata, self.stratum(&sample));
            count.asked += sample.value;
            if self.failed.hold(|label| sample.label(label)) {
                count.failed += sample.value;
            }
        }
        for sample in buckets {
            let Some(bound) = sample.label("le").parse::<f64>().ok().filter(|_| self.is_of_users(&sample)) else { continue };
            let count = stratum(&mut strata, self.stratum(&sample));
            if bound.is_infinite() {
                count.timed += sample.value;
            } else if bound.is_finite() {
                count.up_to(bound, sample.value);
            }
        }
        known.then_some(Counted(strata))
    }

    fn is_of_users(&self, sample: &exposition::Sample<'_>) -> bool {
        self.only.as_ref().is_none_or(|only| only.hold(|label| sample.label(label)))
    }

    fn stratum(&self, sample: &exposition::Sample<'_>) -> String {
        self.by.iter().map(|label| sample.label(label)).collect::<Vec<_>>().join(" ")
    }
}

fn stratum(counted: &mut BTreeMap<String, Count>, name: String) -> &mut Count {
    let name = if counted.len() >= STRATA && !counted.contains_key(&name) { REST.to_owned() } else { name };
    counted.entry(name).or_default()
}

impl Count {
    fn up_to(&mut self, bound: f64, count: f64) {
        match self.up_to.binary_search_by(|(known, _)| known.total_cmp(&bound)) {
            Ok(at) => {
                if let Some((_, known)) = self.up_to.get_mut(at) {
                    *known += count;
                }
            }
            Err(at) => self.up_to.insert(at, (bound, count)),
        }
    }

    /// Requests that took longer than this; none: that is not counted.
    fn slower(&self, bound: f64) -> Option<f64> {
        let at = self.up_to.binary_search_by(|(known, _)| known.total_cmp(&bound)).ok()?;
        Some(self.timed - self.up_to.get(at)?.1)
    }
}

impl Counted {
    /// What was counted since `before`, by stratum. None: a counter fell, so the process is another one and nothing is known of the time
    /// between.
    #[must_use]
    pub fn since(&self, before: &Self, edges: Option<[f64; EDGES]>) -> Option<BTreeMap<String, Reading>> {
        let none = Count::default();
        let mut readings = BTreeMap::new();
        for (name, now) in &self.0 {
            let then = before.0.get(name).unwrap_or(&none);
            let mut reading =
                Reading { side: Side::new(more(now.asked, then.asked)?, more(now.failed, then.failed)?), ..Reading::default() };
            if let Some(slow) = edges.and_then(|edges| slow(now, then, edges)) {
                (reading.timed, reading.slow) = (more(now.timed, then.timed)?, slow);
            }
            readings.insert(name.clone(), reading);
        }
        // A stratum does not vanish while a process lives.
        before.0.keys().all(|name| self.0.contains_key(name)).then_some(readings)
    }

    /// Adds what another pod has counted.
    pub fn add(&mut self, other: &Self) {
        for (name, theirs) in &other.0 {
            let ours = self.0.entry(name.clone()).or_default();
            (ours.asked, ours.failed, ours.timed) = (ours.asked + theirs.asked, ours.failed + theirs.failed, ours.timed + theirs.timed);
            theirs.up_to.iter().for_each(|(bound, count)| ours.up_to(*bound, *count));
        }
    }

    /// The same with its strata named after what they are of, where an app has several workloads.
    #[must_use]
    pub fn of(self, workload: &WorkloadName) -> Self {
        Self(self.0.into_iter().map(|(name, count)| (format!("{workload} {name}").trim_end().to_owned(), count)).collect())
    }

    /// The strata by how often they were asked for, the busiest first.
    #[must_use]
    pub fn busiest(&self) -> Vec<String> {
        let mut strata: Vec<(&String, f64)> = self.0.iter().map(|(name, count)| (name, count.asked)).collect();
        strata.sort_by(|(name, one), (other, two)| two.total_cmp(one).then_with(|| name.cmp(other)));
        strata.into_iter().map(|(name, _)| name.clone()).collect()
    }

    /// The bounds of all buckets and the share of requests up to each, in parts of a million; the last is without a bound. Empty where
    /// nothing was timed.
    #[must_use]
    pub fn buckets(&self) -> Vec<(f64, u32)> {
        let mut all = Count::default();
        for count in self.0.values() {
            all.timed += count.timed;
            count.up_to.iter().for_each(|(bound, requests)| all.up_to(*bound, *requests));
        }
        let millionths = |requests: f64| whole(requests / all.timed * 1e6);
        if all.timed <= 0.0 {
            return Vec::new();
        }
        all.up_to.iter().map(|(bound, requests)| (*bound, millionths(*requests))).chain([(f64::INFINITY, 1_000_000)]).collect()
    }
}

fn slow(now: &Count, then: &Count, edges: [f64; EDGES]) -> Option<[u32; EDGES]> {
    let mut slow = [0; EDGES];
    for (slow, edge) in slow.iter_mut().zip(edges) {
        let before = if then.up_to.is_empty() { 0.0 } else { then.slower(edge)? };
        *slow = more(now.slower(edge)?, before)?;
    }
    Some(slow)
}

/// How much a counter has grown; none: it fell.
fn more(now: f64, then: f64) -> Option<u32> {
    (now >= then).then(|| whole(now - then))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "what is beyond is the bound, and what is no number 0")]
fn whole(number: f64) -> u32 {
    number.round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measures() -> Counters {
        Counters {
            from: From::Prometheus { every: Duration::from_secs(15) },
            counter: "http_requests_total".to_owned(),
            failed: Matchers::parse("code=~\"5..\"").unwrap(),
            only: None,
            by: vec!["method".to_owned(), "path".to_owned()],
            histogram: Some("http_request_duration_seconds".to_owned()),
        }
    }

    const EXPOSED: &str = r#"
# HELP http_requests_total Requests.
# TYPE http_requests_total counter
http_requests_total{method="GET",path="/",code="200"} 90
http_requests_total{method="GET",path="/",code="500"} 10
http_requests_total{code="503",method="POST",path="/orders"} 4 1700000000000
http_requests_total_created{method="GET",path="/",code="200"} 1.7e9
http_request_duration_seconds_bucket{method="GET",path="/",le="0.1"} 60
http_request_duration_seconds_bucket{method="GET",path="/",le="0.5"} 98
http_request_duration_seconds_bucket{method="GET",path="/",le="+Inf"} 100
"#;

    fn reading(asked: u32, failed: u32, timed: u32, slow: [u32; 3]) -> Reading {
        Reading { side: Side::new(asked, failed), timed, slow }
    }

    #[test]
    fn requests_are_sorted_by_their_like_and_failures_counted() {
        let now = measures().count(EXPOSED).unwrap();
        let edges = Some([0.1, 0.5, 0.5]);
        let since = now.since(&Counted::default(), edges).unwrap();
        assert_eq!(since.get("GET /"), Some(&reading(100, 10, 100, [40, 2, 2])));
        assert_eq!(since.get("POST /orders"), Some(&reading(4, 4, 0, [0; 3])));
        assert_eq!(since.len(), 2);
        assert_eq!(now.since(&now, edges).unwrap().get("GET /"), Some(&reading(0, 0, 0, [0; 3])));
        assert_eq!(now.busiest(), ["GET /", "POST /orders"]);
        assert_eq!(now.buckets(), [(0.1, 600_000), (0.5, 980_000), (f64::INFINITY, 1_000_000)]);
    }

    #[test]
    fn what_kubernetes_asks_is_no_user() {
        let users = Counters { only: Some(Matchers::parse("path!~\"/orders|/metrics\"").unwrap()), ..measures() };
        assert_eq!(users.count(EXPOSED).unwrap().busiest(), ["GET /"]);
        assert!(users.count("http_requests_total{path=\"/metrics\"} 3").is_some(), "the counter is there, and nobody has come");
    }

    #[test]
    fn a_counter_that_fell_is_another_process() {
        let now = measures().count(EXPOSED).unwrap();
        let less = measures().count(&EXPOSED.replace("} 90", "} 9")).unwrap();
        assert_eq!(less.since(&now, None), None);
        let gone = measures().count("http_requests_total{method=\"GET\",path=\"/\"} 900").unwrap();
        assert_eq!(gone.since(&now, None), None, "a stratum is gone");
        assert!(now.since(&less, None).is_some());
    }

    #[test]
    fn without_the_counter_nothing_is_known_and_odd_numbers_are_no_counts() {
        assert_eq!(measures().count("up 1\nhttp_requests 5\n"), None);
        let odd = "http_requests_total NaN\nhttp_requests_total -3\nhttp_requests_total +Inf\nhttp_requests_total 7\n";
        let since = measures().count(odd).unwrap().since(&Counted::default(), None).unwrap();
        assert_eq!(since.values().collect::<Vec<_>>(), [&reading(7, 0, 0, [0; 3])]);
        let many: Vec<String> = (0..300).map(|n| format!("http_requests_total{{path=\"/{n}\"}} 1\n")).collect();
        let since = measures().count(&many.concat()).unwrap().since(&Counted::default(), None).unwrap();
        assert_eq!((since.len(), since.values().map(|r| r.side.asked).sum::<u32>()), (257, 300));
    }

    #[test]
    fn buckets_that_another_version_does_not_have_time_nothing() {
        let now = measures().count(EXPOSED).unwrap();
        let since = now.since(&Counted::default(), Some([0.1, 0.25, 0.5])).unwrap();
        assert_eq!(since.get("GET /"), Some(&reading(100, 10, 0, [0; 3])));
    }

    #[test]
    fn pods_are_summed_and_workloads_kept_apart() {
        let one = measures().count(EXPOSED).unwrap();
        let mut both = one.clone();
        both.add(&one);
        assert_eq!(both.since(&one, None), Some(one.since(&Counted::default(), None).unwrap()));
        assert_eq!(one.of(&WorkloadName::new("web")).busiest(), ["web GET /", "web POST /orders"]);
    }
}
