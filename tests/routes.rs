//! The route way on a real cluster: a Gateway API data plane takes the customers to a shop, and kubectl, curl and the customers' own
//! records say what became of them.

#[allow(dead_code, reason = "the other tests and the measurements use the rest")]
mod support;

#[path = "routes/bad_input.rs"]
mod bad_input;
#[path = "routes/before.rs"]
mod before;
#[path = "routes/cron.rs"]
mod cron;
#[path = "routes/external.rs"]
mod external;
#[path = "routes/flows.rs"]
mod flows;
#[path = "routes/helm.rs"]
mod helm;
#[path = "routes/killed.rs"]
mod killed;
#[path = "routes/kinds.rs"]
mod kinds;
#[path = "routes/logs.rs"]
mod logs;
#[path = "routes/mid_rollout.rs"]
mod mid_rollout;
#[path = "routes/numbers.rs"]
mod numbers;
#[path = "routes/prometheus.rs"]
mod prometheus;
#[path = "routes/requests.rs"]
mod requests;
#[path = "routes/rules.rs"]
mod rules;
#[path = "routes/small.rs"]
mod small;
#[path = "routes/suites.rs"]
mod suites;

use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::{Value, json};

use support::follow::{Follow, Seen};
use support::load::Load;
use support::rest::Hand;
use support::shop::{Setup, Shop};
use support::{Bed, said};

/// A rollout of these tests takes about 25 s on a quiet machine.
const ROLLOUT: Duration = Duration::from_mins(2);
/// Something wrong is seen within this.
const SEEN: Duration = Duration::from_secs(30);
/// Writes of a route in a rollout of testers and three shares: each of those, everything, home, and then our mark and our name off it.
const WRITES: usize = 4 + 1 + 1 + 2;

/// The cluster `test`, which other tests share; `ROUTES_CLUSTER` names another.
fn bed() -> Result<&'static Bed> {
    static BED: OnceLock<Result<Bed, String>> = OnceLock::new();
    let name = || std::env::var("ROUTES_CLUSTER").unwrap_or_else(|_| "test".to_owned());
    let up = || Bed::up(&name()).and_then(|bed| bed.gateway().map(|_| bed)).map_err(|error| format!("{error:#}"));
    BED.get_or_init(up).as_ref().map_err(|error| anyhow!("{error}"))
}

/// What is said in Haldane's own namespace, and apps that fail together, hold every shop of the cluster: nobody else ships then.
static ALL: RwLock<()> = RwLock::new(());

/// Nobody holds all while this is held.
fn calm() -> RwLockReadGuard<'static, ()> {
    ALL.read().unwrap_or_else(PoisonError::into_inner)
}

/// All may be held.
fn storm() -> RwLockWriteGuard<'static, ()> {
    ALL.write().unwrap_or_else(PoisonError::into_inner)
}

/// Says how far a test is; the harness itself is silent until the end.
fn tell(what: &str) {
    eprintln!("     {what}");
}

/// What people see of it.
fn shown(shop: &Shop, what: &str) -> Result<()> {
    tell(&format!("{what}\n{}", shop.kubectl(&["get", "dlv", "-o", "wide"])?));
    Ok(())
}

fn says(reason: &'static str) -> impl Fn(&Seen) -> bool {
    move |seen| seen.reason() == reason
}

/// It waits for an approval while it has that step.
fn waits_at(step: i64) -> impl Fn(&Seen) -> bool {
    move |seen| seen.reason() == "ApprovalRequired" && seen.step() == Some(step)
}

/// A shop with customers whose v2 has 25 % of the requests, and more only with an approval.
fn halfway<'a>(bed: &'a Bed, namespace: &str) -> Result<(Shop<'a>, Load, Follow)> {
    let shop = Shop::delivered(bed, namespace, Setup::with_approval(3))?;
    let load = shop.customers(30, 3)?;
    let mut life = shop.follow()?;
    shop.set_image("v2")?;
    life.until(ROLLOUT, "at 25 %, before an approval", waits_at(2))?;
    Ok((shop, load, life))
}

