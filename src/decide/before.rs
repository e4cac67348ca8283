//! What runs before a version: each `CronJob` that the plan names, once for each try, before any pod of the version starts.
//!
//! It comes first of all, so its failure costs nobody a request: the version is taken back before it was there. One at a time,
//! and none while something holds. A Job that has begun is never cut short, whatever becomes of its rollout: a migration that
//! is cut in half is worse than one that ends. So the next one waits for it, and only what never ran anything is removed.
//! Deliberately absent: the way back and a version that comes back; they run nothing.

use std::time::Duration;

use super::{Case, cron_jobs, queries, step, verdict, verdict::Judgement, words};
use crate::model::{
    before::{Job, Ran, job_name},
    cron_job::{CronJob, PlannedCronJob},
    decision::{Decision, Effect, Reason, Wait},
    phase::{Direction, Rollout, Stage, after},
    template,
    world::{Release, Trouble},
};

/// Where the plan names them.
const FIELD: &str = "spec.rollout.before";
/// How soon a Job is looked at again: its end is told by a watch, what its pods lack by nobody.
const LOOK: Duration = Duration::from_secs(5);
/// Jobs that are kept for people, of each `CronJob`, as Kubernetes keeps them where it runs one by itself.
const COMPLETE: usize = 3;
const FAILED: usize = 1;

/// Where a rollout begins.
#[must_use]
pub fn first_stage(case: &Case<'_>, direction: &Direction) -> Stage {
    let runs = *direction == Direction::Forward && !case.plan.before.is_empty();
    if runs { Stage::Preparing } else { Stage::Preflight }
}

/// What people read when a version begins with it; none: nothing runs before one.
#[must_use]
pub fn first(case: &Case<'_>, version: &str) -> Option<Reason> {
    let first = case.plan.before.first()?;
    Some(Reason::Preparing { version: version.to_owned(), cron_job: first.name.clone() })
}

/// The sentence of the stage.
#[must_use]
pub fn words(case: &Case<'_>, rollout: &Rollout) -> Reason {
    let version = verdict::version_of(case, rollout);
    match pending(case, rollout).or(case.plan.before.last()) {
        Some(planned) => Reason::Preparing { version, cron_job: planned.name.clone() },
        None => Reason::Preflight { version },
    }
}

/// The first that has not run for this try.
fn pending<'a>(case: &Case<'a>, rollout: &Rollout) -> Option<&'a PlannedCronJob> {
    case.plan.before.iter().find(|planned| !rollout.prepared.contains(&planned.name))
}

fn name(case: &Case<'_>, rollout: &Rollout, planned: &PlannedCronJob) -> String {
    job_name(&case.seen.delivery, &rollout.release, rollout.started_at, &planned.name)
}

fn job<'a>(case: &Case<'a>, rollout: &Rollout, planned: &PlannedCronJob) -> Option<&'a Job> {
    let name = name(case, rollout, planned);
    case.seen.jobs.iter().find(|job| job.name == name)
}

/// What is wrong with the `CronJobs` that the plan names, whatever the version: no new one starts.
pub fn wrong(case: &Case<'_>) -> impl Iterator<Item = Reason> {
    let case = *case;
    case.plan.before.iter().filter_map(move |planned| unfit(&case, planned))
}

fn unfit(case: &Case<'_>, planned: &PlannedCronJob) -> Option<Reason> {
    match cron_jobs::fit(case, planned, FIELD) {
        Ok(found) => (!found.suspended).then(|| Reason::BeforeRunsByItself { cron_job: planned.name.clone() }),
        Err(reason) => Some(reason),
    }
}

/// What keeps the next one from being run.
fn obstacle(case: &Case<'_>, rollout: &Rollout, planned: &PlannedCronJob) -> Option<Reason> {
    let foreign = || cron_jobs::foreign(case, planned, case.seen.release(&rollout.release)?, FIELD);
    let busy = || {
        let runs = case.seen.jobs.iter().find(|job| job.ran == Ran::Running && !job.waits())?;
        Some(Reason::BeforeBusy { cron_job: planned.name.clone(), job: runs.name.clone() })
    };
    unfit(case, planned).or_else(foreign).or_else(busy)
}

