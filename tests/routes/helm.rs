//! Helm in mid-rollout: another upgrade, and a rollback.

use anyhow::{Result, ensure};

use super::{ROLLOUT, bed, calm, nobody_failed, shown, support, tell};
use support::follow::Seen;
use support::rest::Hand;
use support::said;
use support::shop::{Setup, Shop};

fn in_its_first_share(seen: &Seen) -> bool {
    seen.phase() == "Canary" && seen.step() == Some(2)
}

impl Shop<'_> {
    /// `helm rollback` to that revision, as an owner types it.
    fn helm_rollback(&self, revision: u8) -> Result<()> {
        let mut helm = self.bed.command("helm");
        said(helm.args(["rollback", "shop", &revision.to_string(), "--wait", "--timeout", "60s", "--namespace", &self.ns])).map(drop)
    }
}

#[test]
fn helm_rolls_back_and_upgrades_in_mid_rollout() -> Result<()> {
    let _calm = calm();
    // Its first revision is v1.
    let shop = Shop::delivered(bed()?, "helm-mid", Setup { steps: vec![(25, "10s"), (50, "3s")], ..Setup::by_route() })?;
    let load = shop.customers(30, 3)?;
    let mut life = shop.follow()?;

    shop.helm("v2", &[])?;
    life.until(ROLLOUT, "in its first share", in_its_first_share)?;
    shop.helm_rollback(1)?;
    life.until(ROLLOUT, "back on v1", |seen| seen.phase() == "Live" && seen.live() == "v1")?;
    shop.is_at_rest("v1", Hand::Haldane)?;
    shown(&shop, "helm rollback in mid-rollout")?;

    // Again to v2, and on from there: the version of the last word goes live.
    shop.helm("v2", &[])?;
    life.until(ROLLOUT, "in its first share", in_its_first_share)?;
    shop.helm("v3", &[])?;
    life.until(ROLLOUT, "live on v3", |seen| seen.is_live("v3"))?;
    shop.is_at_rest("v3", Hand::Haldane)?;
    tell(&shop.kubectl(&["get", "releases", "-o", "wide"])?);

    // At rest a rollback of Helm is a change like any other: what it brings back rides a canary, too.
    shop.helm_rollback(1)?;
    life.until(ROLLOUT, "in its first share", in_its_first_share)?;
    life.until(ROLLOUT, "live on v1", |seen| seen.is_live("v1"))?;
    shop.is_at_rest("v1", Hand::Haldane)?;
    let report = nobody_failed(&shop, load)?;
    ensure!(report.served_by("v2") > 0 && report.served_by("v3") > 0, "a version was never tried: {report}");
    shop.close()
}
