//! What puts a run right: as it is written down before the run, and as it is done by another process, with the Secrets read anew.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod as RawPod;
use kube::{Api, Client, ResourceExt as _, api::ListParams, core::DeserializeGuard};

pub use super::by_hand::Nobody;
use super::{
    by_hand::{Behind, as_written, behind},
    sweep, trust,
};
use crate::{
    api::{
        probe::{ProductionProbe, SecretVariable, Step as RawStep, Target as RawTarget},
        probe_run::{ProbeRevision, ProbeRunSpec, PutRight},
    },
    edge::{
        kube::{KubeError, get, within},
        probe::Page,
    },
    model::probe::{Check, SECRETS, Step},
};

/// The label of our own pods, and the container in them, as our chart has them.
const OURS: &str = "app.kubernetes.io/name=haldane";
const CONTAINER: &str = "controller";
/// Runs of a probe that may be open at once, unless it says otherwise.
const MOST_OPEN: usize = 20;

/// Where the runs of a probe are written down. None: they leave nothing that would have to be put right.
pub(super) fn page(namespace: &str, delivery: &str, raw: &ProductionProbe, check: &Check) -> Option<Arc<Page>> {
    if raw.spec.teardown.is_empty() {
        return None;
    }
    let anew = check.setup_anew();
    let sweep = check.sweep.iter().flat_map(|sweep| [&sweep.list, &sweep.delete]);
    let used: BTreeSet<&str> = anew.iter().chain(&check.teardown).chain(sweep).flat_map(Step::names).collect();
    let takes = |secret: &&SecretVariable| used.contains(format!("{SECRETS}{}", secret.name).as_str());
    let is_anew = |step: &&RawStep| anew.iter().any(|anew| anew.name == step.name);
    let most = raw.spec.max_open.and_then(|most| usize::try_from(most).ok()).unwrap_or(MOST_OPEN);
    Some(Arc::new(Page {
        namespace: namespace.to_owned(),
        delivery: delivery.to_owned(),
        probe: ProbeRevision {
            name: raw.name_any(),
            uid: raw.uid().unwrap_or_default(),
            generation: raw.metadata.generation.unwrap_or_default(),
        },
        put_right: PutRight {
            target: raw.spec.target.clone(),
            secrets: raw.spec.secrets.iter().filter(takes).cloned().collect(),
            setup: raw.spec.setup.iter().filter(is_anew).cloned().collect(),
            teardown: raw.spec.teardown.clone(),
            sweep: raw.spec.sweep.clone(),
        },
        most,
    }))
}

/// What puts a run right, and at which address. `turn` is another number for each try, so that one bad pod is not asked again and again.
///
/// # Errors
/// When the API server does not answer.
pub async fn put_right(
    client: &Client,
    namespace: &str,
    run: &ProbeRunSpec,
    turn: usize,
) -> Result<Result<(Check, SocketAddr), Nobody>, KubeError> {
    let mended = mended(client, namespace, run).await?;
    let how = mended.as_ref().unwrap_or(&run.put_right);
    let home = match home(client, namespace, &how.target, turn).await? {
        Ok(home) => home,
        Err(nobody) => return Ok(Err(nobody)),
    };
    let trust = match trust(client, namespace, &how.target).await? {
        Ok(trust) => trust,
        Err(why) => return Ok(Err(Nobody::Now(why))),
    };
    let secrets =
        match super::secrets(client, namespace, &how.secrets, (super::SECRETS_FIELD, |secret: &str| super::refused(secret, namespace)))
            .await?
        {
            Ok(secrets) => secrets,
            Err(why) => return Ok(Err(Nobody::Now(why))),
        };
    let all = |steps: &[RawStep]| steps.iter().map(super::step).collect::<Vec<Step>>();
    let check = Check {
        name: run.probe_ref.name.clone(),
        scheme: super::scheme(&how.target),
        host: super::host(&how.target),
        setup: all(&how.setup),
        steps: Vec::new(),
        teardown: all(&how.teardown),
        sweep: how.sweep.as_ref().map(|raw| Box::new(sweep(raw))),
        secrets,
        deadline: all(&how.setup).iter().map(|step| step.deadline).max().unwrap_or(Duration::ZERO).max(Check::DEADLINE),
        trust,
        suite: None,
        tester: None,
        answered_by: None,
        knock: None,
    };
    Ok(Ok((check, home)))
}

/// How the probe puts its runs right now, if somebody has changed it since: a teardown that never worked is mended there.
async fn mended(client: &Client, namespace: &str, run: &ProbeRunSpec) -> Result<Option<PutRight>, KubeError> {
    let api: Api<DeserializeGuard<ProductionProbe>> = Api::namespaced(client.clone(), namespace);
    let Some(DeserializeGuard(Ok(raw))) = get(&api, "ProductionProbe", &run.probe_ref.name).await? else { return Ok(None) };
    let same = raw.uid().as_deref() == Some(run.probe_ref.uid.as_str());
    if !same || raw.metadata.generation.unwrap_or_default() <= run.probe_ref.generation {
        return Ok(None);
    }
    // Only the names of the Secrets matter here.
    let made = as_written(&run.probe_ref.name, &raw.spec).ok();
    Ok(made.and_then(|made| page(namespace, &run.delivery_ref.name, &raw, &made)).map(|page| page.put_right.clone()))
}

/// A ready pod behind that Service now: of what is proven, while there is one.
async fn home(client: &Client, namespace: &str, target: &RawTarget, turn: usize) -> Result<Result<SocketAddr, Nobody>, KubeError> {
    let behind = behind(client, namespace, target).await?;
    Ok(behind.and_then(|Behind { stable, canary }| {
        let pods = if stable.is_empty() { canary } else { stable };
        let one = turn.checked_rem(pods.len()).and_then(|turn| pods.get(turn));
        one.map(|pod| pod.at).ok_or_else(|| Nobody::Now(format!("no pod behind Service {} is ready", target.service_ref.name)))
    }))
}

/// Whether the process that was in this pod of ours at that time has gone: its pod is not there any more, or its container has ended
/// since. Where we may not look, it may be there. Both times are of the clock of its node.
///
/// # Errors
/// When the API server does not answer.
pub async fn has_gone(client: &Client, home: &str, pod: &str, then: Timestamp) -> Result<bool, KubeError> {
    let api: Api<RawPod> = Api::namespaced(client.clone(), home);
    match within("list Haldane's pods", api.list(&ListParams::default().labels(OURS))).await {
        Err(KubeError::Refused { .. }) => Ok(false),
        listed => Ok(listed?.items.iter().find(|raw| raw.uid().as_deref() == Some(pod)).is_none_or(|raw| ended_since(raw, then))),
    }
}

fn ended_since(raw: &RawPod, then: Timestamp) -> bool {
    let status = raw.status.as_ref();
    if status.and_then(|status| status.phase.as_deref()).is_some_and(|phase| ["Failed", "Succeeded"].contains(&phase)) {
        return true;
    }
    let containers = status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let mut lives =
        containers.filter(|container| container.name == CONTAINER).flat_map(|c| [c.state.as_ref(), c.last_state.as_ref()]).flatten();
    // A process that began after the run did is another one; times are in whole seconds.
    lives.any(|state| {
        let ended = state.terminated.as_ref().and_then(|ended| ended.finished_at.as_ref());
        let started = state.running.as_ref().and_then(|running| running.started_at.as_ref());
        ended.or(started).is_some_and(|time| time.0 > then)
    })
}

#[cfg(test)]
mod tests;
