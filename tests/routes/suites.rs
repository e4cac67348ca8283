//! A suite in an image of the owner's judges a version: run as a Job against both sides at once, it is a verdict when it fails on the new
//! one alone, twice.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{ROLLOUT, SEEN, Shop, bed, calm, tell};
use crate::support::{Bed, rest::Hand, shop::Setup};

/// A Job takes some seconds to start, and a suite runs twice on both sides.
const JUDGED: Duration = Duration::from_mins(4);

/// A shop that a suite of ten requests judges: a load generator that writes a `JUnit` report. Its other probe asks for nothing but the page.
fn with_suite<'a>(bed: &'a Bed, namespace: &str) -> Result<Shop<'a>> {
    let shop = Shop::delivered(bed, namespace, Setup::by_route())?;
    let page =
        json!({"spec": {"mutates": false, "steps": [{"name": "page", "request": {"path": "/"}, "expect": {"status": [200]}}]}}).to_string();
    shop.kubectl(&["patch", "productionprobe", "buy", "--type=merge", "-p", &page])?;
    suite(&shop, &["--path=/products", "--path=POST /orders", "--fresh=10", "--duration=1s"], &json!({}))?;
    Ok(shop)
}

/// Its load generator asks with these arguments, each time a version comes.
fn suite(shop: &Shop<'_>, asks: &[&str], job: &Value) -> Result<()> {
    let whom = [
        "--target=$(HALDANE_TARGET)",
        "--host=$(HALDANE_HOST)",
        "--keepalive=0",
        "--keepalive-rate=0",
        "--quiet",
        "--junit=/dev/termination-log",
    ];
    let args = [&whom, asks].concat();
    let mut job = job.clone();
    job["cronJobRef"] = json!({"name": "e2e"});
    job["within"] = json!("1m");
    shop.apply(&json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "e2e"}, "spec": {
        "schedule": "0 0 31 2 *", "suspend": true,
        "jobTemplate": {"spec": {"template": {"metadata": {"labels": {"app": "e2e"}}, "spec": {"restartPolicy": "Never", "enableServiceLinks": false, "containers": [
            {"name": "e2e", "image": format!("{}/load:1", shop.bed.registry), "args": args},
        ]}}}},
    }}))?;
    shop.apply(&json!({"apiVersion": "haldane.dev/v1alpha1", "kind": "ProductionProbe", "metadata": {"name": "e2e"}, "spec": {
        "target": {"serviceRef": {"name": "shop", "port": "http"}},
        "job": job,
        "schedule": {"rollout": "10m", "always": "1h"},
    }}))?;
    let verify = json!({"spec": {"verify": {"probes": [{"name": "buy"}, {"name": "e2e"}]}}}).to_string();
    shop.kubectl(&["patch", "delivery", "shop", "--type=merge", "-p", &verify]).map(drop)
}

fn jobs(shop: &Shop<'_>) -> Result<Vec<Value>> {
    shop.bed.list(&shop.ns, "jobs", "haldane.dev/probe=e2e")
}

/// Those that have ended so.
fn ended(jobs: &[Value], how: &str) -> usize {
    let is = |job: &&Value| {
        let conditions = job.pointer("/status/conditions").and_then(Value::as_array);
        conditions.into_iter().flatten().any(|c| c["type"] == how && c["status"] == "True")
    };
    jobs.iter().filter(is).count()
}

#[test]
fn a_suite_that_fails_on_the_new_version_alone_takes_it_back_before_it_has_customers() -> Result<()> {
    let _calm = calm();
    let bed = bed()?;
    let shop = with_suite(bed, "suite-bad")?;
    let load = shop.customers(50, 5)?;
    let mut life = shop.follow()?;
    let begun = Instant::now();
    shop.helm("v2", &["--set-string", r"env.SHOP_FAIL=path=/orders\,code=500\,version=v2"])?;
    let back = life.until(JUDGED, "back on v1", |seen| seen.is_back("v1"))?;
    let took = begun.elapsed();
    let why = shop.plugin(&["why", "shop"])?;
    shop.is_at_rest("v1", Hand::Haldane)?;
    let report = load.stop()?;
    tell(&format!("suite-bad: back after {} s; {report}; {}\n{why}", took.as_secs(), back.message()));
    let said = "e2e: suite e2e ended with exit code 1; failed: load.POST /orders on canary, passed on stable; twice";
    ensure!(back.message().contains(said), "{}", back.message());
    ensure!(report.failed() == 0, "it had customers: {report}");
    let jobs = jobs(&shop)?;
    ensure!(ended(&jobs, "Failed") == 2 && ended(&jobs, "Complete") >= 2, "{jobs:#?}");
    // Whoever wants to read what the tests said finds their Job.
    let failed = jobs.iter().find(|job| job.pointer("/status/failed").is_some()).context("no Job failed")?;
    let name = failed.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let log = shop.kubectl(&["logs", &format!("job/{name}")])?;
    ensure!(log.contains("http_500"), "{log}");
    shop.close()
}

