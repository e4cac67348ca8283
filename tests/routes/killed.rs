//! The controller's process is killed in the middle of an order bot's runs, again and again: what the bot had ordered is cancelled all the
//! same, by whoever leads next, and the shop itself says so.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{ROLLOUT, SEEN, bed, storm, tell};
use crate::support::{
    Bed,
    rest::Hand,
    said,
    shop::{Setup, Shop},
    until,
};

/// So often, at another moment of a run each time; `KILLS` says otherwise.
const KILLS: u32 = 4;
/// A killed process in a pod that stays is known to be gone when its container runs again: with the kubelet's own pauses between
/// restarts that takes up to a minute here; and a run is 3 s, so a moment to spare.
const RIGHT: Duration = Duration::from_mins(4);

/// A shop whose pods keep their orders in one place, and a bot that orders, dawdles, and leaves it to its teardown to cancel.
fn open(bed: &Bed) -> Result<Shop<'_>> {
    let shop = Shop::ground(bed, "killed", Setup { probe_at_rest: "2s", ..Setup::by_route() })?;
    shop.keeper()?;
    helm(&shop, "v1")?;
    shop.kubectl(&["rollout", "status", "deployment/shop", "--timeout=90s"])?;
    let mut probe = shop.probe();
    probe["spec"]["steps"] = json!([
        {"name": "place", "request": {"method": "POST", "path": "/orders", "json": {"item": "synth-${run.id}"}},
            "expect": {"status": [201]}, "capture": [{"name": "id", "jsonPath": "$.id"}]},
        {"name": "dawdle", "request": {"path": "/slow?ms=2500"}, "expect": {"within": "9s"}},
    ]);
    probe["spec"]["teardown"] = json!([
        {"name": "cancel", "request": {"method": "DELETE", "path": "/orders/${id}"}, "expect": {"status": [200, 404]}},
    ]);
    probe["spec"]["sweep"] = json!({"list": {"path": "/orders?item=synth-"}, "items": "$.orders[*]",
        "named": {"jsonPath": "$.item", "prefix": "synth-"}, "delete": {"method": "DELETE", "path": "/orders/${item.id}"}});
    shop.apply(&probe)?;
    shop.apply(&shop.delivery())?;
    shop.is_adopted()?;
    Ok(shop)
}

fn helm(shop: &Shop, tag: &str) -> Result<()> {
    shop.helm(tag, &["--set-string", &format!("env.SHOP_STORE={}", shop.kept_at()?)])
}

/// The orders of the shop, and of them the bot's that nobody has cancelled.
fn orders(shop: &Shop) -> Result<(u64, Vec<String>)> {
    let store = shop.kept_at()?;
    let ask = |path: &str| -> Result<Value> {
        let said = said(shop.bed.inside("curl").args(["-sf", "-m", "2", &format!("http://{store}{path}")]))?;
        serde_json::from_str(&said).context("what the shop says of its orders")
    };
    let all = ask("/orders")?.pointer("/orders").and_then(Value::as_u64).unwrap_or_default();
    let open = ask("/orders?item=synth-")?;
    let items = open.pointer("/orders").and_then(Value::as_array).cloned().unwrap_or_default();
    Ok((all, items.iter().filter_map(|order| order.pointer("/item").and_then(Value::as_str).map(str::to_owned)).collect()))
}

/// The runs that are written down.
fn runs(shop: &Shop) -> Result<Vec<String>> {
    let names = shop.kubectl(&["get", "proberuns", "-o", "jsonpath={.items[*].spec.run}"])?;
    Ok(names.split_whitespace().map(str::to_owned).collect())
}

/// Kills the leader so long after the bot was seen in the middle of a run; the runs that it leaves.
fn kill(shop: &Shop, after: Duration) -> Result<Vec<String>> {
    let before = orders(shop)?.0;
    until(ROLLOUT, || {
        let (all, open) = orders(shop)?;
        ensure!(all > before && !open.is_empty(), "the bot does not order");
        Ok(())
    })?;
    let leader = until(SEEN, || shop.bed.leader())?;
    std::thread::sleep(after);
    Bed::signal("-9", &[leader])?;
    runs(shop)
}

