//! A bot that orders in production all the time: what a version breaks in the middle of an order is caught, no customer meets it, and
//! what the bot made is put right.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{ROLLOUT, SEEN, bed, calm, shown, tell};
use crate::support::{
    load::Load,
    rest::Hand,
    shop::{Setup, Shop},
    until,
};

/// A shop whose probe places an order, reads it, and cancels it; with a Secret in a header.
fn open<'a>(bed: &'a crate::support::Bed, namespace: &str, granted: bool) -> Result<Shop<'a>> {
    let shop = Shop::open(bed, namespace, Setup::by_route())?;
    shop.kubectl(&["create", "secret", "generic", "order-bot", "--from-literal=token=s3cret-canary"])?;
    if granted {
        grant(&shop)?;
    }
    let token = json!([{"name": "Authorization", "value": "Bearer ${secrets.token}"}]);
    let mut probe = shop.probe();
    probe["spec"]["secrets"] = json!([{"name": "token", "secretRef": {"name": "order-bot", "key": "token"}}]);
    probe["spec"]["setup"] = json!([{"name": "open", "request": {"path": "/products"}}]);
    probe["spec"]["steps"] = json!([
        {"name": "place", "request": {"method": "POST", "path": "/orders", "headers": token, "json": {"item": "synth-${run.id}"}},
            "expect": {"status": [201], "that": ["json.item.startsWith('synth-')"]},
            "capture": [{"name": "id", "jsonPath": "$.id"}]},
        {"name": "read", "request": {"path": "/orders/${id}", "headers": token},
            "until": {"every": "100ms", "within": "300ms"},
            "expect": {"that": ["json.state == 'placed' && latency < duration('5s')"]}},
        {"name": "cancel", "request": {"method": "DELETE", "path": "/orders/${id}", "headers": token}},
    ]);
    probe["spec"]["teardown"] = json!([
        {"name": "cancel-again", "request": {"method": "DELETE", "path": "/orders/${id}"}, "expect": {"status": [200, 404]}},
    ]);
    shop.apply(&probe)?;
    shop.apply(&shop.delivery())?;
    if granted {
        shop.follow()?.until(SEEN, "adopted", |seen| seen.phase() == "Live" && seen.condition("Ready") == "True")?;
    }
    Ok(shop)
}

/// As the sentence says that people should.
fn grant(shop: &Shop) -> Result<()> {
    shop.kubectl(&["create", "role", "haldane-probes", "--verb=get", "--resource=secrets", "--resource-name=order-bot"])?;
    let account = "--serviceaccount=haldane-system:haldane";
    shop.kubectl(&["create", "rolebinding", "haldane-probes", "--role=haldane-probes", account]).map(drop)
}

/// Customers who look and never order: all orders of the shop are the bot's.
fn lookers(shop: &Shop) -> Result<Load> {
    shop.customers(30, 3)
}

#[test]
fn an_order_that_breaks_in_the_middle_is_caught_and_put_right() -> Result<()> {
    let _calm = calm();
    let shop = open(bed()?, "flows", true)?;
    let load = lookers(&shop)?;
    let mut life = shop.follow()?;
    shop.helm("v2", &["--set-string", r"env.SHOP_FAIL=path=/orders/\,code=500\,version=v2"])?;
    let said = life.until(ROLLOUT, "back on v1", |seen| seen.is_back("v1"))?;
    shown(&shop, "a version that places orders and cannot show them")?;
    ensure!(said.message().contains("GET /orders/${id} answered 500, expected 2xx, asked"), "{said}");
    let report = load.stop()?;
    tell(&format!("flows: {report}"));
    ensure!(report.failed() == 0 && report.served_by("v2") == 0, "{report}");
    let mut life = shop.follow()?;
    shop.helm("v3", &[])?;
    life.until(ROLLOUT, "live on v3", |seen| seen.is_live("v3"))?;
    shop.is_at_rest("v3", Hand::Haldane)?;
    // The bot goes on at rest: not one of its runs leaves an order that is open.
    let runs = bot_orders(&shop)?;
    until(SEEN, || {
        let now = bot_orders(&shop)?;
        ensure!(now.0 > runs.0, "the bot does not order");
        // The one that it is about to cancel.
        ensure!(now.1 <= 1, "{} orders are left open", now.1);
        Ok(())
    })?;
    let all = shop.bed.kubectl(&["get", "dlv,rel,events,pp", "-A", "-o", "yaml"])?;
    ensure!(!all.contains("s3cret-canary"), "a secret is on an object");
    let logs = shop.bed.kubectl(&["-n", "haldane-system", "logs", "deployment/haldane", "--all-pods", "--tail=-1"])?;
    ensure!(!logs.contains("s3cret-canary"), "a secret is in the log");
    shop.close()
}

/// Orders in all pods, and of them those that nobody has cancelled.
fn bot_orders(shop: &Shop) -> Result<(u64, u64)> {
    let mut sum = (0, 0);
    for pod in shop.pods()? {
        let Some(address) = pod.pointer("/status/podIP").and_then(Value::as_str) else { continue };
        let said = crate::support::said(shop.bed.inside("curl").args(["-sf", "-m", "2", &format!("http://{address}:8080/orders")]))?;
        let count: Value = serde_json::from_str(&said).context("the count of orders")?;
        sum.0 += count.pointer("/orders").and_then(Value::as_u64).unwrap_or_default();
        sum.1 += count.pointer("/open").and_then(Value::as_u64).unwrap_or_default();
    }
    Ok(sum)
}

#[test]
fn a_secret_that_may_not_be_read_and_a_teardown_that_fails_are_told() -> Result<()> {
    let _calm = calm();
    let shop = open(bed()?, "flows-wrong", false)?;
    let mut life = shop.follow()?;
    let told = life.until(SEEN, "told", |seen| seen.reason() == "ProbeInvalid")?;
    shown(&shop, "a Secret that may not be read")?;
    ensure!(told.message().contains("Secret order-bot may not be read; let Haldane: kubectl create role haldane-probes"), "{told}");
    grant(&shop)?;
    life.until(ROLLOUT, "well, and adopted", |seen| seen.reason() == "Serving")?;
    let never = json!([{"op": "replace", "path": "/spec/teardown/0/expect/status", "value": [299]}]).to_string();
    shop.kubectl(&["patch", "productionprobe", "buy", "--type=json", "-p", &never])?;
    let told = life.until(SEEN, "stopped", |seen| seen.reason() == "ProbeStopped")?;
    shown(&shop, "a teardown that fails")?;
    ensure!(told.message().contains("DELETE /orders/${id} answered 200, expected 299"), "{told}");
    let mended = never.replace("299", "200");
    shop.kubectl(&["patch", "productionprobe", "buy", "--type=json", "-p", &mended])?;
    life.until(SEEN, "well again", |seen| seen.reason() == "Serving")?;
    shop.close()
}
