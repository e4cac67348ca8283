//! Whose requests are counted now, and what is compared.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Ports, active, canary_of, running};
use crate::{
    model::{
        measure::{Counters, From, Measures},
        phase::{Direction, Rollout, Stage, State},
        plan::Plan,
        probe::Vars,
        version::Weight,
        world::{Observation, Workload},
    },
    observe::probes::meter::{Course, Metered, Pod},
};

/// So many pods of each side are read: they speak for the others, and a page is read each second.
const PODS: usize = 10;

/// Whose requests are counted, if the plan says how.
pub(super) fn metered(state: &State, seen: &Observation, plan: &Plan, ports: &Ports<'_>) -> Option<Metered> {
    let measures = plan.measures.as_ref()?;
    let course = course(state, plan);
    let rollout = state.phase.rollout();
    let routed = |w: &&Workload| seen.services_of(&w.name).next().is_some();
    let several = seen.workloads.iter().filter(routed).count() > 1;
    let port = match &**measures {
        Measures::Counters(Counters { from: From::Scrape { port, .. }, .. }) => port.as_str(),
        // Nobody asks the pod itself.
        Measures::Counters(_) | Measures::Kept(_) => "0",
    };
    let (mut canary, mut stable) = (Vec::new(), Vec::new());
    for workload in seen.workloads.iter().filter(routed) {
        let name = several.then(|| workload.name.clone());
        let pods = |pods: Vec<&crate::model::world::Pod>| {
            let pods = pods.into_iter().filter_map(|pod| {
                let at = super::target(pod, &number_or_name(port), &ports.pods)?;
                Some(Pod { pod: at.pod, at: at.at, since: pod.ready_since?, of: name.clone() })
            });
            pods.collect::<Vec<Pod>>()
        };
        match rollout {
            None => {
                stable.extend(pods(state.live.as_ref().map_or_else(|| active(workload), |live| running(seen, workload, &live.release))));
            }
            Some(rollout) => {
                let new = pods(canary_of(workload, &rollout.release));
                // What this version does not change is neither side of it.
                if !new.is_empty() || !matches!(course, Course::Shared { .. }) {
                    stable.extend(pods(running(seen, workload, &rollout.from)));
                }
                canary.extend(new);
            }
        }
    }
    for side in [&mut canary, &mut stable] {
        side.sort_by(|one, other| one.pod.cmp(&other.pod));
        side.truncate(PODS);
    }
    Some(Metered { measures: measures.clone(), secrets: Ok(Vars::default()), canary, stable, course })
}

fn course(state: &State, plan: &Plan) -> Course {
    let Some(rollout) = state.phase.rollout() else { return Course::Rest };
    let terms = rollout.book.terms();
    let shared = |whole| Course::Shared { terms: Box::new(terms.clone()), whole };
    let compares =
        rollout.direction == Direction::Forward && rollout.suspended.is_none() && (terms.errors.is_some() || terms.latency.is_some());
    match &rollout.stage {
        _ if !compares || Rollout::in_place(rollout) => Course::Beside,
        // Those who test are no sample of those who do not.
        Stage::Canary { step } if plan.steps.get(*step).is_none_or(|step| step.weight == Weight::ZERO) => Course::Beside,
        Stage::Canary { .. } | Stage::Promoting => shared(false),
        Stage::Guarding { .. } => shared(true),
        Stage::Preparing | Stage::Preflight | Stage::Finalizing | Stage::RollingBack { .. } => Course::Beside,
    }
}

fn number_or_name(port: &str) -> IntOrString {
    port.parse().map_or_else(|_| IntOrString::String(port.to_owned()), IntOrString::Int)
}
