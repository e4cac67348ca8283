//! Whether we ourselves were slow: a clock that ticks beside a flow and notices when it is late.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// A stall of s is seen as at least s − 10 ms. 100 ticks/s × 8 flows = 800 wake-ups/s at worst, only while probing.
const TICK: Duration = Duration::from_millis(10);

pub(super) struct Lag {
    due: Instant,
    worst: Duration,
}

impl Lag {
    pub(super) fn new() -> Self {
        Self { due: Instant::now() + TICK, worst: Duration::ZERO }
    }

    /// Ticks until dropped. In the same task as the flow, so that what holds up the flow holds up this, too.
    pub(super) async fn watch(&mut self) -> Infallible {
        loop {
            sleep_until(self.due).await;
            self.note(Instant::now());
        }
    }

    /// The worst so far, with a tick that is overdue right now.
    pub(super) fn worst(&mut self) -> Duration {
        let now = Instant::now();
        if now > self.due {
            self.note(now);
        }
        self.worst
    }

    fn note(&mut self, now: Instant) {
        self.worst = self.worst.max(now.saturating_duration_since(self.due));
        self.due = now + TICK;
    }
}
