//! What GitHub remembers beside git: apps, installations, tokens, checks, statuses, pull requests.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::{
    faults::Fault,
    git::Git,
    hooks::Delivery,
    keys::AppKey,
    limits::{Bucket, Limits, Resource, Seen},
};

/// Everything.
#[derive(Default)]
pub struct State {
    serial: u64,
    pub apps: BTreeMap<u64, App>,
    pub installations: BTreeMap<u64, Installation>,
    pub tokens: BTreeMap<String, Token>,
    pub repos: BTreeMap<u64, Repo>,
    /// Login by e-mail address.
    pub users: BTreeMap<String, String>,
    /// Manifests that a person has confirmed, by code.
    pub manifests: BTreeMap<String, Confirmed>,
    pub deliveries: Vec<Delivery>,
    pub limits: Limits,
    /// Requests that are being answered.
    pub under_way: u64,
    pub buckets: BTreeMap<(String, Resource), Bucket>,
    pub seen: Vec<Seen>,
    pub faults: Vec<Fault>,
    pub token_form: TokenForm,
}

/// A GitHub App.
pub struct App {
    pub id: u64,
    pub slug: String,
    pub name: String,
    pub owner: String,
    pub client_id: String,
    pub key: AppKey,
    pub permissions: BTreeMap<String, String>,
    pub events: Vec<String>,
    pub webhook: Option<Webhook>,
    pub created: Timestamp,
}

/// Where an app wants its events.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// `http://…`
    pub url: String,
    /// None: deliveries are not signed.
    #[serde(default)]
    pub secret: Option<String>,
}

/// An app on an account.
#[derive(Clone, Debug)]
pub struct Installation {
    pub id: u64,
    pub app: u64,
    pub account: String,
    /// None: on all.
    pub repositories: Option<BTreeSet<u64>>,
    pub suspended: Option<Timestamp>,
    pub created: Timestamp,
}

/// What a token of an installation opens.
#[derive(Clone, Debug)]
pub struct Token {
    pub installation: u64,
    pub expires: Timestamp,
    pub permissions: BTreeMap<String, String>,
    /// None: whatever the installation has.
    pub repositories: Option<BTreeSet<u64>>,
}

/// How tokens look. A client must take any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenForm {
    /// `ghs_` and 36 letters.
    #[default]
    Classic,
    /// `ghs_`, the id of the app, a JWT: some 500 characters.
    Long,
    /// So many characters.
    Length(usize),
}

/// A manifest that a person said yes to.
#[derive(Clone, Debug)]
pub struct Confirmed {
    pub manifest: Value,
    pub owner: String,
    pub expires: Timestamp,
}

/// A repository.
#[derive(Debug)]
pub struct Repo {
    pub id: u64,
    pub owner: String,
    pub name: String,
    /// `owner/name` that it had; they still lead here.
    pub former: Vec<String>,
    pub default_branch: String,
    pub git: Git,
    /// As they were when they were last told; what differs is news.
    pub refs: BTreeMap<String, String>,
    /// By commit.
    pub suites: BTreeMap<String, Vec<Suite>>,
    /// By commit, oldest first.
    pub statuses: BTreeMap<String, Vec<Status>>,
    pub pulls: BTreeMap<u64, Pull>,
    /// Names of workflows of Actions that a push starts.
    pub workflows: Vec<String>,
    pub created: Timestamp,
}

/// A check suite.
#[derive(Clone, Debug)]
pub struct Suite {
    pub id: u64,
    pub checks: Checks,
    pub branch: Option<String>,
    pub created: Timestamp,
    pub updated: Timestamp,
}

/// What a test says of a suite. REST's words: `queued`, `in_progress`, `completed`; `success`, `failure`, `cancelled`…
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Checks {
    /// The slug of the app.
    pub app: String,
    /// What started the workflow; only with one.
    pub event: Option<String>,
    /// Its name; none: not of Actions.
    pub workflow: Option<String>,
    pub status: String,
    pub conclusion: Option<String>,
    /// How many check runs it has.
    pub runs: u32,
}

impl Default for Checks {
    fn default() -> Self {
        Self { app: ACTIONS.to_owned(), event: None, workflow: None, status: "queued".to_owned(), conclusion: None, runs: 0 }
    }
}

/// The app of GitHub Actions.
pub const ACTIONS: &str = "github-actions";
const STATUSES: [&str; 6] = ["requested", "queued", "in_progress", "completed", "waiting", "pending"];
const CONCLUSIONS: [&str; 9] =
    ["action_required", "timed_out", "cancelled", "failure", "success", "neutral", "skipped", "startup_failure", "stale"];
