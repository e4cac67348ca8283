//! Which merge should be delivered: what is known of the commits of a branch, or of a tag, and nothing that anybody merely announced.
//!
//! Commits are ordered by the first-parent line of the branch, never by time or tag. A commit is ready when what must pass
//! has passed and there is an image that was built from it; these are two facts that come in any order. Whatever is not
//! known is waited for, and what is wrong with one commit says nothing about the next.

mod checks;
mod message;
mod release;
mod tag;

pub use checks::{Checks, checks};
pub use message::{barrier, reverts};

use jiff::Timestamp;

use super::{Case, candidate, command};
use crate::{
    api::{command::Action, release::Outcome},
    model::{
        decision::{Ahead, Decision, Effect, Reason, Wait},
        phase::{Direction, Stage, Why, after},
        plan::Source,
        source::{Built, Commit, CommitFacts, Digest, History, HistoryEnd, ImagePlan, MergePlan, Queue, Sha, When},
        world::{Command, Observation, Release},
    },
};

/// Commits that are told although they are no Release (yet).
const AHEAD: usize = 5;
/// What is said of an image without the label.
const NO_REVISION: &str = "does not say from which commit it was built; label it org.opencontainers.image.revision";

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
    let waits = waits.or_else(|| plan.config.as_ref().filter(|_| facts.config.is_none()).map(|config| format!("its file {}", config.path)));
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

/// Whether what was found is the image of this commit.
#[must_use]
pub fn is_of(commit: &Sha, image: &Built, plan: &ImagePlan) -> bool {
    matches!(image, Built::Found { revision, .. } if stranger(commit, revision.as_deref(), plan).is_none())
}

/// Why an image is not the one of this commit; none: it is.
fn stranger(commit: &Sha, revision: Option<&str>, plan: &ImagePlan) -> Option<String> {
    let image = || format!("{}:{}", plan.repository, plan.tag_of(commit));
    match revision {
        Some(revision) if revision.eq_ignore_ascii_case(commit.as_str()) => None,
        Some(revision) => Some(format!("{} says that it was built from {revision}", image())),
        None if plan.names_commit() && !plan.revision_required => None,
        None => Some(format!("{} {NO_REVISION}", image())),
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
    match &case.plan.source {
        Source::Workload | Source::Manual => Told { record: None, wait: Wait::Change, commits: Vec::new() },
        Source::Merge(plan) => of_branch(case, plan),
        Source::Tag(plan) => Told { record: tag::record(case, plan), wait: Wait::Change, commits: Vec::new() },
    }
}

fn of_branch(case: &Case<'_>, plan: &MergePlan) -> Told {
    let Some(history) = case.seen.merges.history.as_ref() else { return Told { record: None, wait: Wait::Change, commits: Vec::new() } };
    let made = |commit: &Commit| case.seen.releases.iter().any(|r| r.place.is_some() && r.commit.as_deref() == Some(commit.sha.as_str()));
    // A branch that was set back to a commit that is a Release names that one anew.
    let rewritten = rewritten(history, case.seen);
    let anew = usize::from(rewritten);
    // What was read may end before an older Release than the newest: nothing older than a Release is looked at again.
    let since = history.commits.iter().enumerate().take_while(|(at, commit)| *at < anew || !made(commit)).map(|(_, commit)| commit);
    let thought: Vec<(&Commit, Readiness)> = since
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
    if rewritten && accepted(case).is_none() {
        return Told { record: None, wait, commits };
    }
    // Where nobody knows since when, nobody waits for what is older.
    let first = case.seen.newest_merge().is_none() || rewritten;
    let chosen = match plan.queue {
        Queue::Each if !first => thought
            .iter()
            .rposition(|(_, r)| matches!(r, Readiness::Ready(_) | Readiness::Building(_)))
            // One after the other: what is not over yet is waited for.
            .filter(|at| matches!(thought.get(*at), Some((_, Readiness::Ready(_))))),
        Queue::Each | Queue::Latest => thought.iter().position(|(_, r)| matches!(r, Readiness::Ready(_))),
    };
    let record = chosen.and_then(|at| {
        let (commit, Readiness::Ready(digest)) = thought.get(at)? else { return None };
        let mut brought: Vec<&Commit> = thought.get(at..)?.iter().map(|(commit, _)| *commit).collect();
        // Nobody knows what of it is new.
        if first {
            brought.truncate(1);
        }
        Some(release::of_commit(case, plan, commit, digest, &brought))
    });
    Told { record, wait, commits }
}

/// The newest Release is not on the branch any more. What was read before a head became a Release is no word on that.
fn rewritten(history: &History, seen: &Observation) -> bool {
    history.end == HistoryEnd::Diverged && history.commits.first().map(|head| &head.sha) != seen.desired_commit().as_ref()
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

/// The order by which a person says that the branch, or the tag, is right as it is.
fn accepted<'a>(case: &Case<'a>) -> Option<&'a Command> {
    command::pending(case, |action| action == Action::Adopt && !command::opened(case))
}

