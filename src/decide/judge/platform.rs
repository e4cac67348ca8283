//! The purse of the platform: restarts and kills for want of memory, per pod and minute, against how often they happen anyway.
//!
//! A Poisson bet `r^k · exp(−(r−1)·λ·T)`: mean 1 for a rate of λ, less below it. The exponentials are constants of this source, so that no
//! machine has to compute one; one event counts per pod and minute, which only takes from the evidence.

use super::arms::{Arms, LEAST, clamped, power};

/// How many times as many events each bet expects.
const RATIOS: [f64; 3] = [10.0, 100.0, 1000.0];
/// exp(−(r−1)/1440) for each: what a minute of one pod without an event costs at one event a day.
const MINUTE: [f64; 3] = [0.993_769_490_623_394_7, 0.933_560_040_917_111, 0.499_698_681_109_539_8];
/// The last is cash.
const START: [f64; 4] = [0.8 / 3.0, 0.8 / 3.0, 0.8 / 3.0, 0.2];
/// Spread anew after each minute.
const MIXED: f64 = 0.001;

/// The bet that the canary's pods fall over more often than stable's do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Platform(pub(super) Arms<4>);

impl Default for Platform {
    fn default() -> Self {
        Self(Arms::new(START))
    }
}

/// Minutes of a day.
const DAY: u64 = 1440;

/// λ0 in whole events per pod and day, 1 at least, from the history of stable: the upper bound of its rate at about 97.5 %,
/// `events + 2·√events + 4` over the time of its pods (Poisson; √ by whole numbers). Of pods that never fell nothing more than the least is
/// assumed, however young they are.
#[must_use]
pub fn usual(events: u32, pod_minutes: u64) -> u32 {
    if events == 0 {
        return 1;
    }
    let events = u64::from(events);
    let bound = events + (events.isqrt() + 1) * 2 + 4;
    let a_day = bound.saturating_mul(DAY).div_ceil(pod_minutes.max(1));
    u32::try_from(a_day).unwrap_or(u32::MAX)
}

impl Platform {
    /// How much 1 has become.
    #[must_use]
    pub fn wealth(&self) -> f64 {
        self.0.wealth()
    }

    /// Bets on whole minutes of pods, `events` at most one for each, where `usual` happen per pod and day.
    pub fn bet(&mut self, usual: u32, pod_minutes: u32, events: u32) {
        let events = events.min(pod_minutes);
        let minutes = pod_minutes.saturating_mul(usual.max(1));
        let mut factors = [1.0; 4];
        for ((factor, ratio), minute) in factors.iter_mut().zip(RATIOS).zip(MINUTE) {
            let quiet = power(minute, minutes);
            // What is below every number stays there, however many events stand beside it.
            *factor = if quiet <= LEAST { LEAST } else { clamped(quiet * power(ratio, events)) };
        }
        self.0.play(factors);
        self.0.mix(START, MIXED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_what_it_says() {
        for (ratio, minute) in RATIOS.iter().zip(MINUTE) {
            assert!(((-(ratio - 1.0) / 1440.0).exp() - minute).abs() < 1e-15, "{ratio}: {:.17}", (-(ratio - 1.0) / 1440.0).exp());
        }
    }

    #[test]
    fn by_hand_one_restart_in_two_pod_minutes() {
        let mut platform = Platform::default();
        platform.bet(1, 2, 1);
        let by_hand: f64 = RATIOS.iter().zip(MINUTE).map(|(ratio, minute)| 0.8 / 3.0 * ratio * minute * minute).sum::<f64>() + 0.2;
        assert!((platform.wealth() - by_hand).abs() < 1e-9, "{by_hand}");
    }

    #[test]
    fn the_third_restart_in_some_minutes_is_enough_and_one_is_not() {
        let mut platform = Platform::default();
        let mut restarts = 0;
        for minute in 1..=30_u32 {
            let event = u32::from(minute % 3 == 0);
            restarts += event;
            platform.bet(1, 1, event);
            if platform.wealth() >= 16_667.0 {
                break;
            }
        }
        assert!((2..=4).contains(&restarts), "{restarts}");
        let mut once = Platform::default();
        once.bet(1, 1, 1);
        assert!(once.wealth() < 1000.0, "{}", once.wealth());
    }

    #[test]
    fn the_mean_is_at_most_one_at_the_usual_rate() {
        for usual in [1_u32, 4, 24] {
            let rate = f64::from(usual) / 1440.0;
            // One pod and minute: no event, or one or more of them, which count as one.
            let (mut none, mut one) = (Platform::default(), Platform::default());
            none.bet(usual, 1, 0);
            one.bet(usual, 1, 1);
            let mean = (-rate).exp() * none.wealth() + (1.0 - (-rate).exp()) * one.wealth();
            assert!(mean <= 1.0, "{usual}: {mean}");
        }
    }

    #[test]
    fn the_usual_rate_by_hand() {
        assert_eq!(usual(0, 0), 1);
        assert_eq!(usual(0, 70 * DAY), 1);
        assert_eq!(usual(100, 10 * DAY), 13, "(100 + 2·11 + 4)/10 = 12.6");
        assert_eq!(usual(3, DAY / 2), 22, "(3 + 2·2 + 4)·2: pods that are half a day old");
        assert_eq!((usual(1, 0), usual(u32::MAX, 1)), (9 * 1440, u32::MAX));
    }

    #[test]
    fn hostile_counts_stay_numbers() {
        for (usual, minutes, events) in [(u32::MAX, u32::MAX, u32::MAX), (0, 0, u32::MAX), (1, u32::MAX, 0), (1, u32::MAX, u32::MAX)] {
            let mut platform = Platform::default();
            (0..99).for_each(|_| platform.bet(usual, minutes, events));
            assert!(platform.wealth().is_finite() && platform.wealth() > 0.0);
        }
    }

    #[test]
    fn a_leak_after_a_quiet_day_is_found() {
        let mut platform = Platform::default();
        (0..1440).for_each(|_| platform.bet(1, 5, 0));
        let restarts = (1..1000).find(|_| {
            (0..4).for_each(|_| platform.bet(1, 5, 0));
            platform.bet(1, 5, 1);
            platform.wealth() >= 16_667.0
        });
        assert!(restarts.is_some_and(|restarts| restarts <= 8), "{restarts:?}");
    }
}
