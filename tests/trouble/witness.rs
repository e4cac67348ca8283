//! What kubectl shows of trouble: the word, the sentence, the condition, the Event; and that nothing was moved by it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

pub(crate) use crate::support::tiny::{smallest, tiny};
use crate::support::{begin, shop::Shop, until};
use crate::{ROLLOUT, SOON, tell};

fn text<'a>(object: &'a Value, at: &str) -> &'a str {
    object.pointer(at).and_then(Value::as_str).unwrap_or_default()
}

fn conditions(delivery: &Value) -> impl Iterator<Item = &Value> {
    delivery.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten()
}

/// Waits until the Delivery says that word, in its status, in a condition and in an Event with the same sentence, which has
/// all of these words in it. Returns the sentence.
pub(crate) fn told(shop: &Shop, delivery: &str, word: &str, words: &[&str]) -> Result<String> {
    told_within(SOON, shop, delivery, word, words)
}

/// The same with more patience.
pub(crate) fn told_within(limit: Duration, shop: &Shop, delivery: &str, word: &str, words: &[&str]) -> Result<String> {
    let said = until(limit, || {
        let seen = shop.object("delivery", delivery)?.with_context(|| format!("Delivery {delivery} is gone"))?;
        let (reason, message) = (text(&seen, "/status/reason"), text(&seen, "/status/message"));
        ensure!(reason == word, "it says {reason}: {message}, and not {word}");
        let missing: Vec<&&str> = words.iter().filter(|w| !message.contains(**w)).collect();
        ensure!(missing.is_empty(), "{message:?} does not say {missing:?}");
        let stands =
            |c: &&Value| matches!(text(c, "/type"), "Stalled" | "Held") && text(c, "/status") == "True" && text(c, "/reason") == word;
        let condition = conditions(&seen).find(stands).with_context(|| format!("no condition says {word}"))?;
        let short = text(condition, "/message").trim_end_matches('…');
        ensure!(message.starts_with(short), "the condition says something else than the status: {short}");
        Ok(message.to_owned())
    })?;
    until(SOON, || {
        let events = shop.bed.list(&shop.ns, "events", "")?;
        let about = |e: &&Value| text(e, "/involvedObject/name") == delivery && text(e, "/reason") == word;
        let notes: Vec<&str> = events.iter().filter(about).map(|e| text(e, "/message")).collect();
        ensure!(notes.contains(&said.as_str()), "no Event of the reason {word} says {said:?}: {notes:?}");
        Ok(())
    })?;
    tell(&format!("{word}: {said}"));
    Ok(said)
}

/// What trouble must not touch.
#[derive(Debug, PartialEq)]
pub(crate) struct Standing {
    template: Value,
    replicas: Value,
    paused: Value,
    generation: Value,
    services: Vec<Value>,
    pods: Vec<String>,
}

impl Standing {
    pub(crate) fn of(shop: &Shop) -> Result<Self> {
        let deployment = shop.object("deployment", "shop")?.context("Deployment shop is gone")?;
        let part = |at: &str| deployment.pointer(at).cloned().unwrap_or_default();
        let services = shop.bed.list(&shop.ns, "services", "")?;
        Ok(Self {
            template: part("/spec/template"),
            replicas: part("/spec/replicas"),
            paused: part("/spec/paused"),
            generation: part("/metadata/generation"),
            services: services.iter().map(|s| json!([s.pointer("/metadata/name"), s.pointer("/spec")])).collect(),
            pods: shop.pod_lives()?,
        })
    }

    /// Nothing of it is otherwise now, and nothing stands beside it.
    pub(crate) fn still(&self, shop: &Shop) -> Result<()> {
        let now = Self::of(shop)?;
        ensure!(now == *self, "something was moved: {self:#?} became {now:#?}");
        let canaries = shop.bed.list(&shop.ns, "deployments", "haldane.dev/track=canary")?.len();
        ensure!(canaries == 0, "{canaries} canaries stand there");
        Ok(())
    }
}

