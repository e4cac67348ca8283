//! A version is judged by what it logs and by how often its pods are started again.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{live_and_quiet, toy::Toy};
use crate::{
    api::verify::LogsSpec,
    decide::judge::{
        bet::{Fair, Side, Tally},
        book::{Dated, Input},
    },
    model::{
        logs::LogRules,
        phase::{Stage, after},
        world::{Heard, Silent},
    },
};

/// A shop whose log is read.
fn shop() -> Toy {
    let mut toy = Toy::by_route(4);
    toy.plan.steps.remove(0);
    toy.plan.logs = Some(Arc::new(LogRules::read(&LogsSpec::default()).unwrap()));
    toy.seen.probes.logs = Some(Heard::default());
    toy
}

fn at_its_first_share() -> Toy {
    let mut toy = shop();
    toy.set_image("v2");
    until(&mut toy, |t| t.state.phase.rollout().is_some_and(|rollout| rollout.stage == Stage::Canary { step: 0 }));
    toy
}

fn until(toy: &mut Toy, so: impl Fn(&Toy) -> bool) {
    let begun = toy.now;
    while !so(toy) {
        assert!(after(begun, Duration::from_hours(2)) > toy.now, "not so within two hours: {:?}", toy.last);
        toy.pass();
    }
}

fn told(toy: &Toy) -> String {
    toy.last.as_ref().unwrap().reason.to_string()
}

fn seen(toy: &mut Toy, input: Input) {
    let last = toy.seen.probes.samples.iter().map(|dated| dated.at).max().unwrap_or(Timestamp::MIN);
    let at = after(last, Duration::from_micros(1)).max(toy.now);
    toy.seen.probes.samples.push(Dated { at, input });
}

/// A block in which each side wrote so many lines of one kind: one pod of the canary, four of stable.
fn block(toy: &mut Toy, canary: u32, stable: u32) {
    let mut tally = Tally::default();
    tally.scrape(Side::new(100, canary), Side::new(400, stable), Fair::by_requests(1.0));
    seen(toy, Input::Logs(vec![("\"ERROR cannot charge card #\"".to_owned(), tally)]));
    (0..3).for_each(|_| toy.pass());
}

#[test]
fn an_error_of_its_own_takes_it_back_and_says_which() {
    let mut toy = at_its_first_share();
    for _ in 0..30 {
        block(&mut toy, 9, 0);
    }
    until(&mut toy, live_and_quiet);
    assert_eq!(toy.live(), "v1");
    assert!(
        told(&toy).contains("logs: \"ERROR cannot charge card #\": ") && told(&toy).contains(" lines on canary, 0 on stable"),
        "{}",
        told(&toy)
    );
}

#[test]
fn while_it_is_suspected_it_gets_no_more() {
    let mut toy = at_its_first_share();
    for _ in 0..6 {
        block(&mut toy, 9, 0);
    }
    for _ in 0..200 {
        toy.pass();
    }
    assert_eq!(toy.phase(), "Canary");
    assert!(told(&toy).contains("its logs look worse"), "{}", told(&toy));
}

#[test]
fn an_error_of_both_sides_goes_live() {
    let mut toy = at_its_first_share();
    for _ in 0..30 {
        block(&mut toy, 2, 8);
    }
    until(&mut toy, live_and_quiet);
    assert_eq!(toy.live(), "v2");
}

#[test]
fn what_its_owner_wants_no_version_to_write_takes_it_back_at_once() {
    let mut toy = at_its_first_share();
    let alarm = "alert flow: 1 lines on canary within 15m, 0 on stable; it is absolute".to_owned();
    toy.seen.probes.logs = Some(Heard { alarm: Some(alarm.clone()), silent: None });
    toy.pass();
    assert_eq!(toy.phase(), "RollingBack");
    toy.seen.probes.logs = None;
    until(&mut toy, live_and_quiet);
    assert_eq!(toy.live(), "v1");
    assert!(told(&toy).contains(&alarm), "{}", told(&toy));
}

#[test]
fn a_log_that_cannot_be_read_holds_after_a_while_and_is_named() {
    let mut toy = at_its_first_share();
    let why = "pod web-1 of the canary: its log cannot be read".to_owned();
    toy.seen.probes.logs = Some(Heard { silent: Some(Silent { since: toy.now, why: why.clone() }), alarm: None });
    for _ in 0..300 {
        toy.pass();
    }
    assert_eq!((toy.phase(), told(&toy)), ("Canary", format!("no verdict: {why}")));
    toy.seen.probes.logs = Some(Heard::default());
    until(&mut toy, live_and_quiet);
    assert_eq!(toy.live(), "v2");
}

#[test]
fn pods_that_are_started_again_and_again_take_it_back_and_one_that_is_does_not() {
    for (falls, live) in [(1, "v2"), (5, "v1")] {
        let mut toy = at_its_first_share();
        for _ in 0..falls {
            seen(&mut toy, Input::Platform { pod_minutes: 2, events: 1 });
            (0..3).for_each(|_| toy.pass());
        }
        if falls == 1 {
            (0..100).for_each(|_| toy.pass());
            assert!(told(&toy).contains("its restarts look worse"), "{}", told(&toy));
            // The quiet minutes after it.
            (0..20).for_each(|_| seen(&mut toy, Input::Platform { pod_minutes: 1, events: 0 }));
        }
        until(&mut toy, live_and_quiet);
        assert_eq!(toy.live(), live, "{falls}");
        if live == "v1" {
            assert!(
                told(&toy).contains("restarts: ") && told(&toy).contains("minutes of the canary's pods, 1 a day and pod is usual"),
                "{}",
                told(&toy)
            );
        }
    }
}

#[test]
fn what_is_usual_of_restarts_is_what_stable_did() {
    let mut toy = shop();
    toy.workload().pods.iter_mut().for_each(|pod| pod.restarts = 2);
    toy.set_image("v2");
    until(&mut toy, |t| t.state.phase.rollout().is_some());
    let usual = toy.state.phase.rollout().unwrap().book.terms().restarts.unwrap();
    assert!(usual > 1000, "eight within a minute of four pods: {usual}");
}
