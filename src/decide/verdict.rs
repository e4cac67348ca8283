//! What all evidence says about the version on its way: the platform's signals first, then the book.
//!
//! Before any pod of it is there, what runs before it speaks alone ([`super::before`]). Never ready, crash loop and killed for memory are the version's fault. What the cluster refuses (no room, no image,
//! quota, admission) holds. What its owner wants no version to write to its log is a fact as well. Both sides failing holds. Silence holds a new version, not the way back to an old one. Only the
//! canary failing takes it back.

use std::time::Duration;

use super::{
    Case, before, external, in_place,
    judge::{
        book::{Failure, Verdict},
        terms::Purse,
        words,
    },
    route, size,
};
use crate::model::{
    decision::Reason,
    phase::{Direction, Rollout, Stage, after},
    world::{Canary, Pod, Trouble, Workload},
};

/// How long nothing may be learnt before people are told: one default interval of probing.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// What the evidence asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Take it back.
    Fail(Reason),
    /// Take traffic off it, reversibly.
    Suspend(String),
    /// Open the split again.
    Recheck(String),
    /// Do not move forward.
    Hold(Reason),
    /// Go on.
    Fine,
}

/// Judges the version on its way.
#[must_use]
pub fn judge(case: &Case<'_>, rollout: &Rollout) -> Judgement {
    // A person who was asked, or who asked others, knows what no probe does.
    if let Some(failed) = external::failed(case, rollout) {
        return Judgement::Fail(failed);
    }
    if rollout.stage == Stage::Preparing {
        return before::judge(case, rollout);
    }
    let version = version_of(case, rollout);
    let mut hold = None;
    for workload in size::changed(case, rollout) {
        match workload
            .canary
            .as_ref()
            .filter(|_| !rollout.in_place())
            .map_or(Judgement::Fine, |canary| platform(&version, workload, canary))
        {
            Judgement::Fine => {}
            Judgement::Hold(reason) => hold = hold.or(Some(reason)),
            fail @ (Judgement::Fail(_) | Judgement::Suspend(_) | Judgement::Recheck(_)) => return fail,
        }
    }
    if rollout.in_place() {
        match in_place::judge(case, rollout, &version) {
            Judgement::Fine => {}
            Judgement::Hold(reason) => hold = hold.or(Some(reason)),
            fail @ (Judgement::Fail(_) | Judgement::Suspend(_) | Judgement::Recheck(_)) => return fail,
        }
    }
    let forward = rollout.direction == Direction::Forward;
    if let Some(failure) = case.seen.probes.logs.iter().find_map(|heard| heard.alarm.clone()).filter(|_| forward && !rollout.in_place()) {
        return Judgement::Fail(Reason::CanaryFailed { version, failure });
    }
    let asked = !case.seen.probes.voting.is_empty() && !commanded(rollout);
    match rollout.book.verdict() {
        Verdict::Fail(failure) if may_be_one_client(case, rollout, &failure) => {
            return Judgement::Suspend(words::one_client(&failure.says));
        }
        // What was seen stays true when the probe that saw it is gone: its loss lifts nothing.
        Verdict::Fail(failure) => return Judgement::Fail(Reason::CanaryFailed { version, failure: failure.says }),
        // A suite's tests are facts; and whatever is the matter with one that is good again each time, there is no use in another try.
        Verdict::Proven(failure) | Verdict::TooOften(failure) => return Judgement::Fail(Reason::CanaryFailed { version, failure }),
        Verdict::Suspend(failure) => return Judgement::Suspend(failure),
        // What nobody can explain hides no other reason to hold, and none hides that.
        Verdict::Recheck(jump) => return Judgement::Recheck(jump),
        Verdict::Unexplained(jump) => hold = hold.or(Some(Reason::Unexplained { version, jump })),
        Verdict::Both(failure) if asked => hold = hold.or(Some(Reason::BothFailing { failure })),
        Verdict::Void(why) if asked && forward && silent(case, rollout) => hold = hold.or(Some(Reason::NoData { why })),
        Verdict::Both(_) | Verdict::Void(_) | Verdict::Fine => {}
    }
    hold.map_or(Judgement::Fine, Judgement::Hold)
}

/// A person wants an older version back: it is watched, but its probes are not waited for.
#[must_use]
pub fn commanded(rollout: &Rollout) -> bool {
    matches!(&rollout.direction, Direction::Return(why) if why.word == "RolledBackBy")
}

/// By a Service a client stays with its pod, and one that fails for reasons of its own looks like a bad version: no rule on counts tells them
/// apart (research on the judge, §5). Another pod that fails does, and a probe.
fn may_be_one_client(case: &Case<'_>, rollout: &Rollout, failure: &Failure) -> bool {
    let alone = case.seen.probes.meters.as_ref().is_some_and(|meters| meters.failing < 2);
    let by_service = !size::changed(case, rollout).any(|workload| route::leads(case, workload));
    let probed = rollout.book.each_probe().any(|(_, probe)| matches!(probe.counts(), [confirmed, unsure, _] if confirmed + unsure > 0));
    failure.purse == Purse::Errors && alone && by_service && !probed
}

fn silent(case: &Case<'_>, rollout: &Rollout) -> bool {
    rollout.book.void().is_some_and(|(since, _)| after(*since, PATIENCE) <= case.now)
}

/// What Kubernetes itself says about the canary of one workload.
pub(super) fn platform(version: &str, workload: &Workload, canary: &Canary) -> Judgement {
    let fail = |failure: String| Judgement::Fail(Reason::CanaryCrashed { version: version.to_owned(), failure });
    if let Some((pod, says)) = first_fault(&canary.pods) {
        // A stable pod that was restarted once and is ready again is no excuse.
        let stable: Vec<Pod> = workload.pods.iter().filter(|p| p.ready_since.is_none()).cloned().collect();
        return match first_fault(&stable) {
            Some(_) => Judgement::Hold(Reason::BothFailing { failure: format!("pod {pod}: {says}") }),
            None => fail(format!("pod {pod}: {says}")),
        };
    }
    let refused = canary.refused.iter().chain(canary.pods.iter().filter_map(|p| p.trouble.as_ref()));
    for trouble in refused {
        if let Trouble::Refused { word, says } = trouble {
            return Judgement::Hold(Reason::ClusterRefuses { word: word.clone(), says: says.clone() });
        }
    }
    if canary.stuck && canary.ready() < canary.wanted {
        return fail(format!("{} of {} pods of {} got ready within its progress deadline", canary.ready(), canary.wanted, canary.name));
    }
    Judgement::Fine
}

fn first_fault(pods: &[Pod]) -> Option<(&str, &str)> {
    pods.iter().find_map(|pod| match &pod.trouble {
        Some(Trouble::Fault { says, .. }) => Some((pod.name.as_str(), says.as_str())),
        Some(Trouble::Refused { .. }) | None => None,
    })
}

/// What people call the version on its way.
#[must_use]
pub fn version_of(case: &Case<'_>, rollout: &Rollout) -> String {
    called(case, &rollout.release)
}

/// What people call a Release.
#[must_use]
pub fn called(case: &Case<'_>, release: &crate::model::version::ReleaseName) -> String {
    case.seen.release(release).map_or_else(|| release.to_string(), |r| r.version.clone())
}