/// The end of a test whose customers met nothing but answers.
fn nobody_failed(shop: &Shop, load: Load) -> Result<support::load::Report> {
    let report = load.stop()?;
    tell(&format!("{}: {report}", shop.ns));
    ensure!(report.failed() == 0, "{report}");
    Ok(report)
}

impl Shop<'_> {
    /// The probe asks for the page as well, which no customer does: a version that fails there alone harms nobody.
    fn page_is_probed(&self) -> Result<()> {
        let page = json!([{"op": "add", "path": "/spec/steps/-", "value": {"name": "page", "request": {"path": "/"}, "expect": {"status": [200]}}}]);
        self.kubectl(&["patch", "productionprobe", "buy", "--type=json", "-p", &page.to_string()]).map(drop)
    }

    /// The canary fails where only the probe asks.
    fn fail_the_canary(&self) -> Result<()> {
        let pods = self.canary_pods()?;
        ensure!(!pods.is_empty(), "there is no canary");
        pods.iter().try_for_each(|pod| self.tell_pod(pod, "fail?path=/&code=500"))
    }

    /// Which version answers a customer with these headers.
    fn asked(&self, headers: &[&str]) -> Result<String> {
        let mut command = self.bed.inside("curl");
        command.args(["-s", "-m", "2", "-o", "/dev/null", "-w", "%header{x-shop-version} %{http_code}"]);
        for header in headers {
            command.args(["-H", header]);
        }
        let host = format!("Host: {}", self.host());
        said(command.args(["-H", &host, &format!("http://{}/products", self.bed.gateway()?)]))
    }

    fn route(&self) -> Result<Value> {
        self.object("httproute", "shop")?.context("HTTPRoute shop is gone")
    }

    /// The weights of the canary in its rules, in their order; a rule of testers is `t`.
    fn weights(&self) -> Result<String> {
        let rules = self.route()?["spec"]["rules"].as_array().cloned().unwrap_or_default();
        let backend = |rule: &Value, name: &str| {
            let all = rule["backendRefs"].as_array().cloned().unwrap_or_default();
            all.into_iter().find(|backend| backend["name"] == name).and_then(|backend| backend["weight"].as_u64())
        };
        let said = rules.iter().map(|rule| match (backend(rule, "shop"), backend(rule, "shop-canary")) {
            (Some(stable), Some(canary)) => format!("{stable}:{canary}"),
            (Some(_), None) => "home".to_owned(),
            (None, Some(_)) => "t".to_owned(),
            (None, None) => "other".to_owned(),
        });
        Ok(said.collect::<Vec<_>>().join(" "))
    }
}

