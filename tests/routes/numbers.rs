//! A version is judged by what somebody else keeps of its users' requests and tells in JSON: a real Prometheus, asked by its HTTP API as any other would be.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::{ROLLOUT, Shop, bed, storm, tell};
use crate::support::{prometheus::Prometheus, shop::Setup, until};

/// Pieces of ten seconds that are ten seconds old, and blocks of a minute.
const JUDGED: Duration = Duration::from_mins(8);
/// What leaves with each question, and nowhere else.
const KEY: &str = "canary-of-the-key-to-the-numbers";

/// How many requests these pods had in that time, and how many of them failed. A pod that was not there before has had none.
fn query() -> String {
    let of = |which: &str| {
        let at =
            |when: &str| format!(r#"(sum(shop_requests_total{{pod=~"${{pods}}",handler="/products"{which}}} @ ${{{when}}}) or vector(0))"#);
        format!("({} - {})", at("to"), at("from"))
    };
    let named = |which: &str, expression: String| format!(r#"label_replace({expression}, "is", "{which}", "", "")"#);
    format!("{} or {}", named("asked", of("")), named("failed", of(r#",code=~"5..""#)))
}

/// The text encoded as a URL wants it, but for its variables.
fn encoded(text: &str) -> String {
    let mut parts = text.split("${");
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let first = encode(parts.next().unwrap_or_default());
    let rest = parts.filter_map(|part| part.split_once('}')).map(|(name, text)| format!("${{{name}}}{}", encode(text)));
    first + &rest.collect::<String>()
}

/// Service `numbers` leads to it, and the Delivery is judged by what it says.
fn judged_by(shop: &Shop) -> Result<()> {
    let (node, port) = (shop.bed.node()?, Prometheus::port());
    let service =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "numbers"}, "spec": {"ports": [{"name": "http", "port": 80}]}});
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "numbers", "labels": {"kubernetes.io/service-name": "numbers"}}, "addressType": "IPv4",
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}], "endpoints": [{"addresses": [node], "conditions": {"ready": true}}]});
    let page = json!({"spec": {"mutates": false, "steps": [{"name": "page", "request": {"path": "/"}, "expect": {"status": [200]}}]}});
    for object in [service, slice] {
        shop.apply(&object)?;
    }
    shop.kubectl(&["patch", "productionprobe", "buy", "--type=merge", "-p", &page.to_string()])?;
    let url = format!("http://numbers.{}.svc/api/v1/query?time=${{to}}&query={}", shop.ns, encoded(&query()));
    let verify = json!({"spec": {"verify": {"requests": {"from": {"json": {
        "url": url, "join": "|", "interval": "10s", "delay": "10s",
        "headers": [{"name": "X-Api-Key", "value": "${secrets.key}"}],
        "secrets": [{"name": "key", "secretRef": {"name": "numbers", "key": "key"}}],
        "asked": "$.data.result[?@.metric.is=='asked'].value[1]", "failed": "$.data.result[?@.metric.is=='failed'].value[1]",
    }}}}}});
    shop.kubectl(&["patch", "delivery", "shop", "--type=merge", "-p", &verify.to_string()]).map(drop)
}

fn grant(shop: &Shop) -> Result<()> {
    shop.kubectl(&["create", "secret", "generic", "numbers", &format!("--from-literal=key={KEY}")])?;
    shop.kubectl(&["create", "role", "haldane-numbers", "--verb=get", "--resource=secrets", "--resource-name=numbers"])?;
    let account = "--serviceaccount=haldane-system:haldane";
    shop.kubectl(&["create", "rolebinding", "haldane-numbers", "--role=haldane-numbers", account]).map(drop)
}

#[test]
fn a_bad_version_is_found_by_numbers_that_somebody_else_keeps() -> Result<()> {
    let _storm = storm();
    let bed = bed()?;
    let prometheus = Prometheus::start(bed)?;
    let setup = Setup { steps: vec![(25, "5s"), (50, "5s")], ..Setup::by_route() };
    let shop = Shop::delivered(bed, "numbers", setup)?;
    let load = shop.customers(150, 10)?;
    prometheus.looks_at(&shop.pods()?)?;
    judged_by(&shop)?;
    let mut life = shop.follow()?;
    shop.helm("v2", &["--set-string", r"env.SHOP_FAIL=path=/products\,code=500\,rate=20\,version=v2"])?;
    let held = until(ROLLOUT, || {
        let status = shop.object("delivery", "shop")?.context("the Delivery is gone")?["status"].clone();
        let told = status.to_string();
        ensure!(told.contains("may not be read") || told.contains("does not exist"), "{}", status["message"]);
        Ok(status["message"].clone())
    })?;
    tell(&format!("numbers: without its Secret: {held}"));
    ensure!(shop.canary_pods()?.is_empty(), "a pod started although nothing is known of the requests");
    grant(&shop)?;
    // The canary's pods are new to Prometheus, and so is the one at each step.
    let back = until(ROLLOUT + JUDGED, || {
        prometheus.looks_at(&shop.pods()?)?;
        let status = shop.object("delivery", "shop")?.context("the Delivery is gone")?["status"].clone();
        ensure!(status["phase"] == "RolledBack" && status["live"]["version"] == "v1", "{} {}", status["phase"], status["message"]);
        Ok(status)
    });
    let back = back.with_context(|| life.story())?;
    life.until(ROLLOUT, "back on v1", |seen| seen.is_back("v1"))?;
    let why = shop.plugin(&["why", "shop"])?;
    eprintln!("{}", why.lines().map(|line| format!("     | {line}\n")).collect::<String>());
    ensure!(back["message"].as_str().is_some_and(|said| said.contains("errors")), "{}", back["message"]);
    let everything: Vec<Value> = ["delivery", "releases", "events", "productionprobes"]
        .iter()
        .map(|kind| shop.bed.list(&shop.ns, kind, "").map(Value::from))
        .collect::<Result<_>>()?;
    ensure!(!Value::from(everything).to_string().contains(KEY) && !why.contains(KEY), "the key is shown");
    tell(&format!("numbers: {}", load.stop()?));
    shop.close()
}
