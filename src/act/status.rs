//! The whole status that a decision leads to: what a restart needs, and around it what people want to know.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{
    conditions,
    releases::cut,
    shape,
    stored::{self, MESSAGE, essence, time},
};
use crate::{
    api::{
        delivery::Delivery,
        release::Outcome,
        status::{
            AheadCommit, DeliveryStatus, DigestPods, HISTORY, HistoryEntry, LastRollback, PodCount, RolloutStatus, Told, Version, WayBack,
            WeightStatus,
        },
    },
    model::{
        decision::{Ahead, Decision, Effect, Reason},
        phase::{Direction, Phase, Rollout, Stage, Why},
        plan::Plan,
        version::ReleaseName,
        world::{Observation, Pod, count},
    },
};

/// How many holds and digests the status names.
const HOLDS: usize = 16;
const DIGESTS: usize = 8;

/// The status after a decision. Pure; texts are cut to their bounds and the whole to its own. Without a plan the spec could
/// not be read.
#[must_use]
pub fn status_of(plan: Option<&Plan>, decision: &Decision, seen: &Observation, delivery: &Delivery, now: Timestamp) -> DeliveryStatus {
    let none = DeliveryStatus::default();
    let before = delivery.status.as_ref().unwrap_or(&none);
    let now = time(now).0;
    let names = Names { seen, before, decision };
    let state = &decision.next;
    let mut status = essence(state);
    status.observed_generation = delivery.metadata.generation;
    status.reason = Some(decision.reason.word().to_owned());
    status.message = Some(cut(&decision.reason.to_string(), MESSAGE));
    status.desired = decision.desired.as_ref().map_or_else(|| before.desired.clone(), |release| Some(names.version(release)));
    if let (Some(live), Some(recorded)) = (&mut status.live, &state.live) {
        live.version = names.of(&recorded.release);
        live.digests = digests(seen, &recorded.release);
    }
    if let (Some(rollout), Some(shown)) = (state.phase.rollout(), &mut status.rollout) {
        shown.steps = plan.map_or(0, |plan| bounded(plan.steps.len()));
        shown.weight =
            decision.health.weight.map(|(asked, served)| WeightStatus { asked: asked.percent().into(), served: served.percent().into() });
        shown.until = shown.until.take().or(decision.health.until.map(time));
        shown.canary = canary(seen, rollout);
        shown.awaits = decision.holds.iter().find_map(Reason::waits_for).map(bounded);
    }
    status.way_back = way_back(decision, &names);
    status.last_rollback = last_rollback(decision, before, &names, now);
    status.holds = decision
        .holds
        .iter()
        .take(HOLDS)
        .map(|hold| Told { reason: hold.word().to_owned(), message: cut(&hold.to_string(), MESSAGE) })
        .collect();
    status.ahead = decision.ahead.iter().map(ahead).collect();
    status.history = history(decision, before, &names, now);
    status.conditions = conditions::of(plan, decision, before, delivery.metadata.generation, now);
    shape::fit(status)
}

fn ahead(commit: &Ahead) -> AheadCommit {
    AheadCommit {
        version: cut(&commit.version, 64),
        title: cut(&commit.title, 100),
        state: commit.state.to_owned(),
        message: cut(&commit.why, 256),
    }
}

fn bounded(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// What people call a Release.
struct Names<'a> {
    seen: &'a Observation,
    before: &'a DeliveryStatus,
    decision: &'a Decision,
}

impl Names<'_> {
    fn of(&self, release: &ReleaseName) -> String {
        let name = release.as_str();
        let desired = self.before.desired.iter().map(|d| (&d.release, &d.version));
        let live = self.before.live.iter().map(|l| (&l.release, &l.version));
        let back = self.before.way_back.iter().map(|w| (&w.release, &w.version));
        // One that was just made is not in the observation yet, and one that was removed is not any more.
        let made = self.decision.effects.iter().filter_map(|e| match e {
            Effect::RecordRelease { name, version, .. } => Some((name.as_str(), version)),
            _ => None,
        });
        let told = desired.chain(live).chain(back).map(|(r, v)| (r.as_str(), v));
        let known = || made.chain(told).find(|(r, v)| *r == name && !v.is_empty()).map(|(_, v)| v.clone());
        let version = self.seen.release(release).map(|r| r.version.clone()).or_else(known);
        cut(&version.unwrap_or_else(|| name.to_owned()), 128)
    }

    fn version(&self, release: &ReleaseName) -> Version {
        let commit = self.seen.release(release).and_then(|r| r.commit.clone());
        Version { release: release.to_string(), version: self.of(release), commit }
    }
}

/// What the ready pods really run that belong to that Release: stable's by their `ReplicaSet`, the canary's by its mark.
fn digests(seen: &Observation, release: &ReleaseName) -> Vec<DigestPods> {
    let mut pods: BTreeMap<&str, i32> = BTreeMap::new();
    let known = seen.release(release);
    for workload in &seen.workloads {
        let set = known.and_then(|r| r.template_hash(&workload.name)).and_then(|hash| workload.replica_set(&hash));
        let stable = workload.pods.iter().filter(|pod| set.is_some_and(|set| pod.pod_hash.as_ref() == Some(&set.pod_hash)));
        let canary = workload.canary.iter().filter(|c| c.release.as_ref() == Some(release)).flat_map(|c| &c.pods);
        for digest in stable.chain(canary).filter(|pod: &&Pod| pod.ready_since.is_some()).flat_map(|pod| &pod.digests) {
            *pods.entry(digest).or_default() += 1;
        }
    }
    pods.into_iter().take(DIGESTS).map(|(digest, pods)| DigestPods { digest: cut(digest, 80), pods }).collect()
}

