//! GitHub (the public one, and Enterprise Server) behind [`Forge`].
//!
//! Read once: who asks for a repository (`desk`), how one question travels (`wire`), what it may cost (`budget`), how an answer
//! of GraphQL is read (`graphql`); then a file for each thing that is asked. Deliberately absent: retries (one exception: a
//! token that is not taken is renewed once), caches of answers (a fact is read when it is due), sleeping inside a call, writes,
//! and the library's own models: they fail on a field that we do not need, so answers are read into the few fields that we do.

mod access;
pub mod app;
mod budget;
mod checks;
mod desk;
mod file;
mod flight;
mod graphql;
mod heads;
mod history;
mod redelivery;
mod wire;

use std::{collections::BTreeMap, fmt, sync::Arc};

use futures::future::BoxFuture;
use jiff::Timestamp;

use crate::{
    clock::Clock,
    model::source::{Branch, CheckFacts, History, Repository, Sha},
};

use super::forge::{ApiBudget, Forge, ForgeError};
pub use access::{Access, SetupError};
pub use budget::{Budget, Rate};
use desk::Desk;
use wire::Wire;
pub use wire::{LIMIT, MOST};

/// One GitHub, asked with one set of credentials. Clones share tokens, budgets and connections.
#[derive(Clone)]
pub struct GitHub {
    desk: Arc<Desk>,
}

impl GitHub {
    /// A client for the GitHub whose REST API is at `base`: `https://api.github.com`, or of an Enterprise Server
    /// `https://ghe.acme.example/api/v3`. Certificates are verified against what the system trusts. To be called inside the
    /// async runtime that it is used in.
    ///
    /// # Errors
    /// When the address is none, or this image holds no system CAs.
    pub fn new(base: &str, access: Access, clock: Arc<dyn Clock>) -> Result<Self, SetupError> {
        Ok(Self { desk: Arc::new(Desk::new(Wire::new(base)?, access, clock)) })
    }

    /// What was asked so far and what may still be asked, one for each installation and one for the app itself, by name.
    #[must_use]
    pub fn budgets(&self) -> Vec<Budget> {
        self.desk.budgets()
    }
}

impl fmt::Debug for GitHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GitHub").field("at", &self.desk.wire.base()).field("access", &self.desk.access).finish_non_exhaustive()
    }
}

impl Forge for GitHub {
    fn heads<'a>(&'a self, branches: &'a [Branch]) -> BoxFuture<'a, Result<Vec<Result<Sha, ForgeError>>, ForgeError>> {
        Box::pin(heads::heads(&self.desk, branches))
    }

    fn history<'a>(&'a self, branch: &'a Branch, since: Option<&'a Sha>, limit: usize) -> BoxFuture<'a, Result<History, ForgeError>> {
        Box::pin(history::history(&self.desk, branch, since, limit))
    }

    fn checks<'a>(
        &'a self,
        repository: &'a Repository,
        commits: &'a [Sha],
    ) -> BoxFuture<'a, Result<BTreeMap<Sha, CheckFacts>, ForgeError>> {
        Box::pin(checks::checks(&self.desk, repository, commits))
    }

    fn file<'a>(
        &'a self,
        repository: &'a Repository,
        commit: &'a Sha,
        path: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Option<String>, ForgeError>> {
        Box::pin(file::file(&self.desk, repository, commit, path, limit))
    }

    fn repeat_missed(&self, since: Timestamp) -> BoxFuture<'_, Result<usize, ForgeError>> {
        Box::pin(redelivery::repeat_missed(&self.desk, since))
    }

    fn budgets(&self) -> Vec<ApiBudget> {
        let of = |api, rate: fn(&Budget) -> Rate| {
            let rates: Vec<Rate> = self.desk.budgets().iter().map(rate).collect();
            let least = rates.iter().filter(|rate| rate.remaining.is_some()).min_by_key(|rate| rate.remaining);
            ApiBudget {
                api,
                remaining: least.and_then(|rate| rate.remaining),
                limit: least.and_then(|rate| rate.limit),
                calls: rates.iter().map(|rate| rate.calls).sum(),
                points: rates.iter().map(|rate| rate.cost).sum(),
            }
        };
        vec![of("rest", |budget| budget.rest), of("graphql", |budget| budget.graphql)]
    }
}

#[cfg(test)]
mod tests;
