//! Apps of which two versions cannot stand side by side: told before anything is started.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use crate::support::{rest::Hand, shop::Shop};
use crate::witness::{Neighbour, Standing, apply, goes_on, patch, told, undeliver};
use crate::{ROLLOUT, bed, calm, quick};

fn deployment(shop: &Shop, change: &Value) -> Result<()> {
    patch(shop, "deployment/shop", change)
}

/// Ships the version together with this change of its template; it is held, and nothing is started.
fn held(shop: &Shop, version: &str, change: &Value, word: &str, words: &[&str]) -> Result<()> {
    let mut all = vec![image(shop, version)];
    all.extend(change.as_array().cloned().unwrap_or_default());
    deployment(shop, &Value::Array(all))?;
    let before = Standing::of(shop)?;
    told(shop, "shop", word, words)?;
    std::thread::sleep(Duration::from_secs(2));
    before.still(shop)
}

/// The next version, without what was in the way.
fn mended(shop: &Shop, version: &str, path: &str) -> Result<()> {
    deployment(shop, &json!([{"op": "remove", "path": path}, image(shop, version)]))
}

fn image(shop: &Shop, version: &str) -> Value {
    json!({"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": format!("{}/shop:{version}", shop.bed.registry)})
}

fn live(shop: &Shop, version: &str) -> Result<()> {
    shop.follow()?.until(ROLLOUT, "live", |seen| seen.is_live(version))?;
    shop.is_at_rest(version, Hand::Haldane)
}

#[test]
fn a_template_that_cannot_stand_beside_another_is_held_until_it_is_mended() -> Result<()> {
    let _calm = calm();
    let shop = Shop::delivered(bed()?, "apart", quick())?;
    let neighbour = Neighbour::open(&shop)?;
    let port = "/spec/template/spec/containers/0/ports/0/hostPort";
    held(
        &shop,
        "v2",
        &json!([{"op": "add", "path": port, "value": 18080}]),
        "CannotRunTwo",
        &["of shop ", "18080", "hostPort", "make the Delivery anew"],
    )?;
    neighbour.noticed_nothing(&shop)?;
    mended(&shop, "v3", port)?;
    live(&shop, "v3")?;

    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "store"},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "none", "resources": {"requests": {"storage": "1Mi"}}}});
    apply(&shop, &claim)?;
    let volumes = "/spec/template/spec/volumes";
    let volume = json!([{"op": "add", "path": volumes, "value": [{"name": "store", "persistentVolumeClaim": {"claimName": "store"}}]}]);
    held(&shop, "v4", &volume, "CannotRunTwo", &["of shop ", "volume claim store", "ReadWriteOnce"])?;
    neighbour.noticed_nothing(&shop)?;
    mended(&shop, "v5", volumes)?;
    live(&shop, "v5")?;
    shop.close()
}

#[test]
fn a_deployment_that_is_recreated_is_not_adopted() -> Result<()> {
    let _calm = calm();
    let shop = Shop::open(bed()?, "apart-recreate", quick())?;
    deployment(&shop, &json!([{"op": "replace", "path": "/spec/strategy", "value": {"type": "Recreate"}}]))?;
    let before = Standing::of(&shop)?;
    apply(&shop, &shop.probe())?;
    apply(&shop, &shop.delivery())?;
    told(&shop, "shop", "CannotRunTwo", &["of shop ", "Recreate", "use RollingUpdate"])?;
    before.still(&shop)?;
    deployment(&shop, &json!([{"op": "replace", "path": "/spec/strategy", "value": {"type": "RollingUpdate"}}]))?;
    goes_on(&shop, "shop")?;
    undeliver(&shop, "shop")?;
    shop.is_at_rest("v1", Hand::Owner)?;
    shop.close()
}

#[test]
fn a_headless_service_holds_before_a_pod_starts() -> Result<()> {
    let _calm = calm();
    let shop = Shop::open(bed()?, "apart-headless", quick())?;
    let service: Value = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "shop", "labels": {"app": "shop"}},
        "spec": {"selector": {"app": "shop"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}});
    let replace = |service: &Value| shop.kubectl_with(&["replace", "--force", "-f", "-"], &service.to_string());
    let mut headless = service.clone();
    headless["spec"]["clusterIP"] = json!("None");
    replace(&headless)?;
    shop.adopt()?;
    held(&shop, "v2", &json!([]), "SwitchNotProvable", &["Service shop", "headless", "cluster IP"])?;
    replace(&service)?;
    live(&shop, "v2")?;
    shop.close()
}
