//! Names that lead nowhere, or to two: nothing is adopted until they are mended.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::support::{rest::Hand, shop::Shop};
use crate::witness::{Neighbour, Standing, apply, deliver, goes_on, patch, smallest, tiny, told, undeliver};
use crate::{bed, calm, quick};

/// One Delivery that is wrong, and its mend.
struct Case {
    word: &'static str,
    /// What the sentence names.
    says: &'static [&'static str],
    wrong: fn(&Shop) -> Result<()>,
    mend: fn(&Shop) -> Result<()>,
    /// What is left is tidied.
    tidy: fn(&Shop) -> Result<()>,
}

#[allow(clippy::unnecessary_wraps, reason = "the shape of the others")]
fn nothing(_: &Shop) -> Result<()> {
    Ok(())
}

fn without_probe(delivery: &mut Value) {
    delivery["spec"]["verify"] = json!({"probes": []});
}

fn second_service(shop: &Shop, name: &str) -> Result<()> {
    let ports = json!([{"name": "http", "port": 80, "targetPort": "http"}]);
    apply(
        shop,
        &json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"selector": {"app": "shop"}, "ports": ports}}),
    )
}

fn probe(shop: &Shop, change: impl FnOnce(&mut Value)) -> Result<()> {
    let mut probe = shop.probe();
    change(&mut probe["spec"]);
    apply(shop, &probe)
}

