//! One clock for everything that is written down: the wall clock is read once, the rest is counted from there,
//! so that a step of the wall clock during a run cannot reorder what happened.

use jiff::Timestamp;
use tokio::time::Instant;

/// The wall clock at the start, and the monotonic clock that goes on from there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    unix_us: i64,
    since: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        #[expect(clippy::disallowed_methods, reason = "this program stands outside of the controller and has its own clock")]
        let now = Timestamp::now();
        Self { unix_us: now.as_microsecond(), since: Instant::now() }
    }

    /// Unix time in µs.
    pub(crate) fn now_us(&self) -> i64 {
        self.unix_us.saturating_add(i64::from(micros_since(self.since)))
    }
}

/// Saturates after 71 minutes; a run is at most 60.
pub(crate) fn micros_since(start: Instant) -> u32 {
    u32::try_from(start.elapsed().as_micros()).unwrap_or(u32::MAX)
}

/// `2026-11-21T10:00:00.123456Z`, for people.
pub(crate) fn readable(unix_us: i64) -> String {
    Timestamp::from_microsecond(unix_us).map_or_else(|_| unix_us.to_string(), |time| format!("{time:.6}"))
}
