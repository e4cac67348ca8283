//! The rows of the table.

use haldane::decide::judge::block::Block;

use crate::{
    probing::{self, Weather},
    rollout::{Fate, Release, Way, chosen, play},
    table::{line, percent, rank, share, upper},
    unseen::{AFTERWARDS, UNSEEN},
    worlds::{Noise, World, world},
};

pub(crate) const SEED: u64 = 0x4A55_4447_4553_3131;

/// J1: a good release is taken back in one of a thousand at most, at the upper 95 % limit.
const FALSE: f64 = 0.001;

const fn with(name: &'static str, noise: Noise, rate: f64, base: f64) -> World {
    World { rate, base, ..world(name, noise) }
}

const WORLDS: [World; 22] = [
    world("independent errors, 1 %", Noise::Independent),
    with("0.5 %, 1,000 req/s", Noise::Independent, 1000.0, 0.005),
    World { seconds: 1800, ..with("1 req/s, 5 %, 30 min", Noise::Independent, 1.0, 0.05) },
    world("clusters of 3", Noise::Clusters(3.0)),
    world("clusters of 10", Noise::Clusters(10.0)),
    world("negative binomial, 1 s", Noise::Gamma { lasts_s: 1 }),
    world("negative binomial, states last 15 s", Noise::Gamma { lasts_s: 15 }),
    world("pods stall 1 s", Noise::Stalls { mean_s: 1.0 }),
    world("pods stall 3 s", Noise::Stalls { mean_s: 3.0 }),
    with("pods stall 3 s, base 0.1 %", Noise::Stalls { mean_s: 3.0 }, 100.0, 0.001),
    world("pods stall 10 s", Noise::Stalls { mean_s: 10.0 }),
    with("pods stall 10 s, base 0.1 %", Noise::Stalls { mean_s: 10.0 }, 100.0, 0.001),
    world("shared outage, 20 % errors, 2 min", Noise::Outage),
    world("shared outage and clusters of 3", Noise::OutageAndClusters),
    world("diurnal load and rate", Noise::Diurnal),
    world("one stable pod with 5 times the errors", Noise::OneBad),
    world("cold canary, first 30 s cut", Noise::Cold),
    World { strata: true, ..world("canary gets 3 times of a bad endpoint, strata", Noise::Mix) },
    with("slower than p90: pods drift, 15 s", Noise::Drift { lasts_s: 15 }, 100.0, 0.10),
    with("slower than p90: pods drift, 60 s", Noise::Drift { lasts_s: 60 }, 100.0, 0.10),
    with("slower than an edge, 40 %: pods drift, 15 s", Noise::Drift { lasts_s: 15 }, 100.0, 0.40),
    with("slower than p90: independent", Noise::Independent, 100.0, 0.10),
];

/// No rule on counts can hold in these, and none is promised to.
const NAMED: [World; 3] = [
    World { cut: false, ..world("exception \"not cut\": cold canary counts from its start", Noise::Cold) },
    world("exception \"no strata\": canary gets 3 times of a bad endpoint", Noise::Mix),
    world("exception \"stuck client\": one failing client on one side", Noise::Stuck),
];

fn count(fates: &[Fate], is: impl Fn(&Fate) -> bool) -> usize {
    fates.iter().filter(|fate| is(fate)).count()
}

fn blocks(fates: &[Fate]) -> String {
    Block::ALL.map(|block| percent(count(fates, |fate| fate.block == Some(block)), fates.len())).join(" / ")
}

/// Five releases of one app have the same history: most of the time of a simulation goes there.
pub(crate) const RELEASES: usize = 5;

fn fates(world: &World, release: Release, n: usize) -> Vec<Fate> {
    let mut fates = Vec::with_capacity(n);
    for app in 0..n.div_ceil(RELEASES) {
        let block = release.block.unwrap_or_else(|| chosen(world, SEED, app));
        let runs = (app * RELEASES..n).take(RELEASES);
        fates.extend(runs.map(|run| play(world, Release { block: Some(block), ..release }, SEED, run)));
    }
    fates
}

