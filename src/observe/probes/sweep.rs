//! What runs have left behind and nobody knows of any more: looked for every hour, and soon after the lead was gained.

use tokio::time::sleep_until;

use super::{Asks, Watched, lock, round::Asker};
use crate::model::probe::RunName;

impl Asker {
    /// Waits until what this probe has left is swept; for ever, if it says nothing of that.
    pub(super) async fn sweep_due(&self, probe: &Watched) {
        if probe.check.sweep.is_none() {
            return std::future::pending().await;
        }
        let due = lock(&self.book).next_sweep(&probe.check.name);
        sleep_until(due).await;
    }

    /// Deletes what runs that are over have made, through what is proven.
    pub(super) async fn sweep(&self, probe: &Watched) {
        let name = &probe.check.name;
        lock(&self.book).swept(name);
        let (Asks::Rest { pods: proven } | Asks::Pair { stable: proven, .. }) = &probe.asks;
        let (Some(home), Some(sweep)) = (self.turn(&format!("{name} sweep"), proven), &probe.check.sweep) else { return };
        let (namespace, now) = (self.key.namespace.as_deref().unwrap_or_default(), self.clock.now());
        let over = |run: &RunName| sweep.is_old(run, now) && !self.ledger.is_open(namespace, run);
        let swept = self.prober.sweep(&probe.check, home.at, &over).await;
        self.sweeps.with_label_values(&[if swept.left.is_some() { "left" } else { "done" }]).inc();
        if let Some(why) = swept.left {
            tracing::warn!(namespace, probe = name, why, "what its runs have left could not be swept; again in an hour");
        }
        if swept.gone > 0 {
            tracing::info!(namespace, probe = name, gone = swept.gone, "what its runs had left was swept");
        }
    }
}
