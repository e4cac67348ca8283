//! What policies, holds on everything, and the trouble of others mean for a version that would start or go on.

use std::time::Duration;

use serde_json::{Value, json};

use super::{live_and_quiet, toy::Toy};
use crate::model::{
    decision::Wait,
    phase::{Phase, after},
    policy::{Policy, closed},
    world::{Command, RestSample, Troubled},
};

fn policy(spec: Value) -> Policy {
    Policy::read("default".into(), &serde_json::from_value(spec).unwrap()).unwrap()
}

/// Open for an hour, three hours from now.
fn window(toy: &Toy) -> Policy {
    let from = after(toy.now, Duration::from_hours(3)).strftime("%H:%M").to_string();
    let to = after(toy.now, Duration::from_hours(4)).strftime("%H:%M").to_string();
    let days = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    policy(json!({"windows": [{"days": days, "from": from, "to": to}]}))
}

fn word(toy: &Toy) -> &'static str {
    toy.last.as_ref().unwrap().reason.word()
}

#[test]
fn a_version_waits_for_its_window_and_says_until_when() {
    let mut toy = Toy::adopted(4);
    toy.seen.policies = vec![window(&toy)];
    let opens = closed(&toy.seen.policies, toy.now).unwrap().until.unwrap();
    toy.set_image("v2");
    toy.until(|t| word(t) == "WindowClosed" && t.quiet());
    let decision = toy.last.clone().unwrap();
    assert_eq!(decision.reason.to_string(), format!("by DeliveryPolicy default no version starts now; it may from {opens} on"));
    assert_eq!((decision.wait, decision.health.stalled), (Wait::Until(opens), None));
    toy.now = opens;
    toy.until(|t| t.live() == "v2" && t.quiet());
}

#[test]
fn a_version_that_has_started_goes_on_after_its_window() {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Canary");
    toy.seen.policies = vec![window(&toy)];
    toy.until(|t| t.live() == "v2" && t.quiet());
}

#[test]
fn nothing_of_a_policy_keeps_a_version_from_going_back() {
    let full = |toy: &Toy| {
        let mut cap = policy(json!({"caps": {"rollouts": 1}}));
        cap.running = vec![None; 7];
        vec![window(toy), cap]
    };
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Canary");
    toy.seen.policies = full(&toy);
    toy.canary_fails = true;
    toy.until(live_and_quiet);
    assert_eq!((toy.phase(), toy.live().as_str()), ("RolledBack", "v1"));

    // A young version that fails, and one that a person wants back.
    for by_hand in [false, true] {
        let mut toy = Toy::adopted(4);
        toy.set_image("v2");
        toy.until(|t| t.live() == "v2" && t.quiet());
        toy.seen.policies = full(&toy);
        toy.seen.troubled = troubled(&toy, 5);
        let now = toy.now;
        let failed = || RestSample { at: after(now, Duration::from_secs(1)), probe: "home".into(), wrong: Some("500".into()) };
        if by_hand {
            let release = toy.state.live.as_ref().unwrap().release.clone();
            let action = crate::api::command::Action::Rollback;
            toy.seen.commands.push(Command { name: "c1".into(), release, action, step: None, by: "ana".into(), reason: None });
        } else {
            toy.seen.probes.rest = vec![failed(), failed(), failed()];
        }
        toy.until(|t| t.live() == "v1");
    }
}

#[test]
fn a_version_waits_for_a_free_place() {
    let mut toy = Toy::adopted(4);
    let mut cap = policy(json!({"caps": {"rollouts": 2}}));
    cap.running = vec![None, Some("cart".to_owned())];
    toy.seen.policies = vec![cap];
    toy.set_image("v2");
    toy.until(|t| word(t) == "CapReached" && t.quiet());
    let says = toy.last.as_ref().unwrap().reason.to_string();
    assert_eq!(
        says,
        "it starts when one of those before it has ended (cart, 1 more): DeliveryPolicy default lets no more than 2 be on their way at once"
    );
    assert!(matches!(toy.last.as_ref().unwrap().wait, Wait::Until(_)), "nobody tells it that a place is free");
    toy.seen.policies[0].running = vec![None];
    toy.until(|t| t.live() == "v2" && t.quiet());
}

fn troubled(toy: &Toy, apps: usize) -> Vec<Troubled> {
    let one = |n: usize| Troubled {
        app: format!("shop/app{n}"),
        name: (n > 0).then(|| format!("app{n}")),
        at: after(toy.now, Duration::from_secs(u64::try_from(n).unwrap())),
    };
    (0..apps).map(one).collect()
}

#[test]
fn apps_that_fail_at_once_hold_the_others_and_it_ends_by_itself() {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Canary" && t.quiet());
    let began = toy.now;
    toy.seen.troubled = troubled(&toy, 2);
    toy.pass();
    assert_ne!(word(&toy), "SharedCause", "two may be chance");
    toy.seen.troubled = troubled(&toy, 4);
    toy.pass();
    let says = toy.last.as_ref().unwrap().reason.to_string();
    assert_eq!(
        says,
        "4 apps were suspended or failed within 2 minutes (app1, app2, app3, 1 more), so what they share may be the cause; nothing moves forward until no more of them do"
    );
    while toy.now < after(began, Duration::from_secs(110)) {
        toy.pass();
        assert_eq!(word(&toy), "SharedCause");
    }
    toy.until(|t| t.live() == "v2" && t.quiet());
}

#[test]
fn a_version_that_would_start_waits_until_the_trouble_of_others_is_over() {
    let mut toy = Toy::adopted(4);
    toy.seen.troubled = troubled(&toy, 3);
    let first = toy.seen.troubled[0].at;
    toy.set_image("v2");
    toy.until(|t| word(t) == "SharedCause" && t.quiet());
    while toy.now < after(first, Duration::from_secs(110)) {
        toy.pass();
        assert_eq!(word(&toy), "SharedCause");
    }
    toy.until(|t| matches!(t.state.phase, Phase::Rolling(_)));
}

#[test]
fn it_starts_when_those_who_failed_have_gone() {
    let mut toy = Toy::adopted(4);
    toy.seen.troubled = troubled(&toy, 3);
    toy.set_image("v2");
    toy.until(|t| word(t) == "SharedCause" && t.quiet());
    let now = toy.now;
    toy.pass();
    let soon = Wait::Until(after(now, Duration::from_secs(10)));
    assert_eq!(toy.last.as_ref().unwrap().wait, soon, "nobody tells it that those who failed have gone");
    toy.seen.troubled.pop();
    toy.pass();
    assert!(matches!(toy.state.phase, Phase::Rolling(_)), "it waits for the end of a trouble that is over");
}

#[test]
fn the_trouble_of_others_keeps_nothing_from_going_back() {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Canary" && t.quiet());
    toy.seen.troubled = troubled(&toy, 5);
    toy.canary_fails = true;
    toy.until(|t| t.phase() == "RollingBack");
    toy.until(live_and_quiet);
    assert_eq!(toy.live(), "v1");
}
