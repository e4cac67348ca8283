//! The way back and the way out when something of it is missing: pods, records, rights, objects.

use std::time::Duration;

use super::{
    super::{check::check, decide},
    live_and_quiet,
    toy::{Toy, name, template},
};
use crate::model::{
    decision::{Decision, Effect, Reason},
    phase::{Phase, after, before},
    plan::PlannedWorkload,
    version::{PodHash, ReleaseName, TemplateHash, WorkloadName},
    world::{Observation, Pin, ReplicaSet, RestSample, Trouble, Voice},
};

/// What is decided of the world as it stands, before Kubernetes does anything more; checked, and not carried out.
fn decided(toy: &Toy) -> Decision {
    let decision = decide(&toy.plan, &toy.state, &toy.seen, toy.now);
    check(&toy.plan, &toy.state, &toy.seen, &decision, toy.now).unwrap();
    decision
}

fn fault() -> Trouble {
    Trouble::Fault { word: "OOMKilled".into(), says: "killed for memory".into() }
}

fn at(phase: &str) -> Toy {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.until(|t| t.phase() == phase && t.w().canary.as_ref().is_some_and(|c| c.ready() > 0) && t.quiet());
    toy.story();
    toy
}

/// The pins that a decision writes.
fn pins(decision: &Decision) -> Vec<&Pin> {
    decision.effects.iter().filter_map(|effect| if let Effect::PinService { pin, .. } = effect { Some(pin) } else { None }).collect()
}

#[test]
fn a_canary_whose_pods_all_fail_in_mid_roll_is_left_for_the_few_of_stable() {
    let mut toy = at("Guarding");
    toy.until(|t| t.phase() == "Finalizing" && !t.w().paused);
    // The roll is half way: two of the old pods and none of the new are ready, and the canary is dead.
    let old = toy.seen.workloads[0].replica_sets[0].clone();
    let w = toy.workload();
    w.replica_sets[0].wanted = 2;
    w.replica_sets.push(ReplicaSet {
        template: w.template_hash(),
        pod_hash: PodHash::new("new"),
        wanted: 2,
        raw: w.template.clone(),
        ..old.clone()
    });
    w.pods.truncate(2);
    for pod in &mut w.canary.as_mut().unwrap().pods {
        (pod.ready_since, pod.trouble) = (None, Some(fault()));
    }
    assert_eq!(toy.seen.services[0].pin, Pin::Canary);
    let decision = decided(&toy);
    assert_eq!(decision.next.phase.label(), "RollingBack");
    assert_eq!(pins(&decision), [&Pin::Off], "the two that are ready get the traffic");
    assert!(decision.effects.contains(&Effect::DeleteCanary { workload: name() }));
}

#[test]
fn an_autoscaler_in_the_moment_of_the_verdict_does_not_send_everybody_to_the_failing_canary() {
    let mut toy = at("Canary");
    toy.canary_fails = true;
    toy.until(|t| t.phase() == "RollingBack");
    assert_eq!(toy.story(), "pin v1");
    // 6 are asked for, and the ReplicaSet still wants 4.
    toy.workload().replicas = 6;
    let decision = decided(&toy);
    assert_eq!(decision.next.phase.label(), "RollingBack");
    assert_eq!(pins(&decision), Vec::<&Pin>::new(), "the pin stays on the good version");
}

#[test]
fn the_way_back_is_found_by_its_pods_when_the_record_of_the_good_version_is_gone() {
    for (whole, phase) in [(true, "Canary"), (false, "Canary"), (true, "Guarding"), (false, "Guarding")] {
        let mut toy = at(phase);
        if whole {
            toy.seen.releases.retain(|r| r.version != "v1");
        } else {
            toy.seen.releases[0].templates = None;
        }
        toy.workload().canary.as_mut().unwrap().pods[0].trouble = Some(fault());
        toy.pass();
        assert_eq!(toy.story(), "pin v1", "{phase}, whole record: {whole}");
        toy.until(|t| t.live() == "v1" && live_and_quiet(t));
        assert!(toy.w().canary.is_none() && toy.seen.services[0].pin == Pin::Off);
    }
}

