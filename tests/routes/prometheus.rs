//! A version is judged by its users' requests as a real Prometheus has them, and held by what one says of what is shared.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{ROLLOUT, Shop, bed, says, storm, tell};
use crate::support::{prometheus::Prometheus, shop::Setup, until};

/// The canary's share of the requests needs so long to be enough, seen through two looks of 5 s each.
const JUDGED: Duration = Duration::from_mins(6);
/// A rollout that is held is looked at for so long.
const HELD: Duration = Duration::from_secs(20);

#[test]
fn through_a_real_prometheus_the_requests_of_both_sides_are_counted() -> Result<()> {
    let _storm = storm();
    let bed = bed()?;
    let prometheus = Prometheus::start(bed)?;
    let setup = Setup { steps: vec![(5, "5s"), (50, "5s")], ..Setup::by_route() };
    let shop = Shop::delivered(bed, "prometheus", setup)?;
    let load = shop.customers(150, 10)?;
    prometheus.looks_at(&shop.pods()?)?;
    let verify = json!({"spec": {"verify": {"requests": {
        "counter": "shop_requests_total", "failed": r#"code=~"5..""#, "only": r#"handler=~"/products|/orders.*""#, "by": ["handler"],
        "from": {"prometheus": {"interval": "5s"}},
    }, "latency": {"histogram": "shop_request_seconds"}}}});
    shop.kubectl(&["patch", "delivery", "shop", "--type=merge", "-p", &verify.to_string()])?;
    let mut life = shop.follow()?;
    shop.set_image("v2")?;
    // The canary's pods are new to Prometheus, and so is the one at each step.
    let live = until(ROLLOUT + JUDGED, || {
        prometheus.looks_at(&shop.pods()?)?;
        let status = shop.object("delivery", "shop")?.context("the Delivery is gone")?["status"].clone();
        ensure!(status["phase"] == "Live" && status["live"]["version"] == "v2", "{} {}", status["phase"], status["message"]);
        Ok(status)
    });
    live.with_context(|| life.story())?;
    life.until(ROLLOUT, "live on v2", |seen| seen.is_live("v2"))?;
    let counted = |seen: &Value| seen["status"]["rollout"]["evidence"]["requests"].to_string();
    let told: Vec<String> = life.past.iter().map(|seen| counted(&seen.object)).filter(|told| told.contains("errors: ")).collect();
    let last = told.last().context("no request was counted")?;
    tell(&format!("prometheus: {last}"));
    ensure!(last.contains("errors: 0 of ") && !last.contains("errors: 0 of 0 "), "{last}");
    let report = load.stop()?;
    ensure!(report.failed() == 0, "{report}");
    shop.close()
}

#[test]
fn a_number_of_what_is_shared_holds_a_version_until_it_falls() -> Result<()> {
    let _storm = storm();
    let bed = bed()?;
    let _prometheus = Prometheus::start(bed)?;
    let shop = Shop::delivered(bed, "queries", Setup { steps: vec![(5, "5s"), (50, "5s")], ..Setup::by_route() })?;
    // A load that stands for itself: two series, of which the second is the worse.
    let load = |of_two: &str| {
        let query = format!(r#"label_replace(vector(0.1), "db", "a", "", "") or label_replace(vector({of_two}), "db", "b", "", "")"#);
        let verify = json!({"spec": {"verify": {"queries": [{"name": "db-load", "query": query, "holdsAbove": "0.8"}]}}});
        shop.kubectl(&["patch", "delivery", "shop", "--type=merge", "-p", &verify.to_string()])
    };
    load("0.93")?;
    let mut life = shop.follow()?;
    shop.set_image("v2")?;
    let held = life.until(ROLLOUT, "held by the load", says("QueryHolds"))?;
    tell(&format!("queries: {}", held.message()));
    ensure!(held.message().contains("query db-load is 0.93, which is above 0.8, since "), "{}", held.message());
    // Steps that bake for 5 s would be over four times by now.
    std::thread::sleep(HELD);
    let still = shop.object("delivery", "shop")?.context("the Delivery is gone")?["status"].clone();
    // No customer meets it before a first number that is fine.
    ensure!(still["reason"] == "QueryHolds" && still["phase"] == "Preflight", "{} {}", still["phase"], still["message"]);
    load("0.5")?;
    life.until(ROLLOUT, "live on v2", |seen| seen.is_live("v2"))?;
    shop.close()
}
