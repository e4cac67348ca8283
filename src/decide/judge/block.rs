//! How long a block is: longer than a burst. Chosen from stable's own history before the rollout, tried on stable itself, then fixed.
//!
//! Inside a block a burst is one vote; a burst that lasts longer than the block is several, and then good versions are blamed (5 s blocks and
//! stalls of 10 s: 4 % instead of 0.1 %, research on the judge, §1).

use serde::{Deserialize, Serialize};

use super::bet::{Fair, Share, Side, Tally};

/// Below this, what is left over of one block says nothing about the next.
const CORRELATED: f64 = 0.08;
/// 30 minutes: less is no history.
const HISTORY_S: u32 = 1800;
/// A rollout that is none lasts so long.
const PRETENDED_S: u32 = 600;

/// How many seconds a block of the errors, of latency and of the logs lasts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Block {
    /// Errors come one by one.
    S5,
    /// The default: nothing is known.
    #[default]
    S15,
    /// Faults of some ten seconds.
    S60,
}

impl Block {
    /// All, from the shortest.
    pub const ALL: [Self; 3] = [Self::S5, Self::S15, Self::S60];

    /// In seconds.
    #[must_use]
    pub fn seconds(self) -> u32 {
        match self {
            Self::S5 => 5,
            Self::S15 => 15,
            Self::S60 => 60,
        }
    }
}

/// How the metrics of one app are bet on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manner {
    /// The block.
    pub block: Block,
    /// ρ0: this many times stable's rate is no fault.
    pub tolerance: f64,
}

impl Manner {
    /// With nothing tolerated.
    #[must_use]
    pub fn of(block: Block) -> Self {
        Self { block, tolerance: 1.0 }
    }

    /// The next more careful one after an A/A test that failed: a longer block, then a quarter more errors tolerated, then none: the metric
    /// loses its vote, and the status says so.
    #[must_use]
    pub fn more_careful(self) -> Option<Self> {
        match self.block {
            Block::S5 => Some(Self { block: Block::S15, ..self }),
            Block::S15 => Some(Self { block: Block::S60, ..self }),
            Block::S60 if self.tolerance < 1.25 => Some(Self { tolerance: 1.25, ..self }),
            Block::S60 => None,
        }
    }
}

/// The shortest block that holds stable's bursts. `pods`: for each pod its requests and failures per so many seconds, all of the same time. The
/// residual of a pod is its errors less its fair share of all, less its own mean; what matters is how much of it goes on in the next block.
#[must_use]
pub fn choose(pods: &[Vec<Side>], step_s: u32) -> Block {
    if !is_history(pods, step_s) {
        return Block::default();
    }
    let residuals = residuals(pods, pods.iter().map(Vec::len).min().unwrap_or(0));
    Block::ALL.into_iter().find(|block| carried_on(&residuals, *block, step_s) < CORRELATED).unwrap_or(Block::S60)
}

/// Whether it is long enough, and of pods enough, to choose by.
#[must_use]
pub fn is_history(pods: &[Vec<Side>], step_s: u32) -> bool {
    let shortest = pods.iter().map(Vec::len).min().unwrap_or(0);
    pods.len() >= 2 && u32::try_from(shortest).unwrap_or(u32::MAX).saturating_mul(step_s) >= HISTORY_S
}

fn steps(seconds: u32, step_s: u32) -> usize {
    usize::try_from(seconds / step_s.max(1)).unwrap_or(1).max(1)
}

fn residuals(pods: &[Vec<Side>], seconds: usize) -> Vec<Vec<f64>> {
    let mut all = vec![(0.0, 0.0); seconds];
    for pod in pods {
        for ((asked, failed), side) in all.iter_mut().zip(pod) {
            *asked += f64::from(side.asked);
            *failed += f64::from(side.failed);
        }
    }
    let due = |side: &Side, (asked, failed): &(f64, f64)| if *asked > 0.0 { failed * f64::from(side.asked) / asked } else { 0.0 };
    pods.iter().map(|pod| pod.iter().zip(&all).map(|(side, all)| f64::from(side.failed) - due(side, all)).collect()).collect()
}

