//! A shop that is in git, and Flux, which applies what git says.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::forge::{GitHub, Options, Repository};
use crate::support::audit::{Mark, Write, by_kind};
use crate::support::shop::{Setup, Shop};
use crate::support::{Bed, now_us, until};
use crate::{SEEN, tell};

/// Who applies, as the audit log has it.
const FLUX: &str = "system:kustomize-controller";
/// What belongs to the shop and is not said about Flux itself.
const APPLIED: [&str; 5] = ["deployments", "services", "httproutes", "deliveries", "productionprobes"];
/// This version answers one page with 500 that only the probe asks for.
pub(crate) const BAD: &str = "v3";

/// How much of the shop is in git.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InGit {
    All,
    NoDelivery,
    NoDeployment,
    Nothing,
}

pub(crate) struct Flux<'a> {
    pub(crate) shop: Shop<'a>,
    repository: Repository,
    /// It serves the repository for as long as it is here.
    _forge: GitHub,
}

impl<'a> Flux<'a> {
    /// A shop that Flux has made of what git says, on v1 and adopted.
    pub(crate) fn begin(bed: &'a Bed, namespace: &str, setup: Setup, kustomization: &Value) -> Result<Self> {
        let shop = Shop::ground(bed, namespace, setup)?;
        let forge = GitHub::start(Options { listen: SocketAddr::new(bed.this_end()?, 0), ..Options::default() });
        let repository = forge.repository("acme/shop");
        let new = Self { shop, repository, _forge: forge };
        new.write(&InGit::All.of(&new.shop, "v1")?, "The beginning");
        let url = new.repository.clone_url();
        new.shop.apply(&json!({"apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository", "metadata": {"name": "shop"},
            "spec": {"url": url, "ref": {"branch": "main"}, "interval": "10m"}}))?;
        new.told(kustomization)?;
        new.shop.is_adopted()?;
        Ok(new)
    }

    /// What Flux shall do with it: as the page says, in this namespace.
    pub(crate) fn told(&self, kustomization: &Value) -> Result<()> {
        let mut object = kustomization.clone();
        object["metadata"]["namespace"] = json!(self.shop.ns);
        object["spec"]["targetNamespace"] = json!(self.shop.ns);
        self.shop.apply(&object)
    }

    fn write(&self, content: &str, message: &str) -> String {
        self.repository.commit_files("main", message, &[("shop/shop.yaml", content)])
    }

    /// A commit that Flux has begun to apply; its id.
    pub(crate) fn commit(&self, version: &str, in_git: InGit) -> Result<String> {
        self.commit_text(&in_git.of(&self.shop, version)?, &format!("{version}, {in_git:?}"))
    }

    /// The same with this content.
    pub(crate) fn commit_text(&self, content: &str, message: &str) -> Result<String> {
        let commit = self.write(content, message);
        self.asked("gitrepository", &now_us().to_string())?;
        self.until("lastAttemptedRevision", &commit)?;
        Ok(commit)
    }

    /// It has applied that commit, and is content with what became of it.
    pub(crate) fn applied(&self, commit: &str) -> Result<()> {
        self.until("lastAppliedRevision", commit)
    }

    fn until(&self, field: &str, commit: &str) -> Result<()> {
        until(SEEN, || {
            let object = self.kustomization()?;
            let at = object.pointer(&format!("/status/{field}")).and_then(Value::as_str).unwrap_or_default();
            ensure!(at.ends_with(commit), "{field} is {at:?} and not {commit}: {}", said(&object));
            Ok(())
        })
    }

    /// A sync by the clock, now: what git says is applied again. Returns when that is done.
    pub(crate) fn sync(&self) -> Result<()> {
        let at = now_us().to_string();
        self.asked("kustomization", &at)?;
        until(Duration::from_mins(2), || {
            let object = self.kustomization()?;
            let handled = object.pointer("/status/lastHandledReconcileAt").and_then(Value::as_str).unwrap_or_default();
            ensure!(handled == at, "Flux has not looked again: {}", said(&object));
            Ok(())
        })
    }

    fn asked(&self, kind: &str, at: &str) -> Result<()> {
        let word = format!("reconcile.fluxcd.io/requestedAt={at}");
        self.shop.kubectl(&["annotate", kind, "shop", "--overwrite", &word]).map(drop)
    }

