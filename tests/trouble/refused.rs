//! What the cluster refuses: it holds, says what is missing, blames nobody; stable serves; and there is a way on.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::support::{begin, rest::Hand, shop::Shop};
use crate::witness::{Neighbour, apply, patch, stable_serves, told_within};
use crate::{ROLLOUT, bed, calm, quick, tell};

const RESOURCES: &str = "/spec/template/spec/containers/0/resources";
const SECURITY: &str = "/spec/template/spec/containers/0/securityContext";

/// Waits until it is held for that, and stable serves on.
fn held(shop: &Shop, before: &[String], words: &[&str]) -> Result<()> {
    told_within(ROLLOUT, shop, "shop", "ClusterRefuses", words)?;
    stable_serves(shop, before)?;
    let delivery = shop.object("delivery", "shop")?.context("it is gone")?;
    let quarantine = delivery.pointer("/status/quarantine").and_then(|q| q.as_array()).map_or(0, Vec::len);
    ensure!(quarantine == 0, "a version is blamed for what the cluster refuses");
    Ok(())
}

/// A newer version takes over at once and goes live.
fn newer_takes_over(shop: &Shop, version: &str, release: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut life = shop.follow()?;
    let began = begin();
    release()?;
    life.until(ROLLOUT, "taken over", |seen| seen.reason() == "Preflight" && seen.message().contains(version))?;
    tell(&format!("  {version} takes over {:.1} s after it is shipped", began.elapsed().as_secs_f64()));
    ensure!(life.past.iter().any(|seen| seen.reason() == "Superseded"), "nobody was told that it took over. {}", life.story());
    life.until(ROLLOUT, "live", |seen| seen.is_live(version))?;
    shop.is_at_rest(version, Hand::Haldane)
}

#[test]
fn an_image_that_does_not_exist_holds_and_a_newer_version_takes_over() -> Result<()> {
    let _calm = calm();
    let shop = Shop::delivered(bed()?, "refused-image", quick())?;
    let neighbour = Neighbour::open(&shop)?;
    let before = shop.pod_lives()?;
    shop.set_image("nowhere")?;
    held(&shop, &before, &["shop:nowhere", "container shop", "Pull", "imagePullSecrets"])?;
    neighbour.noticed_nothing(&shop)?;
    newer_takes_over(&shop, "v2", || shop.set_image("v2"))?;
    neighbour.noticed_nothing(&shop)?;
    shop.close()
}

#[test]
fn a_pod_that_no_node_has_room_for_holds_and_a_newer_version_takes_over() -> Result<()> {
    let _calm = calm();
    let shop = Shop::delivered(bed()?, "refused-room", quick())?;
    let before = shop.pod_lives()?;
    patch(&shop, "deployment/shop", &json!([{"op": "replace", "path": format!("{RESOURCES}/requests/cpu"), "value": "1000"}]))?;
    held(&shop, &before, &["Unschedulable", "Insufficient cpu"])?;
    newer_takes_over(&shop, "v2", || {
        let image = format!("{}/shop:v2", shop.bed.registry);
        patch(
            &shop,
            "deployment/shop",
            &json!([{"op": "replace", "path": format!("{RESOURCES}/requests/cpu"), "value": "10m"},
                    {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image}]),
        )
    })?;
    shop.close()
}

#[test]
fn a_quota_that_is_used_up_holds_until_there_is_more() -> Result<()> {
    let _calm = calm();
    let shop = Shop::delivered(bed()?, "refused-quota", quick())?;
    let before = shop.pod_lives()?;
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": {"hard": {"pods": "4"}}});
    apply(&shop, &quota)?;
    shop.kubectl(&["wait", "resourcequota/few", "--for=jsonpath={.status.used.pods}=4", "--timeout=20s"])?;
    shop.set_image("v2")?;
    held(&shop, &before, &["exceeded quota: few", "limited: pods=4"])?;
    let mut life = shop.follow()?;
    shop.kubectl(&["delete", "resourcequota", "few"])?;
    life.until(ROLLOUT, "live", |seen| seen.is_live("v2"))?;
    shop.is_at_rest("v2", Hand::Haldane)?;
    shop.close()
}

#[test]
fn a_pod_that_admission_denies_holds_and_a_newer_version_takes_over() -> Result<()> {
    let _calm = calm();
    let shop = Shop::delivered(bed()?, "refused-admission", quick())?;
    let before = shop.pod_lives()?;
    let deployment = shop.object("deployment", "shop")?.context("Deployment shop is gone")?;
    let restricted = deployment.pointer(SECURITY).context("no securityContext")?;
    shop.bed.kubectl(&["label", "namespace", &shop.ns, "pod-security.kubernetes.io/enforce=restricted"])?;
    patch(&shop, "deployment/shop", &json!([{"op": "replace", "path": SECURITY, "value": {"privileged": true}}]))?;
    held(&shop, &before, &["violates PodSecurity", "privileged"])?;
    newer_takes_over(&shop, "v2", || {
        let image = format!("{}/shop:v2", shop.bed.registry);
        patch(
            &shop,
            "deployment/shop",
            &json!([{"op": "replace", "path": SECURITY, "value": restricted},
                    {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image}]),
        )
    })?;
    shop.close()
}