fn canary(seen: &Observation, rollout: &Rollout) -> Option<PodCount> {
    let canaries: Vec<_> =
        seen.workloads.iter().filter_map(|w| w.canary.as_ref()).filter(|c| c.release.as_ref() == Some(&rollout.release)).collect();
    let ready = count(canaries.iter().flat_map(|c| &c.pods).filter(|pod| pod.ready_since.is_some()));
    let wanted: u32 = canaries.iter().map(|c| c.wanted).sum();
    let bounded = |pods: u32| i32::try_from(pods.min(100_000)).unwrap_or(i32::MAX);
    (!canaries.is_empty()).then(|| PodCount { ready: bounded(ready), wanted: bounded(wanted) })
}

fn way_back(decision: &Decision, names: &Names<'_>) -> Option<WayBack> {
    let (release, by) = match decision.next.phase.rollout() {
        Some(rollout) if rollout.stage == Stage::Finalizing => (&rollout.from, "Rollout"),
        Some(rollout) => (&rollout.from, if names.seen.routes.is_empty() { "Service" } else { "Route" }),
        None => (decision.next.previous.as_ref()?, "Rollout"),
    };
    let expected = decision.health.way_back.and_then(|span| i32::try_from(span.as_secs()).ok()).map(|seconds| seconds.max(1));
    Some(WayBack { release: release.to_string(), version: names.of(release), by: by.to_owned(), expected })
}

/// The last one that was taken back: told when it is decided, and kept until the next.
fn last_rollback(decision: &Decision, before: &DeliveryStatus, names: &Names<'_>, now: Timestamp) -> Option<LastRollback> {
    let (bad, good, outcome, why) = match &decision.next.phase {
        Phase::RolledBack { release, outcome, why } => (release, decision.next.live.as_ref().map(|l| &l.release), *outcome, why),
        Phase::Rolling(Rollout { release, from, direction: Direction::Return(why), .. }) => (from, Some(release), Outcome::RolledBack, why),
        Phase::Rolling(Rollout { release, from, stage: Stage::RollingBack { outcome, why, .. }, .. }) => {
            (release, Some(from), *outcome, why)
        }
        Phase::Adopting | Phase::Live | Phase::Rolling(_) => return before.last_rollback.clone(),
    };
    let told = stored::told(why);
    let earlier = before.last_rollback.as_ref().filter(|last| last.release == bad.as_str() && continues(before));
    Some(LastRollback {
        release: bad.to_string(),
        outcome: Some(outcome),
        from: names.of(bad),
        to: good.map_or_else(String::new, |good| names.of(good)),
        at: earlier.map_or(Some(time(now)), |last| last.at.clone()),
        reason: told.reason,
        message: told.message,
    })
}

/// The status before already spoke of this way back.
fn continues(before: &DeliveryStatus) -> bool {
    matches!(before.phase.as_deref(), Some("RollingBack" | "RolledBack"))
        || before.rollout.as_ref().is_some_and(|r| r.direction == "Return")
}

fn history(decision: &Decision, before: &DeliveryStatus, names: &Names<'_>, now: Timestamp) -> Vec<HistoryEntry> {
    let next = decision.next.phase.rollout();
    let ended = before.rollout.as_ref().filter(|old| !next.is_some_and(|n| is_same(n, old)));
    let entry = ended.map(|old| {
        let release = ReleaseName::new(&old.release);
        HistoryEntry { version: names.of(&release), outcome: outcome(decision, old), at: time(now), release: old.release.clone() }
    });
    entry.into_iter().chain(before.history.iter().cloned()).take(HISTORY).collect()
}

fn is_same(rollout: &Rollout, old: &RolloutStatus) -> bool {
    rollout.release.as_str() == old.release && old.started_at.as_ref().is_none_or(|at| *at == time(rollout.started_at))
}

fn outcome(decision: &Decision, old: &RolloutStatus) -> Outcome {
    match (&decision.next.phase, &old.back) {
        (Phase::RolledBack { release, outcome, .. }, _) if release.as_str() == old.release => *outcome,
        (_, Some(back)) => back.outcome,
        (Phase::Rolling(_), None) => Outcome::Superseded,
        (Phase::Live, None) if decision.next.live.as_ref().is_some_and(|l| l.release.as_str() == old.release) => Outcome::Live,
        (Phase::Live | Phase::Adopting | Phase::RolledBack { .. }, None) => Outcome::Undecided,
    }
}

/// A reason as the status tells it, for a reconcile that ended with an error before a decision: the same state, said so.
#[must_use]
pub fn with_error(before: &DeliveryStatus, why: &Why) -> DeliveryStatus {
    let told = stored::told(why);
    shape::fit(DeliveryStatus { reason: Some(told.reason), message: Some(told.message), ..before.clone() })
}
#[cfg(test)]
mod tests;
