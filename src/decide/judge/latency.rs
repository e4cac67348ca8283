//! The purse of latency: "slower than an edge" is an error like another, at three edges that are fixed before the rollout.
//!
//! The edges are those bounds of the histogram's buckets that lie nearest the p50, p90 and p99 of stable; requests above each of them
//! are counted, and each count is bet on as errors are, see [`super::bet`]. The purse is the mean of the three.

use super::bet::{Share, Tally};

/// How many edges.
pub const EDGES: usize = 3;
/// Which quantiles of stable they are near, in parts of 100.
const QUANTILES: [f64; EDGES] = [50.0, 90.0, 99.0];

/// The bets that the canary is slower than stable.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Latency(pub(super) [Share; EDGES]);

impl Latency {
    /// How much 1 has become.
    #[must_use]
    pub fn wealth(&self) -> f64 {
        let [p50, p90, p99] = &self.0;
        (p50.wealth() + p90.wealth() + p99.wealth()) / 3.0
    }

    /// The edge whose bet has won most.
    #[must_use]
    pub fn top(&self) -> usize {
        let better = |best: usize, at: usize| {
            let wealth = |at: usize| self.0.get(at).map_or(0.0, Share::wealth);
            if wealth(at) > wealth(best) { at } else { best }
        };
        (0..EDGES).fold(0, better)
    }

    /// Bets on one block: for each edge all strata, where "failed" means slower than that edge.
    pub fn bet(&mut self, edges: &[Tally; EDGES]) {
        for (share, tally) in self.0.iter_mut().zip(edges) {
            share.bet(&[*tally]);
        }
    }
}

/// The edges to watch, as places in `buckets`: (upper bound in seconds, requests up to it, summed from below), sorted by bound. None: there is
/// no bucket with a request, or only the one without a bound.
#[must_use]
pub fn edges(buckets: &[(f64, u32)]) -> Option<[usize; EDGES]> {
    let all = f64::from(buckets.last()?.1);
    let nearest = |quantile: f64| {
        let away = |counted: u32| (100.0 * f64::from(counted) / all - quantile).abs();
        let finite = buckets.iter().enumerate().filter(|(_, (bound, _))| bound.is_finite());
        finite.min_by(|(_, (_, one)), (_, (_, other))| away(*one).total_cmp(&away(*other))).map(|(at, _)| at)
    };
    let [p50, p90, p99] = QUANTILES.map(nearest);
    (all > 0.0).then_some([p50?, p90?, p99?])
}

#[cfg(test)]
mod tests {
    use super::super::bet::{Fair, Side};
    use super::*;

    fn block(slow: (u32, u32)) -> Tally {
        let mut tally = Tally::default();
        tally.scrape(Side::new(50, slow.0), Side::new(950, slow.1), Fair::by_requests(1.0));
        tally
    }

    #[test]
    fn edges_are_the_buckets_nearest_the_quantiles() {
        let buckets = [(0.01, 100), (0.05, 480), (0.1, 880), (0.5, 985), (1.0, 999), (f64::INFINITY, 1000)];
        assert_eq!(edges(&buckets), Some([1, 2, 3]));
        assert_eq!(edges(&[(0.1, 0), (f64::INFINITY, 0)]), None);
        assert_eq!(edges(&[(f64::INFINITY, 9)]), None);
        assert_eq!(edges(&[]), None);
    }

    #[test]
    fn slower_is_found_and_the_edge_named() {
        let mut latency = Latency::default();
        for _ in 0..60 {
            latency.bet(&[block((25, 475)), block((5, 95)), block((6, 9))]);
        }
        assert!(latency.wealth() >= 12_500.0, "{}", latency.wealth());
        assert_eq!(latency.top(), 2);
        let mut same = Latency::default();
        for _ in 0..60 {
            same.bet(&[block((25, 475)), block((5, 95)), block((1, 19))]);
        }
        assert!(same.wealth() <= 1.0 + 1e-9, "{}", same.wealth());
    }
}
