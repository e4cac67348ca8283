//! What workloads bring along: budgets, spread, sidecars of the same image, policies that name a version, and a stable version that needs
//! the room of the canary.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::support::{
    rest::Hand,
    shop::{Setup, Shop},
    until,
};
use crate::witness::{Standing, apply, patch, told};
use crate::{ROLLOUT, SOON, bed, calm, quick, tell};

fn image(shop: &Shop, version: &str) -> String {
    format!("{}/shop:{version}", shop.bed.registry)
}

/// An owner's Deployment with what real ones have: a budget beside it, spread, a priority, an init container and a sidecar of the same
/// image, and time between two of its pods.
#[test]
fn a_workload_with_everything_around_it_is_delivered_whole() -> Result<()> {
    let _calm = calm();
    let shop = Shop::open(bed()?, "room-whole", quick())?;
    let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "shop"},
        "spec": {"minAvailable": 3, "selector": {"matchLabels": {"app": "shop"}}}});
    apply(&shop, &budget)?;
    let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "shop"},
        "spec": {"podSelector": {"matchLabels": {"app": "shop"}}, "ingress": [{}], "policyTypes": ["Ingress"]}});
    apply(&shop, &policy)?;
    let security =
        shop.object("deployment", "shop")?.context("it is gone")?["spec"]["template"]["spec"]["containers"][0]["securityContext"].clone();
    let beside = |name: &str, env: Value| {
        json!({"name": name, "image": image(&shop, "v1"), "env": env, "securityContext": security,
            "resources": {"requests": {"cpu": "5m", "memory": "8Mi"}}})
    };
    let spread = json!([{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "shop"}}}]);
    let spec = "/spec/template/spec";
    patch(
        &shop,
        "deployment/shop",
        &json!([
            {"op": "add", "path": "/spec/minReadySeconds", "value": 2},
            {"op": "add", "path": format!("{spec}/topologySpreadConstraints"), "value": spread},
            {"op": "add", "path": format!("{spec}/priorityClassName"), "value": "system-cluster-critical"},
            {"op": "add", "path": format!("{spec}/initContainers"), "value": [beside("migrate", json!([{"name": "SHOP_ONCE", "value": "1"}]))]},
            {"op": "add", "path": format!("{spec}/containers/-"), "value": beside("sidecar", json!([{"name": "SHOP_PORT", "value": "8090"}]))},
        ]),
    )?;
    shop.kubectl(&["rollout", "status", "deployment/shop", "--timeout=90s"])?;
    shop.adopt()?;
    let load = shop.customers(30, 3)?;
    let mut life = shop.follow()?;
    let next = image(&shop, "v2");
    shop.kubectl(&["set", "image", "deployment/shop", &format!("shop={next}"), &format!("migrate={next}"), &format!("sidecar={next}")])?;
    life.until(ROLLOUT, "live on v2", |seen| seen.is_live("v2"))?;
    shop.is_at_rest("v2", Hand::Haldane)?;
    for pod in shop.pods()? {
        let of = |list: &str| pod["spec"][list].as_array().into_iter().flatten().map(|c| c["image"].clone()).collect::<Vec<_>>();
        let all: Vec<Value> = of("initContainers").into_iter().chain(of("containers")).collect();
        ensure!(all == vec![json!(next); 3], "{all:?}");
    }
    let report = load.stop()?;
    tell(&format!("with everything around it: {report}"));
    ensure!(report.failed() == 0, "{report}");
    shop.close()
}

#[test]
fn a_policy_that_names_the_version_is_told_before_a_pod_starts() -> Result<()> {
    let _calm = calm();
    let shop = Shop::open(bed()?, "room-policy", quick())?;
    let label = |version: &str| json!([{"op": "add", "path": "/spec/template/metadata/labels/version", "value": version}]);
    patch(&shop, "deployment/shop", &label("v1"))?;
    shop.kubectl(&["rollout", "status", "deployment/shop", "--timeout=90s"])?;
    until(SOON, || {
        let pods = shop.pods()?.len();
        ensure!(pods == 4, "{pods} pods are there: those of before have not ended");
        Ok(())
    })?;
    shop.adopt()?;
    let policy = |labels: Value| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "database"}, "spec": {
            "podSelector": {"matchLabels": {"app": "database"}}, "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": {"matchLabels": labels}}]}]}})
    };
    apply(&shop, &policy(json!({"app": "shop", "version": "v1"})))?;
    patch(&shop, "deployment/shop", &label("v2"))?;
    shop.set_image("v2")?;
    let before = Standing::of(&shop)?;
    told(&shop, "shop", "CanaryWouldDiffer", &["Deployment shop", "spec.ingress of NetworkPolicy database", "version=v1"])?;
    tell(&shop.kubectl(&["get", "dlv", "-o", "wide"])?);
    before.still(&shop)?;
    let mut life = shop.follow()?;
    apply(&shop, &policy(json!({"app": "shop"})))?;
    life.until(ROLLOUT, "live on v2", |seen| seen.is_live("v2"))?;
    shop.is_at_rest("v2", Hand::Haldane)?;
    shop.close()
}

#[test]
fn a_canary_makes_room_for_a_pod_of_stable() -> Result<()> {
    let _calm = calm();
    // Long steps: the canary stands while stable is in need.
    let shop = Shop::delivered(bed()?, "room-quota", Setup { steps: vec![(20, "20s")], ..quick() })?;
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": {"hard": {"pods": "5"}}});
    apply(&shop, &quota)?;
    shop.kubectl(&["wait", "resourcequota/few", "--for=jsonpath={.status.used.pods}=4", "--timeout=20s"])?;
    let load = shop.customers(30, 3)?;
    let mut life = shop.follow()?;
    shop.set_image("v2")?;
    life.until(ROLLOUT, "in its step", |seen| seen.phase() == "Canary")?;
    ensure!(shop.pods()?.len() == 5, "four of stable and one beside them");
    shop.kubectl(&["scale", "deployment/shop", "--replicas=5"])?;
    let yields = life.until(ROLLOUT, "making room", |seen| seen.reason() == "StableLacksRoom")?;
    tell(&shop.kubectl(&["get", "dlv", "-o", "wide"])?);
    ensure!(yields.message().contains("exceeded quota: few"), "{yields}");
    until(SOON, || {
        let deployment = shop.object("deployment", "shop")?.context("it is gone")?;
        ensure!(deployment["status"]["readyReplicas"] == json!(5), "stable has not got its pod");
        Ok(())
    })?;
    ensure!(shop.canary_pods()?.is_empty(), "a canary stands beside it");
    shop.kubectl(&["delete", "resourcequota", "few"])?;
    life.until(ROLLOUT, "live on v2", |seen| seen.is_live("v2"))?;
    shop.is_at_rest("v2", Hand::Haldane)?;
    let report = load.stop()?;
    tell(&format!("made room: {report}"));
    ensure!(report.failed() == 0, "{report}");
    shop.close()
}
