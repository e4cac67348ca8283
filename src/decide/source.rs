//! Which merge should be delivered: what is known of the commits of a branch, and nothing that anybody merely announced.
//!
//! Commits are ordered by the first-parent line of the branch, never by time or tag. A commit is ready when what must pass
//! has passed and there is an image that was built from it; these are two facts that come in any order. Whatever is not
//! known is waited for, and what is wrong with one commit says nothing about the next.

use std::time::Duration;

use jiff::Timestamp;

use super::{Case, command};
use crate::{
    api::{command::Action, release::Outcome},
    model::{
        decision::{Ahead, Decision, Effect, Reason, Wait},
        phase::{Why, after},
        plan::Source,
        source::{
            Built, CheckFacts, Commit, CommitFacts, Conclusion, Digest, HistoryEnd, ImagePlan, Merge, MergePlan, Merges, Queue, Rules, Sha,
            StatusState, Suite, When,
        },
        template,
        version::ReleaseName,
        world::{Command, Release},
    },
};

/// The app whose suites are runs of workflows.
const ACTIONS: &str = "github-actions";
/// Events that run a workflow for a commit on the branch; those of a pull request may share its name and its commit.
const ON_BRANCH: [&str; 2] = ["push", "merge_group"];
/// Our own words on a commit: waiting for them would be waiting for ourselves.
const OWN: &str = "haldane/";
/// Digits of (commit, image) in the name of a Release: 20 bits among the few Releases of one commit.
const NAME_DIGITS: usize = 5;
/// Commits that are told although they are no Release (yet).
const AHEAD: usize = 5;
/// People and pull requests that are told of one Release.
const TOLD: usize = 20;
/// The line in a commit's message that makes it a barrier.
const BARRIER: &str = "Haldane-Barrier:";

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

/// What is to be thought of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Something is waited for.
    Building(String),
    /// It can be delivered.
    Ready(Digest),
    /// It will not be, unless its checks run again.
    ChecksFailed(String),
    /// It was never built: left out by its paths, cancelled for a newer one, in the middle of a group.
    NoArtifact(String),
    /// Its image is not its own.
    Refused(String),
}

impl Readiness {
    /// In one word, and why.
    fn told(&self) -> (&'static str, &str) {
        match self {
            Self::Building(why) => ("Building", why),
            Self::Ready(_) => ("Ready", ""),
            Self::ChecksFailed(why) => ("ChecksFailed", why),
            Self::NoArtifact(why) => ("NoArtifact", why),
            Self::Refused(why) => ("Refused", why),
        }
    }
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

/// What is to be thought of a commit by what is known of it.
#[must_use]
pub fn readiness(commit: &Sha, facts: &CommitFacts, plan: &MergePlan, now: Timestamp) -> Readiness {
    let checked = match (&plan.rules.when, &facts.checks) {
        (When::Image, _) => Checks::Passed,
        (_, None) => Checks::Pending("what the forge says of its checks".to_owned()),
        (_, Some(found)) => checks(found, &plan.rules, facts.seen, now),
    };
    let waits = match checked {
        Checks::Failed(what) => return Readiness::ChecksFailed(what),
        Checks::NotBuilt(what) => return Readiness::NoArtifact(what),
        Checks::Pending(what) => Some(what),
        Checks::Passed => None,
    };
    match (&facts.image, waits) {
        (Built::Found { digest, revision }, waits) => match (stranger(commit, revision.as_deref(), &plan.image), waits) {
            (Some(why), _) => Readiness::Refused(why),
            (None, Some(what)) => Readiness::Building(what),
            (None, None) => Readiness::Ready(digest.clone()),
        },
        (_, Some(what)) => Readiness::Building(what),
        (Built::Absent, None) if now >= after(facts.seen, plan.rules.image_timeout) => {
            Readiness::NoArtifact(format!("no image {}:{} came", plan.image.repository, plan.image.tag_of(commit)))
        }
        (Built::Absent | Built::Unasked, None) => {
            Readiness::Building(format!("the image {}:{}", plan.image.repository, plan.image.tag_of(commit)))
        }
        (Built::Unsaid(why), None) => Readiness::Building(format!("the registry: {}", why.says)),
    }
}

/// Why an image is not the one of this commit; none: it is.
fn stranger(commit: &Sha, revision: Option<&str>, plan: &ImagePlan) -> Option<String> {
    let image = || format!("{}:{}", plan.repository, plan.tag_of(commit));
    match revision {
        Some(revision) if revision.eq_ignore_ascii_case(commit.as_str()) => None,
        Some(revision) => Some(format!("{} says that it was built from {revision}", image())),
        None if plan.names_commit() && !plan.revision_required => None,
        None => Some(format!("{} does not say from which commit it was built; label it org.opencontainers.image.revision", image())),
    }
}

/// What is known of the branch says this.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// The Release that is to be made.
    pub record: Option<Effect>,
    /// When something is worth another look without a new fact.
    pub wait: Wait,
    /// What is thought of each commit that is newer than the newest Release, newest first.
    pub commits: Vec<(Sha, Readiness)>,
}

