//! What else names versions, and what a repository says of its own: the file at a commit, a revert, a commit that changes nothing, a
//! tag that moves.

use std::sync::PoisonError;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{DELIVERED, OPERATOR, SOON, give, releases, shop};
use crate::forge::Checks;
use crate::merging::{Hearing, Merging, short};
use crate::support::shop::Shop;
use crate::support::{Bed, said, until};

/// A commit on main with this file, green and with its image, which does not say of which commit it is: the same content is the same
/// image.
fn commit(merging: &Merging, title: &str, file: &str, version: &str) -> Result<String> {
    let files = [(".haldane.yaml", file), ("VERSION", version)];
    let commit = merging.repository.commit_files("main", title, &files);
    merging.push_labelled(&commit, version, "")?;
    merging.repository.checks(&commit, Checks::actions("ci").done("success"));
    Ok(commit)
}

fn release(shop: &Shop, version: &str) -> Result<Value> {
    let all = shop.bed.list(&shop.ns, "releases", "")?;
    all.into_iter().rev().find(|r| r.pointer("/spec/version").and_then(Value::as_str) == Some(version)).context("no such Release")
}

fn part<'a>(object: &'a Value, at: &str) -> &'a Value {
    object.pointer(at).unwrap_or(&Value::Null)
}

fn text<'a>(object: &'a Value, at: &str) -> &'a str {
    object.pointer(at).and_then(Value::as_str).unwrap_or_default()
}

#[test]
fn a_repository_has_a_word_and_a_tag_moves() -> Result<()> {
    let _turn = OPERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    let bed = &Bed::up("merges")?;
    let merging = Merging::begin(bed, "merges-word", Hearing::Webhooks)?;
    let shop = shop(bed, "merges-word")?;
    give(&shop, &merging.delivery(&shop))?;
    shop.follow()?.until(SOON, "adopted", |seen| seen.phase() == "Live")?;
    std::thread::scope(|scope| {
        // A tag is looked at once a minute: the one waits while the other goes on.
        let tag = scope.spawn(|| a_tag_that_moves(bed, "merges-tag"));
        let word = the_word_of_the_repository(&shop, &merging).context("the word of the repository");
        let tag = tag.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).context("a tag that moves");
        word.and(tag)
    })?;
    shop.close()
}

/// The file at a commit sets how that commit is delivered, within what the Delivery allows.
fn the_word_of_the_repository(shop: &Shop, merging: &Merging) -> Result<()> {
    let config = r#"{"spec": {"config": {"allow": ["Steps"]}}}"#;
    shop.kubectl(&["patch", "delivery", "shop", "--type=merge", "-p", config])?;
    let mut life = shop.follow()?;
    let slow = commit(merging, "Slowly", "rollout:\n  steps:\n  - {weight: 50, bake: 10m}\n", "slow")?;
    life.until(DELIVERED, "at the step of its own file", |seen| {
        seen.phase() == "Canary" && seen.object.pointer("/status/rollout/weight/asked") == Some(&json!(50))
    })?;

    // Its revert does not wait for ten minutes. The files are those of before.
    let revert = merging.repository.revert(&slow);
    merging.push(&revert, "reverted")?;
    merging.green(&revert);
    life.until(DELIVERED, "live on the revert", |seen| seen.is_live(short(&revert)))?;
    let (slow, back) = (release(shop, short(&slow))?, release(shop, short(&revert))?);
    ensure!(
        text(&slow, "/status/outcome") == "Superseded" && text(&slow, "/status/reason") == "Reverted",
        "the reverted one: {}",
        part(&slow, "/status")
    );
    ensure!(text(&slow, "/status/supersededBy") == text(&back, "/metadata/name"), "by whom: {}", part(&slow, "/status"));
    ensure!(back.pointer("/spec/reverts/0") == slow.pointer("/spec/commit"), "what it reverts: {}", part(&back, "/spec"));

    // What is not allowed is refused with its line, and what is broken, too; what runs goes on.
    let greedy = commit(merging, "More probes", "rollout: {}\nverify:\n  probes: [{name: order}]\n", "greedy")?;
    let seen = life.until(DELIVERED, "refused", |seen| seen.reason() == "ReleaseRefused")?;
    ensure!(seen.live() == short(&revert), "{} runs", seen.live());
    let refused = release(shop, short(&greedy))?;
    let says = ".haldane.yaml: line 3: verify.probes is not in spec.config.allow of the Delivery";
    ensure!(seen.message().ends_with(says) && text(&refused, "/status/message") == seen.message(), "it says {}", seen.message());
    ensure!(
        (text(&refused, "/status/outcome"), text(&refused, "/status/reason")) == ("Refused", "NotAllowed"),
        "{}",
        part(&refused, "/status")
    );
    let broken = commit(merging, "A tab", "rollout:\n\tsteps: []\n", "broken")?;
    until(DELIVERED, || {
        let broken = release(shop, short(&broken))?;
        ensure!(
            text(&broken, "/status/reason") == "ConfigBroken" && text(&broken, "/status/message").contains(" line 2: "),
            "{}",
            part(&broken, "/status")
        );
        Ok(())
    })?;
    eprintln!("{}", shop.kubectl(&["get", "delivery", "shop"])?);

    let mended = commit(merging, "Mended", "rollout:\n  steps: [{weight: 50, bake: 1s}]\n", "mended")?;
    life.until(DELIVERED, "live on the mend", |seen| seen.is_live(short(&mended)))?;
    let told = shop.plugin(&["why", "shop", text(&release(shop, short(&mended))?, "/metadata/name")])?;
    ensure!(told.contains("steps 50 % for 1s") && told.contains("A tab"), "what came with it is not told: {told}");
    eprintln!("{told}");

    // The same image again: nothing needs to roll.
    let same = commit(merging, "A comment", "# how it is delivered\nrollout:\n  steps: [{weight: 50, bake: 1s}]\n", "mended")?;
    let pods = names(shop)?;
    life.until(DELIVERED, "live without a rollout", |seen| seen.is_live(short(&same)))?;
    // Those of the canary before may still be on their way out.
    let made: Vec<String> = names(shop)?.into_iter().filter(|name| !pods.contains(name)).collect();
    ensure!(made.is_empty(), "pods were made for nothing: {made:?}");
    Ok(())
}

