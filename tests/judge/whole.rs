//! What the research designed and did not simulate: all purses in one book, the question under all of the traffic, and stable tried against
//! itself.

use haldane::decide::judge::{
    bet::{Side, Tally},
    block::{Block, Manner, choose, pretended, tried},
    book::{Book, Dated, Input, Pair, Verdict},
    collect::{Collector, Lines, Reading, Scrape, Stratum, WARM_UP_S},
    probes::{ProbeTerms, Seen, Turn},
    recheck::day,
    terms::{Purse, Terms},
};
use jiff::{SignedDuration, Timestamp};

use crate::{
    rng::Rng,
    rollout::chosen,
    rows::{RELEASES, SEED},
    table::{line, percent, share, upper},
    worlds::{Motion, Noise, World, world},
};

const PROBES: usize = 5;
/// Seconds between two samples of a probe.
const EVERY: u32 = 15;

/// A release of an app of which everything is watched, and everything hangs together: who stalls is slow, fails, logs it, and fails probes.
struct App {
    book: Book,
    collector: Collector,
    now: Timestamp,
    /// The share of requests that failed on either side in the last five seconds, the latest first.
    failing: [(f64, f64); 5],
}

fn whole_terms(block: Block) -> Terms {
    let manner = Some(Manner::of(block));
    let probe = |at| ProbeTerms { name: format!("p{at}"), runs: 1000, flakes: 10, paired: 1000, ..ProbeTerms::default() };
    Terms { errors: manner, latency: manner, logs: manner, restarts: Some(1), probes: (0..PROBES).map(probe).collect(), ..Terms::default() }
}

fn sum(both: [Side; 2]) -> Side {
    let [one, other] = both;
    Side::new(one.asked + other.asked, one.failed + other.failed)
}

impl App {
    fn new(block: Block) -> Self {
        let terms = whole_terms(block);
        let now = Timestamp::UNIX_EPOCH;
        Self { collector: Collector::new(&terms, false, now), book: Book::open(terms), now, failing: [(0.0, 0.0); 5] }
    }

    /// What failed was slower than every edge; of the rest as many as quantiles say.
    fn reading(rng: &mut Rng, side: Side) -> Reading {
        let fine = side.asked - side.failed.min(side.asked);
        let slow = [0.5, 0.1, 0.01].map(|part| (side.failed + rng.binomial(fine, part)).min(side.asked));
        Reading { side, timed: side.asked, slow }
    }

    fn second(&mut self, rng: &mut Rng, canary: Side, stable: Side) {
        self.now += SignedDuration::from_secs(1);
        let rate = |side: Side| f64::from(side.failed.min(side.asked)) / f64::from(side.asked.max(1));
        self.failing.rotate_right(1);
        if let Some(latest) = self.failing.first_mut() {
            *latest = (rate(canary), rate(stable));
        }
        let strata = [Stratum { name: "all", canary: Self::reading(rng, canary), stable: Self::reading(rng, stable) }];
        let chatter = |rng: &mut Rng, side: Side| rng.poisson(0.002 * f64::from(side.asked));
        let lines = [
            Lines { signature: "request failed", canary: canary.failed, stable: stable.failed },
            Lines { signature: "cache is cold", canary: chatter(rng, canary), stable: chatter(rng, stable) },
            Lines { signature: "retrying", canary: 3 * chatter(rng, canary), stable: 3 * chatter(rng, stable) },
        ];
        for dated in self.collector.scrape(self.now, Scrape { strata: &strata, lines: &lines, pods: (1, 10) }) {
            self.book.take(&dated);
        }
    }

    fn take(&mut self, input: Input) {
        self.now += SignedDuration::from_micros(7);
        self.book.take(&Dated { at: self.now, input });
    }

    /// One sample of one probe, whose pairs met the last five seconds.
    fn sample(&mut self, rng: &mut Rng, probe: usize) {
        let [last, third, _, second, first] = self.failing;
        let turns = [
            (Turn::First, first),
            (Turn::AtOnce, first),
            (Turn::Repeat, first),
            (Turn::Repeat, second),
            (Turn::Repeat, third),
            (Turn::Repeat, last),
        ];
        for (turn, (canary, stable)) in turns {
            let mut seen = |rate: f64| if rng.chance(rate.max(0.01)) { Seen::Fail("500".to_owned()) } else { Seen::Pass };
            let (canary, stable) = (seen(canary), seen(stable));
            let alone = canary != Seen::Pass && stable == Seen::Pass;
            self.take(Input::Pair(Pair { probe: format!("p{probe}"), turn, canary, stable }));
            if !alone && turn != Turn::AtOnce {
                return;
            }
        }
    }
}

