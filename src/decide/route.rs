//! The route way: which share of the requests the routes of a workload give its canary now.
//!
//! A share needs pods that can carry it: it is raised when as many pods as its step wants are ready endpoints, and it falls with
//! them. Down is written at once and against everybody, up only where nobody fights us for the route.

use std::time::Duration;

use jiff::Timestamp;

use super::{Case, pin::Side, size};
use crate::model::{
    decision::{Effect, Reason},
    phase::{Direction, Rollout, Stage, after},
    plan::PlannedWorkload,
    route::{CanaryService, Course, Route, RouteKind, Testers, Word},
    version::Weight,
    world::{ByRoute, Service, Told, Workload, count},
};

/// How long the word of another hand stands before ours is written again, where ours would give the canary more: whoever syncs
/// every few seconds is not answered every few seconds.
const TRUCE: Duration = Duration::from_mins(1);
/// How long those who serve a route may take to read it before people are told: the slowest seen took 2 s.
const READ: Duration = Duration::from_secs(10);

fn planned<'a>(case: &Case<'a>, workload: &Workload) -> Option<&'a PlannedWorkload> {
    case.plan.workloads.iter().find(|planned| planned.name == workload.name)
}

/// The share of this workload is moved by routes. Also where the plan names them no more, until they are home.
#[must_use]
pub fn leads(case: &Case<'_>, workload: &Workload) -> bool {
    let named = planned(case, workload).is_some_and(|planned| !planned.routes.is_empty());
    named || of(case, workload).any(|route| route.course != Some(Course::Left))
}

/// The routes of a workload that are there.
fn of<'a>(case: &Case<'a>, workload: &'a Workload) -> impl Iterator<Item = &'a Route> + use<'a> {
    case.seen.routes.iter().filter(move |route| route.workload == workload.name)
}

/// The Service that its routes name.
fn measured<'a>(case: &Case<'a>, workload: &'a Workload) -> Option<&'a Service> {
    let named = planned(case, workload)?.service.as_ref();
    case.seen.services_of(&workload.name).find(|service| named.is_none_or(|name| service.name == *name))
}

/// The Service in front of its canary.
fn front<'a>(case: &Case<'a>, workload: &'a Workload) -> Option<&'a CanaryService> {
    let stable = measured(case, workload)?;
    case.seen.canary_services.iter().find(|canary| canary.service == stable.name && !canary.deleting)
}

/// Pods of the canary that can take requests by a route.
#[must_use]
pub fn there(case: &Case<'_>, workload: &Workload) -> u32 {
    let Some(front) = front(case, workload).filter(|front| front.current) else { return 0 };
    let canary = workload.canary.iter().filter(|canary| !canary.deleting).flat_map(|canary| &canary.pods);
    count(canary.filter(|pod| pod.ready_since.is_some() && front.routable.contains(&pod.name)))
}

/// By what those who test are known in this plan.
#[must_use]
pub fn testers<'a>(case: &Case<'a>) -> Option<&'a Testers> {
    case.plan.steps.iter().find_map(|step| step.testers.as_ref())
}

/// The greatest share that its routes give now.
#[must_use]
pub fn given(case: &Case<'_>, workload: &Workload) -> Weight {
    of(case, workload).map(|route| route.most).max().unwrap_or(Weight::ZERO)
}

/// The share that the stage asks for when all of its pods are there.
fn asked(case: &Case<'_>, rollout: &Rollout) -> Weight {
    let last = || case.plan.steps.last().map_or(Weight::ZERO, |step| step.weight);
    match &rollout.stage {
        _ if rollout.suspended.is_some() => Weight::ZERO,
        Stage::Preparing | Stage::Preflight | Stage::RollingBack { .. } => Weight::ZERO,
        Stage::Canary { step } => size::share(case, rollout, *step),
        Stage::Promoting => last(),
        Stage::Guarding { .. } | Stage::Finalizing => Weight::FULL,
    }
}

