//! What the rules decide, told as short stories over a toy world. Each test is named for what an operator would see.
#![allow(clippy::indexing_slicing, reason = "tests")]

mod any_order;
mod approvals;
mod back;
mod barriers;
mod before;
mod cron_jobs;
mod external;
mod logs;
mod observed;
mod pins;
mod policies;
mod queries;
mod requests;
mod room;
mod route;
mod small;
mod source;
mod suites;
mod toy;

use std::time::Duration;

use toy::{Toy, template};

use crate::{
    api::{command::Action, release::Outcome},
    model::{
        decision::{Reason, Wait},
        phase::{Phase, after, before},
        plan::{PlannedWorkload, Source},
        version::{ReleaseName, Weight},
        world::{Command, Hold, Outage, Pin, RestSample, Trouble},
    },
};

fn live_and_quiet(toy: &Toy) -> bool {
    matches!(toy.state.phase, Phase::Live | Phase::RolledBack { .. }) && toy.quiet()
}

#[test]
fn adoption_records_what_runs_and_closes_the_gate() {
    let mut toy = Toy::new(4);
    toy.until(live_and_quiet);
    assert_eq!(toy.story(), "record v1; close; v1 Live");
    assert!(toy.w().paused);
    assert_eq!(toy.live(), "v1");
}

#[test]
fn adoption_waits_for_a_workload_that_is_rolling() {
    let mut toy = Toy::new(4);
    toy.workload().observed = false;
    toy.pass();
    toy.pass();
    assert_eq!(toy.phase(), "Adopting");
    assert!(!toy.w().paused);
}

#[test]
fn a_good_version_goes_all_the_way_in_the_measured_order() {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.until(|t| t.live() == "v2" && t.quiet());
    assert_eq!(
        toy.story(),
        "record v2; pin v1; canary 1; pin off; canary 4; pin canary; open; close; pin stable; canary away; pin off; v2 Live"
    );
    assert!(toy.w().paused);
    assert_eq!(toy.phase(), "Live");
}

#[test]
fn a_bad_version_leaves_before_it_has_a_user_and_stays_off() {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.canary_fails = true;
    toy.until(|t| matches!(t.state.phase, Phase::RolledBack { .. }) && t.quiet());
    assert_eq!(toy.story(), "record v2; pin v1; canary 1; canary away; pin off; v2 RolledBack");
    for _ in 0..20 {
        toy.pass();
    }
    assert_eq!(toy.story(), "", "nothing starts it again");
    assert_eq!(toy.live(), "v1");
    toy.canary_fails = false;
    toy.set_image("v3");
    toy.until(|t| t.live() == "v3" && t.quiet());
}

#[test]
fn a_version_that_turns_bad_at_a_step_is_off_in_one_write() {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Canary" && t.seen.services[0].pin == Pin::Off && t.quiet());
    toy.story();
    toy.canary_fails = true;
    toy.pass();
    assert_eq!(toy.story(), "pin v1", "the traffic first, and nothing else in that pass");
    toy.until(live_and_quiet);
    assert_eq!(toy.story(), "canary away; pin off; v2 RolledBack");
}

#[test]
fn a_version_that_turns_bad_in_guarding_goes_back_to_the_warm_pods() {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Guarding" && t.seen.services[0].pin == Pin::Canary && t.quiet());
    toy.story();
    toy.canary_fails = true;
    toy.until(live_and_quiet);
    assert_eq!(toy.story(), "pin v1; canary away; pin off; v2 RolledBack");
    assert_eq!(toy.live(), "v1");
}

#[test]
fn a_crash_loop_is_the_canarys_fault_and_a_full_cluster_is_not() {
    for (trouble, reason) in [
        (Trouble::Fault { word: "CrashLoopBackOff".into(), says: "it crashes".into() }, "CanaryCrashed"),
        (Trouble::Refused { word: "Unschedulable".into(), says: "no room".into() }, "ClusterRefuses"),
    ] {
        let mut toy = Toy::adopted(4);
        toy.set_image("v2");
        toy.until(|t| t.w().canary.is_some());
        toy.pass();
        let pod = &mut toy.workload().canary.as_mut().unwrap().pods[0];
        (pod.trouble, pod.ready_since) = (Some(trouble), None);
        toy.pass();
        assert_eq!(toy.last.as_ref().unwrap().reason.word(), reason);
        assert_eq!(toy.phase() == "RollingBack", reason == "CanaryCrashed");
    }
}

