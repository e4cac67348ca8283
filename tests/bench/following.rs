//! P9l and P9m: what it costs the controller to read the logs of 20 pods that write 5,000 lines a second in all.
//!
//! The same rollout twice, with `verify.logs` and without; the figures are what the first takes more than the second.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::figure::Figure;
use crate::support::Bed;
use crate::support::follow::Seen;
use crate::support::shop::{Setup, Shop};

/// 15 of the canary and, as many as are read of it, 5 of stable.
const PODS: usize = 15;
const LINES: usize = 250;
/// Pods start, and the logs that were there before are read.
const SETTLE: Duration = Duration::from_secs(15);
const WINDOW: Duration = Duration::from_secs(30);
const PART: Duration = Duration::from_mins(4);

/// Of the leader's process, over the window.
struct Cost {
    cores: f64,
    mib: f64,
}

pub(crate) fn measure(bed: &Bed, n: usize) -> Result<Vec<Figure>> {
    bed.gateway()?;
    let setup = Setup { steps: vec![(95, "70s")], guard: "1s", ..Setup::by_route() };
    let shop = Shop::ground(bed, "following", setup)?;
    let chatter = format!("env.SHOP_CHATTER={LINES},replicas={PODS}");
    let more = ["--set-string", chatter.as_str()];
    shop.helm("v1", &more)?;
    shop.kubectl(&["rollout", "status", "deployment/shop", "--timeout=180s"])?;
    shop.adopt()?;
    let (mut cores, mut memory, mut raw) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..n {
        let mut costs = Vec::new();
        for (at, logs) in [json!(null), json!({"alerts": [{"name": "none", "contains": "nobody writes this"}]})].into_iter().enumerate() {
            shop.kubectl(&["patch", "delivery", "shop", "--type=merge", "-p", &json!({"spec": {"verify": {"logs": logs}}}).to_string()])?;
            let mut life = shop.follow()?;
            let tag = if (2 * turn + at).is_multiple_of(2) { "v2" } else { "v1" };
            shop.helm(tag, &more)?;
            life.until(PART, "at 95 %", |seen| seen.phase() == "Canary" && weight(seen) == 95)?;
            costs.push(cost(bed)?);
            life.until(PART, "live", |seen| seen.phase() == "Live" && seen.condition("Ready") == "True")?;
        }
        if let [without, with] = costs.as_slice() {
            raw.push(format!("{:.3} and {:.3} cores, {:.1} and {:.1} MiB", with.cores, without.cores, with.mib, without.mib));
            cores.push(with.cores - without.cores);
            memory.push(with.mib - without.mib);
        }
    }
    shop.close()?;
    let figure = |name, what, unit, values| Figure {
        name,
        what,
        unit,
        values,
        against: None,
        notes: vec![format!("with and without: {}", raw.join("; "))],
    };
    Ok(vec![
        figure("P9l", "processor time of reading 20 logs, 5,000 lines/s", "cores", cores),
        figure("P9m", "memory of the same", "MiB", memory),
    ])
}

fn weight(seen: &Seen) -> i64 {
    seen.object.pointer("/status/rollout/weight/served").and_then(serde_json::Value::as_i64).unwrap_or_default()
}

/// What the leader takes for a while.
fn cost(bed: &Bed) -> Result<Cost> {
    std::thread::sleep(SETTLE);
    let leader = bed.leader()?;
    let before = ticks(&leader.pid)?;
    std::thread::sleep(WINDOW);
    #[expect(clippy::cast_precision_loss, reason = "few ticks")]
    let cores = (ticks(&leader.pid)? - before) as f64 / TICKS / WINDOW.as_secs_f64();
    Ok(Cost { cores, mib: resident(&leader.pid)? })
}

/// Of the kernel's clock, a second; the same on every Linux that runs this.
const TICKS: f64 = 100.0;

fn ticks(pid: &str) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit_once(") ").context("no name in stat")?.1;
    // utime and stime are the 14th and 15th field, the 12th and 13th after the name: proc(5).
    let fields: Vec<&str> = after_name.split(' ').collect();
    let at = |index: usize| -> Result<u64> { Ok(fields.get(index).context("stat is short")?.parse()?) };
    Ok(at(11)? + at(12)?)
}

fn resident(pid: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kib / 1024.0)
}
