//! A version that is judged by its users' requests, as the app counts them itself: no probe sees the fault.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{Shop, bed, calm, storm, tell};
use crate::support::{Bed, follow::Seen, load::Load, rest::Hand, shop::Setup};

/// Evidence takes some blocks of 15 s, on a busy machine and with its rollback.
const JUDGED: Duration = Duration::from_mins(6);

/// A shop whose probe asks for the page, which no customer does, and whose customers' requests are counted.
fn counted<'a>(bed: &'a Bed, namespace: &str, guard: &'static str) -> Result<(Shop<'a>, Load)> {
    let setup = Setup { guard, steps: vec![(5, "5s"), (25, "5s"), (50, "5s")], ..Setup::by_route() };
    let shop = Shop::delivered(bed, namespace, setup)?;
    let page =
        json!({"spec": {"mutates": false, "steps": [{"name": "page", "request": {"path": "/"}, "expect": {"status": [200]}}]}}).to_string();
    shop.kubectl(&["patch", "productionprobe", "buy", "--type=merge", "-p", &page])?;
    let load = shop.customers(100, 10)?;
    let verify = json!({"spec": {"verify": {
        "requests": {
            "counter": "shop_requests_total", "failed": r#"code=~"5..""#, "only": r#"handler=~"/products|/orders.*""#, "by": ["handler"],
            "from": {"scrape": {"port": "http"}},
        },
        "latency": {"histogram": "shop_request_seconds"},
    }}});
    shop.kubectl(&["patch", "delivery", "shop", "--type=merge", "-p", &verify.to_string()])?;
    // Where slow begins is learnt from what stable has counted.
    std::thread::sleep(Duration::from_secs(12));
    Ok((shop, load))
}

fn evidence(seen: &Seen) -> Value {
    seen.object["status"]["rollout"]["evidence"].clone()
}

/// Ships a version with this fault, which its probe does not see, and says how long it took to be found out and by what.
fn found_out(namespace: &str, fault: &str) -> Result<(String, String)> {
    let bed = bed()?;
    let (shop, load) = counted(bed, namespace, "5s")?;
    let mut life = shop.follow()?;
    shop.helm("v2", &["--set-string", &format!(r"env.SHOP_FAIL={fault}\,version=v2")])?;
    life.until(JUDGED, "at its first share", |seen| seen.phase() == "Canary" && seen.step() == Some(2))?;
    let begun = Instant::now();
    let back = life.until(JUDGED, "back on v1", |seen| seen.is_back("v1"))?;
    let took = begun.elapsed();
    let why = shop.plugin(&["why", "shop"])?;
    let bad = back.object["status"]["lastRollback"]["release"].as_str().unwrap_or_default();
    let replayed = shop.plugin(&["replay", bad])?;
    tell(&replayed);
    ensure!(replayed.contains("Verdict: it is bad: ") && replayed.contains("to the last bit"), "{replayed}");
    shop.is_at_rest("v1", Hand::Haldane)?;
    let report = load.stop()?;
    tell(&format!("{namespace}: {} s at 5 % until it was back; {report}; {}\n{why}", took.as_secs(), back.message()));
    ensure!(report.failed_beside("v2") == 0, "somebody else failed, too: {report}");
    let told: Vec<String> = life.past.iter().map(|seen| evidence(seen)["requests"].to_string()).collect();
    ensure!(told.iter().any(|said| said.contains("to go on: ")), "how far it was to go on was never told: {told:?}");
    let at = life.past.iter().filter(|seen| seen.phase() == "Canary").filter_map(Seen::step).max();
    ensure!(at == Some(2), "it went on beyond its first share: step {at:?}");
    shop.close()?;
    Ok((back.message().to_owned(), told.concat()))
}

#[test]
fn errors_that_no_probe_sees_are_found_out_by_the_customers_requests() -> Result<()> {
    let _calm = calm();
    let (message, requests) = found_out("count-errors", r"path=/products\,code=500\,rate=20")?;
    ensure!(message.contains("errors of /products: ") || message.contains("errors: "), "{message}");
    ensure!(message.contains("failed on canary") && message.contains("1000 is a verdict"), "{message}");
    ensure!(requests.contains("errors: "), "{requests}");
    Ok(())
}

#[test]
fn slowness_of_one_page_is_found_out_too() -> Result<()> {
    // Alone: on a machine whose processors are all busy stable is slow, too, and then more is needed to be sure.
    let _alone = storm();
    let (message, requests) = found_out("count-slow", r"path=/products\,ms=300")?;
    ensure!(message.contains("latency: ") && message.contains("were slower than stable's"), "{message}");
    ensure!(requests.contains("latency: "), "{requests}");
    Ok(())
}

#[test]
fn a_good_version_goes_live_when_its_customers_have_shown_it() -> Result<()> {
    let _calm = calm();
    let bed = bed()?;
    let (shop, load) = counted(bed, "count-good", "10s")?;
    let mark = bed.audit_mark()?;
    let mut life = shop.follow()?;
    let begun = Instant::now();
    shop.set_image("v2")?;
    life.until(JUDGED, "gathering requests", |seen| seen.reason() == "Gathering")?;
    tell(&shop.plugin(&["why", "shop"])?);
    life.until(JUDGED, "live on v2", |seen| seen.is_live("v2"))?;
    let took = begun.elapsed();
    shop.is_at_rest("v2", Hand::Haldane)?;
    let report = load.stop()?;
    let writes = bed.writes_since(mark)?.into_iter().filter(|w| w.ours() && w.succeeded() && w.namespace == "count-good").count();
    tell(&format!("count-good: live after {} s, {writes} writes; {report}", took.as_secs()));
    ensure!(report.failed() == 0, "{report}");
    shop.close()
}

#[test]
fn a_version_without_metrics_is_held_and_the_pod_named() -> Result<()> {
    let _calm = calm();
    let bed = bed()?;
    let (shop, load) = counted(bed, "count-silent", "5s")?;
    let mut life = shop.follow()?;
    let other = json!([{"op": "replace", "path": "/spec/verify/requests/counter", "value": "http_requests_total"}]).to_string();
    shop.kubectl(&["patch", "delivery", "shop", "--type=json", "-p", &other])?;
    shop.set_image("v2")?;
    let held = life.until(JUDGED, "held", |seen| seen.reason() == "NoData")?;
    ensure!(held.message().contains("pod shop-") && held.message().contains("have no counter http_requests_total"), "{}", held.message());
    tell(&shop.kubectl(&["get", "dlv", "-o", "wide"])?);
    let right = other.replace("http_requests_total", "shop_requests_total");
    shop.kubectl(&["patch", "delivery", "shop", "--type=json", "-p", &right])?;
    life.until(JUDGED, "live on v2", |seen| seen.is_live("v2"))?;
    load.stop()?;
    shop.close()
}