fn good(row: &str, world: &World, way: Way, n: usize, promised: bool) {
    let wanted = std::env::var("WORLD").unwrap_or_default();
    if !world.name.contains(wanted.trim()) {
        return;
    }
    let fates = fates(world, Release { way, worse: 1.0, block: None, rivals: true }, n);
    let ours = count(&fates, |fate| fate.ours.is_some());
    line(row, world.name, &share(ours, n), "≤ 0.1 % at 95 %", promised.then_some(upper(ours) <= FALSE * n as f64));
    let (threshold, repeated) = (count(&fates, |fate| fate.threshold.is_some()), count(&fates, |fate| fate.repeated.is_some()));
    println!(
        "       < 99 %, 5 strikes: {} · z each 5 s: {} · blocks of 5 / 15 / 60 s: {}",
        percent(threshold, n),
        percent(repeated, n),
        blocks(&fates)
    );
}

pub(crate) fn false_rollbacks(n: usize) {
    for world in &WORLDS {
        good("J1", world, Way::Ramp, n, true);
    }
    good("J1", &with("1,000 req/s, 2 %, 5 % share on one pod", Noise::Independent, 1000.0, 0.02), Way::Share(0.05), n, true);
    for world in &NAMED {
        good("J1", world, Way::Ramp, n, false);
    }
}

pub(crate) fn unseen(n: usize) {
    for world in UNSEEN.iter().chain(&AFTERWARDS) {
        good("J1u", world, Way::Ramp, n, true);
    }
}

const CALM: Weather = Weather { name: "flake 2 %", flake: 0.02, outages: 0.0, out: 0.0, stalls: 0.0 };

pub(crate) fn false_rollbacks_by_probes(n: usize) {
    let weathers = [
        CALM,
        Weather { name: "flake 0.5 %, every rollout meets an outage at 50 %", flake: 0.005, outages: 1.0, out: 0.5, ..CALM },
        Weather { name: "5 % meet an outage of 6 samples at 90 %", outages: 0.05, out: 0.9, ..CALM },
        Weather { name: "every rollout meets one at 50 %", outages: 1.0, out: 0.5, ..CALM },
        Weather { name: "flake 5 %, 5 % meet an outage at 90 %", flake: 0.05, outages: 0.05, out: 0.9, ..CALM },
        Weather { name: "the canary pod stalls in 0.1 % of samples", stalls: 0.001, ..CALM },
        Weather { name: "the canary pod stalls in 0.5 % of samples", stalls: 0.005, ..CALM },
    ];
    for weather in &weathers {
        for (probes, samples, runs) in [(1, 30, n), (5, 30, n), (20, 30, n), (1, 2000, n), (5, 2000, n / 5)] {
            let fates: Vec<_> = (0..runs).map(|run| probing::good(weather, probes, samples, SEED, run)).collect();
            let failed = fates.iter().filter(|(failed, _)| *failed).count();
            let suspended = fates.iter().filter(|(_, suspended)| *suspended).count();
            let what = format!("{probes} probes, {samples} samples: {}", weather.name);
            let measured = format!("{}, suspended {}", share(failed, runs), percent(suspended, runs));
            // Fewer runs cannot prove it at 95 %; then none may fail.
            let holds = if runs >= 4000 { upper(failed) <= FALSE * runs as f64 } else { failed == 0 };
            line("J1p", &what, &measured, "≤ 0.1 % at 95 %", Some(holds));
        }
    }
    for (broken, probes, chance) in [(1, 1, 1.0), (1, 20, 1.0), (1, 1, 0.5), (1, 5, 0.5), (5, 5, 0.2), (1, 1, 0.2)] {
        let runs = n / 10;
        let found: Vec<_> = (0..runs).map(|run| probing::bad(broken, probes, chance, SEED, run)).collect();
        let mut samples: Vec<f64> = found.iter().map(|at| at.map_or(f64::INFINITY, |at| at as f64)).collect();
        let measured = format!(
            "median {}, p90 {} samples; {} in 30",
            rank(&mut samples, 50),
            rank(&mut samples, 90),
            percent(found.iter().flatten().count(), runs)
        );
        line("J1p", &format!("broken: {broken} of {probes} probes in {} %", 100.0 * chance), &measured, "-", None);
    }
}

