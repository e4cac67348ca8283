//! What others do with the same numbers: a threshold per window, and a test that is repeated until it fires.

use haldane::decide::judge::bet::Side;

/// "Fewer than 99 % of the canary's requests succeed in a window of a minute, five times": the rule of most controllers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Threshold {
    seconds: u32,
    window: Side,
    strikes: u32,
}

impl Threshold {
    /// Whether it takes the canary back after this second.
    pub(crate) fn second(&mut self, canary: Side) -> bool {
        self.window = Side::new(self.window.asked + canary.asked, self.window.failed + canary.failed);
        self.seconds += 1;
        if self.seconds.is_multiple_of(60) {
            let Side { asked, failed } = std::mem::take(&mut self.window);
            self.strikes += u32::from(asked > 0 && f64::from(failed) > 0.01 * f64::from(asked));
        }
        self.strikes >= 5
    }
}

/// A one-sided z-test of two shares, nominal 1 %, over all that was seen so far, repeated every 5 s.
#[derive(Clone, Debug, Default)]
pub(crate) struct Repeated {
    seconds: u32,
    canary: (f64, f64),
    stable: (f64, f64),
}

impl Repeated {
    pub(crate) fn second(&mut self, canary: Side, stable: Side) -> bool {
        let add = |sum: (f64, f64), side: Side| (sum.0 + f64::from(side.asked), sum.1 + f64::from(side.failed));
        (self.canary, self.stable) = (add(self.canary, canary), add(self.stable, stable));
        self.seconds += 1;
        let ((n_c, e_c), (n_b, e_b)) = (self.canary, self.stable);
        if !self.seconds.is_multiple_of(5) || n_c < 1.0 || n_b < 1.0 || e_c + e_b < 1.0 {
            return false;
        }
        let pooled = (e_c + e_b) / (n_c + n_b);
        let z = (e_c / n_c - e_b / n_b) / (pooled * (1.0 - pooled) * (1.0 / n_c + 1.0 / n_b)).sqrt();
        z > 2.326
    }
}
