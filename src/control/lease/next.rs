//! What to do about the lease: pure, from what was seen, who we are, and our own monotonic clock.
//!
//! The other's wall clock is never compared with ours. "It has not moved for its duration" is measured from when *we* last
//! saw it move, which is never earlier than when it moved, so we can only be late, never early.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::{DURATION, LEAD, RENEW, RETRY};

/// Who asks: one process of one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pod: String,
    nonce: String,
    /// Where the others find it while it leads.
    address: Option<SocketAddr>,
}

impl Holder {
    /// From the pod's uid (downward API) and something that no other process of this pod has.
    ///
    /// # Errors
    /// Without a uid two pods would look like each other's next process, and both would take over at once.
    pub fn new(pod_uid: &str, nonce: &str) -> Result<Self, NoIdentity> {
        let usable = |part: &str| !part.is_empty() && !part.contains('/');
        if !usable(pod_uid) || !usable(nonce) {
            return Err(NoIdentity);
        }
        Ok(Self { pod: pod_uid.to_owned(), nonce: nonce.to_owned(), address: None })
    }

    /// The same, to be found here by the others.
    #[must_use]
    pub fn at(self, address: Option<SocketAddr>) -> Self {
        Self { address, ..self }
    }

    /// Where the others find it.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// As stored in `holderIdentity`: `<pod uid>/<nonce>`.
    #[must_use]
    pub fn identity(&self) -> String {
        format!("{}/{}", self.pod, self.nonce)
    }

    /// What sets this process apart from the pod's other ones.
    #[must_use]
    pub fn nonce(&self) -> &str {
        &self.nonce
    }

    /// Whether this identity is of the same pod, but of another process.
    fn is_other_process(&self, identity: &str) -> bool {
        identity.split_once('/').is_some_and(|(pod, nonce)| pod == self.pod && nonce != self.nonce)
    }
}

/// There is nothing to tell this process from others by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("leader election needs the pod's uid; set POD_UID from metadata.uid (downward API), or use --no-leader-election with one replica")]
pub struct NoIdentity;

/// The lease as stored, as far as it matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseView {
    /// `None`: released.
    pub holder: Option<String>,
    /// The holder's own promise for how long it stops after its last renewal.
    pub duration: Duration,
    /// `leaseTransitions`.
    pub epoch: u32,
    /// `renewTime`: compared for equality only.
    pub beat: Option<jiff::Timestamp>,
}

/// What this process has seen of the lease so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The last look; `None`: there was no lease.
    pub lease: Option<LeaseView>,
    /// When a look first showed it like this, on our clock.
    pub changed: Instant,
    /// The highest epoch ever seen: outlives a deleted lease.
    pub epoch: u32,
    /// Another process of our own pod that held it when we first looked. It has ended: a container starts only after.
    predecessor: Option<String>,
    looks: Looks,
}

/// A lease that is missing at the first look was never there; one that goes missing later may still be believed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looks {
    OnlyAbsent,
    Present,
}

impl Seen {
    /// The first look.
    #[must_use]
    pub fn first(lease: Option<LeaseView>, me: &Holder, now: Instant) -> Self {
        let holder = lease.as_ref().and_then(|lease| lease.holder.clone());
        Self {
            changed: now,
            epoch: lease.as_ref().map_or(0, |lease| lease.epoch),
            predecessor: holder.filter(|holder| me.is_other_process(holder)),
            looks: if lease.is_some() { Looks::Present } else { Looks::OnlyAbsent },
            lease,
        }
    }

    /// A later look, whose answer arrived at `now`.
    pub fn look(&mut self, lease: Option<LeaseView>, now: Instant) {
        if lease != self.lease {
            self.changed = now;
        }
        if let Some(lease) = &lease {
            self.epoch = self.epoch.max(lease.epoch);
            self.looks = Looks::Present;
        }
        self.lease = lease;
    }
}

/// Our own leadership, as long as we believe in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    /// When the last renewal that succeeded was *sent*: the others cannot have seen it before.
    pub renewed: Instant,
}

