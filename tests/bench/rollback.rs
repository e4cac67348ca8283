//! P2 and P11: from the first failing answer that the prober got, to the last new connection on the bad version.
//!
//! The time begins when the canary's own process hands out its first failing answer to a probe (before the prober has read it, so the
//! figure is not flattered), includes the second pair that confirms the failure, and ends with the start of the last new connection of a
//! customer that the bad version answered. One step with one canary pod; 150 new connections a second, so about one in 7 ms, of
//! which a fifth is the canary's: the end is known to about 35 ms.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::figure::{Figure, ms};
use crate::support::load::Load;
use crate::support::rest::{Hand, ready};
use crate::support::shop::{Setup, Shop};
use crate::support::{Bed, said, until};

const PART: Duration = Duration::from_secs(90);
/// Above this, kube-proxy was in the second in which it does not look again.
const QUIET_MS: f64 = 200.0;

/// How the old version is meanwhile.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stable {
    Ready,
    OneNotReady,
}

/// One rollback.
struct Trial {
    /// ms
    total: f64,
    /// ms from the failing answer to our write.
    to_write: f64,
    /// ms from our write to the last new connection.
    from_write: f64,
}

pub(crate) fn measure(bed: &Bed, n: usize, stable: Stable) -> Result<Vec<Figure>> {
    let setup = Setup { steps: vec![(20, "5m")], ..Setup::default() };
    let shop = Shop::delivered(bed, "rollback", setup)?;
    let mut trials = Vec::new();
    for number in 0..n {
        let trial = trial(&shop, number, stable).with_context(|| format!("trial {number}"))?;
        eprintln!("  {:.0} ms: {:.0} to the write, {:.0} from there", trial.total, trial.to_write, trial.from_write);
        trials.push(trial);
    }
    shop.close()?;
    let quick = trials.iter().filter(|trial| trial.from_write < QUIET_MS).count();
    let list = |each: fn(&Trial) -> f64| trials.iter().map(|trial| format!("{:.0}", each(trial))).collect::<Vec<_>>().join(" ");
    let (name, what) = match stable {
        Stable::Ready => ("P2", "failing answer to a probe -> last new connection on the canary"),
        Stable::OneNotReady => ("P11", "the same while one pod of the old version is not ready"),
    };
    Ok(vec![Figure {
        name,
        what,
        unit: "ms",
        values: trials.iter().map(|trial| trial.total).collect(),
        against: None,
        notes: vec![
            format!("failing answer -> the write that moves traffic (ours): {} ms", list(|trial| trial.to_write)),
            format!("the write -> last new connection (kube-proxy's): {} ms", list(|trial| trial.from_write)),
            format!("{quick} in a quiet second of kube-proxy, {} in the second in which it waits", trials.len() - quick),
        ],
    }])
}

fn trial(shop: &Shop, number: usize, stable: Stable) -> Result<Trial> {
    let mark = shop.bed.audit_mark()?;
    let load = Load::start(shop.bed, &shop.ns, 150, 0)?;
    let mut life = shop.follow()?;
    // Healthy while it is tried without customers and for some seconds with them: a fifth of 150 requests a second is its own.
    let after = match stable {
        Stable::Ready => 100 + number * 7,
        Stable::OneNotReady => 350,
    };
    let fault = format!(r"env.SHOP_FAIL=path=/orders\,code=500\,after={after}");
    shop.helm("v2", &["--set-string", &fault, "--set-string", &format!("env.TRIAL={number}{}", u8::from(stable == Stable::Ready))])?;
    life.until(PART, "in its step", |seen| seen.phase() == "Canary")?;
    let failing = first_failing_answer(shop)?;
    let unready = if stable == Stable::OneNotReady { Some(make_unready(shop)?) } else { None };
    let began_us = failing.join().map_err(|_| anyhow::anyhow!("the reader of the canary's log ended"))??;
    life.until(PART, "back on v1", |seen| seen.is_back("v1"))?;
    if let Some(address) = unready {
        set_ready(shop, &address, true)?;
    }
    shop.is_at_rest("v1", Hand::Haldane)?;
    let report = load.stop()?;
    let ended_us = report.last_fresh_us("v2").context("no customer met the bad version")?;
    let writes = shop.bed.writes_since(mark)?;
    let pin = writes
        .iter()
        .find(|w| w.ours() && w.namespace == shop.ns && w.resource == "services" && w.asked_us > began_us)
        .context("no write of the Service")?;
    // The last customer there may have come before the answer that failed: then nobody met it after that.
    Ok(Trial {
        total: ms(began_us, ended_us).max(0.0),
        to_write: ms(began_us, pin.done_us),
        from_write: ms(pin.done_us, ended_us).max(0.0),
    })
}

/// Reads the canary's log as it grows, until its first failing answer to a probe; Unix µs.
fn first_failing_answer(shop: &Shop) -> Result<std::thread::JoinHandle<Result<i64>>> {
    let mut command = shop.bed.command("kubectl");
    command.args(["-n", &shop.ns, "logs", "--follow", "--selector", "haldane.dev/track=canary", "--tail=-1"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().context("no stdout")?;
    Ok(std::thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            let event: Value = serde_json::from_str(&line?).unwrap_or_default();
            if event.pointer("/event").and_then(Value::as_str) == Some("probe-failed") {
                child.kill()?;
                child.wait()?;
                let time: jiff::Timestamp = event.pointer("/time").and_then(Value::as_str).context("no time")?.parse()?;
                return Ok(time.as_microsecond());
            }
        }
        anyhow::bail!("the canary ended before a probe failed on it")
    }))
}

/// Makes one stable pod say that it is not ready; its address.
fn make_unready(shop: &Shop) -> Result<String> {
    let pods = shop.bed.list(&shop.ns, "pods", "app=shop,haldane.dev/track!=canary")?;
    let pod = pods.first().context("no stable pod")?;
    let text = |at: &str| pod.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (address, name) = (text("/status/podIP"), text("/metadata/name"));
    set_ready(shop, &address, false)?;
    until(Duration::from_secs(10), || {
        ensure!(!ready(&shop.object("pod", &name)?.unwrap_or_default()), "pod {name} is still ready");
        Ok(())
    })?;
    Ok(address)
}

fn set_ready(shop: &Shop, address: &str, value: bool) -> Result<()> {
    said(shop.bed.inside("curl").args(["-sSf", "-X", "POST", &format!("http://{address}:8080/admin/ready?value={value}")])).map(drop)
}
