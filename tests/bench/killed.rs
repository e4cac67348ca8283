//! P10 and P10b: the leader is killed in the middle of a rollout; when does the controller write again?
//!
//! A hold is given in the moment of the loss, so that there is something to write at once: else the figure would be the rest of a
//! bake.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::figure::{Against, Figure, ms};
use crate::support::shop::{Setup, Shop};
use crate::support::{Bed, now_us, said};

const PART: Duration = Duration::from_secs(150);

/// What is lost.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// The process; the kubelet starts it again in the same pod.
    Process,
    /// The whole pod; the standby goes on.
    Pod,
}

pub(crate) fn measure(bed: &Bed, n: usize) -> Result<Vec<Figure>> {
    let shop = Shop::delivered(bed, "killed", Setup { steps: vec![(25, "8s"), (50, "8s")], ..Setup::default() })?;
    let mut figures = Vec::new();
    let (mut turn, rows) = (
        0,
        [
            ("P10", "leader's process killed -> next write for the app", Loss::Process),
            ("P10b", "leader's pod lost -> the standby's first write", Loss::Pod),
        ],
    );
    for (name, what, loss) in rows {
        let (mut values, mut leases) = (Vec::new(), Vec::new());
        for _ in 0..n {
            let version = if turn % 2 == 0 { "v2" } else { "v1" };
            turn += 1;
            let (write, lease) = trial(&shop, version, loss)?;
            eprintln!("  {write:.0} ms to the write, {lease:.0} ms to the lease");
            values.push(write / 1000.0);
            leases.push(format!("{:.1}", lease / 1000.0));
        }
        figures.push(Figure {
            name,
            what,
            unit: "s",
            values,
            against: Some(Against { what: "Argo Rollouts 1.10.2, kill -9, restarted at once or hot standby", median: 17.2 }),
            notes: vec![format!(
                "lease taken after {} s; in the first step of a rollout; a hold is given in the same moment, and told by the next write",
                leases.join(" ")
            )],
        });
    }
    shop.close()?;
    Ok(figures)
}

/// ms from the loss to the next write for the app, and to the next one of the lease.
fn trial(shop: &Shop, version: &str, loss: Loss) -> Result<(f64, f64)> {
    let bed = shop.bed;
    // The kubelet waits longer and longer before it starts the same container again: each trial has new pods.
    bed.kubectl(&["-n", "haldane-system", "rollout", "restart", "deployment/haldane"])?;
    bed.kubectl(&["-n", "haldane-system", "rollout", "status", "deployment/haldane", "--timeout=120s"])?;
    let mut life = shop.follow()?;
    shop.set_image(version)?;
    life.until(PART, "in its first step", |seen| seen.phase() == "Canary")?;
    let leader = bed.leader()?;
    let mark = bed.audit_mark()?;
    let lost_us = now_us();
    match loss {
        Loss::Process => Bed::signal("-9", std::slice::from_ref(&leader))?,
        Loss::Pod => {
            // Stopped first, so that it neither hands over nor is started again before its pod is gone.
            Bed::signal("-STOP", std::slice::from_ref(&leader))?;
            bed.kubectl(&["-n", "haldane-system", "delete", "pod", &leader.name, "--force", "--grace-period=0", "--wait=false"])?;
            said(std::process::Command::new("kill").args(["-9", &leader.pid])).or_else(|_| anyhow::Ok(String::new()))?;
        }
    }
    shop.plugin(&["hold", "shop", "--message", "the leader is lost"])?;
    life.until(PART, "held", |seen| seen.condition("Held") == "True")?;
    shop.plugin(&["unhold", "shop"])?;
    life.until(PART, "live", |seen| seen.is_live(version))?;
    let writes = bed.writes_since(mark)?;
    let first = writes.iter().find(|w| w.ours() && w.namespace == shop.ns && w.asked_us > lost_us && w.succeeded()).context("no write")?;
    let lease = writes
        .iter()
        .find(|w| w.resource == "leases" && w.namespace == "haldane-system" && w.asked_us > lost_us && w.succeeded())
        .context("no lease")?;
    Ok((ms(lost_us, first.done_us), ms(lost_us, lease.done_us)))
}
