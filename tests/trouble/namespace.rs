//! Namespaces that did not opt in, and that go.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::support::{begin, rest::Hand, said, shop::Shop, until};
use crate::witness::{Standing, apply, goes_on, told};
use crate::{ROLLOUT, bed, calm, quick, tell};
use std::time::Duration;

/// Runs a command as it was printed, as a person would.
pub(crate) fn run_as_printed(shop: &Shop, command: &str) -> Result<()> {
    let built = shop.bed.built("kubectl-haldane");
    let place = built.parent().context("no folder")?.display().to_string();
    let script = format!("PATH={place}:$PATH; {command}");
    said(shop.bed.command("bash").args(["-euc", &script])).map(drop)
}

#[test]
fn a_namespace_that_did_not_opt_in_is_told_the_command_that_does() -> Result<()> {
    let _calm = calm();
    let shop = Shop::open(bed()?, "place-closed", quick())?;
    shop.kubectl(&["delete", "rolebinding", "haldane"])?;
    let mark = shop.bed.audit_mark()?;
    let before = Standing::of(&shop)?;
    apply(&shop, &shop.probe())?;
    apply(&shop, &shop.delivery())?;
    let says = told(&shop, "shop", "NotGranted", &["namespace place-closed", "kubectl create rolebinding"])?;
    before.still(&shop)?;
    let command = says.split_once(": ").map(|(_, command)| command.to_owned()).context("no command")?;
    run_as_printed(&shop, &command)?;
    goes_on(&shop, "shop")?;
    shop.is_at_rest("v1", Hand::Haldane)?;
    shop.nothing_was_forbidden(mark)?;
    shop.close()
}

#[test]
fn a_namespace_that_is_deleted_in_mid_rollout_goes() -> Result<()> {
    let _calm = calm();
    let bed = bed()?;
    let shop = Shop::delivered(bed, "place-going", crate::support::shop::Setup { guard: "60s", ..quick() })?;
    let mut life = shop.follow()?;
    shop.set_image("v2")?;
    life.until(ROLLOUT, "guarding", |seen| seen.phase() == "Guarding")?;
    let began = begin();
    bed.kubectl(&["delete", "namespace", &shop.ns, "--wait=false"])?;
    until(Duration::from_mins(1), || {
        let left = bed.kubectl(&["get", "namespace", &shop.ns, "--ignore-not-found", "-o", "json"])?;
        let state: serde_json::Value = if left.trim().is_empty() { json!(null) } else { serde_json::from_str(&left)? };
        ensure!(state.is_null(), "it is still there: {}", state.pointer("/status/conditions").unwrap_or(&json!(null)));
        Ok(())
    })?;
    tell(&format!("the namespace was gone after {:.1} s", began.elapsed().as_secs_f64()));
    Ok(())
}