#[test]
fn a_delivery_deleted_with_all_its_releases_leaves_what_runs_and_opens_nothing_unproven() {
    for phase in ["RolledBack", "Canary", "Guarding", "RollingBack"] {
        let mut toy = at("Canary");
        toy.canary_fails = phase.starts_with("Roll");
        toy.until(|t| t.phase() == phase);
        toy.seen.deleting = true;
        toy.seen.releases.clear();
        toy.until(|t| !t.seen.finalizer);
        assert_eq!(toy.w().template, template("v1"), "{phase}");
        assert!(!toy.w().paused && toy.w().canary.is_none(), "{phase}");
        assert_eq!(toy.seen.services[0].pin, Pin::Off, "{phase}");
    }
}

#[test]
fn a_live_version_whose_record_is_gone_is_still_known_on_the_way_out() {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.canary_fails = true;
    toy.until(|t| t.phase() == "RolledBack" && t.quiet());
    toy.seen.releases.clear();
    // It cannot be adopted anew before the Delivery is deleted.
    toy.seen.problems.push(Reason::ProbeMissing { probe: "home".into() });
    toy.until(|t| t.phase() == "Adopting" && t.quiet());
    toy.seen.deleting = true;
    toy.until(|t| !t.seen.finalizer);
    assert_eq!(toy.w().template, template("v1"), "the quarantined template is not let loose");
}

#[test]
fn the_lost_templates_of_what_is_live_are_kept_anew_once() {
    let mut toy = Toy::adopted(4);
    toy.seen.releases[0].templates = None;
    toy.pass();
    toy.until(live_and_quiet);
    assert!(toy.seen.releases[0].templates.is_some());
    assert_eq!(toy.live(), "v1");
}

#[test]
fn a_canary_taken_away_in_mid_roll_leaves_no_pin_to_nothing() {
    let mut toy = at("Guarding");
    toy.until(|t| t.w().replica_sets.len() == 2);
    // Stable has none of the old pods, so the canary that failed serves until they are back; then a person removes it.
    toy.roll = false;
    toy.workload().canary.as_mut().unwrap().pods[0].trouble = Some(fault());
    toy.pass();
    assert_eq!((toy.phase(), &toy.seen.services[0].pin), ("RollingBack", &Pin::Canary));
    let w = toy.workload();
    (w.canary, w.canary_left) = (None, 0);
    assert_eq!(pins(&decided(&toy)), [&Pin::Off]);
}

#[test]
fn with_every_record_gone_the_traffic_still_leaves_before_the_pods() {
    let mut toy = at("Guarding");
    toy.seen.releases.clear();
    toy.seen.deleting = true;
    toy.until(|t| t.w().canary.is_none());
    assert_eq!(toy.story(), "pin v1; canary away");
}

#[test]
fn a_deployment_deleted_with_its_delivery_leaves_no_canary_and_no_pin() {
    let mut toy = at("Guarding");
    toy.seen.workloads.clear();
    toy.seen.deleting = true;
    let decision = decided(&toy);
    let away = Effect::DeleteCanary { workload: name() };
    assert_eq!(pins(&decision), [&Pin::Off]);
    assert!(decision.effects.contains(&away) && !decision.effects.contains(&Effect::RemoveFinalizer));
    toy.seen.services[0].pin = Pin::Off;
    assert_eq!(decided(&toy).effects, [away, Effect::RemoveFinalizer], "the finalizer last");
}

#[test]
fn all_of_an_app_deleted_at_once_leaves_no_service_of_a_canary() {
    let mut toy = Toy::by_route(4);
    toy.set_image("v2");
    toy.until(|t| t.state.phase.label() == "Guarding");
    toy.seen.workloads.clear();
    toy.seen.services.clear();
    toy.seen.routes.clear();
    toy.seen.deleting = true;
    let left = Effect::RemoveCanaryService { service: "shop".into() };
    let away = Effect::DeleteCanary { workload: name() };
    assert_eq!(decided(&toy).effects, [left, away.clone()]);
    toy.seen.canary_services.clear();
    assert_eq!(decided(&toy).effects, [away, Effect::RemoveFinalizer]);
}

