//! Live reads of everything that one decision about one Delivery may look at. Nothing here decides or writes.
//!
//! Read from the API server and never older than our own last write, independent reads at once, complete or an error: no decision rests on what
//! was true a while ago, or on half of the world.

use std::{collections::BTreeSet, sync::Arc};

use futures::{FutureExt as _, future::try_join_all, try_join};
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::ControllerRevision,
    core::v1::{Namespace, Service as RawService},
};
use kube::{Api, ResourceExt as _};

use crate::{
    api::{DELIVERY_LABEL, FINALIZER, command::Command, delivery::Delivery, hold::Hold, release::Release},
    decide::{shared, source},
    edge::kube::{Cluster, KubeError, get},
    model::{
        cron_job::CronJob,
        decision::Reason,
        phase::{Stage, State, before},
        plan::{Plan, Source},
        world::{self, Observation, Workload},
    },
};

mod alike;
mod before;
pub mod checks;
mod cron_jobs;
mod decoded;
mod external;
pub mod fleet;
pub mod gateways;
mod granted;
pub mod merges;
mod pods;
mod policies;
pub mod probes;
mod problems;
mod releases;
pub mod routes;
mod services;
mod targets;
mod workloads;

pub use merges::MergeBoard;
pub use probes::ProbeBoard;
pub use releases::{TEMPLATES, templates};

use checks::Probe;
use decoded::Decoded;
use external::Outside;
use fleet::Fleet;
use granted::{Granted, Right};
use policies::Rules;
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
    cluster: Cluster,
    board: Arc<ProbeBoard>,
    merges: Arc<MergeBoard>,
    granted: Granted,
    fleet: Arc<Fleet>,
    home: String,
}

/// What was read of one app, before anything is made of it.
struct Read {
    found: Vec<Found>,
    services: Vec<RawService>,
    releases: Decoded<Release>,
    revisions: Vec<ControllerRevision>,
    holds: Decoded<Hold>,
    commands: Decoded<Command>,
    deliveries: Decoded<Delivery>,
    rules: Rules,
}

impl Read {
    /// The other Deliveries of the namespace, those that cannot be read too.
    fn others(&self, name: &str) -> Vec<String> {
        let damaged = self.deliveries.damaged.iter().map(|damaged| damaged.name().to_owned());
        self.deliveries.all.iter().map(Delivery::name_any).chain(damaged).filter(|other| other != name).collect()
    }
}

impl Observer {
    /// Reads from this cluster, asks through the one board, and reads of branches through the other. Knows the other Deliveries by
    /// the fleet; `home` is Haldane's own namespace.
    #[must_use]
    pub fn new(cluster: Cluster, board: Arc<ProbeBoard>, merges: Arc<MergeBoard>, fleet: Arc<Fleet>, home: &str) -> Self {
        Self { cluster, board, merges, granted: Granted::default(), fleet, home: home.to_owned() }
    }

    /// The world around this Delivery as it is now, and what the probes saw so far.
    ///
    /// # Errors
    /// When any part of it could not be read: half an observation is none.
    pub async fn observe(&self, delivery: &Delivery, plan: &Plan, state: &State, now: Timestamp) -> Result<Observation, ObserveError> {
        let namespace = delivery.namespace().ok_or(ObserveError::NoNamespace)?;
        let (terminating, granted) =
            try_join!(self.terminating(&namespace), self.granted.ask(&self.cluster.client, &namespace, Right::Deployments, now))?;
        let seen = Observation {
            delivery: delivery.name_any(),
            deleting: delivery.metadata.deletion_timestamp.is_some(),
            finalizer: delivery.finalizers().iter().any(|f| f == FINALIZER),
            namespace_terminating: terminating,
            ..Observation::default()
        };
        if !granted {
            self.board.forget(&probes::Key::from_obj(delivery));
            self.merges.forget(&probes::Key::from_obj(delivery));
            return Ok(Observation { problems: vec![Reason::NotGranted { namespace }], ..seen });
        }
        // Boxed: a dozen reads at once are 20 kB of future, which every reconcile would carry in its own.
        let read = Box::pin(self.read(&namespace, delivery, plan)).await?;
        Box::pin(self.composed(seen, &read, delivery, plan, state, now)).await
    }

