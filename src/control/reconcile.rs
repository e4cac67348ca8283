//! One pass over one Delivery: read → observe → decide → check → act → record → announce.
//!
//! The four rooms are called here in their order, and nothing is decided here. Deliberately absent: caches. The Delivery is
//! read live, because the one in the store may be older than our own last write.

use std::{sync::Arc, time::Duration};

use futures::future::{BoxFuture, FutureExt as _};
use jiff::Timestamp;
use kube::{Api, Client, ResourceExt as _, runtime::reflector::ObjectRef};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{
    Guarded, Key,
    lease::LeaderProof,
    memory::Memory,
    pace::{self, Retry},
    poison::{self, Poison},
    turn::{Pass, Passed},
};
use crate::{
    act::{self, ActError, Actor, Announcer},
    api::delivery::Delivery,
    clock::Clock,
    decide::decide,
    metrics::{Attempt, Metrics},
    model::{
        decision::{Decision, Effect, Reason, Wait},
        phase::{State, Why},
        plan::Plan,
        world::Observation,
    },
    observe::{ObserveError, Observer, ProbeBoard},
};

/// For one call to the API server.
pub const CALL: Duration = Duration::from_secs(10);

/// Why a pass did not get to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Delivery could not be read.
    #[error("the Delivery cannot be read from the API server")]
    Read(#[source] kube::Error),
    /// It was not read in time.
    #[error("the API server did not answer within {limit:?}")]
    Unanswered {
        /// The limit.
        limit: Duration,
    },
    /// Something around it could not be read.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// A write failed.
    #[error(transparent)]
    Act(#[from] ActError),
    /// It cannot be decoded, and that could not be told.
    #[error("the Delivery cannot be decoded, and saying so on it failed")]
    Poison(#[source] kube::Error),
    /// It took too long.
    #[error("the pass did not end within {limit:?} and was dropped")]
    Slow {
        /// The limit.
        limit: Duration,
    },
    /// It panicked.
    #[error("the pass panicked ({says}); this is a defect: please report it with the log around it")]
    Panicked {
        /// What the panic said.
        says: String,
    },
}

impl Error {
    /// How it is tried again.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Observe(error) => error.retry(),
            Self::Act(error) => error.retry(),
            Self::Poison(error) if poison::is_conflict(error) => Retry::AtOnce,
            Self::Read(_) | Self::Poison(_) | Self::Unanswered { .. } | Self::Slow { .. } | Self::Panicked { .. } => Retry::Backoff,
        }
    }
}

/// The four rooms and what they need.
pub struct Reconciler {
    /// To read the Delivery, and to record.
    pub client: Client,
    /// What now is.
    pub clock: Arc<dyn Clock>,
    /// Reads the world.
    pub observer: Observer,
    /// Writes the world.
    pub actor: Actor,
    /// Tells people.
    pub announcer: Announcer,
    /// Where the probes run.
    pub board: Arc<ProbeBoard>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// A problem of all Deliveries: the definitions in the cluster are older than this controller.
    pub outdated: watch::Receiver<Option<Reason>>,
}

impl Pass for Reconciler {
    fn pass<'a>(&'a self, key: &'a Key, proof: &'a LeaderProof, memory: &'a mut Memory) -> BoxFuture<'a, Result<Passed, Error>> {
        self.reconcile(key, proof, memory).boxed()
    }

    fn gone(&self, key: &Key) {
        self.board.forget(&ObjectRef::new(&key.name).within(&key.namespace));
    }
}