#[test]
fn both_sides_failing_holds_and_says_so() {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    (toy.canary_fails, toy.stable_fails) = (true, true);
    for _ in 0..30 {
        toy.pass();
    }
    assert_eq!(toy.phase(), "Preflight");
    let decision = toy.last.as_ref().unwrap();
    assert_eq!(decision.reason.word(), "BothFailing");
    assert_eq!(decision.health.unavailable.as_ref().unwrap().word, "BothFailing");
}

#[test]
fn a_person_holds_the_way_up_but_never_the_way_back() {
    let mut toy = Toy::adopted(4);
    let hold = Hold { name: "h".into(), release: None, message: "black friday".into(), until: None, by: "ana".into() };
    toy.seen.holds.push(hold);
    toy.set_image("v2");
    for _ in 0..20 {
        toy.pass();
    }
    assert_eq!(toy.phase(), "Live");
    assert_eq!(toy.last.as_ref().unwrap().reason.to_string(), "held by ana: black friday");
    let hold = toy.seen.holds.pop().unwrap();
    toy.until(|t| t.phase() == "Canary");
    toy.seen.holds.push(hold);
    for _ in 0..20 {
        toy.pass();
    }
    assert_eq!(toy.phase(), "Canary");
    toy.canary_fails = true;
    toy.until(live_and_quiet);
    assert_eq!(toy.live(), "v1");
}

/// The API server was away for so long, until now.
fn was_away(toy: &mut Toy, lasted: u64) {
    toy.seen.outages = vec![Outage { from: before(toy.now, Duration::from_secs(lasted)), to: toy.now }];
}

fn passes(toy: &mut Toy, seconds: u64) {
    let until = after(toy.now, Duration::from_secs(seconds));
    while toy.now < until {
        toy.pass();
    }
}

#[test]
fn after_an_outage_nothing_moves_forward_or_home_before_others_know() {
    let mut toy = Toy::by_route(4);
    toy.plan.steps.iter_mut().for_each(|step| step.bake = Duration::from_secs(1));
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Canary");
    was_away(&mut toy, 300);
    passes(&mut toy, 58);
    assert_eq!((toy.phase(), toy.last.as_ref().unwrap().reason.word()), ("Canary", "Unsettled"), "a minute at most");
    toy.until(|t| t.phase() == "Finalizing");
    was_away(&mut toy, 300);
    passes(&mut toy, 58);
    assert_eq!((toy.phase(), toy.seen.routes[0].most), ("Finalizing", Weight::FULL), "stable's new pods may be known to nobody yet");
    toy.until(live_and_quiet);
    assert_eq!(toy.live(), "v2");
}

#[test]
fn a_short_outage_is_waited_for_shortly_and_by_no_way_back() {
    let mut toy = Toy::by_route(4);
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Canary");
    was_away(&mut toy, 5);
    passes(&mut toy, 10);
    assert_eq!(toy.last.as_ref().unwrap().holds.iter().map(Reason::word).collect::<Vec<_>>(), ["Unsettled"]);
    passes(&mut toy, 4);
    assert!(toy.last.as_ref().unwrap().holds.is_empty(), "twice 5 + 1 s");
    was_away(&mut toy, 300);
    toy.canary_fails = true;
    passes(&mut toy, 30);
    assert!(["RollingBack", "RolledBack"].contains(&toy.phase()), "{}", toy.phase());
}

#[test]
fn a_newer_version_waits_its_turn_and_takes_over_at_the_end() {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Canary");
    toy.set_image("v3");
    toy.until(|t| t.live() == "v2");
    toy.until(|t| t.live() == "v3" && t.quiet());
    assert!(toy.story().contains("put"), "the owner's newest template was put back, inert");
}