/// The share that it gets now.
fn due(case: &Case<'_>, rollout: &Rollout, workload: &Workload) -> Weight {
    let (asked, there) = (asked(case, rollout), there(case, workload));
    let wanted = size::pods(case, rollout, workload, &rollout.stage);
    let enough = match rollout.stage {
        // One that is moved to another node is no reason to move the traffic.
        Stage::Guarding { .. } | Stage::Finalizing if given(case, workload) == Weight::FULL => {
            workload.replicas.saturating_sub(workload.max_unavailable).max(1)
        }
        _ => wanted.max(1),
    };
    let carried = Weight::new(u8::try_from((u64::from(there) * 100).checked_div(u64::from(workload.replicas)).unwrap_or(0)).unwrap_or(100));
    match &rollout.direction {
        _ if there >= enough => asked,
        Direction::Forward => asked.min(given(case, workload)).min(carried),
        // Stable is the accused: every pod of the good version takes what it can.
        Direction::Return(_) => asked.min(carried),
    }
}

/// Where the routes of a workload should lead on the way up.
#[must_use]
pub fn up(case: &Case<'_>, rollout: &Rollout, workload: &Workload) -> Course {
    // Taken off for a while is as good as home: should it be taken back, there is nothing left to write.
    if matches!(rollout.stage, Stage::Preparing | Stage::Preflight) || rollout.suspended.is_some() {
        return Course::CLOSED;
    }
    let testers = testers(case).filter(|_| rollout.direction == Direction::Forward && there(case, workload) > 0);
    Course::Shared { weight: due(case, rollout, workload), testers: testers.cloned() }
}

/// The writes that close the routes which the stage opened and which are shown as closed.
pub(super) fn home_again(case: &Case<'_>, rollout: &Rollout, workload: &Workload) -> Vec<Effect> {
    if !leads(case, workload) {
        return Vec::new();
    }
    let opened = up(case, rollout, workload);
    let shut = |route: &&Route| route.course.as_ref().is_some_and(Course::is_closed) && !fitted(route, &opened).is_closed();
    let close = |route: &Route| Effect::SendRoute { route: route.name.clone(), course: fitted(route, &Course::CLOSED) };
    of(case, workload).filter(shut).map(close).collect()
}

/// Where they should lead while a side serves alone.
#[must_use]
pub fn alone(case: &Case<'_>, workload: &Workload, side: Side<'_>) -> Course {
    match side {
        Side::Canary if there(case, workload) > 0 => {
            let testers = of(case, workload).find_map(|route| match &route.course {
                Some(Course::Shared { testers, .. }) => testers.clone(),
                _ => None,
            });
            Course::Shared { weight: Weight::FULL, testers }
        }
        Side::Canary | Side::Both | Side::Stable(_) | Side::Back(_) => Course::CLOSED,
    }
}

/// The same for one route, as far as it can.
fn fitted(route: &Route, course: &Course) -> Course {
    match course {
        Course::Shared { .. } if route.unfit.is_some() => Course::Stable,
        Course::Shared { weight, .. } if route.no_testers.is_some() => Course::Shared { weight: *weight, testers: None },
        course => course.clone(),
    }
}

/// The writes that bring every route of the workload onto that course.
#[must_use]
pub fn writes(case: &Case<'_>, workload: &Workload, course: &Course) -> Vec<Effect> {
    if !leads(case, workload) {
        return Vec::new();
    }
    of(case, workload)
        .map(|route| (route, fitted(route, course)))
        .filter(|(route, course)| !stands(route, course))
        .filter(|(route, course)| !gives_more(route, course) || (route.is_read() && !fought(case, route)))
        .map(|(route, course)| Effect::SendRoute { route: route.name.clone(), course: introduced(route, course) })
        .collect()
}

/// A canary that no rule has named yet is named before it gets a share, for the reason of [`Course::CLOSED`].
fn introduced(route: &Route, course: Course) -> Course {
    match course {
        Course::Shared { weight, testers } if route.course == Some(Course::Left) && weight > Weight::ZERO => {
            Course::Shared { weight: Weight::ZERO, testers }
        }
        course => course,
    }
}

/// It is on that course. One that leads nobody to the canary does so whatever else is on it.
fn stands(route: &Route, course: &Course) -> bool {
    route.course.as_ref().is_some_and(|now| now == course || (course.is_closed() && now.is_closed()))
}

/// The canary gets more by it than it has, and nowhere less.
fn gives_more(route: &Route, course: &Course) -> bool {
    let tested = |course: &Course| matches!(course, Course::Shared { testers: Some(_), .. });
    match &route.course {
        _ if route.most > course.weight() => false,
        Some(now) => course.weight() > now.weight() || (tested(course) && !tested(now)),
        None => !course.is_closed(),
    }
}