#[test]
fn a_delivery_deleted_while_the_good_version_comes_back_does_not_go_to_the_bad_one() {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.until(|t| t.live() == "v2" && t.quiet());
    for second in 1..=5 {
        let at = after(toy.now, Duration::from_secs(second));
        toy.seen.probes.rest.push(RestSample { at, probe: "home".into(), wrong: Some("GET / answered 500".into()) });
    }
    toy.now = after(toy.now, Duration::from_secs(10));
    toy.stable_fails = true;
    toy.until(|t| t.phase() == "Guarding" && t.seen.services[0].pin == Pin::Canary);
    toy.story();
    toy.seen.deleting = true;
    toy.roll = false;
    toy.pass();
    // Stable has begun to roll: one pod of the good version is ready, and the bad ones still are.
    let good = toy.w().replica_sets[0].pod_hash.clone();
    let pod = toy.w().pods[0].clone();
    toy.workload().pods.push(crate::model::world::Pod { pod_hash: Some(good), ..pod });
    assert_eq!(pins(&decided(&toy)), Vec::<&Pin>::new(), "no traffic for the bad ones");
    toy.roll = true;
    toy.until(|t| !t.seen.finalizer);
    assert_eq!(toy.story(), "open; pin off; close; put; canary away; ungate; finalizer off");
    assert_eq!(toy.w().template, template("v1"));
}

#[test]
fn a_probe_that_is_younger_than_the_version_and_has_never_passed_takes_nothing_back() {
    for (changed, back) in [(0, true), (30, false)] {
        let mut toy = Toy::adopted(4);
        toy.set_image("v2");
        toy.until(|t| t.live() == "v2" && t.quiet());
        let live = toy.state.live.as_ref().unwrap().since;
        toy.now = after(live, Duration::from_mins(1));
        let made = after(live, Duration::from_secs(changed));
        toy.seen.probes.untried.insert("home".into(), made);
        for second in 1..=5 {
            let at = after(toy.now, Duration::from_secs(second));
            toy.seen.probes.rest.push(RestSample { at, probe: "home".into(), wrong: Some("nobody answers".into()) });
        }
        toy.now = after(toy.now, Duration::from_secs(10));
        let decision = decided(&toy);
        assert_eq!(matches!(decision.next.phase, Phase::Rolling(_)), back, "{changed}");
        assert_eq!(decision.health.unavailable.is_some(), !back, "where nothing is done, people are told");
    }
}

#[test]
fn one_that_only_a_new_leader_has_had_no_answer_for_is_not_called_new() {
    for (old, told) in [(Duration::from_mins(1), true), (Duration::from_hours(24), false)] {
        let mut toy = Toy::adopted(4);
        toy.seen.probes.untried.insert("home".into(), before(toy.now, old));
        toy.seen.probes.turned = vec![Voice::Never { probe: "home".into(), says: "nobody answers".into() }];
        let decision = decided(&toy);
        assert_eq!(decision.notes.iter().any(|note| note.word() == "ProbeUnanswered"), told, "{old:?}");
    }
}

#[test]
fn a_right_that_is_taken_away_for_a_while_makes_nothing_forgotten() {
    for (phase, deleting) in [("Live", false), ("Canary", false), ("Guarding", false), ("Live", true), ("Guarding", true)] {
        let mut toy = if phase == "Live" { Toy::adopted(4) } else { at(phase) };
        let barred = Reason::NotGranted { namespace: "shop".into() };
        let blind =
            Observation { delivery: "shop".into(), finalizer: true, deleting, problems: vec![barred.clone()], ..Observation::default() };
        let sighted = std::mem::replace(&mut toy.seen, blind);
        let before = toy.state.clone();
        let decision = decided(&toy);
        assert_eq!(decision.next, before, "{phase}");
        if deleting {
            assert_eq!(decision.effects, [Effect::RemoveFinalizer]);
        } else {
            assert_eq!(
                (decision.effects.as_slice(), &decision.reason, decision.holds.as_slice()),
                (&[][..], &barred, std::slice::from_ref(&barred))
            );
            toy.seen = sighted;
            assert!(!matches!(decided(&toy).next.phase, Phase::Adopting), "{phase}: it goes on where it was");
        }
    }
}

