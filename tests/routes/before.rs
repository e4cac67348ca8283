//! A migration before each version, while customers ask: it runs once with the new image, and where it fails nothing of the
//! version was ever there.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{ROLLOUT, bed, calm, tell};
use crate::support::{
    rest::Hand,
    shop::{Setup, Shop},
};

/// A shop with a suspended `CronJob` of its image that is run before each version; `code` is how it ends.
fn with_migration<'a>(bed: &'a super::Bed, namespace: &str, code: u8) -> Result<Shop<'a>> {
    let shop = Shop::delivered(bed, namespace, Setup::by_route())?;
    let env = if code == 0 { "SHOP_ONCE" } else { "SHOP_EXIT_AT_START" };
    let migrate = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "migrate"}, "spec": {
        "schedule": "0 0 31 2 *", "suspend": true,
        "jobTemplate": {"spec": {"backoffLimit": 0, "activeDeadlineSeconds": 60, "template": {
            "metadata": {"labels": {"app": "migrate"}},
            "spec": {"restartPolicy": "Never", "enableServiceLinks": false, "containers": [
                {"name": "migrate", "image": format!("{}/shop:v1", bed.registry), "env": [{"name": env, "value": "1"}]}
            ]},
        }}},
    }});
    shop.kubectl_with(&["apply", "-f", "-"], &migrate.to_string())?;
    let before = json!({"spec": {"rollout": {"before": [{"cronJobRef": {"name": "migrate"}}]}}}).to_string();
    shop.kubectl(&["patch", "delivery", "shop", "--type=merge", "-p", &before])?;
    Ok(shop)
}

fn jobs(shop: &Shop<'_>) -> Result<Vec<Value>> {
    shop.bed.list(&shop.ns, "jobs", "haldane.dev/delivery=shop,haldane.dev/before=migrate")
}

/// The images with which it ran.
fn images(jobs: &[Value]) -> Vec<&str> {
    jobs.iter().filter_map(|job| job.pointer("/spec/template/spec/containers/0/image").and_then(Value::as_str)).collect()
}

#[test]
fn a_migration_runs_once_with_the_new_image_and_then_the_version_goes_live() -> Result<()> {
    let _calm = calm();
    let bed = bed()?;
    let mark = bed.audit_mark()?;
    let shop = with_migration(bed, "before-good", 0)?;
    let load = shop.customers(50, 5)?;
    let mut life = shop.follow()?;
    shop.set_image("v2")?;
    life.until(ROLLOUT, "live on v2", |seen| seen.is_live("v2"))?;
    shop.is_at_rest("v2", Hand::Haldane)?;
    let first = |phase: &str| life.past.iter().position(|seen| seen.phase() == phase);
    let (ran, started) = (first("Preparing"), first("Preflight"));
    ensure!(ran.context("it was never Preparing")? < started.context("it was never Preflight")?, "{}", life.story());
    let jobs = jobs(&shop)?;
    ensure!(images(&jobs) == [format!("{}/shop:v2", bed.registry)], "{jobs:#?}");
    ensure!(jobs.first().and_then(|job| job.pointer("/status/succeeded")) == Some(&json!(1)), "{jobs:#?}");
    let report = load.stop()?;
    tell(&format!("before-good: {report}"));
    ensure!(report.failed() == 0, "{report}");
    shop.nothing_was_forbidden(mark)?;
    shop.close()
}

#[test]
fn a_migration_that_fails_takes_the_version_back_and_no_pod_of_it_ever_starts() -> Result<()> {
    let _calm = calm();
    let bed = bed()?;
    let shop = with_migration(bed, "before-bad", 1)?;
    let route = shop.route()?;
    let mark = bed.audit_mark()?;
    let load = shop.customers(50, 5)?;
    let mut life = shop.follow()?;
    shop.set_image("v2")?;
    let back = life.until(ROLLOUT, "back on v1", |seen| seen.is_back("v1"))?;
    shop.is_at_rest("v1", Hand::Haldane)?;
    let said = back.object.pointer("/status/lastRollback").cloned().unwrap_or_default();
    ensure!(said["reason"] == "BeforeFailed", "{said}");
    let message = said["message"].as_str().unwrap_or_default();
    ensure!(message.contains("exit code 1") && message.contains("kubectl logs job/shop-"), "{message}");
    let job = message.rsplit(' ').next().unwrap_or_default();
    shop.kubectl(&["logs", job])?;
    ensure!(images(&jobs(&shop)?) == [format!("{}/shop:v2", bed.registry)]);
    let report = load.stop()?;
    tell(&format!("before-bad: {report}; {message}"));
    ensure!(report.failed() == 0 && report.served_by("v2") == 0, "{report}");
    let writes: Vec<_> = bed.writes_since(mark)?.into_iter().filter(|w| w.ours() && w.namespace == "before-bad").collect();
    let made = |resource: &str, verb: &str| resource == "deployments" && verb == "create";
    let touched = writes.iter().find(|w| made(&w.resource, &w.verb) || w.resource == "services" || w.resource == "httproutes");
    ensure!(touched.is_none(), "a canary or traffic was written: {touched:?}");
    ensure!(shop.route()?["spec"] == route["spec"], "the route is not as its owner wrote it");
    tell(&shop.kubectl(&["get", "dlv", "shop", "-o", "wide"])?);
    shop.close()
}