#[test]
fn a_newer_version_takes_the_place_of_one_that_is_stuck() {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.until(|t| t.w().canary.is_some());
    (toy.canary_fails, toy.stable_fails) = (true, true);
    toy.pass();
    toy.set_image("v3");
    toy.until(|t| t.phase() == "RollingBack");
    (toy.canary_fails, toy.stable_fails) = (false, false);
    toy.until(|t| t.live() == "v3" && t.quiet());
    let v2 = toy.seen.releases.iter().find(|r| r.version == "v2").unwrap();
    assert_eq!(v2.outcome, Some(Outcome::Superseded));
}

#[test]
fn a_wish_that_is_taken_back_ends_the_rollout_without_a_verdict() {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Canary");
    toy.set_image("v1");
    toy.until(live_and_quiet);
    assert_eq!((toy.phase(), toy.live().as_str()), ("Live", "v1"));
    toy.set_image("v2");
    toy.until(|t| t.live() == "v2");
}

#[test]
fn a_deadline_returns_to_stable_undecided() {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Preflight");
    toy.seen.problems.push(crate::model::decision::Reason::ProbeMissing { probe: "home".into() });
    toy.until(|t| matches!(t.state.phase, Phase::RolledBack { outcome: Outcome::Undecided, .. }));
}

#[test]
fn a_bad_version_in_mid_roll_is_brought_back_by_its_old_pods() {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Finalizing" && !t.w().paused);
    toy.story();
    toy.roll = false;
    toy.workload().canary.as_mut().unwrap().pods[0].trouble =
        Some(Trouble::Fault { word: "OOMKilled".into(), says: "killed for memory".into() });
    toy.pass();
    toy.roll = true;
    toy.until(live_and_quiet);
    assert_eq!(toy.live(), "v1");
    assert!(toy.w().paused);
    assert_eq!(toy.w().template, template("v2"), "the owner's template is back, inert");
}

#[test]
fn a_live_version_that_fails_while_young_goes_back_through_a_split() {
    let mut toy = young_and_failing();
    toy.until(|t| t.live() == "v1" && t.quiet());
    assert_eq!(toy.phase(), "RolledBack");
    let story = toy.story();
    assert!(story.contains("canary 4; pin canary; open; close"), "{story}");
    assert_eq!(toy.w().template, template("v2"), "what the owner wrote is not lost");
}

#[test]
fn resumed_by_hand_is_respected_until_somebody_adopts_it_again() {
    let mut toy = Toy::adopted(4);
    toy.workload().paused = false;
    for _ in 0..5 {
        toy.pass();
    }
    assert_eq!(toy.last.as_ref().unwrap().reason.word(), "Ungated");
    assert!(!toy.w().paused && toy.state.ungated);
    let release = toy.state.live.as_ref().unwrap().release.clone();
    toy.seen.commands.push(Command { name: "c1".into(), release, action: Action::Adopt, step: None, by: "ana".into(), reason: None });
    toy.until(|t| t.w().paused && t.quiet());
    assert!(toy.story().contains("command Done"));
    assert!(!toy.state.ungated);
}

#[test]
fn a_pin_that_comes_off_goes_before_every_other_write() {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.mute = true;
    toy.until(|t| t.phase() == "Preflight" && t.w().canary.is_some() && t.quiet());
    toy.story();
    // Replaced by something newer: the gate is open, and the mark of it is gone.
    toy.set_image("v3");
    let w = toy.workload();
    (w.paused, w.gate_marked) = (false, false);
    toy.roll = false;
    toy.pass();
    let story = toy.story();
    assert!(story.starts_with("pin off; record v3; open"), "{story}");
}

#[test]
fn unpaused_with_another_template_is_undone_and_becomes_a_release() {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    let w = toy.workload();
    (w.paused, w.gate_marked) = (false, false);
    toy.roll = false;
    toy.pass();
    toy.roll = true;
    assert_eq!(toy.w().template, template("v1"), "the proven template is back at once");
    toy.until(|t| t.live() == "v2" && t.quiet());
    let story = toy.story();
    assert!(story.starts_with("record v2; open; close; put"), "{story}");
}

#[test]
fn a_deleted_replica_set_opens_the_gate_for_the_proven_template_alone() {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.workload().replica_sets.clear();
    toy.roll = false;
    toy.pass();
    toy.roll = true;
    assert_eq!(toy.w().template, template("v1"));
    toy.until(|t| t.live() == "v2" && t.quiet());
}

