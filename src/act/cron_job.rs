//! The image of the owner's `CronJob`.

use serde_json::json;

use super::{
    calls::{Kind, text, what},
    error::ActError,
    session::{Session, Touched},
};
use crate::model::decision::Target;

/// Where the template of its pods lies.
const PODS: [&str; 4] = ["spec", "jobTemplate", "spec", "template"];
const JOB: &str = "/spec/jobTemplate/spec";

/// Writes the image in these places, and nothing else: in one patch, of the `CronJob` whose Jobs are as they were seen. Its status, which
/// moves its resourceVersion at each run, does not matter.
pub(super) async fn set_image(session: &mut Session<'_>, name: &str, image: &str, places: &[String]) -> Result<(), ActError> {
    let what = what(Kind::CronJob, name);
    let Some(seen) = session.seen.cron_jobs.iter().find(|cron_job| cron_job.name == name) else { return Err(ActError::Gone { what }) };
    let live = session.calls.get(Kind::CronJob, name).await?;
    if text(&live, "/metadata/uid") != seen.uid || live.pointer(JOB) != Some(&seen.job) {
        return Err(ActError::conflict(&what));
    }
    let touched = Touched::new(Target::CronJob(name.to_owned()), live);
    let ops = places.iter().fold(touched.exactly(), |ops, place| {
        let path: Vec<&str> = PODS.into_iter().chain(place.split('/').skip(1)).collect();
        ops.replace(&path, json!(image))
    });
    session.write(touched, ops).await
}
