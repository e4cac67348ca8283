//! What the loop remembers of each Delivery between two passes, for one term of leadership.
//!
//! Nothing in it is needed after a restart: how often something failed, and a status that the API server refused to store,
//! so that the next decision goes on from there and not from the one before (a refused write never stops the way back).

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Key,
    pace::{self, Retry},
};
use crate::{
    act::evidence::Open,
    api::{delivery::Delivery, status::DeliveryStatus},
    model::decision::Reason,
};

/// How many times in a row a status may be refused before nothing moves forward any more: a conflict or a restart of the
/// API server is over by then (200 + 400 ms).
const REFUSED_MOST: u32 = 3;

/// What is remembered of one Delivery.
#[derive(Debug, Default)]
pub struct Memory {
    term: String,
    /// Passes that failed, in a row.
    pub failures: u32,
    /// A status that could not be stored.
    pub unwritten: Option<Unwritten>,
    /// What was bet on in the rollout in flight.
    pub evidence: Option<Open>,
}

/// A status that could not be stored.
#[derive(Debug)]
pub struct Unwritten {
    /// Of the Delivery that it belongs to; one made again under the same name starts anew.
    pub uid: String,
    /// What it would say.
    pub status: DeliveryStatus,
    /// What the API server has instead.
    pub instead_of: Option<DeliveryStatus>,
    /// What people are to be told once it is stored.
    pub notes: Vec<Reason>,
    /// Refusals in a row.
    pub failures: u32,
    /// When it is tried again.
    pub again: Instant,
    /// The last refusal.
    pub refusal: String,
}

impl Memory {
    /// The status to go on from, if the API server did not store it.
    #[must_use]
    pub fn status(&self, uid: &str) -> Option<&DeliveryStatus> {
        self.unwritten.as_ref().filter(|u| u.uid == uid).map(|u| &u.status)
    }

    /// The Delivery was read with this status. One that is neither what we wanted to replace nor what we wanted to write is
    /// somebody else's, who went on from there; so do we.
    pub fn overtaken_by(&mut self, stored: Option<&DeliveryStatus>) {
        if self.unwritten.as_ref().is_some_and(|u| stored != u.instead_of.as_ref() && stored != Some(&u.status)) {
            self.unwritten = None;
        }
    }

    /// Why nothing may move forward: a crash now would lose where the rollout stands.
    #[must_use]
    pub fn problem(&self) -> Option<Reason> {
        let unwritten = self.unwritten.as_ref().filter(|u| u.failures >= REFUSED_MOST)?;
        let why = format!("the status cannot be stored, so nothing moves forward until it can: {}", unwritten.refusal);
        Some(Reason::Invalid { why })
    }

    /// Whether the status is to be written now: not while a refused one waits for its next try.
    #[must_use]
    pub fn write_due(&self, now: Instant) -> bool {
        self.unwritten.as_ref().is_none_or(|u| now >= u.again)
    }

    /// How long until a refused write is tried again.
    #[must_use]
    pub fn rewrite_in(&self, now: Instant) -> Duration {
        self.unwritten.as_ref().map_or(pace::FLOOR, |u| u.again.saturating_duration_since(now).max(pace::FLOOR))
    }

    /// The status was not stored in place of the one of `stored`: remembers it. `refusal` is none when it was not tried.
    pub fn not_stored(
        &mut self,
        stored: &Delivery,
        status: DeliveryStatus,
        notes: Vec<Reason>,
        refusal: Option<(Retry, String)>,
        now: Instant,
    ) {
        let uid = stored.metadata.uid.as_deref().unwrap_or_default();
        let before = self.unwritten.take().filter(|u| u.uid == uid);
        let mut next = before.unwrap_or_else(|| Unwritten {
            uid: uid.to_owned(),
            status: DeliveryStatus::default(),
            instead_of: stored.status.clone(),
            notes: Vec::new(),
            failures: 0,
            again: now,
            refusal: String::new(),
        });
        next.status = status;
        next.notes.extend(notes);
        if let Some((retry, says)) = refusal {
            next.failures += 1;
            next.again = now + pace::after_failure(retry, next.failures);
            next.refusal = says;
        }
        self.unwritten = Some(next);
    }

    /// The status was stored: what people are still to be told from before.
    pub fn stored(&mut self, uid: &str) -> Vec<Reason> {
        self.unwritten.take().filter(|u| u.uid == uid).map(|u| u.notes).unwrap_or_default()
    }
}

/// The memories of all Deliveries.
#[derive(Debug, Default)]
pub struct Memories {
    by_key: Mutex<BTreeMap<Key, Memory>>,
}

