//! Commits, and a person beside Flux.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::flux::{Flux, InGit, releases};
use super::support::rest::Hand;
use super::support::shop::Setup;
use super::{ROLLOUT, bed, nobody_failed, page, tell};

#[test]
fn a_commit_rides_a_canary_a_newer_one_follows_and_a_persons_image_is_healed() -> Result<()> {
    let flux = Flux::begin(bed()?, "git-rides", Setup::by_route(), &page::kustomization()?)?;
    let shop = &flux.shop;
    let load = shop.customers(30, 3)?;
    let mut life = shop.follow()?;

    let two = flux.commit("v2", InGit::All)?;
    life.until(ROLLOUT, "at its first share", |seen| seen.phase() == "Canary" && seen.step() == Some(2))?;
    life.until(ROLLOUT, "live on v2", |seen| seen.is_live("v2"))?;
    flux.applied(&two)?;
    tell(&format!("a commit went live; Flux says {}", flux.ready()?));

    let mark = shop.bed.audit_mark()?;
    flux.commit("v4", InGit::All)?;
    life.until(ROLLOUT, "at its first share", |seen| seen.phase() == "Canary" && seen.step() == Some(2))?;
    let five = flux.commit("v5", InGit::All)?;
    life.until(ROLLOUT, "live on the newer commit", |seen| seen.is_live("v5"))?;
    shop.is_at_rest("v5", Hand::Haldane)?;
    flux.applied(&five)?;
    tell(&format!("a commit in mid-rollout: {}", flux.writes_since(mark)?));
    releases(shop)?;

    shop.set_image("v1")?;
    let step = life.until(ROLLOUT, "at its first share", |seen| seen.phase() == "Canary" && seen.step() == Some(2))?;
    let mark = shop.bed.audit_mark()?;
    flux.sync()?;
    let healed = flux.writes_since(mark)?;
    tell(&format!("a person set an image and git says another ({step}): {healed}"));
    ensure!(healed.of_flux("deployments") > 0, "Flux did not put back what git says: {healed}");
    life.until(ROLLOUT, "back on what git says", |seen| seen.is_live("v5"))?;
    shop.is_at_rest("v5", Hand::Haldane)?;
    let deployment = shop.object("deployment", "shop")?.context("Deployment shop is gone")?;
    let image = deployment.pointer("/spec/template/spec/containers/0/image").and_then(Value::as_str).unwrap_or_default();
    ensure!(image.ends_with(":v5"), "git says v5, and the Deployment {image}");
    nobody_failed(shop, load)?;
    flux.close()
}
