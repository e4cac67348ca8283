//! Routes that cannot do what is asked of them, and routes that others write, too: told on the Delivery, nothing lost, nobody fought.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{ROLLOUT, SEEN, bed, calm, says, shown, support};
use support::rest::Hand;
use support::shop::{Setup, Shop};

fn patched(shop: &Shop, ops: &Value) -> Result<()> {
    shop.kubectl(&["patch", "httproute", "shop", "--type=json", "-p", &ops.to_string()]).map(drop)
}

#[test]
fn a_route_that_leads_elsewhere_holds_and_says_so() -> Result<()> {
    let _calm = calm();
    let shop = Shop::delivered(bed()?, "route-elsewhere", Setup::by_route())?;
    let mut life = shop.follow()?;
    let rules = shop.route()?["spec"]["rules"].clone();
    patched(&shop, &json!([{"op": "replace", "path": "/spec/rules", "value": [{"backendRefs": [{"name": "other", "port": 80}]}]}]))?;
    shop.helm("v2", &["--set", "route="])?;
    life.until(SEEN, "unfit", says("RouteUnfit"))?;
    shown(&shop, "no rule names the Service")?;
    shop.kubectl(&["delete", "httproute", "shop", "--ignore-not-found"])?;
    life.until(SEEN, "missing", says("RouteMissing"))?;
    shown(&shop, "no such route")?;
    // It comes back, and the version that waited goes on.
    shop.helm("v2", &[])?;
    ensure!(shop.route()?["spec"]["rules"] == rules, "the chart's route is another one now");
    life.until(ROLLOUT, "live on v2", |seen| seen.is_live("v2"))?;
    shop.is_at_rest("v2", Hand::Haldane)?;
    shop.close()
}

