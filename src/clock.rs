//! Where time comes from. Nothing else in the crate reads a clock, so a test owns all of it.
//!
//! Two kinds, never mixed: a [`Clock`] says what people call now (stored, shown, compared with what was stored); a
//! [`Stopwatch`] says how long something took, and no step of the wall clock can falsify it.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// What people call now.
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> Timestamp;
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// Measures how long something takes, on tokio's clock, which stands still in a test that pauses it.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch {
    started: Instant,
}

impl Stopwatch {
    /// Starts measuring.
    #[must_use]
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// The time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stopwatch_follows_the_time_that_a_test_owns() {
        let watch = Stopwatch::start();
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(watch.elapsed(), Duration::from_secs(90));
    }
}