/// Everything that those runs had ordered is cancelled, and nobody speaks of them any more.
fn is_right(shop: &Shop, left: &[String]) -> Result<()> {
    until(RIGHT, || {
        let (_, open) = orders(shop)?;
        let of_them: Vec<_> = open.iter().filter(|item| left.iter().any(|run| item.ends_with(run))).collect();
        ensure!(of_them.is_empty(), "these orders of killed runs are open: {of_them:?}");
        let still: Vec<_> = runs(shop)?.into_iter().filter(|run| left.contains(run)).collect();
        ensure!(still.is_empty(), "these runs are written down: {still:?}");
        Ok(())
    })
}

#[test]
fn a_process_that_is_killed_in_the_middle_of_an_order_leaves_none_behind() -> Result<()> {
    let _storm = storm();
    let bed = bed()?;
    // As many restarts as here would make the kubelet wait for minutes: whatever ran before must not count.
    let fresh = || -> Result<()> {
        bed.kubectl(&["-n", "haldane-system", "rollout", "restart", "deployment/haldane"])?;
        bed.kubectl(&["-n", "haldane-system", "rollout", "status", "deployment/haldane", "--timeout=120s"]).map(drop)
    };
    fresh()?;
    let shop = open(bed)?;
    let (mut left, mut met) = (Vec::new(), 0);
    let kills = std::env::var("KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS);
    for turn in 0..kills {
        let runs = kill(&shop, Duration::from_millis(u64::from(turn) * 2700 / u64::from(kills)))?;
        met += usize::from(!runs.is_empty());
        tell(&format!("killed {} of {kills}: {} runs were under way", turn + 1, runs.len()));
        left.extend(runs);
        // Each third time while a version rolls out, with a canary beside stable; it has to go live all the same.
        if turn % 3 == 1 {
            let version = if turn % 2 == 1 { "v2" } else { "v3" };
            let mut life = shop.follow()?;
            helm(&shop, version)?;
            life.until(ROLLOUT, "in its rollout", |seen| seen.phase() == "Canary")?;
            let runs = kill(&shop, Duration::from_millis(300))?;
            left.extend(runs);
            life.until(2 * ROLLOUT, "live", |seen| seen.is_live(version))?;
            shop.is_at_rest(version, Hand::Haldane)?;
            fresh()?;
        }
    }
    ensure!(met * 2 > kills as usize, "only {met} of {kills} kills met a run, so nothing was tested");
    is_right(&shop, &left)?;
    // Without a Delivery nothing new is ordered, and what is under way ends.
    shop.kubectl(&["delete", "delivery", "shop", "--timeout=90s"])?;
    until(RIGHT, || {
        let ((all, open), runs) = (orders(&shop)?, runs(&shop)?);
        ensure!(open.is_empty() && runs.is_empty(), "of {all} orders {open:?} are open, and of runs {runs:?}");
        tell(&format!("{} runs were cut off; of {all} orders none is open", left.len()));
        Ok(())
    })?;
    shop.close()
}

#[test]
fn a_run_is_put_right_when_its_probe_and_its_delivery_are_gone() -> Result<()> {
    let _storm = storm();
    let bed = bed()?;
    let shop = open(bed)?;
    // Cancelling fails as long as it is told to: the run stays, and is told.
    let pods = shop.pods()?;
    let all = |what: &str| pods.iter().try_for_each(|pod| shop.tell_pod(pod, what));
    all("fail?path=/orders/&code=500")?;
    until(SEEN, || {
        let told = shop.kubectl(&["get", "proberuns", "-o", "jsonpath={.items[*].status.message}"])?;
        ensure!(told.contains("DELETE /orders/${id} answered 500, expected 200 or 404"), "{told}");
        Ok(())
    })?;
    let mut life = shop.follow()?;
    let told = life.until(ROLLOUT, "stopped", |seen| seen.reason() == "ProbeStopped")?;
    tell(told.message());
    shop.kubectl(&["delete", "delivery", "shop", "--timeout=90s"])?;
    shop.kubectl(&["delete", "productionprobe", "buy"])?;
    ensure!(!runs(&shop)?.is_empty() && !orders(&shop)?.1.is_empty(), "nothing was left behind, so nothing is tested");
    all("heal")?;
    until(RIGHT, || {
        let ((_, open), runs) = (orders(&shop)?, runs(&shop)?);
        ensure!(open.is_empty() && runs.is_empty(), "open: {open:?}, of runs {runs:?}");
        Ok(())
    })?;
    shop.close()
}