#[test]
fn filters_and_weights_of_the_owners_own_are_kept() -> Result<()> {
    let _calm = calm();
    let bed = bed()?;
    let shop = Shop::delivered(bed, "route-own", Setup::by_route())?;
    // A second backend with a share of its own, and a filter.
    shop.kubectl(&["create", "service", "clusterip", "legacy", "--tcp=80:8080"])?;
    shop.kubectl(&["patch", "service", "legacy", "-p", r#"{"spec": {"selector": {"app": "legacy"}}}"#])?;
    let filter = json!({"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [{"name": "x-edge", "value": "kept"}]}});
    let backends = json!([{"name": "shop", "port": 80, "weight": 3}, {"name": "legacy", "port": 80, "weight": 0}]);
    patched(
        &shop,
        &json!([
            {"op": "add", "path": "/spec/rules/1/filters", "value": [filter]},
            {"op": "replace", "path": "/spec/rules/1/backendRefs", "value": backends},
        ]),
    )?;
    let before = shop.route()?["spec"].clone();
    let load = shop.customers(30, 3)?;
    let mut life = shop.follow()?;
    shop.set_image("v2")?;
    life.until(ROLLOUT, "at 25 %", |seen| seen.phase() == "Canary" && seen.step() == Some(2))?;
    support::until(SEEN, || {
        ensure!(shop.weights()? == "t 75:25 t 225:75", "{}", shop.weights()?);
        Ok(())
    })?;
    life.until(ROLLOUT, "live on v2", |seen| seen.is_live("v2"))?;
    shop.is_at_rest("v2", Hand::Haldane)?;
    ensure!(shop.route()?["spec"] == before, "{}\n{before}", shop.route()?["spec"]);
    let report = load.stop()?;
    ensure!(report.failed() == 0, "{report}");
    shop.close()
}

#[test]
fn a_person_edits_it_in_mid_rollout() -> Result<()> {
    let _calm = calm();
    let shop = Shop::delivered(bed()?, "route-edited", Setup { steps: vec![(25, "20s"), (50, "3s")], ..Setup::by_route() })?;
    let mut life = shop.follow()?;
    shop.set_image("v2")?;
    life.until(ROLLOUT, "at 25 %", |seen| seen.phase() == "Canary" && seen.step() == Some(2))?;
    support::until(SEEN, || {
        ensure!(shop.weights()? == "t 75:25 t 75:25", "{}", shop.weights()?);
        Ok(())
    })?;
    // More for the canary than its step gives is taken back at once.
    patched(
        &shop,
        &json!([
            {"op": "replace", "path": "/spec/rules/1/backendRefs/0/weight", "value": 0},
            {"op": "replace", "path": "/spec/rules/1/backendRefs/1/weight", "value": 100},
            {"op": "add", "path": "/spec/hostnames/-", "value": "second.test"},
        ]),
    )?;
    support::until(Duration::from_secs(3), || {
        ensure!(shop.weights()? == "t 75:25 t 75:25", "{}", shop.weights()?);
        Ok(())
    })?;
    shown(&shop, "edited by a person")?;
    let events = shop.kubectl(&["get", "events", "-o", "jsonpath={range .items[*]}{.reason}{\"\\n\"}{end}"])?;
    ensure!(events.contains("RouteChanged"), "nobody was told: {events}");
    life.until(ROLLOUT, "live on v2", |seen| seen.is_live("v2"))?;
    shop.is_at_rest("v2", Hand::Haldane)?;
    ensure!(shop.route()?["spec"]["hostnames"].as_array().is_some_and(|h| h.len() == 2), "what else the person wrote is gone");
    shop.close()
}

#[test]
fn a_tool_that_writes_it_back_is_told_and_not_fought_and_never_stops_the_way_back() -> Result<()> {
    let _calm = calm();
    let bed = bed()?;
    // Long enough that the tool always comes in the middle of the step.
    let shop = Shop::delivered(bed, "route-sync", Setup { steps: vec![(25, "2m")], ..Setup::by_route() })?;
    let load = shop.customers(30, 3)?;
    let mut life = shop.follow()?;
    shop.ship_broken("v2", 100_000)?;
    life.until(ROLLOUT, "at 25 %", |seen| seen.phase() == "Canary" && seen.step() == Some(2))?;
    let manifest = shop.manifest("v2", "HTTPRoute")?;
    let mark = bed.audit_mark()?;
    let began = support::begin();
    while began.elapsed() < Duration::from_secs(20) {
        shop.kubectl_with(&["apply", "--server-side", "--force-conflicts", "--field-manager=sync", "-f", "-"], &manifest)?;
        std::thread::sleep(Duration::from_secs(1));
    }
    // 0.2 s was measured from such a write to the last of the gateway's own 503.
    let calm = support::now_us() + 1_000_000;
    life.until(SEEN, "fought", says("RouteFoughtBy"))?;
    shown(&shop, "written back every second")?;
    let ours =
        bed.writes_since(mark)?.into_iter().filter(|w| w.ours() && w.namespace == "route-sync" && w.resource == "httproutes").count();
    ensure!(ours <= 2, "{ours} writes in 20 s against a tool that writes every second");
    shop.plugin(&["abort", "shop", "--reason", "enough"])?;
    life.until(ROLLOUT, "back on v1", |seen| seen.is_back("v1"))?;
    shop.is_at_rest("v1", Hand::Haldane)?;
    let report = load.stop()?;
    // The tool's write takes the canary out of the route in one step, so the gateway drops it while requests are on their way there: it
    // answers single ones itself (deploy/gitops.md). No version fails anybody, and our own way back nobody at all.
    let ours = report.log.iter().filter(|line| line.failed() && (line.version != "-" || line.start_us > calm)).count();
    ensure!(ours == 0, "{ours} failed otherwise than by the tool's writes: {report}");
    shop.close()
}

#[test]
fn a_route_that_goes_in_mid_rollout_holds_and_the_way_back_is_open() -> Result<()> {
    let _calm = calm();
    let shop = Shop::delivered(bed()?, "route-gone", Setup { steps: vec![(25, "20s")], ..Setup::by_route() })?;
    let mut life = shop.follow()?;
    shop.set_image("v2")?;
    life.until(ROLLOUT, "at 25 %", |seen| seen.phase() == "Canary" && seen.step() == Some(2))?;
    shop.kubectl(&["delete", "httproute", "shop"])?;
    life.until(SEEN, "missing", says("RouteMissing"))?;
    shown(&shop, "deleted in mid-rollout")?;
    shop.set_image("v1")?;
    life.until(ROLLOUT, "live on v1", |seen| seen.is_live("v1"))?;
    shop.is_at_rest("v1", Hand::Haldane)?;
    shop.close()
}

#[test]
fn a_gateway_that_takes_nobody_holds_and_the_way_back_is_open() -> Result<()> {
    let _calm = calm();
    let shop = Shop::delivered(bed()?, "route-nobody", Setup { steps: vec![(25, "5s")], ..Setup::by_route() })?;
    let mut life = shop.follow()?;
    // No Gateway of that name.
    patched(&shop, &json!([{"op": "replace", "path": "/spec/parentRefs", "value": [{"name": "nobody", "namespace": "gateway"}]}]))?;
    shop.set_image("v2")?;
    let seen = life.until(SEEN, "refused", |seen| matches!(seen.reason(), "RouteRefused" | "RouteSilent" | "RouteStale"))?;
    shown(&shop, "no such Gateway")?;
    ensure!(seen.message().contains("shop"), "{}", seen.message());
    shop.set_image("v1")?;
    life.until(ROLLOUT, "live on v1", |seen| seen.is_live("v1"))?;
    shop.close()
}
