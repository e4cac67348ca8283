//! `kubectl haldane doctor` on set-ups that are broken: what it prints, run as printed, mends them.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::namespace::run_as_printed;
use crate::support::{rest::Hand, said, shop::Shop, until};
use crate::witness::{apply, goes_on, patch};
use crate::{SOON, bed, calm, quick, tell};

/// Its output; that it found something is no error here.
pub(crate) fn doctor(shop: &Shop) -> Result<String> {
    let program = shop.bed.built("kubectl-haldane").display().to_string();
    let script = r#""$1" -n "$2" doctor || [ $? -lt 2 ]"#;
    said(shop.bed.command("bash").args(["-euc", script, "bash", &program, &shop.ns]))
}

/// Waits until it says that, runs what stands below, and waits until it says it no more.
fn mends(shop: &Shop, finding: &str) -> Result<()> {
    let (head, command) = until(SOON, || {
        let text = doctor(shop)?;
        let mut lines = text.lines();
        let head = lines.by_ref().find(|line| line.contains(finding)).with_context(|| format!("it does not say {finding:?}: {text}"))?;
        let command = lines.next().with_context(|| format!("nothing stands below: {text}"))?;
        Ok((head.to_owned(), command.trim().to_owned()))
    })?;
    tell(&format!("{head}\n       {command}"));
    run_as_printed(shop, &command)?;
    until(SOON, || {
        let text = doctor(shop)?;
        ensure!(!text.contains(finding), "it still says {finding:?}: {text}");
        Ok(())
    })
}

#[test]
fn what_the_doctor_prints_mends_it() -> Result<()> {
    let _calm = calm();
    let shop = Shop::open(bed()?, "doctor", quick())?;
    shop.kubectl(&["delete", "rolebinding", "haldane"])?;
    for object in [shop.probe(), shop.delivery()] {
        apply(&shop, &object)?;
    }
    mends(&shop, "has not opted in")?;
    goes_on(&shop, "shop")?;

    let mut twin = shop.delivery();
    twin["metadata"]["name"] = json!("twin");
    apply(&shop, &twin)?;
    mends(&shop, "already belongs to Delivery shop")?;
    shop.is_at_rest("v1", Hand::Haldane)?;

    shop.kubectl(&["rollout", "resume", "deployment/shop"])?;
    mends(&shop, "was resumed by hand")?;
    shop.is_at_rest("v1", Hand::Haldane)?;

    // What a controller that is taken away in the middle of a rollout would leave: without a Delivery nobody but a person mends it.
    shop.kubectl(&["delete", "delivery", "shop", "--timeout=60s"])?;
    let pods = shop.pods()?;
    let hash = pods.first().and_then(|p| p.pointer("/metadata/labels/pod-template-hash")).context("no pod")?;
    patch(
        &shop,
        "service/shop",
        &json!([{"op": "add", "path": "/spec/selector/pod-template-hash", "value": hash},
                {"op": "add", "path": "/metadata/annotations", "value": {"haldane.dev/pinned-since": "2026-01-01T00:00:00Z"}}]),
    )?;
    mends(&shop, "the pin was left behind")?;
    shop.is_at_rest("v1", Hand::Owner)?;
    shop.close()
}
