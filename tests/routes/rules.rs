//! People, windows and limits, as kubectl and the customers see them: a version that waits says for whom, it goes on with a word
//! or when its time has come, and nothing of it ever stands in the way back.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{ROLLOUT, SEEN, bed, calm, halfway, nobody_failed, says, shown, storm, support, waits_at};
use support::follow::{Follow, Seen};
use support::rest::Hand;
use support::shop::{Setup, Shop};
use support::tiny::{smallest, tiny};
use support::{Bed, now_us, said};

/// The weights of the shop's route while the canary has 25 %: each rule has its copy for testers before it.
const QUARTER: &str = "t 75:25 t 75:25";

fn policy(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "haldane.dev/v1alpha1", "kind": "DeliveryPolicy", "metadata": {"name": name}, "spec": spec})
}

/// The policy or the Holds of Haldane's own namespace, which bind every Delivery: they go with the test, also where it fails.
struct OfAll<'a>(&'a Bed);

impl OfAll<'_> {
    fn policy(&self, spec: &Value) -> Result<()> {
        self.0.kubectl_with(&["-n", "haldane-system", "apply", "-f", "-"], &policy("default", spec).to_string()).map(drop)
    }

    fn plugin(&self, args: &[&str]) -> Result<String> {
        let mut command = self.0.command("env");
        said(command.arg(self.0.built("kubectl-haldane")).args(["-n", "haldane-system"]).args(args))
    }
}

impl Drop for OfAll<'_> {
    fn drop(&mut self) {
        // The test has its own word on what went wrong.
        let _ = self.0.kubectl(&["-n", "haldane-system", "delete", "deliverypolicies,holds", "--all"]);
    }
}

/// A tiny app beside the shop, delivered.
fn second(shop: &Shop, name: &str, change: impl FnOnce(&mut Value)) -> Result<()> {
    shop.apply(&tiny(shop, name))?;
    let mut delivery = smallest(name);
    change(&mut delivery);
    shop.apply(&delivery)
}

fn set_image(shop: &Shop, app: &str, tag: &str) -> Result<()> {
    shop.kubectl(&["set", "image", &format!("deployment/{app}"), &format!("shop={}/shop:{tag}", shop.bed.registry)]).map(drop)
}

fn adopted(seen: &Seen) -> bool {
    seen.phase() == "Live" && seen.condition("Ready") == "True"
}

fn follow(shop: &Shop, app: &str) -> Result<Follow> {
    Follow::start(shop.bed, &shop.ns, app)
}

/// It says all of this.
fn ensure_says(seen: &Seen, words: &[&str]) -> Result<()> {
    let missing: Vec<_> = words.iter().filter(|word| !seen.message().contains(**word)).collect();
    ensure!(missing.is_empty(), "{:?} does not say {missing:?}", seen.message());
    Ok(())
}

/// There is nothing of a canary.
fn nothing_was_started(shop: &Shop) -> Result<()> {
    let canaries = shop.bed.list(&shop.ns, "deployments", "haldane.dev/track=canary")?.len();
    ensure!(canaries == 0, "{canaries} canaries stand there");
    Ok(())
}

#[test]
fn a_step_that_needs_an_approval_waits_for_it_and_says_so() -> Result<()> {
    let _calm = calm();
    let (shop, load, mut life) = halfway(bed()?, "rules-approval")?;
    shown(&shop, "waits for an approval")?;
    ensure_says(life.past.last().context("nothing was seen")?, &["v2", "step 3", "50 %", "kubectl haldane approve shop"])?;
    ensure!(shop.weights()? == QUARTER, "{}", shop.weights()?);
    let answer = shop.plugin(&["approve", "shop", "-m", "seen in the shop"])?;
    ensure!(answer.contains("Done"), "{answer}");
    life.until(ROLLOUT, "live on v2", |seen| seen.is_live("v2"))?;
    shop.is_at_rest("v2", Hand::Haldane)?;
    let report = nobody_failed(&shop, load)?;
    ensure!(report.served_by("v2") > 0, "{report}");
    shop.close()
}

