//! A Delivery that is being deleted: the proven version serves, the gate is opened, and nothing of ours stays.

use super::{Case, before, candidate, cron_jobs, pin, pin::Side, rollback, route, stable, stable::Resumed, step, verdict};
use crate::{
    api::release::Outcome,
    model::{
        decision::{Decision, Effect, Reason, Target, Wait},
        phase::{Direction, Phase, Rollout, Stage},
        template,
        world::{Canary, Pin, Release, Workload},
    },
};

/// The next move of a Delivery that goes.
#[must_use]
pub fn next(case: &Case<'_>) -> Decision {
    // Our rights may go before our finalizer does: in a namespace that ends there is nothing to save.
    let barred = case.seen.problems.iter().any(|p| matches!(p, Reason::NotGranted { .. }));
    if case.seen.namespace_terminating || barred {
        return gone(case);
    }
    let complete = case.seen.workloads.len() == case.plan.workloads.len();
    match &case.state.phase {
        Phase::Rolling(rollout) if complete => match &rollout.stage {
            // As long as the canary is there, stable has not begun to roll.
            Stage::Finalizing if !rollout.in_place() || !case.seen.workloads.iter().any(rollback::beside) => finish(case, rollout),
            // The good version has all of the traffic, and stable is the accused: there is no way back to that.
            Stage::Guarding { .. } if rollout.direction != Direction::Forward && rollout.suspended.is_none() => finish(case, rollout),
            // Nothing to go back to that anybody knows: what serves is left as it is.
            _ if !reachable(case, rollout) => ungate(case),
            Stage::RollingBack { .. } => step::next(case, rollout),
            Stage::Preparing | Stage::Preflight | Stage::Canary { .. } | Stage::Promoting | Stage::Guarding { .. } | Stage::Finalizing => {
                rollback::begin(case, rollout, Outcome::Undecided, Reason::DeliveryDeleted)
            }
        },
        Phase::Adopting | Phase::Live | Phase::RolledBack { .. } | Phase::Rolling(_) => ungate(case),
    }
}

/// The version that the rollout started from can be made again, of every workload.
fn reachable(case: &Case<'_>, rollout: &Rollout) -> bool {
    let from = candidate::known(case, &rollout.from);
    case.seen.workloads.iter().all(|w| from.template_hash(&w.name).is_some())
}

fn gone(case: &Case<'_>) -> Decision {
    let effects = if case.seen.finalizer { vec![Effect::RemoveFinalizer] } else { Vec::new() };
    Decision::stay(case.state, Reason::DeliveryDeleted, Wait::Change).first(effects)
}

/// The new version has all of the traffic and stable is on its way to it: that is finished, then both sides match.
fn finish(case: &Case<'_>, rollout: &Rollout) -> Decision {
    let Some(to) = case.seen.release(&rollout.release).filter(|r| r.templates.is_some()) else { return ungate(case) };
    let standing = stable::keep_all(case, to, Resumed::Welcome, false);
    let ready = |w: &Workload| to.template_hash(&w.name).and_then(|t| pin::pod_hash(w, &t)).map_or(0, |h| w.ready(&h));
    let rolled = |w: &Workload| to.template_hash(&w.name).is_some_and(|h| w.rolled_to(&h));
    let side = |w: &Workload| {
        let canary = w.canary.as_ref().map_or(0, Canary::ready);
        // Where stable is the accused, its old pods get none of the traffic back.
        let serves = if rollout.direction == Direction::Forward { ready(w) > 0 } else { rolled(w) };
        if !serves && canary > 0 { Side::Canary } else { Side::Both }
    };
    let routes = case.seen.workloads.iter().flat_map(|w| route::writes(case, w, &route::alone(case, w, side(w))));
    let mut effects: Vec<Effect> = routes.collect();
    effects.extend(case.seen.workloads.iter().flat_map(|w| pin::writes(case, w, side(w))));
    effects.extend(standing.effects);
    if !effects.is_empty() || !case.seen.workloads.iter().all(rolled) || !standing.settled {
        let wait = if effects.is_empty() { Wait::Poll } else { Wait::Now };
        let mut decision = step::stay(case, rollout, Reason::DeliveryDeleted, wait);
        decision.effects = effects;
        return decision;
    }
    let live = crate::model::phase::Live { release: to.name.clone(), since: case.now };
    let next = crate::model::phase::State { live: Some(live), ..case.state.to(Phase::Live, case.now) };
    Decision::stay(&next, Reason::DeliveryDeleted, Wait::Now).first(cron_jobs::taken(case, to))
}

