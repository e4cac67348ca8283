//! A load balancer that has pods as targets, as clouds have them, for the tests: it takes connections at one address and gives each to the
//! next of its targets. Who is a target is said by a file, a line for each, which another hand keeps: that registers late, as clouds do.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::{Context as _, Result};
use clap::Parser;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

/// Gives connections to the targets of a file.
#[derive(Parser)]
struct Args {
    /// Where it listens.
    #[arg(long)]
    listen: String,
    /// Addresses with their ports, a line each; read anew for every connection.
    #[arg(long)]
    targets: PathBuf,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(&args))
}

async fn serve(args: &Args) -> Result<()> {
    let listener = TcpListener::bind(&args.listen).await.context("--listen")?;
    let turn = AtomicUsize::new(0);
    loop {
        let (mut client, _) = listener.accept().await?;
        // Without a target the client is turned away, as a cloud does with a 503.
        let Some(target) = next(&args.targets, turn.fetch_add(1, Ordering::Relaxed)) else { continue };
        tokio::spawn(async move {
            if let Ok(mut pod) = TcpStream::connect(&target).await {
                // A side that goes away is told to the other by the end of its connection.
                let _ = copy_bidirectional(&mut client, &mut pod).await;
            }
        });
    }
}

fn next(targets: &Path, turn: usize) -> Option<String> {
    let text = std::fs::read_to_string(targets).ok()?;
    let targets: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    targets.get(turn.checked_rem(targets.len())?).map(ToString::to_string)
}
