//! What may still be asked, and until when to be silent.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use http::{HeaderMap, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use crate::edge::forge::ForgeError;

/// How long to be silent when GitHub does not say: it asks for a minute at least.
const SILENCE: SignedDuration = SignedDuration::from_secs(60);
/// The most that we believe. Budgets are filled up each hour; an hour more for a clock that is wrong.
const SILENCE_MOST: SignedDuration = SignedDuration::from_hours(2);

/// What one API of GitHub has given and may still give. As last said by GitHub; unlimited where it never said anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Points in an hour.
    pub limit: Option<u64>,
    /// Those that are left.
    pub remaining: Option<u64>,
    /// When all are there again.
    pub resets: Option<Timestamp>,
    /// Calls since this process started.
    pub calls: u64,
    /// What they cost, in points.
    pub cost: u64,
}

/// The budgets of one installation, of the app itself, or of a person's token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// The account that the app is installed on, e.g. `acme`; `(app)`: the app's own; `(token)`: the person's.
    pub of: String,
    /// Of the REST API.
    pub rest: Rate,
    /// Of the GraphQL API.
    pub graphql: Rate,
    /// Until then some or all of it is not asked.
    pub silent_until: Option<Timestamp>,
}

/// Which budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Api {
    Rest,
    GraphQl,
}

/// `rateLimit` of a document.
#[derive(Deserialize)]
pub(super) struct Spent {
    cost: u64,
    limit: u64,
    remaining: u64,
    #[serde(rename = "resetAt")]
    resets: Timestamp,
}

/// One [`Budget`], as it moves.
pub(super) struct Meter {
    of: String,
    now: Mutex<Now>,
}

#[derive(Clone, Copy, Default)]
struct Now {
    rest: Side,
    graphql: Side,
}

#[derive(Clone, Copy, Default)]
struct Side {
    rate: Rate,
    closed: Option<Timestamp>,
}

impl Now {
    fn side(&mut self, api: Api) -> &mut Side {
        match api {
            Api::Rest => &mut self.rest,
            Api::GraphQl => &mut self.graphql,
        }
    }
}

impl Meter {
    pub(super) fn new(of: impl Into<String>) -> Self {
        Self { of: of.into(), now: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it may be asked.
    pub(super) fn open(&self, api: Api, now: Timestamp) -> Result<(), ForgeError> {
        match self.lock().side(api).closed {
            Some(until) if until > now => Err(ForgeError::Limited { until }),
            _ => Ok(()),
        }
    }

    /// Counts a call and keeps what its answer says of the budget. Is it spent, this API is not asked until it is filled up
    /// again; the other has one of its own.
    pub(super) fn note(&self, api: Api, headers: &HeaderMap, now: Timestamp) {
        let mut all = self.lock();
        let side = all.side(api);
        side.rate.calls += 1;
        if api == Api::Rest {
            side.rate.cost += 1;
        }
        // An answer of one API may tell of another budget (`search`, `integration_manifest`): that is none of ours.
        let ours = match header(headers, "x-ratelimit-resource") {
            Some("core") => api == Api::Rest,
            Some("graphql") => api == Api::GraphQl,
            Some(_) => false,
            None => true,
        };
        if !ours {
            return;
        }
        side.rate.limit = number(headers, "x-ratelimit-limit").or(side.rate.limit);
        side.rate.remaining = number(headers, "x-ratelimit-remaining").or(side.rate.remaining);
        side.rate.resets = resets(headers).or(side.rate.resets);
        if number(headers, "x-ratelimit-remaining") == Some(0) {
            side.closed = side.closed.max(resets(headers).map(|at| at.min(latest(now))));
        }
    }

    /// What a document says that it cost.
    pub(super) fn spent(&self, spent: &Spent) {
        let rate = &mut self.lock().graphql.rate;
        rate.cost = rate.cost.saturating_add(spent.cost);
        rate.limit = Some(spent.limit);
        rate.remaining = Some(spent.remaining);
        rate.resets = Some(spent.resets);
    }

    /// Nothing more is asked until then, of neither API: secondary limits are for both.
    pub(super) fn close(&self, until: Timestamp) {
        let mut all = self.lock();
        all.rest.closed = Some(until);
        all.graphql.closed = Some(until);
    }

    pub(super) fn of(&self) -> &str {
        &self.of
    }

    pub(super) fn budget(&self, now: Timestamp) -> Budget {
        let all = self.lock();
        let silent_until = all.rest.closed.max(all.graphql.closed).filter(|until| *until > now);
        Budget { of: self.of.clone(), rest: all.rest.rate, graphql: all.graphql.rate, silent_until }
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter").field("of", &self.of).finish_non_exhaustive()
    }
}

/// Until when this answer wants silence; none: it is not about limits. A 403 is either that or a refusal, and only the headers
/// and the words tell which.
pub(super) fn limited(status: StatusCode, headers: &HeaderMap, said: impl FnOnce() -> String, now: Timestamp) -> Option<Timestamp> {
    let spent = number(headers, "x-ratelimit-remaining") == Some(0);
    let words = || {
        let said = said().to_ascii_lowercase();
        said.contains("secondary rate limit") || said.contains("rate limit exceeded") || said.contains("abuse detection")
    };
    let about_limits = match status {
        StatusCode::TOO_MANY_REQUESTS => true,
        StatusCode::FORBIDDEN => spent || headers.contains_key("retry-after") || words(),
        _ => false,
    };
    about_limits.then(|| silence(headers, spent, now))
}

/// Until when to be silent: what it says, else, with the budget spent, when that is filled up, else a minute.
pub(super) fn silence(headers: &HeaderMap, spent: bool, now: Timestamp) -> Timestamp {
    let minute = now.saturating_add(SILENCE).unwrap_or(now);
    let after = number(headers, "retry-after")
        .map(|seconds| SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX)).min(SILENCE_MOST))
        .and_then(|pause| now.checked_add(pause).ok());
    let filled = resets(headers).filter(|at| spent && *at > now);
    after.or(filled).unwrap_or(minute).min(latest(now))
}

fn latest(now: Timestamp) -> Timestamp {
    now.saturating_add(SILENCE_MOST).unwrap_or(now)
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    header(headers, name)?.trim().parse().ok()
}

fn resets(headers: &HeaderMap) -> Option<Timestamp> {
    let second = number(headers, "x-ratelimit-reset")?;
    Timestamp::from_second(i64::try_from(second).ok()?).ok()
}