impl Memories {
    /// Takes the memory of one Delivery out for a pass. That of another term is void: another leader may have gone on.
    pub fn take(&self, key: &Key, term: &str) -> Memory {
        let kept = self.by_key.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        kept.filter(|m| m.term == term).unwrap_or_else(|| Memory { term: term.to_owned(), ..Memory::default() })
    }

    /// Puts it back after the pass.
    pub fn keep(&self, key: &Key, memory: Memory) {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), memory);
    }

    /// The Delivery is gone.
    pub fn forget(&self, key: &Key) {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// The term is over.
    pub fn forget_all(&self) {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(phase: &str) -> DeliveryStatus {
        DeliveryStatus { phase: Some(phase.to_owned()), ..DeliveryStatus::default() }
    }

    fn delivery(uid: &str, phase: &str) -> Delivery {
        let spec = serde_json::from_value(serde_json::json!({"workloads": [{"name": "shop"}]})).unwrap();
        let mut delivery = Delivery::new("shop", spec);
        delivery.metadata.uid = Some(uid.to_owned());
        delivery.status = Some(status(phase));
        delivery
    }

    fn refused() -> (Retry, String) {
        (Retry::Backoff, "500".to_owned())
    }

    #[test]
    fn a_refused_status_is_gone_on_from_and_tried_again_more_and_more_slowly() {
        let now = Instant::now();
        let mut memory = Memory::default();
        assert!(memory.write_due(now));
        memory.not_stored(&delivery("u", "Canary"), status("RollingBack"), vec![Reason::DeliveryDeleted], Some(refused()), now);
        assert_eq!(memory.status("u"), Some(&status("RollingBack")));
        assert!(!memory.write_due(now + Duration::from_millis(199)));
        assert!(memory.write_due(now + Duration::from_millis(200)));

        memory.not_stored(&delivery("u", "Canary"), status("RolledBack"), Vec::new(), None, now);
        assert_eq!(memory.status("u"), Some(&status("RolledBack")), "a pass that does not try moves on all the same");
        assert!(memory.write_due(now + Duration::from_millis(200)), "and does not put the next try off");

        memory.not_stored(&delivery("u", "Canary"), status("RolledBack"), Vec::new(), Some(refused()), now);
        assert!(!memory.write_due(now + Duration::from_millis(399)));
        assert_eq!(memory.stored("u"), [Reason::DeliveryDeleted], "nothing that people should be told is lost");
        assert_eq!(memory.status("u"), None);
    }

    #[test]
    fn a_status_that_somebody_else_wrote_meanwhile_is_gone_on_from() {
        let mut memory = Memory::default();
        memory.not_stored(&delivery("u", "Canary"), status("Guarding"), Vec::new(), Some(refused()), Instant::now());
        memory.overtaken_by(Some(&status("Canary")));
        assert_eq!(memory.status("u"), Some(&status("Guarding")), "only the spec was changed");
        memory.overtaken_by(Some(&status("Guarding")));
        assert_eq!(memory.status("u"), Some(&status("Guarding")), "only the answer was lost");
        memory.overtaken_by(Some(&status("RollingBack")));
        assert_eq!(memory.status("u"), None);
    }

    #[test]
    fn nothing_moves_forward_when_the_status_is_refused_again_and_again() {
        let now = Instant::now();
        let mut memory = Memory::default();
        for _ in 0..REFUSED_MOST - 1 {
            memory.not_stored(&delivery("u", "Canary"), status("Canary"), Vec::new(), Some(refused()), now);
        }
        assert_eq!(memory.problem(), None, "a hiccup is no reason to hold");
        memory.not_stored(&delivery("u", "Canary"), status("Canary"), Vec::new(), Some(refused()), now);
        assert!(memory.problem().unwrap().to_string().contains("cannot be stored"));
        memory.stored("u");
        assert_eq!(memory.problem(), None);
    }

    #[test]
    fn a_delivery_made_again_and_another_term_start_anew() {
        let mut memory = Memory::default();
        memory.not_stored(&delivery("old", "Live"), status("Canary"), Vec::new(), Some(refused()), Instant::now());
        assert_eq!(memory.status("new"), None);

        let (memories, key) = (Memories::default(), Key::new("shop", "checkout"));
        memories.keep(&key, Memory { term: "1.a".to_owned(), failures: 3, unwritten: None, evidence: None });
        assert_eq!(memories.take(&key, "2.b").failures, 0);
        memories.keep(&key, Memory { term: "2.b".to_owned(), failures: 3, unwritten: None, evidence: None });
        assert_eq!(memories.take(&key, "2.b").failures, 3);
    }
}
