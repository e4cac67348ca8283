//! When to open the split again: errors jump while there is nothing to compare with.
//!
//! Before and after prove nothing, so a jump under all of the traffic only asks; the answer comes from the split, in the same book. A
//! question that was asked in vain costs minutes and never a rollback.

use jiff::Timestamp;

use super::bet::Side;

/// How many times the usual rate, and the rate of the concurrent phase, is a jump.
const JUMP: f64 = 3.0;
/// Fewer failures than this in the blocks of a jump are chance.
const LEAST_FAILED: u32 = 5;
/// How many blocks in a row.
const IN_A_ROW: u8 = 2;
/// How often a release may be asked about before a person is.
pub const RECHECKS: u8 = 3;
/// An hour of blocks of 5 s: less is no day.
const HISTORY: usize = 720;

/// What is watched under all of the traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Watch {
    /// Blocks in a row above the limit.
    pub(super) high: u8,
    /// Failures in them.
    pub(super) failed: u32,
    /// The split is wanted.
    pub(super) wanted: bool,
    /// How often it was given.
    pub(super) used: u8,
    /// What was usual when it was given, 0 to 1.
    pub(super) base: f64,
    /// The last block side by side in which more than that failed.
    pub(super) loud: Option<Timestamp>,
}

/// The rates that a jump is measured against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usual {
    /// The upper 99 % quantile of the failure rate of stable's blocks of the last day, 0 to 1. None: less than an hour is known.
    pub day: Option<f64>,
    /// The failure rate of both sides while they stood beside each other. None: they did not.
    pub concurrent: Option<f64>,
}

/// The quantile for [`Usual::day`]: blocks of stable of the last day. None: there are too few.
#[must_use]
pub fn day(blocks: &[Side]) -> Option<f64> {
    let mut rates: Vec<f64> = blocks.iter().filter(|block| block.asked > 0).map(|block| rate(*block)).collect();
    rates.sort_by(f64::total_cmp);
    let rank = (rates.len() * 99).div_ceil(100).saturating_sub(1);
    (rates.len() >= HISTORY).then(|| rates.get(rank).copied()).flatten()
}

fn rate(block: Side) -> f64 {
    f64::from(block.failed.min(block.asked)) / f64::from(block.asked.max(1))
}

impl Watch {
    /// Takes in one block of all of the traffic.
    pub(super) fn block(&mut self, block: Side, usual: Usual) {
        let known: Vec<f64> = usual.day.into_iter().chain(usual.concurrent).collect();
        if known.is_empty() || known.iter().any(|usual| rate(block) <= JUMP * usual) {
            (self.high, self.failed) = (0, 0);
            // What is not asked any more ends with its cause.
            self.wanted &= self.used < RECHECKS;
            return;
        }
        self.high = self.high.saturating_add(1);
        self.failed = self.failed.saturating_add(block.failed);
        self.wanted |= self.high >= IN_A_ROW && self.failed >= LEAST_FAILED;
    }

    /// The split is there again.
    pub(super) fn given(&mut self, usual: Usual) {
        let base = usual.day.into_iter().chain(usual.concurrent).fold(0.0, f64::max);
        *self = Self { used: self.used.saturating_add(u8::from(self.wanted)), base, ..Self::default() };
    }

    /// Takes in one block of both sides together after it was asked for.
    pub(super) fn beside(&mut self, at: Timestamp, both: Side) {
        if self.used > 0 && both.failed >= LEAST_FAILED && rate(both) > JUMP * self.base {
            self.loud = Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Usual = Usual { day: Some(0.01), concurrent: Some(0.005) };

    fn after(blocks: &[(u32, u32)]) -> Watch {
        let mut watch = Watch::default();
        for (asked, failed) in blocks {
            watch.block(Side::new(*asked, *failed), USUAL);
        }
        watch
    }

    #[test]
    fn two_blocks_in_a_row_above_three_times_both_ask() {
        assert!(after(&[(100, 4), (100, 4)]).wanted);
        assert!(!after(&[(100, 4), (100, 3), (100, 4)]).wanted, "3 % is not above 3 x 1 %");
        assert!(!after(&[(10, 2), (10, 2)]).wanted, "four failures are chance");
        assert!(after(&[(10, 2), (10, 3)]).wanted);
    }

    #[test]
    fn what_was_asked_stays_asked_until_it_is_given() {
        let mut watch = after(&[(100, 4), (100, 4), (100, 0)]);
        assert!(watch.wanted);
        watch.given(USUAL);
        assert_eq!(watch, Watch { used: 1, base: 0.01, ..Watch::default() });
        watch.given(USUAL);
        assert_eq!(watch.used, 1, "a split that nobody asked for");
    }

    #[test]
    fn side_by_side_it_is_loud_while_both_fail_more_than_usual() {
        let second = |second| Timestamp::from_second(second).unwrap();
        let mut watch = after(&[(100, 4), (100, 4)]);
        watch.beside(second(1), Side::new(100, 90));
        assert_eq!(watch.loud, None, "before it was given");
        watch.given(USUAL);
        watch.beside(second(2), Side::new(1000, 31));
        watch.beside(second(3), Side::new(1000, 30));
        watch.beside(second(4), Side::new(4, 4));
        assert_eq!(watch.loud, Some(second(2)));
    }

    #[test]
    fn when_it_is_not_asked_any_more_the_question_ends_with_its_cause() {
        let mut watch = Watch { used: RECHECKS, ..after(&[(100, 4), (100, 4)]) };
        assert!(watch.wanted);
        watch.block(Side::new(100, 0), USUAL);
        assert!(!watch.wanted);
    }

    #[test]
    fn the_quantile_by_hand_and_nothing_known_asks_nothing() {
        let blocks: Vec<Side> = (0..1000).map(|at| Side::new(1000, at)).collect();
        assert_eq!(day(&blocks), Some(0.989));
        assert_eq!(day(&blocks[..719]), None);
        let mut watch = Watch::default();
        (0..9).for_each(|_| watch.block(Side::new(9, u32::MAX), Usual { day: None, concurrent: None }));
        assert!(!watch.wanted);
    }
}
