//! Keeps the owner's Deployment on a proven template, and its gate closed.
//!
//! One rule serves everywhere: at rest the proven one is the live version, on the way up and back it is the good one that
//! the rollout started from, in Finalizing it is the new one. A template that is not proven never gets pods; the owner's
//! own change is never lost, it is recorded before it is replaced and put back, inert, afterwards.

use serde_json::Value;

use super::{Case, candidate, hold};
use crate::{
    api::release::OriginType,
    model::{
        decision::{Effect, Reason},
        version::{ReleaseName, TemplateHash},
        world::{Release, Workload},
    },
};

/// How a workload stands towards a proven template, and what is written about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// Writes, in order.
    pub effects: Vec<Effect>,
    /// It runs the proven template and nothing else is meant to run, and the gate is closed.
    pub settled: bool,
    /// Why forward moves wait, if they do.
    pub hold: Option<Reason>,
    /// What people are told.
    pub note: Option<Reason>,
}

impl Standing {
    fn settled() -> Self {
        Self { effects: Vec::new(), settled: true, hold: None, note: None }
    }

    fn writes(effects: Vec<Effect>) -> Self {
        Self { effects, settled: false, hold: None, note: None }
    }

    fn held(reason: Reason) -> Self {
        Self { effects: Vec::new(), settled: false, hold: Some(reason), note: None }
    }
}

/// What a gate that a person opened means at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumed {
    /// It is respected: nothing moves until it is closed again.
    Respected,
    /// The proven template is meant to roll anyway.
    Welcome,
}

/// Keeps one workload on the template of a Release.
#[must_use]
pub fn keep(case: &Case<'_>, workload: &Workload, release: &Release, resumed: Resumed) -> Standing {
    let Some(proven) = release.templates.as_ref().and_then(|t| t.get(&workload.name)) else {
        return Standing::held(Reason::TemplateLost { release: release.name.to_string() });
    };
    let hash = crate::model::template::hash(proven);
    let home = workload.template_hash() == hash;
    match (workload.paused, home) {
        (true, _) if meant(workload, &hash, home) => closed(case, workload, release, proven, home),
        (true, home) => reopened(case, workload, release, proven, home),
        (false, true) if workload.gate_marked && resumed == Resumed::Respected => {
            Standing::held(Reason::Ungated { workload: workload.name.to_string() })
        }
        (false, true) if workload.rolled_to(&hash) => {
            Standing::writes(vec![Effect::CloseGate { workload: workload.name.clone(), exact: false }])
        }
        (false, true) => Standing::held(Reason::WorkloadRolling { workload: workload.name.to_string() }),
        (false, false) => forced(case, workload, release, proven),
    }
}

/// Every pod that is meant to be there is one of that template's. They need not be available: a pod that was deleted, or a
/// node that died, is not a reason to touch anything. Nor need they be as many as wanted: Kubernetes scales behind a closed
/// gate too, a moment after an autoscaler asked for it.
fn meant(workload: &Workload, hash: &TemplateHash, home: bool) -> bool {
    match workload.replica_set(hash) {
        Some(current) => {
            // Coming back from 0, it is the template that stands there that runs.
            let runs = current.wanted > 0 || workload.replicas == 0 || home;
            runs && workload.replica_sets.iter().all(|rs| rs.pod_hash == current.pod_hash || rs.wanted == 0)
        }
        // Nothing is meant to run. Then no foreign template may wait there: coming back from 0 it would run.
        None => workload.replicas == 0 && (home || workload.replica_sets.iter().all(|rs| rs.wanted == 0)),
    }
}

/// The gate is closed and the right pods run: what may wait in the template?
fn closed(case: &Case<'_>, workload: &Workload, release: &Release, proven: &Value, home: bool) -> Standing {
    let mut standing = Standing::settled();
    let name = || workload.name.clone();
    if workload.replicas == 0 && !home {
        let Some((mut effects, put_back)) = recorded(case, workload, release) else { return standing };
        effects.push(Effect::PutTemplate { workload: name(), template: proven.clone(), put_back });
        standing.effects = effects;
    } else if workload.replicas > 0 && home && workload.put_back.is_some() {
        standing.effects = put_back(case, workload);
    } else if !home && workload.put_back.is_some() {
        // The owner wrote something newer in the meantime: that is the wish now.
        standing.effects.push(Effect::PutTemplate { workload: name(), template: workload.template.clone(), put_back: None });
    } else if !workload.gate_marked {
        standing.effects.push(Effect::CloseGate { workload: name(), exact: false });
    }
    standing
}

