//! Argo CD as its documentation has it: a sync is `kubectl apply`, and with `ServerSideApply=true` the same on the server's side, by force.
//! Argo CD itself does not run here.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::flux::InGit;
use super::lines::{half_way, traffic};
use super::support::rest::Hand;
use super::support::shop::{Setup, Shop};
use super::{ROLLOUT, bed, nobody_failed, tell};

const CLIENT: [&str; 1] = ["apply"];
const SERVER: [&str; 4] = ["apply", "--server-side", "--force-conflicts", "--field-manager=argocd-controller"];

/// What a sync of that kind would make of an object.
fn would_be(shop: &Shop, sync: &[&str], manifests: &str, kind: &str) -> Result<Value> {
    let all = shop.kubectl_with(&[sync, &["--dry-run=server", "-o", "json", "-f", "-"]].concat(), manifests)?;
    let list: Value = serde_json::from_str(&all)?;
    let items = list["items"].as_array().context("no list")?;
    items.iter().find(|object| object["kind"] == kind).cloned().with_context(|| format!("no {kind}"))
}

#[test]
fn which_fields_of_a_rollout_a_sync_of_argo_cd_writes() -> Result<()> {
    let shop = Shop::ground(bed()?, "git-argo", Setup::with_approval(3))?;
    let sync = |how: &[&str], version: &str| -> Result<()> {
        let manifests = InGit::All.of(&shop, version)?;
        shop.kubectl_with(&[how, &["-f", "-"]].concat(), &manifests).map(drop)
    };
    sync(&CLIENT, "v1")?;
    shop.is_adopted()?;
    let load = shop.customers(30, 3)?;
    let mut life = shop.follow()?;
    sync(&CLIENT, "v2")?;
    life.until(ROLLOUT, "at 25 %", half_way)?;

    let git = InGit::All.of(&shop, "v2")?;
    let live = |kind: &str| shop.object(kind, "shop")?.with_context(|| format!("{kind} shop is gone"));
    let (service, route, deployment) = (live("service")?, live("httproute")?, live("deployment")?);
    ensure!(service["spec"]["selector"]["pod-template-hash"].is_string(), "nothing is pinned, so nothing can be taken off: {service}");
    for (name, how) in [("kubectl apply", &CLIENT[..]), ("kubectl apply --server-side --force-conflicts", &SERVER[..])] {
        let pin = would_be(&shop, how, &git, "Service")?["spec"]["selector"] == service["spec"]["selector"];
        let rules = would_be(&shop, how, &git, "HTTPRoute")?["spec"]["rules"] == route["spec"]["rules"];
        let gate = would_be(&shop, how, &git, "Deployment")?["spec"] == deployment["spec"];
        tell(&format!("{name} at 25 % leaves the Service's pin: {pin}, the route's rules: {rules}, the gate and the template: {gate}"));
        ensure!(gate, "a sync of what git already says changes the Deployment");
        ensure!(!rules, "the line for routes changes nothing with {name}");
        ensure!(pin == (how == CLIENT), "the line for Services is needed with the other way to apply: {name}");
    }

    nobody_failed(&shop, load)?;

    // And so it is. What that costs without the lines is told, not demanded.
    let load = shop.customers(30, 3)?;
    tell(&format!("before: {}", traffic(&shop)?));
    sync(&CLIENT, "v2")?;
    tell(&format!("after a sync: {}", traffic(&shop)?));
    sync(&SERVER, "v2")?;
    tell(&format!("after one on the server's side: {}", traffic(&shop)?));
    life.until(ROLLOUT, "at 25 % again", half_way)?;
    tell(&format!("git-argo, without the lines: {}", load.stop()?));
    let load = shop.customers(30, 3)?;
    shop.plugin(&["approve", "shop"])?;
    life.until(ROLLOUT, "live on v2", |seen| seen.is_live("v2"))?;
    shop.is_at_rest("v2", Hand::Haldane)?;
    nobody_failed(&shop, load)?;
    shop.close()
}
