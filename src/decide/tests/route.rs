//! The route way, told by the toy.

use super::toy::Toy;
use crate::model::{
    decision::Reason,
    phase::{Phase, Stage},
    route::{Course, Route, Word},
    version::Weight,
    world::{ByRoute, Told},
};

fn at(toy: &Toy) -> Option<u8> {
    toy.seen.routes.first().and_then(|route| route.course.as_ref()).map(|course| course.weight().percent())
}

fn rolled(replicas: u32) -> Toy {
    let mut toy = Toy::by_route(replicas);
    toy.set_image("v2");
    toy
}

#[test]
fn a_good_version_goes_live_by_its_route() {
    let mut toy = rolled(4);
    toy.until(|t| t.live() == "v2" && t.quiet());
    assert_eq!(
        toy.story(),
        "record v2; pin v1; front; canary 1; route 0+t; route 5+t; route 25+t; canary 2; route 50+t; canary 4; route 100+t; \
         pin canary; open; close; pin stable; route 0; canary away; pin off; route left; front away; v2 Live"
    );
}

#[test]
fn testers_get_there_first_and_the_others_stay() {
    let mut toy = rolled(4);
    toy.until(|t| {
        matches!(t.state.phase.rollout().map(|r| &r.stage), Some(Stage::Canary { step: 0 })) && t.log.iter().any(|l| l == "route 0+t")
    });
    assert_eq!(at(&toy), Some(0));
    toy.pass();
    let reason = toy.last.as_ref().unwrap().reason.to_string();
    assert_eq!(reason, "v2 is reached by testers alone (X-Haldane-Track: canary) and bakes");
}

#[test]
fn a_bad_version_leaves_by_one_write_and_its_pods_later() {
    let mut toy = rolled(4);
    toy.until(|t| at(t) == Some(25));
    toy.story();
    toy.canary_fails = true;
    toy.until(|t| t.phase() == "RolledBack" && t.quiet());
    assert_eq!(toy.story(), "route 0; canary away; pin off; route left; front away; v2 RolledBack");
    assert_eq!(toy.live(), "v1");
}

#[test]
fn at_full_weight_it_is_still_one_write_back() {
    let mut toy = rolled(4);
    toy.until(|t| at(t) == Some(100) && t.phase() == "Guarding");
    toy.story();
    toy.canary_fails = true;
    toy.until(|t| t.phase() == "RolledBack" && t.quiet());
    assert!(toy.story().starts_with("route 0; canary away"));
}

#[test]
fn a_share_falls_with_the_pods_that_carry_it() {
    let mut toy = rolled(4);
    toy.until(|t| at(t) == Some(50));
    let ready = |toy: &mut Toy, ready: usize| {
        let since = toy.now;
        let pods = &mut toy.workload().canary.as_mut().unwrap().pods;
        pods.iter_mut().enumerate().for_each(|(at, pod)| pod.ready_since = (at < ready).then_some(since));
        toy.pass();
    };
    ready(&mut toy, 1);
    assert_eq!(at(&toy), Some(25), "one pod of four carries a quarter");
    ready(&mut toy, 0);
    assert_eq!(toy.seen.routes.first().unwrap().course, Some(Course::CLOSED));
    ready(&mut toy, 1);
    assert_eq!(at(&toy), Some(0), "what has fallen is raised when all are there");
    ready(&mut toy, 2);
    assert_eq!(at(&toy), Some(50));
}