/// States of a commit status.
pub const STATES: [&str; 4] = ["error", "failure", "pending", "success"];

impl Checks {
    /// A run of a workflow that a push started; queued.
    pub fn actions(workflow: &str) -> Self {
        Self { event: Some("push".to_owned()), workflow: Some(workflow.to_owned()), ..Self::default() }
    }

    /// The suite of another app; queued, and without a run.
    pub fn of(app: &str) -> Self {
        Self { app: app.to_owned(), ..Self::default() }
    }

    #[must_use]
    pub fn event(self, event: &str) -> Self {
        Self { event: Some(event.to_owned()), ..self }
    }

    #[must_use]
    pub fn running(self, runs: u32) -> Self {
        Self { status: "in_progress".to_owned(), conclusion: None, runs, ..self }
    }

    /// Ended like that, with at least one run.
    #[must_use]
    pub fn done(self, conclusion: &str) -> Self {
        Self { status: "completed".to_owned(), conclusion: Some(conclusion.to_owned()), runs: self.runs.max(1), ..self }
    }

    /// # Panics
    /// When GitHub has no such words.
    pub fn check(&self) {
        assert!(STATUSES.contains(&self.status.as_str()), "no status of a suite: {}", self.status);
        let conclusion = self.conclusion.as_deref();
        assert!(conclusion.is_none_or(|word| CONCLUSIONS.contains(&word)), "no conclusion of a suite: {conclusion:?}");
        assert_eq!(self.status == "completed", conclusion.is_some(), "a suite has a conclusion when it is completed");
    }

    /// Whether these are the checks of the same app and run.
    pub fn is(&self, other: &Self) -> bool {
        (&self.app, &self.workflow, &self.event) == (&other.app, &other.workflow, &other.event)
    }
}

/// A commit status.
#[derive(Clone, Debug)]
pub struct Status {
    pub id: u64,
    pub context: String,
    pub state: String,
    pub description: Option<String>,
    pub target_url: Option<String>,
    pub created: Timestamp,
}

/// A pull request.
#[derive(Clone, Debug)]
pub struct Pull {
    pub number: u64,
    pub title: String,
    pub head: String,
    pub base: String,
    pub author: String,
    pub merged: Option<Timestamp>,
    pub merge_commit: Option<String>,
    /// Those of its branch, and those that its merge made.
    pub commits: BTreeSet<String>,
}

impl State {
    /// The next number that nobody has.
    pub fn next_id(&mut self) -> u64 {
        self.serial += 1;
        // Numbers of GitHub do not begin at 1: nobody may take an id for an index.
        1_000 + self.serial
    }

    /// By any name that it has or had.
    pub fn repo(&self, owner: &str, name: &str) -> Option<&Repo> {
        let now = self.repos.values().find(|repo| repo.name.eq_ignore_ascii_case(name) && repo.owner.eq_ignore_ascii_case(owner));
        let full = format!("{owner}/{name}");
        now.or_else(|| self.repos.values().find(|repo| repo.former.iter().any(|former| former.eq_ignore_ascii_case(&full))))
    }

    /// The installation of an app on an account.
    pub fn installation(&self, app: u64, account: &str) -> Option<&Installation> {
        self.installations.values().find(|found| found.app == app && found.account.eq_ignore_ascii_case(account))
    }

    /// Whether this token opens this repository.
    pub fn opens(&self, token: &Token, repo: &Repo) -> bool {
        self.installations.get(&token.installation).is_some_and(|installation| installation.covers(repo))
            && token.repositories.as_ref().is_none_or(|some| some.contains(&repo.id))
    }
}

impl Installation {
    pub fn covers(&self, repo: &Repo) -> bool {
        self.account.eq_ignore_ascii_case(&repo.owner) && self.repositories.as_ref().is_none_or(|some| some.contains(&repo.id))
    }
}

impl Repo {
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    /// The commit of a branch.
    pub fn head(&self, branch: &str) -> Option<&String> {
        self.refs.get(&format!("refs/heads/{branch}"))
    }

    /// The latest of each context.
    pub fn latest_statuses(&self, oid: &str) -> Vec<Status> {
        let mut latest = BTreeMap::new();
        for status in self.statuses.get(oid).into_iter().flatten() {
            latest.insert(status.context.clone(), status.clone());
        }
        latest.into_values().collect()
    }

    /// The pull requests that a commit belongs to, newest last.
    pub fn pulls_of(&self, oid: &str) -> Vec<Pull> {
        self.pulls.values().filter(|pull| pull.commits.contains(oid)).cloned().collect()
    }
}

/// A moment as GitHub writes it: whole seconds, UTC.
pub fn moment(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).expect("a second of a valid timestamp").to_string()
}
