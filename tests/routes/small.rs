//! Capacity Small: one pod beside four, then stable takes the version in place, while customers ask by the gateway.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{ROLLOUT, bed, calm, tell};
use crate::support::{
    follow::Follow,
    rest::Hand,
    shop::{Setup, Shop},
};

/// A shop whose probe asks for the page, which no customer does, and that waits a while before a version is live.
fn small<'a>(bed: &'a super::Bed, namespace: &str, guard: &'static str) -> Result<Shop<'a>> {
    let shop = Shop::delivered(bed, namespace, Setup { guard, steps: vec![(5, "3s"), (50, "3s")], ..Setup::by_route() })?;
    let capacity = json!({"spec": {"rollout": {"capacity": "Small"}}}).to_string();
    shop.kubectl(&["patch", "delivery", "shop", "--type=merge", "-p", &capacity])?;
    let page =
        json!({"spec": {"mutates": false, "steps": [{"name": "page", "request": {"path": "/"}, "expect": {"status": [200]}}]}}).to_string();
    shop.kubectl(&["patch", "productionprobe", "buy", "--type=merge", "-p", &page])?;
    Ok(shop)
}

/// The greatest number of canary pods that was wanted, and the phases in their order.
fn seen(life: &Follow) -> (i64, Vec<String>) {
    let wanted = |status: &Value| status.pointer("/rollout/canary/wanted").and_then(Value::as_i64);
    let most = life.past.iter().filter_map(|seen| wanted(&seen.object["status"])).max().unwrap_or(0);
    let mut phases: Vec<String> = life.past.iter().map(|seen| seen.phase().to_owned()).collect();
    phases.dedup();
    (most, phases)
}

#[test]
fn a_good_version_has_one_pod_beside_four_and_then_stable_takes_it() -> Result<()> {
    let _calm = calm();
    let bed = bed()?;
    let shop = small(bed, "small-good", "5s")?;
    let load = shop.customers(50, 5)?;
    let mut life = shop.follow()?;
    shop.set_image("v2")?;
    life.until(ROLLOUT, "at its last share", |seen| seen.step() == Some(3))?;
    ensure!(shop.pods()?.len() == 5, "one pod beside four");
    life.until(ROLLOUT, "live on v2", |seen| seen.is_live("v2"))?;
    shop.is_at_rest("v2", Hand::Haldane)?;
    let (most, phases) = seen(&life);
    ensure!(most == 1, "{most} pods were wanted beside stable\n{}", life.story());
    let way = ["Preflight", "Canary", "Finalizing", "Live"].map(str::to_owned);
    ensure!(phases.ends_with(&way), "{phases:?}");
    let report = load.stop()?;
    tell(&format!("small-good: {report}; {}", phases.join(", ")));
    ensure!(report.failed() == 0, "{report}");
    shop.close()
}

#[test]
fn a_version_that_fails_when_stable_has_it_goes_back_by_its_template() -> Result<()> {
    let _calm = calm();
    let bed = bed()?;
    let shop = small(bed, "small-bad", "60s")?;
    let load = shop.customers(50, 5)?;
    let mut life = shop.follow()?;
    // What one pod of the canary gets until it leaves is less; stable's pods get there in some seconds.
    shop.helm("v2", &["--set-string", r"env.SHOP_FAIL=path=/\,code=500\,after=450\,version=v2"])?;
    let rolls = life.until(ROLLOUT, "rolling in place", |seen| seen.phase() == "Finalizing" && seen.reason() == "RollingInPlace")?;
    let way = rolls.object["status"]["wayBack"].clone();
    ensure!(way["by"] == "Rollout" && way["expected"].as_i64().is_some_and(|seconds| seconds > 1), "{way}");
    life.until(ROLLOUT, "back on v1", |seen| seen.is_back("v1"))?;
    shop.is_at_rest("v1", Hand::Haldane)?;
    let (_, phases) = seen(&life);
    ensure!(phases.windows(2).any(|pair| pair == ["Finalizing", "RollingBack"]), "{phases:?}");
    let report = load.stop()?;
    tell(&format!("small-bad: {report}; {}; the way back was said to take {} s", phases.join(", "), way["expected"]));
    tell(&shop.kubectl(&["get", "dlv", "shop", "-o", "wide"])?);
    ensure!(report.failed() == 0, "{report}");
    shop.close()
}
