//! Wealth that is spread over bets of different boldness: what every purse is made of.
//!
//! Only `+ − × ÷` and comparisons of `f64`, in a fixed order: IEEE 754 says what each of them gives to the last bit, so that what
//! one machine decided another one replays. No logarithm, no power function, no fused multiplication, no sum of unknown order.

/// Wealth never leaves `LEAST..=MOST`: far beyond every threshold (20,000), and the product of two still is a number.
pub const LEAST: f64 = 1e-200;
/// See [`LEAST`].
pub const MOST: f64 = 1e200;

/// What a source may claim at most: what is no number is no evidence.
#[must_use]
pub fn clamped(wealth: f64) -> f64 {
    if wealth >= MOST {
        MOST
    } else if wealth >= LEAST {
        wealth
    } else {
        LEAST
    }
}

/// `base` multiplied `times` times, clamped at each multiplication. By squaring: 32 steps at most.
#[must_use]
pub fn power(base: f64, times: u32) -> f64 {
    let (mut product, mut square, mut left) = (1.0, clamped(base), times);
    while left > 0 {
        if left % 2 == 1 {
            product = clamped(product * square);
        }
        square = clamped(square * square);
        left /= 2;
    }
    product
}

/// The wealth of each of `N` bets, in their order. All of them begin with what they are given; the whole begins with 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arms<const N: usize>([f64; N]);

impl<const N: usize> Arms<N> {
    /// What each bet begins with.
    #[must_use]
    pub fn new(start: [f64; N]) -> Self {
        Self(start.map(clamped))
    }

    /// What each bet has now.
    #[must_use]
    pub fn each(&self) -> [f64; N] {
        self.0
    }

    /// The evidence: how much 1 has become.
    #[must_use]
    pub fn wealth(&self) -> f64 {
        clamped(self.0.iter().fold(0.0, |sum, arm| sum + arm))
    }

    /// Every bet is paid its factor. A factor that is no number, or below zero, pays nothing and costs nothing.
    pub fn play(&mut self, factors: [f64; N]) {
        for (arm, factor) in self.0.iter_mut().zip(factors) {
            if factor >= 0.0 {
                *arm = clamped(*arm * factor);
            }
        }
    }

    /// A part of all wealth is spread anew as at the beginning, so that a fault that begins late still finds bets that can win.
    pub fn mix(&mut self, start: [f64; N], part: f64) {
        let share = part * self.wealth();
        for (arm, start) in self.0.iter_mut().zip(start) {
            *arm = clamped((1.0 - part) * *arm + share * start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_are_what_multiplication_gives_and_stay_in_bounds() {
        assert_eq!(power(3.0, 0), 1.0);
        assert_eq!(power(3.0, 5), 243.0);
        assert_eq!(power(0.5, 10), 1.0 / 1024.0);
        assert_eq!(power(2.0, u32::MAX), MOST);
        assert_eq!(power(0.5, u32::MAX), LEAST);
        assert_eq!(power(f64::NAN, 3), LEAST);
    }

    #[test]
    fn a_factor_that_is_no_number_pays_nothing() {
        let mut arms = Arms::new([0.5, 0.5]);
        arms.play([f64::NAN, -1.0]);
        assert_eq!(arms.wealth(), 1.0);
        arms.play([f64::INFINITY, 0.0]);
        assert_eq!(arms.each(), [MOST, LEAST]);
    }

    #[test]
    fn mixing_keeps_the_sum() {
        let start = [0.25, 0.25, 0.5];
        let mut arms = Arms::new(start);
        arms.play([8.0, 1.0, 0.5]);
        let before = arms.wealth();
        arms.mix(start, 0.01);
        assert!((arms.wealth() - before).abs() < 1e-12);
        assert!((arms.each()[0] - (0.99 * 2.0 + 0.01 * 2.5 * 0.25)).abs() < 1e-12);
    }
}
