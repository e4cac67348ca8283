//! What ran on a commit: has it passed? The six rules of its checks, each of which answers a trap.

use std::time::Duration;

use jiff::Timestamp;

use crate::model::{
    phase::after,
    source::{CheckFacts, Conclusion, Rules, StatusState, Suite, When},
};

/// The app whose suites are runs of workflows.
const ACTIONS: &str = "github-actions";
/// Events that run a workflow for a commit on the branch; those of a pull request may share its name and its commit.
const ON_BRANCH: [&str; 2] = ["push", "merge_group"];
/// Our own words on a commit: waiting for them would be waiting for ourselves.
const OWN: &str = "haldane/";

/// What the checks of a commit say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checks {
    /// Not over, and what is waited for.
    Pending(String),
    /// As they should.
    Passed,
    /// Badly, and which.
    Failed(String),
    /// Stopped before it was built, and what.
    NotBuilt(String),
}

/// What a commit's checks say by these rules.
#[must_use]
pub fn checks(facts: &CheckFacts, rules: &Rules, seen: Timestamp, now: Timestamp) -> Checks {
    match &rules.when {
        When::Image => Checks::Passed,
        When::Signal(context) => signal(facts, context),
        When::Workflows(names) => all(names.iter().map(|name| workflow(facts, name))),
        When::Checks => everything(facts, rules, seen, now),
    }
}

fn signal(facts: &CheckFacts, context: &str) -> Checks {
    match facts.statuses.iter().find(|s| s.context == context).map(|s| s.state) {
        Some(StatusState::Success) => Checks::Passed,
        Some(StatusState::Failure) => Checks::Failed(format!("the status {context} failed")),
        Some(StatusState::Pending) | None => Checks::Pending(format!("the status {context}")),
    }
}

/// The newest run of a workflow on the branch.
fn workflow(facts: &CheckFacts, name: &str) -> Checks {
    let runs = facts.suites.iter().filter(|s| s.workflow.as_deref() == Some(name) && on_branch(s));
    match runs.max_by_key(|s| s.created) {
        None => Checks::Pending(format!("a run of the workflow {name}")),
        Some(run) => match run.conclusion {
            // What was skipped has built nothing.
            Some(Conclusion::Skipped) => Checks::NotBuilt(format!("the workflow {name} was skipped")),
            _ => suite(run),
        },
    }
}

fn on_branch(suite: &Suite) -> bool {
    suite.event.as_deref().is_some_and(|event| ON_BRANCH.contains(&event))
}

fn everything(facts: &CheckFacts, rules: &Rules, seen: Timestamp, now: Timestamp) -> Checks {
    let counted: Vec<&Suite> = facts.suites.iter().filter(|s| counts(facts, s, rules.grace, now)).collect();
    let statuses: Vec<_> = facts.statuses.iter().filter(|s| !s.context.starts_with(OWN)).collect();
    if counted.is_empty() && statuses.is_empty() {
        return match () {
            () if now < after(seen, rules.grace) => Checks::Pending("its first check".to_owned()),
            () if rules.without_checks => Checks::Passed,
            () => Checks::Pending(
                "a check: none runs on this commit; deliver without: spec.source.github.when.onNoChecks: Proceed".to_owned(),
            ),
        };
    }
    let statuses = statuses.into_iter().map(|s| match s.state {
        StatusState::Success => Checks::Passed,
        StatusState::Pending => Checks::Pending(format!("the status {}", s.context)),
        StatusState::Failure => Checks::Failed(format!("the status {} failed", s.context)),
    });
    all(counted.into_iter().map(suite).chain(statuses))
}

/// Whether a suite says anything about this commit on its branch.
fn counts(facts: &CheckFacts, suite: &Suite, grace: Duration, now: Timestamp) -> bool {
    if suite.event.is_some() && !on_branch(suite) {
        return false;
    }
    // A newer run of the same workflow speaks for it.
    let newer = |other: &&Suite| {
        suite.workflow.is_some()
            && (&other.app, &other.workflow, &other.event) == (&suite.app, &suite.workflow, &suite.event)
            && other.created > suite.created
    };
    if facts.suites.iter().any(|other| newer(&other)) {
        return false;
    }
    // Apps that are merely installed open suites that stay empty and queued for ever.
    let empty = suite.runs == 0 && suite.workflow.is_none() && suite.event.is_none();
    !empty || (suite.conclusion.is_none() && suite.app != ACTIONS && now < after(suite.created, grace))
}

fn suite(suite: &Suite) -> Checks {
    let name = suite.workflow.as_deref().map_or_else(|| format!("the checks of {}", suite.app), |name| format!("the workflow {name}"));
    match suite.conclusion {
        None => Checks::Pending(name),
        Some(Conclusion::Success | Conclusion::Neutral | Conclusion::Skipped) => Checks::Passed,
        Some(Conclusion::Cancelled) => Checks::NotBuilt(format!("{name}: cancelled")),
        Some(Conclusion::Failure) => Checks::Failed(format!("{name}: failed")),
        Some(Conclusion::Unknown) => Checks::Failed(format!("{name}: ended in a way that is not known here")),
    }
}

/// A failure beats everything, for no other can mend it; then what was not built; then what is waited for.
fn all(each: impl Iterator<Item = Checks>) -> Checks {
    let rank = |c: &Checks| match c {
        Checks::Failed(_) => 3,
        Checks::NotBuilt(_) => 2,
        Checks::Pending(_) => 1,
        Checks::Passed => 0,
    };
    // The first of the worst, so that the same is said each time.
    each.fold(Checks::Passed, |worst, next| if rank(&next) > rank(&worst) { next } else { worst })
}
