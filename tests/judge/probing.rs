//! Releases that are judged by probes alone: good ones in all weathers, and broken ones.

use haldane::decide::judge::{
    book::{Book, Dated, Input, Pair, Verdict},
    probes::{ProbeTerms, Seen, Turn},
    terms::Terms,
};
use jiff::{SignedDuration, Timestamp};

use crate::rng::Rng;

/// The probes purse in a book in which nobody else speaks, which is the worst for good releases: W ≥ 1,000 with w = 1.
const PART: f64 = 1.0;

/// What probes meet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) name: &'static str,
    /// Each run on either side fails by itself.
    pub(crate) flake: f64,
    /// So many rollouts meet an outage of six samples …
    pub(crate) outages: f64,
    /// … in which each run on either side fails with this chance.
    pub(crate) out: f64,
    /// In so many samples the only canary pod stalls for longer than the sample lasts.
    pub(crate) stalls: f64,
}

/// Feeds a book with samples.
pub(crate) struct Prober {
    pub(crate) book: Book,
    pub(crate) now: Timestamp,
    pub(crate) suspended: bool,
    names: Vec<String>,
}

/// The chance of one run to fail, on the canary and on stable.
pub(crate) type Fails = (f64, f64);

impl Prober {
    pub(crate) fn new(probes: usize, flake: f64) -> Self {
        let names: Vec<String> = (0..probes).map(|at| format!("p{at}")).collect();
        let flakes = (1000.0 * flake).round() as u32;
        let known = |name: &String| ProbeTerms { name: name.clone(), runs: 1000, flakes, paired: 1000, ..ProbeTerms::default() };
        let terms = Terms { false_rollback_rate: 0.001 * PART, probes: names.iter().map(known).collect(), ..Terms::default() };
        Self { book: Book::open(terms), now: Timestamp::UNIX_EPOCH, suspended: false, names }
    }

    /// One pair, and whether the canary alone failed.
    pub(crate) fn pair(&mut self, rng: &mut Rng, probe: usize, turn: Turn, fails: Fails) -> bool {
        let mut seen = |chance: f64| if rng.chance(chance) { Seen::Fail("500".to_owned()) } else { Seen::Pass };
        let (canary, stable) = (seen(fails.0), seen(fails.1));
        let alone = canary != Seen::Pass && stable == Seen::Pass;
        self.now += SignedDuration::from_millis(1);
        let probe = self.names.get(probe).cloned().unwrap_or_default();
        self.book.take(&Dated { at: self.now, input: Input::Pair(Pair { probe, turn, canary, stable }) });
        self.suspended |= matches!(self.book.verdict(), Verdict::Suspend(_) | Verdict::TooOften(_));
        alone
    }

    /// One sample. The pairs follow each other so soon that the weather is the same for all.
    pub(crate) fn sample(&mut self, rng: &mut Rng, probe: usize, fails: Fails) {
        if !self.pair(rng, probe, Turn::First, fails) {
            return;
        }
        self.pair(rng, probe, Turn::AtOnce, fails);
        for _ in 0..4 {
            if !self.pair(rng, probe, Turn::Repeat, fails) {
                return;
            }
        }
    }

    fn whole(&mut self, whole: bool) {
        self.now += SignedDuration::from_millis(1);
        self.book.take(&Dated { at: self.now, input: Input::Whole(whole) });
    }

    pub(crate) fn failed(&self) -> bool {
        matches!(self.book.verdict(), Verdict::Fail(_) | Verdict::TooOften(_))
    }
}

/// A good release with so many probes and samples of each. Whether it is taken back, and whether traffic was taken off it in between.
pub(crate) fn good(weather: &Weather, probes: usize, samples: usize, seed: u64, run: usize) -> (bool, bool) {
    let mut rng = Rng::new(seed, run);
    let mut asker = Prober::new(probes, weather.flake);
    let outage = if rng.chance(weather.outages) { rng.below(samples) } else { usize::MAX };
    for sample in 0..samples {
        // The last third under all of the traffic, or the ten minutes of a guard.
        asker.whole(sample + 120.min(samples / 3) >= samples);
        let out = if (outage..outage.saturating_add(6)).contains(&sample) { weather.out } else { 0.0 };
        let fail = 1.0 - (1.0 - weather.flake) * (1.0 - out);
        let stalled = rng.chance(weather.stalls);
        for probe in 0..probes {
            asker.sample(&mut rng, probe, (if stalled { 1.0 } else { fail }, fail));
        }
        if asker.failed() {
            return (true, asker.suspended);
        }
    }
    (false, asker.suspended)
}

/// A release of which `broken` of `probes` fail with this chance, at a flake of 0.5 %: after how many samples it is taken back, of 30 at most.
pub(crate) fn bad(broken: usize, probes: usize, chance: f64, seed: u64, run: usize) -> Option<usize> {
    let mut rng = Rng::new(seed, run);
    let mut asker = Prober::new(probes, 0.005);
    (1..=30).find(|_| {
        for probe in 0..probes {
            let fail = if probe < broken { chance.max(0.005) } else { 0.005 };
            asker.sample(&mut rng, probe, (fail, 0.005));
        }
        asker.failed()
    })
}

/// What a total break costs, in seconds after the first answer that was wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Broken {
    /// Until traffic is taken off, or is known to stay off.
    pub(crate) off_s: f64,
    pub(crate) verdict_s: f64,
    pub(crate) samples: usize,
}

/// A total break that one probe sees after so many good samples: answers take 20 to 120 ms, samples of a suspended canary follow after 5 s.
pub(crate) fn total_break(good: usize, seed: u64, run: usize) -> Broken {
    let mut rng = Rng::new(seed, run);
    let mut prober = Prober::new(1, 0.005);
    (0..good).for_each(|_| prober.sample(&mut rng, 0, (0.005, 0.005)));
    prober.suspended = false;
    let mut clock = 0.0;
    let mut off_s = f64::NAN;
    let fails = (1.0, 0.005);
    for samples in 1.. {
        let began = clock;
        let answers = |rng: &mut Rng| 0.02 + 0.1 * rng.unit();
        let mut alone = prober.pair(&mut rng, 0, Turn::First, fails);
        let first = answers(&mut rng);
        let shift = if samples == 1 { first } else { 0.0 };
        clock += first;
        if alone {
            prober.pair(&mut rng, 0, Turn::AtOnce, fails);
            if off_s.is_nan() && prober.suspended {
                off_s = clock + answers(&mut rng) - shift;
            }
            for after in [0.3, 1.0, 2.0, 4.0] {
                if alone {
                    clock = began + after + answers(&mut rng);
                    alone = prober.pair(&mut rng, 0, Turn::Repeat, fails);
                }
            }
        }
        if prober.failed() {
            return Broken { off_s, verdict_s: clock, samples };
        }
        clock += 5.0;
    }
    Broken { off_s, verdict_s: clock, samples: 0 }
}
