//! Capacity Small: a fourth of stable's pods beside it at most, and stable takes the version in place.

use std::time::Duration;

use super::{super::decide, live_and_quiet, toy::Toy};
use crate::{
    api::delivery::Capacity,
    model::{
        decision::Effect,
        phase::{Phase, after},
        version::Weight,
        world::{Canary, Pin, RestSample},
    },
};

fn small(replicas: u32) -> Toy {
    let mut toy = Toy::adopted(replicas);
    toy.plan.capacity = Capacity::Small;
    toy
}

fn by_route(replicas: u32) -> Toy {
    let mut toy = Toy::by_route(replicas);
    toy.plan.capacity = Capacity::Small;
    toy
}

fn told(toy: &Toy) -> &str {
    toy.last.as_ref().map(|d| d.reason.word()).unwrap_or_default()
}

fn fails_at_rest(toy: &mut Toy, times: u64) {
    for at in 1..=times {
        let at = after(toy.now, Duration::from_millis(at));
        toy.seen.probes.rest.push(RestSample { at, probe: "home".into(), wrong: Some("GET / answered 500".into()) });
    }
}

/// Half of stable has the new version.
fn half_way() -> Toy {
    let mut toy = small(4);
    toy.set_image("v2");
    toy.part = Some(2);
    toy.until(|t| t.phase() == "Finalizing" && !t.w().paused && t.w().replica_sets.iter().all(|rs| rs.wanted == 2));
    toy.story();
    toy
}

#[test]
fn stable_takes_a_good_version_in_place_when_the_canary_has_left() {
    let mut toy = small(8);
    toy.set_image("v2");
    let mut greatest = 0;
    while !live_and_quiet(&toy) || toy.live() != "v2" {
        toy.pass();
        greatest = greatest.max(toy.w().canary.as_ref().map_or(0, |c| c.wanted));
        assert!(toy.w().paused || toy.w().canary_left == 0 && toy.seen.services.iter().all(|s| s.pin == Pin::Off), "{:?}", toy.log);
        assert!(!toy.seen.services.iter().any(|s| s.pin == Pin::Canary));
        assert!(!["Promoting", "Guarding"].contains(&toy.phase()));
    }
    assert_eq!(greatest, 2, "two of eight");
    assert_eq!(toy.story(), "record v2; pin v1; canary 1; pin off; canary 2; pin v1; canary away; pin off; open; close; v2 Live");
}

#[test]
fn by_a_route_no_share_is_above_what_the_pods_carry() {
    let mut toy = by_route(4);
    toy.set_image("v2");
    let mut shares = vec![];
    while !live_and_quiet(&toy) || toy.live() != "v2" {
        toy.pass();
        let most = toy.last.iter().flat_map(|d| &d.effects).filter_map(|e| match e {
            Effect::SendRoute { course, .. } => Some(course.weight()),
            _ => None,
        });
        shares.extend(most);
        assert!(toy.w().canary.as_ref().is_none_or(|c| c.wanted <= 1));
        assert!(toy.w().paused || toy.w().canary_left == 0);
    }
    shares.dedup();
    assert_eq!(shares, [Weight::ZERO, Weight::new(5), Weight::new(25), Weight::ZERO], "50 % is cut to what one of four carries");
}

#[test]
fn people_are_told_what_is_cut() {
    for (replicas, said) in [(3, Some("33 %")), (1, None)] {
        let mut toy = by_route(replicas);
        toy.set_image("v2");
        let mut notes = vec![];
        while toy.phase() != "Finalizing" {
            toy.pass();
            notes.extend(toy.last.iter().flat_map(|d| &d.notes).filter(|n| n.word() == "CapacitySmall").map(ToString::to_string));
        }
        assert_eq!(notes.len(), usize::from(said.is_some()), "{notes:?}");
        assert!(said.is_none_or(|said| notes[0].contains(said)), "{notes:?}");
    }
}

#[test]
fn a_version_that_fails_half_way_goes_back_by_its_template() {
    let mut toy = half_way();
    toy.canary_fails = true;
    toy.until(|t| t.phase() == "RollingBack");
    toy.part = None;
    toy.until(live_and_back);
    assert_eq!(toy.story(), "open; close; put; v2 RolledBack");
    assert_eq!(toy.live(), "v1");
}

fn live_and_back(toy: &Toy) -> bool {
    matches!(toy.state.phase, Phase::RolledBack { .. }) && toy.quiet()
}