#[test]
fn a_bad_version_that_waits_for_an_approval_goes_back_without_one() -> Result<()> {
    let _calm = calm();
    let shop = Shop::delivered(bed()?, "rules-unapproved", Setup::with_approval(2))?;
    let load = shop.customers(30, 3)?;
    let mut life = shop.follow()?;
    shop.set_image("v2")?;
    life.until(ROLLOUT, "at the testers, before an approval", waits_at(1))?;
    for pod in shop.canary_pods()? {
        shop.tell_pod(&pod, "fail?path=/orders&code=500")?;
    }
    let back = life.until(ROLLOUT, "back on v1", |seen| seen.is_back("v1"))?;
    shown(&shop, "bad while it waits for an approval")?;
    ensure_says(&back, &["v2", "/orders", "500"])?;
    shop.is_at_rest("v1", Hand::Haldane)?;
    ensure!(shop.kubectl(&["get", "commands", "-o", "name"])?.is_empty(), "somebody gave an order");
    let report = nobody_failed(&shop, load)?;
    ensure!(report.served_by("v2") == 0, "customers met it before it was approved: {report}");
    shop.close()
}

#[test]
fn behind_a_barrier_it_halts_and_a_person_decides() -> Result<()> {
    let _calm = calm();
    let bed = bed()?;
    let shop = Shop::delivered(bed, "rules-barrier", Setup { steps: vec![(25, "1s")], ..Setup::by_route() })?;
    shop.page_is_probed()?;
    shop.kubectl(&["patch", "delivery", "shop", "--type=merge", "-p", &json!({"spec": {"source": {"manual": {}}}}).to_string()])?;
    let load = shop.customers(30, 3)?;
    let mut life = shop.follow()?;
    shop.plugin(&["release", "shop", "--image", &format!("{}/shop:v2", bed.registry), "--barrier", "orders table was split"])?;
    let asks = life.until(ROLLOUT, "before all of the traffic", waits_at(2))?;
    shown(&shop, "waits before its barrier")?;
    ensure_says(&asks, &["v2", "100 %", "kubectl haldane approve shop"])?;
    shop.fail_the_canary()?;
    let halted = life.until(ROLLOUT, "halted", says("Halted"))?;
    shown(&shop, "halted beyond its barrier")?;
    ensure_says(&halted, &["v2", "500", "orders table was split", "kubectl haldane rollback, retry or promote"])?;
    ensure!(halted.phase() == "Halted" && halted.live() == "v1", "{halted}");
    // Who asks as a customer gets the old version, and the release says what became of it.
    ensure!(shop.asked(&[])? == "v1 200" && !shop.weights()?.contains("75:25"), "{}", shop.weights()?);
    support::until(SEEN, || {
        let outcome = shop.kubectl(&["get", "releases", "-o", "jsonpath={.items[*].status.outcome}"])?;
        ensure!(outcome.contains("Halted"), "{outcome}");
        Ok(())
    })?;
    shop.canary_pods()?.iter().try_for_each(|pod| shop.tell_pod(pod, "heal"))?;
    shop.plugin(&["retry", "shop", "-m", "healed"])?;
    life.until(ROLLOUT, "before all of the traffic again", waits_at(2))?;
    shop.plugin(&["approve", "shop"])?;
    life.until(ROLLOUT, "live on v2", |seen| seen.is_live("v2"))?;
    shop.is_at_rest("v2", Hand::Haldane)?;
    nobody_failed(&shop, load)?;
    shop.close()
}

/// A window that is closed now, and when it opens: three days from today.
fn later() -> Result<(Value, String)> {
    let today = jiff::Timestamp::from_microsecond(now_us())?.to_zoned(jiff::tz::TimeZone::UTC).date();
    let day = today.checked_add(jiff::Span::new().days(3))?;
    let name: String = format!("{:?}", day.weekday()).chars().take(3).collect();
    Ok((json!({"windows": [{"days": [name], "from": "10:00", "to": "11:00"}]}), format!("{day}T10:00:00Z")))
}

