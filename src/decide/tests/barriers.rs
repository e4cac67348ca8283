//! Versions from which there is no way back by itself.

use std::time::Duration;

use super::{live_and_quiet, toy::Toy};
use crate::{
    api::{command::Action, release::Outcome},
    model::{
        phase::{Phase, Stage, after},
        world::{Command, Pin, RestSample, Trouble},
    },
};

/// v2, whose migration v1 cannot live with, on its way.
fn migrating() -> Toy {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.until(|t| t.seen.releases.iter().any(|r| r.version == "v2"));
    let release = toy.seen.releases.iter_mut().find(|r| r.version == "v2").unwrap();
    release.barrier = Some("the old table is gone".into());
    toy
}

fn give(toy: &mut Toy, name: &str, action: Action) {
    let release = toy.state.phase.rollout().unwrap().release.clone();
    toy.seen.commands.push(Command { name: name.into(), release, action, step: None, by: "ana".into(), reason: None });
}

fn reason(toy: &Toy) -> &'static str {
    toy.last.as_ref().unwrap().reason.word()
}

fn outcome(toy: &Toy, version: &str) -> Option<Outcome> {
    toy.seen.releases.iter().find(|r| r.version == version).unwrap().outcome
}

/// All of the traffic is on v2.
fn beyond() -> Toy {
    let mut toy = migrating();
    toy.until(|t| reason(t) == "ApprovalRequired");
    give(&mut toy, "yes", Action::Approve);
    toy.until(|t| t.phase() == "Guarding" && t.seen.services[0].pin == Pin::Canary && t.quiet());
    toy.story();
    toy
}

#[test]
fn a_barrier_stops_before_all_of_the_traffic_for_as_long_as_it_takes() {
    let mut toy = migrating();
    toy.until(|t| reason(t) == "ApprovalRequired");
    assert!(matches!(toy.state.phase.rollout().unwrap().stage, Stage::Canary { step: 2 }));
    let waits = toy.now;
    toy.plan.deadline = Duration::from_mins(1);
    while after(waits, Duration::from_mins(5)) > toy.now {
        toy.pass();
    }
    let says = toy.last.as_ref().unwrap().reason.to_string();
    assert_eq!(says, "v2 waits for an approval before step 4 (100 %): kubectl haldane approve shop", "no deadline takes it back");
    give(&mut toy, "yes", Action::Approve);
    toy.until(|t| t.live() == "v2" && t.quiet());
}

#[test]
fn a_failure_before_it_has_traffic_takes_it_back_as_any_other() {
    let mut toy = migrating();
    toy.canary_fails = true;
    toy.until(live_and_quiet);
    assert_eq!(outcome(&toy, "v2"), Some(Outcome::RolledBack));
}

#[test]
fn a_failure_beside_the_old_version_takes_its_traffic_off_and_halts_it() {
    let mut toy = migrating();
    toy.until(|t| t.phase() == "Canary" && t.quiet());
    toy.story();
    toy.canary_fails = true;
    toy.until(|t| t.phase() == "Halted");
    for _ in 0..200 {
        toy.pass();
    }
    assert_eq!(toy.story(), "pin v1; v2 Halted", "the canary stays, and nothing goes back");
    let decision = toy.last.as_ref().unwrap();
    let says = decision.reason.to_string();
    assert!(
        says.starts_with(
            "v2 is halted (home: GET / answered 500, expected 200 on canary, passed on stable; 3 of 6 samples failed on the canary alone; "
        ),
        "{says}"
    );
    assert!(says.ends_with("the old table is gone. Decide: kubectl haldane rollback, retry or promote"), "{says}");
    assert!(decision.health.unavailable.is_some() && decision.health.stalled.is_some());
    give(&mut toy, "back", Action::Rollback);
    toy.until(live_and_quiet);
    assert_eq!((outcome(&toy, "v2"), toy.live().as_str()), (Some(Outcome::RolledBack), "v1"));
}

#[test]
fn a_halted_version_makes_room_for_its_mend() {
    let mut toy = migrating();
    toy.until(|t| t.phase() == "Canary" && t.quiet());
    toy.canary_fails = true;
    toy.until(|t| t.phase() == "Halted");
    toy.set_image("v3");
    toy.until(|t| outcome(t, "v2") == Some(Outcome::Superseded));
    toy.canary_fails = false;
    toy.until(|t| t.live() == "v3" && t.quiet());
}

#[test]
fn a_retry_asks_a_halted_version_anew_where_it_stands() {
    let mut toy = migrating();
    toy.until(|t| t.phase() == "Canary" && t.quiet());
    toy.canary_fails = true;
    toy.until(|t| t.phase() == "Halted");
    toy.canary_fails = false;
    give(&mut toy, "again", Action::Retry);
    toy.story();
    toy.until(|t| reason(t) == "ApprovalRequired");
    assert!(toy.story().starts_with("v2 Rolling; command Done; pin off"));
    assert_eq!(toy.state.phase.rollout().unwrap().halted, None);
}

#[test]
fn with_all_of_the_traffic_a_failure_moves_nothing() {
    let mut toy = beyond();
    toy.canary_fails = true;
    toy.until(|t| t.phase() == "Halted");
    for _ in 0..200 {
        toy.pass();
    }
    assert_eq!(toy.story(), "v2 Halted");
    assert_eq!(toy.seen.services[0].pin, Pin::Canary);
    toy.set_image("v3");
    for _ in 0..200 {
        toy.pass();
    }
    assert_eq!((toy.phase(), toy.seen.services[0].pin.clone()), ("Halted", Pin::Canary), "also a newer version waits for a person");
    give(&mut toy, "back", Action::Rollback);
    toy.story();
    toy.pass();
    assert!(toy.story().starts_with("pin v1"), "a person's word is carried out at once");
}

#[test]
fn a_promotion_takes_a_halted_version_on() {
    let mut toy = beyond();
    toy.canary_fails = true;
    toy.until(|t| t.phase() == "Halted");
    toy.canary_fails = false;
    give(&mut toy, "on", Action::Promote);
    toy.until(|t| t.live() == "v2" && t.quiet());
    assert_eq!(outcome(&toy, "v2"), Some(Outcome::Live));
}

#[test]
fn a_live_version_beyond_its_barrier_is_not_taken_back() {
    let mut toy = beyond();
    toy.until(|t| t.live() == "v2" && t.quiet());
    let now = toy.now;
    let failed = || RestSample { at: after(now, Duration::from_secs(1)), probe: "home".into(), wrong: Some("500".into()) };
    toy.seen.probes.rest = vec![failed(), failed(), failed()];
    for _ in 0..20 {
        toy.pass();
    }
    assert_eq!((&toy.state.phase, toy.live().as_str()), (&Phase::Live, "v2"));
    assert!(toy.last.as_ref().unwrap().health.unavailable.is_some(), "and people are told");
}

#[test]
fn what_stable_lacks_takes_nothing_back_once_customers_have_met_it() {
    let mut toy = migrating();
    toy.until(|t| t.phase() == "Canary" && t.quiet());
    toy.workload().refused = Some(Trouble::Refused { word: "FailedCreate".into(), says: "exceeded quota: few".into() });
    toy.until(|t| reason(t) == "ApprovalRequired");
    assert!(toy.w().canary.is_some() && toy.phase() == "Canary", "the old version may not live with what the new one has done");
}
