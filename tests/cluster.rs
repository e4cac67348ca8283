//! The controller on a real cluster: kubelet, containers, kube-proxy, helm and kubectl as its users have them.
//!
//! One cluster named `test` serves all tests; each has a namespace of its own and asks kubectl what became of it. `make test-cluster`.

#[allow(dead_code, reason = "the measurements and the matrix use the rest")]
mod support;

use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};

use support::Bed;
use support::rest::Hand;
use support::shop::{Setup, Shop};

/// A rollout of these tests takes about 20 s on a quiet machine.
const ROLLOUT: Duration = Duration::from_mins(2);

fn bed() -> Result<&'static Bed> {
    static BED: OnceLock<Result<Bed, String>> = OnceLock::new();
    BED.get_or_init(|| Bed::up("test").map_err(|error| format!("{error:#}"))).as_ref().map_err(|error| anyhow!("{error}"))
}

/// Says how far a test is; the harness itself is silent until the end.
fn tell(what: &str) {
    eprintln!("     {what}");
}

#[test]
fn adoption_closes_the_gate_and_restarts_nothing() -> Result<()> {
    let bed = bed()?;
    let mark = bed.audit_mark()?;
    let shop = Shop::open(bed, "adoption", Setup::default())?;
    let before = shop.pod_lives()?;
    shop.adopt()?;
    shop.is_at_rest("v1", Hand::Haldane)?;
    ensure!(shop.pod_lives()? == before, "pods were restarted: {before:?}, now {:?}", shop.pod_lives()?);
    shop.nothing_was_forbidden(mark)?;
    shop.close()
}

/// Ships v2 by `kubectl set image` while customers ask, and returns what they met.
fn good_release(namespace: &str, on_term: &'static str) -> Result<support::load::Report> {
    let bed = bed()?;
    let mark = bed.audit_mark()?;
    let shop = Shop::delivered(bed, namespace, Setup { on_term, ..Setup::default() })?;
    let load = shop.customers(50, 5)?;
    let mut life = shop.follow()?;
    shop.set_image("v2")?;
    life.until(ROLLOUT, "live on v2", |seen| seen.is_live("v2"))?;
    shop.kubectl(&["wait", "delivery/shop", "--for=condition=Ready", "--timeout=10s"])?;
    shop.is_at_rest("v2", Hand::Haldane)?;
    let report = load.stop()?;
    tell(&format!("{namespace}: {report}"));
    ensure!(report.served_by("v2") > 0 && report.served_by("v1") > 0, "both versions serve customers in a rollout: {report}");
    shop.nothing_was_forbidden(mark)?;
    shop.close()?;
    Ok(report)
}

#[test]
fn a_good_release_of_an_app_that_drains_fails_no_request() -> Result<()> {
    let report = good_release("good-drain", "drain")?;
    ensure!(report.failed() == 0, "{report}");
    Ok(())
}

#[test]
fn a_good_release_of_an_app_that_exits_at_once_fails_no_new_connection() -> Result<()> {
    let report = good_release("good-exit", "exit")?;
    ensure!(report.failed_fresh() == 0, "{} new connections failed: {report}", report.failed_fresh());
    Ok(())
}

#[test]
fn a_bad_release_is_taken_back_and_only_its_own_share_fails() -> Result<()> {
    let bed = bed()?;
    let mark = bed.audit_mark()?;
    let shop = Shop::delivered(bed, "bad", Setup::default())?;
    let load = shop.customers(50, 5)?;
    let mut life = shop.follow()?;
    shop.ship_broken("v2", 20)?;
    life.until(ROLLOUT, "in its first step", |seen| seen.phase() == "Canary")?;
    let back = life.until(ROLLOUT, "back on v1", |seen| seen.is_back("v1"))?;
    shop.is_at_rest("v1", Hand::Haldane)?;
    let report = load.stop()?;
    tell(&format!("bad: {report}; {}", back.message()));
    ensure!(report.failed_beside("v2") == 0, "somebody else failed, too: {report}");
    ensure!(report.served_by("v2") > 0, "the bad version reached nobody, so nothing was tested: {report}");
    ensure!(
        back.message().contains("/orders") && back.message().contains("500"),
        "the reason does not say what failed: {}",
        back.message()
    );
    let why = shop.plugin(&["why", "shop"])?;
    ensure!(why.contains(back.message()), "`why` says something else: {why}");
    shop.nothing_was_forbidden(mark)?;
    shop.close()
}

