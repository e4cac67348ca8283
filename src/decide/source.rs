//! Which merge should be delivered: what is known of the commits of a branch, or of a tag, and nothing that anybody merely announced.
//!
//! Commits are ordered by the first-parent line of the branch, never by time or tag. A commit is ready when what must pass
//! has passed and there is an image that was built from it; these are two facts that come in any order. Whatever is not
//! known is waited for, and what is wrong with one commit says nothing about the next.

mod checks;
mod message;

pub use checks::{Checks, checks};
pub use message::{barrier, reverts};

use jiff::Timestamp;

use super::{Case, candidate, command};
use crate::{
    api::{command::Action, release::Outcome},
    model::{
        decision::{Ahead, Decision, Effect, Reason, Wait},
        phase::{Why, after},
        plan::Source,
        repo_config::{RepoConfig, RepoConfigError},
        source::{
            BROUGHT, Brought, Built, Commit, CommitFacts, ConfigFile, Digest, HistoryEnd, ImagePlan, Merge, MergePlan, Queue, Sha, TagPlan,
            When,
        },
        template,
        version::ReleaseName,
        world::{Command, Observation, Release},
    },
};

/// Digits of (commit, image) in the name of a Release: 20 bits among the few Releases of one commit.
const NAME_DIGITS: usize = 5;
/// Commits that are told although they are no Release (yet).
const AHEAD: usize = 5;
/// What one Release may revert: more is a mistake of ours in reading messages.
const REVERTS: usize = 20;
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
        Source::Tag(plan) => Told { record: of_tag(case, plan), wait: Wait::Change, commits: Vec::new() },
    }
}

fn of_branch(case: &Case<'_>, plan: &MergePlan) -> Told {
    let Some(history) = case.seen.merges.history.as_ref() else { return Told { record: None, wait: Wait::Change, commits: Vec::new() } };
    let made = |commit: &Commit| case.seen.releases.iter().any(|r| r.place.is_some() && r.commit.as_deref() == Some(commit.sha.as_str()));
    // A branch that was set back to a commit that is a Release names that one anew.
    let anew = usize::from(history.end == HistoryEnd::Diverged);
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
        let mut brought: Vec<&Commit> = thought.get(at..)?.iter().map(|(commit, _)| *commit).collect();
        // Before the first Release nobody knows since when; of a branch that was rewritten, what of it is new.
        if case.seen.newest_merge().is_none() || history.end == HistoryEnd::Diverged {
            brought.truncate(1);
        }
        Some(of_commit(case, plan, commit, digest, &brought))
    });
    Told { record, wait, commits }
}

/// The tag names an image that is not desired yet.
fn of_tag(case: &Case<'_>, plan: &TagPlan) -> Option<Effect> {
    let (digest, revision) = found(case)?;
    let image = format!("{}@{digest}", plan.image.repository);
    if case.seen.newest_merge().is_some_and(|newest| newest.image == image) || refused_tag(case, plan).is_some() {
        return None;
    }
    if older_again(plan, case.seen).is_some() && accepted(case).is_none() {
        return None;
    }
    let commit = revision.and_then(Sha::parse);
    let version = commit.as_ref().map_or_else(|| short(digest), |commit| commit.short().to_owned());
    Some(Effect::RecordMerge(Box::new(Merge {
        name: name(case, &version, commit.as_ref(), &image),
        title: format!("{}:{} names {}", plan.image.repository, plan.image.tag, short(digest)),
        version,
        image,
        commit,
        place: place(case),
        by_tag: true,
        url: String::new(),
        brought: Vec::new(),
        brought_count: 0,
        reverts: Vec::new(),
        barrier: None,
        config: Ok(RepoConfig::default()),
    })))
}

/// What the tag names now.
fn found<'a>(case: &Case<'a>) -> Option<(&'a Digest, Option<&'a str>)> {
    match case.seen.merges.tag.as_ref()? {
        Built::Found { digest, revision } => Some((digest, revision.as_deref())),
        Built::Unasked | Built::Unsaid(_) | Built::Absent => None,
    }
}

/// A digest as people write it: the first seven digits.
fn short(digest: &Digest) -> String {
    digest.as_str().trim_start_matches("sha256:").chars().take(7).collect()
}

