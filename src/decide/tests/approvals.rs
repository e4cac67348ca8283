//! Steps that a person must approve.

use std::time::Duration;

use super::{live_and_quiet, toy::Toy};
use crate::{
    api::{command::Action, release::Outcome},
    decide::{check::check, decide},
    model::{
        decision::Effect,
        phase::{Phase, Stage, after},
        version::ReleaseName,
        world::Command,
    },
};

/// v2 on its way over 5, 25 and 50 %, of which the second waits for a person.
fn asking() -> Toy {
    let mut toy = Toy::adopted(20);
    toy.plan.steps[1].approval = true;
    toy.set_image("v2");
    toy
}

fn step(toy: &Toy) -> Option<usize> {
    match toy.state.phase.rollout()?.stage {
        Stage::Canary { step } => Some(step),
        _ => None,
    }
}

fn order(toy: &Toy, name: &str, action: Action, step: Option<usize>) -> Command {
    let release = toy.state.phase.rollout().map_or_else(|| ReleaseName::new("over"), |r| r.release.clone());
    Command { name: name.into(), release, action, step, by: "ana".into(), reason: Some("the figures are good".into()) }
}

fn waits(toy: &Toy) -> bool {
    toy.last.as_ref().is_some_and(|d| d.reason.word() == "ApprovalRequired")
}

/// What each open order is answered now.
fn answers(toy: &Toy) -> Vec<String> {
    let decision = decide(&toy.plan, &toy.state, &toy.seen, toy.now);
    let told = |effect: &Effect| match effect {
        Effect::SettleCommand { result, message, .. } => Some(format!("{result:?}: {message}")),
        _ => None,
    };
    decision.effects.iter().filter_map(told).collect()
}

#[test]
fn a_step_that_needs_an_approval_is_entered_after_it_and_not_before() {
    let mut toy = asking();
    toy.until(waits);
    let decision = toy.last.clone().unwrap();
    assert_eq!(decision.reason.to_string(), "v2 waits for an approval before step 2 (25 %): kubectl haldane approve shop");
    assert_eq!((step(&toy), decision.health.stalled), (Some(0), None));
    let baked = toy.now;
    while after(baked, Duration::from_mins(5)) > toy.now {
        toy.pass();
        assert_eq!(step(&toy), Some(0));
    }
    let yes = order(&toy, "c1", Action::Approve, Some(2));
    toy.seen.commands.push(yes);
    toy.story();
    toy.until(|t| step(t) == Some(1));
    toy.until(|t| t.live() == "v2" && t.quiet());
    assert!(toy.story().starts_with("command Done; canary 6"), "the order is answered and the step entered");
}

#[test]
fn an_approval_is_stored_before_anything_is_done_for_it() {
    let mut toy = asking();
    toy.until(waits);
    let yes = order(&toy, "c1", Action::Approve, None);
    toy.seen.commands.push(yes);
    toy.pass();
    let rollout = toy.state.phase.rollout().unwrap();
    assert_eq!((step(&toy), rollout.approved.as_slice()), (Some(0), [1].as_slice()));
    let notes: Vec<String> = toy.last.as_ref().unwrap().notes.iter().map(ToString::to_string).collect();
    assert_eq!(notes, ["step 2 of v2 is approved by ana: the figures are good"]);
}

#[test]
fn an_approval_is_about_one_step_of_one_release() {
    let mut toy = asking();
    toy.until(waits);
    let mut other = order(&toy, "c1", Action::Approve, Some(2));
    other.release = ReleaseName::new("shop-v9");
    for (order, answer) in [
        (other, "Void: shop-v9 is not on its way, "),
        (order(&toy, "c2", Action::Approve, Some(1)), "Void: it has step 1 already"),
        (order(&toy, "c3", Action::Approve, Some(3)), "Void: step 3 needs no approval"),
        (order(&toy, "c4", Action::Approve, Some(4)), "Void: step 4 needs no approval"),
    ] {
        toy.seen.commands = vec![order];
        assert!(answers(&toy)[0].starts_with(answer), "{:?}", answers(&toy));
    }
    toy.seen.commands = vec![order(&toy, "c5", Action::Approve, None), order(&toy, "c6", Action::Approve, None)];
    toy.until(|t| step(t) == Some(1));
    assert_eq!(toy.story().matches("command Done").count(), 1, "the second of two says that it came late");
    toy.until(|t| t.live() == "v2" && t.quiet());
    toy.seen.commands = vec![order(&toy, "c7", Action::Approve, Some(2))];
    assert_eq!(answers(&toy), ["Void: no rollout is in flight"]);
}

