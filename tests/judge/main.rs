//! How often the judge is wrong, how soon it is right, and what simpler rules do with the same numbers: rows J1 to J7; and what asking costs: P9.
//!
//! `make bench ROWS="J1 J2 J3 J4 J5 J6 J7"`, J1p (probes), J1b (all purses in one book), J1u (worlds that nobody has seen), AA (stable against
//! itself), P9; the example without `ROWS` prints all of them. `N=1000` sets how many releases are played in each world. All but P9 is
//! simulated, by seed (`WORLD="stall"` picks worlds of J1 and J1u by their name): two runs print the same table. The last column says whether the limit holds.
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of a simulation are far below 2^32"
)]

mod flows;
mod probing;
mod rivals;
mod rng;
mod rollout;
mod rows;
mod table;
mod unseen;
mod whole;
mod worlds;

use std::process::ExitCode;

/// A row, and how often it is played unless `N` says otherwise.
struct Row {
    name: &'static str,
    usually: usize,
    run: fn(usize),
}

const ROWS: [Row; 11] = [
    Row { name: "J1", usually: 10_000, run: rows::false_rollbacks },
    Row { name: "J1p", usually: 10_000, run: rows::false_rollbacks_by_probes },
    Row { name: "J1b", usually: 10_000, run: whole::false_rollbacks },
    Row { name: "J1u", usually: 10_000, run: rows::unseen },
    Row { name: "J2", usually: 1000, run: rows::doubling },
    Row { name: "J3", usually: 1000, run: rows::twentyfold },
    Row { name: "J4", usually: 10_000, run: rows::total_break },
    Row { name: "J5", usually: 4000, run: rows::promotion },
    Row { name: "J6", usually: 400, run: whole::rechecks },
    Row { name: "AA", usually: 40, run: whole::against_itself },
    Row { name: "P9", usually: 1000, run: flows::cost },
];

fn main() -> ExitCode {
    let wanted = std::env::var("ROWS").unwrap_or_default();
    // J7 is measured with J5: the same tests, a canary that is twice as bad.
    let picked = |name: &str| {
        let mut words = wanted.split_whitespace();
        wanted.trim().is_empty() || words.any(|word| word == name || (word == "J7" && name == "J5"))
    };
    let often = match std::env::var("N").map(|n| n.parse::<usize>()) {
        Err(_) => None,
        Ok(Ok(n)) => Some(n),
        Ok(Err(_)) => {
            eprintln!("judge: N is a number");
            return ExitCode::FAILURE;
        }
    };
    println!("seed {:#x}", rows::SEED);
    for row in ROWS.iter().filter(|row| picked(row.name)) {
        (row.run)(often.unwrap_or(row.usually));
    }
    ExitCode::SUCCESS
}
