//! At rest: adoption, keeping things as they are, and starting the next version.

use super::{
    Case, barrier, before, candidate, command, cron_jobs, hold, judge::book::Book, pin, pin::Side, policy, rollback, route, shared, size,
    stable, stable::Resumed, terms, verdict,
};
use crate::{
    api::{
        command::Action,
        delivery::Capacity,
        release::{OriginType, Outcome},
    },
    model::{
        decision::{Decision, Effect, Reason, Target, Wait},
        phase::{Adopted, Direction, Live, Phase, Rollout, Stage, State, Why, after},
        route::Course,
        template,
        version::ReleaseName,
        world::{Pin, Release, Workload},
    },
};

/// Releases that are kept besides those that are needed.
const KEPT: usize = 20;
/// Failures among the last runs of a probe at rest that take a young version back: 3 of 5 (each failure was repeated at
/// once on another pod, so this is two or three failing moments).
pub(super) const REST_FAILURES: usize = 3;

/// Adoption: waits until every workload is complete, records what runs, then closes the gates.
#[must_use]
pub fn adopt(case: &Case<'_>) -> Decision {
    let wait = |reason| Decision::stay(case.state, reason, Wait::Change);
    if let Some(problem) = case.seen.problems.first() {
        return held(wait(problem.clone()), case.seen.problems.clone());
    }
    if !case.seen.finalizer {
        let mut decision = wait(Reason::WorkloadRolling { workload: names(case) });
        decision.effects.push(Effect::AddFinalizer);
        decision.wait = Wait::Now;
        return decision;
    }
    let mut templates = std::collections::BTreeMap::new();
    for workload in &case.seen.workloads {
        match complete(workload) {
            Ok(template) => {
                templates.insert(workload.name.clone(), template);
            }
            Err(reason) => return held(wait(reason.clone()), vec![reason]),
        }
    }
    let adopted: Vec<Adopted> = case.seen.workloads.iter().map(|w| gated(case, w)).collect();
    // Behind our own gate nobody sees any more that its owner had closed it, so that is stored first.
    if adopted.iter().any(|a| a.was_paused) && adopted != case.state.adopted {
        let mut decision = wait(Reason::WorkloadRolling { workload: names(case) });
        (decision.next.adopted, decision.wait) = (adopted, Wait::Now);
        return decision;
    }
    let Some(image) = case.plan.workloads.first().and_then(|w| template::main_image(templates.get(&w.name)?)).map(str::to_owned) else {
        return wait(Reason::NothingProven { workload: names(case) });
    };
    let identity = template::identity(&templates);
    let version = template::tag(&image);
    let known = case.seen.release_of(&identity);
    let name = known.map_or_else(|| candidate::release_name(&case.seen.delivery, &version, &identity), |r| r.name.clone());
    let mut effects = Vec::new();
    match known {
        None => effects.push(Effect::RecordRelease {
            name: name.clone(),
            version: version.clone(),
            image,
            origin: OriginType::Adopted,
            templates,
        }),
        // Without its templates it would be lost again at once.
        Some(release) if release.templates.is_none() => effects.push(Effect::KeepTemplates { release: name.clone(), templates }),
        Some(_) => {}
    }
    effects.extend(
        case.seen
            .workloads
            .iter()
            .filter(|w| !w.paused || !w.gate_marked)
            .map(|w| Effect::CloseGate { workload: w.name.clone(), exact: true }),
    );
    effects.push(rollback::settled(&name, Outcome::Live, &Reason::WentLive { version: version.clone() }, None));
    let next = State { live: Some(Live { release: name, since: case.now }), adopted, ..case.state.to(Phase::Live, case.now) };
    // At rest people read what serves; that it is gated is told once.
    let mut decision = Decision::stay(&next, Reason::Serving { version: version.clone() }, Wait::Now);
    decision.notes.push(Reason::Adopted { workload: names(case), version });
    decision.effects = effects;
    decision
}

