//! What must be true whenever nothing is in flight.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::follow::Seen;
use super::shop::Shop;
use super::until;

/// A namespace at rest settles within this: pods that are asked to end serve 3 s more.
const SETTLES: Duration = Duration::from_secs(30);

/// Who has a hand on the shop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hand {
    /// Haldane; the gate is closed.
    Haldane,
    /// Its owner alone.
    Owner,
}

impl Shop<'_> {
    /// Nothing is in flight, every pod runs this version, the Service is as its owner wrote it, no canary is left, and no field is owned by the controller.
    pub(crate) fn is_at_rest(&self, version: &str, hand: Hand) -> Result<()> {
        until(SETTLES, || self.rests(version, hand))
    }

    fn rests(&self, version: &str, hand: Hand) -> Result<()> {
        if hand == Hand::Haldane {
            let seen = Seen { at_us: 0, object: self.object("delivery", "shop")?.context("Delivery shop is gone")? };
            ensure!(matches!(seen.phase(), "Live" | "RolledBack") && seen.live() == version, "it is not at rest on {version}: {seen}");
        }
        let deployment = self.object("deployment", "shop")?.context("Deployment shop is gone")?;
        let paused = deployment.pointer("/spec/paused").and_then(Value::as_bool).unwrap_or_default();
        ensure!(paused == (hand == Hand::Haldane), "Deployment shop has paused={paused}, and the hand on it is {hand:?}");
        let service = self.object("service", "shop")?.context("Service shop is gone")?;
        ensure!(
            service.pointer("/spec/selector") == Some(&json!({"app": "shop"})),
            "the selector of Service shop: {}",
            service.pointer("/spec/selector").unwrap_or(&Value::Null)
        );
        for object in [&deployment, &service] {
            owns_nothing(object)?;
        }
        if let Some(route) = self.object_if_known("httproute", "shop")? {
            owns_nothing(&route)?;
            let part = |at: &str| route.pointer(at).map(ToString::to_string).unwrap_or_default();
            ensure!(!route.to_string().contains("haldane"), "HTTPRoute shop bears a mark of the controller: {}", part("/metadata"));
            ensure!(!part("/spec").contains("canary"), "HTTPRoute shop leads to a canary: {}", part("/spec/rules"));
        }
        let fronts = self.bed.list(&self.ns, "services", "haldane.dev/track=canary")?.len();
        ensure!(fronts == 0, "{fronts} Services of canaries are left");
        let others = self.bed.list(&self.ns, "deployments", "haldane.dev/track=canary")?.len();
        ensure!(others == 0, "{others} canaries are left");
        let wanted = deployment.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or_default();
        self.all_pods_run(version, wanted)
    }

    /// An object of a kind that the cluster may not know.
    fn object_if_known(&self, kind: &str, name: &str) -> Result<Option<Value>> {
        match self.object(kind, name) {
            Err(error) if error.to_string().contains("doesn't have a resource type") => Ok(None),
            other => other,
        }
    }

    /// Waits until nothing is in flight, with any of these versions and hands, and says which.
    pub(crate) fn comes_to_rest(&self, limit: Duration, versions: &[&'static str], hands: &[Hand]) -> Result<&'static str> {
        until(limit, || {
            let mut last = None;
            for (version, hand) in versions.iter().flat_map(|version| hands.iter().map(move |hand| (*version, *hand))) {
                match self.rests(version, hand) {
                    Ok(()) => return Ok(version),
                    Err(error) => last = last.or(Some(error)),
                }
            }
            Err(last.context("no version is allowed")?)
        })
    }

    fn all_pods_run(&self, version: &str, wanted: u64) -> Result<()> {
        let pods = self.pods()?;
        ensure!(pods.len() as u64 == wanted, "{} pods, and the Deployment wants {wanted}", pods.len());
        for pod in &pods {
            let text = |at: &str| pod.pointer(at).and_then(Value::as_str).unwrap_or_default();
            let (name, image) = (text("/metadata/name"), text("/spec/containers/0/image"));
            ensure!(image.ends_with(&format!(":{version}")), "pod {name} runs {image} and not {version}");
            ensure!(ready(pod), "pod {name} is not ready");
        }
        Ok(())
    }

    /// Which pods there are, and how often each was restarted.
    pub(crate) fn pod_lives(&self) -> Result<Vec<String>> {
        let life = |pod: &Value| {
            format!(
                "{} {}",
                pod.pointer("/metadata/uid").unwrap_or(&Value::Null),
                pod.pointer("/status/containerStatuses/0/restartCount").unwrap_or(&Value::Null)
            )
        };
        let mut lives: Vec<String> = self.pods()?.iter().map(life).collect();
        lives.sort();
        Ok(lives)
    }
}

pub(crate) fn ready(pod: &Value) -> bool {
    let all = pod.pointer("/status/conditions").and_then(Value::as_array);
    all.into_iter().flatten().any(|c| c.pointer("/type") == Some(&json!("Ready")) && c.pointer("/status") == Some(&json!("True")))
}

/// No entry of `managedFields` is the controller's.
fn owns_nothing(object: &Value) -> Result<()> {
    let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    for entry in entries.into_iter().flatten() {
        let manager = entry.pointer("/manager").and_then(Value::as_str).unwrap_or_default();
        if manager.contains("haldane") {
            let kind = object.pointer("/kind").unwrap_or(&Value::Null);
            bail!("{kind} shop has fields that {manager} owns: {}", entry.pointer("/fieldsV1").unwrap_or(&Value::Null));
        }
    }
    Ok(())
}
