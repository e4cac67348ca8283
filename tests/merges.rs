//! From a merge to production on a real cluster: a branch in a real git repository behind a model of GitHub, images in a real
//! registry, the operator in the cluster.
//!
//! The cluster is `merges`, because the operator is told of a forge there. `make test-cluster`.

#[path = "forge/mod.rs"]
mod forge;
#[path = "support/merging.rs"]
mod merging;
#[path = "merges/sources.rs"]
mod sources;
#[allow(dead_code, reason = "the measurements and the matrix use the rest")]
mod support;
#[path = "merges/trouble.rs"]
mod trouble;

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use forge::{Checks, Method};
use merging::{Hearing, Merging, short};
use support::shop::{Setup, Shop};
use support::{Bed, until};

/// A sweep a minute, and a rollout of 20 s.
const DELIVERED: Duration = Duration::from_mins(3);
const SOON: Duration = Duration::from_secs(30);

/// There is one operator, and each test tells it of a forge of its own.
static OPERATOR: Mutex<()> = Mutex::new(());

fn releases(shop: &Shop) -> Result<Vec<(String, String, String)>> {
    let all = shop.bed.list(&shop.ns, "releases", "")?;
    let text = |r: &Value, at: &str| r.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut merges: Vec<&Value> = all.iter().filter(|r| r.pointer("/spec/place").is_some()).collect();
    merges.sort_by_key(|r| r.pointer("/spec/place").and_then(Value::as_i64));
    Ok(merges.iter().map(|r| (text(r, "/spec/version"), text(r, "/spec/image"), text(r, "/status/outcome"))).collect())
}

/// A shop whose third version answers orders with 500, with nobody's gate in front of it yet.
fn shop<'a>(bed: &'a Bed, namespace: &str) -> Result<Shop<'a>> {
    let shop = Shop::open(bed, namespace, Setup::default())?;
    shop.helm("v1", &["--set-string", r"env.SHOP_FAIL=path=/orders\,code=500\,version=three"])?;
    shop.kubectl(&["rollout", "status", "deployment/shop", "--timeout=90s"])?;
    Ok(shop)
}

fn give(shop: &Shop, delivery: &Value) -> Result<()> {
    for object in [&shop.probe(), delivery] {
        shop.kubectl_with(&["apply", "-f", "-"], &object.to_string())?;
    }
    Ok(())
}

/// Both ways of hearing reach the same Releases; here in one test, because both are set on the one operator of the cluster.
#[test]
fn a_merge_goes_to_production_and_a_bad_one_comes_back_told_or_not() -> Result<()> {
    let _turn = OPERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    let bed = &Bed::up("merges")?;
    for (hearing, namespace) in [(Hearing::Webhooks, "merges-told"), (Hearing::Polling, "merges-polled")] {
        let merging = Merging::begin(bed, namespace, hearing)?;
        let shop = shop(bed, namespace)?;
        give(&shop, &merging.delivery(&shop))?;
        story(&shop, &merging).with_context(|| format!("{hearing:?}"))?;
        refused(bed, &merging)?;
        if hearing == Hearing::Webhooks {
            twenty(&shop, &merging).context("twenty merges")?;
        }
        shop.close()?;
    }
    Ok(())
}

fn story(shop: &Shop, merging: &Merging) -> Result<()> {
    shop.follow()?.until(SOON, "adopted", |seen| seen.phase() == "Live")?;
    let mut life = shop.follow()?;
    let two = merging.ready("Cheaper shipping", "two")?;
    life.until(DELIVERED, "live on the merge", |seen| seen.is_live(short(&two)))?;

    // Red checks are passed by, however good the image is.
    let red = merging.merged("Untested", Method::Merge);
    merging.push(&red, "red")?;
    merging.repository.checks(&red, Checks::actions("ci").done("failure"));

    let three = merging.ready("Faster orders", "three")?;
    life.until(DELIVERED, "taken back", |seen| seen.is_back(short(&two)))?;
    let four = merging.ready("Faster orders, again", "four")?;
    life.until(DELIVERED, "live on the mend", |seen| seen.is_live(short(&four)))?;

    let made = releases(shop)?;
    let outcomes: Vec<(&str, &str)> = made.iter().map(|(version, _, outcome)| (version.as_str(), outcome.as_str())).collect();
    ensure!(
        outcomes == [(short(&two), "Live"), (short(&three), "RolledBack"), (short(&four), "Live")],
        "the merges became {outcomes:?}; {} was red",
        short(&red)
    );
    ensure!(made.iter().all(|(_, image, _)| image.contains("@sha256:")), "not by digest: {made:?}");
    Ok(())
}

