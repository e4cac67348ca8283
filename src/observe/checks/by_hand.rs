//! A probe as a person runs it from a prompt, with their own rights: what it asks, and the pods that can be asked.

use k8s_openapi::api::core::v1::{Pod as RawPod, Service as RawService};
use kube::{Api, Client, api::ListParams};

use super::{SECRETS, probe, secrets, trust};
use crate::{
    api::{
        TRACK_CANARY, TRACK_LABEL,
        probe::{ProductionProbeSpec, Target as RawTarget},
    },
    edge::kube::{KubeError, get, within},
    model::probe::{Check, Vars},
    observe::{
        pods::{self, Seen},
        probes::Target,
        services, targets,
    },
};

/// The ready pods behind a Service now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behind {
    /// Those that are no canary.
    pub stable: Vec<Target>,
    /// The others.
    pub canary: Vec<Target>,
}

/// Why nobody behind a Service can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nobody {
    /// What it takes is not to be had now, in a sentence.
    Now(String),
    /// There is no such Service any more.
    Left(String),
}

/// What a probe asks, with its Secrets and certificate authorities; or why it cannot be asked, in a sentence.
///
/// # Errors
/// When the API server does not answer.
pub async fn check(client: &Client, namespace: &str, name: &str, spec: &ProductionProbeSpec) -> Result<Result<Check, String>, KubeError> {
    if let Err(why) = alone(spec) {
        return Ok(Err(why));
    }
    let trust = trust(client, namespace, &spec.target).await?;
    let refused = |secret: &str| format!("Secret {secret} may not be read by you; ask for the right to get it in namespace {namespace}");
    let secrets = secrets(client, namespace, &spec.secrets, (super::SECRETS_FIELD, refused)).await?;
    let made = trust.and_then(|trust| probe(name, spec, (trust, secrets?), None));
    Ok(made.map(|probe| Check::clone(&probe.check)))
}

/// The same as far as it is written in the spec: nothing is read, and no Secret has a value.
///
/// # Errors
/// Why it cannot be run, in a sentence.
pub fn as_written(name: &str, spec: &ProductionProbeSpec) -> Result<Check, String> {
    alone(spec)?;
    let mut named = Vars::default();
    for secret in &spec.secrets {
        named.set(&format!("{SECRETS}{}", secret.name), String::new());
    }
    probe(name, spec, (None, named), None).map(|probe| Check::clone(&probe.check))
}

/// What is more than requests is not run from a prompt.
fn alone(spec: &ProductionProbeSpec) -> Result<(), String> {
    let Some(job) = &spec.job else { return Ok(()) };
    let name = &job.cron_job_ref.name;
    Err(format!(
        "it is a suite, which runs in the cluster: kubectl create job --from=cronjob/{name} NAME, with the variables HALDANE_TARGET and others set"
    ))
}

/// The pods that a target means now.
///
/// # Errors
/// When the API server does not answer.
pub async fn behind(client: &Client, namespace: &str, target: &RawTarget) -> Result<Result<Behind, Nobody>, KubeError> {
    let name = &target.service_ref.name;
    let service: Option<RawService> = get(&Api::namespaced(client.clone(), namespace), "Service", name).await?;
    let Some(service) = service else { return Ok(Err(Nobody::Left(format!("Service {name} does not exist any more")))) };
    let port = match targets::port(std::slice::from_ref(&service), name, target.service_ref.port.as_deref()) {
        Ok(port) => port,
        Err(why) => return Ok(Err(Nobody::Now(why))),
    };
    let selector = services::selector(&service);
    if selector.is_empty() {
        return Ok(Err(Nobody::Now(format!("Service {name} selects no pods"))));
    }
    let labels = selector.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",");
    let api: Api<RawPod> = Api::namespaced(client.clone(), namespace);
    let listed = within(format!("list pods with {labels}"), api.list(&ListParams::default().labels(&labels))).await?;
    let there: Vec<Seen> = listed.items.iter().map(|raw| pods::read(raw, "")).filter(|pod| !pod.ending && !pod.over).collect();
    let (canaries, stable): (Vec<&Seen>, Vec<&Seen>) =
        there.iter().partition(|pod| pod.labels.get(TRACK_LABEL).is_some_and(|track| track == TRACK_CANARY));
    let ready = |pods: Vec<&Seen>| pods.iter().filter_map(|seen| targets::target(&seen.pod, &port, &pods)).collect::<Vec<_>>();
    let behind = Behind { stable: ready(stable), canary: ready(canaries) };
    let nobody = behind == Behind::default();
    Ok(if nobody { Err(Nobody::Now(format!("no pod behind Service {name} is ready"))) } else { Ok(behind) })
}
