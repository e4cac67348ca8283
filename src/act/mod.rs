//! `Decision → world`: carries out effects in order, each with its precondition, and stops at the first that fails.
//!
//! Deliberately absent: any rule about deploying. Each effect can be repeated, because a crash may come between it and the
//! record of it. A conflict is no error for people: the world has moved on, and the next decision is made on a new look.

pub mod announce;
mod before;
mod calls;
pub mod canary;
mod conditions;
mod cron_job;
mod error;
pub mod evidence;
mod finalizer;
pub mod ledger;
mod owners;
mod patch;
mod policies;
mod record;
mod releases;
mod route;
mod session;
mod shape;
pub mod status;
mod stored;
pub mod suites;
mod traffic;
mod workload;

use std::sync::Arc;

pub use error::{ActError, Retry};

use crate::{
    api::delivery::Delivery,
    clock::Clock,
    control::lease::LeaderProof,
    edge::kube::Cluster,
    model::{decision::Effect, world::Observation},
};
use calls::Calls;
use session::Session;

/// Writes the world.
#[derive(Clone)]
pub struct Actor {
    cluster: Cluster,
    clock: Arc<dyn Clock>,
}

/// What came of a run of effects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// The Delivery's resourceVersion, if a write to its finalizers moved it: the precondition of the record.
    pub delivery_version: Option<String>,
}

impl Actor {
    /// An actor on that cluster. Its client must not retry by itself: a late write could land after our lead.
    #[must_use]
    pub fn new(cluster: Cluster, clock: Arc<dyn Clock>) -> Self {
        Self { cluster, clock }
    }

    /// Carries out effects in order; those that move traffic and follow each other, all at once.
    ///
    /// Whatever happens, each object of the owner's that was written gets its field owners back at the end.
    ///
    /// # Errors
    /// The first failure; nothing after it was tried.
    pub async fn act(&self, proof: &LeaderProof, delivery: &Delivery, seen: &Observation, effects: &[Effect]) -> Result<Done, ActError> {
        let mut session = Session {
            calls: self.calls(proof, delivery),
            delivery,
            seen,
            now: self.clock.now(),
            touched: Vec::new(),
            delivery_version: None,
            made: 0,
        };
        let done = all(&mut session, effects).await;
        session.end().await;
        done.map(|()| Done { delivery_version: session.delivery_version })
    }

    fn calls<'a>(&'a self, proof: &'a LeaderProof, delivery: &'a Delivery) -> Calls<'a> {
        Calls { cluster: &self.cluster, namespace: delivery.metadata.namespace.as_deref().unwrap_or_default(), proof }
    }
}

async fn all(session: &mut Session<'_>, effects: &[Effect]) -> Result<(), ActError> {
    for group in effects.chunk_by(|a, b| traffic::moves(a) && traffic::moves(b)) {
        match group {
            [effect] => one(session, effect).await?,
            moves => traffic::move_all(session, moves).await?,
        }
    }
    Ok(())
}

async fn one(session: &mut Session<'_>, effect: &Effect) -> Result<(), ActError> {
    match effect {
        Effect::AddFinalizer => finalizer::add(session).await,
        Effect::RemoveFinalizer => finalizer::remove(session).await,
        Effect::RecordRelease { name, version, image, origin, templates } => {
            releases::record(session, &releases::Recorded { name, version, image, origin: *origin, templates }).await
        }
        Effect::RecordMerge(merge) => releases::record_merge(session, merge).await,
        Effect::KeepTemplates { release, templates } => releases::keep_templates(session, release, templates).await,
        Effect::CloseGate { workload, exact } => workload::close_gate(session, workload, *exact).await,
        Effect::OpenGate { workload, template, put_back, leave } => {
            workload::open_gate(session, workload, template.as_ref(), put_back.as_ref(), *leave).await
        }
        Effect::PutTemplate { workload, template, put_back } => {
            workload::put_template(session, workload, template, put_back.as_ref()).await
        }
        Effect::DropOwnership(target) => session.drop_ownership(target).await,
        Effect::PinService { .. } | Effect::SendRoute { .. } => traffic::move_all(session, std::slice::from_ref(effect)).await,
        Effect::MakeCanaryService { service, routes } => route::make_service(session, service, routes).await,
        Effect::RemoveCanaryService { service } => route::remove_service(session, service).await,
        Effect::RunBefore { job, cron_job, release, spec } => before::run(session, &before::Wanted { job, cron_job, release, spec }).await,
        Effect::SetImage { cron_job, image, places } => cron_job::set_image(session, cron_job, image, places).await,
        Effect::RemoveJob { job } => before::remove(session, job).await,
        Effect::CreateCanary { workload, release, template, replicas } => {
            canary::create(session, &canary::Wanted { workload, release, template, replicas: *replicas }).await
        }
        Effect::ScaleCanary { workload, replicas } => canary::scale(session, workload, *replicas).await,
        Effect::DeleteCanary { workload } => canary::delete(session, workload).await,
        Effect::SettleRelease { release, outcome, why, superseded_by, started } => {
            let settled = releases::Settled { outcome: *outcome, why, superseded_by: superseded_by.as_ref(), started: *started };
            releases::settle(session, release, &settled).await
        }
        Effect::SettleCommand { command, result, message } => releases::settle_command(session, command, *result, message).await,
        Effect::ForgetRelease { release } => releases::forget(session, release).await,
    }
}
