//! What is agreed at Preflight and never changed while the book is open: who may speak, how loudly, and what is usual.
//!
//! A weight that followed the evidence would break the bound: purses without a source give their weight to the others before the first bet.

use serde::{Deserialize, Serialize};

use super::{bet::Fair, block::Manner, latency::EDGES, probes::ProbeTerms};

/// So many busiest strata are bet on alone as well.
pub const STRATA: usize = 8;
/// So many probes vote: more would not fit into the status (20 · 50 B).
pub const PROBES: usize = 20;
/// So many steps have evidence of their own.
pub const STEPS: usize = 8;
/// The least and the most that `falseRollbackRate` may be.
const RATES: (f64, f64) = (0.000_01, 0.05);

/// A kind of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purse {
    /// Failures of users' requests.
    Errors,
    /// Probe pairs.
    Probes,
    /// Slow requests.
    Latency,
    /// New log lines.
    Logs,
    /// Restarts and kills for want of memory.
    Platform,
}

impl Purse {
    /// All, in the order in which they are summed.
    pub const ALL: [Self; 5] = [Self::Errors, Self::Probes, Self::Latency, Self::Logs, Self::Platform];

    /// Its part of the book when every purse has a source: together 1.
    #[must_use]
    pub fn part(self) -> f64 {
        match self {
            Self::Errors | Self::Probes => 0.40,
            Self::Latency => 0.08,
            Self::Logs | Self::Platform => 0.06,
        }
    }

    /// As people read it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::Probes => "probes",
            Self::Latency => "latency",
            Self::Logs => "logs",
            Self::Platform => "restarts",
        }
    }
}

/// The terms of one book.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Terms {
    /// α: how many good releases may be taken back, 0.001 is one in a thousand.
    pub false_rollback_rate: f64,
    /// How errors are bet on. None: no source, or it lost its vote to an A/A test.
    pub errors: Option<Manner>,
    /// The strata that are bet on alone as well, busiest first; all others are one.
    pub strata: Vec<String>,
    /// How latency is bet on. None: no source.
    pub latency: Option<Manner>,
    /// What is slow, in seconds: the bounds of buckets ([`super::latency::edges`]).
    pub edges: Option<[f64; EDGES]>,
    /// Log lines are read; their manner. None: they are not.
    pub logs: Option<Manner>,
    /// Restarts per pod and day that are usual ([`super::platform::usual`]). None: nobody counts them.
    pub restarts: Option<u32>,
    /// The probes that vote.
    pub probes: Vec<ProbeTerms>,
    /// What each step rules out: a canary so many times worse.
    pub ratios: Vec<f64>,
    /// A canary that fails in fewer of its requests than this (0 to 1) may go on, however much worse than stable that is. 0: never.
    pub margin: f64,
    /// Load per pod differs and faults hit pods: the share of the pods counts as well.
    pub by_pods: bool,
    /// The upper 99 % quantile of stable's failure rate per block of the last day ([`super::recheck::day`]).
    pub usual_rate: Option<f64>,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            false_rollback_rate: 0.001,
            errors: None,
            strata: Vec::new(),
            latency: None,
            edges: None,
            logs: None,
            restarts: None,
            probes: Vec::new(),
            ratios: vec![20.0, 5.0, 2.0],
            margin: 0.005,
            by_pods: false,
            usual_rate: None,
        }
    }
}

impl Terms {
    /// What the book can hold: longer lists are cut, and rates kept in bounds. A margin or ratio that is none does not speak.
    #[must_use]
    pub fn held(mut self) -> Self {
        self.strata.truncate(STRATA);
        self.probes.truncate(PROBES);
        self.ratios.truncate(STEPS);
        let (least, most) = RATES;
        self.false_rollback_rate = if self.false_rollback_rate >= least { self.false_rollback_rate.min(most) } else { least };
        self
    }

    /// 1/α: the wealth of the book that is a verdict.
    #[must_use]
    pub fn bound(&self) -> f64 {
        1.0 / self.false_rollback_rate
    }

    /// Whether a purse has a source.
    #[must_use]
    pub fn speaks(&self, purse: Purse) -> bool {
        match purse {
            Purse::Errors => self.errors.is_some(),
            Purse::Probes => !self.probes.is_empty(),
            Purse::Latency => self.latency.is_some(),
            Purse::Logs => self.logs.is_some(),
            Purse::Platform => self.restarts.is_some(),
        }
    }

    /// The weight of each purse, in the order of [`Purse::ALL`]: they sum to 1, and to 0 when nobody speaks.
    #[must_use]
    pub fn weights(&self) -> [f64; 5] {
        let part = |purse: Purse| if self.speaks(purse) { purse.part() } else { 0.0 };
        let all = Purse::ALL.iter().fold(0.0, |sum, purse| sum + part(*purse));
        Purse::ALL.map(|purse| if all > 0.0 { part(purse) / all } else { 0.0 })
    }

    /// What is fair under this manner, with so many pods on either side.
    #[must_use]
    pub fn fair(&self, manner: Manner, pods: (u32, u32)) -> Fair {
        Fair { tolerance: manner.tolerance, pods: self.by_pods.then_some(pods) }
    }

    /// Where the tally of a stratum stands: one of the busiest, or behind them the place of all others.
    #[must_use]
    pub fn place(&self, stratum: &str) -> usize {
        self.strata.iter().position(|known| known == stratum).unwrap_or(self.strata.len())
    }
}

#[cfg(test)]
mod tests {
    use super::super::block::Block;
    use super::*;

    #[test]
    fn a_purse_without_a_source_gives_its_weight_in_proportion() {
        let manner = Some(Manner::of(Block::S5));
        let all = Terms { errors: manner, latency: manner, logs: manner, restarts: Some(1), ..Terms::default() };
        let close = |one: [f64; 5], other: [f64; 5]| one.iter().zip(other).all(|(one, other)| (one - other).abs() < 1e-12);
        assert!(close(all.weights(), [0.40 / 0.60, 0.0, 0.08 / 0.60, 0.06 / 0.60, 0.06 / 0.60]), "no probes: {:?}", all.weights());
        let whole = Terms { probes: vec![ProbeTerms::default()], ..all.clone() };
        assert!(close(whole.weights(), [0.40, 0.40, 0.08, 0.06, 0.06]));
        let probes = Terms { probes: vec![ProbeTerms::default()], ..Terms::default() };
        assert!(close(probes.weights(), [0.0, 1.0, 0.0, 0.0, 0.0]));
        assert_eq!(Terms::default().weights(), [0.0; 5]);
    }

    #[test]
    fn the_rate_has_bounds() {
        let held = |rate| Terms { false_rollback_rate: rate, ..Terms::default() }.held().bound();
        assert_eq!(held(0.001), 1000.0);
        assert_eq!(held(0.5), 20.0);
        assert!((held(0.0) - 100_000.0).abs() < 1e-6);
        assert!((held(f64::NAN) - 100_000.0).abs() < 1e-6);
    }
}