fn always_open() -> Value {
    json!({"windows": [{"days": ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"], "from": "00:00", "to": "24:00"}]})
}

#[test]
fn outside_of_a_window_nothing_starts_and_what_has_started_goes_on_and_back() -> Result<()> {
    let _storm = storm();
    let bed = bed()?;
    let shop = Shop::delivered(bed, "rules-window", Setup { guard: "60s", ..Setup::with_approval(3) })?;
    shop.page_is_probed()?;
    let load = shop.customers(30, 3)?;
    let mut life = shop.follow()?;
    let (closed, opens) = later()?;
    let all = OfAll(bed);
    all.policy(&closed)?;
    shop.set_image("v2")?;
    let waits = life.until(SEEN, "outside of the window", says("WindowClosed"))?;
    shown(&shop, "outside of the window of all")?;
    ensure_says(&waits, &["haldane-system/default", &opens])?;
    nothing_was_started(&shop)?;
    all.policy(&always_open())?;
    life.until(ROLLOUT, "at 25 %", waits_at(2))?;
    all.policy(&closed)?;
    shop.plugin(&["approve", "shop"])?;
    life.until(ROLLOUT, "guarding outside of the window", |seen| seen.phase() == "Guarding")?;
    shop.fail_the_canary()?;
    life.until(ROLLOUT, "back on v1 outside of the window", |seen| seen.is_back("v1"))?;
    shown(&shop, "taken back outside of the window")?;
    shop.is_at_rest("v1", Hand::Haldane)?;
    drop(all);
    nobody_failed(&shop, load)?;
    shop.close()
}

#[test]
fn a_hold_on_everything_holds_all_but_the_way_back() -> Result<()> {
    let _storm = storm();
    let bed = bed()?;
    let shop = Shop::delivered(bed, "rules-hold", Setup::with_approval(3))?;
    shop.page_is_probed()?;
    let load = shop.customers(30, 3)?;
    let mut life = shop.follow()?;
    let all = OfAll(bed);
    all.plugin(&["hold", "--all", "-m", "the shops are full"])?;
    shop.set_image("v2")?;
    let held = life.until(SEEN, "held", says("Held"))?;
    shown(&shop, "everything is held")?;
    ensure_says(&held, &["held by", "the shops are full"])?;
    nothing_was_started(&shop)?;
    all.plugin(&["unhold", "--all"])?;
    life.until(ROLLOUT, "at 25 %", waits_at(2))?;
    all.plugin(&["hold", "--all", "-m", "full again"])?;
    life.until(SEEN, "held at 25 %", says("Held"))?;
    shop.plugin(&["approve", "shop"])?;
    shop.fail_the_canary()?;
    life.until(ROLLOUT, "back on v1 while all is held", |seen| seen.is_back("v1"))?;
    shown(&shop, "taken back while everything is held")?;
    ensure!(life.past.iter().all(|seen| seen.step().is_none_or(|step| step < 3)), "it went on while it was held. {}", life.story());
    shop.is_at_rest("v1", Hand::Haldane)?;
    drop(all);
    nobody_failed(&shop, load)?;
    shop.close()
}

/// The versions of the object in which a rollout was on its way.
fn on_their_way(life: &Follow) -> Vec<u64> {
    let rolling = life.past.iter().filter(|seen| seen.object.pointer("/status/rollout").is_some());
    rolling.filter_map(|seen| seen.object["metadata"]["resourceVersion"].as_str()?.parse().ok()).collect()
}

#[test]
fn a_cap_lets_one_version_go_after_the_other() -> Result<()> {
    let _calm = calm();
    let bed = bed()?;
    let shop = Shop::delivered(bed, "rules-cap", Setup::with_approval(3))?;
    second(&shop, "other", |_| ())?;
    let mut other = follow(&shop, "other")?;
    other.until(ROLLOUT, "adopted", adopted)?;
    shop.apply(&policy("default", &json!({"caps": {"rollouts": 1}})))?;
    let load = shop.customers(30, 3)?;
    let mut life = shop.follow()?;
    shop.set_image("v2")?;
    life.until(ROLLOUT, "at 25 %", waits_at(2))?;
    set_image(&shop, "other", "v2")?;
    let waits = other.until(SEEN, "waiting for its turn", says("CapReached"))?;
    shown(&shop, "the second waits")?;
    ensure_says(&waits, &["before it has ended (shop)", "DeliveryPolicy default lets no more than 1"])?;
    shop.plugin(&["approve", "shop"])?;
    life.until(ROLLOUT, "live on v2", |seen| seen.is_live("v2"))?;
    other.until(ROLLOUT, "live on v2", |seen| seen.is_live("v2"))?;
    // Both were never on their way at once, by the order in which the API server stored it.
    let (first, next) = (on_their_way(&life), on_their_way(&other));
    ensure!(first.last() < next.first(), "the first was on its way at {first:?}, and the second at {next:?}");
    nobody_failed(&shop, load)?;
    shop.close()
}

#[test]
fn when_several_apps_fail_at_once_the_others_wait_and_those_go_back() -> Result<()> {
    let _storm = storm();
    let bed = bed()?;
    let shop = Shop::delivered(bed, "rules-shared", Setup::by_route())?;
    let failing = ["first", "second", "third"];
    for app in failing {
        second(&shop, app, |_| ())?;
    }
    let load = shop.customers(30, 3)?;
    let mut life = shop.follow()?;
    let mut lives: Vec<Follow> = failing.iter().map(|app| follow(&shop, app)).collect::<Result<_>>()?;
    for one in &mut lives {
        one.until(ROLLOUT, "adopted", adopted)?;
    }
    for app in failing {
        shop.kubectl(&["set", "env", &format!("deployment/{app}"), "SHOP_EXIT_AT_START=1"])?;
    }
    // The third as well as the first: a shared cause holds nobody on the way back.
    for one in &mut lives {
        one.until(ROLLOUT, "taken back", |seen| seen.phase() == "RolledBack")?;
    }
    shop.set_image("v2")?;
    let waits = life.until(SEEN, "waiting", says("SharedCause"))?;
    shown(&shop, "three apps failed at once")?;
    ensure_says(&waits, &["within 2 minutes (first, second, third"])?;
    nothing_was_started(&shop)?;
    for app in failing {
        shop.kubectl(&["delete", "delivery", app, "--timeout=60s"])?;
    }
    life.until(ROLLOUT, "live on v2", |seen| seen.is_live("v2"))?;
    shop.is_at_rest("v2", Hand::Haldane)?;
    nobody_failed(&shop, load)?;
    shop.close()
}

/// What its owner and the apiserver have of it: without the status, and without who wrote that.
fn as_written(shop: &Shop, kind: &str) -> Result<Value> {
    let object = shop.object(kind, "shop")?.with_context(|| format!("{kind} shop is gone"))?;
    let mut metadata = object["metadata"].clone();
    let status = |entry: &Value| entry["subresource"] == "status";
    if let Some(entries) = metadata["managedFields"].as_array_mut() {
        let others = entries.iter().any(status);
        entries.retain(|entry| !status(entry));
        if others && let Some(metadata) = metadata.as_object_mut() {
            // It moves with the status.
            metadata.remove("resourceVersion");
        }
    }
    Ok(json!([metadata, object["spec"]]))
}

fn all_as_written(shop: &Shop) -> Result<Vec<Value>> {
    ["deployment", "service", "httproute"].into_iter().map(|kind| as_written(shop, kind)).collect()
}

#[test]
fn in_mode_observe_it_says_what_it_would_do_and_writes_nothing_else() -> Result<()> {
    let _calm = calm();
    let bed = bed()?;
    let shop = Shop::open(bed, "rules-observe", Setup::by_route())?;
    let load = shop.customers(30, 3)?;
    let (before, mark) = (all_as_written(&shop)?, bed.audit_mark()?);
    let mut delivery = shop.delivery();
    delivery["spec"]["mode"] = "Observe".into();
    shop.apply(&shop.probe())?;
    shop.apply(&delivery)?;
    let mut life = shop.follow()?;
    let would = life.until(SEEN, "observing", says("WouldDeliver"))?;
    shown(&shop, "mode: Observe")?;
    ensure_says(&would, &["Deployment shop", "v1", "testers, 25 %, 50 %, 100 %"])?;
    // The owner's own rollout goes as it would without anybody.
    shop.set_image("v2")?;
    shop.kubectl(&["rollout", "status", "deployment/shop", "--timeout=90s"])?;
    let seen = life.until(ROLLOUT, "aware of v2", |seen| seen.message().contains("gated at v2"))?;
    ensure!(seen.phase() != "Canary", "{seen}");
    shop.is_at_rest("v2", Hand::Owner)?;
    let after = all_as_written(&shop)?;
    ensure!(after.get(1..) == before.get(1..), "the Service or the route was written: {before:#?}\n{after:#?}");
    let of_others: Vec<_> = bed.writes_since(mark)?.into_iter().filter(|w| w.ours() && w.namespace == shop.ns).collect();
    let others: Vec<_> = of_others.iter().filter(|w| w.resource != "deliveries/status").collect();
    ensure!(others.is_empty() && !of_others.is_empty(), "more than the status was written: {others:?}");
    let before = all_as_written(&shop)?;
    shop.kubectl(&["annotate", "delivery", "shop", "looked=again"])?;
    ensure!(all_as_written(&shop)? == before, "something was written: {before:#?}");
    // Told to deliver, it does.
    shop.kubectl(&["patch", "delivery", "shop", "--type=merge", "-p", &json!({"spec": {"mode": "Deliver"}}).to_string()])?;
    life.until(ROLLOUT, "adopted", adopted)?;
    shop.is_at_rest("v2", Hand::Haldane)?;
    nobody_failed(&shop, load)?;
    shop.close()
}

#[test]
fn a_policy_that_makes_no_sense_is_refused_or_told_and_hurts_nobody_else() -> Result<()> {
    let _calm = calm();
    let bed = bed()?;
    let shop = Shop::delivered(bed, "rules-bad", Setup::with_approval(3))?;
    let window = |from: &str, to: &str, zone: &str| json!({"windows": [{"days": ["Mon"], "from": from, "to": to, "timeZone": zone}]});
    let refused = [
        (window("09:00", "09:00", "UTC"), "for a whole day write 00:00 and 24:00"),
        (window("9:00", "10:00", "UTC"), "spec.windows[0].from"),
        (window("09:00", "25:00", "UTC"), "spec.windows[0].to"),
        (window("09:00", "10:00", "Europe Berlin"), "spec.windows[0].timeZone"),
        (json!({"exceptions": [{"from": "2026-12-24", "to": "2026-12-23"}]}), "to is before from"),
        (json!({"caps": {"rollouts": 0}}), "spec.caps.rollouts"),
        (json!({"limits": {"firstWeight": 100}}), "spec.limits.firstWeight"),
    ];
    for (spec, word) in refused {
        let said = shop.apply(&policy("default", &spec)).err().with_context(|| format!("{spec} was taken"))?.to_string();
        ensure!(said.contains(word), "{spec}: {said:?} does not say {word:?}");
    }
    second(&shop, "other", |delivery| delivery["spec"]["policyRef"] = json!({"name": "fine"}))?;
    shop.apply(&policy("fine", &always_open()))?;
    let mut other = follow(&shop, "other")?;
    other.until(ROLLOUT, "adopted", adopted)?;
    let load = shop.customers(30, 3)?;
    let mut life = shop.follow()?;
    shop.page_is_probed()?;
    shop.set_image("v2")?;
    life.until(ROLLOUT, "at 25 %", waits_at(2))?;
    // What only a time zone database knows, and a calendar.
    shop.apply(&policy("default", &window("09:00", "10:00", "Europe/Atlantis")))?;
    let told = life.until(SEEN, "told", says("PolicyInvalid"))?;
    shown(&shop, "a time zone that there is not")?;
    ensure_says(&told, &["DeliveryPolicy default", "Europe/Atlantis is no time zone"])?;
    let said = shop.kubectl(&["wait", "dpol/default", "--for=condition=Accepted=false", "--timeout=10s"])?;
    super::tell(&said);
    super::tell(&shop.kubectl(&["get", "dpol", "-o", "wide"])?);
    shop.kubectl(&["wait", "dpol/fine", "--for=condition=Accepted", "--timeout=10s"])?;
    shop.apply(&policy("default", &json!({"exceptions": [{"from": "2026-02-30"}]})))?;
    life.until(SEEN, "told of the day", |seen| seen.message().contains("2026-02-30 is no day"))?;
    set_image(&shop, "other", "v2")?;
    other.until(ROLLOUT, "live on v2", |seen| seen.is_live("v2"))?;
    shop.fail_the_canary()?;
    life.until(ROLLOUT, "back on v1", |seen| seen.is_back("v1"))?;
    shop.is_at_rest("v1", Hand::Haldane)?;
    nobody_failed(&shop, load)?;
    shop.close()
}