#[test]
fn what_was_taken_back_stays_away_until_something_newer_comes() -> Result<()> {
    let shop = Shop::delivered(bed()?, "sticky", Setup::default())?;
    let mut life = shop.follow()?;
    shop.ship_broken("v2", 20)?;
    let _customers = shop.customers(50, 5)?;
    life.until(ROLLOUT, "back on v1", |seen| seen.is_back("v1"))?;
    // The same content once more, as a pipeline that is run again would write it.
    shop.ship_broken("v2", 20)?;
    shop.kubectl(&["annotate", "deployment/shop", "shipped=again"])?;
    shop.is_at_rest("v1", Hand::Haldane)?;
    shop.helm("v3", &[])?;
    life.until(ROLLOUT, "live on v3", |seen| seen.is_live("v3"))?;
    shop.is_at_rest("v3", Hand::Haldane)?;
    shop.close()
}

#[test]
fn foreign_changes_at_rest() -> Result<()> {
    let bed = bed()?;
    let mark = bed.audit_mark()?;
    let shop = Shop::delivered(bed, "foreign", Setup::default())?;
    let (mut live, mut wrong) = ("v1", Vec::new());
    for change in support::changes::all() {
        let version = if change.ships { if live == "v1" { "v2" } else { "v1" } } else { live };
        let result = foreign_change(&shop, &change, version);
        tell(&format!("{}: {}", change.name, result.as_ref().map_or_else(|error| format!("{error:#}"), ToString::to_string)));
        match result {
            Ok(_) => live = version,
            Err(error) => {
                wrong.push(format!("{}: {error:#}", change.name));
                // What follows begins with a shop that is well.
                shop.close()?;
                return Err(anyhow!("{}", wrong.join("\n")));
            }
        }
    }
    shop.nothing_was_forbidden(mark)?;
    shop.close()
}

fn foreign_change(shop: &Shop, change: &support::changes::Change, version: &str) -> Result<support::load::Report> {
    let load = shop.customers(50, 5)?;
    let mut life = shop.follow()?;
    (change.act)(shop, version)?;
    if change.name == "kubectl rollout resume" {
        // A person opened the gate: that is respected, and told.
        life.until(ROLLOUT, "known as ungated", |seen| seen.reason() == "Ungated" || seen.condition("Held") == "True")?;
        shop.is_at_rest(version, Hand::Owner)?;
        shop.plugin(&["adopt", "shop"])?;
    }
    life.until(ROLLOUT, "live", |seen| seen.is_live(version))?;
    shop.is_at_rest(version, Hand::Haldane)?;
    let report = load.stop()?;
    ensure!(change.hurts || report.failed() == 0, "{report}");
    Ok(report)
}

/// Leaves in one of two ways, with a refused version waiting in the owner's template.
fn leave(namespace: &str, cascade: &str) -> Result<()> {
    let bed = bed()?;
    let mark = bed.audit_mark()?;
    let shop = Shop::delivered(bed, namespace, Setup::default())?;
    let load = shop.customers(50, 5)?;
    let mut life = shop.follow()?;
    shop.ship_broken("v2", 20)?;
    life.until(ROLLOUT, "back on v1", |seen| seen.is_back("v1"))?;
    shop.is_at_rest("v1", Hand::Haldane)?;
    let asked_so_far = load.lines().len();
    shop.kubectl(&["delete", "delivery", "shop", cascade, "--timeout=60s"])?;
    shop.is_at_rest("v1", Hand::Owner)?;
    let report = load.stop()?;
    let failed = report.log.iter().skip(asked_so_far).filter(|line| line.failed()).count();
    ensure!(failed == 0, "{failed} requests failed while it left: {report}");
    shop.nothing_was_forbidden(mark)?;
    shop.close()
}

#[test]
fn deleting_the_delivery_leaves_the_verified_version_and_no_trace() -> Result<()> {
    leave("leave", "--cascade=background")
}

#[test]
fn deleting_the_delivery_in_the_foreground_does_so_too() -> Result<()> {
    leave("leave-foreground", "--cascade=foreground")
}

#[test]
fn deleting_the_delivery_in_mid_rollout_fails_no_request() -> Result<()> {
    let bed = bed()?;
    let shop = Shop::delivered(bed, "leave-rolling", Setup { guard: "60s", ..Setup::default() })?;
    let load = shop.customers(50, 5)?;
    let mut life = shop.follow()?;
    shop.set_image("v2")?;
    life.until(ROLLOUT, "guarding", |seen| seen.phase() == "Guarding")?;
    shop.kubectl(&["delete", "delivery", "shop", "--cascade=foreground", "--timeout=60s"])?;
    shop.is_at_rest("v1", Hand::Owner)?;
    let report = load.stop()?;
    ensure!(report.failed() == 0, "{report}");
    shop.close()
}
