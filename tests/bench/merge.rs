//! P3: from the webhook of the last fact that a merge waited for to its canary.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::figure::{Figure, ms};
use crate::forge::Method;
use crate::merging::{Hearing, Merging, short};
use crate::support::shop::{Setup, Shop};
use crate::support::{Bed, now_us};

const PART: Duration = Duration::from_mins(2);

pub(crate) fn measure(bed: &Bed, n: usize) -> Result<Vec<Figure>> {
    let merging = Merging::begin(bed, "merge", Hearing::Webhooks)?;
    let shop = Shop::open(bed, "merge", Setup { steps: vec![(25, "2s")], ..Setup::default() })?;
    shop.helm("v1", &[])?;
    shop.kubectl(&["rollout", "status", "deployment/shop", "--timeout=90s"])?;
    for object in [shop.probe(), merging.delivery(&shop)] {
        shop.kubectl_with(&["apply", "-f", "-"], &object.to_string())?;
    }
    let mut life = shop.follow()?;
    life.until(PART, "adopted", |seen| seen.phase() == "Live")?;
    let mut values = Vec::new();
    for number in 0..n {
        let commit = merging.merged(&format!("Change {number}"), Method::Squash);
        merging.push(&commit, &format!("number-{number}"))?;
        // What the push told is read by then: the checks are what is missing, as they mostly are.
        std::thread::sleep(Duration::from_secs(3));
        let mark = bed.audit_mark()?;
        let told_us = now_us();
        merging.green(&commit);
        life.until(PART, "live", |seen| seen.is_live(short(&commit)))?;
        let writes = bed.writes_since(mark)?;
        let canary = writes.iter().find(|w| w.ours() && w.namespace == shop.ns && w.resource == "deployments" && w.verb == "create");
        let took = ms(told_us, canary.context("no canary")?.done_us);
        eprintln!("  {took:.0} ms");
        values.push(took);
    }
    shop.close()?;
    Ok(vec![Figure {
        name: "P3",
        what: "checks green at the forge (webhook) -> canary Deployment",
        unit: "ms",
        values,
        against: None,
        notes: vec!["the image is there, the checks come last; GitHub's own time to send a webhook is not in it".to_owned()],
    }])
}
