//! The conditions: what `kubectl wait`, `GitOps` tools and alerts read.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::releases::cut;
use crate::{
    api::status::{DeliveryStatus, Told},
    model::{
        decision::{Decision, Reason},
        phase::{Phase, Why},
        plan::Plan,
    },
};

/// Length of a message: six of them, 1.5 kB at most. The sentence in full stands in `message`.
const MESSAGE: usize = 256;

const PASSED: &str = "what serves was asked and answered well";

struct Said {
    kind: &'static str,
    status: &'static str,
    why: Told,
}

fn said(kind: &'static str, status: &'static str, word: &str, says: &str) -> Said {
    Said { kind, status, why: Told { reason: word.to_owned(), message: cut(says, MESSAGE) } }
}

fn because(kind: &'static str, status: &'static str, why: &Why) -> Said {
    said(kind, status, &why.word, &why.says)
}

/// The conditions of a decision. One that does not apply is absent.
pub(super) fn of(
    plan: Option<&Plan>,
    decision: &Decision,
    before: &DeliveryStatus,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    [
        Some(available(decision)),
        Some(ready(decision)),
        reconciling(decision),
        stalled(decision),
        Some(verified(plan, decision, before)),
        Some(held(decision)),
    ]
    .into_iter()
    .flatten()
    .map(|said| {
        let same = before.conditions.iter().find(|c| c.type_ == said.kind && c.status == said.status);
        Condition {
            last_transition_time: same.map_or(Time(now), |c| c.last_transition_time.clone()),
            message: said.why.message,
            observed_generation: generation,
            reason: said.why.reason,
            status: said.status.to_owned(),
            type_: said.kind.to_owned(),
        }
    })
    .collect()
}

fn available(decision: &Decision) -> Said {
    match (&decision.health.unavailable, &decision.next.phase) {
        (Some(why), _) => because("Available", "False", why),
        (None, Phase::Adopting) => said("Available", "Unknown", decision.reason.word(), &decision.reason.to_string()),
        (None, Phase::Live | Phase::RolledBack { .. } | Phase::Rolling(_)) => {
            said("Available", "True", "Serving", "a proven version serves")
        }
    }
}

fn ready(decision: &Decision) -> Said {
    let live = decision.next.live.as_ref().map(|live| &live.release);
    let is_live = matches!(decision.next.phase, Phase::Live) && live.is_some() && decision.desired.as_ref().is_none_or(|d| Some(d) == live);
    said("Ready", if is_live { "True" } else { "False" }, decision.reason.word(), &decision.reason.to_string())
}

fn reconciling(decision: &Decision) -> Option<Said> {
    let stands = decision.health.stalled.is_some();
    match decision.next.phase {
        // Nothing is on its way where it is only said what would be.
        Phase::Adopting if matches!(decision.reason, Reason::WouldDeliver { .. }) => None,
        Phase::Adopting | Phase::Rolling(_) if !stands => {
            Some(said("Reconciling", "True", decision.next.phase.label(), &decision.reason.to_string()))
        }
        Phase::Adopting | Phase::Rolling(_) | Phase::Live | Phase::RolledBack { .. } => None,
    }
}

fn stalled(decision: &Decision) -> Option<Said> {
    match (&decision.health.stalled, &decision.next.phase) {
        (Some(why), _) | (None, Phase::RolledBack { why, .. }) => Some(because("Stalled", "True", why)),
        (None, Phase::Adopting | Phase::Live | Phase::Rolling(_)) => None,
    }
}

/// The A/A test of what they count.
const MUTE_REQUESTS: &str = "the requests of users do not vote: by how they failed in the last hours, stable's own pods would be taken for a bad version of each other";

/// What serves was asked. A new answer replaces the last one; that nobody has answered yet in a new phase does not.
fn verified(plan: Option<&Plan>, decision: &Decision, before: &DeliveryStatus) -> Said {
    let mut verified = answered(plan, decision, before);
    // Without a number: one that changes with each run would be a write for each.
    let probes = (!decision.health.mute.is_empty())
        .then(|| format!("ProductionProbe {} fails too often at rest to vote (above 2 %, until 1 %)", decision.health.mute.join(", ")));
    let requests = decision.health.mute_requests.then(|| MUTE_REQUESTS.to_owned());
    for mute in probes.into_iter().chain(requests) {
        verified.why.message = cut(&format!("{}; {mute}", verified.why.message), MESSAGE);
    }
    verified
}

fn answered(plan: Option<&Plan>, decision: &Decision, before: &DeliveryStatus) -> Said {
    let muted = plan.is_some_and(|plan| plan.probes.iter().all(|probe| decision.health.mute.contains(probe)));
    match &decision.health.verified {
        Some(Ok(())) => said("Verified", "True", "Passed", PASSED),
        Some(Err(why)) => because("Verified", "False", why),
        None if plan.is_some_and(|plan| plan.probes.is_empty()) => {
            said("Verified", "Unknown", "NoChecks", "nothing is named in spec.verify that could be asked")
        }
        None if muted => said("Verified", "Unknown", "ProbesFlaky", "nobody is believed who could be asked"),
        None if before.conditions.iter().any(|c| c.type_ == "Verified" && c.status == "True") => said("Verified", "True", "Passed", PASSED),
        None => said("Verified", "Unknown", "NoVerdict", "what serves has not given an answer yet"),
    }
}

fn held(decision: &Decision) -> Said {
    match decision.holds.first() {
        Some(hold) => said("Held", "True", hold.word(), &hold.to_string()),
        None => said("Held", "False", "NotHeld", "nothing keeps a rollout from moving forward"),
    }
}
