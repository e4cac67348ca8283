//! The `CronJobs` that the plan names.
//!
//! Read as JSON, so that what is made of one keeps fields that are newer than our types.

use std::collections::BTreeMap;

use futures::future::try_join_all;
use k8s_openapi::api::{batch::v1::CronJob as RawCronJob, core::v1::Service as RawService};
use kube::{
    Api, Client, ResourceExt as _,
    core::{ApiResource, DynamicObject, SelectorExt as _},
};
use serde_json::Value;

use super::{
    problems::labels,
    services,
    workloads::{Found, owns_fields},
};
use crate::{
    edge::kube::{Cluster, KubeError, get},
    model::cron_job::CronJob,
};

/// Those of these names that are there.
pub(super) async fn read(
    cluster: &Cluster,
    namespace: &str,
    names: impl Iterator<Item = &str>,
    services: &[RawService],
    found: &[Found],
) -> Result<Vec<CronJob>, KubeError> {
    let read = try_join_all(names.map(|name| one(&cluster.client, namespace, name))).await?;
    Ok(read.into_iter().flatten().map(|raw| cron_job(&raw, services, found)).collect())
}

/// One as it is stored; none: it is not there.
pub(super) async fn one(client: &Client, namespace: &str, name: &str) -> Result<Option<DynamicObject>, KubeError> {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<RawCronJob>(&()));
    get(&api, "CronJob", name).await
}

fn cron_job(raw: &DynamicObject, services: &[RawService], found: &[Found]) -> CronJob {
    let job = raw.data.pointer("/spec/jobTemplate/spec").cloned().unwrap_or_default();
    CronJob {
        name: raw.name_any(),
        uid: raw.uid().unwrap_or_default(),
        suspended: raw.data.pointer("/spec/suspend").and_then(Value::as_bool).unwrap_or(false),
        reached_by: reached_by(&labels(job.get("template").unwrap_or(&Value::Null)), services, found),
        job,
        owns_fields: owns_fields(&raw.metadata),
    }
}

/// What would take pods with these labels for pods that serve.
fn reached_by(labels: &BTreeMap<String, String>, all: &[RawService], found: &[Found]) -> Option<String> {
    let service = all.iter().find(|raw| services::reaches(raw, labels)).map(|raw| format!("Service {}", raw.name_any()));
    let workloads = || found.iter().filter_map(|f| Some((f.workload.as_ref()?, &f.selector)));
    service.or_else(|| workloads().find(|(_, selector)| selector.matches(labels)).map(|(w, _)| format!("Deployment {}", w.name)))
}

#[cfg(test)]
mod tests;
