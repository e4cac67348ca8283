//! A tag that moves: what it names is desired, unless it goes back.

use super::{
    NO_REVISION, accepted,
    release::{name, place},
};
use crate::{
    decide::Case,
    model::{
        decision::{Effect, Reason},
        repo_config::RepoConfig,
        source::{Built, Digest, Merge, Sha, TagPlan},
        world::{Observation, Release},
    },
};

/// The tag names an image that is not desired yet.
pub(super) fn record(case: &Case<'_>, plan: &TagPlan) -> Option<Effect> {
    let (digest, revision) = found(case)?;
    let image = format!("{}@{digest}", plan.image.repository);
    if case.seen.newest_merge().is_some_and(|newest| newest.image == image) || refused(case, plan).is_some() {
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
pub(super) fn refused(case: &Case<'_>, plan: &TagPlan) -> Option<Reason> {
    let (digest, revision) = found(case)?;
    let named = revision.is_some_and(|revision| Sha::parse(revision).is_some());
    (plan.image.revision_required && !named).then(|| Reason::ImageRefused {
        version: short(digest),
        why: format!("{}:{} {NO_REVISION}", plan.image.repository, plan.image.tag),
    })
}

/// The Release that a tag names again although a newer one was made since: somebody set it back, or the registry forgot.
pub(super) fn older_again<'a>(plan: &TagPlan, seen: &'a Observation) -> Option<(&'a Release, &'a Release)> {
    let Some(Built::Found { digest, .. }) = &seen.merges.tag else { return None };
    let image = format!("{}@{digest}", plan.image.repository);
    let newest = seen.newest_merge().filter(|newest| newest.image != image)?;
    let older = seen.releases.iter().filter(|r| r.place.is_some() && r.image == image).max_by_key(|r| r.place)?;
    Some((older, newest))
}