/// Somebody has written it after us, a moment ago.
fn fought(case: &Case<'_>, route: &Route) -> bool {
    route.changed_by.is_some() && route.since.is_some_and(|since| after(since, TRUCE) > case.now)
}

/// Every route of the workload is on that course, and has been since then; none: not yet, or those who serve it have not read it.
#[must_use]
pub fn stands_since(case: &Case<'_>, workload: &Workload, course: &Course) -> Option<Timestamp> {
    if !leads(case, workload) {
        return Some(Timestamp::MIN);
    }
    let mut latest = Timestamp::MIN;
    for route in of(case, workload) {
        if !stands(route, &fitted(route, course)) || !route.is_read() {
            return None;
        }
        latest = latest.max(route.since.unwrap_or(Timestamp::MIN));
    }
    Some(latest)
}

/// Every route gives the share that the stage asks for, since then.
#[must_use]
pub fn reached(case: &Case<'_>, rollout: &Rollout, workload: &Workload) -> Option<Timestamp> {
    let led = !matches!(rollout.stage, Stage::Preparing | Stage::Preflight) && leads(case, workload);
    if led && (there(case, workload) == 0 || due(case, rollout, workload) != asked(case, rollout)) {
        return None;
    }
    stands_since(case, workload, &up(case, rollout, workload))
}

/// The write that makes the Service in front of the canary, or makes it what it should be. It is there before any route names it.
#[must_use]
pub fn fronted(case: &Case<'_>, workload: &Workload) -> Option<Effect> {
    let stable = measured(case, workload).filter(|_| leads(case, workload))?;
    let going = case.seen.canary_services.iter().any(|canary| canary.service == stable.name && canary.deleting);
    let there = front(case, workload);
    let mut routes = planned(case, workload)?.routes.clone();
    routes.extend(there.iter().flat_map(|front| &front.routes).filter(|known| !routes.contains(known)).cloned().collect::<Vec<_>>());
    let current = there.is_some_and(|front| front.current && front.routes.len() == routes.len());
    (!current && !going).then(|| Effect::MakeCanaryService { service: stable.name.clone(), routes })
}

/// The last writes, when nothing of the canary is left: the routes as their owners wrote them, then nothing in front of it.
#[must_use]
pub fn left(case: &Case<'_>) -> Vec<Effect> {
    let routes = case.seen.routes.iter().filter(|route| route.course != Some(Course::Left));
    let routes = routes.map(|route| Effect::SendRoute { route: route.name.clone(), course: Course::Left });
    let fronts = case.seen.canary_services.iter().filter(|canary| !canary.deleting);
    routes.chain(fronts.map(|canary| Effect::RemoveCanaryService { service: canary.service.clone() })).collect()
}

/// With no rollout on its way: the writes that take the traffic of a canary home, and whether its pods may go.
#[must_use]
pub fn cleared(case: &Case<'_>, workload: &Workload) -> (Vec<Effect>, bool) {
    // The plan may not name them any more: whatever leads to a canary of ours is asked.
    let open = |route: &&Route| !route.course.as_ref().is_some_and(Course::is_closed);
    let closed = |route: &Route| Effect::SendRoute { route: route.name.clone(), course: fitted(route, &Course::CLOSED) };
    let home: Vec<Effect> = of(case, workload).filter(open).map(closed).collect();
    let since = of(case, workload).filter_map(|route| route.since).max().unwrap_or(Timestamp::MIN);
    let read = of(case, workload).all(Route::is_read);
    let quiet = home.is_empty() && read && after(since, case.plan.settle) <= case.now;
    (home, quiet)
}

/// What keeps a share from being given: not asked on the way back.
#[must_use]
pub fn reasons(case: &Case<'_>) -> Vec<Reason> {
    let of_route = |route: &Route| {
        let name = route.name.to_string();
        if let Some(by) = route.changed_by.clone().filter(|_| fought(case, route)) {
            return Some(Reason::RouteFoughtBy { route: name, by });
        }
        if let Some(why) = &route.closed {
            return Some(Reason::RouteRefused { route: name, why: why.clone() });
        }
        let long = route.since.is_none_or(|since| after(since, READ) <= case.now);
        match &route.word {
            Word::Refused(why) => Some(Reason::RouteRefused { route: name, why: why.clone() }),
            Word::Silent if long => Some(Reason::RouteSilent { route: name }),
            Word::Stale if long => Some(Reason::RouteStale { route: name }),
            Word::Taken | Word::Silent | Word::Stale => None,
        }
    };
    case.seen.routes.iter().filter_map(of_route).collect()
}

