//! Live reads of everything that one decision about one Delivery may look at. Nothing here decides or writes.
//!
//! Read from the API server and not from a cache, independent reads at once, complete or an error: no decision rests on what
//! was true a while ago, or on half of the world.

use std::sync::Arc;

use futures::{future::try_join_all, try_join};
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::ControllerRevision,
    core::v1::{Namespace, Service as RawService},
};
use kube::{Api, Client, Resource, ResourceExt as _, core::DeserializeGuard};
use serde::de::DeserializeOwned;

use crate::{
    api::{DELIVERY_LABEL, FINALIZER, command::Command, delivery::Delivery, hold::Hold, release::Release},
    edge::kube::{KubeError, get, list},
    model::{decision::Reason, phase::State, plan::Plan, world::Observation},
};

mod checks;
mod granted;
mod pods;
pub mod probes;
mod problems;
mod releases;
mod services;
mod targets;
mod workloads;

pub use probes::ProbeBoard;
pub use releases::{TEMPLATES, templates};

use checks::Probe;
use granted::Granted;
use services::Moment;
use workloads::Found;

/// Why there is no observation.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// A read failed.
    #[error(transparent)]
    Kube(#[from] KubeError),
    /// Not an object of the API server's.
    #[error("a Delivery without a namespace cannot be observed")]
    NoNamespace,
}

/// Reads the world around Deliveries.
pub struct Observer {
    client: Client,
    board: Arc<ProbeBoard>,
    granted: Granted,
}

/// What was read of one app, before anything is made of it.
struct Read {
    found: Vec<Found>,
    services: Vec<RawService>,
    releases: Vec<Release>,
    revisions: Vec<ControllerRevision>,
    holds: Vec<Hold>,
    commands: Vec<Command>,
    deliveries: Vec<Delivery>,
    probes: Vec<Probe>,
    probe_problems: Vec<Reason>,
}

impl Observer {
    /// Reads with this client, and asks through this board.
    #[must_use]
    pub fn new(client: Client, board: Arc<ProbeBoard>) -> Self {
        Self { client, board, granted: Granted::default() }
    }

    /// The world around this Delivery as it is now, and what the probes saw so far.
    ///
    /// # Errors
    /// When any part of it could not be read: half an observation is none.
    pub async fn observe(&self, delivery: &Delivery, plan: &Plan, state: &State, now: Timestamp) -> Result<Observation, ObserveError> {
        let namespace = delivery.namespace().ok_or(ObserveError::NoNamespace)?;
        let (terminating, granted) = try_join!(self.terminating(&namespace), self.granted.ask(&self.client, &namespace, now))?;
        let seen = Observation {
            delivery: delivery.name_any(),
            deleting: delivery.metadata.deletion_timestamp.is_some(),
            finalizer: delivery.finalizers().iter().any(|f| f == FINALIZER),
            namespace_terminating: terminating,
            ..Observation::default()
        };
        if !granted {
            self.board.forget(&probes::Key::from_obj(delivery));
            return Ok(Observation { problems: vec![Reason::NotGranted { namespace }], ..seen });
        }
        // Boxed: a dozen reads at once are 20 kB of future, which every reconcile would carry in its own.
        let read = Box::pin(self.read(&namespace, &delivery.name_any(), plan)).await?;
        Box::pin(self.composed(seen, &read, delivery, plan, state, now)).await
    }

