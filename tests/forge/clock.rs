//! A clock that stands still until a test moves it.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use haldane::clock::Clock;
use jiff::Timestamp;

/// Tells the time that it was told.
#[derive(Debug)]
pub struct HandClock {
    at: Mutex<Timestamp>,
}

impl HandClock {
    /// A Monday morning.
    pub fn monday() -> Self {
        Self { at: Mutex::new("2026-01-05T09:00:00Z".parse().expect("a constant date")) }
    }

    /// Moves it on.
    pub fn advance(&self, by: Duration) {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
