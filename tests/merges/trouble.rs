//! What a forge and a registry do wrong, one after the other, under a Delivery whose customers buy all the time. Of each, what
//! kubectl prints is kept for a table.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use serde_json::Value;

use crate::{
    DELIVERED, SOON,
    forge::{Fault, Method, Wrong, hooks::Release, limits::Resource},
    merging::{Merging, short},
    releases,
    support::{
        follow::{Follow, Seen},
        load::Load,
        now_us,
        shop::Shop,
        until,
    },
};

/// Two calls that are not answered take 10 s each, and there are 5 s between them.
const TOLD: Duration = Duration::from_secs(45);
/// For how long the forge wants to be left alone.
const SILENCE: u32 = 12;

struct Life<'a> {
    shop: &'a Shop<'a>,
    merging: &'a Merging<'a>,
    follow: Follow,
    live: String,
    /// When what is wrong now began, Unix µs.
    since_us: i64,
    /// The commits that went to production.
    delivered: Vec<String>,
    /// What was wrong, after how many seconds that was told, and in which words.
    table: Vec<[String; 3]>,
}

pub(crate) fn story(shop: &Shop, merging: &Merging) -> Result<()> {
    let mut follow = shop.follow()?;
    let adopted = follow.until(SOON, "adopted", |seen| seen.phase() == "Live")?.live().to_owned();
    let mut life = Life { shop, merging, follow, live: adopted, since_us: 0, delivered: Vec::new(), table: Vec::new() };
    let customers = Load::start(shop.bed, &shop.ns, 10, 2)?;
    life.limited()?;
    life.ill()?;
    life.revoked()?;
    life.renamed()?;
    life.gone()?;
    life.another_commit()?;
    life.moved()?;
    life.forgotten()?;
    let report = customers.stop()?;
    life.table.iter().for_each(|row| eprintln!("| {} |", row.join(" | ")));
    eprintln!("customers: {report}; {} merges went to production", life.delivered.len());
    ensure!(report.failed() == 0, "{report}");
    let made: Vec<(String, String)> = releases(shop)?.into_iter().map(|(version, _, outcome)| (version, outcome)).collect();
    let wanted: Vec<(String, String)> = life.delivered.iter().map(|commit| (short(commit).to_owned(), "Live".to_owned())).collect();
    ensure!(made == wanted, "Releases are {made:?}; delivered were {wanted:?}");
    Ok(())
}

fn always(prefix: &str, wrong: Wrong) -> Fault {
    Fault { prefix: prefix.to_owned(), times: u32::MAX, wrong }
}

