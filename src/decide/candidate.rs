//! Which version should serve: the owner's wish, and whether it may be started.
//!
//! Without a source the wish is the owner's template. With `manual` it is the owner's template with the image of the
//! newest Release that a person or CI made. The newest wish wins: a workload has no ancestry.

use std::{borrow::Cow, collections::BTreeMap};

use serde_json::Value;

use super::Case;
use crate::{
    api::release::{OriginType, Outcome},
    model::{
        decision::Effect,
        phase::{Quarantined, Rollout},
        plan::Source,
        source::Queue,
        template,
        version::{Identity, ReleaseName, WorkloadName},
        world::{Release, Workload},
    },
};

/// Digits of the identity in a Release's name: 40 bits. Tags that begin alike ("release-…") leave these alone to tell ten
/// thousand versions apart: 10⁸ / 2⁴¹ < 10⁻⁴. With 40 characters of a Delivery's name: 40 + 1 + 7 + 1 + 10 = 59 of 63.
const NAME_DIGITS: usize = 10;
/// Characters of the tag in a Release's name.
const TAG_CHARS: usize = 7;

/// What the owner wants to serve.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    /// Its identity.
    pub identity: Identity,
    /// By workload.
    pub templates: BTreeMap<WorkloadName, Value>,
    /// The image of its first container.
    pub image: String,
    /// What people call it: the commit or version of the Release that names the image, else its tag.
    pub called: String,
    /// The Release that is this wish, if it is recorded.
    pub release: Option<ReleaseName>,
    /// The Release of a person or a merge that is still without templates and means this wish.
    pub compose: Option<ReleaseName>,
    /// The Release that asks for it; none: the owner's template does.
    pub asked: Option<ReleaseName>,
}

impl Wish {
    /// The Release that is or will be this wish.
    #[must_use]
    pub fn name(&self, delivery: &str) -> ReleaseName {
        let known = self.release.as_ref().or(self.compose.as_ref()).cloned();
        known.unwrap_or_else(|| release_name(delivery, &self.called, &self.identity))
    }

    /// The writes that make it a Release; none when it is one.
    #[must_use]
    pub fn record(&self, case: &Case<'_>, origin: OriginType) -> Vec<Effect> {
        let kept = |name: &ReleaseName| case.seen.release(name).is_some_and(|r| r.templates.is_some());
        if self.release.as_ref().is_some_and(kept) {
            return Vec::new();
        }
        // Without its templates a Release cannot be made again; as long as the owner's are these, they can be kept anew.
        if let Some(release) = self.release.as_ref().or(self.compose.as_ref()) {
            return vec![Effect::KeepTemplates { release: release.clone(), templates: self.templates.clone() }];
        }
        let name = release_name(&case.seen.delivery, &self.called, &self.identity);
        let version = version(case, &self.called, &name);
        vec![Effect::RecordRelease { name, version, image: self.image.clone(), origin, templates: self.templates.clone() }]
    }
}

/// The name of a Release: readable, and the same for the same content.
#[must_use]
pub fn release_name(delivery: &str, called: &str, identity: &Identity) -> ReleaseName {
    let tag: String = called.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(TAG_CHARS).collect();
    let hash: String = identity.as_str().chars().take(NAME_DIGITS).collect();
    match tag.trim_matches('-') {
        "" => ReleaseName::new(format!("{delivery}-{hash}")),
        tag => ReleaseName::new(format!("{delivery}-{tag}-{hash}")),
    }
}

/// What people call it, with digits of the identity when another version is called the same.
fn version(case: &Case<'_>, called: &str, name: &ReleaseName) -> String {
    let taken = case.seen.releases.iter().any(|r| r.name != *name && r.version == called);
    let hash = name.as_str().rsplit('-').next().unwrap_or_default();
    if taken { format!("{called}-{hash}") } else { called.to_owned() }
}