/// The autocorrelation of the residuals from one block to the next, over all pods.
fn carried_on(residuals: &[Vec<f64>], block: Block, step_s: u32) -> f64 {
    let length = steps(block.seconds(), step_s);
    let (mut products, mut squares) = (0.0, 0.0);
    for pod in residuals {
        let sums: Vec<f64> = pod.chunks_exact(length).map(|block| block.iter().fold(0.0, |sum, each| sum + each)).collect();
        let count = u32::try_from(sums.len()).unwrap_or(u32::MAX);
        let mean = sums.iter().fold(0.0, |sum, each| sum + each) / f64::from(count.max(1));
        products = sums.windows(2).fold(products, |sum, pair| match pair {
            [one, next] => sum + (one - mean) * (next - mean),
            _ => sum,
        });
        squares = sums.iter().fold(squares, |sum, each| sum + (each - mean) * (each - mean));
    }
    if squares > 0.0 { products / squares } else { 0.0 }
}

/// What came of a rollout that was none: a stable pod took the part of the canary for ten minutes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pretended {
    /// The most that the evidence against it ever was.
    pub peak: f64,
    /// What it was in the end.
    pub end: f64,
}

/// How much evidence against a stable pod is too much to be chance: 1 in 100 (Ville).
const PEAK: f64 = 100.0;
/// The mean of what should be 1 at most.
const MEAN: f64 = 2.0;

/// Whether this manner of betting leaves stable alone: not more than one in a hundred blames it 100-fold, and the mean stays below 2.
#[must_use]
pub fn harmless(pretended: &[Pretended]) -> bool {
    let blamed = pretended.iter().filter(|one| one.peak >= PEAK).count();
    let sum = pretended.iter().fold(0.0, |sum, one| sum + one.end);
    let count = u32::try_from(pretended.len()).unwrap_or(u32::MAX);
    blamed <= pretended.len() / 100 && (pretended.is_empty() || sum / f64::from(count) <= MEAN)
}

/// Each pod of stable as a canary for ten minutes, all through its history. `pods` as for [`choose`].
#[must_use]
pub fn pretended(pods: &[Vec<Side>], step_s: u32, manner: Manner) -> Vec<Pretended> {
    let length = pods.iter().map(Vec::len).min().unwrap_or(0);
    let all =
        pods.iter().fold(vec![Side::default(); length], |all, pod| all.iter().zip(pod).map(|(one, other)| one.plus(*other)).collect());
    let (rollout, block) = (steps(PRETENDED_S, step_s), steps(manner.block.seconds(), step_s));
    let one = |pod: &[Side], all: &[Side]| {
        let (mut share, mut peak) = (Share::default(), 0.0_f64);
        for (pod, all) in pod.chunks(block).zip(all.chunks(block)) {
            let mut tally = Tally::default();
            for (one, all) in pod.iter().zip(all) {
                let others = Side::new(all.asked.saturating_sub(one.asked), all.failed.saturating_sub(one.failed));
                tally.scrape(*one, others, Fair::by_requests(manner.tolerance));
            }
            share.bet(&[tally]);
            peak = peak.max(share.wealth());
        }
        Pretended { peak, end: share.wealth() }
    };
    pods.iter().flat_map(|pod| pod.chunks_exact(rollout).zip(all.chunks_exact(rollout)).map(|(pod, all)| one(pod, all))).collect()
}

