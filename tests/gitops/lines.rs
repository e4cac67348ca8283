//! What the recommended lines are for: the same rollout with them and without.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::flux::{Flux, InGit};
use super::support::follow::Seen;
use super::support::rest::Hand;
use super::support::shop::{Setup, Shop};
use super::{ROLLOUT, SEEN, bed, nobody_failed, page, tell};

/// How often Flux looks again in mid-rollout.
const LOOKS: usize = 3;

pub(crate) fn half_way(seen: &Seen) -> bool {
    seen.reason() == "ApprovalRequired" && seen.step() == Some(2)
}

/// What the Service selects, and the weights of the route's rules.
pub(crate) fn traffic(shop: &Shop) -> Result<String> {
    let service = shop.object("service", "shop")?.context("Service shop is gone")?;
    let route = shop.object("httproute", "shop")?.context("HTTPRoute shop is gone")?;
    let backends = |rule: &Value| {
        let all = rule["backendRefs"].as_array().into_iter().flatten();
        all.map(|b| format!("{}:{}", b["name"].as_str().unwrap_or_default(), b["weight"])).collect::<Vec<_>>().join("+")
    };
    let rules: Vec<String> = route["spec"]["rules"].as_array().into_iter().flatten().map(backends).collect();
    Ok(format!("Service {} route {}", service["spec"]["selector"], rules.join(" ")))
}

#[test]
fn what_the_lines_are_for() -> Result<()> {
    let whole = page::kustomization()?;
    let flux = Flux::begin(bed()?, "git-lines", Setup::with_approval(3), &whole)?;
    let shop = &flux.shop;
    let load = shop.customers(30, 3)?;
    let mut life = shop.follow()?;
    flux.commit("v2", InGit::All)?;
    life.until(ROLLOUT, "at 25 %", half_way)?;

    // With them Flux leaves the traffic of a rollout alone.
    let before = traffic(shop)?;
    let mark = shop.bed.audit_mark()?;
    for _ in 0..LOOKS {
        flux.sync()?;
    }
    let with = flux.writes_since(mark)?;
    tell(&format!("at 25 %, {LOOKS} syncs with spec.ignore: {with}; {before}"));
    ensure!(with.flux.is_empty(), "Flux wrote in spite of the lines: {with}");
    ensure!(traffic(shop)? == before, "the traffic is another: {}", traffic(shop)?);

    nobody_failed(shop, load)?;

    // Without them each sync writes the route and the Service as git has them, and Haldane answers. What that costs is told, not demanded.
    let load = shop.customers(30, 3)?;
    flux.told(&page::without(whole.clone(), "ignore")?)?;
    let mark = shop.bed.audit_mark()?;
    let mut seen = Vec::new();
    for _ in 0..LOOKS {
        flux.sync()?;
        seen.push(traffic(shop)?);
    }
    let told = life.until(SEEN, "told", |seen| seen.reason() == "RouteFoughtBy" || seen.message().contains("changed HTTPRoute"))?;
    let without = flux.writes_since(mark)?;
    tell(&format!("at 25 %, {LOOKS} syncs without spec.ignore: {without}; {told}\n       {}", seen.join("\n       ")));
    ensure!(without.of_flux("services") > 0 && without.of_flux("httproutes") > 0, "the lines change nothing: {without}");

    flux.told(&whole)?;

    // A commit that changes that very Service waits for the end of the rollout.
    let text = InGit::All.of(shop, "v2")?;
    let head = "kind: Service\nmetadata:\n  name: shop\n  labels: {app: shop";
    let labelled = text.replacen(head, &format!("{head}, tier: front"), 1);
    ensure!(labelled != text, "the chart writes its Service otherwise now");
    flux.commit_text(&labelled, "A label of the Service")?;
    let said = flux.says(SEEN, "Ready=False")?;
    tell(&format!("a commit that changes the Service in mid-rollout: {said}"));

    life.until(ROLLOUT, "at 25 % again", half_way)?;
    // The share comes back to a canary that the data plane has forgotten meanwhile: that, too, is what it costs.
    tell(&format!("git-lines, without spec.ignore and until the share is back: {}", load.stop()?));
    let load = shop.customers(30, 3)?;
    shop.plugin(&["approve", "shop"])?;
    life.until(ROLLOUT, "live on v2", |seen| seen.is_live("v2"))?;
    shop.is_at_rest("v2", Hand::Haldane)?;
    // The commit that had to wait is applied now.
    flux.sync()?;
    flux.says(SEEN, "Ready=True")?;
    let service = shop.object("service", "shop")?.context("Service shop is gone")?;
    ensure!(service["metadata"]["labels"]["tier"] == "front", "the commit did not arrive: {}", service["metadata"]["labels"]);

    // Without the expressions a Deployment behind its gate is never healthy for Flux, however well it serves.
    let mut blind = page::without(page::with_health()?, "healthCheckExprs")?;
    blind["spec"]["timeout"] = json!("10s");
    flux.told(&blind)?;
    let said = flux.says(Duration::from_mins(1), "HealthCheckFailed")?;
    tell(&format!("at rest, wait without spec.healthCheckExprs: {said}"));
    ensure!(said.contains("Deployment/git-lines/shop status: 'InProgress'"), "{said}");
    flux.told(&page::with_health()?)?;
    let said = flux.says(SEEN, "Ready=True")?;
    tell(&format!("with them: {said}"));
    nobody_failed(shop, load)?;
    flux.close()
}