#[test]
fn a_template_that_cannot_be_recorded_is_stopped_and_never_overwritten() {
    let mut toy = Toy::adopted(4);
    // Another workload of the app is missing, so nothing says what the whole wish is.
    toy.plan.workloads.push(PlannedWorkload { name: WorkloadName::new("worker"), ..toy.plan.workloads[0].clone() });
    let mut lost = toy.seen.releases[0].templates.clone().unwrap();
    lost.insert(WorkloadName::new("worker"), template("v1"));
    toy.seen.releases[0].templates = Some(lost);
    toy.set_image("v2");
    let w = toy.workload();
    (w.paused, w.gate_marked) = (false, false);
    toy.pass();
    assert_eq!(toy.story(), "close", "its roll is stopped");
    assert_eq!(toy.last.as_ref().unwrap().reason.word(), "GateForced");
    for _ in 0..3 {
        toy.pass();
    }
    assert_eq!((toy.w().template.clone(), toy.story().as_str()), (template("v2"), ""), "and stays there until it can be kept");
    toy.plan.workloads.pop();
    toy.until(|t| t.w().template == template("v1"));
    assert_eq!(toy.story(), "record v2; open");
}

#[test]
fn what_its_owner_had_paused_is_left_paused_also_after_a_crash_in_adoption() {
    let mut toy = Toy::new(4);
    toy.workload().paused = true;
    let mut stored = toy.state.clone();
    while !toy.w().gate_marked {
        stored = toy.state.clone();
        toy.pass();
    }
    // The gate is closed, and the record of that is lost.
    toy.state = stored;
    toy.until(live_and_quiet);
    assert!(toy.state.adopted[0].was_paused);
    toy.seen.deleting = true;
    toy.until(|t| !t.seen.finalizer);
    assert!(toy.w().paused, "it is not resumed for its owner");
}

#[test]
fn releases_that_never_had_their_turn_do_not_pile_up_and_what_is_asked_for_stays() {
    let mut toy = Toy::adopted(4);
    for i in 0..30 {
        toy.release(ReleaseName::new(format!("shop-w{i:02}")), format!("w{i:02}"), format!("r/shop:w{i:02}"), None, None);
    }
    toy.until(|t| t.seen.releases.len() < 30);
    toy.until(live_and_quiet);
    // 20, the live one, and the newest that a person asked for.
    assert_eq!(toy.seen.releases.len(), 22);
    let has = |name: &str| toy.seen.release(&ReleaseName::new(name)).is_some();
    assert!(has("shop-w29") && has("shop-w09") && !has("shop-w08"));
    assert_eq!(toy.live(), "v1");
}

#[test]
fn where_nobody_knows_the_good_version_a_failed_canary_leaves_and_people_are_told() {
    let mut toy = at("Guarding");
    toy.seen.releases.retain(|r| r.version != "v1");
    // Somebody's template rolls over it: two sets are active, and nothing says which was proven.
    let other = ReplicaSet { template: TemplateHash::new("other"), pod_hash: PodHash::new("other"), ..toy.w().replica_sets[0].clone() };
    toy.workload().replica_sets.push(other);
    toy.workload().canary.as_mut().unwrap().pods[0].trouble = Some(fault());
    let decision = decided(&toy);
    assert_eq!(decision.effects, [Effect::PinService { service: "shop".into(), pin: Pin::Off }, Effect::DeleteCanary { workload: name() }]);
    toy.state = decision.next;
    let decision = decided(&toy);
    assert_eq!((decision.reason.word(), decision.health.stalled.unwrap().word.as_str()), ("TemplateLost", "TemplateLost"));
}
