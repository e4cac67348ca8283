//! What is to be looked at, and when: one workqueue for all controllers of the world.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::super::api::kinds::Key;

/// One thing for one controller to look at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    Deployment(Key),
    ReplicaSet(Key),
    Pod(Key),
    Service(Key),
    Namespace(Key),
    Route(Key),
    Gateway(Key),
    /// Walk the owner references of everything.
    Collect,
}

/// Ordered by time, then by arrival. A thing that waits already is not put in twice: the earlier time counts.
#[derive(Default)]
pub struct Queue {
    order: BTreeMap<(Instant, u64), Work>,
    waiting: BTreeMap<Work, (Instant, u64)>,
    arrivals: u64,
}

impl Queue {
    pub fn add(&mut self, work: Work, after: Duration) {
        self.arrivals += 1;
        let slot = (Instant::now() + after, self.arrivals);
        if self.waiting.get(&work).is_some_and(|stands| *stands <= slot) {
            return;
        }
        if let Some(later) = self.waiting.insert(work.clone(), slot) {
            self.order.remove(&later);
        }
        self.order.insert(slot, work);
    }

    /// The first thing whose time has come.
    pub fn due(&mut self) -> Option<Work> {
        let (slot, work) = self.order.first_key_value().filter(|((at, _), _)| *at <= Instant::now())?;
        let (slot, work) = (*slot, work.clone());
        self.order.remove(&slot);
        self.waiting.remove(&work);
        Some(work)
    }

    /// When the next thing is due.
    pub fn next(&self) -> Option<Instant> {
        self.order.first_key_value().map(|((at, _), _)| *at)
    }
}
