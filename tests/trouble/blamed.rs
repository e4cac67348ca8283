//! What the version itself does wrong, as the kubelet tells it: it is taken back, and stays away.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::support::{audit::Write, rest::Hand, shop::Shop};
use crate::witness::{patch, stable_serves};
use crate::{ROLLOUT, bed, calm, quick, tell};

/// Ships that, waits until it is taken back, and says how long after the kubelet's word.
fn taken_back(shop: &Shop, what: &str, words: &[&str], release: impl FnOnce() -> Result<()>) -> Result<()> {
    let before = shop.pod_lives()?;
    let mark = shop.bed.audit_mark()?;
    let mut life = shop.follow()?;
    life.until(ROLLOUT, "there", |_| true)?;
    release()?;
    life.until(ROLLOUT, "on its way", |seen| !matches!(seen.phase(), "Live" | "RolledBack"))?;
    let back = life.until(ROLLOUT, "back on v1", |seen| seen.is_back("v1"))?;
    let missing: Vec<&&str> = words.iter().filter(|w| !back.message().contains(**w)).collect();
    ensure!(missing.is_empty(), "{what}: {:?} does not say {missing:?}", back.message());
    ensure!(back.condition("Stalled") == "True" && back.condition("Ready") == "False", "{what}: the conditions call this well: {back}");
    stable_serves(shop, &before)?;
    let writes = shop.bed.writes_since(mark)?;
    let seen = life
        .past
        .iter()
        .find(|seen| seen.reason() == "CanaryCrashed")
        .with_context(|| format!("nobody was told of it. {}", life.story()))?;
    let (status, decided) = reaction(&writes, shop, seen.at_us).with_context(|| format!("{what}: the log does not show the reaction"))?;
    tell(&format!("{what}: {}", back.message()));
    // The order is demanded by what `reaction` looks for; how long it took is only told, as a busy machine may take its time.
    tell(&format!("  {what}: the verdict stood {} ms after the last word of the kubelet", (decided - status) / 1000));
    shop.is_at_rest("v1", Hand::Haldane)
}

/// When the pods, or their Deployment, had spoken last, and when the verdict that people saw then was written, Unix µs.
fn reaction(writes: &[Write], shop: &Shop, seen_us: i64) -> Option<(i64, i64)> {
    let here = || writes.iter().filter(|w| w.namespace == shop.ns && w.succeeded());
    let verdict =
        here().filter(|w| w.ours() && w.resource == "deliveries/status" && w.asked_us <= seen_us).map(|w| w.asked_us).next_back()?;
    let word = here().filter(|w| spoke(w) && w.asked_us <= verdict).map(|w| w.asked_us).next_back()?;
    Some((word, verdict))
}

fn spoke(write: &Write) -> bool {
    (write.resource == "pods/status" && write.name.starts_with("shop-canary"))
        || (write.resource == "deployments/status" && write.name == "shop-canary")
}

#[test]
fn a_version_that_cannot_live_is_taken_back() -> Result<()> {
    let _calm = calm();
    let shop = Shop::delivered(bed()?, "blamed", quick())?;
    // Else a probe may be faster than the kubelet.
    patch(&shop, "delivery/shop", &json!([{"op": "remove", "path": "/spec/verify"}]))?;
    taken_back(
        &shop,
        "crash loop",
        &["v2 was taken back", "pod shop-canary", "container shop has ended", "kubectl logs --previous"],
        || shop.helm("v2", &["--set-string", "env.SHOP_EXIT_AT_START=1"]),
    )?;
    taken_back(&shop, "out of memory", &["v3 was taken back", "pod shop-canary", "more memory than its limit"], || {
        shop.helm("v3", &["--set-string", "env.SHOP_OOM=1"])
    })?;
    shop.kubectl(&["patch", "deployment/shop", "--type=merge", "-p", &json!({"spec": {"progressDeadlineSeconds": 8}}).to_string()])?;
    taken_back(&shop, "never ready", &["v4 was taken back", "0 of ", "shop-canary", "progress deadline"], || {
        shop.helm("v4", &["--set-string", "env.SHOP_NEVER_READY=1"])
    })?;
    shop.close()
}
