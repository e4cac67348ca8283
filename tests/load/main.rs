//! The load generator: asks the demo shop from outside, as its customers do, and says which answers failed, when, and by which version.
//!
//! Open loop: every request has its time by the clock, whether or not the one before was answered; a server that stalls is asked
//! on. Two kinds of customers: *fresh* ones open a connection for each request, *keepalive* ones hold theirs for as long as the server does.
//! It measures and judges nothing; the tests read `--json` and `--log`.

mod args;
mod client;
mod clock;
mod connect;
mod ledger;
mod outcome;
mod report;
mod schedule;
mod target;
mod watch;

#[cfg(test)]
mod end_to_end;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{MissedTickBehavior, interval};

use crate::args::Args;
use crate::clock::Clock;
use crate::ledger::Ledger;
use crate::outcome::Outcome;
use crate::schedule::{Ran, Schedule};
use crate::watch::Watch;

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    // One thread is enough for a few thousand requests a second, and leaves the machine to those that are measured.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(&args))
}

async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let clock = Clock::start();
    let log = args.log.as_ref().map(File::create).transpose().context("--log")?;
    let json = args.json.as_ref().map(File::create).transpose().context("--json")?;
    let (outcomes, inbox) = unbounded_channel();
    let schedule = Schedule::new(args, clock)?;
    let mut book = Book {
        ledger: Ledger::new(clock.now_us()),
        watches: args.watch_versions.iter().map(|version| Watch::new(version)).collect(),
        log: log.map(BufWriter::new),
        quiet: args.quiet,
        clock,
        tests: BTreeMap::new(),
    };
    let (ran, kept) = tokio::join!(schedule.run(outcomes), book.keep(inbox));
    kept.context("--log")?;
    let tests = std::mem::take(&mut book.tests);
    book.finish(ran?, json)?;
    let Some(junit) = &args.junit else { return Ok(ExitCode::SUCCESS) };
    std::fs::write(junit, report_of(&tests)).context("--junit")?;
    let well = tests.values().all(|(_, failed)| *failed == 0) && !tests.is_empty();
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// A test for each path: it fails if one of its requests did.
fn report_of(tests: &BTreeMap<String, (u64, u64)>) -> String {
    let test = |(name, (asked, failed)): (&String, &(u64, u64))| {
        let failure = if *failed > 0 { format!("<failure message=\"{failed} of {asked} failed\"/>") } else { String::new() };
        format!("<testcase classname=\"load\" name=\"{}\">{failure}</testcase>", name.replace('&', "&amp;").replace('<', "&lt;"))
    };
    format!("<testsuites><testsuite name=\"load\">{}</testsuite></testsuites>\n", tests.iter().map(test).collect::<String>())
}

/// Everything that is written down, kept by one task.
struct Book {
    ledger: Ledger,
    watches: Vec<Watch>,
    log: Option<BufWriter<File>>,
    quiet: bool,
    clock: Clock,
    /// Requests and failures by path.
    tests: BTreeMap<String, (u64, u64)>,
}

impl Book {
    /// Ends when the schedule and every request of it have ended.
    async fn keep(&mut self, mut inbox: UnboundedReceiver<Outcome>) -> std::io::Result<()> {
        if let Some(log) = &mut self.log {
            writeln!(log, "{}", outcome::LOG_HEADER)?;
        }
        let mut second = interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Skip);
        second.tick().await;
        loop {
            tokio::select! {
                outcome = inbox.recv() => match outcome {
                    Some(outcome) => self.enter(&outcome)?,
                    None => return Ok(()),
                },
                _ = second.tick() => self.every_second()?,
            }
        }
    }

    fn enter(&mut self, outcome: &Outcome) -> std::io::Result<()> {
        self.ledger.record(outcome);
        let (asked, failed) = self.tests.entry(outcome.ask.name.clone()).or_default();
        (*asked, *failed) = (*asked + 1, *failed + u64::from(outcome.failed()));
        for line in self.watches.iter_mut().filter_map(|watch| watch.see(outcome)) {
            println!("{line}");
        }
        match &mut self.log {
            Some(log) => writeln!(log, "{outcome}"),
            None => Ok(()),
        }
    }

    fn every_second(&mut self) -> std::io::Result<()> {
        let now = self.clock.now_us();
        for line in self.watches.iter_mut().filter_map(|watch| watch.quiet(now)) {
            println!("{line}");
        }
        let line = self.ledger.close_second(now);
        if !self.quiet {
            println!("{line}");
        }
        self.log.as_mut().map_or(Ok(()), BufWriter::flush)
    }

    fn finish(mut self, ran: Ran, json: Option<File>) -> anyhow::Result<()> {
        for line in self.watches.iter_mut().filter_map(Watch::end) {
            println!("{line}");
        }
        if let Some(log) = &mut self.log {
            log.flush().context("--log")?;
        }
        let report = self.ledger.report(self.clock.now_us(), ran);
        print!("{report}");
        if let Some(mut file) = json {
            serde_json::to_writer_pretty(&mut file, &report).context("--json")?;
            writeln!(file)?;
        }
        Ok(())
    }
}
