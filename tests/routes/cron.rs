//! A `CronJob` of the shop's image: it takes the image of a version that goes live, after the Deployment, and of no other.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{ROLLOUT, bed, calm, tell};
use crate::support::{
    rest::Hand,
    shop::{Setup, Shop},
};

const IMAGE: &str = "/spec/jobTemplate/spec/template/spec/containers/0/image";

/// A shop with a `CronJob` of its image that has its time on no day.
fn with_cron_job<'a>(bed: &'a super::Bed, namespace: &str) -> Result<Shop<'a>> {
    let shop = Shop::delivered(bed, namespace, Setup::by_route())?;
    let report = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "report"}, "spec": {
        "schedule": "0 0 31 2 *",
        "jobTemplate": {"spec": {"backoffLimit": 0, "template": {
            "metadata": {"labels": {"app": "report"}},
            "spec": {"restartPolicy": "Never", "enableServiceLinks": false, "containers": [
                {"name": "report", "image": format!("{}/shop:v1", bed.registry), "env": [{"name": "SHOP_ONCE", "value": "1"}]}
            ]},
        }}},
    }});
    // Its owner applies on the server's side, who would be told of a field that is another's.
    shop.kubectl_with(&["apply", "--server-side", "-f", "-"], &report.to_string())?;
    shop.kubectl(&["patch", "delivery", "shop", "--type=merge", "-p", &json!({"spec": {"cronJobs": [{"name": "report"}]}}).to_string()])?;
    Ok(shop)
}

fn report(shop: &Shop<'_>) -> Result<Value> {
    shop.object("cronjob", "report")?.context("CronJob report is gone")
}

fn image(cron_job: &Value) -> &str {
    cron_job.pointer(IMAGE).and_then(Value::as_str).unwrap_or_default()
}

#[test]
fn a_cron_job_has_the_image_of_a_good_version_after_the_deployment_has_it() -> Result<()> {
    let _calm = calm();
    let bed = bed()?;
    let shop = with_cron_job(bed, "cron-good")?;
    let before = report(&shop)?;
    let mark = bed.audit_mark()?;
    let mut life = shop.follow()?;
    shop.set_image("v2")?;
    life.until(ROLLOUT, "guarding", |seen| seen.phase() == "Guarding")?;
    ensure!(image(&report(&shop)?).ends_with(":v1"), "it has the image of a version that is not proven");
    life.until(ROLLOUT, "live on v2", |seen| seen.is_live("v2"))?;
    shop.is_at_rest("v2", Hand::Haldane)?;
    let after = report(&shop)?;
    ensure!(image(&after) == format!("{}/shop:v2", bed.registry), "{after:#}");
    let mut wanted = before.clone();
    *wanted.pointer_mut(IMAGE).context("no image")? = json!(image(&after));
    ensure!(after["spec"] == wanted["spec"] && after["metadata"]["annotations"] == before["metadata"]["annotations"], "{after:#}");
    let managers =
        shop.kubectl(&["get", "cronjob", "report", "--show-managed-fields", "-o", "jsonpath={.metadata.managedFields[*].manager}"])?;
    ensure!(!managers.contains("haldane"), "fields of it are owned by {managers}");
    let writes: Vec<_> = bed.writes_since(mark)?.into_iter().filter(|w| w.ours() && w.succeeded() && w.namespace == "cron-good").collect();
    let first = |resource: &str, name: &str| writes.iter().position(|w| w.resource == resource && w.name == name);
    let (opened, taken) = (first("deployments", "shop"), first("cronjobs", "report"));
    ensure!(opened.context("no write of the Deployment")? < taken.context("no write of the CronJob")?, "{writes:?}");
    // The image, and then our name off it.
    let count = writes.iter().filter(|w| w.resource == "cronjobs").count();
    ensure!(count == 2, "{count} writes of the CronJob");
    tell(&shop.plugin(&["status", "shop"])?);
    shop.nothing_was_forbidden(mark)?;
    shop.close()
}

#[test]
fn a_cron_job_never_has_the_image_of_a_bad_version() -> Result<()> {
    let _calm = calm();
    let bed = bed()?;
    let shop = with_cron_job(bed, "cron-bad")?;
    let mark = bed.audit_mark()?;
    let before = report(&shop)?;
    let load = shop.customers(50, 5)?;
    let mut life = shop.follow()?;
    shop.ship_broken("v2", 40)?;
    life.until(ROLLOUT, "back on v1", |seen| seen.is_back("v1"))?;
    shop.is_at_rest("v1", Hand::Haldane)?;
    tell(&format!("cron-bad: {}", load.stop()?));
    let writes: Vec<_> = bed.writes_since(mark)?.into_iter().filter(|w| w.ours() && w.namespace == "cron-bad").collect();
    ensure!(!writes.iter().any(|w| w.resource == "cronjobs"), "the CronJob was written: {writes:?}");
    ensure!(report(&shop)?["spec"] == before["spec"], "the CronJob is not as its owner wrote it");
    shop.close()
}