/// What the newest facts ask for.
#[must_use]
pub fn told(case: &Case<'_>) -> Told {
    let nothing = Told { record: None, wait: Wait::Change, commits: Vec::new() };
    let Source::Merge(plan) = &case.plan.source else { return nothing };
    let Some(history) = case.seen.merges.history.as_ref() else { return nothing };
    // What was read may end before an older Release than the newest: nothing older than a Release is looked at again.
    let made = |commit: &&Commit| case.seen.releases.iter().any(|r| r.place.is_some() && r.commit.as_deref() == Some(commit.sha.as_str()));
    let thought: Vec<(&Commit, Readiness)> = history
        .commits
        .iter()
        .take_while(|commit| !made(commit))
        .map(|commit| {
            let read = |facts| readiness(&commit.sha, facts, plan, case.now);
            (
                commit,
                case.seen.merges.facts.get(&commit.sha).map_or_else(|| Readiness::Building("what the forge says of it".to_owned()), read),
            )
        })
        .collect();
    let wait = soonest(case, plan, &thought);
    let commits = thought.iter().map(|(c, r)| (c.sha.clone(), r.clone())).collect();
    if history.end == HistoryEnd::Diverged && accepted(case).is_none() {
        return Told { record: None, wait, commits };
    }
    let chosen = match plan.queue {
        Queue::Latest => thought.iter().position(|(_, r)| matches!(r, Readiness::Ready(_))),
        // One after the other: what is not over yet is waited for.
        Queue::Each => thought
            .iter()
            .rposition(|(_, r)| matches!(r, Readiness::Ready(_) | Readiness::Building(_)))
            .filter(|at| matches!(thought.get(*at), Some((_, Readiness::Ready(_))))),
    };
    let record = chosen.and_then(|at| {
        let (commit, Readiness::Ready(digest)) = thought.get(at)? else { return None };
        let brought: Vec<&Commit> = thought.get(at..)?.iter().map(|(commit, _)| *commit).collect();
        Some(release(case, plan, commit, digest, &brought))
    });
    Told { record, wait, commits }
}

/// The moment at which a wait of ours ends: a grace, or a time for an image.
fn soonest(case: &Case<'_>, plan: &MergePlan, thought: &[(&Commit, Readiness)]) -> Wait {
    let building = thought.iter().filter(|(_, r)| matches!(r, Readiness::Building(_)));
    let facts = building.filter_map(|(commit, _)| case.seen.merges.facts.get(&commit.sha));
    let moments = facts.flat_map(|f| {
        let suites = f.checks.iter().flat_map(|c| &c.suites).map(|s| after(s.created, plan.rules.grace));
        [after(f.seen, plan.rules.grace), after(f.seen, plan.rules.image_timeout)].into_iter().chain(suites)
    });
    moments.filter(|at| *at > case.now).min().map_or(Wait::Change, Wait::Until)
}

/// The order by which a person says that the rewritten branch is right as it is.
fn accepted<'a>(case: &Case<'a>) -> Option<&'a Command> {
    command::pending(case, |action| action == Action::Adopt && !command::opened(case))
}

/// Makes a commit a Release, with what came with it since the one before.
fn release(case: &Case<'_>, plan: &MergePlan, commit: &Commit, digest: &Digest, brought: &[&Commit]) -> Effect {
    let image = format!("{}@{digest}", plan.image.repository);
    let hash = template::hash(&serde_json::json!({"commit": commit.sha.as_str(), "image": image}));
    let digits: String = hash.as_str().chars().take(NAME_DIGITS).collect();
    let mut authors: Vec<String> = Vec::new();
    for author in brought.iter().map(|c| &c.author) {
        if !authors.contains(author) {
            authors.push(author.clone());
        }
    }
    authors.truncate(TOLD);
    let mut pull_requests: Vec<u64> = brought.iter().filter_map(|c| c.pull_request.as_ref()).map(|p| p.number).collect();
    pull_requests.dedup();
    pull_requests.truncate(TOLD);
    Effect::RecordMerge(Box::new(Merge {
        name: ReleaseName::new(format!("{}-{}-{digits}", case.seen.delivery, commit.sha.short())),
        image,
        commit: commit.sha.clone(),
        place: case.seen.releases.iter().filter_map(|r| r.place).max().map_or(1, |place| place.saturating_add(1)),
        title: commit.title.clone(),
        url: commit.url.clone(),
        authors,
        pull_requests,
        barrier: brought.iter().find_map(|c| barrier(&c.body)),
    }))
}

/// The reason of the trailer that makes a commit a barrier.
#[must_use]
pub fn barrier(body: &str) -> Option<String> {
    let last = body.trim_end().rsplit("\n\n").next()?;
    let reason = last.lines().find_map(|line| line.strip_prefix(BARRIER))?.trim();
    Some(if reason.is_empty() { "no reason given".to_owned() } else { reason.to_owned() })
}

