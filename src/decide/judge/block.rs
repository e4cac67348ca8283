//! How long a block is: longer than a burst. Chosen from stable's own history before the rollout, tried on stable itself, then fixed.
//!
//! Inside a block a burst is one vote; a burst that lasts longer than the block is several, and then good versions are blamed (5 s blocks and
//! stalls of 10 s: 4 % instead of 0.1 %, research on the judge, §1).

use serde::{Deserialize, Serialize};

use super::bet::Side;

/// Below this, what is left over of one block says nothing about the next.
const CORRELATED: f64 = 0.08;
/// 30 minutes: less is no history.
const HISTORY_S: usize = 1800;

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

/// The shortest block that holds stable's bursts. `pods`: for each pod its requests and failures per second, all of the same seconds. The
/// residual of a pod is its errors less its fair share of all, less its own mean; what matters is how much of it goes on in the next block.
#[must_use]
pub fn choose(pods: &[Vec<Side>]) -> Block {
    let seconds = pods.iter().map(Vec::len).min().unwrap_or(0);
    if seconds < HISTORY_S || pods.len() < 2 {
        return Block::default();
    }
    let residuals = residuals(pods, seconds);
    Block::ALL.into_iter().find(|block| carried_on(&residuals, block.seconds()) < CORRELATED).unwrap_or(Block::S60)
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
fn carried_on(residuals: &[Vec<f64>], block_s: u32) -> f64 {
    let length = usize::try_from(block_s).unwrap_or(1);
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

    #[test]
    fn the_block_is_longer_than_the_burst() {
        assert_eq!(choose(&history(0, 1)), Block::S5);
        assert!(choose(&history(12, 120)) >= Block::S15);
        assert_eq!(choose(&history(40, 300)), Block::S60);
    }

    #[test]
    fn without_history_it_is_fifteen_seconds() {
        assert_eq!(choose(&[]), Block::S15);
        assert_eq!(choose(&[vec![Side::new(9, 1); 99], vec![Side::new(9, 1); 99]]), Block::S15);
        assert_eq!(choose(&[vec![Side::new(u32::MAX, u32::MAX); 1800], vec![Side::default(); 1800]]), Block::S5);
    }

    #[test]
    fn the_correlation_by_hand() {
        // Blocks of one second: 1 1 0 0, mean ½, products ¼ − ¼ + ¼ = ¼, squares 1.
        assert!((carried_on(&[vec![1.0, 1.0, 0.0, 0.0]], 1) - 0.25).abs() < 1e-12);
        assert_eq!(carried_on(&[vec![0.0; 9]], 1), 0.0);
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
