//! Draws who answered the load generator's requests, over time, and counts what failed. Its records are all that it looks at.
//!
//! `plot --log load.csv --svg share.svg`; `--marks FILE` has lines `UNIX_MICROSECONDS,what happened`, which are drawn as moments.

mod record;
mod svg;
mod table;

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;

use crate::record::{Mark, Records};

/// Draws the share of each version over time as SVG, and prints how many requests failed by version and kind of connection.
#[derive(Debug, Parser)]
#[command(name = "plot")]
struct Args {
    /// What `load --log` wrote
    #[arg(long)]
    log: PathBuf,

    /// Where the picture goes; without it there is only the table
    #[arg(long)]
    svg: Option<PathBuf>,

    /// Lines of `UNIX_MICROSECONDS,what happened`
    #[arg(long)]
    marks: Option<PathBuf>,

    #[arg(long, default_value = "Share of requests by version")]
    title: String,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let open = |path: &PathBuf| File::open(path).map(BufReader::new).with_context(|| path.display().to_string());
    let mut records = Records::default();
    for line in open(&args.log)?.lines().skip(1) {
        let line = line?;
        records.enter(&line).with_context(|| format!("not a line of the load generator: {line}"))?;
    }
    let mut marks = Vec::new();
    if let Some(path) = &args.marks {
        for line in open(path)?.lines() {
            let line = line?;
            marks.push(Mark::read(&line).with_context(|| format!("not a mark: {line}"))?);
        }
    }
    print!("{}", table::of(&records));
    if let Some(path) = &args.svg {
        let mut file = File::create(path).with_context(|| path.display().to_string())?;
        file.write_all(svg::draw(&args.title, &records, &marks).as_bytes())?;
    }
    Ok(())
}