/// The first manner, from the one that history suggests, under which stable is harmless to itself. None: the metric has no vote.
pub fn tried(first: Manner, mut test: impl FnMut(Manner) -> Vec<Pretended>) -> Option<Manner> {
    let mut manner = first;
    while !harmless(&test(manner)) {
        manner = manner.more_careful()?;
    }
    Some(manner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten pods, half an hour, and errors of one pod that last so many seconds every `every` seconds.
    fn history(lasts: usize, every: usize) -> Vec<Vec<Side>> {
        let side = |pod: usize, second: usize| {
            let stalls = lasts > 0 && (second / every) % 10 == pod && second % every < lasts;
            // Not a pattern that a block length divides: one error each 97 s.
            let stray = (second * 7 + pod * 13).is_multiple_of(97);
            Side::new(10, if stalls { 5 } else { u32::from(stray) })
        };
        (0..10).map(|pod| (0..3600).map(|second| side(pod, second)).collect()).collect()
    }

    fn by_fives(pod: &[Side]) -> Vec<Side> {
        pod.chunks(5)
            .map(|five| five.iter().fold(Side::default(), |sum, one| Side::new(sum.asked + one.asked, sum.failed + one.failed)))
            .collect()
    }

    #[test]
    fn a_pod_that_always_fails_more_blames_stable_and_equal_ones_do_not() {
        let same = history(0, 1);
        assert!(harmless(&pretended(&same, 1, Manner::of(Block::S5))));
        let mut worse = same.clone();
        worse[3].iter_mut().step_by(7).for_each(|side| side.failed += 1);
        let found = pretended(&worse, 1, Manner::of(Block::S5));
        assert_eq!(found.len(), 60, "10 pods for 10 minutes in an hour");
        assert!(found.iter().filter(|one| one.peak >= PEAK).count() >= 6, "{found:?}");
        let fives: Vec<Vec<Side>> = worse.iter().map(|pod| by_fives(pod)).collect();
        assert_eq!(pretended(&fives, 5, Manner::of(Block::S15)).len(), 60);
        assert!(!harmless(&pretended(&fives, 5, Manner::of(Block::S60))));
    }

    #[test]
    fn the_block_is_longer_than_the_burst() {
        assert_eq!(choose(&history(0, 1), 1), Block::S5);
        assert!(choose(&history(12, 120), 1) >= Block::S15);
        assert_eq!(choose(&history(40, 300), 1), Block::S60);
        let fives: Vec<Vec<Side>> = history(40, 300).iter().map(|pod| by_fives(pod)).collect();
        assert_eq!(choose(&fives, 5), Block::S60);
    }

    #[test]
    fn without_history_it_is_fifteen_seconds() {
        assert_eq!(choose(&[], 1), Block::S15);
        assert_eq!(choose(&[vec![Side::new(9, 1); 99], vec![Side::new(9, 1); 99]], 1), Block::S15);
        assert_eq!(choose(&[vec![Side::new(u32::MAX, u32::MAX); 1800], vec![Side::default(); 1800]], 1), Block::S5);
    }

    #[test]
    fn the_correlation_by_hand() {
        // Blocks of one second: 1 1 0 0, mean ½, products ¼ − ¼ + ¼ = ¼, squares 1.
        assert!((carried_on(&[vec![1.0, 1.0, 0.0, 0.0]], Block::S5, 5) - 0.25).abs() < 1e-12);
        assert_eq!(carried_on(&[vec![0.0; 9]], Block::S5, 5), 0.0);
    }

    #[test]
    fn who_blames_stable_is_made_more_careful_until_it_has_no_vote() {
        let quiet = vec![Pretended { peak: 3.0, end: 0.5 }; 90];
        let one = [quiet.clone(), vec![Pretended { peak: 100.0, end: 9.0 }]].concat();
        assert!(harmless(&quiet) && harmless(&[]));
        assert!(!harmless(&one), "one of fewer than a hundred");
        assert!(harmless(&[quiet.clone(), one].concat()), "one of 181");
        assert!(!harmless(&[Pretended { peak: 9.0, end: 2.1 }]));
        let bad = vec![Pretended { peak: 1000.0, end: 1000.0 }];
        let first = Manner::of(Block::S5);
        assert_eq!(tried(first, |_| quiet.clone()), Some(first));
        assert_eq!(
            tried(first, |manner| if manner.tolerance > 1.0 { quiet.clone() } else { bad.clone() }),
            Some(Manner { block: Block::S60, tolerance: 1.25 })
        );
        assert_eq!(tried(first, |_| bad.clone()), None);
    }
}
