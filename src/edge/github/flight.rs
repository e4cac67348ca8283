//! One question for all who ask it at the same time.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};

use crate::edge::forge::ForgeError;

type Question<T> = BoxFuture<'static, Result<T, ForgeError>>;

/// The questions under way, by key. Nothing is kept of one that is over, and one that nobody waits for any more is dropped.
pub(super) struct Flights<T: Clone>(Mutex<HashMap<String, WeakShared<Question<T>>>>);

impl<T: Clone> Default for Flights<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Flights<T> {
    /// The question of that key that is under way, else one that starts now. All get its answer, also when it is an error: eight
    /// who wait for a forge that is ill do not ask it eight times.
    pub(super) fn join(&self, key: &str, start: impl FnOnce() -> Question<T>) -> Shared<Question<T>> {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // An answer that somebody still holds may be older than the caller's reason to ask.
        let under_way = flights.get(key).and_then(WeakShared::upgrade).filter(|flight| flight.peek().is_none());
        if let Some(flight) = under_way {
            return flight;
        }
        let flight = start().shared();
        flights.retain(|_, flight| flight.upgrade().is_some());
        if let Some(weak) = flight.downgrade() {
            flights.insert(key.to_owned(), weak);
        }
        flight
    }
}
