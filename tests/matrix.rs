//! Every phase of a rollout × everything that happens meanwhile: accidents of the cluster and acts of owners, each once, with customers.
//!
//! A cell is OK when all comes to rest as it should and no customer was failed by it. `make matrix`; `PHASES="Canary Guarding"`,
//! `CHANGES="killed replace"` (parts of names) and `JOBS=3` (namespaces at once) narrow it down; `NAME=other` is another cluster.
//! `WAY=route`: customers come by a route, and testers first.

#[allow(dead_code, reason = "the tests and the measurements use the rest")]
mod support;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};

use support::changes::{self, Change};
use support::rest::Hand;
use support::shop::{Setup, Shop};
use support::{Bed, begin, said};

const ROLLOUT: Duration = Duration::from_secs(150);
const PHASES: [&str; 8] = ["Live", "Preflight", "Canary", "Promoting", "Guarding", "Finalizing", "RollingBack", "RolledBack"];

fn by_route() -> bool {
    std::env::var("WAY").is_ok_and(|way| way == "route")
}

/// What happens.
enum Event {
    Killed,
    ApiAway,
    /// With this `--cascade`.
    Deleted(&'static str),
    Foreign(Change),
}

impl Event {
    fn all() -> Vec<Self> {
        let mut all = vec![Self::Killed, Self::ApiAway, Self::Deleted("background"), Self::Deleted("foreground")];
        all.extend(changes::all().into_iter().map(Self::Foreign));
        all
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Killed => "controllers killed",
            Self::ApiAway => "API server away 30 s",
            Self::Deleted("foreground") => "Delivery deleted, foreground",
            Self::Deleted(_) => "Delivery deleted",
            Self::Foreign(change) => change.name,
        }
    }

    /// It happens to every namespace.
    fn is_everywhere(&self) -> bool {
        matches!(self, Self::Killed | Self::ApiAway)
    }
}

/// One phase and one event.
struct Cell<'a> {
    phase: &'static str,
    event: &'a Event,
}