/// What the owner wants to serve now; none when a workload is missing or nothing says which image.
#[must_use]
pub fn wish(case: &Case<'_>) -> Option<Wish> {
    if case.seen.workloads.len() != case.plan.workloads.len() {
        return None;
    }
    let owners: BTreeMap<WorkloadName, Value> = case.seen.workloads.iter().map(|w| (w.name.clone(), owners_template(case, w))).collect();
    let (templates, asked) = match &case.plan.source {
        Source::Workload => (owners, None),
        Source::Manual | Source::Merge(_) | Source::Tag(_) => named(case, owners),
    };
    let identity = template::identity(&templates);
    let first = case.plan.workloads.first()?;
    let image = template::main_image(templates.get(&first.name)?)?.to_owned();
    let compose = asked.filter(|r| r.identity.is_none()).map(|r| r.name.clone());
    // What was asked for last is known by its own name, also where an older Release has the same content.
    let same = asked.filter(|r| r.identity.as_ref() == Some(&identity)).or_else(|| case.seen.release_of(&identity));
    let release = same.filter(|_| compose.is_none()).map(|r| r.name.clone());
    // A commit says more than the digest that was built from it.
    let called = asked.filter(|r| r.image == image && r.place.is_some()).map_or_else(|| template::tag(&image), |r| r.version.clone());
    let asked = asked.map(|r| r.name.clone());
    Some(Wish { identity, templates, image, called, release, compose, asked })
}

/// The Release that waits for a rollout to end: neither the one on its way nor the one that it came from.
#[must_use]
pub fn waiting<'a>(case: &Case<'a>, rollout: &Rollout) -> Option<&'a Release> {
    let wish = wish(case)?;
    let newer = case.seen.release(wish.release.as_ref()?)?;
    let same = |name| case.seen.release(name).is_some_and(|release| release.identity.as_ref() == Some(&wish.identity));
    let other = newer.name != rollout.release && !same(&rollout.release) && !same(&rollout.from);
    Some(newer).filter(|_| other && quarantined(case, &wish.identity).is_none())
}

/// The owner's templates with the image that is asked for, or that is live when nobody has asked yet.
fn named<'a>(case: &Case<'a>, owners: BTreeMap<WorkloadName, Value>) -> (BTreeMap<WorkloadName, Value>, Option<&'a Release>) {
    let asked = asked(case);
    let live = live(case);
    let templates = owners
        .into_iter()
        .map(|(name, owner)| {
            let containers = case.plan.workloads.iter().find(|w| w.name == name).map(|w| w.containers.as_slice()).unwrap_or_default();
            let template = match (asked, live) {
                (Some(asked), _) => template::with_image(&owner, &asked.image, containers),
                (None, Some(live)) => template::with_image(&owner, &live.image, containers),
                (None, None) => owner,
            };
            (name, template)
        })
        .collect();
    (templates, asked)
}

/// The Release whose image is desired: the newest that a person or CI made, or that a merge made.
pub(super) fn asked<'a>(case: &Case<'a>) -> Option<&'a Release> {
    match &case.plan.source {
        // Without a source it is nobody's wish now; it is one again when the source comes back.
        Source::Workload | Source::Manual => {
            case.seen.releases.iter().filter(|r| r.manual && r.refused.is_none()).max_by_key(|r| (r.created, r.name.clone()))
        }
        Source::Merge(plan) => in_line(case, plan.queue),
        Source::Tag(plan) => in_line(case, plan.queue),
    }
}

/// The newest Release of what was merged that may be delivered.
pub(super) fn newest<'a>(case: &Case<'a>) -> Option<&'a Release> {
    case.seen.releases.iter().filter(|r| r.place.is_some() && r.refused.is_none()).max_by_key(|r| r.place)
}

/// The merge whose turn it is: the newest, or, one after the other, the first that is newer than what is live and not over.
fn in_line<'a>(case: &Case<'a>, queue: Queue) -> Option<&'a Release> {
    let each = match queue {
        Queue::Latest => None,
        Queue::Each => {
            let from = live_merge(case).and_then(|live| live.place).unwrap_or(0);
            let waits = |r: &&Release| r.place.is_some_and(|place| place > from) && r.refused.is_none() && !over(r.outcome);
            let waits = |r: &&Release| waits(r) && had_its_turn(case, r).is_none();
            case.seen.releases.iter().filter(waits).min_by_key(|r| r.place)
        }
    };
    each.or_else(|| newest(case))
}

