//! What runs before a version: the Jobs that were made of the `CronJobs` that the plan names for it, and what their pods show.

use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::Job as RawJob,
    core::v1::{ContainerStateTerminated, ContainerStatus, Pod as RawPod},
};
use kube::{Api, ResourceExt as _};

use super::pods;
use crate::{
    api::{BEFORE_LABEL, DELIVERY_LABEL, RELEASE_ANNOTATION},
    edge::kube::{Cluster, KubeError},
    model::{
        before::{Job, Ran},
        plan::Plan,
        version::ReleaseName,
        world::Trouble,
    },
};

/// The Jobs, oldest first.
pub(super) async fn read(cluster: &Cluster, (namespace, delivery): (&str, &str), plan: &Plan) -> Result<Vec<Job>, KubeError> {
    if plan.before.is_empty() {
        return Ok(Vec::new());
    }
    let ours = format!("{DELIVERY_LABEL}={delivery},{BEFORE_LABEL}");
    let jobs: Api<RawJob> = Api::namespaced(cluster.client.clone(), namespace);
    let mut jobs = cluster.list(&jobs, "jobs", &ours).await?;
    // After the Jobs: so a Job that has pods is never seen without them.
    let open = jobs.iter().any(|job| ran(job) != Ran::Complete);
    let pods: Api<RawPod> = Api::namespaced(cluster.client.clone(), namespace);
    let pods = if open { cluster.list(&pods, "pods", &ours).await? } else { Vec::new() };
    jobs.sort_by_key(|job| (created(job), job.name_any()));
    Ok(jobs.iter().map(|raw| job(raw, &pods, delivery)).collect())
}

fn job(raw: &RawJob, pods: &[RawPod], delivery: &str) -> Job {
    let (meta, uid) = (&raw.metadata, raw.metadata.uid.clone().unwrap_or_default());
    let label = |key: &str| meta.labels.as_ref().and_then(|labels| labels.get(key)).cloned();
    let of = |pod: &&RawPod| pod.metadata.owner_references.iter().flatten().any(|owner| owner.uid == uid);
    let pods: Vec<&RawPod> = pods.iter().filter(of).collect();
    let refused = pods.iter().find_map(|pod| match pods::read(pod, delivery).pod.trouble {
        Some(refused @ Trouble::Refused { .. }) => Some(refused),
        Some(Trouble::Fault { .. }) | None => None,
    });
    let status = raw.status.clone().unwrap_or_default();
    let some = |count: Option<i32>| count.is_some_and(|count| count > 0);
    let ended = some(status.succeeded) || some(status.failed);
    Job {
        name: raw.name_any(),
        cron_job: label(BEFORE_LABEL).unwrap_or_default(),
        release: meta.annotations.as_ref().and_then(|all| all.get(RELEASE_ANNOTATION)).map(ReleaseName::new),
        created: created(raw),
        ran: match ran(raw) {
            Ran::Failed(why) => Ran::Failed(failure(&why, &pods)),
            other => other,
        },
        refused,
        podless: pods.is_empty() && !some(status.active) && !ended,
        started: ended || some(status.ready) || pods.iter().flat_map(|pod| containers(pod)).any(has_run),
        uid,
    }
}

fn created(raw: &RawJob) -> Timestamp {
    raw.metadata.creation_timestamp.as_ref().map_or(Timestamp::MIN, |time| time.0)
}

/// By its conditions: Kubernetes sets them when all of its pods have ended. Why it failed is its one word, at first.
fn ran(raw: &RawJob) -> Ran {
    let conditions = || raw.status.iter().flat_map(|status| status.conditions.iter().flatten()).filter(|c| c.status == "True");
    if conditions().any(|c| c.type_ == "Complete") {
        return Ran::Complete;
    }
    let failed = conditions().find(|c| c.type_ == "Failed");
    failed.map_or(Ran::Running, |c| Ran::Failed(c.reason.clone().unwrap_or_else(|| "Failed".to_owned())))
}

/// Why it failed, with the last word of its pods: a code and never a line of a log, for that may hold secrets.
fn failure(why: &str, pods: &[&RawPod]) -> String {
    let ends = pods.iter().flat_map(|pod| containers(pod)).flat_map(|c| ends(c).map(|end| (&c.name, end)));
    let bad = ends.filter(|(_, end)| end.exit_code != 0);
    let last = bad.max_by_key(|(_, end)| end.finished_at.as_ref().map_or(Timestamp::MIN, |time| time.0));
    pods::sentence(&match last {
        Some((name, end)) => format!("{why}, container {name} ended last with exit code {}", end.exit_code),
        None => why.to_owned(),
    })
}

fn containers(pod: &RawPod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.iter();
    status.flat_map(|s| s.init_container_statuses.iter().flatten().chain(s.container_statuses.iter().flatten()))
}

fn ends(container: &ContainerStatus) -> impl Iterator<Item = &ContainerStateTerminated> {
    [&container.state, &container.last_state].into_iter().filter_map(|state| state.as_ref()?.terminated.as_ref())
}

fn has_run(container: &ContainerStatus) -> bool {
    container.state.as_ref().is_some_and(|state| state.running.is_some()) || ends(container).next().is_some()
}

#[cfg(test)]
mod tests;
