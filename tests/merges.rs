//! From a merge to production on a real cluster: a branch in a real git repository behind a model of GitHub, images in a real
//! registry, the operator in the cluster.
//!
//! The cluster is `merges`, because the operator is told of a forge there. `make test-cluster`.

#[path = "forge/mod.rs"]
mod forge;
#[allow(dead_code, reason = "the measurements and the matrix use the rest")]
mod support;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use forge::{Checks, GitHub, Method, Options, Repository};
use support::shop::{Setup, Shop};
use support::{Bed, said, until};

/// A sweep a minute, and a rollout of 20 s.
const DELIVERED: Duration = Duration::from_mins(3);
const SOON: Duration = Duration::from_secs(30);

/// The operator knows this GitHub, and namespace `merges` may deliver from `acme`.
fn know(bed: &Bed, github: &GitHub) -> Result<()> {
    let app = github.app();
    let key = bed.scratch("app.pem");
    std::fs::write(&key, &app.pem)?;
    let system = ["-n", "haldane-system"];
    bed.kubectl(&[&system[..], &["delete", "secret", "haldane-github", "--ignore-not-found"]].concat())?;
    let (id, url) = (format!("--from-literal=appId={}", app.id), format!("--from-literal=url={}", github.url()));
    let key = format!("--from-file=privateKey={}", key.display());
    bed.kubectl(&[&system[..], &["create", "secret", "generic", "haldane-github", &id, &url, &key]].concat())?;
    let mut helm = bed.command("helm");
    helm.args(["upgrade", "haldane", "charts/haldane", "-n", "haldane-system", "--reuse-values", "--wait", "--timeout", "3m"]);
    helm.args(["--set", "github.secretName=haldane-github", "--set", "github.grants[0].repositories={acme/*}"]);
    helm.args(["--set", "github.grants[0].namespaces={merges}", "--set", &format!("registries.insecure={{{}}}", bed.registry)]);
    said(&mut helm)?;
    Ok(())
}

/// The image of a commit, which says what its version says; its label names that commit.
fn push(bed: &Bed, commit: &str, version: &str) -> Result<()> {
    let file = bed.scratch(&format!("version-{version}"));
    std::fs::write(&file, format!("{version}\n"))?;
    let mut image = bed.cluster("image");
    image.arg(bed.released("examples/shop")).arg(format!("shop:sha-{commit}")).arg(format!("{}=/version", file.display()));
    said(&mut image).map(drop)
}

/// A merge with green checks and its image.
fn merge(bed: &Bed, repository: &Repository, title: &str, version: &str) -> Result<String> {
    let number = repository.change("work", title);
    let commit = repository.merge(number, Method::Squash);
    push(bed, &commit, version)?;
    repository.checks(&commit, Checks::actions("ci").done("success"));
    Ok(commit)
}

fn short(commit: &str) -> &str {
    commit.get(..7).unwrap_or(commit)
}

fn releases(shop: &Shop) -> Result<Vec<(String, String, String)>> {
    let all = shop.bed.list(&shop.ns, "releases", "")?;
    let text = |r: &Value, at: &str| r.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut merges: Vec<&Value> = all.iter().filter(|r| r.pointer("/spec/place").is_some()).collect();
    merges.sort_by_key(|r| r.pointer("/spec/place").and_then(Value::as_i64));
    Ok(merges.iter().map(|r| (text(r, "/spec/version"), text(r, "/spec/image"), text(r, "/status/outcome"))).collect())
}

#[test]
fn a_merge_goes_to_production_and_a_bad_one_comes_back() -> Result<()> {
    let bed = &Bed::up("merges")?;
    // This machine's end of the cable to the cluster.
    let host: IpAddr = gateway(bed)?;
    let github = GitHub::start(Options { listen: SocketAddr::new(host, 0), ..Options::default() });
    github.install("acme");
    let repository = github.repository_with("acme/shop", &["ci"]);
    know(bed, &github)?;
    let shop = Shop::open(bed, "merges", Setup::default())?;
    // The third version answers orders with 500.
    shop.helm("v1", &["--set-string", r"env.SHOP_FAIL=path=/orders\,code=500\,version=three"])?;
    shop.kubectl(&["rollout", "status", "deployment/shop", "--timeout=90s"])?;
    let mut delivery = shop.delivery();
    delivery["spec"]["source"] = json!({
        "github": {"repository": "acme/shop", "when": {"type": "Checks"}},
        "image": {"repository": format!("{}/shop", bed.registry), "tag": "sha-{sha}"},
    });
    for object in [shop.probe(), delivery.clone()] {
        shop.kubectl_with(&["apply", "-f", "-"], &object.to_string())?;
    }
    shop.follow()?.until(SOON, "adopted", |seen| seen.phase() == "Live")?;

    let mut life = shop.follow()?;
    let two = merge(bed, &repository, "Cheaper shipping", "two")?;
    life.until(DELIVERED, "live on the merge", |seen| seen.is_live(short(&two)))?;

    // Red checks are passed by, however good the image is.
    let number = repository.change("red", "Untested");
    let red = repository.merge(number, Method::Merge);
    push(bed, &red, "red")?;
    repository.checks(&red, Checks::actions("ci").done("failure"));

    let three = merge(bed, &repository, "Faster orders", "three")?;
    life.until(DELIVERED, "taken back", |seen| seen.is_back(short(&two)))?;
    let four = merge(bed, &repository, "Faster orders, again", "four")?;
    life.until(DELIVERED, "live on the mend", |seen| seen.is_live(short(&four)))?;

    let made = releases(&shop)?;
    let outcomes: Vec<(&str, &str)> = made.iter().map(|(version, _, outcome)| (version.as_str(), outcome.as_str())).collect();
    ensure!(
        outcomes == [(short(&two), "Live"), (short(&three), "RolledBack"), (short(&four), "Live")],
        "the merges became {outcomes:?}; {} was red",
        short(&red)
    );
    ensure!(made.iter().all(|(_, image, _)| image.contains("@sha256:")), "not by digest: {made:?}");

    // Another namespace may not deliver from it.
    let other = Shop::open(bed, "merges-other", Setup::default())?;
    for object in [other.probe(), delivery] {
        other.kubectl_with(&["apply", "-f", "-"], &object.to_string())?;
    }
    until(SOON, || {
        let seen = other.object("delivery", "shop")?.context("it is gone")?;
        let reason = seen.pointer("/status/reason").and_then(Value::as_str).unwrap_or_default();
        ensure!(reason == "RepositoryNotGranted", "it says {reason}");
        Ok(())
    })?;
    other.close()?;
    shop.close()
}

/// This machine's end of the cable to the cluster: the other address of its /30.
fn gateway(bed: &Bed) -> Result<IpAddr> {
    let node: std::net::Ipv4Addr = bed.registry.split(':').next().unwrap_or_default().parse().context("the registry has no address")?;
    let [a, b, c, d] = node.octets();
    Ok(IpAddr::from([a, b, c, d ^ 3]))
}