#[test]
fn scaled_to_zero_leaves_no_unproven_template_waiting() {
    let mut toy = Toy::adopted(4);
    toy.workload().replicas = 0;
    toy.set_image("v2");
    for _ in 0..6 {
        toy.pass();
    }
    assert_eq!(toy.w().template, template("v1"));
    assert!(toy.w().paused);
    let w = toy.workload();
    w.replicas = 4;
    w.replica_sets[0].wanted = 4;
    toy.until(|t| t.live() == "v2" && t.quiet());
}

#[test]
fn a_deleted_delivery_leaves_the_deployment_open_on_the_proven_version() {
    for phase in ["Live", "Preflight", "Canary", "Guarding", "Finalizing"] {
        let mut toy = Toy::adopted(4);
        toy.set_image("v2");
        if phase != "Live" {
            toy.until(|t| t.phase() == phase);
        }
        toy.seen.deleting = true;
        toy.until(|t| !t.seen.finalizer);
        let proven = if phase == "Finalizing" { "v2" } else { "v1" };
        assert_eq!(toy.w().template, template(proven), "{phase}");
        assert!(!toy.w().paused && toy.w().canary.is_none(), "{phase}");
        assert_eq!(toy.seen.services[0].pin, Pin::Off, "{phase}");
    }
}

#[test]
fn a_terminating_namespace_is_never_kept() {
    let mut toy = Toy::adopted(4);
    (toy.seen.deleting, toy.seen.namespace_terminating) = (true, true);
    toy.pass();
    assert!(!toy.seen.finalizer);
}

#[test]
fn a_release_by_hand_rides_with_the_owners_template() {
    let mut toy = Toy::adopted(4);
    toy.plan.source = Source::Manual;
    toy.set_image("stale");
    for _ in 0..3 {
        toy.pass();
    }
    assert_eq!(toy.phase(), "Live", "the image in the owner's template is ignored");
    toy.release(ReleaseName::new("shop-v2"), "v2".into(), "r/shop:v2".into(), None, None);
    toy.until(|t| t.live() == "v2" && t.quiet());
    assert_eq!(toy.w().template, template("v2"));
}

#[test]
fn a_worker_without_a_service_starts_with_the_first_step() {
    let mut toy = Toy::adopted(4);
    toy.seen.services.clear();
    toy.plan.probes.clear();
    toy.seen.probes.voting.clear();
    toy.set_image("v2");
    toy.until(|t| t.live() == "v2" && t.quiet());
    assert_eq!(toy.story(), "record v2; canary 1; canary 4; open; close; canary away; v2 Live");
}

#[test]
fn promote_ends_the_bake_and_abort_ends_the_rollout() {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Canary" && t.quiet());
    let release = toy.state.phase.rollout().unwrap().release.clone();
    let order = |name: &str, action| Command {
        name: name.into(),
        release: release.clone(),
        action,
        step: None,
        by: "ana".into(),
        reason: Some("checked by hand".into()),
    };
    toy.seen.commands.push(order("c1", Action::Promote));
    let before = toy.now;
    toy.until(|t| t.log.iter().any(|l| l == "canary 4"));
    assert!(toy.now < after(before, Duration::from_secs(30)), "the bake of 60 s was not waited for");
    toy.seen.commands.push(order("c2", Action::Abort));
    toy.until(|t| matches!(t.state.phase, Phase::RolledBack { outcome: Outcome::Undecided, .. }) && t.quiet());
    toy.seen.commands.push(order("c3", Action::Promote));
    toy.until(|t| t.seen.commands.is_empty());
    assert!(toy.story().contains("command Void"), "an order that comes late is void");
    toy.seen.commands.push(order("c4", Action::Retry));
    toy.until(|t| t.live() == "v2" && t.quiet());
}

#[test]
fn a_service_that_one_write_cannot_switch_holds_before_a_pod_starts() {
    let mut toy = Toy::adopted(4);
    toy.seen.services[0].no_switch = Some("it is headless".into());
    toy.set_image("v2");
    for _ in 0..5 {
        toy.pass();
    }
    assert_eq!(toy.last.as_ref().unwrap().reason.word(), "SwitchNotProvable");
    assert!(toy.w().canary.is_none());
}

