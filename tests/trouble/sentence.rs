//! What people and scripts read of it.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::support::{load::Load, rest::Hand, shop::Shop, until};
use crate::{ROLLOUT, SOON, bed, calm, quick, tell};

#[test]
fn after_a_rollback_every_surface_says_the_same_sentence() -> Result<()> {
    let _calm = calm();
    let shop = Shop::delivered(bed()?, "sentence", quick())?;
    let mut life = shop.follow()?;
    let customers = Load::start(shop.bed, "sentence", 20, 1)?;
    shop.ship_broken("v2", 10)?;
    life.until(ROLLOUT, "back on v1", |seen| seen.is_back("v1"))?;
    customers.stop()?;
    shop.is_at_rest("v1", Hand::Haldane)?;
    let delivery = shop.object("delivery", "shop")?.context("it is gone")?;
    let text = |at: &str| delivery.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (now, verdict) = (text("/status/message"), text("/status/lastRollback/message"));
    tell(&format!("{now}\n     {verdict}"));
    ensure!(
        verdict.contains("/orders") && now.contains(&verdict),
        "the sentence of the rest is not that of the verdict: {now} / {verdict}"
    );
    for (surface, words) in [
        ("status", shop.plugin(&["status", "shop"])?),
        ("why", shop.plugin(&["why", "shop"])?),
        ("kubectl describe", shop.kubectl(&["describe", "dlv", "shop"])?),
        ("kubectl get -o wide", shop.kubectl(&["get", "dlv", "shop", "-o", "wide"])?),
    ] {
        ensure!(words.contains(&verdict), "{surface} does not say {verdict:?}:\n{words}");
    }
    until(SOON, || {
        let events = shop.bed.list(&shop.ns, "events", "")?;
        let says = |e: &Value| e.pointer("/message").and_then(Value::as_str).unwrap_or_default().to_owned();
        let about: Vec<String> =
            events.iter().filter(|e| e.pointer("/involvedObject/kind").is_some_and(|k| k == "Delivery")).map(says).collect();
        ensure!(about.contains(&verdict), "no Event says {verdict:?}: {about:#?}");
        Ok(())
    })?;
    shop.close()
}

#[test]
fn kubectl_wait_sees_a_rollout_through() -> Result<()> {
    let _calm = calm();
    let shop = Shop::delivered(bed()?, "sentence-wait", quick())?;
    let mut life = shop.follow()?;
    shop.set_image("v2")?;
    let under_way = life.until(ROLLOUT, "under way", |seen| seen.phase() == "Preflight")?;
    ensure!(under_way.condition("Ready") == "False", "it is called Ready while it rolls: {under_way}");
    shop.kubectl(&["wait", "--for=condition=Ready", "dlv/shop", "--timeout=120s"])?;
    let delivery = shop.object("delivery", "shop")?.context("it is gone")?;
    ensure!(
        delivery.pointer("/status/live/version").is_some_and(|v| v == "v2"),
        "it is called Ready on {:?}",
        delivery.pointer("/status/live")
    );
    shop.is_at_rest("v2", Hand::Haldane)?;
    shop.close()
}

#[test]
fn a_new_probe_that_nobody_answers_is_told_at_once_and_the_young_version_stays() -> Result<()> {
    let _calm = calm();
    let shop = Shop::delivered(bed()?, "unanswered", quick())?;
    let mut life = shop.follow()?;
    shop.set_image("v2")?;
    life.until(ROLLOUT, "live on v2", |seen| seen.is_live("v2"))?;
    // A port at which nobody listens.
    let dead = json!([{"op": "add", "path": "/spec/ports/-", "value": {"name": "dead", "port": 81, "targetPort": 9}}]);
    shop.kubectl(&["patch", "service", "shop", "--type=json", "-p", &dead.to_string()])?;
    shop.apply(&json!({"apiVersion": "haldane.dev/v1alpha1", "kind": "ProductionProbe", "metadata": {"name": "dead"}, "spec": {
        "target": {"serviceRef": {"name": "shop", "port": "dead"}}, "schedule": {"always": "5s"},
        "steps": [{"name": "page", "request": {"path": "/"}}],
    }}))?;
    let verify = json!({"spec": {"verify": {"probes": [{"name": "buy"}, {"name": "dead"}]}}}).to_string();
    shop.kubectl(&["patch", "delivery", "shop", "--type=merge", "-p", &verify])?;
    until(SOON, || {
        let events = shop.bed.list(&shop.ns, "events", "")?;
        let told = events.iter().find(|event| event["reason"] == "ProbeUnanswered").context("no Event tells of it")?;
        let message = told["message"].as_str().unwrap_or_default();
        ensure!(message.contains("ProductionProbe dead") && message.contains("kubectl haldane probe run dead"), "{message}");
        tell(message);
        Ok(())
    })?;
    // More failures than take a young version back.
    let red = life.until(SOON, "told as failing", |seen| seen.condition("Available") == "False")?;
    ensure!(red.phase() == "Live" && red.object["status"]["live"]["version"] == "v2", "{red}");
    std::thread::sleep(std::time::Duration::from_secs(10));
    let still = shop.object("delivery", "shop")?.context("it is gone")?;
    ensure!(still["status"]["phase"] == "Live" && still["status"]["live"]["version"] == "v2", "{}", still["status"]["message"]);
    shop.close()
}
