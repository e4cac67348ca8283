//! GitOps with the real controllers of Flux on a real cluster: what git says of a shop goes to production by a canary, and customers ask
//! the shop all the time.
//!
//! What Flux is told is read from the page that people read, `deploy/gitops.md`. `make test-cluster`.

#[path = "gitops/argo.rs"]
mod argo;
#[path = "gitops/beside.rs"]
mod beside;
#[path = "gitops/flux.rs"]
mod flux;
#[path = "forge/mod.rs"]
mod forge;
#[path = "gitops/lines.rs"]
mod lines;
#[path = "gitops/page.rs"]
mod page;
#[path = "gitops/prune.rs"]
mod prune;
#[allow(dead_code, reason = "the other tests and the measurements use the rest")]
mod support;
#[path = "gitops/taken_back.rs"]
mod taken_back;

use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};

use support::Bed;
use support::load::Load;
use support::shop::Shop;

/// A rollout of these tests takes about 30 s on a quiet machine, and here a newer one may have to wait for it.
const ROLLOUT: Duration = Duration::from_mins(6);
/// Something is seen within this.
const SEEN: Duration = Duration::from_secs(40);

/// The cluster `test`, which other tests share; `GITOPS_CLUSTER` names another.
fn bed() -> Result<&'static Bed> {
    static BED: OnceLock<Result<Bed, String>> = OnceLock::new();
    let name = || std::env::var("GITOPS_CLUSTER").unwrap_or_else(|_| "test".to_owned());
    let up = || {
        let bed = Bed::up(&name())?;
        bed.gateway()?;
        bed.gitops()?;
        Ok(bed)
    };
    BED.get_or_init(|| up().map_err(|error: anyhow::Error| format!("{error:#}"))).as_ref().map_err(|error| anyhow!("{error}"))
}

/// Says how far a test is; the harness itself is silent until the end.
fn tell(what: &str) {
    eprintln!("     {what}");
}

/// The end of a test whose customers met nothing but answers.
fn nobody_failed(shop: &Shop, load: Load) -> Result<()> {
    let report = load.stop()?;
    tell(&format!("{}: {report}", shop.ns));
    ensure!(report.failed() == 0, "{report}");
    Ok(())
}