#[test]
fn a_set_up_that_is_wrong_is_looked_at_again_soon_and_one_that_is_held_is_not() {
    let soon = |toy: &Toy| match toy.last.as_ref().unwrap().wait {
        Wait::Until(at) => at.duration_since(toy.now).as_secs() <= 10,
        Wait::Now | Wait::Poll => true,
        Wait::Change => false,
    };
    let not_granted = Reason::NotGranted { namespace: "shop".into() };
    let mut new = Toy::new(4);
    new.seen.problems = vec![not_granted.clone()];
    new.pass();
    assert!(soon(&new), "nobody tells us of a RoleBinding");
    let mut adopted = Toy::adopted(4);
    adopted.seen.problems = vec![not_granted];
    adopted.pass();
    assert!(soon(&adopted));
    adopted.seen.problems.clear();
    adopted.pass();
    assert!(!soon(&adopted), "where all is well nothing is read");
}

#[test]
fn the_canary_follows_the_size_of_stable() {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Guarding" && t.quiet());
    toy.workload().replicas = 6;
    toy.until(|t| t.w().canary.as_ref().is_some_and(|c| c.wanted == 6));
    toy.until(|t| t.live() == "v2" && t.quiet());
}

#[test]
fn at_rest_nothing_is_written() {
    let mut toy = Toy::adopted(4);
    for _ in 0..50 {
        toy.pass();
    }
    assert_eq!(toy.story(), "");
}

#[test]
fn a_mend_is_let_through_when_nothing_of_stable_serves() {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.stable_down = true;
    toy.until(|t| t.live() == "v2");
}

#[test]
fn a_deployment_deleted_in_mid_rollout_leaves_the_canary_serving_and_nothing_promoted() {
    for phase in ["Preflight", "Canary", "Guarding", "Finalizing"] {
        let mut toy = Toy::adopted(4);
        toy.set_image("v2");
        toy.until(|t| t.phase() == phase && t.w().canary.is_some());
        let gone = toy.seen.workloads.pop().unwrap();
        for _ in 0..5 {
            toy.pass();
        }
        assert_eq!((toy.phase(), toy.last.as_ref().unwrap().reason.word()), (phase, "WorkloadMissing"));
        assert!(!matches!(toy.seen.services[0].pin, Pin::Stable(_)), "no pin to pods that are gone");
        let fresh =
            crate::model::world::Workload { paused: false, gate_marked: false, put_back: None, replica_sets: vec![], pods: vec![], ..gone };
        toy.seen.workloads.push(fresh);
        toy.until(|t| t.live() == "v2" && t.quiet());
    }
}

#[test]
fn the_guard_counts_from_when_the_traffic_is_on_the_canary() {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Guarding" && t.seen.services[0].pin != Pin::Canary);
    // The controller is away between the record and the write.
    toy.now = after(toy.now, Duration::from_mins(10));
    toy.until(|t| t.seen.services[0].pin == Pin::Canary);
    let moved = toy.now;
    toy.until(|t| t.phase() == "Finalizing");
    assert!(toy.now >= after(moved, toy.plan.guard.saturating_sub(Duration::from_secs(1))), "it guarded what nobody used");
}

#[test]
fn more_for_an_unproven_version_is_a_step_forward_and_the_way_back_is_none() {
    use super::check::advances;
    let mut toy = Toy::adopted(4);
    let rest = toy.state.clone();
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Preflight");
    let preflight = toy.state.clone();
    toy.until(|t| t.phase() == "Canary");
    let canary = toy.state.clone();
    toy.canary_fails = true;
    toy.until(|t| t.phase() == "RollingBack");
    assert!(advances(&rest, &preflight) && advances(&preflight, &canary));
    assert!(!advances(&canary, &canary) && !advances(&canary, &toy.state));
}

#[test]
fn an_autoscaler_does_not_open_the_gate() {
    let mut toy = Toy::adopted(4);
    // Between the autoscaler's write and that of Kubernetes: 6 are asked for, the ReplicaSet still wants 4.
    toy.seen.workloads[0].replicas = 6;
    let decision = super::decide(&toy.plan, &toy.state, &toy.seen, toy.now);
    assert_eq!(decision.effects, [], "the gate stays closed");
    toy.until(Toy::quiet);
    assert_eq!(toy.story(), "");
}