    pub(crate) fn kustomization(&self) -> Result<Value> {
        self.shop.object("kustomization", "shop")?.context("the Kustomization is gone")
    }

    /// The status, reason and message of its condition Ready, in one line.
    pub(crate) fn ready(&self) -> Result<String> {
        self.kustomization().map(|object| said(&object))
    }

    /// Waits until it says this.
    pub(crate) fn says(&self, limit: Duration, wanted: &str) -> Result<String> {
        until(limit, || {
            let ready = self.ready()?;
            ensure!(ready.contains(wanted), "Flux says {ready:?} and not {wanted:?}");
            Ok(ready)
        })
    }

    /// What Flux and Haldane have written of the shop since then.
    pub(crate) fn writes_since(&self, mark: Mark) -> Result<Writes> {
        let all = self.shop.bed.writes_since(mark)?;
        let here = all.into_iter().filter(|w| w.namespace == self.shop.ns && w.succeeded() && !w.dry);
        let (ours, others): (Vec<_>, Vec<_>) = here.partition(Write::ours);
        let flux = others.into_iter().filter(|w| w.user == FLUX && APPLIED.contains(&w.resource.as_str())).collect();
        Ok(Writes { flux, ours })
    }

    /// Ends it: Flux lets go first, else it would make again what is deleted.
    pub(crate) fn close(self) -> Result<()> {
        self.shop.kubectl(&["patch", "kustomization", "shop", "--type=merge", "-p", r#"{"spec": {"suspend": true}}"#])?;
        self.shop.kubectl(&["delete", "kustomization,gitrepository", "shop", "--timeout=60s"])?;
        self.shop.close()
    }
}

fn said(kustomization: &Value) -> String {
    let all = kustomization.pointer("/status/conditions").and_then(Value::as_array);
    let ready = all.into_iter().flatten().find(|c| c["type"] == "Ready").cloned().unwrap_or_default();
    let text = |at: &str| ready[at].as_str().unwrap_or_default().to_owned();
    format!("Ready={} {}: {}", text("status"), text("reason"), text("message"))
}

/// Who wrote what.
pub(crate) struct Writes {
    pub(crate) flux: Vec<Write>,
    pub(crate) ours: Vec<Write>,
}

impl Writes {
    /// How often Flux has written objects of this kind.
    pub(crate) fn of_flux(&self, resource: &str) -> usize {
        self.flux.iter().filter(|w| w.resource == resource).count()
    }

    /// Nobody has written anything.
    pub(crate) fn none(&self) -> Result<()> {
        ensure!(self.flux.is_empty() && self.ours.is_empty(), "{self}");
        Ok(())
    }
}

impl std::fmt::Display for Writes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Flux wrote {}: {:?}; Haldane {}: {:?}", self.flux.len(), by_kind(&self.flux), self.ours.len(), by_kind(&self.ours))
    }
}

impl InGit {
    /// The manifests, in one file.
    pub(crate) fn of(self, shop: &Shop, version: &str) -> Result<String> {
        let fault = format!(r"env.SHOP_FAIL=path=/\,code=500\,version={BAD}");
        let chart = shop.chart(version, &["--set-string", &fault])?;
        let about = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "about"}, "data": {"team": "shop"}}).to_string();
        let mut probe = shop.probe();
        let page = json!({"name": "page", "request": {"path": "/"}, "expect": {"status": [200]}});
        probe["spec"]["steps"].as_array_mut().context("a probe has steps")?.push(page);
        let documents = chart.split("---\n").filter(|document| document.contains("kind:")).map(str::to_owned);
        let wanted = documents.chain([probe.to_string(), shop.delivery().to_string()]).filter(|document| match self {
            Self::All => true,
            Self::NoDelivery => !document.contains(r#""kind":"Delivery""#),
            Self::NoDeployment => !document.contains("kind: Deployment\n"),
            Self::Nothing => false,
        });
        Ok(wanted.chain([about]).collect::<Vec<_>>().join("\n---\n"))
    }
}

/// Which versions there were and what became of them, for a message.
pub(crate) fn releases(shop: &Shop) -> Result<()> {
    tell(&shop.kubectl(&["get", "releases", "-o", "wide"])?);
    Ok(())
}
