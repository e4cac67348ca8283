//! One release in one world, judged by the book and by others at the same time.

use haldane::decide::judge::{
    bet::Side,
    block::{Block, Manner, choose},
    book::{Book, Dated, Verdict},
    collect::{Collector, Reading, Scrape, Stratum, WARM_UP_S},
    mirror::{self, ENOUGH},
    terms::Terms,
};
use jiff::{SignedDuration, Timestamp};

use crate::{
    rivals::{Repeated, Threshold},
    rng::Rng,
    worlds::{Both, Motion, STABLE, World},
};

/// The errors purse in a book in which all speak: W ≥ 1,000 with w = 0.4 is E ≥ 2,500.
const PART: f64 = 0.4;

/// When something was decided, and what it had cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct At {
    pub(crate) second: u32,
    /// Requests to the canary and failures among them until then.
    pub(crate) canary: Side,
}

/// What became of a release.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fate {
    pub(crate) ours: Option<At>,
    pub(crate) threshold: Option<At>,
    pub(crate) repeated: Option<At>,
    /// All of the traffic by evidence.
    pub(crate) promoted: Option<At>,
    pub(crate) block: Option<Block>,
}

/// How the traffic is moved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Way {
    /// 1, 5, 25 and 50 %, 150 s each.
    Ramp,
    /// One share for all of the time.
    Share(f64),
    /// 5, 25 and 50 %, each left by evidence, after 10 s at least.
    Evidence,
}

/// One release.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Release {
    pub(crate) way: Way,
    /// How many times as often it fails as stable.
    pub(crate) worse: f64,
    /// None: chosen by half an hour of history, see [`chosen`].
    pub(crate) block: Option<Block>,
    /// The others are asked as well.
    pub(crate) rivals: bool,
}

/// What one moment of a rollout looks like.
struct Step {
    share: f64,
    pods: usize,
}

fn step(way: Way, second: u32, stage: usize) -> Step {
    let share = match way {
        Way::Ramp => [0.01, 0.05, 0.25, 0.50].get(second as usize / 150).copied().unwrap_or(0.50),
        Way::Share(share) => share,
        Way::Evidence => [0.05, 0.25, 0.50].get(stage).copied().unwrap_or(1.0),
    };
    // Load per pod as on stable, rounded up: 1, 1, 4 and 10 pods.
    let pods = (STABLE as f64 * share / (1.0 - share).max(0.01)).round().clamp(1.0, STABLE as f64);
    Step { share, pods: pods as usize }
}

fn sum(both: Both) -> Side {
    let [one, other] = both;
    Side::new(one.asked + other.asked, one.failed + other.failed)
}

fn scrape(collector: &mut Collector, now: Timestamp, strata: bool, canary: Both, stable: Both) -> Vec<Dated> {
    let reading = |side: Side| Reading { side, timed: side.asked, slow: [0; 3] };
    let stratum = |name, canary, stable| Stratum { name, canary: reading(canary), stable: reading(stable) };
    let pods = (1, STABLE as u32);
    if strata {
        let [(c1, c2), (b1, b2)] = [canary, stable].map(|[one, other]| (one, other));
        let seen = [stratum("GET /", c1, b1), stratum("POST /orders", c2, b2)];
        collector.scrape(now, Scrape { strata: &seen, pods, ..Scrape::default() })
    } else {
        let seen = [stratum("all", sum(canary), sum(stable))];
        collector.scrape(now, Scrape { strata: &seen, pods, ..Scrape::default() })
    }
}

/// The terms of a book in which the errors have the weight that they have beside all others.
pub(crate) fn errors_alone(block: Block, strata: bool) -> Terms {
    let names = if strata { vec!["GET /".to_owned(), "POST /orders".to_owned()] } else { Vec::new() };
    Terms { false_rollback_rate: 0.001 * PART, errors: Some(Manner::of(block)), strata: names, ..Terms::default() }
}

/// The block that half an hour of history suggests.
pub(crate) fn chosen(world: &World, seed: u64, run: usize) -> Block {
    choose(&Motion::new(world, Rng::new(seed ^ 0x8157, run)).history(), 1)
}

/// Plays one release to its end.
pub(crate) fn play(world: &World, release: Release, seed: u64, run: usize) -> Fate {
    let mut motion = Motion::new(world, Rng::new(seed, run));
    motion.sums();
    let block = release.block.unwrap_or_default();
    let mut terms = errors_alone(block, world.strata);
    terms.margin = mirror::margin(terms.margin, Some(world.base));
    let mut book = Book::open(terms.clone());
    let mut now = Timestamp::UNIX_EPOCH;
    let mut collector = Collector::new(&terms, false, now);
    let (mut threshold, mut repeated) = (Threshold::default(), Repeated::default());
    let (mut stage, mut since) = (0, 0);
    let mut fate = Fate { block: Some(block), ..Fate::default() };
    let mut canary = Side::default();
    for second in 0..world.seconds {
        let Step { share, pods } = step(release.way, second, stage);
        let tick = motion.tick(share, pods, release.worse);
        now += SignedDuration::from_secs(1);
        if world.cut && second < WARM_UP_S {
            (collector, since) = (Collector::new(&terms, false, now), second + 1);
            continue;
        }
        let (on_canary, on_stable) = (sum(tick.canary), sum(tick.stable));
        canary = Side::new(canary.asked + on_canary.asked, canary.failed + on_canary.failed);
        let at = At { second: second + 1, canary };
        if fate.ours.is_none() && fate.promoted.is_none() {
            for dated in scrape(&mut collector, now, world.strata, tick.canary, tick.stable) {
                book.take(&dated);
            }
            if matches!(book.verdict(), Verdict::Fail(_)) {
                fate.ours = Some(at);
            }
            let changes = release.way == Way::Ramp && (second + 1).is_multiple_of(150);
            let over = release.way == Way::Evidence && second + 1 >= since + 10 && book.promotion(stage) >= ENOUGH;
            if fate.ours.is_none() && (over || changes) {
                collector.cut(now, false).iter().for_each(|dated| book.take(dated));
                (stage, since) = (stage + 1, second + 1);
            }
            if release.way == Way::Evidence && stage == 3 {
                fate.promoted = Some(at);
            }
        }
        if release.rivals {
            fate.threshold = fate.threshold.or(threshold.second(on_canary).then_some(at));
            fate.repeated = fate.repeated.or(repeated.second(on_canary, on_stable).then_some(at));
        }
        let rivals = !release.rivals || (fate.threshold.is_some() && fate.repeated.is_some());
        if rivals && (fate.ours.is_some() || fate.promoted.is_some()) {
            break;
        }
    }
    fate
}