/// Those that Kubernetes itself puts into every namespace.
fn certificates(shop: &Shop) -> Result<()> {
    let map = shop.object("configmap", "kube-root-ca.crt")?.context("kube-root-ca.crt is missing")?;
    apply(shop, &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ca"}, "data": map.pointer("/data")}))
}

fn missing_container(shop: &Shop) -> Result<()> {
    deliver(shop, |d| {
        without_probe(d);
        d["spec"]["workloads"][0]["containers"] = json!(["sidecar"]);
    })
}

fn missing_service(shop: &Shop) -> Result<()> {
    deliver(shop, |d| {
        without_probe(d);
        d["spec"]["workloads"][0]["serviceRef"]["name"] = json!("counter");
    })
}

fn two_services(shop: &Shop) -> Result<()> {
    second_service(shop, "counter")?;
    deliver(shop, |d| {
        without_probe(d);
        d["spec"]["workloads"][0] = json!({"name": "shop"});
    })
}

fn probe_without_service(shop: &Shop) -> Result<()> {
    probe(shop, |p| p["target"]["serviceRef"]["name"] = json!("counter"))?;
    deliver(shop, |_| {})
}

/// As far as the definition lets it through: certificates that are nowhere.
fn probe_that_cannot_be_read(shop: &Shop) -> Result<()> {
    probe(shop, |p| {
        p["target"]["scheme"] = json!("HTTPS");
        p["target"]["caRef"] = json!({"name": "ca"});
    })?;
    deliver(shop, |_| {})
}

fn cases() -> Vec<Case> {
    vec![
        Case {
            word: "ContainerMissing",
            says: &["Deployment shop", "container sidecar", "spec.workloads[].containers"],
            wrong: missing_container,
            mend: |shop| patch(shop, "delivery/shop", &json!([{"op": "remove", "path": "/spec/workloads/0/containers"}])),
            tidy: nothing,
        },
        Case {
            word: "ServiceMissing",
            says: &["Service counter", "spec.workloads[].serviceRef"],
            wrong: missing_service,
            mend: |shop| second_service(shop, "counter"),
            tidy: |shop| shop.kubectl(&["delete", "service", "counter"]).map(drop),
        },
        Case {
            word: "ServiceAmbiguous",
            says: &["counter, shop", "spec.workloads[].serviceRef"],
            wrong: two_services,
            mend: |shop| shop.kubectl(&["delete", "service", "counter"]).map(drop),
            tidy: nothing,
        },
        Case {
            word: "ProbeMissing",
            says: &["ProductionProbe buy", "spec.verify.probes"],
            wrong: |shop| deliver(shop, |_| {}),
            mend: |shop| apply(shop, &shop.probe()),
            tidy: nothing,
        },
        Case {
            word: "ProbeInvalid",
            says: &["ProductionProbe buy", "Service counter", "target.serviceRef"],
            wrong: probe_without_service,
            mend: |shop| apply(shop, &shop.probe()),
            tidy: nothing,
        },
        Case {
            word: "ProbeInvalid",
            says: &["ProductionProbe buy", "ConfigMap ca", "ca.crt"],
            wrong: probe_that_cannot_be_read,
            // Nobody tells the controller about ConfigMaps.
            mend: certificates,
            tidy: |shop| apply(shop, &shop.probe()),
        },
    ]
}

#[test]
fn a_name_that_leads_nowhere_is_told_and_nothing_is_adopted() -> Result<()> {
    let _calm = calm();
    let shop = Shop::open(bed()?, "names", quick())?;
    let neighbour = Neighbour::open(&shop)?;
    for case in cases() {
        (case.wrong)(&shop)?;
        let before = Standing::of(&shop)?;
        told(&shop, "shop", case.word, case.says)?;
        std::thread::sleep(Duration::from_secs(2));
        before.still(&shop)?;
        neighbour.noticed_nothing(&shop)?;
        (case.mend)(&shop)?;
        goes_on(&shop, "shop")?;
        undeliver(&shop, "shop")?;
        (case.tidy)(&shop)?;
        shop.is_at_rest("v1", Hand::Owner)?;
    }
    neighbour.noticed_nothing(&shop)?;
    undeliver(&shop, "neighbour")?;
    shop.close()
}

#[test]
fn a_deployment_that_comes_later_is_waited_for() -> Result<()> {
    let _calm = calm();
    let shop = Shop::open(bed()?, "names-late", quick())?;
    let neighbour = Neighbour::open(&shop)?;
    apply(&shop, &smallest("late"))?;
    told(&shop, "late", "WorkloadMissing", &["Deployment late", "spec.workloads"])?;
    neighbour.noticed_nothing(&shop)?;
    apply(&shop, &tiny(&shop, "late"))?;
    goes_on(&shop, "late")?;
    undeliver(&shop, "late")?;
    undeliver(&shop, "neighbour")?;
    shop.close()
}

#[test]
fn the_second_delivery_of_a_deployment_waits_until_the_first_is_gone() -> Result<()> {
    let _calm = calm();
    let shop = Shop::delivered(bed()?, "names-twice", quick())?;
    let before = Standing::of(&shop)?;
    let mut twin = shop.delivery();
    twin["metadata"]["name"] = json!("twin");
    apply(&shop, &twin)?;
    told(&shop, "twin", "AlreadyDelivered", &["Deployment shop", "Delivery shop", "remove one of the two"])?;
    before.still(&shop)?;
    shop.is_at_rest("v1", Hand::Haldane)?;
    shop.kubectl(&["delete", "delivery", "shop", "--timeout=60s"])?;
    goes_on(&shop, "twin")?;
    let pods = shop.pods()?.len();
    ensure!(pods == 4, "{pods} pods after the change of hands");
    undeliver(&shop, "twin")?;
    shop.is_at_rest("v1", Hand::Owner)?;
    shop.close()
}

#[test]
fn a_manifest_that_names_paused_is_not_adopted() -> Result<()> {
    let _calm = calm();
    let shop = Shop::open(bed()?, "names-paused", quick())?;
    let manifest = shop.manifest("v1", "Deployment")?;
    let named = manifest.replacen("spec:\n", "spec:\n  paused: false\n", 1);
    shop.kubectl_with(&["apply", "-f", "-"], &named)?;
    let before = Standing::of(&shop)?;
    apply(&shop, &shop.probe())?;
    deliver(&shop, |_| {})?;
    told(&shop, "shop", "PausedInManifest", &["Deployment shop", "spec.paused", "kubectl apply", "take the field out"])?;
    before.still(&shop)?;
    shop.kubectl_with(&["apply", "-f", "-"], &manifest)?;
    goes_on(&shop, "shop")?;
    shop.close()
}
