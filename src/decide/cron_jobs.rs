//! `CronJobs` of the app: they take the image of a version when it goes live, and at no other moment.
//!
//! A `CronJob` has no gate, so the rule is one that nothing can race with: before a version is proven nothing is written to it, then
//! its image in one write, and on a way back from there the image of before. What somebody else writes into it in between is told
//! and left; the next version that goes live takes its place. Runs that have begun end as they are. What is wrong with one is found
//! before a version starts, and holds it.

use super::Case;
use crate::model::{
    cron_job::{CronJob, PlannedCronJob},
    decision::{Effect, Reason},
    phase::{Rollout, Stage},
    template,
    world::Release,
};

/// Where the plan names those that follow.
const FIELD: &str = "spec.cronJobs";

/// The one that is there.
#[must_use]
pub fn found<'a>(case: &Case<'a>, planned: &PlannedCronJob) -> Option<&'a CronJob> {
    case.seen.cron_jobs.iter().find(|cron_job| cron_job.name == planned.name)
}

/// The one that is there and whose pods nobody takes for those that serve.
///
/// # Errors
/// What is wrong with it, whatever the version.
pub fn fit<'a>(case: &Case<'a>, planned: &PlannedCronJob, field: &'static str) -> Result<&'a CronJob, Reason> {
    let cron_job = planned.name.clone();
    let Some(found) = found(case, planned) else { return Err(Reason::CronJobMissing { cron_job, field }) };
    match found.reached_by.clone() {
        Some(by) => Err(Reason::CronJobReached { cron_job, by }),
        None => Ok(found),
    }
}

/// None of its containers gets the image of that Release.
#[must_use]
pub fn foreign(case: &Case<'_>, planned: &PlannedCronJob, release: &Release, field: &'static str) -> Option<Reason> {
    let takes = template::takes_image(found(case, planned)?.pods(), &release.image, &planned.containers);
    let repository = || template::repository(&release.image).to_owned();
    (!takes).then(|| Reason::CronJobForeign { cron_job: planned.name.clone(), repository: repository(), field })
}

/// We may not write them; then they were not read either.
#[must_use]
pub fn barred<'a>(case: &Case<'a>) -> Option<&'a Reason> {
    case.seen.problems.iter().find(|problem| matches!(problem, Reason::CronJobsNotGranted { .. }))
}

/// What is wrong with those that follow, whatever the version: no new one starts.
pub fn wrong(case: &Case<'_>) -> impl Iterator<Item = Reason> {
    let case = *case;
    let read = barred(&case).is_none();
    case.plan.cron_jobs.iter().filter(move |_| read).filter_map(move |planned| fit(&case, planned, FIELD).err())
}

/// Those that could not follow this version.
pub fn unable(case: &Case<'_>, release: &Release) -> impl Iterator<Item = Reason> {
    let (case, release) = (*case, release.clone());
    case.plan.cron_jobs.iter().filter_map(move |planned| foreign(&case, planned, &release, FIELD))
}

/// Those that have another image than that Release, and where.
fn others<'a>(case: &Case<'a>, release: &'a Release) -> impl Iterator<Item = (&'a CronJob, Vec<(String, String)>)> {
    let case = *case;
    // Of one whose record is gone nobody knows the image.
    let planned = case.plan.cron_jobs.iter().filter(|_| !release.image.is_empty());
    let places = move |planned: &'a PlannedCronJob| {
        let found = found(&case, planned)?;
        Some((found, template::other_images(found.pods(), &release.image, &planned.containers)))
    };
    planned.filter_map(places).filter(|(_, places)| !places.is_empty())
}

/// The writes by which they take the image of the Release that serves from now on.
#[must_use]
pub fn taken(case: &Case<'_>, to: &Release) -> Vec<Effect> {
    let write = |(cron_job, places): (&CronJob, Vec<(String, String)>)| Effect::SetImage {
        cron_job: cron_job.name.clone(),
        image: to.image.clone(),
        places: places.into_iter().map(|(place, _)| place).collect(),
    };
    others(case, to).map(write).collect()
}

/// The writes by which they get back the image of before: only a version that got as far as Finalizing may have given them its own.
#[must_use]
pub fn given_back(case: &Case<'_>, rollout: &Rollout, from: &Release) -> Vec<Effect> {
    match &rollout.stage {
        Stage::RollingBack { at, .. } if at == Stage::Finalizing.label() => taken(case, from),
        _ => Vec::new(),
    }
}

/// What people are told of those in which somebody else wrote another image than the one that serves.
pub fn differing<'a>(case: &Case<'a>, serves: &'a Release) -> impl Iterator<Item = Reason> {
    others(case, serves).filter_map(|(cron_job, places)| {
        let (_, image) = places.into_iter().next()?;
        Some(Reason::CronJobDiffers { cron_job: cron_job.name.clone(), image, version: serves.version.clone() })
    })
}
