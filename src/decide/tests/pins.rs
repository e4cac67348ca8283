//! Pins reach ready pods, or they are not there.

use super::toy::Toy;
use crate::{
    decide::check::check,
    model::{
        decision::{Decision, Effect, Reason, Wait},
        world::Pin,
    },
};

#[test]
fn nobody_is_pinned_to_pods_that_the_services_own_selector_leaves_out() {
    let mut toy = Toy::adopted(4);
    toy.unfit = true;
    toy.set_image("v2");
    (0..200).for_each(|_| toy.pass());
    assert!(!toy.story().contains("pin "), "{:?}", toy.log);
    assert!(toy.w().canary.is_none(), "nothing could keep users from it");
}

#[test]
fn a_pin_that_reaches_nobody_comes_off() {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Guarding" && t.log.iter().any(|l| l == "pin canary"));
    toy.log.clear();
    toy.unfit = true;
    (0..3).for_each(|_| toy.pass());
    assert_eq!(toy.log.first().map(String::as_str), Some("pin off"), "{:?}", toy.log);
}

#[test]
fn the_way_back_ends_when_the_service_was_pointed_elsewhere() {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Canary" && t.w().canary.is_some());
    (toy.unfit, toy.canary_fails) = (true, true);
    toy.until(|t| t.phase() == "RolledBack");
    assert!(toy.w().canary.is_none());
}

#[test]
fn a_decision_that_pins_to_nobody_is_not_carried_out() {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Guarding" && t.w().canary.as_ref().is_some_and(|c| c.ready() == 4));
    let mut decision = Decision::stay(&toy.state, Reason::DeliveryDeleted, Wait::Now);
    decision.effects = vec![Effect::PinService { service: "shop".to_owned(), pin: Pin::Canary }];
    let asked = |toy: &Toy| check(&toy.plan, &toy.state, &toy.seen, &decision, toy.now);
    assert_eq!(asked(&toy), Ok(()));
    toy.seen.services.iter_mut().for_each(|s| s.fits.clear());
    assert_eq!(asked(&toy).unwrap_err().rule, "I22");
}
