//! Reasons of people and of the set-up not to move forward. Nothing here is ever asked on the way back.

use std::time::Duration;

use super::{Case, cron_jobs, queries, shared, terms};
use crate::model::{decision::Reason, phase::after, version::ReleaseName, world::Outage};

/// The longest pause of those who learn of endpoints: 2 × 30 s.
const PAUSE: Duration = Duration::from_mins(1);
/// Their first one, rounded up.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The reasons that apply to a Release now.
#[must_use]
pub fn reasons(case: &Case<'_>, release: Option<&ReleaseName>) -> Vec<Reason> {
    let people = case
        .seen
        .holds
        .iter()
        .filter(|h| h.until.is_none_or(|until| until > case.now))
        .filter(|h| h.release.is_none() || h.release.as_ref() == release)
        .map(|h| Reason::Held { by: h.by.clone(), message: h.message.clone() });
    let unable = release.and_then(|name| case.seen.release(name)).into_iter().flat_map(|release| cron_jobs::unable(case, release));
    case.seen
        .problems
        .iter()
        .cloned()
        .chain(terms::silent(case))
        .chain(queries::reasons(case))
        .chain(unsettled(case))
        .chain(cron_jobs::wrong(case))
        .chain(unable)
        .chain(people)
        .chain(shared::cause(case))
        .collect()
}

/// The API server was away, and those who move traffic may not know yet which pods are there now.
///
/// Data planes and kube-proxy learn of endpoints by client-go's reflectors, which ask anew after a pause that doubles and is stretched by chance
/// to twice that at most: 0.8 s, 1.6 s … 30 s. The pauses before the last add up to no more than the outage L, so the last is at most
/// 2 · (L + 0.8 s), and never above 60 s.
#[must_use]
pub fn unsettled(case: &Case<'_>) -> Option<Reason> {
    let lasted = |outage: &Outage| Duration::try_from(outage.to.duration_since(outage.from)).unwrap_or_default();
    let pause = |outage: &Outage| PAUSE.min((lasted(outage) + FIRST_PAUSE) * 2);
    case.seen.outages.iter().any(|outage| after(outage.to, pause(outage)) > case.now).then_some(Reason::Unsettled)
}

/// The reasons lie in this Release: a newer one may be the mend.
#[must_use]
pub fn of_its_own(case: &Case<'_>, release: &ReleaseName) -> bool {
    let by_a_person = case.seen.holds.iter().any(|hold| hold.release.as_ref() == Some(release));
    by_a_person || case.seen.release(release).is_some_and(|release| cron_jobs::unable(case, release).next().is_some())
}

/// What keeps a rollout from starting at all: traffic that cannot be switched by one write.
#[must_use]
pub fn unswitchable(case: &Case<'_>) -> Option<Reason> {
    case.seen.services.iter().find_map(|service| {
        let why = service.no_switch.clone()?;
        Some(Reason::SwitchNotProvable { service: service.name.clone(), why })
    })
}

/// What keeps a canary from starting: it would not be treated like the pods that serve.
pub fn unlike<'a>(case: &Case<'a>) -> impl Iterator<Item = Reason> + use<'a> {
    case.seen.workloads.iter().filter_map(|w| Some(Reason::CanaryWouldDiffer { workload: w.name.to_string(), why: w.differs.clone()? }))
}

/// The Service whose traffic follows a write late: there both sides match until stable is the new version.
#[must_use]
pub fn gradual(case: &Case<'_>) -> Option<Reason> {
    let (service, why) = case.seen.services.iter().find_map(|s| Some((s.name.clone(), s.gradual.clone()?)))?;
    Some(Reason::SwitchGradual { service, why })
}

/// A workload that is scaled to 0: nothing can be proven of it now.
#[must_use]
pub fn away(case: &Case<'_>) -> Option<Reason> {
    let away = case.seen.workloads.iter().find(|w| w.replicas == 0)?;
    Some(Reason::ScaledToZero { workload: away.name.to_string() })
}

/// A workload of the plan that is not there: the others may go back without it, but none goes forward.
#[must_use]
pub fn missing(case: &Case<'_>) -> Option<Reason> {
    let missing = case.plan.workloads.iter().find(|planned| case.seen.workload(&planned.name).is_none())?;
    Some(Reason::WorkloadMissing { workload: missing.name.to_string() })
}
