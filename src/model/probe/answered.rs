//! What a run brought, step by step; and who answered: where several versions stand behind one address, an answer says by a header which
//! of them gave it.

use std::{fmt, time::Duration};

use super::{Outcome, RunName, Shape};

/// By which header an answer says who gave it, and whose answers are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnsweredBy {
    /// The header's name.
    pub header: String,
    /// Whose answers count.
    pub wanted: Wanted,
}

/// Whose answers count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Whoever's: the one address leads to one version, and what it says of itself is learnt.
    Anybody,
    /// Of these alone.
    Of(Vec<Answerer>),
    /// Of all but these.
    NotOf(Vec<Answerer>),
}

/// What an answer says of who gave it. These are the target's words: they are compared, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Answerer(String);

/// One flow, as it was run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// What came of it.
    pub outcome: Outcome,
    /// What teardown could not put right, in a sentence.
    pub left: Option<String>,
    /// It was not begun, or ended early, as it could not be written down; why.
    pub unwritten: Option<String>,
    /// Who gave each answer, in the order of the steps that were run; none: it did not say, or there was no answer.
    pub answered: Vec<Option<Answerer>>,
    /// Its name, once it has begun.
    pub name: Option<RunName>,
    /// Each step that was run, in their order, those of setup and teardown, too.
    pub done: Vec<Done>,
}

/// A step that was run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Its name, unique in the flow.
    pub step: String,
    /// What it was answered last.
    pub status: Option<u16>,
    /// From its first request to the end of its last answer, or to its failure.
    pub took: Duration,
    /// Why it is not as it should be, as the rest of a sentence that begins with the request.
    pub wrong: Option<String>,
    /// The shape of its answer, where that is compared.
    pub shape: Option<Shape>,
}

impl Answerer {
    /// A version, a commit or a digest has its place in it: 8 flows × 20 steps × 128 bytes = 20 kB at worst.
    pub const MAX: usize = 128;

    /// What is longer, or empty, says nothing.
    #[must_use]
    pub fn new(said: &str) -> Option<Self> {
        (1..=Self::MAX).contains(&said.len()).then(|| Self(said.to_owned()))
    }
}

impl fmt::Debug for Answerer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl AnsweredBy {
    /// Somebody else gave that answer. One that does not say who gave it is held against nobody.
    #[must_use]
    pub fn is_misrouted(&self, who: Option<&Answerer>) -> bool {
        match &self.wanted {
            Wanted::Anybody => false,
            Wanted::Of(these) => who.is_some_and(|who| !these.contains(who)),
            Wanted::NotOf(these) => who.is_some_and(|who| these.contains(who)),
        }
    }

    /// It matters who gave these answers, and none of them says it.
    #[must_use]
    pub fn is_unsaid(&self, answered: &[Option<Answerer>]) -> bool {
        self.wanted != Wanted::Anybody && answered.iter().all(Option::is_none)
    }
}

impl Run {
    /// The last answer says who gave it: the one that a failure is about.
    #[must_use]
    pub fn says_who(&self) -> bool {
        self.answered.last().is_some_and(Option::is_some)
    }
}

impl From<Outcome> for Run {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, left: None, unwritten: None, answered: Vec::new(), name: None, done: Vec::new() }
    }
}
