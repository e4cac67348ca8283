//! Who leads: one process at a time, by a `Lease` in the API server.
//!
//! What to do is decided in [`next`](next()), which is pure; here is the thin part that reads and writes. Every write of the lease has a
//! precondition (its resourceVersion, or that there is none), so of two that think it free only one succeeds.
//!
//! Deliberately absent: any promise that a write of ours which is already under way at the end of a term arrives before
//! another leads. That is what the preconditions of the writes are for.
//!
//! The arithmetic, with an API server that answers:
//! - **Never two.** A renewal sent at t ends our proof at t + 8 s − 2 s = t + 6 s. Others see it at t or later and wait 8 s,
//!   so they start at t + 8 s at the earliest: 2 s for clocks that run at different speeds (25 % and more) and for calls under way.
//! - **Within 10 s after a `kill -9`.** The last renewal at t is seen by t + 1 s (one look per second), waited for until
//!   t + 9 s, and 1 s is left for the write.
//! - **A hiccup is no change.** Renewals are due at t + 2 s; each call may take 2 s, the next try is 1 s later: sent at
//!   t + 2 s and t + 5 s if nothing answers, at t + 2, 3, 4, 5 s if it refuses at once, all before t + 6 s.
//! - **Load.** 1 write per 2 s for the leader, 1 read per second for each other replica.
//!
//! Rights: `get`, `create`, `update` on Leases of our own namespace.

mod next;
mod proof;

