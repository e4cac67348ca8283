//! Is the canary good enough to go on? The same bet the other way round: against "it is worse by so much".
//!
//! That nothing was found is no evidence. A step is left when a canary that is `ratio` times worse **and** fails in at least `margin` of
//! its requests would have shown it: the mean of both tests has grown to [`ENOUGH`]. The source is that of [`super::bet`].

use super::{
    arms::{Arms, LEAST, clamped, power},
    bet::{Side, Tally, shares},
};

/// 1/β with β = 5 %: so often may a canary that is as bad as the step asks be sent on.
pub const ENOUGH: f64 = 20.0;
/// How boldly each bet wagers that the canary gets fewer errors than that.
const BOLDNESS: [f64; 5] = [0.1, 0.25, 0.5, 0.75, 0.95];
/// Two guesses of the error rate of a good canary, in parts of the margin.
const GUESSES: [f64; 2] = [0.02, 0.2];

/// The margin that is worth a bet. Where stable itself fails in half as many requests or more, a good canary cannot stay far enough below it,
/// and the bet would only take half of the evidence of its neighbour: then 0, which does not speak. `usual` is stable's failure rate before the
/// rollout, 0 to 1; where nothing is known the margin speaks.
#[must_use]
pub fn margin(wanted: f64, usual: Option<f64>) -> f64 {
    if usual.is_some_and(|usual| usual >= wanted / 2.0) { 0.0 } else { wanted }
}

/// The bet that the canary is less than `ratio` times worse than stable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mirror(pub(super) Arms<5>);

impl Default for Mirror {
    fn default() -> Self {
        Self(Arms::new([0.2; 5]))
    }
}

impl Mirror {
    /// How much 1 has become.
    #[must_use]
    pub fn wealth(&self) -> f64 {
        self.0.wealth()
    }

    /// Bets on one block, whose fair share was counted with the ratio as tolerance: `1 + κ·(q − x)/(1 − q)`.
    pub fn bet(&mut self, tallies: &[Tally]) {
        let Some((x, q)) = shares(tallies) else { return };
        self.0.play(BOLDNESS.map(|boldness| 1.0 + boldness * (q - x) / (1.0 - q)));
    }
}

/// The bet that the canary fails in less than a margin of its requests. It moves without errors, too.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Absolute(pub(super) Arms<2>);

impl Default for Absolute {
    fn default() -> Self {
        Self(Arms::new([0.5; 2]))
    }
}

impl Absolute {
    /// How much 1 has become.
    #[must_use]
    pub fn wealth(&self) -> f64 {
        self.0.wealth()
    }

    /// Bets on one block of the canary against `margin`, a share between 0 and 1: `((1−r)/(1−m))^good · (r/m)^bad`.
    pub fn bet(&mut self, canary: Side, margin: f64) {
        if !(margin > 0.0 && margin < 1.0) {
            return;
        }
        let failed = canary.failed.min(canary.asked);
        self.0.play(GUESSES.map(|guess| {
            let bad = power(guess, failed);
            // What is below every number stays there, however many good ones stand beside it.
            if bad <= LEAST { LEAST } else { clamped(bad * power((1.0 - guess * margin) / (1.0 - margin), canary.asked - failed)) }
        }));
    }
}

/// Both together: the mean of two bets is a bet against whoever is as bad in both respects.
#[must_use]
pub fn together(mirror: &Mirror, absolute: Option<&Absolute>) -> f64 {
    absolute.map_or(mirror.wealth(), |absolute| 0.5 * mirror.wealth() + 0.5 * absolute.wealth())
}

#[cfg(test)]
mod tests {
    use super::super::bet::Fair;
    use super::*;

    fn tally(canary: (u32, u32), stable: (u32, u32), ratio: f64) -> Tally {
        let mut tally = Tally::default();
        tally.scrape(Side::new(canary.0, canary.1), Side::new(stable.0, stable.1), Fair::by_requests(ratio));
        tally
    }

    fn after(tally: Tally) -> f64 {
        let mut mirror = Mirror::default();
        mirror.bet(&[tally]);
        mirror.wealth()
    }

