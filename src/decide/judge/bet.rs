//! Is the canary's share of the errors larger than its share of the requests? A bet on that, block by block.
//!
//! Source: testing the mean of a bounded variable by betting (Waudby-Smith and Ramdas, JRSS-B 2024); thinning of errors
//! (Lindon and Malek 2022); strata as in Mantel and Haenszel 1959; the bound at every look (Ville 1939). If, given the past, an error
//! falls on the canary with probability q at most, every factor below has a mean of 1 at most: for any size of a burst, in any weather and
//! on any ramp. A burst must fit into a block, see [`super::block`].

use serde::{Deserialize, Serialize};

use super::arms::Arms;

/// How many times as many errors each bet expects on the canary.
const RATIOS: [f64; 7] = [1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0];
/// The last is cash: it never bets, so that a good hour does not eat what a bad minute has to be found with.
const START: [f64; 8] = [0.8 / 7.0, 0.8 / 7.0, 0.8 / 7.0, 0.8 / 7.0, 0.8 / 7.0, 0.8 / 7.0, 0.8 / 7.0, 0.2];
/// Spread anew after each block with errors: a factor of ten is lost in 2,300 of them at most (0.999^2300 = 0.1).
const MIXED: f64 = 0.001;

/// Requests to one side, and how many of them failed, in one scrape or one block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// Requests.
    pub asked: u32,
    /// Failures among them.
    pub failed: u32,
}

impl Side {
    /// So many requests and failures.
    #[must_use]
    pub fn new(asked: u32, failed: u32) -> Self {
        Self { asked, failed }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { asked: self.asked.saturating_add(other.asked), failed: self.failed.saturating_add(other.failed) }
    }
}

/// What share of the errors is the canary's fair one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fair {
    /// ρ0: this many times stable's error rate is no fault. 1 and above.
    pub tolerance: f64,
    /// Pods of canary and stable, where faults hit pods and load per pod differs: then the larger of both shares is the fair one, and a
    /// doubling on one pod of many cannot be seen any more.
    pub pods: Option<(u32, u32)>,
}

impl Fair {
    /// By requests alone.
    #[must_use]
    pub fn by_requests(tolerance: f64) -> Self {
        Self { tolerance, pods: None }
    }

    /// q: the chance of an error to be the canary's when it is no worse. None: one side was not asked.
    #[must_use]
    pub fn share(&self, canary: u32, stable: u32) -> Option<f64> {
        let share = |canary: u32, stable: u32| {
            let canary = self.tolerance * f64::from(canary);
            canary / (canary + f64::from(stable))
        };
        let by_pods = self.pods.filter(|(canary, stable)| *canary > 0 && *stable > 0);
        (canary > 0 && stable > 0).then(|| share(canary, stable).max(by_pods.map_or(0.0, |(canary, stable)| share(canary, stable))))
    }
}

/// One stratum (endpoint and method) in one block, summed over its scrapes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// The canary.
    pub canary: Side,
    /// Stable.
    pub stable: Side,
    /// Σ E·q: how many of the errors would be the canary's if it were no worse.
    pub fair: f64,
}

impl Tally {
    /// Adds a scrape. Where one side was not asked nothing can be compared.
    pub fn scrape(&mut self, canary: Side, stable: Side, fair: Fair) {
        let Some(share) = fair.share(canary.asked, stable.asked) else { return };
        self.fair += (f64::from(canary.failed) + f64::from(stable.failed)) * share;
        (self.canary, self.stable) = (self.canary.plus(canary), self.stable.plus(stable));
    }
}

/// x and q of a block: the canary's share of the errors, and its fair one. None: no errors, or nothing that can be bet on.
#[must_use]
pub(super) fn shares(tallies: &[Tally]) -> Option<(f64, f64)> {
    let (mut canary, mut all, mut fair) = (0.0, 0.0, 0.0);
    for tally in tallies {
        canary += f64::from(tally.canary.failed);
        all += f64::from(tally.canary.failed) + f64::from(tally.stable.failed);
        fair += tally.fair;
    }
    let (x, q) = (canary / all, fair / all);
    (all > 0.0 && q > 0.0 && q < 1.0).then_some((x, q))
}

