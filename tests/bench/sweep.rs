//! P12 and P12b: what it costs to look at 1,000 repositories once a minute, by the meter of the model of GitHub.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use haldane::clock::SystemClock;
use haldane::edge::forge::Forge as _;
use haldane::edge::github::{Access, GitHub as Client};
use haldane::model::source::{Branch, Repository};
use haldane::observe::merges::SWEEP;

use crate::figure::{Figure, ms};
use crate::forge::{GitHub, Options};
use crate::support::now_us;

const REPOSITORIES: usize = 1000;

pub(crate) fn measure(n: usize) -> Result<Vec<Figure>> {
    let github = GitHub::start(Options::default());
    let installation = github.install("acme");
    let first = github.repository("acme/r0");
    let head = first.commit("main", "The beginning");
    let copies = (1..REPOSITORIES).map(|number| first.copy(&format!("acme/r{number}")));
    let names: Vec<String> = std::iter::once(first.clone()).chain(copies).map(|repository| repository.name()).collect();
    let branches: Vec<Branch> =
        names.iter().filter_map(|name| Repository::parse(name)).map(|repository| Branch { repository, name: None }).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _inside = runtime.enter();
    let app = github.app();
    let client = Client::new(github.url(), Access::app(app.id, app.pem.as_bytes())?, Arc::new(SystemClock))?;
    let (mut points, mut times) = (Vec::new(), Vec::new());
    // The first round mints the token and is not counted.
    for round in 0..=n {
        let (before, began) = (github.meter(installation).graphql, now_us());
        let heads = runtime.block_on(client.heads(&branches))?;
        let took = ms(began, now_us());
        ensure!(heads.iter().all(|found| found.as_ref().is_ok_and(|sha| sha.as_str() == head)), "not every head was read");
        if round > 0 {
            let an_hour = (github.meter(installation).graphql - before) * (3600 / SWEEP.as_secs());
            points.push(f64::from(u32::try_from(an_hour).context("points")?));
            times.push(took);
        }
    }
    let row = |name, what, unit, values, note: &str| Figure { name, what, unit, values, against: None, notes: vec![note.to_owned()] };
    Ok(vec![
        row(
            "P12",
            "1,000 repositories looked at once a minute",
            "points/h",
            points,
            "GraphQL points by the model's own meter; GitHub gives such an app 12,500",
        ),
        row(
            "P12b",
            "one look at 1,000 repositories",
            "ms",
            times,
            "ten documents, one after the other; most of it is the model's own time",
        ),
    ])
}
