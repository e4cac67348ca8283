//! Git still wants what Haldane has taken back: nobody fights, and the next commit goes on. Flux says what became of each.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::flux::{BAD, Flux, InGit, releases};
use super::support::rest::Hand;
use super::support::shop::Setup;
use super::{ROLLOUT, SEEN, bed, nobody_failed, page, tell};

/// How often Flux looks again; each of them would be an interval.
const LOOKS: usize = 5;

/// Flux looks again and again, and nobody writes anything.
fn nobody_fights(flux: &Flux, what: &str) -> Result<()> {
    flux.shop.is_at_rest("v1", Hand::Haldane)?;
    let deployment = flux.shop.object("deployment", "shop")?.context("Deployment shop is gone")?;
    let image = deployment.pointer("/spec/template/spec/containers/0/image").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mark = flux.shop.bed.audit_mark()?;
    for _ in 0..LOOKS {
        flux.sync()?;
    }
    let writes = flux.writes_since(mark)?;
    tell(&format!("{what}; git and the Deployment want {image}, v1 serves; {LOOKS} syncs: {writes}"));
    writes.none()?;
    flux.shop.is_at_rest("v1", Hand::Haldane)
}

#[test]
fn what_was_taken_back_stays_so_while_git_wants_it_and_flux_says_what_became_of_it() -> Result<()> {
    let flux = Flux::begin(bed()?, "git-wants", Setup::by_route(), &page::with_health()?)?;
    let shop = &flux.shop;
    let load = shop.customers(30, 3)?;
    let mut life = shop.follow()?;

    let bad = flux.commit(BAD, InGit::All)?;
    life.until(ROLLOUT, "back on v1", |seen| seen.is_back("v1"))?;
    let said = flux.says(SEEN, "Ready=False HealthCheckFailed")?;
    tell(&format!("a bad commit {bad}: {said}"));
    ensure!(said.contains("Delivery/git-wants/shop status: 'Failed'"), "{said}");
    nobody_fights(&flux, "taken back by itself")?;

    let two = flux.commit("v2", InGit::All)?;
    life.until(ROLLOUT, "on its way", |seen| seen.phase() == "Canary")?;
    let said = flux.ready()?;
    tell(&format!("a good commit, on its way: {said}"));
    ensure!(!said.starts_with("Ready=True"), "Flux calls a version ready that is on its way: {said}");
    life.until(ROLLOUT, "live on v2", |seen| seen.is_live("v2"))?;
    flux.says(ROLLOUT, "Ready=True")?;
    flux.applied(&two)?;
    tell(&format!("a good commit: {}", flux.ready()?));

    shop.plugin(&["rollback", "shop"])?;
    life.until(ROLLOUT, "back on v1", |seen| seen.is_back("v1"))?;
    nobody_fights(&flux, "taken back by a person")?;

    let four = flux.commit("v4", InGit::All)?;
    life.until(ROLLOUT, "live on the next commit", |seen| seen.is_live("v4"))?;
    flux.says(ROLLOUT, "Ready=True")?;
    flux.applied(&four)?;
    shop.is_at_rest("v4", Hand::Haldane)?;
    releases(shop)?;
    nobody_failed(shop, load)?;
    flux.close()
}
