//! Somebody else's word on a version: when it is asked for, what waits for it, and what it does.
//!
//! A word that is asked for is stored first, and so is one that lets the version go on: a restart asks for neither again. Until then it
//! waits, and its deadline counts, as with an approval ([`super::approval`]). No word at all blames nobody; a Fail takes the version back,
//! outside of what is bet on in the book. Deliberately absent: the way back, and a version that comes back. Neither asks anybody.

use super::{Case, stage, step, verdict, words};
use crate::{
    api::verify::ExternalAt,
    model::{
        decision::{Decision, Reason, Wait},
        external::{PlannedExternal, Sought, Word},
        phase::{Direction, Rollout, Stage},
    },
};

/// A rollout at that stage has all of the traffic, or is on its way to it.
fn is_whole(stage: &Stage) -> bool {
    match stage {
        Stage::Promoting | Stage::Guarding { .. } | Stage::Finalizing => true,
        Stage::Preparing | Stage::Preflight | Stage::Canary { .. } | Stage::RollingBack { .. } => false,
    }
}

fn is_before_pods(stage: &Stage) -> bool {
    matches!(stage, Stage::Preparing | Stage::Preflight)
}

/// Those whose word is asked for where the rollout stands now.
fn due<'a>(case: &Case<'a>, rollout: &Rollout) -> Vec<&'a PlannedExternal> {
    // Traffic that was taken off may come back to where it was; that asks nobody.
    let whole_next = || {
        rollout.suspended.is_none()
            && !is_whole(&rollout.stage)
            && stage::over(case, rollout).is_ok()
            && is_whole(&step::following(case, rollout))
    };
    let stands = |at| match at {
        ExternalAt::Start => is_before_pods(&rollout.stage),
        ExternalAt::Promote => whole_next(),
    };
    let forward = rollout.direction == Direction::Forward;
    case.plan.external.iter().filter(|planned| forward && stands(planned.at)).collect()
}

fn passed(rollout: &Rollout, planned: &PlannedExternal) -> bool {
    rollout.sought.iter().any(|sought| sought.is_of(planned) && sought.passed)
}

/// The word that is missing for a stage.
#[must_use]
pub fn missing<'a>(case: &Case<'a>, rollout: &Rollout, to: &Stage) -> Option<&'a PlannedExternal> {
    let crosses = |at| match at {
        ExternalAt::Start => is_before_pods(&rollout.stage) && !is_before_pods(to) && !matches!(to, Stage::RollingBack { .. }),
        ExternalAt::Promote => !is_whole(&rollout.stage) && is_whole(to),
    };
    let forward = rollout.direction == Direction::Forward;
    case.plan.external.iter().find(|planned| forward && crosses(planned.at) && !passed(rollout, planned))
}

/// No pod of the version may start yet. Where one is there already, the rest of them may follow.
#[must_use]
pub fn bars(case: &Case<'_>, rollout: &Rollout) -> bool {
    let unsaid = |planned: &&PlannedExternal| planned.at == ExternalAt::Start && !passed(rollout, planned);
    is_before_pods(&rollout.stage)
        && rollout.direction == Direction::Forward
        && case.seen.workloads.iter().all(|workload| workload.canary.is_none())
        && case.plan.external.iter().any(|planned| unsaid(&planned))
}

/// A word that is to be asked for from now on, or one that has come: it is stored before anything is done for it.
pub(super) fn next(case: &Case<'_>, rollout: &Rollout) -> Option<Decision> {
    let planned = |sought: &Sought| case.plan.external.iter().find(|planned| sought.is_of(planned));
    let mut asked = rollout.clone();
    asked.sought.retain(|sought| planned(sought).is_some());
    for due in due(case, rollout) {
        if !asked.sought.iter().any(|sought| sought.is_of(due)) {
            asked.sought.push(Sought { name: due.name.clone(), at: due.at, since: case.now, passed: false });
        }
    }
    let mut notes = Vec::new();
    for sought in asked.sought.iter_mut().filter(|sought| !sought.passed) {
        if let (Some(Word::Pass), Some(planned)) = (case.seen.external.get(&sought.name), planned(sought)) {
            sought.passed = true;
            let version = verdict::version_of(case, rollout);
            notes.push(Reason::ExternalPassed { version, check: sought.name.clone(), before: planned.before() });
        }
    }
    if asked.sought == rollout.sought {
        return None;
    }
    let holds = awaited(case, &asked);
    let mut decision = step::stay(case, &asked, holds.first().cloned().unwrap_or_else(|| words::of(case, rollout)), Wait::Now);
    (decision.holds, decision.notes) = (holds, notes);
    Some(decision)
}

/// Whose word it stands and waits for.
#[must_use]
pub fn awaited(case: &Case<'_>, rollout: &Rollout) -> Vec<Reason> {
    let open = |planned: &PlannedExternal| rollout.sought.iter().find(|sought| sought.is_of(planned) && !sought.passed);
    let waits = |planned: &PlannedExternal| {
        let sought = open(planned)?;
        let said = match case.seen.external.get(&planned.name) {
            Some(Word::Wait(said)) => said.clone(),
            Some(Word::Pass | Word::Fail(_)) | None => "has no answer yet".to_owned(),
        };
        Some(Reason::ExternalWaits {
            version: verdict::version_of(case, rollout),
            check: planned.name.clone(),
            before: planned.before(),
            said,
            since: jiff::Timestamp::from_second(sought.since.as_second()).unwrap_or(sought.since).to_string(),
        })
    };
    due(case, rollout).into_iter().filter_map(waits).collect()
}

/// Somebody else says that the version is to be taken back.
#[must_use]
pub fn failed(case: &Case<'_>, rollout: &Rollout) -> Option<Reason> {
    let open = |planned: &&PlannedExternal| rollout.sought.iter().any(|sought| sought.is_of(planned) && !sought.passed);
    let forward = rollout.direction == Direction::Forward;
    case.plan.external.iter().filter(|planned| forward && open(planned)).find_map(|planned| {
        let Some(Word::Fail(status)) = case.seen.external.get(&planned.name) else { return None };
        Some(Reason::ExternalFailed {
            version: verdict::version_of(case, rollout),
            check: planned.name.clone(),
            before: planned.before(),
            status: *status,
        })
    })
}
