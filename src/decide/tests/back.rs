//! The way back and the way out when something of it is missing: pods, records, rights, objects.

use super::{
    super::{check::check, decide},
    toy::{Toy, name},
};
use crate::model::{
    decision::{Decision, Effect},
    phase::Phase,
    world::{Pin, Trouble},
};

/// What is decided of the world as it stands, before Kubernetes does anything more; checked, and not carried out.
fn decided(toy: &Toy) -> Decision {
    let decision = decide(&toy.plan, &toy.state, &toy.seen, toy.now);
    check(&toy.plan, &toy.state, &toy.seen, &decision, toy.now).unwrap();
    decision
}

fn fault() -> Option<Trouble> {
    Some(Trouble::Fault { word: "OOMKilled".into(), says: "killed for memory".into() })
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
    let pin = |effect| if let &Effect::PinService { ref pin, .. } = effect { Some(pin) } else { None };
    decision.effects.iter().filter_map(pin).collect()
}

#[test]
fn a_canary_whose_pods_all_fail_in_mid_roll_is_left_for_the_few_of_stable() {
    let mut toy = at("Guarding");
    toy.until(|t| t.phase() == "Finalizing" && !t.w().paused);
    // The roll is half way: two of the old pods and none of the new are ready, and the canary is dead.
    let old = toy.seen.workloads[0].replica_sets[0].clone();
    let w = toy.workload();
    w.replica_sets[0].wanted = 2;
    w.replica_sets.push(crate::model::world::ReplicaSet {
        template: w.template_hash(),
        pod_hash: crate::model::version::PodHash::new("new"),
        wanted: 2,
        raw: w.template.clone(),
        ..old.clone()
    });
    w.pods.truncate(2);
    for pod in &mut w.canary.as_mut().unwrap().pods {
        (pod.ready_since, pod.trouble) = (None, fault());
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