#[test]
fn lost_templates_are_kept_again_while_the_owner_still_has_them() {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Preflight");
    let lost = toy.seen.releases.iter_mut().find(|r| r.version == "v2").unwrap();
    lost.templates = None;
    toy.until(|t| t.live() == "v2" && t.quiet());
}

/// At the first step with traffic, then suspended by one confirmed failure.
fn suspended() -> Toy {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Canary" && t.quiet());
    toy.canary_fails = true;
    toy.pass();
    toy.canary_fails = false;
    assert_eq!(toy.last.as_ref().unwrap().reason.word(), "Suspended");
    toy.log.clear();
    toy
}

#[test]
fn a_suspension_outlives_the_probe_that_saw_the_failure() {
    let mut toy = suspended();
    toy.seen.probes.voting.clear();
    let samples = std::mem::take(&mut toy.seen.probes.samples);
    toy.mute = true;
    toy.seen.problems.push(Reason::ProbeMissing { probe: "home".into() });
    for _ in 0..20 {
        toy.pass();
        assert_ne!(toy.seen.services[0].pin, Pin::Off, "traffic is back without a sample");
    }
    assert_eq!((toy.phase(), toy.story().as_str()), ("Canary", ""));
    (toy.seen.probes.voting, toy.seen.probes.samples, toy.mute) = (toy::voting(), samples, false);
    for _ in 0..20 {
        toy.pass();
        assert_ne!(toy.seen.services[0].pin, Pin::Off, "traffic is back while something holds");
    }
    toy.seen.problems.clear();
    toy.until(|t| t.live() == "v2" && t.quiet());
}

/// At the first step with traffic, and then the plan names a second workload that does not exist.
fn one_of_two() -> Toy {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Canary" && t.quiet());
    let worker = PlannedWorkload::bare("worker");
    toy.plan.workloads.push(worker);
    for _ in 0..20 {
        toy.pass();
    }
    assert_eq!((toy.phase(), toy.last.as_ref().unwrap().reason.word()), ("Canary", "WorkloadMissing"));
    toy.log.clear();
    toy
}

#[test]
fn a_workload_that_is_missing_does_not_stop_the_way_back_of_the_others() {
    let mut failing = one_of_two();
    failing.canary_fails = true;
    let mut aborted = one_of_two();
    let release = aborted.state.phase.rollout().unwrap().release.clone();
    let order = Command { name: "c1".into(), release, action: Action::Abort, step: None, by: "ana".into(), reason: None };
    aborted.seen.commands.push(order);
    let mut late = one_of_two();
    late.now = after(late.now, late.plan.deadline);
    for mut toy in [failing, aborted, late] {
        toy.until(|t| t.phase() == "RollingBack" && t.w().canary.is_none());
        assert!(toy.story().starts_with("pin v1; "));
        assert!(toy.last.as_ref().unwrap().holds.iter().any(|h| h.word() == "WorkloadMissing"), "people are told what it waits for");
        for _ in 0..5 {
            toy.pass();
        }
        assert_eq!(toy.phase(), "RollingBack", "it has not arrived without what it cannot see");
        toy.plan.workloads.pop();
        toy.until(live_and_quiet);
        assert_eq!((toy.phase(), toy.live().as_str()), ("RolledBack", "v1"));
    }
}

#[test]
fn a_workload_that_is_missing_does_not_stop_a_suspension() {
    let mut toy = one_of_two();
    toy.canary_fails = true;
    toy.pass();
    assert_eq!(toy.story(), "pin v1");
}

#[test]
fn an_order_that_has_to_wait_does_not_stand_before_an_abort() {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.canary_fails = true;
    toy.until(|t| t.phase() == "RolledBack" && t.quiet());
    let v2 = toy.state.quarantine[0].release.clone();
    toy.canary_fails = false;
    toy.set_image("v3");
    toy.until(|t| t.phase() == "Canary" && t.quiet());
    let v3 = toy.state.phase.rollout().unwrap().release.clone();
    let order = |name: &str, release, action| Command { name: name.into(), release, action, step: None, by: "ana".into(), reason: None };
    toy.seen.commands.push(order("c1", v2, Action::Retry));
    toy.pass();
    toy.seen.commands.push(order("c2", v3, Action::Abort));
    toy.pass();
    assert_eq!(toy.phase(), "RollingBack");
}