/// Why what a tag names is not delivered.
fn refused_tag(case: &Case<'_>, plan: &TagPlan) -> Option<Reason> {
    let (digest, revision) = found(case)?;
    let named = revision.is_some_and(|revision| Sha::parse(revision).is_some());
    (plan.image.revision_required && !named).then(|| Reason::ImageRefused {
        version: short(digest),
        why: format!("{}:{} {NO_REVISION}", plan.image.repository, plan.image.tag),
    })
}

/// The Release that a tag names again although a newer one was made since: somebody set it back, or the registry forgot.
fn older_again<'a>(plan: &TagPlan, seen: &'a Observation) -> Option<(&'a Release, &'a Release)> {
    let Some(Built::Found { digest, .. }) = &seen.merges.tag else { return None };
    let image = format!("{}@{digest}", plan.image.repository);
    let newest = seen.newest_merge().filter(|newest| newest.image != image)?;
    let older = seen.releases.iter().filter(|r| r.place.is_some() && r.image == image).max_by_key(|r| r.place)?;
    Some((older, newest))
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

/// Makes a commit a Release, with what came with it since the live one.
fn of_commit(case: &Case<'_>, plan: &MergePlan, commit: &Commit, digest: &Digest, fresh: &[&Commit]) -> Effect {
    let image = format!("{}@{digest}", plan.image.repository);
    let (brought, brought_count) = since_live(case, fresh);
    let mut reverts: Vec<String> = fresh.iter().flat_map(|commit| reverts(commit)).collect();
    reverts.truncate(REVERTS);
    Effect::RecordMerge(Box::new(Merge {
        name: name(case, commit.sha.short(), Some(&commit.sha), &image),
        version: commit.sha.short().to_owned(),
        image,
        commit: Some(commit.sha.clone()),
        place: place(case),
        by_tag: false,
        title: commit.title.clone(),
        url: commit.url.clone(),
        brought,
        brought_count,
        reverts,
        barrier: fresh.iter().find_map(|c| barrier(&c.body)),
        config: config(case, plan, &commit.sha),
    }))
}

/// What the file at that commit sets, or why the commit is not delivered.
fn config(case: &Case<'_>, plan: &MergePlan, commit: &Sha) -> Result<RepoConfig, Why> {
    let Some(wanted) = &plan.config else { return Ok(RepoConfig::default()) };
    let read = match case.seen.merges.facts.get(commit).and_then(|facts| facts.config.as_ref()) {
        Some(ConfigFile::Text(text)) => RepoConfig::parse(text, wanted.permitted),
        Some(ConfigFile::Unusable(why)) => Err(RepoConfigError::Broken(why.clone())),
        Some(ConfigFile::Absent) | None => Ok(RepoConfig::default()),
    };
    read.map_err(|error| {
        let (version, why) = (commit.short().to_owned(), format!("{}: {error}", wanted.path));
        Why::from(&match error {
            RepoConfigError::NotAllowed { .. } => Reason::NotAllowed { version, why },
            RepoConfigError::Broken(_) => Reason::ConfigBroken { version, why },
        })
    })
}

/// The commits since the live version, newest first: those that are new, and those of Releases that never went live.
fn since_live(case: &Case<'_>, fresh: &[&Commit]) -> (Vec<Brought>, u64) {
    let live = candidate::live(case).map(|live| {
        // A template that the owner changed since rides with the image of a merge.
        let same_image = case.seen.releases.iter().filter(|r| r.image == live.image);
        live.place.or_else(|| same_image.filter_map(|r| r.place).max()).unwrap_or(0)
    });
    let mut between: Vec<&Release> = case.seen.releases.iter().filter(|r| r.place > live).collect();
    between.sort_by_key(|r| std::cmp::Reverse(r.place));
    let mut brought: Vec<Brought> = fresh.iter().map(|commit| Brought::from(*commit)).collect();
    let mut count = fresh.len() as u64;
    // Each of these tells of those before it, too: the newest of them knows all that there was.
    for before in between.iter().flat_map(|release| &release.brought.0) {
        if !brought.iter().any(|known| known.commit == before.commit) {
            brought.push(before.clone());
        }
    }
    count += between.first().map_or(0, |newest| newest.brought.1);
    brought.truncate(BROUGHT);
    (brought, count)
}

/// The next place on the line of what was merged.
fn place(case: &Case<'_>) -> i64 {
    case.seen.newest_merge().and_then(|newest| newest.place).map_or(1, |place| place.saturating_add(1))
}

/// The name of the Release of a commit and its image: the same for the same, so that it is made once. What was a Release before,
/// and is desired anew, is another: it has its new place in its name.
fn name(case: &Case<'_>, version: &str, commit: Option<&Sha>, image: &str) -> ReleaseName {
    let commit = commit.map(Sha::as_str);
    let known = case.seen.releases.iter().any(|r| r.place.is_some() && r.commit.as_deref() == commit && r.image == image);
    let anew = known.then(|| place(case));
    let said = match anew {
        Some(place) => serde_json::json!({"commit": commit, "image": image, "place": place}),
        None => serde_json::json!({"commit": commit, "image": image}),
    };
    let digits: String = template::hash(&said).as_str().chars().take(NAME_DIGITS).collect();
    ReleaseName::new(format!("{}-{version}-{digits}", case.seen.delivery))
}

/// What of the branch, or of the tag, keeps every new version from moving, until a person acts.
#[must_use]
pub fn problem(plan: &Source, seen: &Observation) -> Option<Reason> {
    match plan {
        Source::Workload | Source::Manual => None,
        Source::Tag(plan) => older_again(plan, seen).map(|(older, newest)| Reason::TagMovedBack {
            tag: format!("{}:{}", plan.image.repository, plan.image.tag),
            version: older.version.clone(),
            newer: newest.version.clone(),
        }),
        Source::Merge(plan) => {
            let history = seen.merges.history.as_ref()?;
            let (HistoryEnd::Diverged, Some(desired)) = (history.end, seen.desired_commit()) else { return None };
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
    if let Some(record) = told.record {
        decision.effects.push(record);
        decision.wait = Wait::Now;
        if let Some(order) = accepted(case) {
            decision.next.last_command = Some(order.name.clone());
        }
    }
    decision.effects.extend(superseded(case));
    decision.effects.extend(refused(case));
    // What is on its way goes on: this is about what comes after it.
    if decision.next.phase.rollout().is_none()
        && let Some(trouble) = trouble(case, &told.commits)
    {
        if decision.holds.is_empty() {
            decision.reason = trouble.clone();
        }
        decision.holds.push(trouble);
    }
    decision
}

/// What a person must mend before a newer version is found.
fn trouble(case: &Case<'_>, commits: &[(Sha, Readiness)]) -> Option<Reason> {
    let unsaid = case.seen.merges.unsaid.as_ref().filter(|unsaid| unsaid.person);
    let image = |sha: &Sha| case.seen.merges.facts.get(sha).map(|facts| &facts.image);
    let denied = commits.iter().filter_map(|(sha, _)| image(sha)).chain(&case.seen.merges.tag).find_map(|built| match built {
        Built::Unsaid(unsaid) if unsaid.person => Some(unsaid),
        _ => None,
    });
    if let Some(unsaid) = unsaid.or(denied) {
        return Some(Reason::SourceUnread { why: unsaid.says.clone() });
    }
    if let Source::Tag(plan) = &case.plan.source {
        let absent =
            || (case.seen.merges.tag == Some(Built::Absent)).then(|| format!("there is no {}:{}", plan.image.repository, plan.image.tag));
        return refused_tag(case, plan).or_else(|| Some(Reason::SourceUnread { why: absent()? }));
    }
    match commits.first() {
        Some((sha, Readiness::Refused(why))) => Some(Reason::ImageRefused { version: sha.short().to_owned(), why: why.clone() }),
        Some(_) => None,
        None => case.seen.newest_merge()?.refused.as_ref().map(|why| Reason::ReleaseRefused { why: why.says.clone() }),
    }
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
    let Some(newest) = candidate::newest(case).filter(|_| queue == Queue::Latest) else { return Vec::new() };
    let rollout = case.state.phase.rollout();
    let used = |r: &Release| {
        case.state.live.as_ref().is_some_and(|live| live.release == r.name)
            || rollout.is_some_and(|rollout| rollout.release == r.name || rollout.from == r.name)
    };
    let passed = |r: &&Release| {
        r.place.is_some() && r.place < newest.place && r.refused.is_none() && matches!(r.outcome, None | Some(Outcome::Waiting)) && !used(r)
    };
    let settled = |r: &Release| Effect::SettleRelease {
        release: r.name.clone(),
        outcome: Outcome::Superseded,
        why: Why::from(&Reason::Overtaken { version: r.version.clone(), by: newest.version.clone() }),
        superseded_by: Some(newest.name.clone()),
        started: None,
    };
    case.seen.releases.iter().filter(passed).map(settled).collect()
}