    /// The namespace is on its way out. Where reading namespaces is not granted, that is never known.
    async fn terminating(&self, namespace: &str) -> Result<bool, KubeError> {
        match get(&Api::<Namespace>::all(self.client.clone()), "Namespace", namespace).await {
            Ok(found) => Ok(found.is_none_or(|n| n.metadata.deletion_timestamp.is_some())),
            Err(KubeError::Refused { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn read(&self, namespace: &str, delivery: &str, plan: &Plan) -> Result<Read, KubeError> {
        let client = &self.client;
        let workloads = try_join_all(plan.workloads.iter().map(|planned| workloads::read(client, namespace, delivery, planned)));
        let ours = format!("{DELIVERY_LABEL}={delivery}");
        let (services_api, releases_api, revisions_api, holds_api, commands_api, deliveries_api) = (
            Api::namespaced(client.clone(), namespace),
            Api::namespaced(client.clone(), namespace),
            Api::namespaced(client.clone(), namespace),
            Api::namespaced(client.clone(), namespace),
            Api::namespaced(client.clone(), namespace),
            // One that cannot be decoded is said on itself, and is no reason to know nothing of the others.
            Api::<DeserializeGuard<Delivery>>::namespaced(client.clone(), namespace),
        );
        let (found, services, releases, revisions, holds, commands, deliveries, (probes, probe_problems)) = try_join!(
            workloads,
            list(&services_api, "Services", ""),
            list(&releases_api, "Releases", &ours),
            list(&revisions_api, "ControllerRevisions", &ours),
            list(&holds_api, "Holds", ""),
            list(&commands_api, "Commands", ""),
            readable(&deliveries_api, "Deliveries"),
            checks::read(client, namespace, plan),
        )?;
        Ok(Read { found, services, releases, revisions, holds, commands, deliveries, probes, probe_problems })
    }

    /// The second reads, which follow from the first, and then the observation.
    async fn composed(
        &self,
        seen: Observation,
        read: &Read,
        delivery: &Delivery,
        plan: &Plan,
        state: &State,
        now: Timestamp,
    ) -> Result<Observation, ObserveError> {
        let (namespace, name) = (delivery.namespace().unwrap_or_default(), delivery.name_any());
        let others: Vec<String> = read.deliveries.iter().map(Delivery::name_any).filter(|other| *other != name).collect();
        let selecting = services::selecting(plan, &read.services, &read.found, &others);
        let workloads: Vec<_> = read.found.iter().filter_map(|found| found.workload.clone()).collect();
        let rolling = state.phase.rollout().is_some();
        let routable = rolling || services::any_pinned(&selecting) || workloads.iter().any(|w| w.canary.is_some());
        let (mut services, surroundings) = try_join!(
            services::read(&self.client, &namespace, &name, &selecting, Moment { rolling, routable }),
            try_join_all(workloads.iter().map(|w| problems::of_surroundings(&self.client, &namespace, w))),
        )?;
        let selected: Vec<String> = services.iter().map(|s| s.name.clone()).collect();
        services.extend(
            services::left(plan, &read.services, &read.found, (&name, &others)).into_iter().filter(|s| !selected.contains(&s.name)),
        );
        let mut problems: Vec<Reason> = plan.workloads.iter().zip(&read.found).flat_map(|(p, f)| problems::of_workload(p, f)).collect();
        problems.extend(surroundings.into_iter().flatten());
        problems.extend(services::problems(plan, &selecting));
        problems.extend(services::shared(plan, &read.services, &read.found, &others));
        problems.extend(problems::delivered_already(delivery, &read.deliveries, plan));
        problems.extend(read.probe_problems.iter().cloned());
        let mut seen = Observation {
            problems,
            workloads,
            services,
            releases: releases::releases(&read.releases, &read.revisions, &name),
            holds: releases::holds(&read.holds, &name, now),
            commands: releases::commands(&read.commands, &name),
            ..seen
        };
        let ports = targets::Ports { services: &read.services, pods: read.found.iter().flat_map(|f| &f.pods).collect() };
        let (watch, unasked) = targets::watch(state, &seen, &read.probes, &ports);
        seen.problems.extend(unasked);
        let key = probes::Key::from_obj(delivery);
        self.board.watch(&key, watch);
        seen.probes = self.board.read(&key);
        Ok(seen)
    }
}

/// Those of a namespace that can be decoded: another app's damaged object is no reason to stop this one.
async fn readable<K>(api: &Api<DeserializeGuard<K>>, kind: &'static str) -> Result<Vec<K>, KubeError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let all: Vec<DeserializeGuard<K>> = list(api, kind, "").await?;
    Ok(all.into_iter().filter_map(|guarded| guarded.0.ok()).collect())
}

#[cfg(test)]
mod tests;
