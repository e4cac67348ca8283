//! What the version itself does wrong, as the kubelet tells it: it is taken back, and stays away.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::support::{audit::Write, rest::Hand, shop::Shop};
use crate::witness::{patch, stable_serves};
use crate::{ROLLOUT, bed, quick, tell};

/// Ships that, waits until it is taken back, and says how long after the kubelet's word.
fn taken_back(shop: &Shop, what: &str, words: &[&str], ship: impl FnOnce() -> Result<()>) -> Result<()> {
    let before = shop.pod_lives()?;
    let mark = shop.bed.audit_mark()?;
    let mut life = shop.follow()?;
    life.until(ROLLOUT, "there", |_| true)?;
    ship()?;
    life.until(ROLLOUT, "on its way", |seen| !matches!(seen.phase(), "Live" | "RolledBack"))?;
    let back = life.until(ROLLOUT, "back on v1", |seen| seen.is_back("v1"))?;
    let missing: Vec<&&str> = words.iter().filter(|w| !back.message().contains(**w)).collect();
    ensure!(missing.is_empty(), "{what}: {:?} does not say {missing:?}", back.message());
    ensure!(back.condition("Stalled") == "True" && back.condition("Ready") == "False", "{what}: the conditions call this well: {back}");
    stable_serves(shop, &before)?;
    let writes = shop.bed.writes_since(mark)?;
    let (status, decided) = reaction(&writes, shop).with_context(|| format!("{what}: the log does not show the reaction"))?;
    tell(&format!("{what}: {}", back.message()));
    // Only the order is demanded: a busy machine may take its time.
    let ms = (decided - status).as_millis();
    ensure!(ms >= 0, "{what}: it was taken back before the kubelet said anything");
    tell(&format!("  {what}: decided {ms} ms after the pod's status"));
    shop.is_at_rest("v1", Hand::Haldane)
}

/// The last word about a canary pod, or about the canary itself, before the first write of the way back: the canary's end or the pin.
fn reaction(writes: &[Write], shop: &Shop) -> Option<(jiff::SignedDuration, jiff::SignedDuration)> {
    let here = || writes.iter().filter(|w| w.namespace == shop.ns && w.succeeded());
    let back = here().filter(|w| w.ours() && w.resource == "deliveries/status").find(|w| {
        // The first status after the pods spoke: the first one that follows no creation of the canary any more.
        here().any(|p| p.resource == "deployments" && p.verb == "delete" && p.ours() && p.asked_us >= w.asked_us)
            && here().any(|p| spoke(p) && p.done_us <= w.asked_us && w.asked_us - p.done_us < 2_000_000)
    });
    let end = here().filter(|w| w.ours() && w.resource == "deployments" && w.verb == "delete").map(|w| w.asked_us).next_back()?;
    let at = back.map_or(end, |w| w.asked_us);
    let word = here().filter(|p| spoke(p) && p.done_us <= at).map(|p| p.done_us).next_back()?;
    Some((jiff::SignedDuration::from_micros(word), jiff::SignedDuration::from_micros(at)))
}

fn spoke(write: &Write) -> bool {
    (write.resource == "pods/status" && write.name.starts_with("shop-canary"))
        || (write.resource == "deployments/status" && write.name == "shop-canary")
}

#[test]
fn a_version_that_cannot_live_is_taken_back() -> Result<()> {
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