fn put_back(case: &Case<'_>, workload: &Workload) -> Vec<Effect> {
    let theirs = workload.put_back.as_ref().and_then(|name| case.seen.release(name)?.templates.as_ref()?.get(&workload.name));
    let template = theirs.unwrap_or(&workload.template).clone();
    vec![Effect::PutTemplate { workload: workload.name.clone(), template, put_back: None }]
}

/// Paused, but the wrong pods are meant to run, or none: a `ReplicaSet` was deleted, or a roll was stopped half way.
fn reopened(case: &Case<'_>, workload: &Workload, release: &Release, proven: &Value, home: bool) -> Standing {
    let own = || Some((Vec::new(), workload.put_back.clone()));
    let Some((mut effects, put_back)) = (if home { own() } else { recorded(case, workload, release) }) else {
        let missing = case.plan.workloads.iter().find(|p| case.seen.workload(&p.name).is_none());
        return Standing::held(Reason::WorkloadMissing { workload: missing.map_or_else(String::new, |p| p.name.to_string()) });
    };
    effects.push(Effect::OpenGate { workload: workload.name.clone(), template: (!home).then(|| proven.clone()), put_back, leave: false });
    Standing::writes(effects)
}

/// Unpaused together with another template. Writing the proven one stops that roll faster than a pause would mend it.
fn forced(case: &Case<'_>, workload: &Workload, release: &Release, proven: &Value) -> Standing {
    let effects = match recorded(case, workload, release) {
        Some((mut effects, put_back)) => {
            effects.push(Effect::OpenGate { workload: workload.name.clone(), template: Some(proven.clone()), put_back, leave: false });
            effects
        }
        // It cannot be kept yet, so it is stopped and left where it is.
        None => vec![Effect::CloseGate { workload: workload.name.clone(), exact: false }],
    };
    let note = Reason::GateForced { workload: workload.name.to_string(), by: writer(workload) };
    Standing { effects, settled: false, hold: Some(note.clone()), note: Some(note) }
}

/// Whose hand it was.
pub(super) fn writer(workload: &Workload) -> String {
    workload.last_writer.clone().unwrap_or_else(|| "somebody".to_owned())
}

/// The owner's wish made a Release, so that its template may be replaced without being lost; none to put back when the wish
/// is what is kept. None at all while nothing says what the wish is (another workload is missing) and no Release has this
/// template: then it must stay.
fn recorded(case: &Case<'_>, workload: &Workload, kept: &Release) -> Option<(Vec<Effect>, Option<ReleaseName>)> {
    let (effects, name) = if let Some(wish) = candidate::wish(case) {
        (wish.record(case, OriginType::Workload), wish.name(&case.seen.delivery))
    } else {
        let here = workload.template_hash();
        let same = case.seen.releases.iter().rev().find(|r| r.template_hash(&workload.name).as_ref() == Some(&here))?;
        (Vec::new(), same.name.clone())
    };
    Some((effects, Some(name).filter(|name| *name != kept.name)))
}

/// All workloads on one Release, in the plan's order; `in_turn`: a workload waits until those before it are settled.
#[must_use]
pub fn keep_all(case: &Case<'_>, release: &Release, resumed: Resumed, in_turn: bool) -> Standing {
    // One that is missing is not settled: nothing of it is seen, also not the canary that serves on alone.
    let mut all = Standing { settled: hold::missing(case).is_none(), ..Standing::settled() };
    for workload in &case.seen.workloads {
        let mut one = keep(case, workload, release, resumed);
        all.effects.append(&mut one.effects);
        all.hold = all.hold.or(one.hold);
        all.note = all.note.or(one.note);
        all.settled &= one.settled;
        if in_turn && !one.settled {
            break;
        }
    }
    all
}