/// The bet that the canary is worse than stable. Its wealth is the evidence for that.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share(pub(super) Arms<8>);

impl Default for Share {
    fn default() -> Self {
        Self(Arms::new(START))
    }
}

impl Share {
    /// How much 1 has become.
    #[must_use]
    pub fn wealth(&self) -> f64 {
        self.0.wealth()
    }

    /// Bets on one block of strata that are summed: no error, no bet.
    ///
    /// `1 + κ·(x − q)/q` with `κ = (ρ−1)·q / (ρ·q + 1 − q)`; q cancels. With one error in the block this is its likelihood ratio.
    pub fn bet(&mut self, tallies: &[Tally]) {
        let Some((x, q)) = shares(tallies) else { return };
        let mut factors = [1.0; 8];
        for (factor, ratio) in factors.iter_mut().zip(RATIOS) {
            *factor = 1.0 + (ratio - 1.0) * (x - q) / (ratio * q + 1.0 - q);
        }
        self.0.play(factors);
        self.0.mix(START, MIXED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(canary: (u32, u32), stable: (u32, u32)) -> Tally {
        let mut tally = Tally::default();
        tally.scrape(Side::new(canary.0, canary.1), Side::new(stable.0, stable.1), Fair::by_requests(1.0));
        tally
    }

    fn after(blocks: &[Tally]) -> f64 {
        let mut share = Share::default();
        for block in blocks {
            share.bet(&[*block]);
        }
        share.wealth()
    }

    #[test]
    fn one_error_on_the_canary_pays_its_likelihood_ratio() {
        // q = 0.05: ρ / (0.05·ρ + 0.95) for each ρ.
        let paid: f64 = RATIOS.iter().map(|ratio| 0.8 / 7.0 * ratio / (0.05 * ratio + 0.95)).sum::<f64>() + 0.2;
        assert!((after(&[tally((5, 1), (95, 0))]) - paid).abs() < 1e-12, "{paid}");
        let lost: f64 = RATIOS.iter().map(|ratio| 0.8 / 7.0 / (0.05 * ratio + 0.95)).sum::<f64>() + 0.2;
        assert!((after(&[tally((5, 0), (95, 1))]) - lost).abs() < 1e-12, "{lost}");
    }

    #[test]
    fn a_block_of_many_errors_is_one_vote_and_by_hand() {
        // Half of 8 errors at q = 0.25, ρ = 2: κ = 0.25/1.25 = 0.2, factor 1 + 0.2·(0.5−0.25)/0.25 = 1.2.
        let mut share = Share::default();
        share.bet(&[tally((25, 4), (75, 4))]);
        let second = share.0.each()[1];
        let wealth: f64 = RATIOS.iter().map(|ratio| 0.8 / 7.0 * (1.0 + (ratio - 1.0) * 0.25 / (ratio * 0.25 + 0.75))).sum::<f64>() + 0.2;
        assert!((second - (0.999 * 1.2 * 0.8 / 7.0 + 0.001 * wealth * 0.8 / 7.0)).abs() < 1e-12);
        let most = after(&[tally((25, 1_000_000), (75, 0))]);
        assert!(most <= 1.0 / 0.25, "at most 1/q: {most}");
    }

    #[test]
    fn no_errors_and_a_side_that_is_not_asked_move_nothing() {
        for block in [tally((5, 0), (95, 0)), tally((0, 0), (95, 9)), tally((5, 5), (0, 0))] {
            assert_eq!(after(&[block]), Share::default().wealth());
        }
    }

    #[test]
    fn strata_are_summed_so_that_a_mix_that_differs_is_no_fault() {
        // The canary gets three times as much of the endpoint that fails: 10 of 40 against 30 of 360, all at the same rate.
        let (bad, good) = (tally((10, 2), (30, 6)), tally((30, 0), (330, 0)));
        let mut share = Share::default();
        (0..200).for_each(|_| share.bet(&[bad, good]));
        assert!(share.wealth() < 1.0 + 1e-9);
        let mut lumped = Share::default();
        (0..200).for_each(|_| lumped.bet(&[tally((40, 2), (360, 6))]));
        assert!(lumped.wealth() > 1000.0, "without strata it would be blamed");
    }

    #[test]
    fn the_mean_factor_is_at_most_one_whenever_the_share_is_fair() {
        // Exhaustively: up to 6 errors, each on the canary with probability q, at every share and in every number of bursts.
        for canary in [1_u32, 5, 20, 50, 95] {
            let q = f64::from(canary) / 100.0;
            for errors in 1..=6_i32 {
                let mut mean = 0.0;
                for on_canary in 0..=errors {
                    let ways = (0..on_canary).fold(1.0, |ways, at| ways * f64::from(errors - at) / f64::from(at + 1));
                    let chance = ways * q.powi(on_canary) * (1.0 - q).powi(errors - on_canary);
                    let (on, off) = (u32::try_from(on_canary).unwrap(), u32::try_from(errors - on_canary).unwrap());
                    mean += chance * after(&[tally((canary, on), (100 - canary, off))]);
                }
                assert!((mean - 1.0).abs() < 1e-9, "q {q}, {errors} errors: {mean}");
                let burst =
                    q * after(&[tally((canary, 9), (100 - canary, 0))]) + (1.0 - q) * after(&[tally((canary, 0), (100 - canary, 9))]);
                assert!((burst - 1.0).abs() < 1e-9, "all of them together: {burst}");
            }
        }
    }

    #[test]
    fn a_share_below_the_fair_one_loses() {
        let q = 0.2;
        let p = 0.1;
        let mean = p * after(&[tally((20, 1), (80, 0))]) + (1.0 - p) * after(&[tally((20, 0), (80, 1))]);
        assert!(mean < 1.0 && p < q, "{mean}");
    }

    #[test]
    fn a_fault_that_begins_late_is_found() {
        let mut share = Share::default();
        // An hour in which one error in 20 is the canary's, as is fair: 720 blocks of 5 s.
        for block in 0..720 {
            share.bet(&[if block % 20 == 0 { tally((5, 1), (95, 0)) } else { tally((5, 0), (95, 1)) }]);
        }
        let quiet = share.wealth();
        assert!(quiet < 1.0, "{quiet}");
        let blocks = (1..1000).find(|_| {
            share.bet(&[tally((5, 3), (95, 1))]);
            share.wealth() >= 2500.0
        });
        assert!(blocks.is_some_and(|blocks| blocks <= 8), "{blocks:?} blocks of 5 s");
    }

    #[test]
    fn hostile_counts_stay_numbers() {
        let most = u32::MAX;
        for canary in [(0, 0), (1, most), (most, most), (most, 0), (1, 1)] {
            for stable in [(0, 0), (1, most), (most, most), (most, 0), (1, 1)] {
                let mut share = Share::default();
                for _ in 0..2000 {
                    share.bet(&[tally(canary, stable), tally(stable, canary), tally(canary, stable)]);
                }
                assert!(share.wealth().is_finite() && share.wealth() > 0.0);
            }
        }
        let lies = [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e300];
        for fair in lies {
            let mut share = Share::default();
            share.bet(&[Tally { fair, ..tally((5, 3), (95, 1)) }]);
            assert_eq!(share, Share::default(), "{fair}");
        }
    }

    #[test]
    fn by_pods_the_larger_share_is_the_fair_one() {
        let fair = Fair { tolerance: 1.0, pods: Some((1, 3)) };
        assert_eq!(fair.share(5, 95), Some(0.25));
        assert_eq!(fair.share(60, 40), Some(0.6));
        assert_eq!(Fair { tolerance: 1.25, pods: None }.share(20, 75), Some(0.25));
        assert_eq!(Fair { tolerance: 1.0, pods: Some((0, 3)) }.share(5, 95), Some(0.05));
    }
}