/// What of the branch, or of the tag, keeps every new version from moving, until a person acts.
#[must_use]
pub fn problem(plan: &Source, seen: &Observation) -> Option<Reason> {
    match plan {
        Source::Workload | Source::Manual => None,
        Source::Tag(plan) => tag::older_again(plan, seen).map(|(older, newest)| Reason::TagMovedBack {
            tag: format!("{}:{}", plan.image.repository, plan.image.tag),
            version: older.version.clone(),
            newer: newest.version.clone(),
        }),
        Source::Merge(plan) => {
            let history = seen.merges.history.as_ref()?;
            let desired = seen.desired_commit().filter(|_| rewritten(history, seen))?;
            let head = history.commits.first().map_or_else(|| "nothing".to_owned(), |c| c.sha.short().to_owned());
            Some(Reason::BranchRewritten {
                repository: plan.branch.repository.to_string(),
                branch: history.branch.clone(),
                desired: desired.short().to_owned(),
                head,
            })
        }
    }
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
    let newer = told
        .commits
        .iter()
        .take_while(|(sha, _)| !matches!(&told.record, Some(Effect::RecordMerge(merge)) if merge.commit.as_ref() == Some(sha)));
    decision.ahead = newer
        .take(AHEAD)
        .map(|(sha, readiness)| {
            let (state, why) = readiness.told();
            Ahead { version: sha.short().to_owned(), title: title(sha), state, why: why.to_owned() }
        })
        .collect();
    // The way back is stored by the same pass: a Release that the API server does not take must not stand before it.
    let back = decision.next.phase.rollout().is_some_and(|rollout| {
        rollout.suspended.is_some() || rollout.direction != Direction::Forward || matches!(rollout.stage, Stage::RollingBack { .. })
    });
    if let Some(record) = told.record.filter(|_| !back) {
        decision.effects.push(record);
        decision.wait = Wait::Now;
        if let Some(order) = accepted(case) {
            decision.next.last_command = Some(order.name.clone());
        }
    }
    decision.effects.extend(superseded(case));
    decision.effects.extend(refused(case));
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
    let unsaid = case.seen.merges.unsaid.as_ref();
    let image = |sha: &Sha| case.seen.merges.facts.get(sha).map(|facts| &facts.image);
    let denied = commits.iter().filter_map(|(sha, _)| image(sha)).chain(&case.seen.merges.tag).find_map(|built| match built {
        Built::Unsaid(unsaid) if unsaid.person => Some(unsaid),
        _ => None,
    });
    let unread = unsaid.filter(|unsaid| unsaid.person).or(denied).map(|unsaid| Reason::SourceUnread { why: unsaid.says.clone() });
    let silent = unsaid.filter(|unsaid| !unsaid.person).map(|unsaid| Reason::SourceSilent { why: unsaid.says.clone() });
    let (refused, renamed) = match &case.plan.source {
        Source::Workload | Source::Manual => (None, None),
        Source::Tag(plan) => {
            let image = format!("{}:{}", plan.image.repository, plan.image.tag);
            let absent =
                (case.seen.merges.tag == Some(Built::Absent)).then(|| Reason::SourceUnread { why: format!("there is no {image}") });
            (tag::refused(case, plan).or(absent), None)
        }
        Source::Merge(plan) => {
            let refused = match commits.first() {
                Some((sha, Readiness::Refused(why))) => Some(Reason::ImageRefused { version: sha.short().to_owned(), why: why.clone() }),
                Some(_) => None,
                None => {
                    let newest = case.seen.newest_merge().and_then(|newest| newest.refused.as_ref());
                    newest.map(|why| Reason::ReleaseRefused { why: why.says.clone() })
                }
            };
            let now = case.seen.merges.history.as_ref().and_then(|history| history.renamed.as_ref());
            let repository = plan.branch.repository.to_string();
            (refused, now.map(|now| Reason::RepositoryRenamed { repository, now: now.to_string() }))
        }
    };
    [unread, refused, silent, renamed].into_iter().flatten().collect()
}

/// Releases that are not delivered, and do not say so yet.
fn refused(case: &Case<'_>) -> Vec<Effect> {
    let settled = |r: &Release| {
        let why = r.refused.clone().filter(|_| r.outcome.is_none())?;
        Some(Effect::SettleRelease { release: r.name.clone(), outcome: Outcome::Refused, why, superseded_by: None, started: None })
    };
    case.seen.releases.iter().filter_map(settled).collect()
}

/// Merges that never had their turn and will not: a newer one is desired.
fn superseded(case: &Case<'_>) -> Vec<Effect> {
    let queue = match &case.plan.source {
        Source::Workload | Source::Manual => return Vec::new(),
        Source::Merge(plan) => plan.queue,
        Source::Tag(plan) => plan.queue,
    };
    if queue == Queue::Each {
        // Its image had its turn inside another one.
        let told = |r: &Release| {
            let inside =
                candidate::had_its_turn(case, r).filter(|_| r.place.is_some() && !candidate::over(r.outcome) && r.refused.is_none())?;
            Some(overtaken(r, inside))
        };
        return case.seen.releases.iter().filter_map(told).collect();
    }
    let Some(newest) = candidate::newest(case) else { return Vec::new() };
    let rollout = case.state.phase.rollout();
    let used = |r: &Release| {
        case.state.live.as_ref().is_some_and(|live| live.release == r.name)
            || rollout.is_some_and(|rollout| rollout.release == r.name || rollout.from == r.name)
    };
    let passed = |r: &&Release| {
        r.place.is_some() && r.place < newest.place && r.refused.is_none() && matches!(r.outcome, None | Some(Outcome::Waiting)) && !used(r)
    };
    case.seen.releases.iter().filter(passed).map(|r| overtaken(r, newest)).collect()
}

/// One that another takes the place of.
fn overtaken(release: &Release, by: &Release) -> Effect {
    Effect::SettleRelease {
        release: release.name.clone(),
        outcome: Outcome::Superseded,
        why: Why::from(&Reason::Overtaken { version: release.version.clone(), by: by.version.clone() }),
        superseded_by: Some(by.name.clone()),
        started: None,
    }
}