fn medians(fates: &[Fate], of: impl Fn(&Fate) -> Option<f64>) -> (f64, f64) {
    let mut values: Vec<f64> = fates.iter().map(|fate| of(fate).unwrap_or(f64::INFINITY)).collect();
    (rank(&mut values, 50), rank(&mut values, 90))
}

/// Rivals in one line: when half and nine in ten of the releases were found.
fn others(fates: &[Fate]) {
    let (threshold, repeated) =
        (medians(fates, |f| f.threshold.map(|at| f64::from(at.second))), medians(fates, |f| f.repeated.map(|at| f64::from(at.second))));
    println!(
        "       < 99 %, 5 strikes: {:.0} / {:.0} s · z each 5 s: {:.0} / {:.0} s (but see J1)",
        threshold.0, threshold.1, repeated.0, repeated.1
    );
}

const AT_5: Release = Release { way: Way::Share(0.05), worse: 2.0, block: Some(Block::S5), rivals: true };

pub(crate) fn doubling(n: usize) {
    let hour = |world: World| World { seconds: 3600, cut: false, ..world };
    let cases = [
        (hour(with("1 → 2 %, 5 % share, 100 req/s", Noise::Independent, 100.0, 0.01)), AT_5, Some(3300.0), None),
        (hour(with("1 → 2 %, 5 % share, 1,000 req/s", Noise::Independent, 1000.0, 0.01)), AT_5, None, Some(110.0)),
        (
            hour(with("1 → 2 %, 25 % share, clusters of 3", Noise::Clusters(3.0), 100.0, 0.01)),
            Release { way: Way::Share(0.25), ..AT_5 },
            Some(14_000.0),
            None,
        ),
        (
            hour(with("1 → 2 %, 5 % share, block by history", Noise::Independent, 100.0, 0.01)),
            Release { block: None, ..AT_5 },
            Some(3300.0),
            None,
        ),
    ];
    for (world, release, requests, seconds) in cases {
        let fates = fates(&world, release, n);
        let asked = medians(&fates, |fate| fate.ours.map(|at| f64::from(at.canary.asked)));
        let took = medians(&fates, |fate| fate.ours.map(|at| f64::from(at.second)));
        let measured = format!("{:.0} / {:.0} canary requests, {:.0} / {:.0} s", asked.0, asked.1, took.0, took.1);
        let limit =
            requests.map_or_else(|| format!("median ≤ {:.0} s", seconds.unwrap_or(0.0)), |most| format!("median ≤ {most:.0} requests"));
        let holds = requests.is_none_or(|most| asked.0 <= most) && seconds.is_none_or(|most| took.0 <= most);
        line("J2", world.name, &measured, &limit, Some(holds));
        others(&fates);
    }
}

pub(crate) fn twentyfold(n: usize) {
    for (name, base, worse, promised) in [
        ("0.5 → 10 %, 5 % share, 100 req/s", 0.005, 20.0, true),
        ("0.5 → 50 %, 5 % share, 100 req/s", 0.005, 100.0, false),
        ("0.05 → 1 %, 5 % share, 100 req/s", 0.0005, 20.0, false),
    ] {
        let world = World { cut: false, seconds: 3600, ..with(name, Noise::Independent, 100.0, base) };
        let fates = fates(&world, Release { worse, ..AT_5 }, n);
        let took = medians(&fates, |fate| fate.ours.map(|at| f64::from(at.second)));
        let extra = medians(&fates, |fate| fate.ours.map(|at| f64::from(at.canary.failed) - base * f64::from(at.canary.asked)));
        let measured = format!("{:.0} / {:.0} s, {:.1} / {:.1} extra user errors", took.0, took.1, extra.0, extra.1);
        let holds = took.0 <= 30.0 && took.1 <= 45.0 && extra.0 <= 15.0;
        line("J3", name, &measured, if promised { "≤ 30 / 45 s, median ≤ 15" } else { "-" }, promised.then_some(holds));
        others(&fates);
    }
}

