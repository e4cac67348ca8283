//! How much may be asked: the primary limits (an hour), the secondary ones (a minute, and at the same time), and the meter that a test reads.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{hub::Hub, model::State};

/// GitHub's numbers unless a test says others.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Requests in an hour.
    pub rest: u64,
    /// Points in an hour.
    pub graphql: u64,
    /// Points in a minute; a request that writes has 5.
    pub rest_minute: u64,
    /// Points in a minute.
    pub graphql_minute: u64,
    /// Requests of anybody at the same time.
    pub together: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rest: 5_000, graphql: 5_000, rest_minute: 900, graphql_minute: 2_000, together: 100 }
    }
}

/// Separate budgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    Core,
    Graphql,
}

/// What somebody has used of a budget.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    pub used: u64,
    pub limit: u64,
    pub reset: Timestamp,
    minute: u64,
    minute_ends: Timestamp,
}

impl Bucket {
    pub fn remaining(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }
}

/// Why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Primary,
    Secondary,
}

/// A request that was answered.
#[derive(Clone, Debug, Serialize)]
pub struct Seen {
    pub at: Timestamp,
    pub method: String,
    /// Without `/api/v3`.
    pub path: String,
    /// As it was said, or would have been said had a fault not lost it.
    pub status: u16,
    /// `installation 1002`, `app 1001` or `nobody`.
    pub caller: String,
    pub resource: Resource,
    /// What it took of the budget.
    pub points: u64,
}

/// The sums of what an installation asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Used {
    pub requests: u64,
    pub rest: u64,
    pub graphql: u64,
}

/// A request that is being answered.
pub struct Place(Arc<Hub>);

impl Place {
    /// # Errors
    /// When there are too many.
    pub fn take(hub: &Arc<Hub>) -> Result<Self, Refusal> {
        let mut state = hub.lock();
        if state.under_way >= state.limits.together {
            return Err(Refusal::Secondary);
        }
        state.under_way += 1;
        Ok(Self(Arc::clone(hub)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.lock().under_way -= 1;
    }
}

impl State {
    /// Takes points of a budget. In a minute they count as many as GitHub says, in the hour a REST request is one.
    ///
    /// # Errors
    /// When there are none left; then nothing was taken.
    pub fn take(&mut self, caller: &str, resource: Resource, points: u64, minute: u64, now: Timestamp) -> Result<Bucket, Refusal> {
        let (limit, per_minute) = match resource {
            Resource::Core => (self.limits.rest, self.limits.rest_minute),
            Resource::Graphql => (self.limits.graphql, self.limits.graphql_minute),
        };
        let hour_ends = now + SignedDuration::from_hours(1);
        let next_minute = now + SignedDuration::from_mins(1);
        let key = (caller.to_owned(), resource);
        let bucket = self.buckets.entry(key).or_insert(Bucket { used: 0, limit, reset: hour_ends, minute: 0, minute_ends: next_minute });
        if bucket.reset <= now {
            (bucket.used, bucket.reset) = (0, hour_ends);
        }
        if bucket.minute_ends <= now {
            (bucket.minute, bucket.minute_ends) = (0, next_minute);
        }
        bucket.limit = limit;
        if bucket.used + points > limit {
            return Err(Refusal::Primary);
        }
        if bucket.minute + minute > per_minute {
            return Err(Refusal::Secondary);
        }
        bucket.used += points;
        bucket.minute += minute;
        Ok(*bucket)
    }

    /// Somebody else has used up all of a budget; it is full again at that second.
    pub fn spend(&mut self, caller: &str, resource: Resource, resets: Timestamp) {
        for (_, bucket) in self.buckets.iter_mut().filter(|((whose, which), _)| whose == caller && *which == resource) {
            (bucket.used, bucket.reset) = (bucket.limit, resets);
        }
    }

    /// Gives a point back: an answer of 304 costs nothing.
    pub fn refund(&mut self, caller: &str, resource: Resource) -> Option<Bucket> {
        let bucket = self.buckets.get_mut(&(caller.to_owned(), resource))?;
        bucket.used = bucket.used.saturating_sub(1);
        Some(*bucket)
    }

    /// What that caller asked so far.
    pub fn used(&self, caller: &str) -> Used {
        self.seen.iter().filter(|seen| seen.caller == caller).fold(Used::default(), |sum, seen| match seen.resource {
            Resource::Core => Used { requests: sum.requests + 1, rest: sum.rest + seen.points, ..sum },
            Resource::Graphql => Used { requests: sum.requests + 1, graphql: sum.graphql + seen.points, ..sum },
        })
    }
}
