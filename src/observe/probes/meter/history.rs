//! What the pods of stable did at rest, in steps of some seconds: how a rollout's metrics are to be bet on.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;

use crate::{
    decide::judge::{
        bet::Side,
        block::{Block, Manner, choose, is_history, pretended, tried},
        recheck,
    },
    model::world::Usual,
};

/// Seconds of a step.
pub(super) const STEP_S: u32 = 5;
/// Two hours. 1440 × 10 pods × 8 bytes = 115 kB for an app.
const STEPS: usize = 1440;
/// How often it is looked at as a whole: some ms of arithmetic.
const EVERY_S: i64 = 60;

/// Two hours at most, of the pods that are there now.
#[derive(Default)]
pub(super) struct History {
    /// The number of the last step, counted from the beginning of time.
    last: i64,
    pods: BTreeMap<String, VecDeque<Side>>,
    looked: i64,
}

impl History {
    /// Adds what each pod counted since the step before. A pod that is not there any more is forgotten with its past: what it shares with
    /// the others is the same time.
    pub(super) fn add<'a, S: Iterator<Item = Side>>(&mut self, now: Timestamp, pods: impl Iterator<Item = (&'a str, S)>) {
        let step = now.as_second() / i64::from(STEP_S);
        let passed = usize::try_from(step - self.last).unwrap_or(0);
        if passed == 0 {
            return;
        }
        self.last = step;
        let told: BTreeMap<&str, Side> = pods.map(|(pod, sides)| (pod, sides.fold(Side::default(), Side::plus))).collect();
        self.pods.retain(|pod, _| told.contains_key(pod.as_str()));
        for (pod, side) in told {
            let known = self.pods.entry(pod.to_owned()).or_default();
            // Steps in which nobody looked are quiet for everyone.
            let missed = if known.is_empty() { 0 } else { (passed - 1).min(STEPS) };
            known.extend(std::iter::repeat_n(Side::default(), missed));
            known.push_back(side);
            let over = known.len().saturating_sub(STEPS);
            known.drain(..over);
        }
    }

    /// How requests are to be bet on, and what is usual; none: it is not yet time to look again.
    pub(super) fn usual(&mut self, now: Timestamp) -> Option<Usual> {
        let second = now.as_second();
        if self.looked != 0 && second < self.looked + EVERY_S {
            return None;
        }
        self.looked = second;
        let pods = self.of_the_same_time();
        let long = is_history(&pods, STEP_S);
        let first = Manner::of(choose(&pods, STEP_S));
        let manner = if long { tried(first, |manner| pretended(&pods, STEP_S, manner)) } else { Some(first) };
        let blocks = in_blocks(&pods);
        let (asked, failed) =
            blocks.iter().fold((0_u64, 0_u64), |(asked, failed), side| (asked + u64::from(side.asked), failed + u64::from(side.failed)));
        let millionths = (failed * 1_000_000).checked_div(asked).and_then(|rate| u32::try_from(rate).ok());
        Some(Usual {
            manner,
            bursty: long && manner.is_some_and(|manner| manner.block > Block::S5),
            day: recheck::day(&blocks),
            rate: millionths.map(|rate| f64::from(rate) / 1e6),
        })
    }

    /// The last steps that all of the longer-lived pods share: one that came a minute ago must not hide the hour of the others.
    fn of_the_same_time(&self) -> Vec<Vec<Side>> {
        let longest = self.pods.values().map(VecDeque::len).max().unwrap_or(0);
        let old: Vec<&VecDeque<Side>> = self.pods.values().filter(|pod| pod.len() * 2 >= longest).collect();
        let shared = old.iter().map(|pod| pod.len()).min().unwrap_or(0);
        old.iter().map(|pod| pod.iter().skip(pod.len() - shared).copied().collect()).collect()
    }
}

/// All pods together.
fn in_blocks(pods: &[Vec<Side>]) -> Vec<Side> {
    let length = pods.iter().map(Vec::len).min().unwrap_or(0);
    (0..length).map(|at| pods.iter().filter_map(|pod| pod.get(at)).copied().fold(Side::default(), Side::plus)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    fn add(history: &mut History, second: i64, pods: &[(&str, (u32, u32))]) {
        history.add(at(second), pods.iter().map(|(pod, (asked, failed))| (*pod, std::iter::once(Side::new(*asked, *failed)))));
    }

    #[test]
    fn without_half_an_hour_a_block_is_fifteen_seconds_and_nothing_is_bursty() {
        let mut history = History::default();
        (0..100).for_each(|step| add(&mut history, step * 5, &[("a", (10, 1)), ("b", (10, 0))]));
        let usual = history.usual(at(500)).unwrap();
        assert_eq!((usual.manner, usual.bursty, usual.day, usual.rate), (Some(Manner::of(Block::S15)), false, None, Some(0.05)));
        assert_eq!(history.usual(at(530)), None, "it was just looked at");
    }

    #[test]
    fn an_hour_of_bursts_makes_blocks_longer() {
        let mut history = History::default();
        for step in 0..720_i64 {
            let bad = |pod: i64| if (step / 8) % 20 == pod * 5 { (100, 50) } else { (100, 0) };
            add(&mut history, step * 5, &[("a", bad(0)), ("b", bad(1)), ("c", bad(2)), ("d", bad(3))]);
        }
        let usual = history.usual(at(3600)).unwrap();
        assert!(usual.manner.is_none_or(|manner| manner.block == Block::S60), "{usual:?}");
        assert!(usual.day.is_some());
    }

    #[test]
    fn pods_that_leave_are_forgotten_and_missed_steps_are_quiet() {
        let mut history = History::default();
        add(&mut history, 0, &[("a", (1, 0)), ("b", (1, 0))]);
        add(&mut history, 0, &[("a", (9, 0)), ("b", (9, 0))]);
        add(&mut history, 20, &[("a", (2, 0)), ("c", (2, 0))]);
        assert_eq!(history.pods.keys().collect::<Vec<_>>(), ["a", "c"]);
        let asked: Vec<u32> = history.pods.get("a").unwrap().iter().map(|side| side.asked).collect();
        assert_eq!(asked, [1, 0, 0, 0, 2]);
        (0..2000).for_each(|step| add(&mut history, 25 + step * 5, &[("a", (1, 0))]));
        assert_eq!(history.pods.get("a").unwrap().len(), STEPS);
    }
}