#[test]
fn what_those_who_serve_it_say_holds_the_way_up_and_not_the_way_back() {
    let table = [
        (Word::Refused("Accepted=False (NoMatchingParent): no".into()), "RouteRefused"),
        (Word::Silent, "RouteSilent"),
        (Word::Stale, "RouteStale"),
    ];
    for (word, expected) in table {
        let mut toy = rolled(4);
        toy.until(|t| at(t) == Some(5));
        toy.seen.routes.iter_mut().for_each(|r| r.word = word.clone());
        toy.until(|t| t.last.as_ref().is_some_and(|d| d.reason.word() == expected));
        assert_eq!(at(&toy), Some(5), "{expected}");
        toy.canary_fails = true;
        toy.until(|t| at(t) == Some(0) && t.phase() == "RollingBack");
        let start = toy.now;
        toy.until(|t| t.phase() != "RollingBack" || t.now > start + std::time::Duration::from_mins(2));
        // Who has not read it serves it as it stood before: to the canary, whose pods have to be there.
        assert_eq!(toy.w().canary.is_some(), expected != "RouteSilent", "{expected}");
        toy.seen.routes.iter_mut().for_each(|r| r.word = Word::Taken);
        toy.until(|t| t.phase() == "RolledBack" && t.quiet());
    }
}

#[test]
fn whoever_writes_it_back_is_told_and_not_fought() {
    let mut toy = rolled(4);
    toy.until(|t| at(t) == Some(25));
    toy.story();
    let mut writes = 0;
    let start = toy.now;
    while toy.now < start + std::time::Duration::from_mins(5) {
        for route in &mut toy.seen.routes {
            // Every pass: as often as a sync may come.
            (route.course, route.most, route.changed_by) = (Some(Course::Stable), Weight::ZERO, Some("argocd".into()));
        }
        toy.pass();
        writes += toy.story().matches("route 25").count();
    }
    assert!((4..=6).contains(&writes), "about one a minute, not {writes}");
    let Some(Phase::Rolling(rollout)) = Some(&toy.state.phase) else { panic!("{:?}", toy.state.phase) };
    assert!(matches!(rollout.stage, Stage::Canary { .. }), "it does not go on meanwhile");
    assert_eq!(toy.last.as_ref().unwrap().reason.word(), "RouteFoughtBy");
    // A write that gives the canary more than its step, if only by one of its rules, is taken back at once.
    for course in [Some(Course::Shared { weight: Weight::FULL, testers: None }), None] {
        let route = toy.seen.routes.first_mut().unwrap();
        (route.course, route.most, route.changed_by) = (course, Weight::FULL, Some("kubectl-edit".into()));
        toy.pass();
        assert_eq!(at(&toy), Some(25));
    }
}

#[test]
fn what_was_written_by_another_is_no_reason_to_wait_on_the_way_back() {
    let mut toy = rolled(4);
    toy.until(|t| at(t) == Some(25));
    toy.canary_fails = true;
    let route = toy.seen.routes.first_mut().unwrap();
    (route.course, route.changed_by) = (None, Some("kubectl-edit".into()));
    toy.pass();
    toy.until(|t| t.phase() == "RolledBack" && t.quiet());
    assert_eq!(toy.seen.routes.first().unwrap().course, Some(Course::Left));
}

#[test]
fn a_rollout_does_not_move_when_its_route_is_gone() {
    let mut toy = rolled(4);
    toy.until(|t| at(t) == Some(25));
    let route = toy.seen.routes.pop().unwrap();
    let missing = Reason::RouteMissing { route: route.name.to_string() };
    toy.seen.problems.push(missing.clone());
    toy.until(|t| t.last.as_ref().is_some_and(|d| d.reason == missing));
    toy.pass();
    assert_eq!(toy.phase(), "Canary");
    toy.canary_fails = true;
    toy.until(|t| t.phase() == "RolledBack" && t.quiet());
}

#[test]
fn without_testers_of_its_own_a_route_has_no_step_for_them() {
    let mut toy = rolled(4);
    toy.seen.routes.iter_mut().for_each(|r| r.no_testers = Some(crate::model::route::Unfit::Full(9)));
    toy.until(|t| at(t) == Some(5));
    let story = toy.story();
    assert!(story.ends_with("canary 1; route 0; route 5"), "{story}");
}