impl Reconciler {
    /// One pass.
    async fn reconcile(&self, key: &Key, proof: &LeaderProof, memory: &mut Memory) -> Result<Passed, Error> {
        let Some(object) = self.read(key).await? else { return Ok(Passed::Gone) };
        let stored = match object.0 {
            Ok(delivery) => delivery,
            Err(invalid) => {
                self.metrics.undecodable();
                return Poison { client: &self.client, now: self.clock.now(), metrics: &self.metrics }.mark(key, proof, &invalid).await;
            }
        };
        let uid = stored.uid().unwrap_or_default();
        let mut delivery = stored.clone();
        if let Some(status) = memory.status(&uid) {
            delivery.status = Some(status.clone());
        }
        let now = self.clock.now();
        let state = State::read(delivery.status.as_ref().unwrap_or(&<_>::default()), now);
        let (seen, decision) = self.judge(&delivery, &state, memory, now).await?;

        self.actor.act(proof, &delivery, &seen, &decision.effects).await?;
        self.metrics.effects(&decision.effects);
        self.metrics.phase(key, decision.next.phase.label());
        if decision.effects.contains(&Effect::RemoveFinalizer) {
            return Ok(Passed::Gone);
        }
        let again = pace::after(decision.wait, decision.next.phase.rollout().is_some(), now, &uid);
        let rewrite = self.record(proof, Recorded { stored, delivery, seen, decision, now }, memory).await;
        Ok(Passed::Again(rewrite.map_or(again, |rewrite| again.min(rewrite))))
    }

    /// What is, and what to do about it.
    async fn judge(&self, delivery: &Delivery, state: &State, memory: &Memory, now: Timestamp) -> Result<(Observation, Decision), Error> {
        let plan = match Plan::try_from(&delivery.spec) {
            Ok(plan) => plan,
            Err(error) => return Ok((Observation::default(), invalid(state, &Reason::Invalid { why: error.to_string() }))),
        };
        let mut seen = self.observer.observe(delivery, &plan, state, now).await?;
        seen.problems.extend(self.outdated.borrow().clone());
        seen.problems.extend(memory.problem());
        let decision = decide(&plan, state, &seen, now);
        // CHECK: crate::decide::check::check(&plan, state, &seen, &decision)?;
        Ok((seen, decision))
    }

    /// Stores the status and tells people. A refused write ends nothing: the next pass goes on from the new status, and
    /// the write is tried again after the time that this returns.
    async fn record(&self, proof: &LeaderProof, recorded: Recorded, memory: &mut Memory) -> Option<Duration> {
        let Recorded { stored, delivery, seen, decision, now } = recorded;
        let uid = stored.uid().unwrap_or_default();
        let status = act::status(&delivery, &seen, &decision, now);
        if !memory.write_due(Instant::now()) {
            memory.not_stored(&uid, status, decision.notes, None, Instant::now());
            return memory.rewrite_in(Instant::now());
        }
        match act::record(&self.client, proof, &stored, &status).await {
            Ok(written) => {
                self.metrics.status_write(if written { Attempt::Done } else { Attempt::Unchanged });
                let mut notes = memory.stored(&uid);
                notes.extend(decision.notes);
                self.announcer.announce(proof, &delivery, &notes).await;
                None
            }
            Err(error) => {
                self.metrics.status_write(Attempt::Failed);
                let (namespace, name) = (stored.namespace(), stored.name_any());
                tracing::warn!(namespace, delivery = name, error = &error as &dyn std::error::Error, "the status was not stored; going on from it");
                memory.not_stored(&uid, status, decision.notes, Some((error.retry(), error.to_string())), Instant::now());
                memory.rewrite_in(Instant::now())
            }
        }
    }

    async fn read(&self, key: &Key) -> Result<Option<Guarded>, Error> {
        let api: Api<Guarded> = Api::namespaced(self.client.clone(), &key.namespace);
        let answer = timeout(CALL, api.get_opt(&key.name)).await.map_err(|_| Error::Unanswered { limit: CALL })?;
        answer.inspect_err(|error| self.metrics.api_error(error)).map_err(Error::Read)
    }
}

/// What a pass leaves to be recorded.
struct Recorded {
    /// As the API server has it.
    stored: Delivery,
    /// As the decision was based on it.
    delivery: Delivery,
    seen: Observation,
    decision: Decision,
    now: Timestamp,
}

/// The spec contradicts itself: nothing is moved, and it is said.
fn invalid(state: &State, reason: &Reason) -> Decision {
    let mut decision = Decision::stay(state, reason.clone(), Wait::Change);
    decision.health.stalled = Some(Why::from(reason));
    decision
}
