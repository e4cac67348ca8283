//! From scrapes to blocks: what the observer does between two looks of the judge. Nothing is decided here.
//!
//! A share of traffic that changes belongs between two blocks, and a pod that has just started into none: the first [`WARM_UP_S`] seconds of
//! each new pod count neither way (cold caches: 10 times the errors for 30 s blame 10 % of good versions, research on the judge, §1).

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::{
    bet::{Fair, Side, Tally},
    block::Manner,
    book::{Dated, Input},
    latency::EDGES,
    terms::Terms,
};

/// The first seconds of each new pod, which nobody may hand in here.
pub const WARM_UP_S: u32 = 30;
/// Of a block for promotion: a burst in there costs patience, not a good version.
const MIRROR_S: u32 = 2;
/// A block does not end in a wave of failures. Counters of both sides are never read at the very same moment; what is read a tenth of a second
/// late would be alone in the next block, and blame its side there (simulated: 84 % of good versions). Waves have this many times the failures of
/// the block's other scrapes …
const WAVE: f64 = 2.0;
/// … and so many more: below that it is chance.
const CREST: f64 = 3.0;

/// One side of one stratum since the scrape before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Requests and failures.
    pub side: Side,
    /// Requests whose time was taken.
    pub timed: u32,
    /// Those of them that were slower than each edge.
    pub slow: [u32; EDGES],
}

impl Reading {
    /// Adds that of another pod.
    pub fn add(&mut self, other: Self) {
        let sum = |one: u32, other: u32| one.saturating_add(other);
        self.side = self.side.plus(other.side);
        self.timed = sum(self.timed, other.timed);
        for (slow, more) in self.slow.iter_mut().zip(other.slow) {
            *slow = sum(*slow, more);
        }
    }
}

/// One stratum on both sides, in one scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stratum<'a> {
    /// Endpoint and method.
    pub name: &'a str,
    /// The canary.
    pub canary: Reading,
    /// Stable.
    pub stable: Reading,
}

/// Lines of one signature that history does not know, in one scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lines<'a> {
    /// What they have in common.
    pub signature: &'a str,
    /// Of the canary.
    pub canary: u32,
    /// Of stable.
    pub stable: u32,
}

/// One look at both sides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scrape<'a> {
    /// All strata with a request on either side.
    pub strata: &'a [Stratum<'a>],
    /// All lines.
    pub lines: &'a [Lines<'a>],
    /// Pods that were looked at: of the canary, of stable.
    pub pods: (u32, u32),
}

/// The blocks that are open.
#[derive(Clone, Debug)]
pub struct Collector {
    terms: Terms,
    errors: Open<Vec<Tally>>,
    latency: Open<[Tally; EDGES]>,
    logs: Open<BTreeMap<String, Tally>>,
    mirror: Open<Vec<Tally>>,
    alone: Open<Side>,
    whole: bool,
    last: Option<Timestamp>,
}

/// A block that is filled.
#[derive(Clone, Debug)]
struct Open<T> {
    since: Timestamp,
    length_s: u32,
    holds: T,
    wave: Wave,
}

/// Failures of both sides in a block, or lines.
#[derive(Clone, Copy, Debug, Default)]
struct Wave {
    latest: f64,
    before: f64,
    scrapes: u32,
}

impl Wave {
    fn scrape(&mut self, failed: f64) {
        self.before += self.latest;
        self.latest = failed;
        self.scrapes = self.scrapes.saturating_add(1);
    }

    fn stands(self) -> bool {
        let others = f64::from(self.scrapes.saturating_sub(1).max(1));
        self.latest > WAVE * self.before / others + CREST
    }
}

impl<T: Default> Open<T> {
    fn new(since: Timestamp, length_s: u32, holds: T) -> Self {
        Self { since, length_s, holds, wave: Wave::default() }
    }

    /// What it holds, when it is full or must end.
    fn close(&mut self, at: Timestamp, now: bool, next: T) -> Option<T> {
        let lasts = at.duration_since(self.since);
        let length = SignedDuration::from_secs(i64::from(self.length_s));
        let full = lasts >= length && (!self.wave.stands() || lasts >= length * 2);
        (full || now).then(|| {
            (self.since, self.wave) = (at, Wave::default());
            std::mem::replace(&mut self.holds, next)
        })
    }
}

impl Collector {
    /// Empty blocks from now on. `whole`: the canary has all of the traffic.
    #[must_use]
    pub fn new(terms: &Terms, whole: bool, now: Timestamp) -> Self {
        let terms = terms.clone().held();
        let length = |manner: Option<Manner>| manner.map_or(0, |manner| manner.block.seconds());
        Self {
            errors: Open::new(now, length(terms.errors), vec![Tally::default(); terms.strata.len() + 1]),
            latency: Open::new(now, length(terms.latency), [Tally::default(); EDGES]),
            logs: Open::new(now, length(terms.logs), BTreeMap::new()),
            mirror: Open::new(now, MIRROR_S, vec![Tally::default(); terms.ratios.len()]),
            alone: Open::new(now, length(terms.errors), Side::default()),
            terms,
            whole,
            last: None,
        }
    }

