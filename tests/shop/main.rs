//! The demo shop: a small HTTP service whose versions and faults are set by environment, so that a test can ship a good or a bad release.
//!
//! It uses nothing of the controller: what it shows must also be true of anybody's application. One process, one thread,
//! nothing on disk; orders live in memory and are known only to the pod that took them, or to the shop that `SHOP_STORE` names.
//!
//! | Variable | Meaning |
//! |---|---|
//! | `SHOP_VERSION` | shown in every answer: header `X-Shop-Version`, JSON `version` (default: the file `/version` of the image, else `dev`) |
//! | `SHOP_PORT` | default 8080 |
//! | `SHOP_GRPC_PORT` | where gRPC's health protocol is spoken (default: nowhere; see `health.rs`) |
//! | `SHOP_TLS_CERT`, `SHOP_TLS_KEY` | PEM files: serve HTTPS and nothing else |
//! | `SHOP_FAIL` | `path=/orders,code=500,after=20,rate=50`, or `ms=300` for late, `log=text` for a line in the log, `drop=state` for an answer without it, `leak=100`, `poison=500`, several separated by `;` (see `faults.rs`) |
//! | `SHOP_CHATTER` | so many lines a second in the log, of no importance |
//! | `SHOP_EXIT_AT_START=1` | exit code 1 before listening |
//! | `SHOP_ONCE=1` | exit code 0 before listening: a migration that has nothing to do |
//! | `SHOP_CRASH_AFTER` | exit code 1 after so many seconds |
//! | `SHOP_OOM=1` | allocate until killed (exit code 1 at 1 GiB if nobody does) |
//! | `SHOP_READY_AFTER`, `SHOP_NEVER_READY=1` | `/healthz` answers 503 for so many seconds, or always |
//! | `SHOP_STORE` | `IP:PORT` of another shop that keeps the orders of this one |
//! | `SHOP_ON_TERM` | `exit` (default), `shutdown` or `drain` (see `serve.rs`) |

mod config;
mod faults;
mod health;
mod metrics;
mod serve;
mod shop;
mod store;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use serde_json::json;
use tokio::net::TcpListener;

use crate::config::Config;
use crate::serve::Stop;
use crate::shop::Shop;

/// What it chatters comes in so many parts a second.
const CHATTER_TURNS: u64 = 20;
const CHATTER: std::time::Duration = std::time::Duration::from_millis(1000 / CHATTER_TURNS);

fn main() -> ExitCode {
    let config = match Config::from_env(environment) {
        Ok(config) => config,
        Err(error) => return refuse(&error),
    };
    if config.exit_at_start {
        log("stop", &config.version, &json!({"reason": Stop::ExitAtStart.reason()}));
        return Stop::ExitAtStart.exit_code();
    }
    if config.once {
        log("stop", &config.version, &json!({"reason": "SHOP_ONCE"}));
        return ExitCode::SUCCESS;
    }
    // Leaving `run` drops the runtime with every connection in it: that is how `exit` ends at once.
    match run(&config) {
        Ok(end) => end.exit_code(),
        Err(error) => refuse(&error),
    }
}

/// The environment; the version may also be baked into the image, so that a new image alone is a new version.
fn environment(name: &str) -> Option<String> {
    let baked = || (name == "SHOP_VERSION").then(|| std::fs::read_to_string("/version").ok()).flatten();
    std::env::var(name).ok().or_else(|| baked().map(|version| version.trim().to_owned()))
}

fn run(config: &Config) -> anyhow::Result<Stop> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let tls = config.tls.as_ref().map(serve::tls_acceptor).transpose()?;
        let listener =
            TcpListener::bind(("0.0.0.0", config.port)).await.with_context(|| format!("cannot listen on port {}", config.port))?;
        let details = json!({"port": listener.local_addr()?.port(), "tls": tls.is_some(), "on_term": config.on_term});
        log("start", &config.version, &details);
        let shop = Arc::new(Shop::new(config)?);
        if let Some(port) = config.grpc_port {
            health::listen(port, Arc::clone(&shop)).await?;
        }
        if config.chatter > 0 {
            tokio::spawn(chatter(config.chatter, config.version.clone()));
        }
        let end = serve::run(config, listener, tls, Arc::clone(&shop)).await?;
        log("stop", &config.version, &json!({"reason": end.reason(), "requests": shop.requests()}));
        Ok(end)
    })
}

/// So many lines a second, as an app writes them that logs each request.
async fn chatter(lines: u64, version: String) {
    let mut turn = tokio::time::interval(CHATTER);
    for number in 0_u64.. {
        turn.tick().await;
        for line in (number * lines / CHATTER_TURNS)..((number + 1) * lines / CHATTER_TURNS) {
            let (path, ms) = (format!("/products/{}", line % 97), line % 40);
            log("request", &version, &json!({"path": path, "ms": ms, "order": line}));
        }
    }
}

fn refuse(error: &anyhow::Error) -> ExitCode {
    eprintln!("shop: {error:#}");
    ExitCode::from(2)
}

/// One JSON line per start, stop and failed probe; a line per request would be the loudest thing in the cluster.
pub(crate) fn log(event: &str, version: &str, details: &serde_json::Value) {
    line(&json!({"event": event, "version": version, "details": details}));
}

/// A line of level error, as `SHOP_FAIL` asks for it.
pub(crate) fn complain(version: &str, text: &str) {
    line(&json!({"level": "error", "version": version, "msg": text}));
}

fn line(said: &serde_json::Value) {
    #[expect(clippy::disallowed_methods, reason = "the shop is a foreign application; its log has the wall clock's time")]
    let time = jiff::Timestamp::now();
    let mut line = json!({"time": time.to_string()});
    if let (Some(line), Some(said)) = (line.as_object_mut(), said.as_object()) {
        line.extend(said.clone());
    }
    println!("{line}");
}