/// Twenty ways to change main, one right after the other: the newest that is ready is delivered, and each of the others says why not.
fn twenty(shop: &Shop, merging: &Merging) -> Result<()> {
    let mut life = shop.follow()?;
    let mut last = String::new();
    for n in 1..=18 {
        let title = format!("Change {n}");
        last = match n {
            // No run, no image, no alarm.
            6 => {
                merging.repository.commit("main", "Typo [skip ci]");
                continue;
            }
            10 => merging.repository.revert(&last),
            _ => merging.merged(&title, [Method::Squash, Method::Merge, Method::Rebase][n % 3]),
        };
        merging.push(&last, &format!("n{n}"))?;
        let passed = if n == 8 { "failure" } else { "success" };
        merging.repository.checks(&last, Checks::actions("ci").done(passed));
    }
    life.until(DELIVERED, "live on the newest", |seen| seen.is_live(short(&last)))?;

    // Somebody rewrites main: nobody guesses what is meant.
    merging.repository.force_push("main", &format!("{last}~1"));
    let rewritten = merging.ready("Another history", "rewritten")?;
    let held = life.until(DELIVERED, "held", |seen| seen.reason() == "BranchRewritten")?;
    ensure!(held.live() == short(&last), "what ran goes on, and {} runs", held.live());
    eprintln!("{}", shop.plugin(&["status", "shop"])?);
    shop.plugin(&["adopt", "shop"])?;
    life.until(DELIVERED, "live on the new history", |seen| seen.is_live(short(&rewritten)))?;

    eprintln!("{}", shop.kubectl(&["get", "releases", "-o", "wide", "--sort-by=.spec.place"])?);
    let all = shop.bed.list(&shop.ns, "releases", "")?;
    let text = |r: &Value, at: &str| r.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
    for release in all.iter().filter(|r| r.pointer("/spec/place").is_some()) {
        let (version, outcome) = (text(release, "/spec/version"), text(release, "/status/outcome"));
        let by = text(release, "/status/supersededBy");
        ensure!(outcome != "Superseded" || !by.is_empty(), "{version} was superseded, and does not say by whom");
        ensure!(["Live", "Superseded", "RolledBack"].contains(&outcome.as_str()), "{version} is {outcome}");
    }
    Ok(())
}

/// A namespace that was given nothing may not deliver from it.
fn refused(bed: &Bed, merging: &Merging) -> Result<()> {
    let other = shop(bed, "merges-other")?;
    give(&other, &merging.delivery(&other))?;
    until(SOON, || {
        let seen = other.object("delivery", "shop")?.context("it is gone")?;
        let reason = seen.pointer("/status/reason").and_then(Value::as_str).unwrap_or_default();
        ensure!(reason == "RepositoryNotGranted", "it says {reason}");
        Ok(())
    })?;
    other.close()
}

#[test]
fn whatever_forge_and_registry_do_wrong_nothing_wrong_is_delivered_and_it_is_told() -> Result<()> {
    let _turn = OPERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    let bed = &Bed::up("merges")?;
    let namespace = "merges-trouble";
    let merging = Merging::begin(bed, namespace, Hearing::Webhooks)?;
    let quick = Setup { steps: vec![(50, "1s")], guard: "1s", settle: "1s", ..Setup::default() };
    let shop = Shop::open(bed, namespace, quick)?;
    give(&shop, &merging.delivery(&shop))?;
    trouble::story(&shop, &merging)?;
    shop.close()
}