/// The Release of what was merged that is live, also inside one whose template the owner has changed since.
pub(super) fn live_merge<'a>(case: &Case<'a>) -> Option<&'a Release> {
    case.seen.merge_of(live(case)?)
}

/// The Release in which the image of one that waits had its turn: the owner changed the template before it was made.
pub(super) fn had_its_turn<'a>(case: &Case<'a>, waits: &Release) -> Option<&'a Release> {
    let inside = |r: &&Release| r.place.is_none() && r.image == waits.image && r.created >= waits.created && over(r.outcome);
    case.seen.releases.iter().find(inside)
}

/// Nothing more will become of it by itself.
pub(super) fn over(outcome: Option<Outcome>) -> bool {
    match outcome {
        Some(Outcome::RolledBack | Outcome::Undecided | Outcome::Superseded | Outcome::Refused | Outcome::Live) => true,
        Some(Outcome::Waiting | Outcome::Rolling | Outcome::Halted) | None => false,
    }
}

/// The template that the owner wrote last: what stands in the Deployment, unless we put a proven one there for a while.
fn owners_template(case: &Case<'_>, workload: &Workload) -> Value {
    let Some(put_back) = workload.put_back.as_ref().and_then(|name| case.seen.release(name)) else { return workload.template.clone() };
    let here = workload.template_hash();
    let rollout = case.state.phase.rollout();
    let ours = case
        .state
        .live
        .iter()
        .map(|l| &l.release)
        .chain(rollout.into_iter().flat_map(|r| [&r.release, &r.from]))
        .filter_map(|name| case.seen.release(name)?.template_hash(&workload.name))
        .any(|hash| hash == here);
    match put_back.templates.as_ref().and_then(|t| t.get(&workload.name)) {
        Some(theirs) if ours => theirs.clone(),
        _ => workload.template.clone(),
    }
}

/// The Release that is proven and serves.
#[must_use]
pub fn live<'a>(case: &Case<'a>) -> Option<&'a Release> {
    case.seen.release(&case.state.live.as_ref()?.release)
}

/// A Release to go back to. Where its record or its templates are gone, the pods that still run it say what it was: of each
/// workload the only active `ReplicaSet` that is not of the version on its way. Where there is none such, nobody knows.
#[must_use]
pub fn known<'a>(case: &Case<'a>, name: &ReleaseName) -> Cow<'a, Release> {
    let recorded = case.seen.release(name);
    if let Some(release) = recorded.filter(|r| r.templates.is_some()) {
        return Cow::Borrowed(release);
    }
    let on_its_way = case.state.phase.rollout().and_then(|r| case.seen.release(&r.release));
    let running = |workload: &Workload| {
        let new = on_its_way.and_then(|r| r.template_hash(&workload.name));
        let mut old = workload.replica_sets.iter().filter(|rs| (rs.wanted > 0 || rs.pods > 0) && Some(&rs.template) != new.as_ref());
        let only = old.next().filter(|_| old.next().is_none())?;
        Some((workload.name.clone(), template::normalise(&only.raw)))
    };
    Cow::Owned(Release {
        name: name.clone(),
        version: recorded.map_or_else(|| name.to_string(), |r| r.version.clone()),
        commit: None,
        image: String::new(),
        manual: false,
        place: None,
        brought: <_>::default(),
        barrier: None,
        reverts: Vec::new(),
        config: None,
        refused: None,
        identity: None,
        templates: Some(case.seen.workloads.iter().filter_map(running).collect()),
        outcome: None,
        tries: 0,
        created: case.now,
    })
}

/// Why a content is not started by itself.
#[must_use]
pub fn quarantined<'a>(case: &Case<'a>, identity: &Identity) -> Option<&'a Quarantined> {
    case.state.quarantine.iter().find(|q| q.identity == *identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_whose_tags_begin_alike_have_names_of_their_own_that_fit() {
        let name = |called: &str, identity: &str| release_name(&"d".repeat(40), called, &Identity::new(identity));
        let (one, other) = (name("release-41", "0123456789abcdef"), name("release-42", "0123400000abcdef"));
        assert_ne!(one, other);
        assert!(one.as_str().len() <= 63, "{one}");
    }
}
