//! Good and bad releases, one after the other, for so many minutes, while customers ask by the gateway: how many of their requests fail?
//!
//! `make soak MINUTES=30`. Two shops at a time, 250 requests a second each: one serves on while its pods end, the other exits at
//! once. The bad versions fail on a page that only the probe asks for, so that every request of a customer that fails is one that
//! the releases cost. Prints a table, writes records and plots to `target/soak`, and fails when a request failed.

#[allow(dead_code, reason = "the tests and the measurements use the rest")]
#[path = "../support/mod.rs"]
mod support;

#[allow(dead_code, reason = "the plot by itself reads moments from a file")]
#[path = "../plot/record.rs"]
mod record;
#[path = "../plot/svg.rs"]
mod svg;
#[path = "../plot/table.rs"]
mod table;

mod customers;

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::json;

use customers::Customers;
use record::{Mark, Records};
use support::follow::{Follow, Seen};
use support::rest::Hand;
use support::shop::{Setup, Shop};
use support::{Bed, begin, now_us};

const USUALLY: u64 = 30;
/// The load generator runs for an hour at most.
const MOST: u64 = 50;
/// A release that is not over by then never will be.
const RELEASE: Duration = Duration::from_mins(4);
/// Before a plot begins and after it ends.
const MARGIN_US: i64 = 5_000_000;
/// Versions of the shop that are good; the bad one is another.
const GOOD: [&str; 4] = ["v3", "v4", "v5", "v1"];
const BAD: &str = "v2";
/// Requests to a pod before the page fails: at a large share, which is what the first plot shows, at once, at a small share, when it
/// serves everybody.
const AFTER: [u32; 4] = [600, 0, 100, 1_500];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let minutes = std::env::var("MINUTES").ok().filter(|text| !text.is_empty()).map_or(Ok(USUALLY), |text| text.parse());
    let minutes = minutes.context("MINUTES is a number")?;
    ensure!((1..=MOST).contains(&minutes), "MINUTES is from 1 to {MOST}");
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/soak");
    std::fs::create_dir_all(&folder)?;
    let bed = Bed::up("soak")?;
    bed.gateway()?;
    let time = Duration::from_secs(minutes * 60);
    let ended: Vec<Result<Soaked>> = std::thread::scope(|scope| {
        let (bed, folder) = (&bed, &folder);
        let shops = ["drain", "exit"].map(|on_term| scope.spawn(move || soak(bed, on_term, folder, time).context(on_term)));
        shops.map(|shop| shop.join().unwrap_or_else(|_| Err(anyhow!("it panicked")))).into()
    });
    let ended = ended.into_iter().collect::<Result<Vec<_>>>()?;
    let mut failed = 0;
    for soaked in &ended {
        println!("\nan app that does this on SIGTERM: {}; {} good and {} bad releases", soaked.on_term, soaked.good, soaked.bad);
        failed += soaked.show(&folder)?;
    }
    ensure!(failed == 0, "{failed} requests failed");
    println!("\nno request failed; records and plots are in target/soak");
    Ok(())
}

/// What one shop and its customers went through.
struct Soaked {
    on_term: &'static str,
    good: usize,
    bad: usize,
    /// What happened when.
    marks: Vec<Mark>,
    /// The first good and the first bad release: from, until.
    first: (i64, i64),
    log: PathBuf,
}

