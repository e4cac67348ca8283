//! One Delivery among ten that cannot be decoded: it is told on the object, and the nine go on.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::support::{Bed, rest::Hand, shop::Shop, until};
use crate::witness::{apply, goes_on, smallest, tiny};
use crate::{ROLLOUT, SOON, bed, quick, storm, tell};

const CRD: &str = "deliveries.haldane.dev";
const SCHEMA: &str = "/spec/versions/0/schema/openAPIV3Schema";

/// The definition lets everything through for as long as this lives.
struct Relaxed<'a> {
    bed: &'a Bed,
    was: Value,
}

impl<'a> Relaxed<'a> {
    fn new(bed: &'a Bed) -> Result<Self> {
        let stored = bed.object("default", "crd", CRD)?.context("the definition is missing")?;
        let was = stored.pointer(SCHEMA).context("the definition has no schema")?.clone();
        let mut open = was.clone();
        // The rules of the root compile against the types beneath it, so they go too.
        open.as_object_mut().context("the schema is no object")?.remove("x-kubernetes-validations");
        open["properties"]["spec"]["properties"]["workloads"] = json!({"x-kubernetes-preserve-unknown-fields": true});
        replace(bed, &open)?;
        Ok(Self { bed, was })
    }
}

impl Drop for Relaxed<'_> {
    fn drop(&mut self) {
        if let Err(error) = replace(self.bed, &self.was) {
            tell(&format!("the definition of Delivery could not be put back: {error:#}"));
        }
    }
}

fn replace(bed: &Bed, schema: &Value) -> Result<()> {
    let patch = json!([{"op": "replace", "path": SCHEMA, "value": schema}]).to_string();
    bed.kubectl(&["patch", "crd", CRD, "--type=json", "-p", &patch]).map(drop)
}

fn text<'a>(object: &'a Value, at: &str) -> &'a str {
    object.pointer(at).and_then(Value::as_str).unwrap_or_default()
}

/// Waits until the controller says on the object that it cannot be decoded.
fn told(shop: &Shop, name: &str) -> Result<()> {
    let says = until(SOON, || {
        let seen = shop.object("delivery", name)?.context("it is gone")?;
        let conditions = seen.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
        let stalled = conditions.into_iter().find(|c| text(c, "/type") == "Stalled" && text(c, "/status") == "True");
        let message = text(&seen, "/status/message");
        ensure!(
            stalled.is_some_and(|c| text(c, "/message") == message),
            "no condition says it: {}",
            seen.pointer("/status").unwrap_or(&Value::Null)
        );
        ensure!(message.contains(&format!("Delivery {name} cannot be decoded")) && message.contains("spec.workloads"), "{message}");
        Ok(message.to_owned())
    })?;
    until(SOON, || {
        let events = shop.bed.list(&shop.ns, "events", "")?;
        let about = events.iter().find(|e| text(e, "/involvedObject/name") == name && text(e, "/reason") == "Invalid");
        ensure!(about.is_some_and(|e| text(e, "/message") == says), "no Event says {says:?}");
        Ok(())
    })?;
    tell(&format!("Invalid: {says}"));
    Ok(())
}

#[test]
fn one_delivery_that_cannot_be_decoded_stops_none_of_nine_others() -> Result<()> {
    let _storm = storm();
    let bed = bed()?;
    let shop = Shop::delivered(bed, "poison", quick())?;
    let others: Vec<String> = (1..9).map(|n| format!("app{n}")).collect();
    for name in &others {
        apply(&shop, &tiny(&shop, name))?;
        apply(&shop, &smallest(name))?;
    }
    apply(&shop, &tiny(&shop, "poisoned"))?;
    {
        let _open = Relaxed::new(bed)?;
        let mut poisoned = smallest("poisoned");
        poisoned["spec"]["workloads"] = json!("x");
        until(SOON, || apply(&shop, &poisoned))?;
    }
    told(&shop, "poisoned")?;
    let untouched = shop.object("deployment", "poisoned")?.context("Deployment poisoned is gone")?;
    ensure!(untouched.pointer("/spec/paused").is_none(), "its Deployment was touched");
    // One that begins after it, and one that was there before.
    for name in &others {
        goes_on(&shop, name)?;
    }
    let mut life = shop.follow()?;
    shop.set_image("v2")?;
    life.until(ROLLOUT, "live on v2 beside it", |seen| seen.is_live("v2"))?;
    shop.is_at_rest("v2", Hand::Haldane)?;
    let doctor = crate::doctor::doctor(&shop)?;
    ensure!(doctor.contains("poisoned"), "doctor does not see it: {doctor}");
    apply(&shop, &smallest("poisoned"))?;
    goes_on(&shop, "poisoned")?;
    shop.kubectl(&["delete", "deliveries", "--all", "--timeout=90s"])?;
    shop.close()
}