    /// The namespace is on its way out. Where reading namespaces is not granted, that is never known.
    async fn terminating(&self, namespace: &str) -> Result<bool, KubeError> {
        match get(&Api::<Namespace>::all(self.cluster.client.clone()), "Namespace", namespace).await {
            Ok(found) => Ok(found.is_none_or(|n| n.metadata.deletion_timestamp.is_some())),
            Err(KubeError::Refused { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn read(&self, namespace: &str, delivery: &Delivery, plan: &Plan) -> Result<Read, KubeError> {
        let (cluster, client) = (&self.cluster, &self.cluster.client);
        let (name, leaving) = (delivery.name_any(), delivery.metadata.deletion_timestamp.is_some());
        let workloads = try_join_all(plan.workloads.iter().map(|planned| workloads::read(cluster, namespace, &name, planned)));
        let ours = format!("{DELIVERY_LABEL}={name}");
        let (services_api, revisions_api) = (Api::namespaced(client.clone(), namespace), Api::namespaced(client.clone(), namespace));
        let (found, services, releases, revisions, holds, commands, deliveries, rules) = try_join!(
            workloads,
            cluster.list(&services_api, "services", ""),
            decoded::read(cluster, namespace, &ours, leaving),
            cluster.list(&revisions_api, "controllerrevisions", &ours),
            decoded::read(cluster, namespace, "", leaving),
            decoded::read(cluster, namespace, "", leaving),
            decoded::read(cluster, namespace, "", leaving),
            policies::read(cluster, namespace, &self.home).map(Ok),
        )?;
        Ok(Read { found, services, releases, revisions, holds, commands, deliveries, rules })
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
        let others = read.others(&name);
        let selecting = services::selecting(plan, &read.services, &read.found, &others);
        let mut workloads: Vec<_> = read.found.iter().filter_map(|found| found.workload.clone()).collect();
        let rolling = state.phase.rollout().is_some();
        let routable = rolling || services::any_pinned(&selecting) || workloads.iter().any(|w| w.canary.is_some());
        let fronts = routes::fronts(&name, &read.services);
        let releases = releases::releases(&read.releases.all, &read.revisions, &name);
        let seen = Observation { releases, ..seen };
        // Which probes are asked may be the word of the version that is asked.
        let (own, plan) = (plan, &*plan.with(seen.config(state)));
        let (
            mut services,
            surroundings,
            (probes, unusable),
            (routes, unrouted),
            canary_services,
            (cron_jobs, barred),
            jobs,
            unlike,
            mut outside,
        ) = try_join!(
            services::read(&self.cluster, &namespace, &name, &selecting, Moment { rolling, routable }),
            try_join_all(workloads.iter().map(|w| problems::of_surroundings(&self.cluster, &namespace, w))),
            checks::read(&self.cluster.client, (&namespace, &name), plan, &read.services),
            routes::read(&self.cluster, &namespace, plan, &selecting, &fronts, rolling),
            routes::with_endpoints(&self.cluster, &namespace, &fronts),
            self.cron_jobs(&namespace, plan, read, now),
            before::read(&self.cluster, (&namespace, &name), plan),
            self.unlike(&namespace, &name, (plan, state), &read.found),
            external::read(&self.cluster.client, (&namespace, &name), (plan, state), &read.releases),
        )?;
        workloads.iter_mut().zip(unlike).for_each(|(workload, unlike)| workload.differs = unlike);
        let selected: Vec<String> = services.iter().map(|s| s.name.clone()).collect();
        services.extend(
            services::left(plan, &read.services, &read.found, (&name, &others)).into_iter().filter(|s| !selected.contains(&s.name)),
        );
        // The first is what people read: that it is another's comes before what follows from that.
        let mut problems = problems::delivered_already(delivery, &read.deliveries.all, plan);
        problems.extend(plan.workloads.iter().zip(&read.found).flat_map(|(p, f)| problems::of_workload(p, f)));
        problems.extend(problems::of_logs(plan, &read.found));
        problems.extend(surroundings.into_iter().flatten());
        problems.extend(services::problems(plan, &selecting));
        problems.extend(unrouted.into_iter().chain(barred).chain(std::mem::take(&mut outside.problems)));
        problems.extend(services::shared(plan, &read.services, &read.found, &others));
        // What the live version alone wants to be asked must not stand in the way of the next one.
        let of_delivery = |problem: &Reason| rolling || problem.probe().is_none_or(|probe| own.probes.iter().any(|named| named == probe));
        problems.extend(unusable.into_iter().filter(of_delivery));
        problems.extend(releases::damaged(&read.releases.damaged, &read.commands.damaged, &name));
        let bound = read.rules.bind(delivery, &self.fleet, &self.home);
        problems.extend(bound.problems);
        let mut seen = Observation {
            problems,
            workloads,
            services,
            routes,
            canary_services,
            cron_jobs,
            jobs,
            holds: held(read, &name, now),
            policies: bound.policies,
            outages: self.cluster.outages.past(),
            troubled: self.fleet.troubled(&namespace, before(now, shared::WITHIN)),
            commands: releases::commands(&read.commands.all, &name),
            ..seen
        };
        let key = probes::Key::from_obj(delivery);
        self.asked(&key, (plan, state, read), (&probes, outside), &mut seen).await;
        self.branch(&key, &namespace, plan, read, &mut seen);
        Ok(seen)
    }

    /// Has the board ask from now on what this moment wants to know, and adds what it knows so far.
    async fn asked(
        &self,
        key: &probes::Key,
        (plan, state, read): (&Plan, &State, &Read),
        (probes, outside): (&[Probe], Outside),
        seen: &mut Observation,
    ) {
        if probes.iter().any(|probe| probe.route) {
            gateways::resolve(&mut seen.routes).await;
        }
        let ports = targets::Ports { services: &read.services, pods: read.found.iter().flat_map(|f| &f.pods).collect() };
        let (watch, unasked) = targets::watch(state, seen, (plan, probes), &ports);
        seen.problems.extend(unasked);
        self.board.watch(key, outside.of(watch));
        (seen.probes, seen.external, seen.queries) = (self.board.read(key), self.board.words(key), self.board.queried(key));
        seen.problems.extend(problems::of_probes(&seen.probes));
    }

    /// The `CronJobs` of the plan; those that take the image of a version only where we may write it, and else why not.
    async fn cron_jobs(
        &self,
        namespace: &str,
        plan: &Plan,
        read: &Read,
        now: Timestamp,
    ) -> Result<(Vec<CronJob>, Option<Reason>), KubeError> {
        let client = &self.cluster.client;
        let allowed = plan.cron_jobs.is_empty() || self.granted.ask(client, namespace, Right::CronJobs, now).await?;
        let planned = plan.before.iter().chain(plan.cron_jobs.iter().filter(|_| allowed));
        let names: BTreeSet<&str> = planned.map(|planned| planned.name.as_str()).collect();
        let found = cron_jobs::read(&self.cluster, namespace, names.into_iter(), &read.services, &read.found).await?;
        Ok((found, (!allowed).then(|| Reason::CronJobsNotGranted { namespace: namespace.to_owned() })))
    }

    /// What would treat the canaries otherwise than the pods that serve; looked for while one may be about to start.
    async fn unlike(
        &self,
        namespace: &str,
        delivery: &str,
        (plan, state): (&Plan, &State),
        found: &[Found],
    ) -> Result<Vec<Option<String>>, KubeError> {
        let waits = |w: &Workload| w.only_active().is_none_or(|active| active.template != w.template_hash());
        let soon = match state.phase.rollout() {
            Some(rollout) => matches!(rollout.stage, Stage::Preparing | Stage::Preflight),
            None => plan.source != Source::Workload || found.iter().filter_map(|f| f.workload.as_ref()).any(waits),
        };
        if soon { alike::read(&self.cluster, namespace, delivery, found).await } else { Ok(Vec::new()) }
    }

    /// What is known of the branch, or of the tag, that versions come from, and what stands in the way of knowing it.
    fn branch(&self, key: &probes::Key, namespace: &str, plan: &Plan, read: &Read, seen: &mut Observation) {
        let (subject, image) = match &plan.source {
            Source::Workload | Source::Manual => return self.merges.forget(key),
            Source::Merge(merge) => {
                if let Some(closed) = self.merges.closed(&merge.branch.repository, namespace) {
                    self.merges.forget(key);
                    seen.problems.push(closed);
                    return;
                }
                (merges::Subject::Branch { plan: merge.clone(), since: seen.desired_commit() }, &merge.image)
            }
            Source::Tag(tag) => (merges::Subject::Tag(tag.image.clone()), &tag.image),
        };
        let logins = workloads::logins(namespace, image.pull_secret.as_deref(), &read.found);
        self.merges.watch(key, merges::Watch { subject, logins });
        seen.merges = self.merges.read(key);
        seen.problems.extend(source::problem(&plan.source, seen));
    }
}

/// The holds that apply: its own, and of the home those that name no Delivery, for nobody's name is empty.
fn held(read: &Read, name: &str, now: Timestamp) -> Vec<world::Hold> {
    let of_all = read.rules.holds().into_iter().flat_map(|of_all| releases::holds(of_all, "", now));
    releases::holds(&read.holds, name, now).into_iter().chain(of_all).collect()
}

#[cfg(test)]
mod tests;
