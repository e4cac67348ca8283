//! What others do to the app while a version is on its way by its route: told where it must be, and no customer meets it.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{ROLLOUT, SEEN, bed, calm, halfway, nobody_failed, says, shown, support, waits_at};
use support::rest::Hand;
use support::shop::{Setup, Shop};
use support::tiny::{smallest, tiny};

/// A Service over the shop's pods, as its owner writes it.
fn service(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {
        "selector": {"app": "shop"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
    }})
}

fn selector(shop: &Shop, name: &str) -> Result<Value> {
    Ok(shop.object("service", name)?.with_context(|| format!("Service {name} is gone"))?["spec"]["selector"].clone())
}

fn replicas(shop: &Shop) -> Result<Option<u64>> {
    Ok(shop.object("deployment", "shop")?.context("Deployment shop is gone")?["spec"]["replicas"].as_u64())
}

#[test]
fn a_second_delivery_of_the_same_deployment_is_told_and_the_first_goes_on() -> Result<()> {
    let _calm = calm();
    let (shop, load, mut life) = halfway(bed()?, "mid-twin")?;
    let mut twin = smallest("twin");
    twin["spec"]["workloads"] = json!([{"name": "shop"}]);
    shop.apply(&twin)?;
    let mut other = support::follow::Follow::start(shop.bed, &shop.ns, "twin")?;
    let told = other.until(SEEN, "told", says("AlreadyDelivered"))?;
    shown(&shop, "a second Delivery of the same Deployment")?;
    ensure!(told.message().contains("Deployment shop already belongs to Delivery shop"), "{told}");
    shop.plugin(&["approve", "shop"])?;
    life.until(ROLLOUT, "live on v2", |seen| seen.is_live("v2"))?;
    shop.is_at_rest("v2", Hand::Haldane)?;
    shop.kubectl(&["delete", "delivery", "twin", "--timeout=60s"])?;
    shop.is_at_rest("v2", Hand::Haldane)?;
    nobody_failed(&shop, load)?;
    shop.close()
}

#[test]
fn the_canary_of_another_controller_is_left_alone_and_told() -> Result<()> {
    let _calm = calm();
    let shop = Shop::delivered(bed()?, "mid-flagger", Setup::with_approval(3))?;
    let load = shop.customers(30, 3)?;
    let mut life = shop.follow()?;
    // As Flagger and hand-made canaries call theirs.
    let mut theirs = tiny(&shop, "shop-canary");
    theirs["metadata"]["labels"] = json!({"app.kubernetes.io/managed-by": "flagger"});
    shop.apply(&theirs)?;
    shop.kubectl(&["rollout", "status", "deployment/shop-canary", "--timeout=60s"])?;
    let before = shop.object("deployment", "shop-canary")?.context("it is gone")?["spec"].clone();
    shop.set_image("v2")?;
    let told = life.until(SEEN, "told", |seen| seen.message().contains("shop-canary"))?;
    shown(&shop, "a canary Deployment of another controller")?;
    ensure!(told.message().contains("Deployment shop-canary is where the canary of shop would stand, and it is not ours"), "{told}");
    ensure!(shop.object("deployment", "shop-canary")?.context("it is gone")?["spec"] == before, "theirs was changed");
    shop.kubectl(&["delete", "deployment", "shop-canary", "--timeout=60s"])?;
    life.until(ROLLOUT, "at 25 %", waits_at(2))?;
    shop.plugin(&["approve", "shop"])?;
    life.until(ROLLOUT, "live on v2", |seen| seen.is_live("v2"))?;
    shop.is_at_rest("v2", Hand::Haldane)?;
    nobody_failed(&shop, load)?;
    shop.close()
}