/// What the way back and the way home wait for: as long as a route is not read, it leads where it led before.
#[must_use]
pub fn unread(case: &Case<'_>) -> Option<Reason> {
    let route =
        case.seen.routes.iter().find(|route| !route.is_read() && route.since.is_some_and(|since| after(since, READ) <= case.now))?;
    let name = route.name.to_string();
    Some(match &route.word {
        Word::Refused(why) => Reason::RouteRefused { route: name, why: why.clone() },
        Word::Taken | Word::Silent | Word::Stale => Reason::RouteStale { route: name },
    })
}

/// What people are told once: somebody's word is written over.
#[must_use]
pub fn told(case: &Case<'_>, effects: &[Effect]) -> Option<Reason> {
    effects.iter().find_map(|effect| {
        let Effect::SendRoute { route, .. } = effect else { return None };
        let route = case.seen.routes.iter().find(|seen| seen.name == *route)?;
        Some(Reason::RouteChanged { route: route.name.to_string(), by: route.changed_by.clone()? })
    })
}

/// Why the step of those who test is passed over, if it is.
#[must_use]
pub fn untested(case: &Case<'_>, rollout: &Rollout) -> Option<Reason> {
    testers(case)?;
    if !size::changed(case, rollout).any(|workload| leads(case, workload)) {
        let workloads: Vec<String> = size::changed(case, rollout).map(|w| format!("Deployment {}", w.name)).collect();
        return Some(Reason::TestersSkipped { route: workloads.join(", "), why: "it has no routeRefs".to_owned() });
    }
    let route = case.seen.routes.iter().find(|route| route.no_testers.is_some())?;
    let why = route.no_testers.as_ref().map(ToString::to_string).unwrap_or_default();
    Some(Reason::TestersSkipped { route: route.name.to_string(), why })
}

/// The probes that are to go by the route and cannot, and why.
#[must_use]
pub fn unasked(case: &Case<'_>, rollout: &Rollout) -> Vec<Reason> {
    let of_changed = |probe: &&ByRoute| {
        size::changed(case, rollout).any(|w| case.seen.services_of(&w.name).any(|service| service.name == probe.service))
    };
    let reason = |probe: &ByRoute| Some(Reason::ProbeNotByRoute { probe: probe.probe.clone(), why: no_way(case, rollout, probe)? });
    // On the way back to an older version nobody tests.
    let asked = case.seen.probes.by_route.iter().filter(|_| rollout.direction == Direction::Forward);
    asked.filter(of_changed).filter_map(reason).collect()
}

fn no_way(case: &Case<'_>, rollout: &Rollout, probe: &ByRoute) -> Option<String> {
    let ByRoute { service, header, .. } = probe;
    let leads = |route: &&Route| route.service == *service && route.name.kind == RouteKind::HTTPRoute;
    let mut routes = case.seen.routes.iter().filter(leads).peekable();
    if routes.peek().is_none() {
        return Some(format!("no HTTPRoute in spec.workloads[].routeRefs leads to Service {service}"));
    }
    if testers(case).is_none() {
        return Some("no step of the rollout is one of testers".to_owned());
    }
    let (mut tested, name) = (routes.clone().filter(|route| route.no_testers.is_none()).peekable(), routes.next().map(|r| &r.name));
    if tested.peek().is_none() {
        return Some("testers are passed over on it".to_owned());
    }
    if !tested.any(|route| route.edge.as_ref().is_some_and(|edge| !edge.addresses.is_empty())) {
        let name = name.map(ToString::to_string).unwrap_or_default();
        return Some(format!("no Gateway of {name} has an address and a listener for HTTP or HTTPS; see its status"));
    }
    // Without a stable side there was nobody to ask.
    match probe.told {
        Told::Unsaid if rollout.book.each_probe().all(|(_, probe)| probe.counts() == [0; 3]) => None,
        Told::Unsaid => Some(format!("its pods do not say by the header {header} which version they are; see target.answeredBy")),
        Told::Alike => {
            Some(format!("canary and stable say the same by the header {header}, so nobody can tell who answered; see target.answeredBy"))
        }
        Told::Apart => None,
    }
}