/// A whole rollout with all purses; `worse` is how many times as often the canary fails. The purse that weighed most when it was taken back.
fn rollout(world: &World, worse: f64, block: Block, run: usize) -> Option<(Purse, u32)> {
    let mut motion = Motion::new(world, Rng::new(SEED ^ 0xB00C, run));
    motion.sums();
    // Five releases of one app, as in J1.
    let mut app = App::new(block);
    let mut rng = Rng::new(SEED ^ 0xB00D, run);
    for second in 0..world.seconds {
        let stage = second / 200;
        let (share, pods) = [(0.05, 1), (0.25, 3), (0.5, 10)].get(stage as usize).copied().unwrap_or((0.5, 10));
        let tick = motion.tick(share, pods, worse);
        let (canary, stable) = (sum(tick.canary), sum(tick.stable));
        if second < WARM_UP_S {
            app.now += SignedDuration::from_secs(1);
            app.collector = Collector::new(app.book.terms(), false, app.now);
            continue;
        }
        app.second(&mut rng, canary, stable);
        if second % EVERY == 0 {
            (0..PROBES).for_each(|probe| app.sample(&mut rng, probe));
        }
        if second % 60 == 0 {
            let pod_minutes = pods as u32;
            let events = rng.binomial(pod_minutes, 1.0 / 1440.0);
            app.take(Input::Platform { pod_minutes, events });
        }
        if (second + 1) % 200 == 0 {
            app.collector.cut(app.now, false).iter().for_each(|dated| app.book.take(dated));
        }
        if let Verdict::Fail(failure) = app.book.verdict() {
            return Some((failure.purse, second + 1));
        }
    }
    None
}

pub(crate) fn false_rollbacks(n: usize) {
    let stalls = |name, base, mean_s| World { base, ..world(name, Noise::Stalls { mean_s }) };
    let worlds = [
        stalls("whole book: pods stall 10 s, base 0.1 %", 0.001, 10.0),
        stalls("whole book: pods stall 3 s, base 1 %", 0.01, 3.0),
        world("whole book: clusters of 3", Noise::Clusters(3.0)),
        world("whole book: shared outage", Noise::Outage),
    ];
    for world in &worlds {
        let mut failed = Vec::new();
        for app in 0..n.div_ceil(RELEASES) {
            let block = chosen(world, SEED ^ 0xB00C, app);
            failed.extend((app * RELEASES..n).take(RELEASES).filter_map(|run| rollout(world, 1.0, block, run)));
        }
        let holds = upper(failed.len()) <= 0.001 * n as f64;
        line("J1b", world.name, &share(failed.len(), n), "≤ 0.1 % at 95 %", Some(holds));
        if !failed.is_empty() {
            let by = Purse::ALL.map(|purse| format!("{} {}", purse.word(), failed.iter().filter(|(top, _)| *top == purse).count()));
            println!("       by {}", by.join(", "));
        }
    }
    let world = World { base: 0.005, ..world("whole book: five times the errors are found", Noise::Independent) };
    let runs = n / 20;
    let found: Vec<_> = (0..runs).filter_map(|run| rollout(&world, 5.0, Block::S5, run)).collect();
    line("J1b", world.name, &format!("{} in 600 s", percent(found.len(), runs)), "-", None);
}

/// One day of blocks of all of the traffic.
fn blocks(motion: &mut Motion<'_>) -> Vec<Side> {
    let block = |motion: &mut Motion<'_>| {
        let mut all = Side::default();
        for _ in 0..Block::S15.seconds() {
            let side = sum(motion.tick(0.0, 0, 1.0).stable);
            all = Side::new(all.asked + side.asked, all.failed + side.failed);
        }
        all
    };
    (0..86_400 / Block::S15.seconds()).map(|_| block(motion)).collect()
}

/// How many days in a row one app is watched.
const DAYS: usize = 20;

