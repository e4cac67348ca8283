//! The proof that this process leads, which every write to the cluster asks for.
//!
//! A proof ends by itself: it is a time, moved on by each renewal, not a flag that somebody must remember to clear. So an
//! elector that hangs, panics or is dropped ends its proofs too.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// That this process leads, and in which term. Only the elector makes one; clones share its end.
#[derive(Debug, Clone)]
pub struct LeaderProof {
    epoch: u64,
    fence: Arc<str>,
    end: Arc<End>,
}

/// A write was about to happen without the lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this process does not lead any more (term {epoch}); the leader will do it")]
pub struct NotLeading {
    /// Of the term that is over.
    pub epoch: u64,
}

impl LeaderProof {
    pub(super) fn new(epoch: u64, nonce: &str, until: Instant) -> Self {
        let end = End { origin: Instant::now(), micros: AtomicU64::new(OVER) };
        end.move_to(until);
        Self { epoch, fence: format!("{epoch}.{nonce}").into(), end: Arc::new(end) }
    }

    pub(super) fn endless(epoch: u64, nonce: &str) -> Self {
        let end = End { origin: Instant::now(), micros: AtomicU64::new(NEVER) };
        Self { epoch, fence: format!("{epoch}.{nonce}").into(), end: Arc::new(end) }
    }

    pub(super) fn extend(&self, until: Instant) {
        self.end.move_to(until);
    }

    pub(super) fn revoke(&self) {
        self.end.micros.store(OVER, Ordering::Release);
    }

    /// Whether writing is allowed at `now`: false from [`MARGIN`](super::MARGIN) before another may start.
    ///
    /// On tokio's clock, which a step of the wall clock does not move. A machine that was suspended does not know it; there
    /// the precondition of each write is what stops the late one: the object has another version by then, or the next leader
    /// has not looked at it yet.
    #[must_use]
    pub fn still_valid(&self, now: Instant) -> bool {
        self.end.is_after(now)
    }

    /// To be asked right before each write.
    ///
    /// # Errors
    /// When the lead is over.
    pub fn ensure(&self) -> Result<(), NotLeading> {
        if self.still_valid(Instant::now()) { Ok(()) } else { Err(NotLeading { epoch: self.epoch }) }
    }

    /// The number of the term, `leaseTransitions` of the lease. Grows with each term, also of the same process.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Tells this term from all others: `<epoch>.<nonce>`. Unlike the epoch alone it differs from all before even if the lease
    /// was deleted and counts from 1 again.
    #[must_use]
    pub fn fence(&self) -> &str {
        &self.fence
    }
}

const OVER: u64 = 0;
const NEVER: u64 = u64::MAX;

/// A moment that can be moved, as microseconds after the term's start, or [`OVER`], or [`NEVER`].
#[derive(Debug)]
struct End {
    origin: Instant,
    micros: AtomicU64,
}

impl End {
    fn move_to(&self, until: Instant) {
        let micros = until.saturating_duration_since(self.origin).as_micros();
        self.micros.store(u64::try_from(micros).unwrap_or(NEVER - 1), Ordering::Release);
    }

    fn is_after(&self, now: Instant) -> bool {
        match self.micros.load(Ordering::Acquire) {
            OVER => false,
            NEVER => true,
            micros => now.saturating_duration_since(self.origin) < Duration::from_micros(micros),
        }
    }

    /// Waits for the end as it stands now; it may have been moved on meanwhile.
    async fn reached(&self) {
        match self.micros.load(Ordering::Acquire) {
            OVER => {}
            NEVER => std::future::pending().await,
            micros => tokio::time::sleep_until(self.origin + Duration::from_micros(micros)).await,
        }
    }
}

/// Who wants to know whether this process leads. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Leadership {
    proofs: watch::Receiver<Option<LeaderProof>>,
    leader: watch::Receiver<Option<SocketAddr>>,
}

impl Leadership {
    pub(crate) fn new(proofs: watch::Receiver<Option<LeaderProof>>, leader: watch::Receiver<Option<SocketAddr>>) -> Self {
        Self { proofs, leader }
    }

    /// Where the one that leads takes what is handed on to it, as it was seen last; none: nobody leads, or it did not say.
    #[must_use]
    pub fn leader_at(&self) -> Option<SocketAddr> {
        *self.leader.borrow()
    }

    /// The proof, if it is valid right now.
    #[must_use]
    pub fn current(&self) -> Option<LeaderProof> {
        self.proofs.borrow().clone().filter(|proof| proof.ensure().is_ok())
    }

    /// Waits until this process leads. Waits for ever if the elector has ended.
    pub async fn gained(&mut self) -> LeaderProof {
        loop {
            let proof = self.proofs.borrow_and_update().clone();
            if let Some(proof) = proof.filter(|proof| proof.ensure().is_ok()) {
                return proof;
            }
            self.changed().await;
        }
    }

    /// Waits until the term of this proof is over; at once if it is. Ends in time even if the elector is gone.
    pub async fn lost(&mut self, proof: &LeaderProof) {
        loop {
            let leads = self.proofs.borrow_and_update().as_ref().map(|now| now.fence.clone());
            if leads.as_ref() != Some(&proof.fence) || proof.ensure().is_err() {
                return;
            }
            tokio::select! {
                () = self.changed() => {}
                () = proof.end.reached() => {}
            }
        }
    }

    /// Waits for the next change. Without an elector nothing changes any more, and this never returns.
    async fn changed(&mut self) {
        if self.proofs.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
