//! Mode Observe.

use super::toy::Toy;
use crate::{
    api::{delivery::Mode, release::Outcome},
    model::{
        decision::{Reason, Wait},
        phase::Phase,
        world::Pin,
    },
};

fn observing(toy: &mut Toy) {
    toy.plan.mode = Mode::Observe;
}

fn told(toy: &Toy) -> bool {
    toy.last.as_ref().is_some_and(|d| d.reason.word() == "WouldDeliver")
}

#[test]
fn it_says_what_it_would_do_and_does_nothing() {
    let mut toy = Toy::new(4);
    observing(&mut toy);
    for image in ["v1", "v2", "v3"] {
        toy.set_image(image);
        for _ in 0..5 {
            toy.pass();
        }
    }
    assert_eq!((toy.story().as_str(), toy.seen.finalizer, toy.seen.releases.len()), ("", false, 0));
    assert!(!toy.w().paused);
    let decision = toy.last.as_ref().unwrap();
    assert_eq!(
        decision.reason.to_string(),
        "nothing is written in mode Observe; in mode Deliver Deployment shop would be gated at v3, and every change of its template would go over 5 %, 25 %, 50 %, 100 %"
    );
    assert_eq!((decision.wait, &decision.next.phase), (Wait::Change, &Phase::Adopting));
}

#[test]
fn it_says_what_would_stand_in_the_way() {
    let mut toy = Toy::new(4);
    observing(&mut toy);
    toy.seen.problems = vec![Reason::CannotRunTwo { workload: "shop".into(), why: "its strategy is Recreate".into() }];
    toy.pass();
    let decision = toy.last.as_ref().unwrap();
    assert_eq!((decision.reason.word(), decision.holds.len(), toy.log.len()), ("CannotRunTwo", 1, 0));
}

#[test]
fn what_is_on_its_way_goes_back_before_the_gate_is_opened() {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Guarding" && t.seen.services[0].pin == Pin::Canary && t.quiet());
    toy.story();
    observing(&mut toy);
    toy.until(told);
    assert_eq!(toy.story(), "pin v1; canary away; pin off; v2 Superseded; ungate; finalizer off");
    assert!(toy.state.adopted.is_empty() && toy.state.quarantine.is_empty() && !toy.w().paused);
    toy.plan.mode = Mode::Deliver;
    toy.until(|t| t.phase() == "Live" && t.quiet());
    toy.set_image("v3");
    toy.until(|t| t.live() == "v3" && t.quiet());
    assert_eq!(toy.seen.releases.iter().find(|r| r.version == "v2").unwrap().outcome, Some(Outcome::Superseded));
}

#[test]
fn a_roll_of_stable_that_has_begun_is_finished() {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Finalizing" && !t.w().paused);
    toy.story();
    observing(&mut toy);
    toy.until(told);
    assert!(toy.story().contains("v2 Live; ungate"));
}

#[test]
fn a_version_that_fails_is_taken_back_also_when_it_is_only_observed_from_now_on() {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Canary" && t.quiet());
    toy.canary_fails = true;
    toy.until(|t| t.phase() == "RollingBack");
    observing(&mut toy);
    toy.until(told);
    assert_eq!(toy.seen.releases.iter().find(|r| r.version == "v2").unwrap().outcome, Some(Outcome::RolledBack));
}