impl Cell<'_> {
    fn run(&self, bed: &Bed, number: usize) -> Result<String> {
        if matches!(self.event, Event::Killed) {
            // Pods of the controller that nobody killed yet: the kubelet lets one that dies again and again wait for minutes.
            bed.kubectl(&["-n", "haldane-system", "rollout", "restart", "deployment/haldane"])?;
            bed.kubectl(&["-n", "haldane-system", "rollout", "status", "deployment/haldane", "--timeout=90s"])?;
        }
        // One step that leaves pods to be added: the only way through Promoting.
        let setup = Setup { steps: vec![(25, "3s")], testers: by_route().then_some("1s"), ..Setup::default() };
        let shop = Shop::delivered(bed, &format!("cell-{number}"), setup)?;
        let load = shop.customers(30, 3)?;
        let met = self.reach(&shop)?;
        self.act(&shop)?;
        let (versions, hands) = self.allowed();
        let version = shop.comes_to_rest(ROLLOUT, &versions, &hands)?;
        let report = load.stop()?;
        let hurts = matches!(self.event, Event::Foreign(change) if change.hurts);
        let own = if self.goes_back() { "v2" } else { "" };
        ensure!(hurts || report.failed_beside(own) == 0, "ends on {version}, but {report}");
        shop.close()?;
        let met = if met == self.phase { String::new() } else { format!(" (met {met})") };
        Ok(format!("OK {version}, {report}{met}"))
    }

    fn goes_back(&self) -> bool {
        matches!(self.phase, "RollingBack" | "RolledBack")
    }

    /// Brings the shop into the phase; says in which it was seen then.
    fn reach(&self, shop: &Shop) -> Result<String> {
        let mut life = shop.follow()?;
        match self.phase {
            "Live" => return Ok("Live".to_owned()),
            "RollingBack" | "RolledBack" => shop.ship_broken("v2", 20)?,
            _ => shop.set_image("v2")?,
        }
        Ok(life.until(ROLLOUT, self.phase, |seen| seen.phase() == self.phase)?.phase().to_owned())
    }

    fn act(&self, shop: &Shop) -> Result<()> {
        match self.event {
            Event::Killed => Bed::signal("-9", &shop.bed.controllers()?),
            Event::ApiAway => {
                said(shop.bed.cluster("apiserver").args(["stop", &shop.bed.name]))?;
                std::thread::sleep(Duration::from_secs(30));
                said(shop.bed.cluster("apiserver").args(["start", &shop.bed.name])).map(drop)
            }
            Event::Deleted(how) => shop.kubectl(&["delete", "delivery", "shop", &format!("--cascade={how}"), "--timeout=90s"]).map(drop),
            Event::Foreign(change) if change.ships => (change.act)(shop, "v4"),
            Event::Foreign(change) => (change.act)(shop, if self.forward() { "v2" } else { "v1" }),
        }
    }

    fn forward(&self) -> bool {
        !self.goes_back() && self.phase != "Live"
    }

    /// The ends that are right: versions, and who has the hand on the gate.
    fn allowed(&self) -> (Vec<&'static str>, Vec<Hand>) {
        let planned = if self.forward() { "v2" } else { "v1" };
        match self.event {
            Event::Deleted(_) => (vec!["v1", "v2"], vec![Hand::Owner]),
            Event::Foreign(change) if change.ships => (vec!["v4"], vec![Hand::Haldane]),
            // With nothing waiting it is respected; with a template waiting it is another version's start, and the gate closes again.
            Event::Foreign(change) if change.name == "kubectl rollout resume" => (vec!["v1", "v2"], vec![Hand::Haldane, Hand::Owner]),
            Event::Killed | Event::ApiAway | Event::Foreign(_) => (vec![planned], vec![Hand::Haldane]),
        }
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(wrong) => {
            eprintln!("{wrong} cells are not as they should be");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("matrix: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Does a name hold one of the words of this variable? Without the variable: yes.
fn asked_for(variable: &str, name: &str) -> bool {
    let Ok(words) = std::env::var(variable) else { return true };
    words.split_whitespace().any(|word| name.contains(word))
}

fn run() -> Result<usize> {
    let bed = Bed::up(&std::env::var("NAME").unwrap_or_else(|_| "matrix".to_owned()))?;
    if by_route() {
        bed.gateway()?;
    }
    let events = Event::all();
    let cells: Vec<Cell> = events
        .iter()
        .filter(|event| asked_for("CHANGES", event.name()))
        .flat_map(|event| PHASES.into_iter().filter(|phase| asked_for("PHASES", phase)).map(move |phase| Cell { phase, event }))
        .collect();
    let jobs = std::env::var("JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(3);
    let results = Mutex::new(BTreeMap::new());
    let (everywhere, alone): (Vec<_>, Vec<_>) = cells.iter().enumerate().partition(|(_, cell)| cell.event.is_everywhere());
    work(&bed, &alone, jobs, &results);
    work(&bed, &everywhere, 1, &results);
    let results = results.into_inner().unwrap_or_default();
    table(&cells, &results);
    Ok(results.values().filter(|result| !result.starts_with("OK")).count())
}

fn work(bed: &Bed, cells: &[(usize, &Cell)], jobs: usize, results: &Mutex<BTreeMap<usize, String>>) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some((number, cell)) = cells.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let began = begin();
                    let result = cell.run(bed, *number).unwrap_or_else(|error| format!("NOT {error:#}"));
                    eprintln!("{:>4} s  {:<12} × {:<34} {result}", began.elapsed().as_secs(), cell.phase, cell.event.name());
                    if let Ok(mut results) = results.lock() {
                        results.insert(*number, result);
                    }
                }
            });
        }
    });
}

fn table(cells: &[Cell], results: &BTreeMap<usize, String>) {
    println!("\n{:<34} {}", "", PHASES.map(|phase| format!("{phase:<12}")).join(""));
    let mut rows: Vec<(&str, BTreeMap<&str, &str>)> = Vec::new();
    for (number, cell) in cells.iter().enumerate() {
        if rows.last().is_none_or(|(name, _)| *name != cell.event.name()) {
            rows.push((cell.event.name(), BTreeMap::new()));
        }
        let word = results.get(&number).map_or("-", |result| if result.starts_with("OK") { "OK" } else { "NOT" });
        if let Some((_, row)) = rows.last_mut() {
            row.insert(cell.phase, word);
        }
    }
    for (name, row) in rows {
        println!("{name:<34} {}", PHASES.map(|phase| format!("{:<12}", row.get(phase).copied().unwrap_or("-"))).join(""));
    }
}