#[test]
fn deleted_in_mid_rollout_the_route_goes_home() {
    for weight in [0, 25, 100] {
        let mut toy = rolled(4);
        toy.until(|t| at(t) == Some(weight) && t.log.iter().any(|l| l.starts_with("route")));
        toy.seen.deleting = true;
        toy.until(|t| !t.seen.finalizer);
        assert_eq!(toy.seen.routes.first().unwrap().course, Some(Course::Left), "{weight}");
        assert!(toy.seen.canary_services.is_empty() && toy.w().canary.is_none(), "{weight}");
    }
}

#[test]
fn taken_out_of_the_plan_in_mid_rollout_the_route_is_still_brought_home() {
    let mut toy = rolled(4);
    toy.until(|t| at(t) == Some(25));
    toy.plan.workloads.iter_mut().for_each(|w| w.routes.clear());
    toy.until(|t| t.live() == "v2" && t.quiet());
    assert_eq!(toy.seen.routes.first().unwrap().course, Some(Course::Left));
}

#[test]
fn an_old_version_comes_back_by_the_route_too() {
    let mut toy = rolled(4);
    toy.until(|t| t.live() == "v2" && t.quiet());
    toy.story();
    for _ in 0..5 {
        toy.seen.probes.rest.push(crate::model::world::RestSample {
            at: toy.now + std::time::Duration::from_secs(1),
            probe: "home".into(),
            wrong: Some("GET / answered 500".into()),
        });
    }
    toy.until(|t| t.live() == "v1" && t.quiet());
    let story = toy.story();
    assert!(
        story.contains("route 100; pin canary; open")
            && story.contains("; route 0; ")
            && story.ends_with("route left; front away; v2 RolledBack"),
        "{story}"
    );
}

/// What is said of a probe that is to go by the route when the version leaves Preflight.
fn said(told: Told, change: impl Fn(&mut Toy)) -> Vec<String> {
    let mut toy = rolled(4);
    let (probe, service, header) = ("buy".to_owned(), "shop".to_owned(), "X-Shop-Version".to_owned());
    toy.seen.probes.by_route = vec![ByRoute { probe, service, header, told }];
    change(&mut toy);
    let mut said = Vec::new();
    while toy.live() != "v2" {
        toy.pass();
        let notes = toy.last.iter().flat_map(|decision| &decision.notes);
        said.extend(notes.filter(|note| matches!(note, Reason::ProbeNotByRoute { .. })).map(ToString::to_string));
        assert!(toy.log.len() < 500, "{:?}", toy.log);
    }
    said
}

fn each(toy: &mut Toy, change: impl Fn(&mut Route)) {
    toy.seen.routes.iter_mut().for_each(change);
}

#[test]
fn a_probe_that_cannot_go_by_the_route_is_told_once_and_holds_nothing() {
    let why = |why: &str| vec![format!("ProductionProbe buy asks pods alone, and nothing by the route: {why}")];
    assert_eq!(said(Told::Apart, |_| {}), Vec::<String>::new());
    let address = why("no Gateway of HTTPRoute shop has an address and a listener for HTTP or HTTPS; see its status");
    assert_eq!(said(Told::Apart, |toy| each(toy, |route| route.edge = None)), address);
    assert_eq!(said(Told::Apart, |toy| each(toy, |route| route.edge = Some(crate::model::route::Edge::default()))), address);
    let alike = "canary and stable say the same by the header X-Shop-Version, so nobody can tell who answered; see target.answeredBy";
    assert_eq!(said(Told::Alike, |_| {}), why(alike));
    let unsaid = "its pods do not say by the header X-Shop-Version which version they are; see target.answeredBy";
    assert_eq!(said(Told::Unsaid, |_| {}), why(unsaid));
    let elsewhere = |toy: &mut Toy| toy.seen.probes.by_route.iter_mut().for_each(|probe| probe.service = "other".to_owned());
    assert_eq!(said(Told::Apart, elsewhere), Vec::<String>::new(), "nothing of that Service is new");
    let untested = |toy: &mut Toy| toy.plan.steps.retain(|step| step.testers.is_none());
    assert_eq!(said(Told::Apart, untested), why("no step of the rollout is one of testers"));
}