/// What of the branch keeps every new version from moving, until a person acts.
#[must_use]
pub fn problem(plan: &Source, merges: &Merges, desired: Option<&Sha>) -> Option<Reason> {
    let Source::Merge(plan) = plan else { return None };
    let history = merges.history.as_ref()?;
    let (HistoryEnd::Diverged, Some(desired)) = (history.end, desired) else { return None };
    let head = history.commits.first().map_or_else(|| "nothing".to_owned(), |c| c.sha.short().to_owned());
    Some(Reason::BranchRewritten {
        repository: plan.branch.repository.to_string(),
        branch: history.branch.clone(),
        desired: desired.short().to_owned(),
        head,
    })
}

/// Adds to a decision what the branch asks for.
#[must_use]
pub fn with_merges(case: &Case<'_>, mut decision: Decision) -> Decision {
    let told = told(case);
    decision.wait = decision.wait.sooner(told.wait);
    let title = |sha: &Sha| {
        let commits = case.seen.merges.history.iter().flat_map(|history| &history.commits);
        commits.filter(|commit| commit.sha == *sha).map(|commit| commit.title.clone()).next().unwrap_or_default()
    };
    // The one that becomes a Release now is not ahead of it any more, nor is what is older.
    let newer =
        told.commits.iter().take_while(|(sha, _)| !matches!(&told.record, Some(Effect::RecordMerge(merge)) if merge.commit == *sha));
    decision.ahead = newer
        .take(AHEAD)
        .map(|(sha, readiness)| {
            let (state, why) = readiness.told();
            Ahead { version: sha.short().to_owned(), title: title(sha), state, why: why.to_owned() }
        })
        .collect();
    if let Some(record) = told.record {
        decision.effects.push(record);
        decision.wait = Wait::Now;
        if let Some(order) = accepted(case) {
            decision.next.last_command = Some(order.name.clone());
        }
    }
    decision.effects.extend(superseded(case));
    // What is on its way goes on: this is about what comes after it.
    if decision.next.phase.rollout().is_none() {
        for trouble in trouble(case, &told.commits) {
            if decision.holds.is_empty() {
                decision.reason = trouble.clone();
            }
            decision.holds.push(trouble);
        }
    }
    decision
}

/// What keeps a newer version from being found: first what a person must mend, then what heals by itself, then what may in future.
fn trouble(case: &Case<'_>, commits: &[(Sha, Readiness)]) -> Vec<Reason> {
    let Source::Merge(plan) = &case.plan.source else { return Vec::new() };
    let unsaid = case.seen.merges.unsaid.as_ref();
    let image = |sha: &Sha| case.seen.merges.facts.get(sha).map(|facts| &facts.image);
    let denied = commits.iter().find_map(|(sha, _)| match image(sha) {
        Some(Built::Unsaid(unsaid)) if unsaid.person => Some(unsaid),
        _ => None,
    });
    let unread = unsaid.filter(|unsaid| unsaid.person).or(denied).map(|unsaid| Reason::SourceUnread { why: unsaid.says.clone() });
    let refused = commits.first().and_then(|(sha, readiness)| match readiness {
        Readiness::Refused(why) => Some(Reason::ImageRefused { version: sha.short().to_owned(), why: why.clone() }),
        _ => None,
    });
    let silent = unsaid.filter(|unsaid| !unsaid.person).map(|unsaid| Reason::SourceSilent { why: unsaid.says.clone() });
    let renamed = case.seen.merges.history.as_ref().and_then(|history| history.renamed.as_ref());
    let renamed = renamed.map(|now| Reason::RepositoryRenamed { repository: plan.branch.repository.to_string(), now: now.to_string() });
    [unread, refused, silent, renamed].into_iter().flatten().collect()
}

/// Merges that never had their turn and will not: a newer one is desired.
fn superseded(case: &Case<'_>) -> Vec<Effect> {
    let Source::Merge(plan) = &case.plan.source else { return Vec::new() };
    let Some(newest) = case.seen.newest_merge().filter(|_| plan.queue == Queue::Latest) else { return Vec::new() };
    let rollout = case.state.phase.rollout();
    let used = |r: &Release| {
        case.state.live.as_ref().is_some_and(|live| live.release == r.name)
            || rollout.is_some_and(|rollout| rollout.release == r.name || rollout.from == r.name)
    };
    let passed =
        |r: &&Release| r.place.is_some() && r.place < newest.place && matches!(r.outcome, None | Some(Outcome::Waiting)) && !used(r);
    let settled = |r: &Release| Effect::SettleRelease {
        release: r.name.clone(),
        outcome: Outcome::Superseded,
        why: Why::from(&Reason::Overtaken { version: r.version.clone(), by: newest.version.clone() }),
        superseded_by: Some(newest.name.clone()),
        started: None,
    };
    case.seen.releases.iter().filter(passed).map(settled).collect()
}