/// v2 is live, and fails the probes at rest.
fn young_and_failing() -> Toy {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.until(|t| t.live() == "v2" && t.quiet());
    toy.story();
    for second in 1..=5 {
        let at = after(toy.now, Duration::from_secs(second));
        toy.seen.probes.rest.push(RestSample { at, probe: "home".into(), wrong: Some("GET / answered 500".into()) });
    }
    toy.now = after(toy.now, Duration::from_secs(10));
    toy.stable_fails = true;
    toy
}

#[test]
fn what_is_wrong_with_the_set_up_does_not_keep_the_good_version_from_coming_back() {
    let mut toy = young_and_failing();
    toy.seen.problems.push(Reason::ProbeMissing { probe: "other".into() });
    toy.until(|t| t.phase() == "RolledBack" && t.live() == "v1");
}

#[test]
fn silence_does_not_keep_the_good_version_from_coming_back() {
    let mut mute = young_and_failing();
    mute.mute = true;
    let mut silent = young_and_failing();
    silent.silent = true;
    for mut toy in [mute, silent] {
        toy.until(|t| t.phase() == "RolledBack" && t.live() == "v1");
    }
}

#[test]
fn what_a_person_takes_back_goes_back_while_both_sides_fail() {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.until(|t| t.live() == "v2" && t.quiet());
    let release = toy.state.live.as_ref().unwrap().release.clone();
    (toy.canary_fails, toy.stable_fails) = (true, true);
    toy.seen.commands.push(Command { name: "c1".into(), release, action: Action::Rollback, step: None, by: "ana".into(), reason: None });
    toy.until(|t| t.phase() == "RolledBack" && t.live() == "v1");
}

#[test]
fn a_mend_takes_the_place_of_a_way_back_that_is_stuck() {
    let mut toy = young_and_failing();
    toy.canary_fails = true;
    toy.until(|t| t.last.as_ref().unwrap().reason.word() == "BothFailing");
    toy.set_image("v3");
    toy.until(|t| t.state.phase.rollout().is_none());
    assert_eq!((toy.phase(), toy.live().as_str()), ("Live", "v2"));
    (toy.canary_fails, toy.stable_fails) = (false, false);
    toy.until(|t| t.live() == "v3" && t.quiet());
}

#[test]
fn a_gate_opened_by_hand_in_preflight_leaves_the_canary_without_pods_for_users_to_reach() {
    let mut toy = Toy::adopted(4);
    // The owner's template is the live one, so that opening the gate rolls nothing: the wish is a Release made by hand.
    toy.plan.source = Source::Manual;
    toy.release(ReleaseName::new("shop-v2"), "v2".into(), "r/shop:v2".into(), None, None);
    toy.mute = true;
    toy.until(|t| t.phase() == "Preflight" && t.w().canary.is_some() && t.quiet());
    toy.story();
    toy.workload().paused = false;
    toy.pass();
    assert_eq!(toy.story(), "pin off; canary 0");
    toy.workload().paused = true;
    toy.mute = false;
    toy.until(|t| t.live() == "v2" && t.quiet());
}

#[test]
fn a_bake_counts_from_when_stable_is_back() {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Canary" && t.quiet());
    let gone = toy.seen.workloads.pop().unwrap();
    toy.now = after(toy.now, Duration::from_mins(10));
    toy.pass();
    toy.seen.workloads.push(crate::model::world::Workload { pods: vec![], ..gone });
    let (back, step) = (toy.now, toy.state.phase.clone());
    toy.until(|t| t.phase() != "Canary" || t.state.phase.rollout().unwrap().stage != step.rollout().unwrap().stage);
    assert!(toy.now >= after(back, Duration::from_mins(1)), "what baked was compared with nothing");
}

