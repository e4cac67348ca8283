//! What people read while a stage of a rollout lasts. It stays true for as long as the stage does, so that it is written once.

use super::{Case, before, route, size, verdict};
use crate::model::{
    decision::Reason,
    phase::{Direction, Rollout, Stage},
    version::Weight,
};

/// How many apps a sentence names.
const NAMED: usize = 5;

/// Some apps by name, and how many there are besides. Those of other namespaces have none here.
pub(super) fn apps<'a>(named: impl IntoIterator<Item = &'a String>, all: usize) -> String {
    let mut named: Vec<String> = named.into_iter().take(NAMED).cloned().collect();
    let others = all - named.len();
    if others > 0 {
        named.push(if named.is_empty() { "all of other namespaces".to_owned() } else { format!("{others} more") });
    }
    named.join(", ")
}

/// The sentence of the stage.
#[must_use]
pub fn of(case: &Case<'_>, rollout: &Rollout) -> Reason {
    let version = verdict::version_of(case, rollout);
    if let (Direction::Return(why), Stage::Preparing | Stage::Preflight | Stage::Canary { .. } | Stage::Promoting) =
        (&rollout.direction, &rollout.stage)
    {
        return Reason::Returning { version, why: why.says.clone() };
    }
    let by_route = size::changed(case, rollout).any(|w| route::leads(case, w));
    match &rollout.stage {
        Stage::Preparing => before::words(case, rollout),
        Stage::Preflight => Reason::Preflight { version },
        Stage::Canary { .. } if rollout.asked_again() => Reason::AskedAgain { version },
        Stage::Canary { step } => {
            let Some(planned) = case.plan.steps.get(*step) else { return Reason::Preflight { version } };
            let share = size::share(case, rollout, *step);
            match &planned.testers {
                Some(testers) => Reason::Testing { version, mark: testers.to_string() },
                None if by_route => Reason::Sharing { version, share },
                None => Reason::Baking { version, served: planned_share(case, rollout), asked: share },
            }
        }
        Stage::Promoting => {
            let wanted = size::changed(case, rollout).map(|w| w.replicas).sum();
            Reason::Growing { version, wanted }
        }
        Stage::Guarding { .. } => Reason::Guarding { version, what: if by_route { "requests by its routes" } else { "new connections" } },
        Stage::Finalizing if rollout.in_place() => Reason::RollingInPlace { version },
        Stage::Finalizing => Reason::RollingStable { version },
        Stage::RollingBack { why, .. } => {
            Reason::GoingBack { from: version, to: verdict::called(case, &rollout.from), why: why.says.clone() }
        }
    }
}

/// The share that the pods of the stage give when all of them are ready.
fn planned_share(case: &Case<'_>, rollout: &Rollout) -> Weight {
    let shares = size::changed(case, rollout).map(|w| Weight::of_pods(size::pods(case, rollout, w, &rollout.stage), w.replicas));
    shares.max().unwrap_or(Weight::ZERO)
}