/// A workload as it is gated: behind a gate of ours it is stored whether its owner had paused it before.
fn gated(case: &Case<'_>, workload: &Workload) -> Adopted {
    let stored = || case.state.adopted.iter().any(|a| a.uid == workload.uid && a.was_paused);
    Adopted {
        name: workload.name.to_string(),
        uid: workload.uid.clone(),
        was_paused: workload.paused && (!workload.gate_marked || stored()),
    }
}

fn names(case: &Case<'_>) -> String {
    case.plan.workloads.iter().map(|w| w.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// The template that the workload runs, when it runs one and all of it.
fn complete(workload: &Workload) -> Result<serde_json::Value, Reason> {
    let name = workload.name.to_string();
    if workload.stuck {
        return Err(Reason::WorkloadStuck { workload: name });
    }
    let Some(active) = workload.only_active().filter(|rs| workload.observed && rs.wanted == workload.replicas) else {
        return Err(if workload.replicas == 0 {
            Reason::NothingProven { workload: name }
        } else {
            Reason::WorkloadRolling { workload: name }
        });
    };
    if active.available < workload.replicas || workload.ready(&active.pod_hash) == 0 {
        return Err(Reason::WorkloadRolling { workload: name });
    }
    // What runs is what its ReplicaSet says; a paused Deployment's own template may be another.
    Ok(if active.template == workload.template_hash() { workload.template.clone() } else { template::normalise(&active.raw) })
}

fn held(mut decision: Decision, holds: Vec<Reason>) -> Decision {
    decision.holds = holds;
    decision
}

/// At rest with a proven version.
#[must_use]
pub fn next(case: &Case<'_>) -> Decision {
    let Some(live) = candidate::live(case).filter(|r| r.templates.is_some()) else {
        return recover(case);
    };
    // An `adopt` may be about the branch, and then no gate is meant.
    if let Some(order) = command::pending(case, |action| action != Action::Adopt || command::opened(case)) {
        return obey(case, live, order);
    }
    let standing = stable::keep_all(case, live, Resumed::Respected, false);
    let mut effects = standing.effects.clone();
    effects.extend(cleared(case));
    let mut holds = case.seen.problems.clone();
    holds.extend(before::wrong(case).chain(cron_jobs::wrong(case)));
    holds.extend(standing.hold.clone());
    effects.extend(before::swept(case, None));
    let left = case.seen.routes.iter().any(|route| route.course != Some(Course::Left));
    let mut decision = if effects.is_empty() && left {
        // The pods that a route led to still get their time.
        Decision::stay(case.state, resting(case, live), Wait::Poll)
    } else if effects.is_empty() {
        quiet(case, live, &mut holds)
    } else {
        let mut decision = Decision::stay(case.state, resting(case, live), Wait::Now);
        decision.effects = effects;
        decision
    };
    if let Some(hold) = holds.first() {
        decision.reason = hold.clone();
        if standing.hold.is_some() {
            decision.wait = decision.wait.sooner(Wait::Poll);
        }
    }
    decision.notes.extend(standing.note);
    decision.holds = holds;
    decision
}

/// The record of what is live is gone. What runs is adopted anew; nothing is touched, and nothing forgotten, before that.
fn recover(case: &Case<'_>) -> Decision {
    let lost = case.state.live.as_ref().map_or_else(String::new, |l| l.release.to_string());
    Decision::stay(&case.state.to(Phase::Adopting, case.now), Reason::TemplateLost { release: lost }, Wait::Now)
}

/// Leftovers of a rollout that ended while nobody looked: pins that say nothing any more, canaries, field ownership.
fn cleared(case: &Case<'_>) -> Vec<Effect> {
    let mut effects: Vec<Effect> = Vec::new();
    for workload in &case.seen.workloads {
        effects.extend(pin::writes(case, workload, Side::Both));
        let (home, quiet) = route::cleared(case, workload);
        effects.extend(home);
        let carries = case.seen.services_of(&workload.name).any(|s| s.pin == Pin::Canary) || !quiet;
        if !carries && workload.canary.as_ref().is_some_and(|c| !c.deleting) {
            effects.push(Effect::DeleteCanary { workload: workload.name.clone() });
        }
    }
    if effects.is_empty() && case.seen.workloads.iter().all(|w| w.canary.is_none() && w.canary_left == 0) {
        effects.extend(route::left(case));
    }
    if effects.is_empty() {
        let workloads = case.seen.workloads.iter().filter(|w| w.owns_fields && w.paused).map(|w| Target::Workload(w.name.clone()));
        let services = case.seen.services.iter().filter(|s| s.owns_fields).map(|s| Target::Service(s.name.clone()));
        let routes = case.seen.routes.iter().filter(|r| r.owns_fields).map(|r| Target::Route(r.name.clone()));
        let cron_jobs = case.seen.cron_jobs.iter().filter(|c| c.owns_fields).map(|c| Target::CronJob(c.name.clone()));
        effects.extend(workloads.chain(services).chain(routes).chain(cron_jobs).map(Effect::DropOwnership));
    }
    effects
}

/// Nothing to mend: is something to be started, or taken back?
fn quiet(case: &Case<'_>, live: &Release, holds: &mut Vec<Reason>) -> Decision {
    if let Some(decision) = taken_back(case, live) {
        return decision;
    }
    let Some(wish) = candidate::wish(case) else { return Decision::stay(case.state, resting(case, live), Wait::Change) };
    if live.identity.as_ref() == Some(&wish.identity) {
        return settled_on(case, live, &wish);
    }
    let (name, record) = (wish.name(&case.seen.delivery), wish.record(case, OriginType::Workload));
    let version = match record.first() {
        Some(Effect::RecordRelease { version, .. }) => version.clone(),
        // One that keeps its templates under the name that it will have is not there by that name yet.
        _ => case.seen.release(&name).map_or_else(|| wish.called.clone(), |release| release.version.clone()),
    };
    if let Some(entry) = candidate::quarantined(case, &wish.identity).filter(|_| record.is_empty()) {
        // Whoever takes back what took that content away says that it is wanted; once.
        if case.seen.release(&name).is_some_and(|release| brings_back(case, release, &entry.release)) {
            let mut next = case.state.clone();
            next.quarantine.retain(|q| q.identity != wish.identity);
            return Decision::stay(&next, Reason::ReleaseSeen { version }, Wait::Now);
        }
        let why = entry.why.clone();
        let reason = Reason::Quarantined { version, why: why.says.clone() };
        let same = matches!(&case.state.phase, Phase::RolledBack { release: shown, .. } if *shown == name);
        let phase = Phase::RolledBack { release: name.clone(), outcome: entry.outcome, why };
        let next = if same { case.state.clone() } else { case.state.to(phase, case.now) };
        let mut decision = Decision::stay(&next, reason.clone(), Wait::Change).first(forgotten(case, live));
        // Another Release of a content that failed has no try of its own.
        let untold = |release: &&Release| release.name != entry.release && release.outcome.is_none();
        decision.effects.extend(case.seen.release(&name).filter(untold).map(|r| rollback::settled(&r.name, entry.outcome, &reason, None)));
        return decision;
    }
    let more: Vec<Reason> = hold::reasons(case, Some(&name)).into_iter().filter(|r| !holds.contains(r)).collect();
    holds.extend(more);
    holds.extend(policy::reasons(case));
    holds.extend(hold::away(case));
    holds.extend(hold::unswitchable(case));
    holds.extend(hold::unlike(case));
    // Templates that are kept under an earlier name show which that is only afterwards.
    let named = !matches!(record.first(), Some(Effect::KeepTemplates { .. }));
    let mut decision = if named && holds.is_empty() && candidate::quarantined(case, &wish.identity).is_none() && !terms::unread(case) {
        start(case, live, &name, version.clone())
    } else {
        Decision::stay(case.state, Reason::ReleaseSeen { version: version.clone() }, until(case))
    };
    if !record.is_empty() {
        decision.wait = Wait::Now;
        decision.notes.push(Reason::ReleaseSeen { version });
    }
    decision.first(record)
}

/// It takes back one that came after that content.
fn brings_back(case: &Case<'_>, release: &Release, bad: &ReleaseName) -> bool {
    let since = case.seen.release(bad).and_then(|bad| bad.place);
    since.is_some()
        && release.name != *bad
        && case.seen.releases.iter().any(|r| r.place > since && r.name != release.name && release.takes_back(r))
}

fn until(case: &Case<'_>) -> Wait {
    case.seen
        .holds
        .iter()
        .filter_map(|h| h.until)
        .chain(policy::until(case))
        .chain(shared::until(case))
        .min()
        .map_or(Wait::Change, Wait::Until)
}

/// What serves is what is desired. A newer Release of the same content is live without a rollout.
fn settled_on(case: &Case<'_>, live: &Release, wish: &candidate::Wish) -> Decision {
    let newer = wish.release.as_ref().or(wish.compose.as_ref()).filter(|name| wish.asked.as_ref() == Some(name) && **name != live.name);
    if let Some(newer) = newer.and_then(|name| case.seen.release(name)) {
        let record = wish.record(case, OriginType::Workload);
        if !record.is_empty() {
            return Decision::stay(case.state, resting(case, live), Wait::Now).first(record);
        }
        let mut next = case.state.to(Phase::Live, case.now);
        next.live = case.state.live.clone().map(|serves| Live { release: newer.name.clone(), ..serves });
        let reason = Reason::SameContent { version: newer.version.clone(), live: live.version.clone() };
        let mut decision = Decision::stay(&next, Reason::Serving { version: newer.version.clone() }, Wait::Now);
        decision.effects.push(rollback::settled(&newer.name, Outcome::Live, &reason, None));
        decision.notes.push(reason);
        return decision;
    }
    let next = if case.state.phase == Phase::Live { case.state.clone() } else { case.state.to(Phase::Live, case.now) };
    Decision::stay(&next, Reason::Serving { version: live.version.clone() }, Wait::Change).first(forgotten(case, live))
}

fn resting(case: &Case<'_>, live: &Release) -> Reason {
    match &case.state.phase {
        Phase::RolledBack { release, why, .. } => Reason::Quarantined { version: verdict::called(case, release), why: why.says.clone() },
        Phase::Adopting | Phase::Live | Phase::Rolling(_) => Reason::Serving { version: live.version.clone() },
    }
}

/// Stores the intent; the pass after this one acts on it.
fn start(case: &Case<'_>, live: &Release, name: &ReleaseName, version: String) -> Decision {
    let reason = before::first(case, &version).unwrap_or(Reason::Preflight { version });
    let mut decision = roll(case, name, &live.name, Direction::Forward, reason);
    decision.notes.extend(hold::gradual(case));
    decision
}

fn roll(case: &Case<'_>, release: &ReleaseName, from: &ReleaseName, direction: Direction, reason: Reason) -> Decision {
    let capacity = size::capacity(case);
    let back = direction != Direction::Forward;
    // A canary that can carry but a fourth would only delay what brings the good version back.
    let stage = if capacity == Capacity::Small && back { Stage::Finalizing } else { before::first_stage(case, &direction) };
    let rollout = Rollout {
        release: release.clone(),
        from: from.clone(),
        started_at: case.now,
        stage,
        // What was seen before it began says nothing about it.
        book: Book::begun(terms::of(case, &direction), case.now),
        direction,
        suspended: None,
        fought: None,
        approved: Vec::new(),
        halted: None,
        prepared: Vec::new(),
        sought: Vec::new(),
        capacity,
    };
    Decision::stay(&case.state.to(Phase::Rolling(rollout), case.now), reason, Wait::Now)
}

/// A young version that fails its probes at rest goes back to the one before it.
fn taken_back(case: &Case<'_>, live: &Release) -> Option<Decision> {
    let since = case.state.live.as_ref()?.since;
    // One that was made or changed later, and has not passed since, may be wrong itself.
    let failure = wrong(case, since, |probe| case.seen.probes.untried.get(probe).is_none_or(|changed| *changed <= since))?;
    if case.state.previous.as_ref().is_some_and(|previous| barrier::between(case, &live.name, previous).is_some()) {
        return None;
    }
    if after(since, case.plan.rollback_window) <= case.now {
        return None;
    }
    back_to_previous(case, live, &Reason::LiveFailed { version: live.version.clone(), failure })
}

/// What is wrong with production at rest, when enough of the last runs say so.
#[must_use]
pub fn failing(case: &Case<'_>, since: jiff::Timestamp) -> Option<String> {
    wrong(case, since, |_| true)
}

fn wrong(case: &Case<'_>, since: jiff::Timestamp, believed: impl Fn(&str) -> bool) -> Option<String> {
    let fresh: Vec<_> = case.seen.probes.rest.iter().filter(|s| s.at > since && believed(&s.probe)).collect();
    fresh.iter().find_map(|sample| {
        let wrong = fresh.iter().filter(|s| s.probe == sample.probe && s.wrong.is_some()).count();
        let last = fresh.iter().rev().find(|s| s.probe == sample.probe)?;
        let says = last.wrong.as_ref().filter(|_| wrong >= REST_FAILURES)?;
        Some(format!("{}: {says}; {wrong} failures", sample.probe))
    })
}

/// Starts the way back to the version before the live one, once: what came back and failed too is not taken back again.
fn back_to_previous(case: &Case<'_>, live: &Release, reason: &Reason) -> Option<Decision> {
    let previous = case.state.previous.as_ref().and_then(|name| case.seen.release(name)).filter(|r| r.templates.is_some())?;
    if live.identity.as_ref().is_some_and(|identity| candidate::quarantined(case, identity).is_some()) {
        return None;
    }
    let why = Why::from(reason);
    let shown = Reason::Returning { version: previous.version.clone(), why: why.says.clone() };
    let mut decision = roll(case, &previous.name, &live.name, Direction::Return(why.clone()), shown);
    rollback::quarantine(case, &mut decision.next, &live.name, Outcome::RolledBack, why);
    Some(decision)
}

/// Carries out an order that applies at rest.
fn obey(case: &Case<'_>, live: &Release, order: &crate::model::world::Command) -> Decision {
    let (by, why) = command::words(order);
    let mut decision = match order.action {
        Action::Rollback => {
            let reason = Reason::RolledBackBy { version: live.version.clone(), by, why };
            back_to_previous(case, live, &reason).unwrap_or_else(|| Decision::stay(case.state, resting(case, live), Wait::Now))
        }
        Action::Retry => {
            let mut next = case.state.to(Phase::Live, case.now);
            next.quarantine.retain(|q| q.release != order.release);
            Decision::stay(&next, Reason::ReleaseSeen { version: verdict::called(case, &order.release) }, Wait::Now)
        }
        Action::Adopt => {
            let open = case.seen.workloads.iter().filter(|w| !w.paused && w.gate_marked);
            let effects = open.map(|w| Effect::CloseGate { workload: w.name.clone(), exact: false }).collect();
            Decision::stay(case.state, Reason::Adopted { workload: names(case), version: live.version.clone() }, Wait::Now).first(effects)
        }
        Action::Promote | Action::Abort | Action::Approve => Decision::stay(case.state, resting(case, live), Wait::Now),
    };
    decision.next.last_command = Some(order.name.clone());
    decision
}

/// Old Releases that nothing needs any more, also those that never had their turn.
fn forgotten(case: &Case<'_>, live: &Release) -> Vec<Effect> {
    let newest_asked = candidate::asked(case).map(|r| &r.name);
    let needed = |r: &Release| {
        r.name == live.name
            || newest_asked == Some(&r.name)
            || case.state.previous.as_ref() == Some(&r.name)
            || case.state.quarantine.iter().any(|q| q.release == r.name)
            || (r.place.is_some() && !candidate::over(r.outcome))
            || case.seen.workloads.iter().any(|w| w.put_back.as_ref() == Some(&r.name))
    };
    let old: Vec<&Release> = case.seen.releases.iter().filter(|r| !needed(r)).collect();
    let over = old.len().saturating_sub(KEPT);
    old.into_iter().take(over).map(|r| Effect::ForgetRelease { release: r.name.clone() }).collect()
}