impl Term {
    /// When we must have stopped: [`MARGIN`](super::MARGIN) before another may start.
    #[must_use]
    pub fn ends(&self) -> Instant {
        self.renewed + LEAD
    }
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// Write our name into it; the term gets this epoch.
    Acquire {
        /// Never one that was seen before.
        epoch: u32,
    },
    /// Write that we are still here (and create it anew, should someone have deleted it).
    Renew,
    /// Nothing; look again then.
    Wait {
        /// A renewal is due, or the lease may be free.
        until: Instant,
    },
    /// We lead no more: stop writing.
    Lost,
}

/// What to do about the lease.
///
/// The order of the questions is the policy: a term that is over ends before anything else is asked, and nobody who leads
/// is passed over while it may still believe in its lead.
#[must_use]
pub fn next(seen: &Seen, me: &Holder, term: Option<&Term>, now: Instant) -> Move {
    match term {
        Some(term) => keep(seen, me, term, now),
        None => gain(seen, me, now),
    }
}

fn keep(seen: &Seen, me: &Holder, term: &Term, now: Instant) -> Move {
    let ours = |lease: &LeaseView| lease.holder == Some(me.identity());
    if now >= term.ends() || !seen.lease.as_ref().is_none_or(ours) {
        return Move::Lost;
    }
    let due = term.renewed + RENEW;
    // A deleted lease is mended at once: somebody who starts just now would find it free.
    if now < due && seen.lease.is_some() { Move::Wait { until: due } } else { Move::Renew }
}

fn gain(seen: &Seen, me: &Holder, now: Instant) -> Move {
    let acquire = Move::Acquire { epoch: after(seen.epoch) };
    let free_at = match &seen.lease {
        None if seen.looks == Looks::OnlyAbsent => return acquire,
        // It was deleted; whoever led may not know yet.
        None => seen.changed + DURATION,
        Some(lease) => match &lease.holder {
            None => return acquire,
            // Our own write whose answer was lost, or a term that we ended ourselves. A new epoch: it is a new term.
            Some(holder) if *holder == me.identity() => return acquire,
            Some(holder) if seen.predecessor.as_ref() == Some(holder) => return acquire,
            Some(_) => seen.changed + patience(lease.duration),
        },
    };
    if now >= free_at { acquire } else { Move::Wait { until: free_at.min(now + RETRY) } }
}

/// Another version of us may promise another duration, so the longer one counts; a nonsensical one does not lock us out.
fn patience(promised: Duration) -> Duration {
    const AT_MOST: Duration = Duration::from_mins(1);
    promised.clamp(DURATION, AT_MOST)
}