/// At rest: pins off, canaries away, every gate open on the proven template, then the finalizer.
pub(super) fn ungate(case: &Case<'_>) -> Decision {
    let live = case.state.live.as_ref().map(|l| candidate::known(case, &l.release));
    // Of every Service: one whose Deployment was deleted with the Delivery must not stay on a canary that goes too.
    let pinned = case.seen.services.iter().filter(|s| s.pin != Pin::Off);
    let mut effects: Vec<Effect> = pinned.map(|s| Effect::PinService { service: s.name.clone(), pin: Pin::Off }).collect();
    let mut notes = Vec::new();
    for workload in &case.seen.workloads {
        let (home, quiet) = route::cleared(case, workload);
        effects.extend(home);
        let carries = case.seen.services_of(&workload.name).any(|s| s.pin == Pin::Canary) || !quiet;
        if !carries && workload.canary.as_ref().is_some_and(|c| !c.deleting) {
            effects.push(Effect::DeleteCanary { workload: workload.name.clone() });
        }
        if let Some((effect, note)) = opened(case, workload, live.as_deref()) {
            effects.push(effect);
            notes.extend(note);
        }
    }
    let missing = case.plan.workloads.iter().filter(|p| case.seen.workload(&p.name).is_none());
    // Whether there is a canary is not known where its Deployment is gone; to delete none is nothing that others wait for.
    let sweeps: Vec<Effect> = missing.map(|p| Effect::DeleteCanary { workload: p.name.clone() }).collect();
    effects.extend(before::cleared(case));
    let waiting = case.seen.workloads.iter().any(|w| w.canary_left > 0 || w.canary.is_some());
    if effects.is_empty() && !waiting {
        effects = route::left(case);
    }
    if effects.is_empty() && !waiting {
        effects = disowned(case);
    }
    let last = effects.is_empty() && !waiting;
    effects.extend(sweeps);
    if last {
        effects.extend(gone(case).effects);
    }
    let wait = if last { Wait::Change } else { Wait::Poll };
    let mut decision = Decision::stay(case.state, Reason::DeliveryDeleted, wait).first(effects);
    decision.notes = notes;
    decision
}

/// No field of the owner's objects stays ours.
fn disowned(case: &Case<'_>) -> Vec<Effect> {
    let workloads = case.seen.workloads.iter().filter(|w| w.owns_fields).map(|w| Target::Workload(w.name.clone()));
    let services = case.seen.services.iter().filter(|s| s.owns_fields).map(|s| Target::Service(s.name.clone()));
    let routes = case.seen.routes.iter().filter(|r| r.owns_fields).map(|r| Target::Route(r.name.clone()));
    let cron_jobs = case.seen.cron_jobs.iter().filter(|c| c.owns_fields).map(|c| Target::CronJob(c.name.clone()));
    workloads.chain(services).chain(routes).chain(cron_jobs).map(Effect::DropOwnership).collect()
}

/// The write that opens the gate of a workload for good; none: it is open, or it never was ours to open.
fn opened(case: &Case<'_>, workload: &Workload, live: Option<&Release>) -> Option<(Effect, Option<Reason>)> {
    let ours = case.state.adopted.iter().find(|a| a.name == workload.name.as_str());
    if !workload.paused && !workload.gate_marked || ours.is_none_or(|a| a.was_paused) {
        return None;
    }
    let proven = live.and_then(|r| r.templates.as_ref()?.get(&workload.name));
    let home = proven.is_none_or(|p| template::hash(p) == workload.template_hash());
    let template = proven.filter(|_| !home).cloned();
    let note = template.as_ref().map(|_| {
        let version = live.map_or_else(String::new, |r| verdict::called(case, &r.name));
        Reason::LeftBehind { workload: workload.name.to_string(), version }
    });
    Some((Effect::OpenGate { workload: workload.name.clone(), template, put_back: None, leave: true }, note))
}