#[test]
fn a_good_version_passes_its_suite_once_and_goes_live() -> Result<()> {
    let _calm = calm();
    let bed = bed()?;
    let shop = with_suite(bed, "suite-good")?;
    let mark = bed.audit_mark()?;
    let load = shop.customers(50, 5)?;
    let mut life = shop.follow()?;
    let begun = Instant::now();
    shop.set_image("v2")?;
    life.until(ROLLOUT + JUDGED, "live on v2", |seen| seen.is_live("v2"))?;
    let took = begun.elapsed();
    shop.is_at_rest("v2", Hand::Haldane)?;
    let report = load.stop()?;
    let jobs = jobs(&shop)?;
    tell(&format!("suite-good: live after {} s, {} Jobs; {report}", took.as_secs(), jobs.len()));
    ensure!(report.failed() == 0, "{report}");
    // One of each side, and those at rest before and after it.
    ensure!(ended(&jobs, "Failed") == 0 && (2..=5).contains(&jobs.len()), "{jobs:#?}");
    shop.nothing_was_forbidden(mark)?;
    shop.close()
}

#[test]
fn a_suite_that_fails_on_both_sides_blames_nobody_and_one_that_runs_by_itself_is_told() -> Result<()> {
    let _calm = calm();
    let bed = bed()?;
    let shop = with_suite(bed, "suite-both")?;
    shop.kubectl(&["patch", "cronjob", "e2e", "--type=merge", "-p", r#"{"spec":{"suspend":false}}"#])?;
    let mut life = shop.follow()?;
    let told = life.until(ROLLOUT, "told", |seen| seen.reason() == "ProbeInvalid" || seen.condition("Ready") == "False")?;
    tell(&told.to_string());
    ensure!(told.object.to_string().contains("CronJob e2e is not suspended"), "{}", told.object);
    shop.kubectl(&["patch", "cronjob", "e2e", "--type=merge", "-p", r#"{"spec":{"suspend":true}}"#])?;
    // Both sides lack what the suite asks for.
    let pods = shop.pods()?;
    shop.helm("v2", &["--set-string", r"env.SHOP_FAIL=path=/orders\,code=500"])?;
    pods.iter().try_for_each(|pod| shop.tell_pod(pod, "fail?path=/orders&code=500"))?;
    let held = life.until(JUDGED, "held", |seen| seen.reason() == "BothFailing")?;
    tell(held.message());
    ensure!(held.message().contains("e2e: suite e2e ended with exit code 1"), "{}", held.message());
    shop.close()
}

#[test]
fn a_version_that_fails_under_load_alone_is_found_by_a_stated_load_before_it_has_customers() -> Result<()> {
    let _calm = calm();
    let bed = bed()?;
    let shop = with_suite(bed, "suite-load")?;
    // Nobody else asks for so much of a pod: 20 a second of customers for four of them.
    suite(
        &shop,
        &["--path=/products", "--fresh=$(HALDANE_RATE)", "--duration=$(HALDANE_DURATION_SECONDS)s"],
        &json!({"load": {"perSecond": 60, "for": "5s"}}),
    )?;
    let load = shop.customers(20, 5)?;
    let mut life = shop.follow()?;
    shop.helm("v2", &["--set-string", r"env.SHOP_FAIL=path=/products\,code=503\,above=40\,version=v2"])?;
    let back = life.until(JUDGED, "back on v1", |seen| seen.is_back("v1"))?;
    tell(back.message());
    ensure!(back.message().contains("failed: load./products on canary, passed on stable; twice"), "{}", back.message());
    shop.helm("v3", &["--set-string", r"env.SHOP_FAIL=path=/products\,code=503\,above=40\,version=v2"])?;
    life.until(ROLLOUT + JUDGED, "live on v3", |seen| seen.is_live("v3"))?;
    shop.is_at_rest("v3", Hand::Haldane)?;
    let report = load.stop()?;
    tell(&format!("suite-load: {report}"));
    ensure!(report.failed() == 0, "customers met it: {report}");
    let jobs = jobs(&shop)?;
    ensure!(ended(&jobs, "Failed") == 2, "{jobs:#?}");
    // More than the cluster may send never begins, and says so.
    suite(&shop, &["--fresh=1"], &json!({"load": {"perSecond": 101, "for": "5s"}}))?;
    shop.set_image("v4")?;
    let held = life.until(SEEN, "held", |seen| seen.reason() == "LoadTooMuch")?;
    ensure!(held.message().contains("would send 101 requests a second, and all loads together may send 100"), "{}", held.message());
    shop.close()
}
