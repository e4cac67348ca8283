//! The one clock of a simulation: a fixed day plus tokio's (paused) time.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// Tells the time of the simulated cluster. Cheap to copy; all copies agree.
#[derive(Clone, Copy, Debug)]
pub struct SimClock {
    base: Timestamp,
    start: Instant,
}

impl SimClock {
    /// A clock that says `base` now, and moves with tokio's time from here on.
    pub fn starting_at(base: Timestamp) -> Self {
        Self { base, start: Instant::now() }
    }

    /// A Monday morning: inside every window that a sensible team would write.
    pub fn monday() -> Self {
        Self::starting_at("2026-01-05T09:00:00Z".parse().expect("a constant date"))
    }

    /// The time of the simulated cluster.
    pub fn now(&self) -> Timestamp {
        self.base + self.elapsed()
    }

    /// Virtual time since the simulation began.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// As `metadata.creationTimestamp` and conditions have it: whole seconds.
    pub fn seconds(&self) -> String {
        whole_seconds(self.now())
    }
}

/// RFC 3339 without a fraction, which is what `metav1.Time` stores.
pub fn whole_seconds(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).expect("a second of a valid timestamp").to_string()
}

/// Reads what [`whole_seconds`] or the server wrote.
pub fn parse(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}