#[test]
fn while_enough_of_the_good_pods_are_there_the_traffic_goes_to_these_at_once() {
    let mut toy = small(4);
    toy.set_image("v2");
    toy.part = Some(1);
    toy.until(|t| t.phase() == "Finalizing" && !t.w().paused && t.w().replica_sets.len() == 2);
    toy.canary_fails = true;
    toy.until(|t| t.phase() == "RollingBack");
    let first = toy.last.iter().flat_map(|d| &d.effects).next();
    assert!(matches!(first, Some(Effect::PinService { pin: Pin::Stable(_), .. })), "{first:?}");
}

#[test]
fn a_version_that_fails_when_it_serves_alone_is_not_live() {
    let mut toy = small(4);
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Finalizing" && t.quiet() && t.w().rolled_to(&t.w().template_hash()));
    assert_eq!(told(&toy), "RollingInPlace");
    toy.stable_fails = true;
    toy.until(live_and_back);
    assert_eq!(toy.live(), "v1");
}

#[test]
fn pods_that_do_not_get_ready_in_place_take_it_back() {
    let mut toy = half_way();
    let workload = toy.workload();
    workload.stuck = true;
    for pod in workload.pods.iter_mut().skip(2) {
        pod.ready_since = None;
    }
    let decision = decide(&toy.plan, &toy.state, &toy.seen, toy.now);
    assert_eq!((decision.next.phase.label(), decision.reason.word()), ("RollingBack", "CanaryCrashed"));
}

#[test]
fn the_guard_is_the_time_that_stable_serves_it_alone() {
    let mut toy = small(4);
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Finalizing" && t.quiet() && t.w().rolled_to(&t.w().template_hash()));
    let (rolled, guard) = (toy.now, toy.plan.guard);
    toy.until(|t| t.live() == "v2");
    let took = toy.now.duration_since(rolled);
    assert!(Duration::try_from(took).unwrap() + Duration::from_secs(15) >= guard, "{took}");
}

#[test]
fn a_young_version_that_fails_comes_back_in_place() {
    let mut toy = small(4);
    toy.set_image("v2");
    toy.until(|t| t.live() == "v2" && live_and_quiet(t));
    toy.story();
    fails_at_rest(&mut toy, 3);
    toy.until(live_and_back);
    assert_eq!(toy.live(), "v1");
    assert!(!toy.story().contains("canary"), "no pods beside it");
}

#[test]
fn what_was_begun_with_one_capacity_ends_with_it() {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Guarding");
    toy.plan.capacity = Capacity::Small;
    toy.until(|t| {
        assert!(t.w().canary.as_ref().is_none_or(|c| c.wanted == 4));
        t.live() == "v2" && live_and_quiet(t)
    });
}

#[test]
fn a_delivery_that_goes_before_stable_rolls_goes_back() {
    let mut toy = small(8);
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Finalizing" && t.w().canary.as_ref().is_some_and(|c| c.ready() > 0));
    toy.seen.deleting = true;
    toy.until(|t| !t.seen.finalizer);
    assert!(!toy.story().contains("pin canary"), "{:?}", toy.log);
    let old = toy.w().replica_sets[0].template.clone();
    assert!(toy.w().rolled_to(&old) && !toy.w().paused && toy.w().canary.is_none());
}

#[test]
fn the_way_back_says_how_long_it_takes() {
    let took = |toy: &mut Toy, seconds: u64| {
        let made = crate::model::phase::before(toy.now, Duration::from_secs(seconds));
        let (now, workload) = (toy.now, toy.workload());
        for pod in &mut workload.pods {
            (pod.created, pod.ready_since) = (Some(made), Some(now));
        }
    };
    let expected = |toy: &Toy| toy.last.as_ref().and_then(|d| d.health.way_back).map(|span| span.as_secs());
    for (capacity, seconds) in [(Capacity::Full, 15), (Capacity::Small, 45)] {
        let mut toy = Toy::adopted(4);
        toy.plan.capacity = capacity;
        took(&mut toy, 11);
        toy.pass();
        assert_eq!(expected(&toy), Some(seconds), "at rest its pods start first: four after each other, or all at once");
        toy.set_image("v2");
        toy.until(|t| t.phase() == "Canary" && t.w().canary.as_ref().map_or(0, Canary::ready) > 0);
        assert_eq!(expected(&toy), Some(1), "one write");
    }
}

#[test]
fn nobody_has_guarded_what_nobody_asked() {
    let mut toy = small(4);
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Finalizing" && t.quiet() && t.w().rolled_to(&t.w().template_hash()));
    // The controller is away for the guard, and what it had seen goes with it.
    toy.seen.probes.rest.clear();
    toy.now = after(toy.now, toy.plan.guard);
    toy.pass();
    assert_eq!(toy.phase(), "Finalizing");
    toy.mute = true;
    toy.until(|t| told(t) == "NoData");
    (toy.mute, toy.stable_fails) = (false, true);
    toy.until(live_and_back);
    assert_eq!(toy.live(), "v1");
}
