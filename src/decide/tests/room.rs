//! Stable first: a canary makes room; it starts only where it would be treated alike; and where traffic follows late, both match.

use super::toy::Toy;
use crate::model::{decision::Wait, world::Trouble};

fn refused() -> Trouble {
    Trouble::Refused { word: "FailedCreate".into(), says: "exceeded quota: few".into() }
}

fn sees(toy: &Toy, line: &str) -> bool {
    toy.log.iter().any(|l| l.starts_with(line))
}

#[test]
fn a_canary_makes_room_for_stable_and_begins_anew_when_stable_is_whole() {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Canary" && t.quiet());
    toy.workload().refused = Some(refused());
    toy.until(|t| t.w().canary.is_none() && t.quiet());
    let last = toy.last.clone().unwrap();
    assert_eq!((last.reason.word(), toy.phase()), ("StableLacksRoom", "Preflight"));
    assert!(last.reason.to_string().contains("exceeded quota: few"));
    assert!(toy.state.quarantine.is_empty(), "nobody is blamed for what the cluster refuses");
    let pinned = toy.log.iter().rposition(|l| l == "pin v1").unwrap();
    let gone = toy.log.iter().rposition(|l| l == "canary away").unwrap();
    assert!(pinned < gone, "traffic first: {:?}", toy.log);
    for _ in 0..20 {
        toy.pass();
    }
    assert!(toy.w().canary.is_none(), "it is not made again meanwhile");
    toy.workload().refused = None;
    toy.until(|t| t.live() == "v2" && t.quiet());
}

#[test]
fn with_all_of_the_traffic_the_canary_stays_whatever_stable_lacks() {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Guarding" && t.quiet());
    toy.workload().refused = Some(refused());
    toy.until(|t| t.live() == "v2" && t.quiet());
}

#[test]
fn a_canary_that_would_be_treated_otherwise_does_not_start() {
    let mut toy = Toy::adopted(4);
    toy.workload().differs = Some("spec.podSelector of NetworkPolicy db (version=v1) fits the pods that serve and not the canary's".into());
    toy.set_image("v2");
    for _ in 0..5 {
        toy.pass();
    }
    let last = toy.last.clone().unwrap();
    assert_eq!((last.reason.word(), toy.phase()), ("CanaryWouldDiffer", "Live"));
    assert!(toy.w().canary.is_none());
    assert!(matches!(last.wait, Wait::Until(at) if at.duration_since(toy.now).as_secs() <= 10), "nobody tells us of a NetworkPolicy");
    toy.workload().differs = None;
    toy.until(|t| t.live() == "v2" && t.quiet());
}

#[test]
fn where_traffic_follows_late_no_service_is_ever_left_to_the_new_version_alone() {
    let mut toy = Toy::adopted(8);
    toy.seen.services[0].gradual = Some("its load balancer has pods as targets".into());
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Preflight");
    assert!(toy.last.as_ref().unwrap().notes.iter().any(|note| note.word() == "SwitchGradual"), "people are told once");
    toy.until(|t| t.live() == "v2" && t.quiet());
    assert!(!sees(&toy, "pin canary") && sees(&toy, "canary 1"), "{:?}", toy.log);
    assert!(!sees(&toy, "canary 3"), "a fourth of the pods at most: {:?}", toy.log);
}
