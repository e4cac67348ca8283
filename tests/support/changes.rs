//! What owners, their tools and accidents do to an app that Haldane delivers.

use anyhow::{Context as _, Result, bail};

use super::shop::Shop;

/// Each run of Helm takes about a second, as long as a Deployment is between two of its statuses.
const HELM_RUNS: usize = 10;

/// One of them.
pub(crate) struct Change {
    pub(crate) name: &'static str,
    /// It brings another version.
    pub(crate) ships: bool,
    /// Customers may meet errors because of the change itself: no controller can help that.
    pub(crate) hurts: bool,
    /// The version is the new one where it ships, else the one that serves.
    pub(crate) act: fn(&Shop, &str) -> Result<()>,
}

const fn change(name: &'static str, act: fn(&Shop, &str) -> Result<()>) -> Change {
    Change { name, ships: false, hurts: false, act }
}

const fn ships(name: &'static str, act: fn(&Shop, &str) -> Result<()>) -> Change {
    Change { name, ships: true, hurts: false, act }
}

const fn hurting(name: &'static str, act: fn(&Shop, &str) -> Result<()>) -> Change {
    Change { name, ships: false, hurts: true, act }
}

/// All of them; each leaves four replicas wanted.
pub(crate) fn all() -> Vec<Change> {
    vec![
        ships("kubectl set image", |shop, version| shop.set_image(version).context("set image")),
        ships("kubectl apply", |shop, version| shop.kubectl_with(&["apply", "-f", "-"], &shop.manifest(version, "Deployment")?).map(drop)),
        // Its PUT names the version that it read, so that a status of the rolling Deployment may come in between: Helm says so, and its
        // user runs it again.
        ships("helm upgrade --force", |shop, version| {
            for _ in 0..HELM_RUNS {
                match shop.helm(version, &["--force"]) {
                    Err(error) if format!("{error:#}").contains("please apply your changes to the latest version") => {}
                    done => return done,
                }
            }
            bail!("helm upgrade --force met a newer version of its object {HELM_RUNS} times")
        }),
        ships("kubectl replace", |shop, version| {
            shop.kubectl_with(&["replace", "-f", "-"], &shop.manifest(version, "Deployment")?).map(drop)
        }),
        change("scaled to 5 and back", |shop, _| {
            scale(shop, 5)?;
            shop.kubectl(&["wait", "deployment/shop", "--for=jsonpath={.status.replicas}=5", "--timeout=20s"])?;
            scale(shop, 4)
        }),
        change("Service applied again", |shop, version| {
            shop.kubectl_with(&["apply", "-f", "-"], &shop.manifest(version, "Service")?).map(drop)
        }),
        change("kubectl rollout resume", |shop, _| {
            match shop.kubectl(&["rollout", "resume", "deployment/shop"]) {
                // While stable rolls there is nothing to resume, and kubectl says so.
                Err(error) if format!("{error:#}").contains("is not paused") => Ok(()),
                done => done.map(drop),
            }
        }),
        change("a pod deleted", |shop, _| {
            let pods = shop.pods()?;
            let name = pods.first().and_then(|pod| pod.pointer("/metadata/name")).and_then(|name| name.as_str()).context("no pod")?;
            shop.kubectl(&["delete", "pod", name, "--wait=false"]).map(drop)
        }),
        hurting("its ReplicaSets deleted", |shop, _| {
            shop.kubectl(&["delete", "replicasets", "-l", "app=shop,!haldane.dev/track", "--wait=false"]).map(drop)
        }),
        hurting("scaled to 0 and back", |shop, _| {
            scale(shop, 0)?;
            shop.kubectl(&["wait", "deployment/shop", "--for=jsonpath={.spec.replicas}=0", "--timeout=5s"])?;
            std::thread::sleep(std::time::Duration::from_secs(3));
            scale(shop, 4)
        }),
        hurting("Deployment deleted and made again", |shop, version| {
            shop.kubectl(&["delete", "deployment", "shop", "--wait=true", "--timeout=30s"])?;
            shop.kubectl_with(&["apply", "-f", "-"], &shop.manifest(version, "Deployment")?).map(drop)
        }),
    ]
}

fn scale(shop: &Shop, replicas: u8) -> Result<()> {
    shop.kubectl(&["scale", "deployment/shop", &format!("--replicas={replicas}")]).map(drop)
}