fn names(shop: &Shop) -> Result<Vec<String>> {
    let mut names: Vec<String> = shop.pods()?.iter().map(|pod| text(pod, "/metadata/name").to_owned()).collect();
    names.sort();
    Ok(names)
}

/// An image that the tag of an app names from now on.
fn tagged(bed: &Bed, version: &str) -> Result<()> {
    let file = bed.scratch(&format!("tagged-{version}"));
    std::fs::write(&file, format!("{version}\n"))?;
    let mut image = bed.cluster("image");
    image.arg(bed.built("examples/shop")).arg("tagged:stable").arg(format!("{}=/version", file.display()));
    said(&mut image).map(drop)
}

/// A tag that moves names what is desired, by digest, with the logins and the looks of everything else; back it goes only by an order.
fn a_tag_that_moves(bed: &Bed, namespace: &str) -> Result<()> {
    tagged(bed, "one")?;
    let shop = shop(bed, namespace)?;
    let mut delivery = shop.delivery();
    let image = json!({"repository": format!("{}/tagged", bed.registry), "tag": "stable"});
    let named = [("/spec", "source", json!({"image": image})), ("/spec/workloads/0", "containers", json!(["shop"]))];
    for (at, field, value) in named {
        delivery.pointer_mut(at).and_then(Value::as_object_mut).context(at)?.insert(field.to_owned(), value);
    }
    give(&shop, &delivery)?;
    let mut life = shop.follow()?;
    let made = |n: usize| -> Result<String> {
        let made = releases(&shop)?;
        ensure!(made.len() == n, "there are {made:?}, not {n}");
        Ok(made.last().context("none")?.0.clone())
    };
    life.until(DELIVERED, "live on what the tag names", |seen| seen.phase() == "Live" && made(1).is_ok_and(|one| seen.is_live(&one)))?;
    let one = made(1)?;
    tagged(bed, "two")?;
    life.until(DELIVERED, "live on what it names now", |seen| made(2).is_ok_and(|two| seen.is_live(&two)))?;
    let two = made(2)?;
    tagged(bed, "one")?;
    let held = life.until(DELIVERED, "held", |seen| seen.reason() == "TagMovedBack")?;
    ensure!(held.live() == two, "{} runs", held.live());
    eprintln!("{}", held.message());
    shop.plugin(&["adopt", "shop"])?;
    life.until(DELIVERED, "live on the older one", |seen| seen.is_live(&one))?;
    ensure!(made(3)? == one, "the older one is a Release anew");
    // No order is needed for what is newer.
    tagged(bed, "four")?;
    life.until(DELIVERED, "live on the newest", |seen| made(4).is_ok_and(|four| seen.is_live(&four)))?;
    eprintln!("{}", shop.kubectl(&["get", "releases", "-o", "wide", "--sort-by=.spec.place"])?);
    shop.close()
}
