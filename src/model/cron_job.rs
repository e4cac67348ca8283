//! The `CronJobs` of an app: those that run before a version, and those that take its image when it goes live.

use serde_json::Value;

/// One that the plan names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedCronJob {
    /// Its name.
    pub name: String,
    /// Containers that get the image of the Release; empty: by repository.
    pub containers: Vec<String>,
}

/// One that the plan names and that is there.
#[derive(Clone, Debug, PartialEq)]
pub struct CronJob {
    /// Its name.
    pub name: String,
    /// Of the object now.
    pub uid: String,
    /// `spec.suspend`: Kubernetes does not run it by itself.
    pub suspended: bool,
    /// `spec.jobTemplate.spec`, as stored.
    pub job: Value,
    /// A Service or Deployment, by its kind and name, that would take its pods for its own.
    pub reached_by: Option<String>,
    /// A write of ours is still listed as owner of fields.
    pub owns_fields: bool,
}

impl CronJob {
    /// The template of its pods.
    #[must_use]
    pub fn pods(&self) -> &Value {
        self.job.get("template").unwrap_or(&Value::Null)
    }
}