#[test]
fn a_pin_does_not_follow_every_flap_of_the_canarys_pods() {
    for (phase, left) in [("Guarding", 1), ("Guarding", 0), ("Finalizing", 1), ("Finalizing", 0)] {
        let mut toy = Toy::adopted(4);
        toy.set_image("v2");
        toy.until(|t| t.phase() == phase);
        (toy.roll, toy.mute) = (false, true);
        toy.until(|t| t.seen.services[0].pin == Pin::Canary && t.quiet());
        toy.story();
        let start = toy.now;
        for pass in 0..40 {
            let now = toy.now;
            let ready = if pass % 4 < 2 { left } else { 4 };
            for (at, pod) in toy.workload().canary.as_mut().unwrap().pods.iter_mut().enumerate() {
                pod.ready_since = if at < ready { pod.ready_since.or(Some(now)) } else { None };
            }
            toy.pass();
            if pass == 1 {
                assert_ne!(toy.seen.services[0].pin, Pin::Canary, "{phase}: too few pods keep nothing");
            }
        }
        let seconds = toy.now.duration_since(start).as_secs();
        let moves = toy.story().matches("pin canary").count();
        assert!(moves <= usize::try_from(seconds / 5 + 1).unwrap(), "{phase} {left}: {moves} times in {seconds} s");
        toy.roll = true;
        toy.mute = false;
        toy.until(|t| t.live() == "v2" && t.quiet());
    }
}

#[test]
fn who_writes_another_template_again_and_again_is_held_and_the_canary_serves() {
    let mut toy = Toy::adopted(4);
    toy.set_image("v2");
    toy.until(|t| t.phase() == "Finalizing");
    toy.roll = false;
    toy.until(|t| !t.w().paused && t.seen.services[0].pin == Pin::Canary);
    let theirs = |toy: &mut Toy| {
        toy.set_image("v3");
        toy.workload().last_writer = Some("flux".into());
        toy.story();
        toy.pass();
        toy.story()
    };
    assert_eq!(theirs(&mut toy), "record v3; open", "once is a change that slipped in");
    assert_eq!(toy.w().template, template("v2"));
    assert_eq!(theirs(&mut toy), "close", "twice is a fight");
    let said = toy.last.as_ref().unwrap();
    assert_eq!((said.reason.word(), said.holds.len()), ("FoughtBy", 1));
    assert!(said.reason.to_string().starts_with("flux writes"));
    let start = toy.now;
    while toy.now < after(start, Duration::from_mins(4)) {
        toy.pass();
    }
    assert_eq!(toy.story(), "", "nobody is called to the next round");
    assert_eq!((toy.last.as_ref().unwrap().reason.word(), &toy.seen.services[0].pin), ("FoughtBy", &Pin::Canary));
    toy.until(|t| !t.w().paused);
    assert_eq!(theirs(&mut toy), "close", "they have not stopped");
    toy.roll = true;
    toy.until(|t| t.live() == "v2");
    toy.until(|t| t.live() == "v3" && t.quiet());
}

#[test]
fn a_guard_ends_for_something_newer_when_the_evidence_is_in_and_not_below_the_limit() {
    let guarded = |newer: bool, limit: u64| {
        let mut toy = Toy::adopted(4);
        toy.plan.guard = Duration::from_mins(20);
        toy.plan.limits.guard = Duration::from_secs(limit);
        toy.set_image("v2");
        toy.until(|t| t.phase() == "Guarding");
        let since = toy.now;
        if newer {
            toy.set_image("v3");
        }
        let mut told = false;
        toy.until(|t| t.phase() == "Finalizing" || t.last.iter().any(|d| d.next.phase.label() == "Finalizing"));
        told |= toy.last.iter().flat_map(|d| &d.notes).any(|note| note.word() == "GuardEnds");
        (toy.now.duration_since(since).as_secs(), told)
    };
    let (alone, told) = guarded(false, 0);
    assert!(alone >= 1_200 && !told, "{alone} s and nobody waits");
    let (hurried, told) = guarded(true, 0);
    assert!((60..600).contains(&hurried) && told, "{hurried} s with 30 good pairs");
    let (limited, _) = guarded(true, 900);
    assert!((900..1_000).contains(&limited), "{limited} s: a policy says 900 at least");
}
