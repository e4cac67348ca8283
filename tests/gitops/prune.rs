//! What is taken out of git while its new version has all of the traffic.

use anyhow::{Result, ensure};

use super::flux::{Flux, InGit};
use super::support::follow::Seen;
use super::support::rest::Hand;
use super::support::shop::Setup;
use super::support::until;
use super::{ROLLOUT, SEEN, bed, nobody_failed, page, tell};

fn guarding(seen: &Seen) -> bool {
    seen.phase() == "Guarding"
}

#[test]
fn what_leaves_git_in_mid_rollout_leaves_without_a_failed_request() -> Result<()> {
    let setup = Setup { guard: "60s", ..Setup::by_route() };
    let flux = Flux::begin(bed()?, "git-prune", setup, &page::kustomization()?)?;
    let shop = &flux.shop;
    let load = shop.customers(30, 3)?;

    // The Delivery alone, while git wants a version that is not proven: what serves is the proven one.
    let mut life = shop.follow()?;
    flux.commit("v2", InGit::All)?;
    life.until(ROLLOUT, "guarding", guarding)?;
    let gone = flux.commit("v2", InGit::NoDelivery)?;
    flux.applied(&gone)?;
    shop.kubectl(&["wait", "delivery/shop", "--for=delete", "--timeout=90s"])?;
    shop.is_at_rest("v1", Hand::Owner)?;
    tell("the Delivery left git in Guarding: v1 serves, and the gate is open");
    // Then the Deployment is Flux's alone: what git wants starts by plain Kubernetes.
    flux.sync()?;
    shop.kubectl(&["rollout", "status", "deployment/shop", "--timeout=90s"])?;
    shop.is_at_rest("v2", Hand::Owner)?;
    tell("the next sync started what git wants, without a canary");

    // Back in git, it is adopted as it runs.
    flux.commit("v2", InGit::All)?;
    shop.is_adopted()?;

    // The Deployment alone: the canary has all of the traffic, and goes on.
    let mut life = shop.follow()?;
    flux.commit("v4", InGit::All)?;
    life.until(ROLLOUT, "guarding", guarding)?;
    let gone = flux.commit("v4", InGit::NoDeployment)?;
    flux.applied(&gone)?;
    shop.kubectl(&["wait", "deployment/shop", "--for=delete", "--timeout=90s"])?;
    let told = life.until(SEEN, "told", |seen| seen.reason() == "WorkloadMissing")?;
    tell(&format!("the Deployment left git in Guarding: {told}"));
    flux.commit("v4", InGit::All)?;
    life.until(ROLLOUT, "live on v4", |seen| seen.is_live("v4"))?;
    shop.is_at_rest("v4", Hand::Haldane)?;
    nobody_failed(shop, load)?;

    // All of it: nothing of Haldane's stays behind, and nothing waits for it.
    let mut life = shop.follow()?;
    flux.commit("v5", InGit::All)?;
    life.until(ROLLOUT, "guarding", guarding)?;
    let gone = flux.commit("v5", InGit::Nothing)?;
    flux.applied(&gone)?;
    until(ROLLOUT, || {
        let left = shop.kubectl(&["get", "deliveries,deployments,services,httproutes,pods", "-o", "name"])?;
        ensure!(left.trim().is_empty(), "left: {left}");
        Ok(())
    })?;
    tell("all of it left git in Guarding: nothing stays");
    flux.close()
}