pub(crate) fn total_break(n: usize) {
    for (good, what, promised) in
        [(0, "total break before any traffic, one probe", true), (10, "total break after 10 good samples, one probe", false)]
    {
        broken(n, good, what, promised);
    }
}

fn broken(n: usize, good: usize, what: &str, promised: bool) {
    let all: Vec<_> = (0..n).map(|run| probing::total_break(good, SEED, run)).collect();
    let (mut off, mut verdict): (Vec<f64>, Vec<f64>) = all.iter().map(|one| (one.off_s, one.verdict_s)).unzip();
    let two = all.iter().filter(|one| one.samples <= 2).count();
    let (soon, off) = (rank(&mut off, 90), rank(&mut off, 99));
    let (median, most, last) = (rank(&mut verdict, 50), rank(&mut verdict, 90), rank(&mut verdict, 99));
    let measured = format!("off {soon:.2} / {off:.2} s (p90 / p99), verdict {median:.1} / {most:.1} / {last:.1} s");
    // Before any traffic no user can see an error. One flake of stable in ten runs (0.5 % each) costs another sample.
    line(
        "J4",
        what,
        &measured,
        if promised { "0 errors, p90 ≤ 1 s, ≤ 15 s" } else { "-" },
        promised.then_some(soon <= 1.0 && most <= 15.0),
    );
    println!("       two samples in {}", percent(two, n));
}

/// What J5 asks of one world: the median and p90 in seconds.
struct Good {
    world: World,
    limits: Option<(f64, f64)>,
}

pub(crate) fn promotion(n: usize) {
    let long = |name, noise, rate, base| World { cut: false, seconds: 7200, ..with(name, noise, rate, base) };
    let cases = [
        Good { world: long("good, base 0.5 %, 100 req/s", Noise::Independent, 100.0, 0.005), limits: Some((180.0, 390.0)) },
        Good { world: long("good, base 0.5 %, clusters of 3", Noise::Clusters(3.0), 100.0, 0.005), limits: Some((480.0, f64::INFINITY)) },
        Good { world: long("good, base 0.05 %", Noise::Independent, 100.0, 0.0005), limits: Some((180.0, f64::INFINITY)) },
        Good { world: long("good, base 0.5 %, 1,000 req/s", Noise::Independent, 1000.0, 0.005), limits: None },
    ];
    let release = Release { way: Way::Evidence, worse: 1.0, block: Some(Block::S5), rivals: false };
    for Good { world, limits } in cases {
        let fates = fates(&world, release, n);
        let (median, p90) = medians(&fates, |fate| fate.promoted.map(|at| f64::from(at.second)));
        let back = count(&fates, |fate| fate.ours.is_some());
        let measured = format!("{median:.0} / {p90:.0} s, taken back {}", share(back, n));
        let limit = limits.map_or_else(|| "-".to_owned(), |(median, p90)| format!("≤ {median:.0} / {p90:.0} s"));
        line("J5", world.name, &measured, &limit, limits.map(|most| median <= most.0 && p90 <= most.1));
    }
    println!("       a canary whose pods start with the rollout needs 30 s more: they count neither way");
    for (world, worse) in [
        (long("0.5 → 1 %, doubled", Noise::Independent, 100.0, 0.005), 2.0),
        (long("0.5 → 1 %, doubled, clusters of 3", Noise::Clusters(3.0), 100.0, 0.005), 2.0),
        (long("0.5 → 2.5 %, five times", Noise::Independent, 100.0, 0.005), 5.0),
    ] {
        let fates = fates(&world, Release { worse, ..release }, n);
        let wrong = count(&fates, |fate| fate.promoted.is_some());
        let stopped = medians(&fates, |fate| fate.ours.map(|at| f64::from(at.second)));
        let measured = format!("{} sent on, stopped after {:.0} / {:.0} s", percent(wrong, n), stopped.0, stopped.1);
        line("J7", world.name, &measured, "≤ 5 % sent on", Some(wrong * 20 <= n));
    }
}
