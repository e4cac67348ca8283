//! P1, P2 and P11: from the first failing answer that the prober got, to the last new connection on the bad version.
//!
//! The time begins when the canary's own process hands out its first failing answer to a probe (before the prober has read it, so the
//! figure is not flattered), includes the second pair that confirms the failure, and ends with the start of the last new connection of a
//! customer that the bad version answered; by a route, of the last request. One step with one canary pod; 150 new connections a second, so about one in 7 ms, of
//! which a fifth is the canary's: the end is known to about 35 ms.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::figure::{Against, Figure, ms};
use crate::support::Bed;
use crate::support::rest::Hand;
use crate::support::shop::{Setup, Shop};

/// The parts of a trial take seconds; but when three apps have failed at once, nothing starts for two minutes (`SharedCause`).
const PART: Duration = Duration::from_mins(4);
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

/// By what customers come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Service,
    Route,
}

impl Way {
    /// A share of 20 % until it fails, in either way; before it, a moment of testers.
    fn setup(self) -> Setup {
        let testers = (self == Self::Route).then_some("1s");
        Setup { steps: vec![(20, "5m")], testers, ..Setup::default() }
    }

    /// What is written to move the traffic.
    fn written(self) -> &'static str {
        match self {
            Self::Service => "services",
            Self::Route => "httproutes",
        }
    }

    fn step(self) -> i64 {
        match self {
            Self::Service => 1,
            Self::Route => 2,
        }
    }
}

pub(crate) fn measure(bed: &Bed, n: usize, way: Way, stable: Stable) -> Result<Vec<Figure>> {
    let shop = opened(bed, "rollback", way)?;
    let mut trials = Vec::new();
    for number in 0..n {
        let trial = trial(&shop, number, way, stable).with_context(|| format!("trial {number}"))?;
        eprintln!("  {:.0} ms: {:.0} to the write, {:.0} from there", trial.total, trial.to_write, trial.from_write);
        trials.push(trial);
    }
    shop.close()?;
    let (name, what) = match (way, stable) {
        (Way::Route, Stable::Ready) => ("P1", "failing answer to a probe -> last request on the canary, by a route"),
        (Way::Route, Stable::OneNotReady) => ("P11r", "the same by a route, while one pod of the old version is not ready"),
        (Way::Service, Stable::Ready) => ("P2", "failing answer to a probe -> last new connection on the canary"),
        (Way::Service, Stable::OneNotReady) => ("P11", "the same while one pod of the old version is not ready"),
    };
    Ok(vec![figure(name, what, way, &trials)])
}

/// Three apps whose new versions fail at once.
pub(crate) fn three(bed: &Bed, n: usize) -> Result<Vec<Figure>> {
    let shops =
        ["rollback-a", "rollback-b", "rollback-c"].map(|name| opened(bed, name, Way::Route)).into_iter().collect::<Result<Vec<_>>>()?;
    let mut trials = Vec::new();
    for number in 0..n {
        let each: Vec<Result<Trial>> = std::thread::scope(|scope| {
            let running: Vec<_> = shops.iter().map(|shop| scope.spawn(move || trial(shop, number, Way::Route, Stable::Ready))).collect();
            running.into_iter().map(|trial| trial.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a trial panicked")))).collect()
        });
        for trial in each {
            let trial = trial.with_context(|| format!("trial {number}"))?;
            eprintln!("  {:.0} ms: {:.0} to the write, {:.0} from there", trial.total, trial.to_write, trial.from_write);
            trials.push(trial);
        }
    }
    for shop in shops {
        shop.close()?;
    }
    Ok(vec![figure("P1x3", "the same with three apps failing at once, each of them", Way::Route, &trials)])
}

fn opened<'a>(bed: &'a Bed, namespace: &str, way: Way) -> Result<Shop<'a>> {
    if way == Way::Route {
        bed.gateway()?;
    }
    Shop::delivered(bed, namespace, way.setup())
}

fn figure(name: &'static str, what: &'static str, way: Way, trials: &[Trial]) -> Figure {
    let list = |each: fn(&Trial) -> f64| trials.iter().map(|trial| format!("{:.0}", each(trial))).collect::<Vec<_>>().join(" ");
    let ours = format!("failing answer -> the write that moves traffic (ours): {} ms", list(|trial| trial.to_write));
    let theirs = list(|trial| trial.from_write);
    let mut notes = vec![ours];
    match way {
        Way::Service => {
            let quick = trials.iter().filter(|trial| trial.from_write < QUIET_MS).count();
            notes.push(format!("the write -> last new connection (kube-proxy's): {theirs} ms"));
            notes.push(format!("{quick} in a quiet second of kube-proxy, {} in the second in which it waits", trials.len() - quick));
        }
        Way::Route => notes.push(format!("the write -> last request, on kept connections too (the data plane's): {theirs} ms")),
    }
    let against = (way == Way::Route)
        .then_some(Against { what: "Argo Rollouts 1.10.2 with the Gateway plugin, without a second look", median: 130.0 });
    Figure { name, what, unit: "ms", values: trials.iter().map(|trial| trial.total).collect(), against, notes }
}

fn trial(shop: &Shop, number: usize, way: Way, stable: Stable) -> Result<Trial> {
    let mark = shop.bed.audit_mark()?;
    let load = match way {
        Way::Service => shop.customers(150, 0)?,
        // By a route each request finds its own way, so those on kept connections count, too.
        Way::Route => shop.customers(100, 5)?,
    };
    let mut life = shop.follow()?;
    // Healthy while it is tried without customers and for some seconds with them: a fifth of what they ask is its own.
    let after = match stable {
        Stable::Ready => 100 + number * 7,
        Stable::OneNotReady => 350,
    };
    let fault = format!(r"env.SHOP_FAIL=path=/orders\,code=500\,after={after}");
    let trial = format!("env.TRIAL={number}{}", u8::from(stable == Stable::Ready));
    shop.helm("v2", &["--set-string", &fault, "--set-string", &trial])?;
    life.until(PART, "in its step", |seen| seen.phase() == "Canary" && seen.step() == Some(way.step()))?;
    let failing = first_failing_answer(shop)?;
    let unready = if stable == Stable::OneNotReady { Some(shop.make_unready()?) } else { None };
    let began_us = failing.join().map_err(|_| anyhow::anyhow!("the reader of the canary's log ended"))??;
    life.until(PART, "back on v1", |seen| seen.is_back("v1"))?;
    if let Some(pod) = unready {
        shop.tell_pod(&pod, "ready?value=true")?;
    }
    shop.is_at_rest("v1", Hand::Haldane)?;
    let report = load.stop()?;
    let last = if way == Way::Service { report.last_fresh_us("v2") } else { report.last_us("v2") };
    let ended_us = last.context("no customer met the bad version")?;
    let writes = shop.bed.writes_since(mark)?;
    let moved = writes
        .iter()
        .find(|w| w.ours() && w.namespace == shop.ns && w.resource == way.written() && w.asked_us > began_us)
        .context("nothing was written to move the traffic")?;
    // The last customer there may have come before the answer that failed: then nobody met it after that.
    Ok(Trial {
        total: ms(began_us, ended_us).max(0.0),
        to_write: ms(began_us, moved.done_us),
        from_write: ms(moved.done_us, ended_us).max(0.0),
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
