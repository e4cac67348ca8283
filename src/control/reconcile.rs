//! One pass over one Delivery: read → observe → decide → check → act → record → announce.
//!
//! The four rooms are called here in their order, and nothing is decided here. Deliberately absent: caches. The Delivery is
//! read live, because the one in the store may be older than our own last write.

use std::{sync::Arc, time::Duration};

use ::kube::{Api, Client, ResourceExt as _, runtime::reflector::ObjectRef};
use futures::future::{BoxFuture, FutureExt as _};
use jiff::Timestamp;
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
    act::{
        self, ActError, Actor, Done,
        announce::Announcer,
        status::{status_of, with_error},
    },
    api::{delivery::Delivery, status::DeliveryStatus},
    clock::Clock,
    decide::{
        check::{Broken, advances, check},
        decide,
    },
    edge::kube,
    metrics::{Attempt, Metrics},
    model::{
        decision::{Decision, Effect, Reason, Wait},
        phase::{State, Why},
        plan::Plan,
        policy,
        world::Observation,
    },
    observe::{MergeBoard, ObserveError, Observer, ProbeBoard, fleet::Fleet},
};

/// For one call to the API server.
pub const CALL: Duration = Duration::from_secs(10);

/// Why a pass did not get to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Delivery could not be read.
    #[error("the Delivery cannot be read from the API server")]
    Read(#[source] ::kube::Error),
    /// It was not read in time.
    #[error("the API server did not answer within {limit:?}")]
    Unanswered {
        /// The limit.
        limit: Duration,
    },
    /// Something around it could not be read.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// The decision must not be carried out.
    #[error("{0}; it is not carried out and production stays as it is: this is a defect, please report it")]
    Broken(#[from] Broken),
    /// A write failed.
    #[error(transparent)]
    Act(#[from] ActError),
    /// It cannot be decoded, and that could not be told.
    #[error("the Delivery cannot be decoded, and saying so on it failed")]
    Poison(#[source] ::kube::Error),
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
            Self::Observe(ObserveError::Kube(error)) if error.retry() == kube::Retry::Fresh => Retry::AtOnce,
            Self::Act(error) => of_act(error),
            Self::Poison(error) if poison::is_conflict(error) => Retry::AtOnce,
            Self::Observe(_)
            | Self::Read(_)
            | Self::Poison(_)
            | Self::Broken(_)
            | Self::Unanswered { .. }
            | Self::Slow { .. }
            | Self::Panicked { .. } => Retry::Backoff,
        }
    }
}

/// When a failed write is worth another try.
fn of_act(error: &ActError) -> Retry {
    match error.retry() {
        act::Retry::AtOnce => Retry::AtOnce,
        // A refusal may end at any moment (a quota, a right), and on the way back nobody wants to wait for long.
        act::Retry::Backoff | act::Retry::Later => Retry::Backoff,
        act::Retry::Never => Retry::Never,
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
    /// Where branches are read.
    pub merges: Arc<MergeBoard>,
    /// What the other Deliveries do.
    pub fleet: Arc<Fleet>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// A problem of all Deliveries: the definitions in the cluster are older than this controller.
    pub outdated: watch::Receiver<Option<Reason>>,
}

impl Pass for Reconciler {
    fn pass<'a>(&'a self, key: &'a Key, proof: &'a LeaderProof, memory: &'a mut Memory) -> BoxFuture<'a, Result<Passed, Error>> {
        self.reconcile(key, proof, memory).boxed()
    }

    fn saw(&self, object: &Guarded) {
        if let Ok(delivery) = &object.0 {
            self.fleet.saw(delivery);
        }
    }

    fn gone(&self, key: &Key) {
        let gone = ObjectRef::new(&key.name).within(&key.namespace);
        self.fleet.forget(&gone);
        self.board.forget(&gone);
        self.merges.forget(&gone);
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
                let poison = Poison { client: &self.client, now: self.clock.now(), metrics: &self.metrics };
                match poison.leaving(key, &invalid).await? {
                    Some(delivery) => delivery,
                    None => return poison.mark(key, proof, &invalid).await,
                }
            }
        };
        memory.overtaken_by(stored.status.as_ref());
        let now = self.clock.now();
        let looked = self.look(&stored, memory, now).await?;
        let mut moved = Box::pin(self.go(key, proof, stored, &looked, memory, now)).await?;
        // To enter a stage changes nothing in the world: what it asks for needs no second look at it.
        if let Moved::Entered(stored) = moved {
            moved = Box::pin(self.go(key, proof, *stored, &looked, memory, now)).await?;
        }
        Ok(match moved {
            Moved::Away => Passed::Gone,
            Moved::Entered(_) => Passed::Again(pace::AGAIN),
            Moved::On(again) => Passed::Again(again),
        })
    }

    /// What is.
    async fn look(&self, stored: &Delivery, memory: &Memory, now: Timestamp) -> Result<Looked, Error> {
        let delivery = remembered(stored, memory);
        let state = State::read(delivery.status.as_ref().unwrap_or(&<_>::default()), now);
        // What contradicts itself moves nothing forward; the way back and the way out need less than all of it.
        let (plan, flaw) = Plan::lenient(&stored.spec, &state.adopted);
        let mut seen = self.observer.observe(&delivery, &plan, &state, now).await?;
        seen.problems.extend(self.outdated.borrow().clone());
        seen.problems.extend(memory.problem());
        // What is said of many Deliveries is read beside the rest, and says how this one is delivered.
        let (plan, flaw) =
            if seen.policies.is_empty() { (plan, flaw) } else { policy::ruled(&stored.spec, &state.adopted, &seen.policies) };
        seen.problems.extend(flaw.map(|error| Reason::Invalid { why: error.to_string() }));
        Ok(Looked { plan, seen })
    }

    /// Decides what to do about it, does it, and records it.
    async fn go(
        &self,
        key: &Key,
        proof: &LeaderProof,
        stored: Delivery,
        looked: &Looked,
        memory: &mut Memory,
        now: Timestamp,
    ) -> Result<Moved, Error> {
        let delivery = remembered(&stored, memory);
        let state = State::read(delivery.status.as_ref().unwrap_or(&<_>::default()), now);
        let Looked { plan, seen } = looked;
        let plan = &*plan.with(seen.config(&state));
        let decision = decide(plan, &state, seen, now);
        check(plan, &state, seen, &decision, now)?;
        let starts = state.phase.rollout().is_none() && advances(&state, &decision.next);
        if starts && !self.fleet.take(&ObjectRef::from_obj(&stored), &seen.policies) {
            // Another took the last place since this one looked.
            return Ok(Moved::On(pace::AGAIN));
        }
        let done = match self.actor.act(proof, &delivery, seen, &decision.effects).await {
            Ok(done) => done,
            Err(error) => return Err(self.refused(proof, &stored, &delivery, error).await),
        };
        self.metrics.effects(&decision.effects);
        self.metrics.phase(key, decision.next.phase.label());
        if decision.effects.contains(&Effect::RemoveFinalizer) {
            return Ok(Moved::Away);
        }
        let again = pace::after(decision.wait, decision.next.phase.rollout().is_some(), now, &stored.uid().unwrap_or_default());
        let forward = advances(&state, &decision.next);
        let entered = decision.effects.is_empty() && decision.wait == Wait::Now;
        let (of, uid) = (ObjectRef::from_obj(&stored), stored.uid().unwrap_or_default());
        let rolled = state.phase.rollout().is_some().then(|| (stored.clone(), decision.next.clone()));
        let recorded = Recorded { stored, delivery, plan, seen, decision, done, now, forward };
        let kept = Box::pin(self.record(proof, recorded, memory)).await;
        // What is not recorded and moves forward has not happened.
        let happened = !(forward && matches!(kept, Kept::Later(_)));
        match rolled.filter(|_| happened) {
            Some((about, next)) => {
                Box::pin(self.actor.follow(proof, &about, &mut memory.evidence, (&state, &next), &seen.probes.samples)).await;
            }
            None => memory.evidence = memory.evidence.take().filter(|_| !happened),
        }
        match (&kept, memory.status(&uid)) {
            (Kept::Stored(left), _) => {
                self.fleet.left(&of, left.status.as_ref().unwrap_or(&<_>::default()), left.resource_version().as_deref());
            }
            (Kept::Later(_), Some(status)) => self.fleet.left(&of, status, None),
            (Kept::Later(_), None) | (Kept::Same, _) => {}
        }
        Ok(match kept {
            Kept::Stored(stored) if entered => Moved::Entered(stored),
            Kept::Stored(_) | Kept::Same => Moved::On(again),
            // It waits to be stored, and nothing is done for it before.
            Kept::Later(rewrite) if forward => Moved::On(rewrite),
            Kept::Later(rewrite) => Moved::On(again.min(rewrite)),
        })
    }

    /// Stores the status and tells people. A refused write ends nothing: the next pass goes on from the new status, and
    /// the write is tried again. A move forward is the exception: as long as it is not
    /// stored it has not happened.
    async fn record(&self, proof: &LeaderProof, recorded: Recorded<'_>, memory: &mut Memory) -> Kept {
        let Recorded { stored, delivery, plan, seen, mut decision, done, now, forward } = recorded;
        let uid = stored.uid().unwrap_or_default();
        let status = status_of(Some(plan), &decision, seen, &delivery, now);
        if !memory.write_due(Instant::now()) {
            let (status, untold) = kept(delivery, status, decision, forward);
            memory.not_stored(&stored, status, untold, None, Instant::now());
            return Kept::Later(memory.rewrite_in(Instant::now()));
        }
        match self.actor.record(proof, &stored, done.delivery_version.as_deref(), &status).await {
            Ok(version) => {
                self.metrics.status_write(if version.is_some() { Attempt::Done } else { Attempt::Unchanged });
                decision.notes.splice(0..0, memory.stored(&uid));
                self.announcer.announce(proof, &stored, stored.status.as_ref(), &decision).await;
                let Some(version) = version else { return Kept::Same };
                let mut next = stored;
                next.status = Some(status);
                next.metadata.resource_version = Some(version);
                Kept::Stored(Box::new(next))
            }
            Err(error) => {
                self.metrics.status_write(Attempt::Failed);
                let (namespace, name) = (stored.namespace(), stored.name_any());
                tracing::warn!(
                    namespace,
                    delivery = name,
                    error = &error as &dyn std::error::Error,
                    "the status was not stored; going on from it"
                );
                let (status, untold) = kept(delivery, status, decision, forward);
                memory.not_stored(&stored, status, untold, Some((of_act(&error), error.to_string())), Instant::now());
                Kept::Later(memory.rewrite_in(Instant::now()))
            }
        }
    }

    /// A write was refused in a way that a person must see: it is said on the object, if that can be written.
    async fn refused(&self, proof: &LeaderProof, stored: &Delivery, delivery: &Delivery, error: ActError) -> Error {
        if error.retry() == act::Retry::Later {
            let why = Why { word: "WriteRefused".to_owned(), says: error.to_string() };
            let status = with_error(&delivery.status.clone().unwrap_or_default(), &why);
            let written = self.actor.record(proof, stored, None, &status).await;
            self.metrics.status_write(match written {
                Ok(Some(_)) => Attempt::Done,
                Ok(None) => Attempt::Unchanged,
                Err(_) => Attempt::Failed,
            });
        }
        error.into()
    }

    async fn read(&self, key: &Key) -> Result<Option<Guarded>, Error> {
        let api: Api<Guarded> = Api::namespaced(self.client.clone(), &key.namespace);
        let answer = timeout(CALL, api.get_opt(&key.name)).await.map_err(|_| Error::Unanswered { limit: CALL })?;
        answer.inspect_err(|error| self.metrics.api_error(error)).map_err(Error::Read)
    }
}

