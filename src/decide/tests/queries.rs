//! What versions share holds each of them while it is beyond its bound, and condemns none.

use std::time::Duration;

use super::{
    live_and_quiet,
    toy::{Toy, cron_job},
};
use crate::{
    api::release::Outcome,
    decide::queries,
    model::{
        cron_job::PlannedCronJob,
        phase::{Direction, Rollout, Stage, after},
        query::{Bound, PlannedQuery, Queried},
    },
};

const BOUND: Bound = Bound::Above(0.8);

/// A shop of twenty pods whose database has this load.
fn shop(load: f64) -> Toy {
    let mut toy = Toy::adopted(20);
    toy.plan.queries.push(PlannedQuery { name: "db-load".into(), query: "load".into(), bound: BOUND });
    hears(&mut toy, Ok(load));
    toy.set_image("v2");
    toy
}

fn hears(toy: &mut Toy, answer: Result<f64, &str>) {
    let now = toy.now;
    let known = toy.seen.queries.entry("db-load".into()).or_default();
    *known = known.heard(BOUND, answer.map_err(str::to_owned), now);
}

fn passes(toy: &mut Toy, count: usize) {
    for _ in 0..count {
        toy.pass();
    }
}

fn at_its_first_step(toy: &mut Toy) {
    toy.until(|t| t.state.phase.rollout().is_some_and(|rollout| rollout.stage == Stage::Canary { step: 0 }));
}

/// The first reason to hold: its word, and its sentence.
fn holds(toy: &Toy) -> (&'static str, String) {
    toy.last.as_ref().unwrap().holds.first().map(|hold| (hold.word(), hold.to_string())).unwrap_or_default()
}

#[test]
fn beyond_its_bound_a_version_stays_at_its_step_and_says_why_and_then_goes_on() {
    let mut toy = shop(0.5);
    at_its_first_step(&mut toy);
    hears(&mut toy, Ok(0.93));
    let since = toy.now;
    // Longer than the step bakes.
    toy.until(|t| after(since, Duration::from_mins(10)) < t.now);
    let since = jiff::Timestamp::from_second(since.as_second()).unwrap();
    let said =
        format!("query db-load is 0.93, which is above 0.8, since {since}: nothing goes forward while it is; see spec.verify.queries");
    assert_eq!((toy.phase(), holds(&toy)), ("Canary", ("QueryHolds", said.clone())));
    let last = toy.last.as_ref().unwrap();
    assert_eq!((last.reason.to_string(), last.health.stalled.clone()), (said, None), "it ends by itself");
    assert_eq!(toy.state.phase.rollout().unwrap().stage, Stage::Canary { step: 0 });
    hears(&mut toy, Ok(0.8));
    toy.until(live_and_quiet);
    assert_eq!((toy.phase(), toy.live().as_str()), ("Live", "v2"), "the bound itself is fine");
}

#[test]
fn a_bad_version_goes_back_whatever_is_shared() {
    for answer in [Ok(0.93), Err("Prometheus does not answer")] {
        let mut toy = shop(0.5);
        at_its_first_step(&mut toy);
        hears(&mut toy, answer);
        toy.now = after(toy.now, Duration::from_secs(15));
        passes(&mut toy, 5);
        assert!(holds(&toy).0.starts_with("Query"), "{:?}", holds(&toy));
        toy.canary_fails = true;
        toy.until(live_and_quiet);
        assert_eq!((toy.phase(), toy.live().as_str()), ("RolledBack", "v1"), "{answer:?}");
        let outcome = toy.seen.releases.iter().find(|release| release.version == "v2").unwrap().outcome;
        assert_eq!(outcome, Some(Outcome::RolledBack));
    }
}

#[test]
fn held_until_its_deadline_it_returns_and_nothing_is_said_against_it() {
    let mut toy = shop(0.5);
    at_its_first_step(&mut toy);
    hears(&mut toy, Ok(0.93));
    toy.until(|t| t.phase() == "RolledBack" && t.quiet());
    let outcome = toy.seen.releases.iter().find(|release| release.version == "v2").unwrap().outcome;
    assert_eq!(outcome, Some(Outcome::Undecided));
    let said = toy.last.as_ref().unwrap().reason.to_string();
    assert!(said.contains("(query db-load is 0.93"), "{said}");
}

#[test]
fn silence_holds_after_a_while_and_lifts_nothing() {
    let mut toy = shop(0.5);
    at_its_first_step(&mut toy);
    hears(&mut toy, Err("it finds nothing"));
    toy.pass();
    assert_eq!(holds(&toy).0, "", "one answer that is missing is a hiccup");
    toy.now = after(toy.now, Duration::from_mins(10));
    passes(&mut toy, 50);
    let (word, said) = holds(&toy);
    assert_eq!((toy.phase(), word), ("Canary", "QuerySilent"));
    assert!(said.starts_with("query db-load gives no number since 2027-"), "{said}");
    assert!(said.ends_with(": it finds nothing; nothing goes forward without one, see spec.verify.queries"), "{said}");
    // It answers again and is beyond its bound; then it misses one answer.
    hears(&mut toy, Ok(2.0));
    toy.pass();
    assert_eq!(holds(&toy).0, "QueryHolds");
    hears(&mut toy, Err("it finds nothing"));
    toy.pass();
    assert_eq!(holds(&toy).0, "QueryHolds", "what was seen last stays so until another number is");
    hears(&mut toy, Ok(0.1));
    toy.until(live_and_quiet);
    assert_eq!(toy.live(), "v2");
}

#[test]
fn before_the_first_number_nothing_goes_forward_and_nothing_runs() {
    let mut toy = shop(0.5);
    toy.plan.before.push(PlannedCronJob { name: "migrate".into(), containers: vec![] });
    toy.seen.cron_jobs.push(cron_job("migrate", "v0"));
    toy.seen.queries.clear();
    toy.until(|t| t.phase() == "Preparing");
    passes(&mut toy, 50);
    assert!(toy.seen.jobs.is_empty() && toy.phase() == "Preparing");
    hears(&mut toy, Ok(0.93));
    passes(&mut toy, 50);
    assert!(toy.seen.jobs.is_empty() && holds(&toy).0 == "QueryHolds", "{:?}", holds(&toy));
    hears(&mut toy, Ok(0.5));
    toy.until(|t| !t.seen.jobs.is_empty());

    let mut toy = shop(0.5);
    toy.until(|t| t.phase() == "Preflight");
    toy.seen.queries.insert("db-load".into(), Queried::default());
    passes(&mut toy, 200);
    assert_eq!((toy.phase(), holds(&toy).0), ("Preflight", ""));
    hears(&mut toy, Ok(0.5));
    toy.until(live_and_quiet);
    assert_eq!(toy.live(), "v2");
}

#[test]
fn it_is_asked_for_a_version_on_its_way_up_alone() {
    let mut toy = shop(0.5);
    assert_eq!(queries::asked(&toy.plan, toy.state.phase.rollout()), []);
    at_its_first_step(&mut toy);
    let up = toy.state.phase.rollout().unwrap().clone();
    assert_eq!(queries::asked(&toy.plan, Some(&up)), toy.plan.queries);
    let why = crate::model::phase::Why { word: "RolledBackBy".into(), says: "by ana".into() };
    let back = Rollout { direction: Direction::Return(why), ..up };
    assert_eq!(queries::asked(&toy.plan, Some(&back)), []);
}
