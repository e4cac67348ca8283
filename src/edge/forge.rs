//! Where merges happen, behind one small trait: GitHub today; GitLab or Gitea fit behind it without a change elsewhere.
//!
//! It states facts and forgets them. What a fact means is decided in `decide::source`; who asks, and how often, is in
//! `control::source`. Deliberately absent: retries (a fact that could not be read is read again when it is due), and any type
//! of the library that carries the calls.

use std::{collections::BTreeMap, time::Duration};

use futures::future::BoxFuture;
use jiff::Timestamp;

use crate::model::source::{Branch, CheckFacts, History, Repository, Sha};

/// What of a forge is asked.
pub trait Forge: Send + Sync {
    /// The newest commit of each of these branches, in their order; each answer stands for itself.
    ///
    /// # Errors
    /// When none of them could be read.
    fn heads<'a>(&'a self, branches: &'a [Branch]) -> BoxFuture<'a, Result<Vec<Result<Sha, ForgeError>>, ForgeError>>;

    /// The first-parent line of the branch from its head down to `since`, at most `limit` commits of it.
    ///
    /// # Errors
    /// When it could not be read, wholly.
    fn history<'a>(&'a self, branch: &'a Branch, since: Option<&'a Sha>, limit: usize) -> BoxFuture<'a, Result<History, ForgeError>>;

    /// What ran on each of these commits. One that the forge does not know, or of which it could not tell all, is missing: half a
    /// list could hide what failed.
    ///
    /// # Errors
    /// When they could not be read, all.
    fn checks<'a>(&'a self, repository: &'a Repository, commits: &'a [Sha])
    -> BoxFuture<'a, Result<BTreeMap<Sha, CheckFacts>, ForgeError>>;

    /// A file of the repository at that commit, with U+FFFD for what is not UTF-8; none: there is none of that path.
    ///
    /// # Errors
    /// When it could not be read, or is longer than `limit` bytes.
    fn file<'a>(
        &'a self,
        repository: &'a Repository,
        commit: &'a Sha,
        path: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Option<String>, ForgeError>>;

    /// Asks for the events since then that did not reach us to be sent again; how many those were. A forge that repeats them by
    /// itself has nothing to do.
    ///
    /// # Errors
    /// When it could not be asked.
    fn repeat_missed(&self, since: Timestamp) -> BoxFuture<'_, Result<usize, ForgeError>>;

    /// What was asked so far and what may still be asked, one for each API.
    fn budgets(&self) -> Vec<ApiBudget>;
}

/// What one API of a forge has given and may still give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiBudget {
    /// Which, in a word: `rest`, `graphql`.
    pub api: &'static str,
    /// Points that are left this hour; of several accounts the least.
    pub remaining: Option<u64>,
    /// Points in an hour, of that account.
    pub limit: Option<u64>,
    /// Calls since this process started.
    pub calls: u64,
    /// What they cost, in points.
    pub points: u64,
}

/// Why the forge did not say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForgeError {
    /// It is not there, or not for us: the forge does not tell these apart.
    #[error("{what} does not exist at the forge, or Haldane's app is not installed on it; check the name, or install the app there")]
    Absent {
        /// What.
        what: String,
    },
    /// Our credentials are not taken.
    #[error("the forge does not take Haldane's credentials ({said}); renew them: haldane github setup")]
    Denied {
        /// Its words.
        said: String,
    },
    /// Too much was asked; it says, or we take it to mean, until when to be silent.
    #[error("the forge wants no more questions until {until:.0}")]
    Limited {
        /// Until then nothing is asked.
        until: Timestamp,
    },
    /// No answer in time.
    #[error("the forge did not answer within {limit:?}")]
    Slow {
        /// For how long we waited.
        limit: Duration,
    },
    /// It is ill, or cannot be reached.
    #[error("the forge cannot be reached or is ill ({said})")]
    Ill {
        /// What it said, or what the connection did.
        said: String,
    },
    /// Its answer is not what it says that it is.
    #[error("the forge answered something that cannot be read ({said})")]
    Unreadable {
        /// Where it does not fit.
        said: String,
    },
    /// There is more than we take.
    #[error("{what} is longer than {limit} bytes")]
    TooLong {
        /// What.
        what: String,
        /// The limit.
        limit: usize,
    },
}
