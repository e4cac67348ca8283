//! A commit as a Release: its name, its place, what came with it, and what its repository says of it.

use super::{barrier, reverts};
use crate::{
    decide::{Case, candidate},
    model::{
        decision::{Effect, Reason},
        phase::Why,
        repo_config::{RepoConfig, RepoConfigError},
        source::{BROUGHT, Brought, Commit, ConfigFile, Digest, Merge, MergePlan, Sha},
        template,
        version::ReleaseName,
        world::Release,
    },
};

/// Digits of (commit, image) in the name of a Release: 20 bits among the few Releases of one commit.
const NAME_DIGITS: usize = 5;
/// What one Release may revert: more is a mistake of ours in reading messages.
const REVERTS: usize = 20;

/// Makes a commit a Release, with what came with it since the live one.
pub(super) fn of_commit(case: &Case<'_>, plan: &MergePlan, commit: &Commit, digest: &Digest, fresh: &[&Commit]) -> Effect {
    let image = format!("{}@{digest}", plan.image.repository);
    let (brought, brought_count) = since_live(case, fresh);
    let mut reverts: Vec<String> = fresh.iter().flat_map(|commit| reverts(commit, &plan.branch.repository)).collect();
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
    let live = candidate::live_merge(case);
    let from = live.map_or(Some(0), |live| live.place);
    let mut between: Vec<&Release> = case.seen.releases.iter().filter(|r| r.place > from).collect();
    between.sort_by_key(|r| std::cmp::Reverse(r.place));
    let mut brought: Vec<Brought> = fresh.iter().map(|commit| Brought::from(*commit)).collect();
    let mut count = fresh.len() as u64 + between.first().map_or(0, |newest| newest.brought.1);
    // Each of these tells of those before it, too: the newest of them knows all that there was.
    for before in between.iter().flat_map(|release| &release.brought.0) {
        if !brought.iter().any(|known| known.commit == before.commit) {
            brought.push(before.clone());
        }
    }
    // What went live since they were made does not come with this one.
    let live = live.and_then(|live| live.commit.as_ref());
    if let Some(at) = live.and_then(|live| brought.iter().position(|known| known.commit == *live)) {
        brought.truncate(at);
        count = at as u64;
    }
    brought.truncate(BROUGHT);
    (brought, count)
}

/// The next place on the line of what was merged.
pub(super) fn place(case: &Case<'_>) -> i64 {
    case.seen.newest_merge().and_then(|newest| newest.place).map_or(1, |place| place.saturating_add(1))
}

/// The name of the Release of a commit and its image: the same for the same, so that it is made once. What was a Release before,
/// and is desired anew, is another: it has its new place in its name.
pub(super) fn name(case: &Case<'_>, version: &str, commit: Option<&Sha>, image: &str) -> ReleaseName {
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
