//! What was counted over a whole rollout, for people.

use super::bet::{Side, Tally};

/// Requests and failures over a whole rollout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Requests to the canary and failures among them.
    pub canary: (u64, u64),
    /// Requests to stable and failures among them.
    pub stable: (u64, u64),
}

impl Sums {
    pub(super) fn add(&mut self, tally: &Tally) {
        let add = |sum: (u64, u64), side: Side| (sum.0.saturating_add(u64::from(side.asked)), sum.1.saturating_add(u64::from(side.failed)));
        self.canary = add(self.canary, tally.canary);
        self.stable = add(self.stable, tally.stable);
    }
}