/// The stable pods are those that they were, all ready, and the owner's Deployment is paused.
pub(crate) fn stable_serves(shop: &Shop, before: &[String]) -> Result<()> {
    let now = shop.pod_lives()?;
    let lost: Vec<&String> = before.iter().filter(|pod| !now.contains(pod)).collect();
    ensure!(lost.is_empty(), "stable lost pods or restarted them: {lost:?}");
    let deployment = shop.object("deployment", "shop")?.context("Deployment shop is gone")?;
    ensure!(deployment.pointer("/spec/paused") == Some(&json!(true)), "the gate is open");
    ensure!(deployment.pointer("/status/readyReplicas") == deployment.pointer("/spec/replicas"), "not every stable pod is ready");
    Ok(())
}

/// Makes the shop's Delivery, otherwise than it should be.
pub(crate) fn deliver(shop: &Shop, change: impl FnOnce(&mut Value)) -> Result<()> {
    let mut delivery = shop.delivery();
    change(&mut delivery);
    apply(shop, &delivery)
}

pub(crate) fn apply(shop: &Shop, object: &Value) -> Result<()> {
    shop.kubectl_with(&["apply", "-f", "-"], &object.to_string()).map(drop)
}

/// It goes on by itself: adopted and Ready.
pub(crate) fn goes_on(shop: &Shop, delivery: &str) -> Result<()> {
    let began = begin();
    until(ROLLOUT, || {
        let seen = shop.object("delivery", delivery)?.with_context(|| format!("Delivery {delivery} is gone"))?;
        let ready = conditions(&seen).any(|c| text(c, "/type") == "Ready" && text(c, "/status") == "True");
        let stands = conditions(&seen).any(|c| matches!(text(c, "/type"), "Stalled" | "Held") && text(c, "/status") == "True");
        let (phase, message) = (text(&seen, "/status/phase"), text(&seen, "/status/message"));
        ensure!(phase == "Live" && ready && !stands, "{phase}: {message}");
        Ok(())
    })?;
    tell(&format!("  mended: {delivery} goes on after {:.1} s", began.elapsed().as_secs_f64()));
    Ok(())
}

/// Takes the Delivery away again.
pub(crate) fn undeliver(shop: &Shop, delivery: &str) -> Result<()> {
    shop.kubectl(&["delete", "delivery", delivery, "--ignore-not-found", "--timeout=60s"]).map(drop)
}

/// A JSON patch of the owner's.
pub(crate) fn patch(shop: &Shop, object: &str, patch: &Value) -> Result<()> {
    shop.kubectl(&["patch", object, "--type=json", "-p", &patch.to_string()]).map(drop)
}

/// Another app of the namespace, which must not notice anything.
pub(crate) struct Neighbour(String);

impl Neighbour {
    pub(crate) fn open(shop: &Shop) -> Result<Self> {
        apply(shop, &tiny(shop, "neighbour"))?;
        apply(shop, &smallest("neighbour"))?;
        goes_on(shop, "neighbour")?;
        Ok(Self(Self::seen(shop)?))
    }

    fn seen(shop: &Shop) -> Result<String> {
        let delivery = shop.object("delivery", "neighbour")?.context("the neighbour's Delivery is gone")?;
        let deployment = shop.object("deployment", "neighbour")?.context("the neighbour's Deployment is gone")?;
        let pods = shop.bed.list(&shop.ns, "pods", "app=neighbour")?;
        let uids: Vec<_> = pods.iter().map(|p| p.pointer("/metadata/uid")).collect();
        let (conditions, spec) = (delivery.pointer("/status/conditions"), deployment.pointer("/spec"));
        Ok(json!([text(&delivery, "/status/phase"), text(&delivery, "/status/message"), conditions, spec, uids]).to_string())
    }

    pub(crate) fn noticed_nothing(&self, shop: &Shop) -> Result<()> {
        let now = Self::seen(shop)?;
        ensure!(now == self.0, "the neighbour was {}, and is {now}", self.0);
        Ok(())
    }
}