/// Ships v2 while customers ask by the route, and returns what they met.
fn good_release(namespace: &str, on_term: &'static str) -> Result<support::load::Report> {
    let bed = bed()?;
    let shop = Shop::delivered(bed, namespace, Setup { on_term, steps: vec![(5, "2s"), (25, "2s"), (50, "2s")], ..Setup::by_route() })?;
    let before = shop.route()?;
    let mark = bed.audit_mark()?;
    let load = shop.customers(50, 5)?;
    let mut life = shop.follow()?;
    shop.helm("v2", &[])?;
    life.until(ROLLOUT, "at the testers", |seen| seen.phase() == "Canary" && seen.step() == Some(1))?;
    support::until(Duration::from_secs(3), || {
        let tested = (shop.asked(&["X-Haldane-Track: canary"])?, shop.asked(&[])?);
        ensure!(
            tested == ("v2 200".to_owned(), "v1 200".to_owned()),
            "a tester and a customer were answered by {tested:?}: {}",
            shop.weights()?
        );
        Ok(())
    })?;
    let seen = shop.kubectl(&["get", "dlv", "shop", "-o", "wide"])?;
    tell(&seen);
    life.until(ROLLOUT, "live on v2", |seen| seen.is_live("v2"))?;
    shop.is_at_rest("v2", Hand::Haldane)?;
    let after = shop.route()?;
    ensure!(after["spec"] == before["spec"], "the route is not as its owner wrote it: {}\n{}", after["spec"], before["spec"]);
    ensure!(
        after["metadata"]["annotations"] == before["metadata"]["annotations"]
            && after["metadata"]["labels"] == before["metadata"]["labels"],
        "{}",
        after["metadata"]
    );
    let report = load.stop()?;
    tell(&format!("{namespace}: {report}"));
    ensure!(report.served_by("v2") > 0 && report.served_by("v1") > 0, "both versions serve customers in a rollout: {report}");
    let writes: Vec<_> = bed.writes_since(mark)?.into_iter().filter(|w| w.ours() && w.succeeded() && w.namespace == namespace).collect();
    let counted = support::audit::by_kind(&writes);
    tell(&format!("{namespace}: {} writes: {counted:?}", writes.len()));
    let of_route = writes.iter().filter(|w| w.resource == "httproutes").count();
    ensure!(of_route == WRITES, "{of_route} writes of the route, not {WRITES}: {counted:?}");
    shop.nothing_was_forbidden(mark)?;
    shop.close()?;
    Ok(report)
}

#[test]
fn a_good_release_by_a_route_fails_no_request_of_an_app_that_drains() -> Result<()> {
    let _calm = calm();
    let report = good_release("route-drain", "drain")?;
    ensure!(report.failed() == 0, "{report}");
    Ok(())
}

#[test]
fn nor_of_one_that_exits_at_once() -> Result<()> {
    let _calm = calm();
    let report = good_release("route-exit", "exit")?;
    ensure!(report.failed() == 0, "{report}");
    Ok(())
}

#[test]
fn a_bad_release_by_a_route_is_taken_back_and_only_its_own_share_fails() -> Result<()> {
    let _calm = calm();
    let bed = bed()?;
    let shop = Shop::delivered(bed, "route-bad", Setup::by_route())?;
    let before = shop.route()?;
    let load = shop.customers(50, 5)?;
    let mut life = shop.follow()?;
    shop.ship_broken("v2", 40)?;
    life.until(ROLLOUT, "in its first share", |seen| seen.phase() == "Canary" && seen.step() == Some(2))?;
    let back = life.until(ROLLOUT, "back on v1", |seen| seen.is_back("v1"))?;
    shop.is_at_rest("v1", Hand::Haldane)?;
    ensure!(shop.route()?["spec"] == before["spec"], "the route is not as its owner wrote it");
    let report = load.stop()?;
    tell(&format!("route-bad: {report}; {}", back.message()));
    ensure!(report.failed_beside("v2") == 0, "somebody else failed, too: {report}");
    ensure!(report.served_by("v2") > 0, "the bad version reached nobody, so nothing was tested: {report}");
    tell(&shop.kubectl(&["get", "dlv", "shop", "-o", "wide"])?);
    shop.close()
}

#[test]
fn at_full_weight_the_old_pods_are_warm_and_it_is_one_write_back() -> Result<()> {
    let _calm = calm();
    let bed = bed()?;
    let shop = Shop::delivered(bed, "route-guard", Setup { guard: "60s", ..Setup::by_route() })?;
    let load = shop.customers(50, 5)?;
    let mut life = shop.follow()?;
    shop.helm("v2", &[])?;
    life.until(ROLLOUT, "guarding", |seen| seen.phase() == "Guarding")?;
    let mark = bed.audit_mark()?;
    // All of its pods, at once: one bad pod of four would be suspected as soon, and condemned after some minutes.
    shop.canary_pods()?.iter().try_for_each(|pod| shop.tell_pod(pod, "fail?path=/orders&code=500"))?;
    life.until(ROLLOUT, "back on v1", |seen| seen.is_back("v1"))?;
    shop.is_at_rest("v1", Hand::Haldane)?;
    let report = load.stop()?;
    tell(&format!("route-guard: {report}"));
    ensure!(report.failed_beside("v2") == 0, "somebody else failed, too: {report}");
    let writes = bed.writes_since(mark)?;
    let first = writes.iter().find(|w| w.ours() && w.namespace == "route-guard" && !w.resource.ends_with("/status"));
    ensure!(first.is_some_and(|w| w.resource == "httproutes"), "the first write of the way back was not the route's: {first:?}");
    shop.close()
}