pub(crate) fn rechecks(n: usize) {
    let day_long = |name, noise, rate, base| World { rate, base, seconds: 86_400, ..world(name, noise) };
    let worlds = [
        day_long("false rechecks: independent, 0.5 %", Noise::Independent, 100.0, 0.005),
        day_long("false rechecks: 1 req/s, 0.5 %", Noise::Independent, 1.0, 0.005),
        day_long("false rechecks: clusters of 10", Noise::Clusters(10.0), 100.0, 0.005),
        day_long("false rechecks: negative binomial, 15 s", Noise::Gamma { lasts_s: 15 }, 100.0, 0.005),
        day_long("false rechecks: pods stall 10 s, base 0.1 %", Noise::Stalls { mean_s: 10.0 }, 100.0, 0.001),
        day_long("false rechecks: retry storm (unseen)", Noise::RetryStorm, 100.0, 0.005),
    ];
    for world in &worlds {
        let mut asked = 0;
        for app in 0..n.div_ceil(DAYS) {
            let mut motion = Motion::new(world, Rng::new(SEED ^ 0x6DA1, app));
            motion.sums();
            let mut before = blocks(&mut motion);
            for _ in 0..DAYS {
                let today = blocks(&mut motion);
                asked += usize::from(asks(&before, &today));
                before = today;
            }
        }
        let days = n.div_ceil(DAYS) * DAYS;
        // Few days cannot prove 1 % at 95 %; the share itself is held to it.
        line("J6", world.name, &share(asked, days), "≤ 1 % per release and day", Some(asked * 100 <= days));
    }
}

/// Whether a day under all of the traffic, after ten minutes side by side, asks for the split.
fn asks(before: &[Side], today: &[Side]) -> bool {
    let terms = Terms { errors: Some(Manner::of(Block::S15)), usual_rate: day(before), ..Terms::default() };
    let mut book = Book::open(terms);
    let (beside, alone) = today.split_at(40.min(today.len()));
    let tally = |side: &Side| Tally { canary: Side::default(), stable: *side, fair: 0.0 };
    let compared = beside.iter().map(|side| Input::Errors(vec![(0, tally(side))]));
    let inputs = compared.chain([Input::Whole(true)]).chain(alone.iter().map(|side| Input::Alone(*side)));
    let mut now = Timestamp::UNIX_EPOCH;
    for input in inputs {
        now += SignedDuration::from_secs(15);
        book.take(&Dated { at: now, input });
        if matches!(book.verdict(), Verdict::Recheck(_)) {
            return true;
        }
    }
    false
}

pub(crate) fn against_itself(n: usize) {
    let day_long = |name, noise, base| World { base, seconds: 86_400, ..world(name, noise) };
    let worlds = [
        day_long("stable against itself: independent, 1 %", Noise::Independent, 0.01),
        day_long("stable against itself: clusters of 3", Noise::Clusters(3.0), 0.01),
        day_long("stable against itself: pods stall 3 s, base 0.1 %", Noise::Stalls { mean_s: 3.0 }, 0.001),
        day_long("stable against itself: pods stall 10 s, base 0.1 %", Noise::Stalls { mean_s: 10.0 }, 0.001),
        day_long("stable against itself: one pod with 5 times the errors", Noise::OneBad, 0.01),
        day_long("stable against itself: short node (unseen)", Noise::Node, 0.01),
    ];
    for world in &worlds {
        let mut ends = [0_usize; 5];
        for app in 0..n {
            let mut motion = Motion::new(world, Rng::new(SEED ^ 0xAA, app));
            let pods: Vec<Vec<Side>> = (0..48).fold(Vec::new(), |mut days: Vec<Vec<Side>>, _| {
                let half_hour = motion.history();
                if days.is_empty() {
                    return half_hour;
                }
                days.iter_mut().zip(half_hour).for_each(|(day, more)| day.extend(more));
                days
            });
            let first = Manner::of(choose(&pods, 1));
            let end = match tried(first, |manner| pretended(&pods, 1, manner)) {
                Some(Manner { tolerance, .. }) if tolerance > 1.0 => 3,
                Some(Manner { block, .. }) => Block::ALL.iter().position(|one| *one == block).unwrap_or(0),
                None => 4,
            };
            if let Some(count) = ends.get_mut(end) {
                *count += 1;
            }
        }
        let names = ["5 s", "15 s", "60 s", "60 s and 25 % more", "no vote"];
        let each: Vec<_> =
            names.iter().zip(ends).filter(|(_, count)| *count > 0).map(|(name, count)| format!("{name}: {}", percent(count, n))).collect();
        line("AA", world.name, &each.join(", "), "-", None);
    }
}
