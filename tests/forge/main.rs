//! The fake GitHub as a process, for demonstrations and shell scripts.
//!
//! It prints one line of JSON (`url`, `app_id`, `client_id`, `installations`) when it serves; what happens next is told to it at
//! `/_fake/…` (see `admin.rs`). It listens where it is told and asks nobody for a password: 127.0.0.1, or a network of its own.

#[path = "mod.rs"]
mod forge;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use anyhow::Context as _;
use clap::Parser;
use forge::{GitHub, Options};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Parser)]
#[command(name = "fake-github", about = "GitHub for demonstrations: real git, apps, checks, webhooks")]
struct Args {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The folder of the repositories (default: one that goes with the process).
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Where the private key of the app is written.
    #[arg(long)]
    key_out: Option<PathBuf>,
    /// A repository to begin with, as owner/name; the app is installed on its owner. Can be given again.
    #[arg(long = "repository")]
    repositories: Vec<String>,
    /// A workflow that every push to these repositories starts. Can be given again.
    #[arg(long = "workflow")]
    workflows: Vec<String>,
    /// Where the app wants its events (http).
    #[arg(long, requires = "webhook_secret")]
    webhook_url: Option<String>,
    /// What they are signed with.
    #[arg(long)]
    webhook_secret: Option<String>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let hub = GitHub::start(Options { dir: args.dir, listen: args.listen, ..Options::default() });
    let app = hub.app();
    if let Some(path) = &args.key_out {
        std::fs::write(path, &app.pem).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let workflows: Vec<&str> = args.workflows.iter().map(String::as_str).collect();
    let mut installations = BTreeMap::new();
    for name in &args.repositories {
        let (owner, _) = name.split_once('/').with_context(|| format!("--repository {name}: owner/name"))?;
        hub.repository_with(name, &workflows);
        installations.entry(owner.to_owned()).or_insert_with(|| hub.install(owner));
    }
    if let (Some(url), Some(secret)) = (&args.webhook_url, &args.webhook_secret) {
        hub.webhook(url, secret);
    }
    println!("{}", json!({"url": hub.url(), "app_id": app.id, "client_id": app.client_id, "installations": installations}));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        Ok(())
    })
}