fn soak(bed: &Bed, on_term: &'static str, folder: &Path, time: Duration) -> Result<Soaked> {
    let setup = Setup {
        on_term,
        steps: vec![(5, "5s"), (25, "5s"), (50, "5s")],
        guard: "5s",
        settle: "5s",
        testers: Some("5s"),
        ..Setup::by_route()
    };
    let shop = Shop::open(bed, &format!("soak-{on_term}"), setup)?;
    shop.kubectl_with(&["apply", "-f", "-"], &probe().to_string())?;
    shop.kubectl_with(&["apply", "-f", "-"], &shop.delivery().to_string())?;
    shop.follow()?.until(RELEASE, "adopted", |seen| seen.phase() == "Live" && seen.condition("Ready") == "True")?;
    let customers = Customers::start(&shop, folder, time + 2 * RELEASE)?;
    let (began, mut soaked) = (begin(), Soaked { on_term, good: 0, bad: 0, marks: Vec::new(), first: (now_us(), 0), log: PathBuf::new() });
    let mut life = shop.follow()?;
    let mut serves = "v1".to_owned();
    while began.elapsed() < time {
        let good = GOOD.get(soaked.good % GOOD.len()).copied().unwrap_or("v1");
        // A tag that was there before, with other values, is another version, and is called so.
        let called = |seen: &Seen| seen.live() == good || seen.live().strip_prefix(good).is_some_and(|rest| rest.starts_with('-'));
        let is_up = |seen: &Seen| called(seen) && seen.live() != serves && seen.is_live(seen.live());
        serves = soaked.release(&shop, &mut life, good, None, |life| Ok(life.until(RELEASE, "live", is_up)?.live().to_owned()))?;
        soaked.good += 1;
        let after = AFTER.get(soaked.bad % AFTER.len()).copied().unwrap_or_default();
        soaked.release(&shop, &mut life, BAD, Some(after), |life| life.until(RELEASE, "back", |seen| seen.is_back(&serves)).map(drop))?;
        soaked.bad += 1;
        if soaked.bad == 1 {
            soaked.first.1 = now_us();
        }
    }
    soaked.log = customers.stop()?;
    // Its pods bear the tag, which is the whole name of a version only where it was not there before.
    if !serves.contains('-') {
        shop.is_at_rest(&serves, Hand::Haldane)?;
    }
    shop.close()?;
    Ok(soaked)
}

/// It asks for the page, which no customer does.
fn probe() -> serde_json::Value {
    json!({"apiVersion": "haldane.dev/v1alpha1", "kind": "ProductionProbe", "metadata": {"name": "buy"}, "spec": {
        "target": {"serviceRef": {"name": "shop", "port": "http"}},
        "schedule": {"rollout": "1s", "always": "5s"},
        "steps": [{"name": "page", "request": {"path": "/"}, "expect": {"status": [200]}}],
    }})
}

impl Soaked {
    /// Ships a version, waits until it has ended as it should, and keeps what happened on the way.
    fn release<T>(
        &mut self,
        shop: &Shop,
        life: &mut Follow,
        version: &str,
        fails_after: Option<u32>,
        ends: impl Fn(&mut Follow) -> Result<T>,
    ) -> Result<T> {
        let number = self.good + self.bad;
        let seen = life.past.len();
        let mut values = vec![format!("env.TRIAL={number}")];
        values.extend(fails_after.map(|after| format!(r"env.SHOP_FAIL=path=/\,code=500\,after={after}\,version={version}")));
        let values: Vec<&str> = values.iter().flat_map(|value| ["--set-string", value.as_str()]).collect();
        self.marks.push(Mark { at_us: now_us(), says: format!("{version} is shipped") });
        shop.helm(version, &values)?;
        let ended = ends(life).with_context(|| format!("release {number}, {version}"))?;
        let mut last = String::new();
        for state in life.past.get(seen..).unwrap_or_default() {
            let step = state.step().filter(|_| state.phase() == "Canary").map_or(String::new(), |step| format!(" {step}"));
            let says = format!("{}{step}", state.phase());
            if says != last {
                self.marks.push(Mark { at_us: state.at_us, says: says.clone() });
                last = says;
            }
        }
        eprintln!("  {}: {version} is {last}", shop.ns);
        Ok(ended)
    }

    /// Prints the table, draws the whole and the first two releases; how many requests failed.
    fn show(&self, folder: &Path) -> Result<u64> {
        let (from, until) = (self.first.0 - MARGIN_US, self.first.1 + MARGIN_US);
        let (mut all, mut first) = (Records::default(), Records::default());
        for line in BufReader::new(File::open(&self.log)?).lines().skip(1) {
            let line = line?;
            all.enter(&line).with_context(|| format!("not a line of the load generator: {line}"))?;
            let at: i64 = line.split(',').next().unwrap_or_default().parse()?;
            if (from..=until).contains(&at) {
                first.enter(&line);
            }
        }
        print!("{}", table::of(&all));
        let draw = |name: &str, title: &str, records: &Records, marks: &[Mark]| {
            std::fs::write(folder.join(format!("{}-{name}.svg", self.on_term)), svg::draw(title, records, marks))
        };
        draw("all", "Share of requests by version, good and bad releases in turn", &all, &[])?;
        draw("first", "Share of requests by version: a good release, then a bad one", &first, &self.marks)?;
        ensure!(all.of_version(BAD).requests > 0, "the bad version reached nobody, so nothing was tested");
        Ok(all.failures())
    }
}
