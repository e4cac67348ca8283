//! P3, P3c and P3i: from the last fact that a merge waited for to its canary. That fact is the push, the checks or the image.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::figure::{Figure, ms};
use crate::forge::{Checks, Method};
use crate::merging::{Hearing, Merging, short};
use crate::support::follow::Follow;
use crate::support::shop::{Setup, Shop};
use crate::support::{Bed, now_us};

const PART: Duration = Duration::from_mins(2);
/// What was told before is read by then: the last fact is what is missing.
const READ: Duration = Duration::from_secs(3);

/// What comes last.
#[derive(Clone, Copy)]
enum Last {
    Push,
    Checks,
    Image,
}

const ROWS: [(&str, &str, Last); 3] = [
    ("P3", "push of a commit with image and green checks -> canary Deployment", Last::Push),
    ("P3c", "checks green, image is there -> canary Deployment", Last::Checks),
    ("P3i", "image is there, checks green -> canary Deployment", Last::Image),
];

pub(crate) fn measure(bed: &Bed, n: usize) -> Result<Vec<Figure>> {
    // A push starts nothing of its own, so that it can be the last fact: as with a merge queue, which has run everything before.
    let merging = Merging::begin_with(bed, "merge", Hearing::Webhooks, &[])?;
    let shop = Shop::open(bed, "merge", Setup { steps: vec![(25, "2s")], ..Setup::default() })?;
    shop.helm("v1", &[])?;
    shop.kubectl(&["rollout", "status", "deployment/shop", "--timeout=90s"])?;
    for object in [shop.probe(), merging.delivery(&shop)] {
        shop.kubectl_with(&["apply", "-f", "-"], &object.to_string())?;
    }
    let mut life = shop.follow()?;
    life.until(PART, "adopted", |seen| seen.phase() == "Live")?;
    let mut figures = Vec::new();
    for (name, what, last) in ROWS {
        let mut values = Vec::new();
        for number in 0..n {
            let took = trial(&shop, &merging, &mut life, last, &format!("{}-{number}", name.to_lowercase()))?;
            eprintln!("  {name}: {took:.0} ms");
            values.push(took);
        }
        figures.push(Figure {
            name,
            what,
            unit: "ms",
            values,
            against: None,
            notes: vec!["told by a webhook; at most 2,000; GitHub's own time to send it is not in it".to_owned()],
        });
    }
    shop.close()?;
    Ok(figures)
}

/// ms from the last fact to the canary.
fn trial(shop: &Shop, merging: &Merging, life: &mut Follow, last: Last, version: &str) -> Result<f64> {
    let (bed, repository) = (shop.bed, &merging.repository);
    let commit = match last {
        // Where CI has built and tested it before it comes to main by fast-forward.
        Last::Push => repository.commit(version, &format!("Change {version}")),
        Last::Checks | Last::Image => merging.merged(&format!("Change {version}"), Method::Squash),
    };
    repository.checks(&commit, Checks::actions("ci").running(1));
    if !matches!(last, Last::Image) {
        merging.push(&commit, version)?;
    }
    if !matches!(last, Last::Checks) {
        merging.green(&commit);
    }
    std::thread::sleep(READ);
    let mark = bed.audit_mark()?;
    let told_us = match last {
        Last::Push => {
            let now = now_us();
            repository.force_push("main", &commit);
            now
        }
        Last::Checks => {
            let now = now_us();
            merging.green(&commit);
            now
        }
        Last::Image => {
            merging.push(&commit, version)?;
            let now = now_us();
            repository.package("shop", &format!("sha-{commit}"));
            now
        }
    };
    life.until(PART, "live", |seen| seen.is_live(short(&commit)))?;
    let writes = bed.writes_since(mark)?;
    let canary = writes.iter().find(|w| w.ours() && w.namespace == shop.ns && w.resource == "deployments" && w.verb == "create");
    Ok(ms(told_us, canary.context("no canary")?.done_us))
}