#[test]
fn a_promotion_ends_the_bake_and_is_no_approval() {
    let mut toy = asking();
    toy.until(|t| step(t) == Some(0) && t.quiet());
    let on = order(&toy, "c1", Action::Promote, None);
    toy.seen.commands.push(on);
    toy.until(waits);
    for _ in 0..20 {
        toy.pass();
    }
    assert_eq!(step(&toy), Some(0));
    let yes = order(&toy, "c2", Action::Approve, None);
    toy.seen.commands.push(yes);
    toy.until(|t| step(t) == Some(1));
}

#[test]
fn steps_that_are_one_stop_wait_together() {
    let mut toy = Toy::adopted(4);
    toy.plan.steps[0].approval = true;
    toy.set_image("v2");
    toy.until(waits);
    assert_eq!(toy.phase(), "Preflight", "5 % and 25 % of four pods are one pod");
    let yes = order(&toy, "c1", Action::Approve, Some(1));
    toy.seen.commands.push(yes);
    toy.until(|t| t.live() == "v2");
}

#[test]
fn nothing_that_waits_for_an_approval_keeps_it_from_going_back() {
    let mut toy = asking();
    toy.until(waits);
    toy.canary_fails = true;
    toy.until(live_and_quiet);
    assert_eq!(toy.seen.releases.iter().find(|r| r.version == "v2").unwrap().outcome, Some(Outcome::RolledBack));

    let mut toy = asking();
    toy.until(waits);
    toy.until(|t| matches!(t.state.phase, Phase::RolledBack { .. }));
    let why = toy.last.as_ref().unwrap().reason.to_string();
    assert!(why.contains("did not get all traffic by its deadline (v2 waits for an approval"), "{why}");
}

#[test]
fn a_newer_version_takes_the_place_of_one_that_waits_for_a_person() {
    let mut toy = asking();
    toy.until(waits);
    toy.plan.steps[1].approval = false;
    toy.plan.steps[2].approval = true;
    toy.until(|t| step(t) == Some(1) && waits(t));
    toy.set_image("v3");
    toy.until(|t| t.seen.releases.iter().any(|r| r.version == "v2" && r.outcome == Some(Outcome::Superseded)));
}

#[test]
fn a_version_that_comes_back_asks_nobody() {
    let mut toy = Toy::adopted(20);
    toy.set_image("v2");
    toy.until(|t| t.live() == "v2" && t.quiet());
    toy.plan.steps.iter_mut().for_each(|step| step.approval = true);
    let release = toy.state.live.as_ref().unwrap().release.clone();
    toy.seen.commands.push(Command { release, ..order(&toy, "c1", Action::Rollback, None) });
    toy.until(|t| t.live() == "v1" && t.quiet());
}

#[test]
fn a_decision_that_enters_a_step_without_its_approval_is_not_carried_out() {
    let mut toy = asking();
    toy.until(waits);
    let mut decision = decide(&toy.plan, &toy.state, &toy.seen, toy.now);
    let mut rollout = toy.state.phase.rollout().unwrap().clone();
    rollout.stage = Stage::Canary { step: 1 };
    decision.next = toy.state.to(Phase::Rolling(rollout), toy.now);
    decision.holds.clear();
    let broken = check(&toy.plan, &toy.state, &toy.seen, &decision, toy.now).unwrap_err();
    assert_eq!((broken.rule, broken.what.as_str()), ("I20", "enters step 2 without its approval"));
}