    /// Adds a scrape that ended now; what blocks it filled, to be handed to [`super::book::Book::with`].
    pub fn scrape(&mut self, now: Timestamp, seen: Scrape<'_>) -> Vec<Dated> {
        let failed = |reading: Reading| f64::from(reading.side.failed);
        let failed = seen.strata.iter().fold(0.0, |sum, stratum| sum + failed(stratum.canary) + failed(stratum.stable));
        for wave in [&mut self.errors.wave, &mut self.latency.wave, &mut self.mirror.wave, &mut self.alone.wave] {
            wave.scrape(failed);
        }
        let written = seen.lines.iter().fold(0.0, |sum, lines| sum + f64::from(lines.canary) + f64::from(lines.stable));
        self.logs.wave.scrape(written);
        if self.whole {
            for stratum in seen.strata {
                let Side { asked, failed } = stratum.canary.side;
                let holds = &mut self.alone.holds;
                *holds = Side::new(holds.asked.saturating_add(asked), holds.failed.saturating_add(failed));
            }
        } else {
            self.compare(seen);
        }
        self.closed(now, false)
    }

    /// The share of traffic changes now: what is open ends here.
    pub fn cut(&mut self, now: Timestamp, whole: bool) -> Vec<Dated> {
        let mut blocks = self.closed(now, true);
        if whole != self.whole {
            self.whole = whole;
            blocks.extend(self.dated(now, vec![Input::Whole(whole)]));
        }
        blocks
    }

    fn compare(&mut self, seen: Scrape<'_>) {
        let (mut canary, mut stable) = (0_u32, 0_u32);
        for stratum in seen.strata {
            let (on_canary, on_stable) = (stratum.canary, stratum.stable);
            canary = canary.saturating_add(on_canary.side.asked);
            stable = stable.saturating_add(on_stable.side.asked);
            if let Some(manner) = self.terms.errors {
                let fair = self.terms.fair(manner, seen.pods);
                if let Some(tally) = self.errors.holds.get_mut(self.terms.place(stratum.name)) {
                    tally.scrape(on_canary.side, on_stable.side, fair);
                }
                for (tally, ratio) in self.mirror.holds.iter_mut().zip(&self.terms.ratios) {
                    tally.scrape(on_canary.side, on_stable.side, Fair::by_requests(*ratio));
                }
            }
            if let Some(manner) = self.terms.latency {
                let fair = self.terms.fair(manner, seen.pods);
                for ((tally, on_canary_slow), on_stable_slow) in self.latency.holds.iter_mut().zip(on_canary.slow).zip(on_stable.slow) {
                    let slow = |reading: Reading, slow| Side::new(reading.timed, slow);
                    tally.scrape(slow(on_canary, on_canary_slow), slow(on_stable, on_stable_slow), fair);
                }
            }
        }
        if let Some(manner) = self.terms.logs {
            let fair = self.terms.fair(manner, seen.pods);
            for lines in seen.lines {
                let tally = self.logs.holds.entry(lines.signature.to_owned()).or_default();
                tally.scrape(Side::new(canary, lines.canary), Side::new(stable, lines.stable), fair);
            }
        }
    }

    fn closed(&mut self, now: Timestamp, at_once: bool) -> Vec<Dated> {
        let mut inputs = Vec::new();
        let split = !self.whole;
        if self.terms.errors.is_some() {
            let next = vec![Tally::default(); self.errors.holds.len()];
            let full = self.errors.close(now, at_once, next).filter(|_| split);
            inputs.extend(full.map(|strata| Input::Errors(strata.into_iter().enumerate().filter(|(_, t)| asked(t)).collect())));
            let next = vec![Tally::default(); self.mirror.holds.len()];
            let full = self.mirror.close(now, at_once, next).filter(|_| split);
            inputs.extend(full.and_then(|tallies| {
                let first = tallies.first()?;
                // Without a failure there is nothing to share, and nothing to record.
                let failed = first.canary.failed > 0 || first.stable.failed > 0;
                let fair = tallies.iter().filter(|_| failed).map(|tally| tally.fair).collect();
                Some(Input::Mirror { canary: first.canary, stable: first.stable, fair })
            }));
            let full = self.alone.close(now, at_once, Side::default()).filter(|_| !split && !at_once);
            inputs.extend(full.map(Input::Alone));
        }
        if self.terms.latency.is_some() {
            let full = self.latency.close(now, at_once, [Tally::default(); EDGES]).filter(|_| split);
            inputs.extend(full.map(Input::Latency));
        }
        if self.terms.logs.is_some() {
            let full = self.logs.close(now, at_once, BTreeMap::new()).filter(|_| split);
            inputs.extend(full.filter(|lines| !lines.is_empty()).map(|lines| Input::Logs(lines.into_iter().collect())));
        }
        self.dated(now, inputs)
    }