use std::hash::{BuildHasher, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::api::LEADER_ADDRESS_ANNOTATION;
use crate::clock::Clock;
use crate::edge::kube::Outages;

pub use next::{Holder, LeaseView, Move, NoIdentity, Seen, Term, next};
pub use proof::{LeaderProof, Leadership, NotLeading};

/// How long a lease counts after it was last renewed.
pub const DURATION: Duration = Duration::from_secs(8);
/// How long before the end of the lease its holder stops.
pub const MARGIN: Duration = Duration::from_secs(2);
/// How long a proof counts after the renewal was sent: 8 s − 2 s = 6 s.
pub const LEAD: Duration = Duration::from_secs(DURATION.as_secs() - MARGIN.as_secs());
/// How often the leader renews.
pub const RENEW: Duration = Duration::from_secs(2);
/// How often the others look, and how soon after a failure is tried again.
pub const RETRY: Duration = Duration::from_secs(1);
/// For one call to the API server. Retries of the client itself must be off: one would land after its term.
pub const CALL: Duration = Duration::from_secs(2);

/// Why a call about the lease failed.
#[derive(Debug, thiserror::Error)]
enum LeaseError {
    #[error("the lease has changed since it was read")]
    Conflict,
    #[error("the API server refuses access to the lease; allow get, create and update on leases in Haldane's namespace")]
    Denied,
    #[error("the API server did not answer about the lease within {limit:?}")]
    Slow { limit: Duration },
    #[error("the API server failed on the lease")]
    Failed(#[source] kube::Error),
}

impl From<kube::Error> for LeaseError {
    fn from(error: kube::Error) -> Self {
        match &error {
            // 409 on create: another was first. 404 on replace: deleted meanwhile.
            kube::Error::Api(status) if matches!(status.code, 404 | 409) => Self::Conflict,
            kube::Error::Api(status) if matches!(status.code, 401 | 403) => Self::Denied,
            _ => Self::Failed(error),
        }
    }
}

impl Holder {
    /// This process of the pod with this uid.
    ///
    /// # Errors
    /// Without a uid.
    pub fn of_this_process(pod_uid: &str) -> Result<Self, NoIdentity> {
        // The standard library seeds its hashers from the system's randomness: 64 bits, enough to tell restarts apart.
        let random = std::hash::RandomState::new().build_hasher().finish();
        Self::new(pod_uid, &format!("{random:016x}"))
    }
}

impl LeaseView {
    fn of(lease: &Lease) -> Self {
        let spec = lease.spec.clone().unwrap_or_default();
        let seconds = spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok()).unwrap_or(0);
        Self {
            holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
            duration: Duration::from_secs(seconds),
            epoch: spec.lease_transitions.and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
            beat: spec.renew_time.map(|time| time.0),
        }
    }
}

/// Takes part in the election until it is told to stop.
pub struct Elector {
    api: Api<Lease>,
    name: String,
    me: Holder,
    clock: Arc<dyn Clock>,
    proofs: watch::Sender<Option<LeaderProof>>,
    /// Where the one that leads is found.
    leader: watch::Sender<Option<SocketAddr>>,
    seen: Option<Seen>,
    /// As last read or written: what the next write is based on.
    stored: Option<Lease>,
    /// Whether a write failed since the last look, so that `stored` may be out of date.
    stale: bool,
    leading: Option<Leading>,
    beat: i64,
    failing: bool,
    /// Who is told when the API server does not answer, and when it does.
    outages: Outages,
}

struct Leading {
    term: Term,
    epoch: u32,
    proof: LeaderProof,
}

impl Elector {
    /// An elector for the lease `name`, and where its result is seen.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str, me: Holder, clock: Arc<dyn Clock>) -> (Self, Leadership) {
        let (proofs, seen_by_others) = watch::channel(None);
        let (leader, found_by_others) = watch::channel(None);
        let elector = Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            me,
            clock,
            proofs,
            leader,
            seen: None,
            stored: None,
            stale: false,
            leading: None,
            beat: 0,
            failing: false,
            outages: Outages::default(),
        };
        (elector, Leadership::new(seen_by_others, found_by_others))
    }

    /// The same, which tells of outages here: nobody asks as regularly as we do.
    #[must_use]
    pub fn telling(self, outages: Outages) -> Self {
        Self { outages, ..self }
    }

    /// The lead without an election, for ever: for a single process (`--no-leader-election`) and for simulations. Its
    /// epoch is the second of its start, so that the next process has another.
    #[must_use]
    pub fn alone(clock: &dyn Clock) -> Leadership {
        let epoch = u64::try_from(clock.now().as_second()).unwrap_or(0);
        let (_, proofs) = watch::channel(Some(LeaderProof::endless(epoch, "alone")));
        Leadership::new(proofs, watch::channel(None).1)
    }

    /// Takes part until `shutdown`, then gives the lease back, so that another leads at once.
    ///
    /// Cancel `shutdown` after the writers have ended: from then on their proofs are void. Takes at most 4 calls
    /// (2 of a turn under way, 2 to release) × 2 s = 8 s to end.
    pub async fn run(mut self, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            let again = self.turn().await;
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = sleep_until(again) => {}
            }
        }
        self.release().await;
    }

    /// One look and one move; returns when the next is due.
    async fn turn(&mut self) -> Instant {
        if self.leading.as_ref().is_some_and(|leading| Instant::now() >= leading.term.ends()) {
            self.step_down("it could not be renewed in time");
        }
        if (self.leading.is_none() || self.stale)
            && let Err(error) = self.look().await
        {
            return self.after(&error);
        }
        match self.next() {
            Some(Move::Wait { until }) => until,
            Some(Move::Acquire { epoch }) => self.acquire(epoch).await,
            Some(Move::Renew) => self.renew().await,
            Some(Move::Lost) => {
                self.step_down("another holds it");
                Instant::now()
            }
            None => Instant::now() + RETRY,
        }
    }

    fn next(&self) -> Option<Move> {
        let term = self.leading.as_ref().map(|leading| &leading.term);
        self.seen.as_ref().map(|seen| next(seen, &self.me, term, Instant::now()))
    }

    async fn acquire(&mut self, epoch: u32) -> Instant {
        let sent = Instant::now();
        let now = self.beat();
        let spec = LeaseSpec { acquire_time: Some(now.clone()), ..self.spec(self.me.identity(), epoch, now) };
        match self.put(spec).await {
            Ok(()) => {
                let term = Term { renewed: sent };
                let proof = LeaderProof::new(u64::from(epoch), self.me.nonce(), term.ends());
                tracing::info!(lease = self.name, epoch, "leading");
                self.proofs.send_replace(Some(proof.clone()));
                self.leading = Some(Leading { term, epoch, proof });
                sent + RENEW
            }
            Err(error) => self.failed(error).await,
        }
    }

    async fn renew(&mut self) -> Instant {
        let Some(epoch) = self.leading.as_ref().map(|leading| leading.epoch) else { return Instant::now() };
        let sent = Instant::now();
        let now = self.beat();
        let spec = self.spec(self.me.identity(), epoch, now);
        match self.put(spec).await {
            Ok(()) => {
                if let Some(leading) = &mut self.leading {
                    leading.term = Term { renewed: sent };
                    leading.proof.extend(leading.term.ends());
                }
                sent + RENEW
            }
            Err(error) => self.failed(error).await,
        }
    }

    /// A write failed: it may still have happened, so nothing is written again before a look. After a conflict that look
    /// is due at once: another may lead.
    async fn failed(&mut self, error: LeaseError) -> Instant {
        self.stale = true;
        let again = self.after(&error);
        if matches!(error, LeaseError::Conflict) && self.look().await.is_ok() && self.next() == Some(Move::Lost) {
            self.step_down("another holds it");
        }
        again
    }

    /// When to try again after an error; a term ends in time even if that is sooner.
    fn after(&mut self, error: &LeaseError) -> Instant {
        if matches!(error, LeaseError::Slow { .. } | LeaseError::Failed(_)) {
            self.outages.silent(self.clock.now());
        }
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(lease = self.name, error = error as &dyn std::error::Error, "trying again each second");
        }
        let again = Instant::now() + RETRY;
        self.leading.as_ref().map_or(again, |leading| again.min(leading.term.ends()))
    }

    /// Ends the term. The proof first: whoever is told of the end must find it void already.
    fn step_down(&mut self, why: &'static str) {
        if let Some(leading) = self.leading.take() {
            leading.proof.revoke();
            self.proofs.send_replace(None);
            tracing::warn!(lease = self.name, epoch = leading.epoch, why, "leading no more");
        }
    }

    async fn release(&mut self) {
        self.step_down("shutting down");
        if let Err(error) = self.give_back().await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(lease = self.name, error, "not released; another takes over when it has run out");
        }
    }

    async fn give_back(&mut self) -> Result<(), LeaseError> {
        self.look().await?;
        let held = self.seen.as_ref().and_then(|seen| seen.lease.as_ref());
        let Some(epoch) = held.filter(|lease| lease.holder == Some(self.me.identity())).map(|lease| lease.epoch) else {
            return Ok(());
        };
        let now = self.beat();
        self.put(self.spec(String::new(), epoch, now)).await
    }

    async fn look(&mut self) -> Result<(), LeaseError> {
        let lease = self.limited(self.api.get_opt(&self.name)).await?;
        self.saw(lease);
        Ok(())
    }

    async fn put(&mut self, spec: LeaseSpec) -> Result<(), LeaseError> {
        let params = PostParams::default();
        let lease = if let Some(stored) = &self.stored {
            // Its resourceVersion goes along and is the precondition.
            let mut lease = Lease { spec: Some(spec), ..stored.clone() };
            self.sign(&mut lease);
            self.limited(self.api.replace(&self.name, &params, &lease)).await?
        } else {
            let mut lease = Lease { spec: Some(spec), ..Lease::default() };
            lease.metadata.name = Some(self.name.clone());
            self.sign(&mut lease);
            self.limited(self.api.create(&params, &lease)).await?
        };
        self.saw(Some(lease));
        Ok(())
    }

    /// Says where we are found, and nothing of a holder that is no more.
    fn sign(&self, lease: &mut Lease) {
        let ours = lease.spec.as_ref().is_some_and(|spec| spec.holder_identity.as_ref() == Some(&self.me.identity()));
        let address = self.me.address().filter(|_| ours).map(|address| address.to_string());
        let annotations = lease.metadata.annotations.get_or_insert_default();
        match address {
            Some(address) => drop(annotations.insert(LEADER_ADDRESS_ANNOTATION.to_owned(), address)),
            None => drop(annotations.remove(LEADER_ADDRESS_ANNOTATION)),
        }
    }

    /// No call outlives our term: what it would renew is over by then.
    async fn limited<T>(&self, call: impl Future<Output = kube::Result<T>>) -> Result<T, LeaseError> {
        let left = self.leading.as_ref().map(|leading| leading.term.ends().saturating_duration_since(Instant::now()));
        let limit = left.map_or(CALL, |left| left.min(CALL));
        match timeout(limit, call).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(LeaseError::Slow { limit }),
        }
    }

    fn saw(&mut self, lease: Option<Lease>) {
        let view = lease.as_ref().map(LeaseView::of);
        // The time after the answer: later than the truth, so that we wait too long rather than too short.
        let now = Instant::now();
        match &mut self.seen {
            Some(seen) => seen.look(view, now),
            None => self.seen = Some(Seen::first(view, &self.me, now)),
        }
        let address = lease.as_ref().and_then(|lease| lease.metadata.annotations.as_ref()?.get(LEADER_ADDRESS_ANNOTATION)?.parse().ok());
        self.leader.send_if_modified(|now| std::mem::replace(now, address) != address);
        self.stored = lease;
        self.stale = false;
        self.failing = false;
        self.outages.answered(self.clock.now());
    }

    /// What is stored, with our words in it; fields that we do not know stay.
    fn spec(&self, holder: String, epoch: u32, now: MicroTime) -> LeaseSpec {
        let stored = self.stored.as_ref().and_then(|lease| lease.spec.clone()).unwrap_or_default();
        LeaseSpec {
            holder_identity: Some(holder),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            lease_transitions: i32::try_from(epoch).ok(),
            renew_time: Some(now),
            ..stored
        }
    }

    /// For people to read; for the others only that it changes. So it moves on even if the wall clock stands or goes back:
    /// a write that changes nothing would look like silence.
    fn beat(&mut self) -> MicroTime {
        self.beat = self.clock.now().as_microsecond().max(self.beat.saturating_add(1));
        MicroTime(Timestamp::from_microsecond(self.beat).unwrap_or(Timestamp::MAX))
    }
}

#[cfg(test)]
mod tests;