    #[test]
    fn an_error_on_stable_speaks_for_the_canary_by_hand() {
        // ratio 3 at 25 of 100: q = 75/150 = 0.5. On stable: 1 + κ·1; on the canary: 1 − κ. Mean of κ: 2.55/5 = 0.51.
        assert!((after(tally((25, 0), (75, 1), 3.0)) - 1.51).abs() < 1e-12);
        assert!((after(tally((25, 1), (75, 0), 3.0)) - 0.49).abs() < 1e-12);
        assert_eq!(after(tally((25, 0), (75, 0), 3.0)), 1.0);
    }

    #[test]
    fn the_margin_by_hand() {
        let mut absolute = Absolute::default();
        absolute.bet(Side::new(3, 1), 0.5);
        let by_hand = 0.5 * (0.99 / 0.5) * (0.99 / 0.5) * 0.02 + 0.5 * (0.9 / 0.5) * (0.9 / 0.5) * 0.2;
        assert!((absolute.wealth() - by_hand).abs() < 1e-12, "{}", absolute.wealth());
    }

    #[test]
    fn whoever_is_exactly_as_bad_wins_nothing_on_average() {
        for (canary, stable, ratio) in [(5_u32, 95_u32, 2.0), (25, 75, 5.0), (50, 50, 20.0)] {
            let q = ratio * f64::from(canary) / (ratio * f64::from(canary) + f64::from(stable));
            let mean = q * after(tally((canary, 1), (stable, 0), ratio)) + (1.0 - q) * after(tally((canary, 0), (stable, 1), ratio));
            assert!((mean - 1.0).abs() < 1e-9, "{mean}");
            let worse =
                (q + 0.01) * after(tally((canary, 1), (stable, 0), ratio)) + (0.99 - q) * after(tally((canary, 0), (stable, 1), ratio));
            assert!(worse < 1.0, "{worse}");
        }
        // Up to 8 requests, each failing with the margin.
        for asked in 1..=8_u32 {
            let mean: f64 = (0..1_u32 << asked)
                .map(|which| {
                    let failed = which.count_ones();
                    let mut absolute = Absolute::default();
                    absolute.bet(Side::new(asked, failed), 0.1);
                    0.1_f64.powi(i32::try_from(failed).unwrap()) * 0.9_f64.powi(i32::try_from(asked - failed).unwrap()) * absolute.wealth()
                })
                .sum();
            assert!((mean - 1.0).abs() < 1e-9, "{asked}: {mean}");
        }
    }

    #[test]
    fn a_margin_that_stable_itself_would_miss_does_not_speak() {
        assert_eq!(margin(0.005, Some(0.0025)), 0.0);
        assert_eq!(margin(0.005, Some(0.0005)), 0.005);
        assert_eq!(margin(0.005, None), 0.005);
    }

    #[test]
    fn six_hundred_good_requests_and_some_clear_half_a_percent() {
        let mut absolute = Absolute::default();
        let needed = (1..10_000).find(|_| {
            absolute.bet(Side::new(1, 0), 0.005);
            absolute.wealth() >= ENOUGH
        });
        // The rule of three says 600; two guesses and the word "always" cost 50.
        assert!(needed.is_some_and(|needed| (600..700).contains(&needed)), "{needed:?}");
    }

    #[test]
    fn hostile_counts_and_margins_stay_numbers() {
        for margin in [0.0, -1.0, 1.0, f64::NAN, f64::INFINITY, 1e-300, 0.999_999] {
            for side in [Side::new(0, u32::MAX), Side::new(u32::MAX, 0), Side::new(u32::MAX, u32::MAX), Side::new(u32::MAX, 9)] {
                let mut absolute = Absolute::default();
                (0..9).for_each(|_| absolute.bet(side, margin));
                assert!(absolute.wealth().is_finite() && absolute.wealth() > 0.0);
            }
        }
        let mut mirror = Mirror::default();
        (0..999).for_each(|_| mirror.bet(&[tally((u32::MAX, 0), (1, u32::MAX), 20.0)]));
        assert!(mirror.wealth().is_finite());
        let much_bad = {
            let mut absolute = Absolute::default();
            absolute.bet(Side::new(u32::MAX, u32::MAX / 2), 0.005);
            absolute.wealth()
        };
        assert!(much_bad < 1e-100, "half of four billion failed: {much_bad}");
    }
}
