//! Whether a probe is steady enough to vote: one that fails at rest now and then, while production is well, says more about itself than
//! about a version.
//!
//! A stretch of failures counts once. A probe that goes on failing is no flake: it is production that fails, and that is told.

use std::collections::VecDeque;

/// Runs that are remembered: two days of one each 3 minutes. 1,000 bytes per probe.
const REMEMBERED: usize = 1000;
/// Fewer say little: of a probe that fails in 1 % of its runs, more than 4 of 200 fail with a chance of 5 %.
const ENOUGH: usize = 200;
/// It does not vote above one in so many, and again at one in so many.
const UNSTEADY: usize = 50;
const STEADY: usize = 100;

/// The last runs of a probe at rest, across versions.
#[derive(Default)]
pub(super) struct Steadiness {
    /// Each that failed after one that passed.
    began_to_fail: VecDeque<bool>,
    failing: bool,
    /// One has passed.
    passed: bool,
    /// It does not vote.
    mute: bool,
}

/// That a probe does not vote any more, or that it does again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Turned {
    pub(super) mute: bool,
    pub(super) runs: usize,
    pub(super) flakes: usize,
}

impl Steadiness {
    /// A run at rest. Whether that changes anything.
    pub(super) fn saw(&mut self, failed: bool) -> Option<Turned> {
        self.began_to_fail.push_back(failed && !self.failing);
        self.failing = failed;
        self.passed |= !failed;
        if self.began_to_fail.len() > REMEMBERED {
            self.began_to_fail.pop_front();
        }
        let (runs, flakes) = (self.began_to_fail.len(), self.began_to_fail.iter().filter(|flake| **flake).count());
        let mute = if self.mute { flakes * STEADY > runs } else { runs >= ENOUGH && flakes * UNSTEADY > runs };
        let turned = mute != self.mute;
        self.mute = mute;
        turned.then_some(Turned { mute, runs, flakes })
    }

    /// So many runs, and none has passed.
    pub(super) fn in_vain(&self) -> Option<usize> {
        (!self.passed).then_some(self.began_to_fail.len())
    }

    /// It does not vote.
    pub(super) fn is_mute(&self) -> bool {
        self.mute
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of it when each of these fails or not.
    fn saw(steadiness: &mut Steadiness, runs: impl Iterator<Item = bool>) -> Vec<Turned> {
        runs.filter_map(|failed| steadiness.saw(failed)).collect()
    }

    fn one_in(flake: usize, runs: usize) -> impl Iterator<Item = bool> {
        (1..=runs).map(move |n| n % flake == 0)
    }

    #[test]
    fn one_that_fails_too_often_does_not_vote_until_it_seldom_does() {
        let mut probe = Steadiness::default();
        assert_eq!(saw(&mut probe, one_in(20, 199)), [], "too few");
        assert_eq!(saw(&mut probe, one_in(20, 1)), [Turned { mute: true, runs: 200, flakes: 9 }]);
        assert!(saw(&mut probe, one_in(60, 600)).is_empty() && probe.is_mute(), "under 2 % it is not steady yet");
        let back = saw(&mut probe, one_in(1_000_000, 1000));
        assert!(matches!(back.as_slice(), [Turned { mute: false, runs, flakes }] if flakes * 100 <= *runs), "{back:?}");
        assert!(!probe.is_mute() && probe.began_to_fail.len() == REMEMBERED);
    }

    #[test]
    fn two_of_a_hundred_are_not_too_many() {
        let mut probe = Steadiness::default();
        assert_eq!(saw(&mut probe, one_in(50, 5000)), []);
        assert_eq!(saw(&mut probe, one_in(49, 5000)).len(), 1);
    }

    #[test]
    fn an_outage_is_no_flake() {
        let mut probe = Steadiness::default();
        let day = |down: std::ops::Range<usize>| (0..480).map(move |n| down.contains(&n));
        assert_eq!(saw(&mut probe, day(100..160)), [], "three hours of it");
        assert_eq!(saw(&mut probe, day(0..480)), []);
    }
}
