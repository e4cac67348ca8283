//! Where a delivery stands: an enum that carries what only that state has.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    external::Sought,
    version::{Identity, ReleaseName, TemplateHash},
};
use crate::{
    api::{delivery::Capacity, release::Outcome},
    decide::judge::book::Book,
};

/// Everything that must survive a restart. Stored in the status of the Delivery, in one write.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Where it stands.
    pub phase: Phase,
    /// Since when.
    pub since: Timestamp,
    /// What was proven last and serves, or served before the rollout in flight.
    pub live: Option<Live>,
    /// The version before the live one: what `rollback` goes back to.
    pub previous: Option<ReleaseName>,
    /// Contents that are not started again by themselves.
    pub quarantine: Vec<Quarantined>,
    /// The uid of each workload that was adopted, by name.
    pub adopted: Vec<Adopted>,
    /// The last command that was carried out or found void.
    pub last_command: Option<String>,
    /// A person opened the gate of these workloads; respected until told otherwise.
    pub ungated: bool,
}

/// A workload that Haldane has gated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// Its name.
    pub name: String,
    /// Its uid, so that one deleted and made again is noticed.
    pub uid: String,
    /// Its owner had paused it before: then it is not resumed on the way out.
    pub was_paused: bool,
}

/// The proven version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// Its Release.
    pub release: ReleaseName,
    /// Since when all of the traffic is on it.
    pub since: Timestamp,
}

/// A content that is not started again until a person says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// Its identity.
    pub identity: Identity,
    /// The Release that failed with it.
    pub release: ReleaseName,
    /// `RolledBack` or Undecided.
    pub outcome: Outcome,
    /// Why.
    pub why: Why,
}

/// A reason as it is stored and shown: one word for machines, one sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// `CamelCase`, closed set.
    pub word: String,
    /// With the numbers.
    pub says: String,
}

/// Where a delivery stands.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "one lives per app and pass, and it moves only with its State")]
pub enum Phase {
    /// Nothing is recorded as proven yet.
    Adopting,
    /// The proven version serves.
    Live,
    /// The proven version serves, and a bad one was taken back.
    RolledBack {
        /// The bad one.
        release: ReleaseName,
        /// What became of it: `RolledBack` or Undecided.
        outcome: Outcome,
        /// Why it was taken back.
        why: Why,
    },
    /// A version is on its way.
    Rolling(Rollout),
}

/// A version on its way.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    /// Which.
    pub release: ReleaseName,
    /// The good one that it started from.
    pub from: ReleaseName,
    /// Forward, or bringing an older one back.
    pub direction: Direction,
    /// When it began.
    pub started_at: Timestamp,
    /// How far it is.
    pub stage: Stage,
    /// The evidence so far.
    pub book: Book,
    /// Traffic is off the canary, reversibly, since then.
    pub suspended: Option<Timestamp>,
    /// The template that a foreign hand wrote last while the gate was open for this one.
    pub fought: Option<Fought>,
    /// The steps that a person has approved, from 0; as many as the plan has is all of the traffic.
    pub approved: Vec<usize>,
    /// It failed beyond its barrier: nothing of it is moved until a person decides. Why.
    pub halted: Option<Why>,
    /// The `CronJobs` that have run for it, by name.
    pub prepared: Vec<String>,
    /// The words of others that were asked for.
    pub sought: Vec<Sought>,
    /// How many pods may be there beside stable: what the plan said when it began, so that no change of it finds the traffic on a
    /// canary that is too large or too small.
    pub capacity: Capacity,
}

impl Rollout {
    /// It had all of the traffic and was compared once more since.
    #[must_use]
    pub fn asked_again(&self) -> bool {
        self.book.rechecked().0 > 0
    }

    /// Stable takes the version with its traffic on it; nothing serves beside it.
    #[must_use]
    pub fn in_place(&self) -> bool {
        self.capacity == Capacity::Small && self.stage == Stage::Finalizing
    }
}

/// A foreign template in the place of one that rolls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fought {
    /// Theirs.
    pub template: TemplateHash,
    /// When it was seen last while the gate was open.
    pub at: Timestamp,
}

/// Which way a rollout goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Direction {
    /// A new version: the canary is the accused.
    Forward,
    /// The last good version comes back after a new one was found bad when it had gone live: stable is the accused.
    Return(Why),
}

/// How far a rollout is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// What has to run before it runs; no pod of it is there.
    Preparing,
    /// The canary starts and is probed; nobody else reaches it.
    Preflight,
    /// It has a share of the traffic.
    Canary {
        /// Which step of the plan, from 0.
        step: usize,
    },
    /// It grows to full size.
    Promoting,
    /// All traffic is on it; the old pods are warm.
    Guarding {
        /// Until then at least.
        until: Timestamp,
    },
    /// Stable is rolled without traffic, then takes it back.
    Finalizing,
    /// Back to the good version.
    RollingBack {
        /// What becomes of the Release.
        outcome: Outcome,
        /// Why.
        why: Why,
        /// The stage it was in, for the record.
        at: String,
    },
}

impl Stage {
    /// The name of the phase that people see.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Preparing => "Preparing",
            Self::Preflight => "Preflight",
            Self::Canary { .. } => "Canary",
            Self::Promoting => "Promoting",
            Self::Guarding { .. } => "Guarding",
            Self::Finalizing => "Finalizing",
            Self::RollingBack { .. } => "RollingBack",
        }
    }
}

impl Phase {
    /// The name of the phase that people see.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Adopting => "Adopting",
            Self::Live => "Live",
            Self::RolledBack { .. } => "RolledBack",
            Self::Rolling(rollout) if rollout.halted.is_some() && !matches!(rollout.stage, Stage::RollingBack { .. }) => "Halted",
            Self::Rolling(rollout) => rollout.stage.label(),
        }
    }

    /// The rollout in flight.
    #[must_use]
    pub fn rollout(&self) -> Option<&Rollout> {
        match self {
            Self::Rolling(rollout) => Some(rollout),
            Self::Adopting | Self::Live | Self::RolledBack { .. } => None,
        }
    }
}

impl State {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self {
            phase: Phase::Adopting,
            since: now,
            live: None,
            previous: None,
            quarantine: Vec::new(),
            adopted: Vec::new(),
            last_command: None,
            ungated: false,
        }
    }

    /// The same with another phase, from now on.
    #[must_use]
    pub fn to(&self, phase: Phase, now: Timestamp) -> Self {
        Self { phase, since: now, ..self.clone() }
    }
}

/// `at` minus a duration, at least the beginning of time.
#[must_use]
pub fn before(at: Timestamp, span: Duration) -> Timestamp {
    at.checked_sub(span).unwrap_or(Timestamp::MIN)
}

/// `at` plus a duration, at most the end of time.
#[must_use]
pub fn after(at: Timestamp, span: Duration) -> Timestamp {
    at.checked_add(span).unwrap_or(Timestamp::MAX)
}
