//! When a Delivery is looked at again: what a decision waits for, and how soon something that failed is tried again.
//!
//! Pure. Deliberately absent: a give-up. Whatever fails is tried again for ever, more and more slowly, and at once when
//! something changes.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use jiff::Timestamp;

use crate::model::decision::Wait;

/// The shortest pause between two looks at one Delivery: 20 looks a second × about 10 reads is what one app may cost.
pub const FLOOR: Duration = Duration::from_millis(50);
/// Before the look that follows a move: the move's own reads and writes take longer than this, and an app makes about ten in
/// a rollout.
pub const AGAIN: Duration = Duration::from_millis(5);
/// Between two looks while a version is on its way and something is awaited that nobody tells us about.
pub const POLL: Duration = Duration::from_millis(500);
/// The same while nothing is on its way.
pub const POLL_AT_REST: Duration = Duration::from_secs(1);
/// At rest everything is looked at again after about this long, should a watch have missed something.
pub const RESYNC: Duration = Duration::from_mins(10);
/// The pause after the first failure; it doubles with each further one.
pub const BACKOFF: Duration = Duration::from_millis(200);
/// The longest pause after a failure.
pub const BACKOFF_MOST: Duration = Duration::from_secs(30);

/// How something that failed is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// What it was based on has changed meanwhile: look again at once.
    AtOnce,
    /// Wait, and longer each time.
    Backoff,
    /// Not by this process: it leads no more, and whoever leads looks at everything.
    Never,
}

/// How long until the next look, for what a decision waits for. `uid` spreads the resyncs, so that not all Deliveries
/// that were read at one start are looked at in the same second.
#[must_use]
pub fn after(wait: Wait, rolling: bool, now: Timestamp, uid: &str) -> Duration {
    let resync = spread(RESYNC, uid);
    match wait {
        Wait::Now => AGAIN,
        Wait::Poll if rolling => POLL,
        Wait::Poll => POLL_AT_REST,
        // A moment that has passed is due now.
        Wait::Until(at) => Duration::try_from(at.duration_since(now)).unwrap_or(FLOOR).clamp(FLOOR, resync),
        Wait::Change => resync,
    }
}

/// How long until the next look after the `failures`-th failure in a row, counted from 1.
#[must_use]
pub fn after_failure(retry: Retry, failures: u32) -> Duration {
    match retry {
        // Should the lead come back meanwhile, it wakes everything anyway.
        Retry::Never => RESYNC,
        // A conflict that does not end is a fight with somebody: from the 5th on it is treated like any other failure.
        Retry::AtOnce if failures <= 4 => FLOOR,
        Retry::AtOnce => backoff(failures - 4),
        Retry::Backoff => backoff(failures),
    }
}

fn backoff(failures: u32) -> Duration {
    // 200 ms × 2^8 > 30 s, so more doublings than that change nothing.
    (BACKOFF * 2_u32.pow(failures.saturating_sub(1).min(8))).min(BACKOFF_MOST)
}

/// `span` ± 10 %, always the same for one uid.
fn spread(span: Duration, uid: &str) -> Duration {
    let mut hasher = DefaultHasher::new();
    uid.hash(&mut hasher);
    let permille = u32::try_from(hasher.finish() % 201).unwrap_or(0);
    span / 1000 * (900 + permille)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn a_wait_becomes_a_time() {
        assert_eq!(after(Wait::Now, true, at(100), "u"), AGAIN);
        assert_eq!(after(Wait::Poll, true, at(100), "u"), POLL);
        assert_eq!(after(Wait::Poll, false, at(100), "u"), POLL_AT_REST);
        assert_eq!(after(Wait::Until(at(107)), true, at(100), "u"), Duration::from_secs(7));
    }

    #[test]
    fn a_moment_that_has_passed_is_due_now_and_a_far_one_is_not_slept_through() {
        assert_eq!(after(Wait::Until(at(90)), true, at(100), "u"), FLOOR);
        assert_eq!(after(Wait::Until(Timestamp::MAX), true, at(100), "u"), after(Wait::Change, true, at(100), "u"));
    }

    #[test]
    fn resyncs_are_spread_around_ten_minutes() {
        let spans: Vec<Duration> = (0..100).map(|n| after(Wait::Change, false, at(100), &format!("uid-{n}"))).collect();
        assert!(spans.iter().all(|s| (540..=660).contains(&s.as_secs())), "{spans:?}");
        let different: std::collections::BTreeSet<&Duration> = spans.iter().collect();
        assert!(different.len() > 50, "{}", different.len());
        assert_eq!(spans[0], after(Wait::Change, false, at(999), "uid-0"), "the same app has the same rhythm");
    }

    #[test]
    fn failures_slow_down_to_half_a_minute() {
        let millis: Vec<u128> = (1..=10).map(|n| after_failure(Retry::Backoff, n).as_millis()).collect();
        assert_eq!(millis, [200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]);
        assert_eq!(after_failure(Retry::Backoff, u32::MAX), BACKOFF_MOST);
    }

    #[test]
    fn a_conflict_is_tried_at_once_but_not_for_ever() {
        let millis: Vec<u128> = (1..=6).map(|n| after_failure(Retry::AtOnce, n).as_millis()).collect();
        assert_eq!(millis, [50, 50, 50, 50, 200, 400]);
    }
}
