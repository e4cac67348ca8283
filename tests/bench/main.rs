//! Measures what the README promises, on a real cluster, and says how each figure came about.
//!
//! `make bench`; `ROWS="P2 P4"` picks rows, `N=10` sets how often each is tried. Prints a table and writes `target/bench.json`. What
//! is measured is read from outside: the customers' log, the application's log, the API server's audit log, the meter of the model of
//! GitHub; the controller is not asked. `ROWS="P12 P12b"` needs no cluster.

#[allow(dead_code, reason = "the tests and the matrix use the rest")]
#[path = "../support/mod.rs"]
mod support;

#[path = "../forge/mod.rs"]
mod forge;
#[allow(dead_code, reason = "tests use the rest")]
#[path = "../support/merging.rs"]
mod merging;

mod figure;
mod following;
mod idle;
mod killed;
mod merge;
mod rollback;
mod rollout;
mod sweep;

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use figure::Figure;
use rollback::{Stable, Way};
use support::Bed;

/// A row of the table, or two that are measured together.
struct Measurement {
    rows: &'static [&'static str],
    /// How often, unless `N` says otherwise.
    usually: usize,
    run: On,
}

/// What it is measured on.
enum On {
    Cluster(fn(&Bed, usize) -> Result<Vec<Figure>>),
    /// This machine alone.
    Machine(fn(usize) -> Result<Vec<Figure>>),
}

use On::{Cluster, Machine};

const ALL: [Measurement; 12] = [
    Measurement { rows: &["P1"], usually: 10, run: Cluster(|bed, n| rollback::measure(bed, n, Way::Route, Stable::Ready)) },
    Measurement { rows: &["P1x3"], usually: 4, run: Cluster(rollback::three) },
    Measurement { rows: &["P2"], usually: 10, run: Cluster(|bed, n| rollback::measure(bed, n, Way::Service, Stable::Ready)) },
    Measurement { rows: &["P11"], usually: 5, run: Cluster(|bed, n| rollback::measure(bed, n, Way::Service, Stable::OneNotReady)) },
    Measurement { rows: &["P11r"], usually: 5, run: Cluster(|bed, n| rollback::measure(bed, n, Way::Route, Stable::OneNotReady)) },
    Measurement { rows: &["P3", "P3c", "P3i"], usually: 10, run: Cluster(merge::measure) },
    Measurement { rows: &["P4", "P7"], usually: 4, run: Cluster(|bed, n| rollout::measure(bed, n, Way::Service)) },
    Measurement { rows: &["P4r", "P7r"], usually: 4, run: Cluster(|bed, n| rollout::measure(bed, n, Way::Route)) },
    Measurement { rows: &["P6"], usually: 1, run: Cluster(idle::measure) },
    Measurement { rows: &["P9l", "P9m"], usually: 2, run: Cluster(following::measure) },
    Measurement { rows: &["P10", "P10b"], usually: 5, run: Cluster(killed::measure) },
    Measurement { rows: &["P12", "P12b"], usually: 10, run: Machine(sweep::measure) },
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let wanted = std::env::var("ROWS").unwrap_or_default();
    let picked = |rows: &[&str]| wanted.trim().is_empty() || wanted.split_whitespace().any(|row| rows.contains(&row));
    let often = std::env::var("N").ok().map(|n| n.parse()).transpose().context("N is a number")?;
    let mut bed = None;
    let mut figures = Vec::new();
    for measurement in ALL.iter().filter(|measurement| picked(measurement.rows)) {
        let n = often.unwrap_or(measurement.usually);
        eprintln!("{}: {n} times", measurement.rows.join(" and "));
        let found = match measurement.run {
            Machine(run) => run(n),
            Cluster(run) => {
                if bed.is_none() {
                    bed = Some(Bed::up("bench")?);
                }
                run(bed.as_ref().context("no cluster")?, n)
            }
        };
        let found = found.with_context(|| measurement.rows.join(" and "))?;
        figures.extend(found.into_iter().filter(|figure| wanted.trim().is_empty() || picked(&[figure.name])));
    }
    figure::print(&figures);
    figure::store(&figures)
}