impl Life<'_> {
    /// The Delivery says that it is so, and what runs goes on.
    fn told(&mut self, what: &str, reason: &str, words: &str) -> Result<String> {
        let is = |seen: &Seen| seen.reason() == reason && seen.message().contains(words);
        let seen = self.follow.until(TOLD, &format!("{reason}: {words}"), is).with_context(|| what.to_owned())?;
        ensure!(seen.phase() == "Live" && seen.live() == self.live && seen.condition("Available") == "True", "{what}: {seen}");
        // What heals by itself calls nobody.
        let stalled = !["SourceSilent", "RepositoryRenamed"].contains(&reason);
        ensure!((seen.condition("Stalled") == "True") == stalled, "{what}: {seen}");
        let told = seen.message().to_owned();
        self.tells(what, seen.at_us, format!("{reason}: {told}"));
        Ok(told)
    }

    #[expect(clippy::cast_precision_loss, reason = "seconds for people")]
    fn tells(&mut self, what: &str, at_us: i64, told: String) {
        let after = (at_us - self.since_us) as f64 / 1e6;
        self.table.push([what.to_owned(), format!("{after:.1} s"), told]);
    }

    /// Something goes wrong from now on.
    fn wrong_from_now(&mut self) {
        self.since_us = now_us();
    }

    /// The plugin's line about a commit that is no Release.
    fn told_ahead(&mut self, what: &str, commit: &str, words: &str) -> Result<()> {
        let line = until(SOON, || {
            let said = self.shop.plugin(&["status", "shop"])?;
            let line = said.lines().find(|line| line.contains("Ahead:") && line.contains(short(commit)) && line.contains(words));
            line.map(|line| line.trim().to_owned()).with_context(|| format!("{what}: {said}"))
        })?;
        self.tells(what, now_us(), line);
        Ok(())
    }

    /// That merge is in production, and before it what was there: nothing older came back.
    fn goes_live(&mut self, commit: &str) -> Result<()> {
        let before = self.follow.past.len();
        self.follow.until(DELIVERED, &format!("live on {}", short(commit)), |seen| seen.is_live(short(commit)))?;
        let meanwhile = self.follow.past.iter().skip(before);
        let others: Vec<&str> = meanwhile.map(|seen| seen.live()).filter(|live| ![short(commit), &*self.live].contains(live)).collect();
        ensure!(others.is_empty(), "{others:?} served between {} and {}", self.live, short(commit));
        short(commit).clone_into(&mut self.live);
        self.delivered.push(commit.to_owned());
        Ok(())
    }

    fn merged(&self, title: &str) -> String {
        self.merging.merged(title, Method::Squash)
    }

    /// The real hour is not waited for: it is over after some seconds.
    fn limited(&mut self) -> Result<()> {
        let github = &self.merging.github;
        github.fault(Fault { prefix: "/graphql".to_owned(), times: 1, wrong: Wrong::Secondary(Some(SILENCE)) });
        self.silence("403 with retry-after (secondary limit)", "limited")?;
        let full = Timestamp::from_second(now_us() / 1_000_000 + i64::from(SILENCE))?;
        github.spend(self.merging.installation, full);
        self.silence("all points spent, more of them at a moment that is told (primary limit)", "spent")
    }

    fn silence(&mut self, what: &str, version: &str) -> Result<()> {
        self.wrong_from_now();
        let github = &self.merging.github;
        let before = github.seen().len();
        let commit = self.merging.ready(&format!("Merged while {version}"), version)?;
        let told = self.told(what, "SourceSilent", "wants no more questions until")?;
        self.goes_live(&commit)?;
        let end = told.split_once("until ").and_then(|(_, rest)| rest.split(';').next()).context("until when?")?;
        let end: Timestamp = end.parse().with_context(|| told.clone())?;
        let seen: Vec<_> = github.seen().into_iter().skip(before).filter(|seen| seen.resource == Resource::Graphql).collect();
        let refused = seen.iter().find(|seen| seen.points == 0).context("nothing was refused")?;
        let asked = seen.iter().filter(|seen| seen.at > refused.at && seen.at < end).count();
        ensure!(asked == 0, "{what}: {asked} questions between {} and {end}", refused.at);
        let again = seen.iter().filter(|seen| seen.at >= end).count();
        ensure!(again > 0, "nothing was asked after {end}, and yet it was delivered");
        eprintln!("{what}: 0 questions until {end}, {again} after it");
        Ok(())
    }

    fn ill(&mut self) -> Result<()> {
        for (version, what, fault, words) in [
            ("ill", "502 to everything", always("", Wrong::Status(502)), "ill (502"),
            ("lost", "no answer to anything, though it is heard", always("/graphql", Wrong::Lost), "did not answer within 10s"),
            ("types", "numbers where text should be, objects where lists should be", always("/graphql", Wrong::Types), "cannot be read"),
            ("nulls", "null where an object should be", always("/graphql", Wrong::Null("target".to_owned())), "cannot be read"),
        ] {
            self.wrong_from_now();
            self.merging.github.fault(fault);
            let commit = self.merging.ready(&format!("Merged while {version}"), version)?;
            self.told(what, "SourceSilent", words)?;
            self.merging.github.heal();
            self.goes_live(&commit)?;
        }
        Ok(())
    }

    fn revoked(&mut self) -> Result<()> {
        let (github, before) = (&self.merging.github, self.follow.past.len());
        github.revoke_tokens(self.merging.installation);
        let commit = self.merging.ready("Merged with a token that is worth nothing", "revoked")?;
        self.goes_live(&commit)?;
        let holds = self.follow.past.iter().skip(before).find(|seen| seen.reason().starts_with("Source"));
        ensure!(holds.is_none(), "another token was to be had: {}", holds.map(ToString::to_string).unwrap_or_default());
        self.table.push(["the token revoked", "-", "nothing: another one was minted"].map(str::to_owned));

        self.wrong_from_now();
        let github = &self.merging.github;
        github.fault(always("", Wrong::Status(401)));
        let commit = self.merging.ready("Merged while nobody knows us", "unknown")?;
        self.told("401 to everything, also to the app", "SourceUnread", "does not take Haldane's credentials")?;
        github.heal();
        self.goes_live(&commit)
    }

    /// A push is told late: after the repository got another name, and then after it was deleted.
    fn renamed(&mut self) -> Result<()> {
        self.wrong_from_now();
        let github = &self.merging.github;
        github.hold_hooks();
        let commit = self.merged("The last one under the old name");
        self.merging.repository.rename("store");
        github.release_hooks(Release::InOrder);
        self.told("the repository renamed", "RepositoryRenamed", "acme/shop is called acme/store now")?;
        self.merging.push(&commit, "renamed")?;
        self.merging.green(&commit);
        self.goes_live(&commit)?;
        let name = r#"{"spec": {"source": {"github": {"repository": "acme/store"}}}}"#;
        self.shop.kubectl(&["patch", "delivery", "shop", "--type=merge", "-p", name])?;
        self.follow.until(SOON, "content", |seen| seen.reason() == "Serving").map(drop)
    }

    fn gone(&mut self) -> Result<()> {
        self.wrong_from_now();
        let github = &self.merging.github;
        github.hold_hooks();
        let commit = self.merged("The last one");
        let kept = self.merging.repository.delete().context("it is gone already")?;
        github.release_hooks(Release::InOrder);
        self.told("the repository gone", "SourceUnread", "acme/store does not exist at the forge")?;
        self.merging.repository.restore(kept);
        self.merging.push(&commit, "restored")?;
        self.merging.green(&commit);
        self.goes_live(&commit)
    }

    fn another_commit(&mut self) -> Result<()> {
        self.wrong_from_now();
        let commit = self.merged("With somebody else's image");
        let other = self.merging.repository.resolve("main~1");
        self.merging.push_labelled(&commit, "foreign", &other)?;
        self.merging.green(&commit);
        let words = format!("says that it was built from {other}");
        self.told("an image that was built from another commit", "ImageRefused", &words).map(drop)
    }

    fn moved(&mut self) -> Result<()> {
        let commit = self.merged("With an image of its own");
        let image = self.merging.push(&commit, "own")?;
        self.merging.green(&commit);
        let rolls = |seen: &Seen| seen.object.pointer("/status/rollout").is_some_and(|rollout| !rollout.is_null());
        self.follow.until(DELIVERED, "on its way", rolls)?;
        let other = self.merging.push(&commit, "moved")?;
        ensure!(other != image, "the tag names the same image: {image}");
        self.goes_live(&commit)?;
        let made = releases(self.shop)?;
        let told = made.iter().find(|(version, ..)| version == short(&commit)).map(|(_, image, _)| image.clone()).unwrap_or_default();
        ensure!(told == image, "{told} was delivered, {image} was there first");
        // Those of the version before may still be on their way out.
        let pods = self.shop.pods()?.into_iter().filter(|pod| pod.pointer("/metadata/deletionTimestamp").is_none());
        let run: BTreeSet<String> = pods.map(|pod| pod.pointer("/spec/containers/0/image").map_or_else(String::new, text)).collect();
        ensure!(run == BTreeSet::from([image.clone()]), "the pods run {run:?}, and {image} was there first");
        let (first, then) = (digest(&image), digest(&other));
        let told = format!("the Release and all pods name {first}; the tag names {then}");
        self.table.push(["the tag moved".to_owned(), "-".to_owned(), told]);
        Ok(())
    }

    /// The newest merge waits for its image; what serves is gone from the registry, too, and nothing older takes its place.
    fn forgotten(&mut self) -> Result<()> {
        let serves = releases(self.shop)?.into_iter().last().map(|(_, image, _)| image).context("no Release")?;
        self.wrong_from_now();
        let commit = self.merged("With an image that is forgotten");
        let image = self.merging.push(&commit, "forgotten")?;
        self.merging.forget(&image)?;
        self.merging.forget(&serves)?;
        self.merging.green(&commit);
        self.told_ahead("the registry forgets the newest tags", &commit, "the image")?;
        let seen = self.shop.object("delivery", "shop")?.context("no Delivery")?;
        let serves = seen.pointer("/status/live/version").and_then(Value::as_str).unwrap_or_default();
        ensure!(serves == self.live, "{serves} serves, and {} was the newest", self.live);
        self.merging.push(&commit, "again")?;
        self.merging.repository.package("shop", &format!("sha-{commit}"));
        self.goes_live(&commit)
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// As people compare them.
fn digest(image: &str) -> &str {
    image.split_once('@').and_then(|(_, digest)| digest.get(..14)).unwrap_or(image)
}