#[test]
fn deleting_the_delivery_in_mid_rollout_brings_the_route_home() -> Result<()> {
    let _calm = calm();
    let bed = bed()?;
    let shop = Shop::delivered(bed, "route-leave", Setup { guard: "60s", ..Setup::by_route() })?;
    let before = shop.route()?;
    let load = shop.customers(50, 5)?;
    let mut life = shop.follow()?;
    shop.helm("v2", &[])?;
    life.until(ROLLOUT, "guarding", |seen| seen.phase() == "Guarding")?;
    shop.kubectl(&["delete", "delivery", "shop", "--cascade=foreground", "--timeout=60s"])?;
    shop.is_at_rest("v1", Hand::Owner)?;
    ensure!(shop.route()?["spec"] == before["spec"], "the route is not as its owner wrote it");
    let report = load.stop()?;
    tell(&format!("route-leave: {report}"));
    ensure!(report.failed() == 0, "{report}");
    shop.close()
}

/// Runs by the route so far, as the controller that leads counts them, by side and what came of them.
fn runs_by_the_route(bed: &Bed, side: &str, result: &str) -> Result<f64> {
    let path = format!("/api/v1/namespaces/haldane-system/pods/{}:8080/proxy/metrics", bed.leader()?.name);
    let metrics = bed.kubectl(&["get", "--raw", &path])?;
    let labels = [format!("side=\"{side}\""), format!("result=\"{result}\""), "via=\"route\"".to_owned()];
    let counted = |line: &&str| line.starts_with("haldane_probe_runs_total{") && labels.iter().all(|label| line.contains(label));
    // Other tests have probes as well, but none of them goes by a route.
    let count = metrics.lines().find(counted).and_then(|line| line.rsplit(' ').next()).unwrap_or("0");
    count.parse().with_context(|| format!("no number: {count}"))
}

#[test]
fn a_probe_goes_the_way_of_the_customers_while_testers_are_on_the_route() -> Result<()> {
    let _calm = calm();
    let bed = bed()?;
    let shop = Shop::delivered(bed, "route-probed", Setup { testers: Some("15s"), ..Setup::by_route() })?;
    let via = json!({"spec": {"target": {"via": ["Pods", "Route"], "answeredBy": {"header": "X-Shop-Version"}}}});
    shop.kubectl(&["patch", "productionprobe", "buy", "--type=merge", "-p", &via.to_string()])?;
    let before = (runs_by_the_route(bed, "canary", "pass")?, runs_by_the_route(bed, "stable", "pass")?);
    let mut life = shop.follow()?;
    shop.helm("v2", &[])?;
    life.until(ROLLOUT, "at the testers", |seen| seen.phase() == "Canary" && seen.step() == Some(1))?;
    life.until(ROLLOUT, "live on v2", |seen| seen.is_live("v2"))?;
    let after = (runs_by_the_route(bed, "canary", "pass")?, runs_by_the_route(bed, "stable", "pass")?);
    tell(&format!("good runs by the route, canary and stable: {before:?} → {after:?}"));
    ensure!(after.0 > before.0 && after.1 > before.1, "no side was asked by the route: {before:?} → {after:?}. {}", life.story());
    let failed = runs_by_the_route(bed, "canary", "http-status")?;
    ensure!(failed == 0.0, "{failed} runs by the route failed on a good version");
    shop.is_at_rest("v2", Hand::Haldane)?;
    shop.close()
}