#[test]
fn an_autoscaler_scales_and_goes_away() -> Result<()> {
    let _calm = calm();
    let bed = bed()?;
    let shop = Shop::delivered(bed, "mid-hpa", Setup::with_approval(3))?;
    let load = shop.customers(30, 3)?;
    let mut life = shop.follow()?;
    // No metrics are there, so that its least is what it wants.
    let scaler = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "shop"}, "spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop"}, "minReplicas": 6, "maxReplicas": 8,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}],
    }});
    shop.set_image("v2")?;
    life.until(ROLLOUT, "at 25 %", waits_at(2))?;
    let mark = bed.audit_mark()?;
    shop.apply(&scaler)?;
    support::until(ROLLOUT, || {
        ensure!(replicas(&shop)? == Some(6), "the autoscaler has not spoken yet");
        let canary = shop.object("deployment", "shop-canary")?.context("no canary")?["spec"]["replicas"].as_u64();
        // A quarter of six, rounded up.
        ensure!(canary == Some(2), "the canary has {canary:?} pods");
        Ok(())
    })?;
    shown(&shop, "an autoscaler wants six")?;
    shop.kubectl(&["delete", "hpa", "shop"])?;
    // Ahead of its time: with more pods the step begins anew.
    shop.plugin(&["approve", "shop", "--step", "3"])?;
    life.until(ROLLOUT, "live on v2", |seen| seen.is_live("v2"))?;
    shop.is_at_rest("v2", Hand::Haldane)?;
    ensure!(replicas(&shop)? == Some(6), "the number of replicas is the owner's: {:?}", replicas(&shop)?);
    let scaled: Vec<_> = bed.writes_since(mark)?.into_iter().filter(|w| w.ours() && w.resource == "deployments/scale").collect();
    ensure!(scaled.is_empty(), "{scaled:?}");
    nobody_failed(&shop, load)?;
    shop.close()
}

#[test]
fn an_app_that_is_scaled_to_nothing_waits_for_its_return() -> Result<()> {
    let _calm = calm();
    let (shop, load, mut life) = halfway(bed()?, "mid-zero")?;
    // Who asks an app that is gone fails.
    drop(load);
    shop.kubectl(&["scale", "deployment/shop", "--replicas=0"])?;
    let told = life.until(SEEN, "told", says("ScaledToZero"))?;
    shown(&shop, "scaled to 0 in mid-rollout")?;
    ensure!(told.message().contains("Deployment shop is scaled to 0"), "{told}");
    support::until(SEEN, || {
        let pods = shop.pods()?.len();
        ensure!(pods == 0, "{pods} pods of an app that its owner has switched off");
        Ok(())
    })?;
    shop.kubectl(&["scale", "deployment/shop", "--replicas=4"])?;
    life.until(ROLLOUT, "at 25 % again", waits_at(2))?;
    let load = shop.customers(30, 3)?;
    shop.plugin(&["approve", "shop"])?;
    life.until(ROLLOUT, "live on v2", |seen| seen.is_live("v2"))?;
    shop.is_at_rest("v2", Hand::Haldane)?;
    nobody_failed(&shop, load)?;
    shop.close()
}

#[test]
fn a_canary_that_no_node_has_room_for_holds_and_a_smaller_one_takes_over() -> Result<()> {
    let _calm = calm();
    let shop = Shop::delivered(bed()?, "mid-room", Setup::by_route())?;
    let load = shop.customers(30, 3)?;
    let mut life = shop.follow()?;
    let sized = |tag: &str, cpu: &str| {
        let container =
            json!({"name": "shop", "image": format!("{}/shop:{tag}", shop.bed.registry), "resources": {"requests": {"cpu": cpu}}});
        let patch = json!({"spec": {"template": {"spec": {"containers": [container]}}}});
        shop.kubectl(&["patch", "deployment/shop", "-p", &patch.to_string()]).map(drop)
    };
    sized("v2", "1000")?;
    let told = life.until(ROLLOUT, "held", says("ClusterRefuses"))?;
    shown(&shop, "no node has room for the canary")?;
    ensure!(told.message().contains("Unschedulable") && told.message().contains("1 Insufficient cpu"), "{told}");
    ensure!(shop.asked(&["X-Haldane-Track: canary"])? == "v1 200", "a tester was led to a pod that does not run");
    sized("v3", "10m")?;
    life.until(ROLLOUT, "live on v3", |seen| seen.is_live("v3"))?;
    shop.is_at_rest("v3", Hand::Haldane)?;
    let report = nobody_failed(&shop, load)?;
    ensure!(report.served_by("v2") == 0, "{report}");
    shop.close()
}

