//! `kubectl haldane`: what a person at a prompt sees, asks and orders.
//!
//! It works with the user's own rights. Two halves: pure functions that turn objects into text, refusals or patches, and a
//! thin layer that reads and writes. No reason is worded here: the sentences are those that the controller stored.

mod args;
mod connect;
mod doctor;
mod forward;
mod gate;
mod hold;
mod init;
mod json;
mod order;
mod paint;
mod probe;
mod release;
mod replay;
mod seen;
mod status;
mod wait;
mod why;
mod yaml;

use std::{ffi::OsString, path::Path, process::ExitCode};

use anyhow::Result;
use clap::{Parser as _, error::ErrorKind};

use args::{Cli, Verb};
use connect::Cluster;

use crate::api::command::Action;

/// How a command ended. The numbers are a promise to scripts; `--help` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Done, or live.
    Done,
    /// Rolled back; an order that is void; something is wrong.
    Bad,
    /// Undecided, superseded or refused.
    Undecided,
    /// The time is over.
    Timeout,
    /// The time is over, and nothing moves until a person acts.
    Held,
}

impl From<End> for ExitCode {
    fn from(end: End) -> Self {
        match end {
            End::Done => Self::SUCCESS,
            End::Bad => Self::from(1),
            End::Undecided => Self::from(2),
            End::Timeout => Self::from(3),
            End::Held => Self::from(4),
        }
    }
}

/// It could not be done.
const FAILED: u8 = 5;
/// The command line is wrong: `EX_USAGE` of sysexits.h, so that it is never taken for a verdict.
const USAGE: u8 = 64;

/// Runs one command and says how it ended.
pub async fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            // A closed pipe is nobody's fault.
            let _ = error.print();
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(USAGE) };
        }
    };
    match Box::pin(command(&cli)).await {
        Ok(end) => end.into(),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

async fn command(cli: &Cli) -> Result<End> {
    if matches!(cli.verb, Verb::Version) {
        println!("kubectl-haldane {} (haldane.dev/v1alpha1)", env!("CARGO_PKG_VERSION"));
        return Ok(End::Done);
    }
    if let Verb::Replay(args) = &cli.verb
        && Path::new(&args.of).is_file()
    {
        return replay::of_file(Path::new(&args.of));
    }
    let cluster = Cluster::connect(&cli.target).await?;
    match &cli.verb {
        Verb::Init(args) => init::run(&cluster, args).await,
        Verb::Status(args) => status::run(&cluster, args).await,
        Verb::Why(args) => why::run(&cluster, args).await,
        Verb::Replay(args) => replay::run(&cluster, args).await,
        Verb::Release(args) => release::run(&cluster, args).await,
        Verb::Wait(args) => wait::run(&cluster, args).await,
        Verb::Promote(args) => order::run(&cluster, Action::Promote, args).await,
        Verb::Approve(args) => order::approve(&cluster, args).await,
        Verb::Abort(args) => order::run(&cluster, Action::Abort, args).await,
        Verb::Rollback(args) => order::run(&cluster, Action::Rollback, args).await,
        Verb::Retry(args) => order::retry(&cluster, args).await,
        Verb::Adopt(args) => order::run(&cluster, Action::Adopt, args).await,
        Verb::Hold(args) => hold::hold(&cluster, args).await,
        Verb::Unhold(args) => hold::unhold(&cluster, args).await,
        Verb::Ungate(args) => gate::ungate(&cluster, args).await,
        Verb::Restart(args) => gate::restart(&cluster, args).await,
        Verb::Probe(args) => probe::run(&cluster, args).await,
        Verb::Doctor(args) => doctor::run(&cluster, args).await,
        Verb::Version => Ok(End::Done),
    }
}