    /// The book knows what it has by its moment: no two are the same.
    fn dated(&mut self, now: Timestamp, inputs: Vec<Input>) -> Vec<Dated> {
        let dated = inputs.into_iter().map(|input| {
            let least = self.last.map_or(now, |last| last.saturating_add(SignedDuration::from_micros(1)).unwrap_or(last));
            let at = now.max(least);
            self.last = Some(at);
            Dated { at, input }
        });
        dated.collect()
    }
}

fn asked(tally: &Tally) -> bool {
    tally.canary.asked > 0 || tally.stable.asked > 0
}

#[cfg(test)]
mod tests {
    use super::super::{block::Block, book::Book};
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn reading(asked: u32, failed: u32) -> Reading {
        Reading { side: Side::new(asked, failed), timed: asked, slow: [asked / 2, asked / 10, 0] }
    }

    fn terms() -> Terms {
        let manner = Some(Manner::of(Block::S5));
        Terms { errors: manner, latency: manner, logs: manner, strata: vec!["GET /".to_owned()], ..Terms::default() }
    }

    fn run(collector: &mut Collector, seconds: std::ops::RangeInclusive<i64>) -> Vec<Dated> {
        let strata = [
            Stratum { name: "GET /", canary: reading(5, 1), stable: reading(95, 0) },
            Stratum { name: "GET /rare", canary: reading(0, 0), stable: reading(1, 1) },
        ];
        let lines = [Lines { signature: "panic", canary: 1, stable: 0 }];
        seconds.flat_map(|second| collector.scrape(at(second), Scrape { strata: &strata, lines: &lines, pods: (1, 9) })).collect()
    }

    #[test]
    fn blocks_hold_their_seconds_and_strata_keep_apart() {
        let mut collector = Collector::new(&terms(), false, at(0));
        let blocks = run(&mut collector, 1..=5);
        let errors: Vec<_> =
            blocks.iter().filter_map(|dated| if let Input::Errors(strata) = &dated.input { Some(strata) } else { None }).collect();
        let [strata] = errors.as_slice() else { panic!("one block of errors: {errors:?}") };
        let [(0, tally)] = strata.as_slice() else { panic!("the canary was not asked for the other: {strata:?}") };
        assert_eq!((tally.canary, tally.stable), (Side::new(25, 5), Side::new(475, 0)));
        assert!((tally.fair - 5.0 * 0.05).abs() < 1e-12);
        assert_eq!(blocks.iter().filter(|dated| matches!(dated.input, Input::Mirror { .. })).count(), 2, "after 2 and 4 s");
        assert!(blocks.windows(2).all(|pair| pair[0].at < pair[1].at), "no two at the same moment");
        assert_eq!(Book::open(terms()).with(&blocks).with(&blocks), Book::open(terms()).with(&blocks));
    }

    #[test]
    fn a_block_does_not_end_in_a_wave() {
        let mut collector = Collector::new(&terms(), false, at(0));
        let scrape = |collector: &mut Collector, second: i64, failed: u32| {
            let strata = [Stratum { name: "GET /", canary: reading(20, 0), stable: reading(80, failed) }];
            let blocks = collector.scrape(at(second), Scrape { strata: &strata, lines: &[], pods: (1, 9) });
            blocks.iter().filter(|dated| matches!(dated.input, Input::Errors(_))).count()
        };
        let ends: Vec<usize> =
            [1, 1, 1, 1, 40, 2].iter().zip(1..).map(|(failed, second)| scrape(&mut collector, second, *failed)).collect();
        assert_eq!(ends, [0, 0, 0, 0, 0, 1], "the crest is in the fifth second");
        let rising: Vec<usize> =
            (1..=10).map(|second| scrape(&mut collector, 6 + second, 10_u32.pow(u32::try_from(second.min(9)).unwrap()))).collect();
        assert_eq!(rising, [0, 0, 0, 0, 0, 0, 0, 0, 0, 1], "twice its length at most");
    }

    #[test]
    fn a_share_that_changes_ends_what_is_open_and_alone_nothing_is_compared() {
        let mut collector = Collector::new(&terms(), false, at(0));
        run(&mut collector, 1..=3);
        let cut = collector.cut(at(3), true);
        assert!(matches!(cut.last().map(|dated| &dated.input), Some(Input::Whole(true))));
        assert!(cut.iter().any(|dated| matches!(dated.input, Input::Errors(_))));
        let alone = run(&mut collector, 4..=13);
        let inputs: Vec<_> = alone.into_iter().map(|dated| dated.input).collect();
        assert_eq!(inputs, vec![Input::Alone(Side::new(25, 5)); 2]);
    }
}