/// What it says about the version: one that failed is the version's fault, what the cluster refuses blames nobody.
#[must_use]
pub fn judge(case: &Case<'_>, rollout: &Rollout) -> Judgement {
    let Some(planned) = pending(case, rollout) else { return Judgement::Fine };
    let Some(job) = job(case, rollout, planned) else {
        return obstacle(case, rollout, planned).map_or(Judgement::Fine, Judgement::Hold);
    };
    let refused = |word: &str, says: &str| {
        Judgement::Hold(Reason::BeforeRefused { job: job.name.clone(), word: word.to_owned(), says: says.to_owned() })
    };
    match (&job.ran, &job.refused) {
        (Ran::Failed(failure), _) => Judgement::Fail(Reason::BeforeFailed {
            version: verdict::version_of(case, rollout),
            cron_job: planned.name.clone(),
            job: job.name.clone(),
            failure: failure.clone(),
        }),
        (Ran::Running, Some(Trouble::Refused { word, says })) => refused(word, says),
        (Ran::Running, _) if job.podless && after(job.created, verdict::PATIENCE) <= case.now => {
            refused("NoPod", &format!("none is made; see: kubectl describe job {}", job.name))
        }
        (Ran::Running | Ran::Complete, _) => Judgement::Fine,
    }
}

/// The writes that run the next one.
#[must_use]
pub fn made(case: &Case<'_>, rollout: &Rollout, to: &Release, holds: &[Reason]) -> Vec<Effect> {
    let mut effects = swept(case, Some(rollout));
    let may = holds.is_empty() && !queries::unread(case, rollout);
    let Some(planned) = pending(case, rollout).filter(|planned| may && job(case, rollout, planned).is_none()) else {
        return effects;
    };
    effects.extend(cron_jobs::found(case, planned).map(|found| Effect::RunBefore {
        job: name(case, rollout, planned),
        cron_job: planned.name.clone(),
        release: to.name.clone(),
        spec: with_image(found, planned, to),
    }));
    effects
}

fn with_image(cron_job: &CronJob, planned: &PlannedCronJob, to: &Release) -> serde_json::Value {
    let mut spec = cron_job.job.clone();
    if let Some(pods) = spec.get_mut("template") {
        *pods = template::with_image(pods, &to.image, &planned.containers);
    }
    spec
}

/// Nothing is to be written: has the next one run, or all of them?
#[must_use]
pub fn onward(case: &Case<'_>, rollout: &Rollout, holds: &[Reason]) -> Decision {
    let wait = || step::stay(case, rollout, words::of(case, rollout), Wait::Until(after(case.now, LOOK)));
    let Some(planned) = pending(case, rollout) else {
        return if holds.is_empty() { step::enter(case, rollout, Stage::Preflight) } else { wait() };
    };
    // That it has run is stored at once: a Job that somebody removes later does not run again.
    if job(case, rollout, planned).is_some_and(|job| job.ran == Ran::Complete) {
        let mut prepared = rollout.clone();
        prepared.prepared.push(planned.name.clone());
        return step::stay(case, &prepared, words::of(case, &prepared), Wait::Now);
    }
    wait()
}

/// Jobs that nobody needs any more: old ones, and those of another try that never ran anything.
#[must_use]
pub fn swept(case: &Case<'_>, rollout: Option<&Rollout>) -> Vec<Effect> {
    let ours = |job: &Job| rollout.is_some_and(|rollout| case.plan.before.iter().any(|planned| name(case, rollout, planned) == job.name));
    let known = |job: &Job| job.release.as_ref().is_some_and(|release| case.seen.release(release).is_some());
    // How many newer ones of that CronJob ended as this one did.
    let newer = |at: usize, job: &Job| {
        let same = |other: &&Job| other.cron_job == job.cron_job && std::mem::discriminant(&other.ran) == std::mem::discriminant(&job.ran);
        case.seen.jobs.iter().skip(at + 1).filter(same).count()
    };
    let over = |at: usize, job: &Job| match &job.ran {
        Ran::Running => job.waits(),
        Ran::Complete => !known(job) || newer(at, job) >= COMPLETE,
        Ran::Failed(_) => newer(at, job) >= FAILED,
    };
    case.seen.jobs.iter().enumerate().filter(|(at, job)| !ours(job) && over(*at, job)).map(|(_, job)| removed(job)).collect()
}

/// Everything that has ended, or never began, of a Delivery that goes. What runs goes on to its own end; Kubernetes removes it
/// some days after that.
#[must_use]
pub fn cleared(case: &Case<'_>) -> Vec<Effect> {
    let over = |job: &&Job| job.ran != Ran::Running || job.waits();
    case.seen.jobs.iter().filter(over).map(removed).collect()
}

fn removed(job: &Job) -> Effect {
    Effect::RemoveJob { job: job.name.clone() }
}
