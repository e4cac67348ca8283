//! A version that is judged by what it logs: its answers and its probes are as they should be.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{SEEN, Shop, bed, calm, tell};
use crate::support::{Bed, load::Load, rest::Hand, shop::Setup};

/// Evidence takes some blocks of 15 s after the half minute in which a pod starts, on a busy machine and with its rollback.
const JUDGED: Duration = Duration::from_mins(6);

/// A shop whose log is read, with customers.
fn heard<'a>(bed: &'a Bed, namespace: &str, bake: &'static str, logs: &Value) -> Result<(Shop<'a>, Load)> {
    let setup = Setup { guard: "5s", steps: vec![(25, bake), (50, "5s")], ..Setup::by_route() };
    let shop = Shop::delivered(bed, namespace, setup)?;
    let load = shop.customers(50, 5)?;
    shop.kubectl(&["patch", "delivery", "shop", "--type=merge", "-p", &json!({"spec": {"verify": {"logs": logs}}}).to_string()])?;
    Ok((shop, load))
}

fn complains(text: &str, version: &str) -> String {
    format!(r"env.SHOP_FAIL=path=/products\,log={text}\,rate=20{version}")
}

/// Ships v2, which complains, and says how long it took to be taken back, and why.
fn taken_back(namespace: &str, bake: &'static str, logs: &Value, text: &str) -> Result<(String, String)> {
    let _calm = calm();
    let bed = bed()?;
    let (shop, load) = heard(bed, namespace, bake, logs)?;
    let mut life = shop.follow()?;
    shop.helm("v2", &["--set-string", &complains(text, r"\,version=v2")])?;
    life.until(JUDGED, "at its first share", |seen| seen.phase() == "Canary")?;
    let begun = Instant::now();
    let back = life.until(JUDGED, "back on v1", |seen| seen.is_back("v1"))?;
    let took = begun.elapsed();
    let why = shop.plugin(&["why", "shop"])?;
    shop.is_at_rest("v1", Hand::Haldane)?;
    let report = load.stop()?;
    tell(&format!("{namespace}: {} s from its first share until it was back; {report}; {}\n{why}", took.as_secs(), back.message()));
    ensure!(report.failed() == 0, "its answers were good: {report}");
    let told: Vec<String> = life.past.iter().map(|seen| seen.object["status"]["rollout"]["evidence"]["logs"].to_string()).collect();
    shop.close()?;
    Ok((back.message().to_owned(), told.join("\n")))
}

#[test]
fn an_error_that_only_its_log_shows_takes_a_version_back() -> Result<()> {
    let (message, told) = taken_back("log-errors", "5m", &json!({}), "cannot reach the till of 'zoe'")?;
    ensure!(message.contains("logs: \"cannot reach the till of … for request #\": "), "{message}");
    ensure!(message.contains(" lines on canary, 0 on stable") && message.contains("1000 is a verdict"), "{message}");
    ensure!(told.contains("cannot reach the till of … for request #") && !told.contains("zoe"), "{told}");
    Ok(())
}

#[test]
fn a_line_that_its_owner_wants_nowhere_takes_it_back_at_once() -> Result<()> {
    let alerts = json!({"alerts": [{"name": "till", "contains": "TillLost", "absolute": true}]});
    let (message, _) = taken_back("log-absolute", "60s", &alerts, "TillLost")?;
    ensure!(message.contains("alert till: ") && message.contains("it is absolute (spec.verify.logs)"), "{message}");
    Ok(())
}

#[test]
fn a_version_that_logs_what_stable_logs_goes_live() -> Result<()> {
    let _calm = calm();
    let bed = bed()?;
    let alerts = json!({"alerts": [{"name": "till", "contains": "cannot reach the till", "absolute": true}]});
    let setup = Setup { guard: "5s", steps: vec![(25, "45s"), (50, "5s")], ..Setup::by_route() };
    let shop = Shop::open(bed, "log-alike", setup)?;
    // Whichever version it is, it complains.
    let complains = complains("cannot reach the till", "");
    shop.helm("v1", &["--set-string", &complains])?;
    shop.kubectl(&["rollout", "status", "deployment/shop", "--timeout=90s"])?;
    shop.adopt()?;
    shop.kubectl(&["patch", "delivery", "shop", "--type=merge", "-p", &json!({"spec": {"verify": {"logs": alerts}}}).to_string()])?;
    let load = shop.customers(50, 5)?;
    // So that stable has said so before.
    std::thread::sleep(Duration::from_secs(5));
    let mut life = shop.follow()?;
    let begun = Instant::now();
    shop.helm("v2", &["--set-string", &complains])?;
    life.until(JUDGED, "live on v2", |seen| seen.is_live("v2"))?;
    let told: Vec<String> = life.past.iter().map(|seen| seen.object["status"]["rollout"]["evidence"]["logs"].to_string()).collect();
    let report = load.stop()?;
    tell(&format!("log-alike: live after {} s; {report}; {}", begun.elapsed().as_secs(), told.last().map_or("", String::as_str)));
    ensure!(report.failed() == 0, "{report}");
    ensure!(told.iter().any(|said| said.contains("nothing new, and no alert")), "its log was never told of: {told:?}");
    shop.close()
}

#[test]
fn a_container_that_is_not_there_is_told() -> Result<()> {
    let _calm = calm();
    let bed = bed()?;
    let (shop, load) = heard(bed, "log-nowhere", "5s", &json!({"container": "till"}))?;
    let mut life = shop.follow()?;
    let missing = "Deployment shop has no container till; see spec.verify.logs.container";
    let said = life.until(SEEN, "told at rest", |seen| seen.object["status"].to_string().contains(missing));
    tell(&shop.kubectl(&["get", "dlv", "-o", "wide"])?);
    load.stop()?;
    said?;
    shop.close()
}