#[test]
fn an_old_pod_that_is_not_ready_is_nothing_that_the_way_back_waits_for() -> Result<()> {
    let _calm = calm();
    let bed = bed()?;
    let (shop, load, mut life) = halfway(bed, "mid-unready")?;
    shop.page_is_probed()?;
    let unready = shop.make_unready()?;
    let mark = bed.audit_mark()?;
    shop.fail_the_canary()?;
    let back = life.until(ROLLOUT, "on the way back", |seen| matches!(seen.phase(), "RollingBack" | "RolledBack"))?;
    shown(&shop, "an old pod is not ready, and the canary fails")?;
    life.until(ROLLOUT, "back on v1", |seen| seen.is_back("v1"))?;
    // Nothing but the old pods serves, and one of them is still not ready.
    support::until(SEEN, || {
        let canaries = shop.canary_pods()?.len();
        ensure!(canaries == 0, "{canaries} pods of the canary are there");
        Ok(())
    })?;
    let name = unready["metadata"]["name"].as_str().unwrap_or_default();
    let still = shop.object("pod", name)?.with_context(|| format!("pod {name} is gone"))?;
    ensure!(!support::rest::ready(&still), "pod {name} got ready before the way back was over, so nothing was tested");
    let first = bed.writes_since(mark)?.into_iter().find(|w| w.ours() && w.namespace == shop.ns && !w.resource.ends_with("/status"));
    ensure!(first.as_ref().is_some_and(|w| w.resource == "httproutes"), "the first write of the way back was {first:?}: {back}");
    shop.tell_pod(&unready, "ready?value=true")?;
    shop.is_at_rest("v1", Hand::Haldane)?;
    nobody_failed(&shop, load)?;
    shop.close()
}

#[test]
fn a_service_over_the_same_pods_comes_and_another_one_goes() -> Result<()> {
    let _calm = calm();
    let bed = bed()?;
    let shop = Shop::delivered(bed, "mid-services", Setup::with_approval(3))?;
    shop.apply(&service("old"))?;
    let load = shop.customers(30, 3)?;
    let mut life = shop.follow()?;
    shop.set_image("v2")?;
    life.until(ROLLOUT, "at 25 %", waits_at(2))?;
    shop.apply(&service("new"))?;
    // Who calls it by its name gets the proven version, as with every other.
    support::until(SEEN, || {
        let (own, new) = (selector(&shop, "shop")?, selector(&shop, "new")?);
        ensure!(own.get("pod-template-hash").is_some() && own == new, "the new Service selects {new}, and the shop's {own}");
        Ok(())
    })?;
    shop.kubectl(&["delete", "service", "old"])?;
    shown(&shop, "a Service came and another one went")?;
    shop.plugin(&["approve", "shop"])?;
    life.until(ROLLOUT, "live on v2", |seen| seen.is_live("v2"))?;
    shop.is_at_rest("v2", Hand::Haldane)?;
    ensure!(selector(&shop, "new")? == json!({"app": "shop"}), "the new Service is not as its owner wrote it");
    nobody_failed(&shop, load)?;
    shop.close()
}

#[test]
fn a_gateway_that_is_not_programmed_holds_and_says_which() -> Result<()> {
    let _calm = calm();
    let shop = Shop::delivered(bed()?, "mid-dark", Setup { steps: vec![(25, "1s")], ..Setup::by_route() })?;
    let route = shop.route()?["spec"]["parentRefs"].clone();
    // Of a class that nobody serves here, so that what a data plane says of a Gateway without an address can be said of it.
    shop.apply(&json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "dark"}, "spec": {
        "gatewayClassName": "nobody", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}],
    }}))?;
    let condition = json!({"type": "Programmed", "status": "False", "reason": "AddressNotAssigned", "message": "no address is left",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let status = json!({"status": {"conditions": [condition]}}).to_string();
    shop.kubectl(&["patch", "gateway", "dark", "--subresource=status", "--type=merge", "-p", &status])?;
    let parents = |refs: &Value| {
        shop.kubectl(&["patch", "httproute", "shop", "--type=merge", "-p", &json!({"spec": {"parentRefs": refs}}).to_string()]).map(drop)
    };
    let mut life = shop.follow()?;
    parents(&json!([{"name": "dark"}]))?;
    shop.set_image("v2")?;
    let told = life.until(SEEN, "told", says("RouteRefused"))?;
    shown(&shop, "a Gateway that is not programmed")?;
    ensure!(told.message().contains("Gateway mid-dark/dark is not programmed: AddressNotAssigned no address is left"), "{told}");
    ensure!(told.phase() == "Preflight" && shop.weights()? == "home home", "it went on: {told}, {}", shop.weights()?);
    parents(&route)?;
    life.until(ROLLOUT, "live on v2", |seen| seen.is_live("v2"))?;
    shop.is_at_rest("v2", Hand::Haldane)?;
    shop.close()
}