/// Only that it differs from all before matters, so at the end of the API's i32 it begins again.
fn after(epoch: u32) -> u32 {
    if epoch < i32::MAX.unsigned_abs() { epoch + 1 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: &str = "pod-a/2";

    fn me() -> Holder {
        Holder::new("pod-a", "2").unwrap()
    }

    fn lease(holder: &str) -> LeaseView {
        let holder = (!holder.is_empty()).then(|| holder.to_owned());
        LeaseView { holder, duration: DURATION, epoch: 7, beat: None }
    }

    fn secs(from: Instant, seconds: f64) -> Instant {
        from + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn who_does_not_lead() {
        let start = Instant::now();
        let first = |lease| Seen::first(lease, &me(), start);
        let later = |was: Option<LeaseView>, is: Option<LeaseView>| {
            let mut seen = first(was);
            seen.look(is, start);
            seen
        };
        let wait = |seconds| Move::Wait { until: secs(start, seconds) };
        let acquire = Move::Acquire { epoch: 8 };
        let long = LeaseView { duration: Duration::from_secs(15), ..lease("pod-b/1") };
        let forever = LeaseView { duration: Duration::from_hours(1), ..lease("pod-b/1") };
        let hasty = LeaseView { duration: Duration::ZERO, ..lease("pod-b/1") };
        let used_up = LeaseView { epoch: i32::MAX.unsigned_abs(), ..lease("") };
        let table = [
            ("the very first start", first(None), 0.0, Move::Acquire { epoch: 1 }),
            ("still none at a later look", later(None, None), 0.0, Move::Acquire { epoch: 1 }),
            ("released", first(Some(lease(""))), 0.0, acquire),
            ("released while we wait", later(Some(lease("pod-b/1")), Some(lease(""))), 0.0, acquire),
            ("our own name without a term", first(Some(lease(ME))), 0.0, acquire),
            ("our pod's process before us", first(Some(lease("pod-a/1"))), 0.0, acquire),
            ("our pod's process after us", later(Some(lease("pod-b/1")), Some(lease("pod-a/3"))), 0.0, wait(1.0)),
            ("a pod whose uid begins like ours", first(Some(lease("pod-a1/1"))), 0.0, wait(1.0)),
            ("an identity that is not of our form", first(Some(lease("pod-a"))), 0.0, wait(1.0)),
            ("another pod, just seen", first(Some(lease("pod-b/1"))), 0.0, wait(1.0)),
            ("another pod, almost over", first(Some(lease("pod-b/1"))), 7.5, wait(8.0)),
            ("another pod, over", first(Some(lease("pod-b/1"))), 8.0, acquire),
            ("another pod with a longer promise", first(Some(long.clone())), 14.5, wait(15.0)),
            ("another pod with a longer promise, over", first(Some(long)), 15.0, acquire),
            ("another pod with an absurd promise", first(Some(forever)), 60.0, acquire),
            ("another pod that promises nothing", first(Some(hasty)), 7.0, wait(8.0)),
            ("deleted while we wait", later(Some(lease("pod-b/1")), None), 7.5, wait(8.0)),
            ("deleted long ago", later(Some(lease("pod-b/1")), None), 8.0, acquire),
            ("the last epoch that the API can hold", first(Some(used_up)), 0.0, Move::Acquire { epoch: 1 }),
        ];
        for (case, seen, at, wanted) in table {
            assert_eq!(next(&seen, &me(), None, secs(start, at)), wanted, "{case}");
        }
    }

    #[test]
    fn who_leads() {
        let start = Instant::now();
        let term = Term { renewed: start };
        let table = [
            ("just renewed", Some(lease(ME)), 0.0, Move::Wait { until: secs(start, 2.0) }),
            ("not due yet", Some(lease(ME)), 1.9, Move::Wait { until: secs(start, 2.0) }),
            ("due", Some(lease(ME)), 2.0, Move::Renew),
            ("late, but in time", Some(lease(ME)), 5.9, Move::Renew),
            ("too late", Some(lease(ME)), 6.0, Move::Lost),
            ("taken by another", Some(lease("pod-b/1")), 0.0, Move::Lost),
            ("taken by our pod's next process", Some(lease("pod-a/3")), 0.0, Move::Lost),
            ("emptied by hand", Some(lease("")), 0.0, Move::Lost),
            ("deleted", None, 0.5, Move::Renew),
            ("deleted, and too late", None, 6.0, Move::Lost),
        ];
        for (case, lease, at, wanted) in table {
            let seen = Seen::first(lease, &me(), start);
            assert_eq!(next(&seen, &me(), Some(&term), secs(start, at)), wanted, "{case}");
        }
    }

    #[test]
    fn only_a_change_of_the_lease_resets_the_wait() {
        let start = Instant::now();
        let mut seen = Seen::first(Some(lease("pod-b/1")), &me(), start);
        seen.look(Some(lease("pod-b/1")), secs(start, 5.0));
        assert_eq!(seen.changed, start);
        let beat = Some(jiff::Timestamp::UNIX_EPOCH);
        seen.look(Some(LeaseView { beat, ..lease("pod-b/1") }), secs(start, 6.0));
        assert_eq!(seen.changed, secs(start, 6.0));
    }

    #[test]
    fn an_epoch_is_not_used_again_after_the_lease_was_deleted() {
        let start = Instant::now();
        let mut seen = Seen::first(Some(lease("pod-b/1")), &me(), start);
        seen.look(None, start);
        seen.look(Some(LeaseView { epoch: 1, ..lease("") }), start);
        assert_eq!(next(&seen, &me(), None, start), Move::Acquire { epoch: 8 });
    }

    #[test]
    fn a_process_that_cannot_be_told_from_others_may_not_take_part() {
        for (pod, nonce) in [("", "1"), ("pod-a", ""), ("pod/a", "1"), ("pod-a", "1/2")] {
            assert_eq!(Holder::new(pod, nonce), Err(NoIdentity), "{pod:?} {nonce:?}");
        }
    }
}