/// What one pass looked at.
struct Looked {
    plan: Plan,
    seen: Observation,
}

/// How far a decision went.
enum Moved {
    /// The Delivery is gone.
    Away,
    /// Into a stage, which is stored like this, and no further.
    Entered(Box<Delivery>),
    /// As far as it can now; the next look is due after this long.
    On(Duration),
}

/// What became of a record.
enum Kept {
    /// The Delivery as it is stored now.
    Stored(Box<Delivery>),
    /// There was nothing to write.
    Same,
    /// It is tried again after this long.
    Later(Duration),
}

/// What a pass leaves to be recorded.
struct Recorded<'a> {
    /// As the API server has it.
    stored: Delivery,
    /// As the decision was based on it.
    delivery: Delivery,
    plan: &'a Plan,
    seen: &'a Observation,
    decision: Decision,
    done: Done,
    now: Timestamp,
    /// It gives an unproven version more than it has.
    forward: bool,
}

/// The Delivery with the status that decisions go on from: the one that could not be stored yet, if there is one.
fn remembered(stored: &Delivery, memory: &Memory) -> Delivery {
    let mut delivery = stored.clone();
    if let Some(status) = memory.status(&stored.uid().unwrap_or_default()) {
        delivery.status = Some(status.clone());
    }
    delivery
}

/// What the next pass goes on from when the status was not stored, and what people are to be told once it is.
fn kept(delivery: Delivery, status: DeliveryStatus, decision: Decision, forward: bool) -> (DeliveryStatus, Vec<Reason>) {
    if forward {
        return (delivery.status.unwrap_or_default(), Vec::new());
    }
    let untold = untold(&delivery, decision);
    (status, untold)
}

/// What people are to be told later: the notes, and the reason, if it is a new one.
fn untold(delivery: &Delivery, decision: Decision) -> Vec<Reason> {
    let before = delivery.status.as_ref().and_then(|status| status.reason.as_deref());
    let news = (before != Some(decision.reason.word())).then_some(decision.reason);
    decision.notes.into_iter().chain(news).collect()
}
