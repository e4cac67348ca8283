//! Releases, their templates and Commands: what was shipped and what became of it. Never owned by the Delivery: the
//! record outlives it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    calls::{Kind, text, what},
    error::ActError,
    session::Session,
};
use crate::{
    api::{
        DELIVERY_LABEL,
        command::CommandResult,
        delivery::StepSpec,
        release::{OriginType, Outcome},
    },
    model::{
        phase::Why,
        repo_config::RepoConfig,
        source::{Brought, Merge, Sha},
        template,
        version::{Identity, ReleaseName, WorkloadName},
    },
};

/// Length of a version as the Release's schema bounds it.
const VERSION: usize = 128;
/// Length of a message of a Release.
const MESSAGE: usize = 1024;
/// Length of a title, and of the reason of a barrier.
const REASON: usize = 256;
/// Length of a link.
const URL: usize = 512;
/// Length of a name of a person.
const AUTHOR: usize = 128;
/// Length of a message of a Command.
const COMMAND_MESSAGE: usize = 512;

/// What a Release is made of.
pub(super) struct Recorded<'a> {
    pub(super) name: &'a ReleaseName,
    pub(super) version: &'a str,
    pub(super) image: &'a str,
    pub(super) origin: OriginType,
    pub(super) templates: &'a BTreeMap<WorkloadName, Value>,
}

/// Keeps the templates, then makes the Release, so that there is no Release without them.
pub(super) async fn record(session: &mut Session<'_>, wanted: &Recorded<'_>) -> Result<(), ActError> {
    let (name, identity) = (wanted.name, template::identity(wanted.templates));
    // Asked first: templates that are kept under the name of another content would be taken for that one's.
    match session.calls.get(Kind::Release, name.as_str()).await {
        Ok(there) => {
            let said = [text(&there, "/spec/templateHash"), text(&there, "/status/templateHash")];
            the_same(Kind::Release, name, said.into_iter().find(|hash| !hash.is_empty()).unwrap_or("unknown"), &identity)?;
        }
        Err(ActError::Gone { .. }) => {}
        Err(error) => return Err(error),
    }
    let kept = keep(session, name, wanted.templates).await?;
    the_same(Kind::ControllerRevision, name, kept.as_str(), &identity)?;
    let delivery = session.delivery.metadata.name.clone().unwrap_or_default();
    let release = json!({
        "apiVersion": "haldane.dev/v1alpha1",
        "kind": "Release",
        "metadata": metadata(session, wanted.name, &delivery),
        "spec": {
            "deliveryRef": {"name": delivery},
            "version": cut(wanted.version, VERSION),
            "image": wanted.image,
            "templateHash": identity.as_str(),
            "origin": {"type": wanted.origin},
        },
    });
    session.calls.create(Kind::Release, name.as_str(), &release).await?;
    session.made += 1;
    Ok(())
}

/// One of that name that is there already is the same one: the name has digits of the identity in it. Where two contents
/// share them, a person must see it, for nothing that is tried again would mend it.
fn the_same(kind: Kind, name: &ReleaseName, there: &str, wanted: &Identity) -> Result<(), ActError> {
    if there == wanted.as_str() {
        return Ok(());
    }
    let message = format!("its content is {there}, and {wanted} is to be kept under that name; delete it, or ship under another tag");
    Err(ActError::Refused { what: what(kind, name.as_str()), message })
}

/// Makes the Release of what was merged; one of that name that is there is the same: the name has commit and image in it.
pub(super) async fn record_merge(session: &mut Session<'_>, merge: &Merge) -> Result<(), ActError> {
    let delivery = session.delivery.metadata.name.clone().unwrap_or_default();
    let (config, refused) = match &merge.config {
        Ok(config) => (Some(config).filter(|config| **config != RepoConfig::default()).map(set), None),
        Err(why) => (None, Some(json!({"reason": why.word, "message": cut(&why.says, MESSAGE)}))),
    };
    let release = json!({
        "apiVersion": "haldane.dev/v1alpha1",
        "kind": "Release",
        "metadata": metadata(session, &merge.name, &delivery),
        "spec": {
            "deliveryRef": {"name": delivery},
            "version": merge.version,
            "commit": merge.commit.as_ref().map(Sha::as_str),
            "image": merge.image,
            "place": merge.place,
            "barrier": merge.barrier.as_ref().map(|reason| json!({"reason": cut(reason, REASON)})),
            "origin": origin(merge),
            "reverts": merge.reverts,
            "config": config,
            "refused": refused,
        },
    });
    if session.calls.create(Kind::Release, merge.name.as_str(), &release).await? {
        return Ok(());
    }
    // One that is there and was not seen is not ours to see: without our label, or of another's making.
    let there = session.calls.get(Kind::Release, merge.name.as_str()).await?;
    let label = there.pointer("/metadata/labels").and_then(|labels| labels.get(DELIVERY_LABEL)).and_then(Value::as_str);
    if label == Some(delivery.as_str()) && text(&there, "/spec/image") == merge.image && there.pointer("/spec/place").is_some() {
        return Ok(());
    }
    let message = format!("it is there with another content, or without the label {DELIVERY_LABEL}={delivery}; delete it");
    Err(ActError::Refused { what: what(Kind::Release, merge.name.as_str()), message })
}

/// What its repository sets, in the words of the API.
fn set(config: &RepoConfig) -> Value {
    json!({
        "steps": config.steps.as_ref().map(|steps| steps.iter().map(StepSpec::from).collect::<Vec<_>>()),
        "probes": config.probes.iter().map(|name| json!({"name": name})).collect::<Vec<_>>(),
    })
}

/// Where it came from, and who is behind it.
fn origin(merge: &Merge) -> Value {
    let (mut authors, mut pull_requests) = (Vec::new(), Vec::new());
    for commit in &merge.brought {
        let author = cut(&commit.author, AUTHOR);
        if !authors.contains(&author) {
            authors.push(author);
        }
        pull_requests.extend(commit.pull_request.filter(|number| !pull_requests.contains(number)));
    }
    let commit = |commit: &Brought| {
        let (title, author) = (cut(&commit.title, REASON), cut(&commit.author, AUTHOR));
        json!({"commit": commit.commit, "title": title, "author": author, "pullRequest": commit.pull_request})
    };
    json!({
        "type": if merge.by_tag { OriginType::Tag } else { OriginType::Merge },
        "title": cut(&merge.title, REASON),
        "url": Some(cut(&merge.url, URL)).filter(|url| !url.is_empty()),
        "authors": authors,
        "pullRequests": pull_requests,
        "commits": merge.brought.iter().map(commit).collect::<Vec<_>>(),
        "commitCount": Some(merge.brought_count).filter(|count| *count > merge.brought.len() as u64),
    })
}

/// Keeps the templates of a Release that a person made, and says in its status which content they are.
pub(super) async fn keep_templates(
    session: &mut Session<'_>,
    release: &ReleaseName,
    templates: &BTreeMap<WorkloadName, Value>,
) -> Result<(), ActError> {
    // What a crash left there unsaid is what this Release is; if the owner has written another since, that is the next one.
    let kept = keep(session, release, templates).await?;
    let status = json!({"templateHash": kept.as_str()});
    session.calls.merge_status(Kind::Release, release.as_str(), &status).await.map(|_| ())
}

/// Keeps templates under a name, unless some are kept there; the identity of those that are there then.
async fn keep(session: &Session<'_>, name: &ReleaseName, wanted: &BTreeMap<WorkloadName, Value>) -> Result<Identity, ActError> {
    let delivery = session.delivery.metadata.name.clone().unwrap_or_default();
    let templates: Map<String, Value> = wanted.iter().map(|(name, t)| (name.to_string(), t.clone())).collect();
    let revision = json!({
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": metadata(session, name, &delivery),
        "data": {"templates": templates},
        "revision": session.seen.releases.len() + session.made + 1,
    });
    if session.calls.create(Kind::ControllerRevision, name.as_str(), &revision).await? {
        return Ok(template::identity(wanted));
    }
    let there = session.calls.get(Kind::ControllerRevision, name.as_str()).await?;
    let kept = there.pointer("/data/templates").and_then(Value::as_object).into_iter().flatten();
    Ok(template::identity(&kept.map(|(name, t)| (WorkloadName::new(name), t.clone())).collect()))
}

fn metadata(session: &Session<'_>, name: &ReleaseName, delivery: &str) -> Value {
    json!({"name": name.as_str(), "namespace": session.calls.namespace, "labels": {DELIVERY_LABEL: delivery}})
}

/// Removes a Release and its templates.
pub(super) async fn forget(session: &Session<'_>, release: &ReleaseName) -> Result<(), ActError> {
    session.calls.delete(Kind::Release, release.as_str(), None).await?;
    session.calls.delete(Kind::ControllerRevision, release.as_str(), None).await
}

/// What is written about a Release.
pub(super) struct Settled<'a> {
    pub(super) outcome: Outcome,
    pub(super) why: &'a Why,
    pub(super) superseded_by: Option<&'a ReleaseName>,
    pub(super) started: Option<Timestamp>,
}

/// Writes what became of a Release. One that somebody removed needs no word; nothing waits for it.
pub(super) async fn settle(session: &Session<'_>, release: &ReleaseName, settled: &Settled<'_>) -> Result<(), ActError> {
    let live = match session.calls.get(Kind::Release, release.as_str()).await {
        Ok(live) => live,
        Err(ActError::Gone { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    let Some(status) = status(&live, settled, session.now) else { return Ok(()) };
    match session.calls.merge_status(Kind::Release, release.as_str(), &status).await {
        Ok(_) | Err(ActError::Gone { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The merge patch of the status; none: it says so already.
fn status(release: &Value, settled: &Settled<'_>, now: Timestamp) -> Option<Value> {
    let now = seconds(now);
    let (outcome, message) = (json!(settled.outcome), cut(&settled.why.says, MESSAGE));
    let by = settled.superseded_by.map(ReleaseName::as_str);
    let said = |key: &str| release.pointer("/status").and_then(|s| s.get(key)).and_then(Value::as_str);
    let same_try = settled.started.is_none_or(|started| said("startedAt") == Some(&seconds(started)));
    if same_try
        && said("outcome") == outcome.as_str()
        && said("reason") == Some(&settled.why.word)
        && said("message") == Some(&message)
        && said("supersededBy") == by
    {
        return None;
    }
    let mut status = json!({"outcome": outcome, "reason": settled.why.word, "message": message, "supersededBy": by});
    if let Some(status) = status.as_object_mut() {
        // A try is known by its beginning, so that one that is told twice is counted once.
        let started = settled.started.map(seconds);
        if let Some(started) = started.filter(|started| said("startedAt") != Some(started)) {
            let tries = release.pointer("/status/tries").and_then(Value::as_u64).unwrap_or(0);
            status.insert("tries".to_owned(), json!((tries + 1).min(10_000)));
            status.insert("startedAt".to_owned(), json!(started));
            status.insert("finishedAt".to_owned(), Value::Null);
        }
        if ended(settled.outcome) {
            status.insert("finishedAt".to_owned(), json!(now));
        }
        status.insert("conditions".to_owned(), json!([succeeded(release, settled, &message, &now)]));
    }
    Some(status)
}

fn ended(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Live | Outcome::RolledBack | Outcome::Undecided | Outcome::Superseded | Outcome::Refused => true,
        Outcome::Waiting | Outcome::Rolling | Outcome::Halted => false,
    }
}

fn succeeded(release: &Value, settled: &Settled<'_>, message: &str, now: &str) -> Value {
    let word = match settled.outcome {
        Outcome::Live => "True",
        Outcome::RolledBack | Outcome::Undecided | Outcome::Refused | Outcome::Superseded => "False",
        Outcome::Rolling | Outcome::Waiting | Outcome::Halted => "Unknown",
    };
    let before = release.pointer("/status/conditions/0").filter(|c| text(c, "/status") == word);
    let since = before.map_or(now, |c| text(c, "/lastTransitionTime"));
    json!({"type": "Succeeded", "status": word, "reason": settled.why.word, "message": message, "lastTransitionTime": since})
}

/// Writes what became of a command. It is kept, as a record.
pub(super) async fn settle_command(session: &Session<'_>, name: &str, result: CommandResult, message: &str) -> Result<(), ActError> {
    let status = json!({"result": result, "message": cut(message, COMMAND_MESSAGE)});
    match session.calls.merge_status(Kind::Command, name, &status).await {
        Ok(_) | Err(ActError::Gone { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

fn seconds(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

/// The first characters of a text, with `…` where some are missing. Limits of the API count characters.
pub(super) fn cut(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    text.chars().take(limit.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why() -> Why {
        Why { word: "CanaryStarting".to_owned(), says: "v2 starts".to_owned() }
    }

    fn settled(outcome: Outcome, why: &Why, started: Option<Timestamp>) -> Settled<'_> {
        Settled { outcome, why, superseded_by: None, started }
    }

    #[test]
    fn each_try_is_counted_once_even_if_it_is_said_twice() {
        let (why, now) = (why(), Timestamp::from_second(60).unwrap());
        let began = |second| Some(Timestamp::from_second(second).unwrap());
        let mut release = json!({"status": {"outcome": "RolledBack", "tries": 1, "startedAt": "1970-01-01T00:00:01Z"}});
        let patch = status(&release, &settled(Outcome::RolledBack, &why, began(30)), now).unwrap();
        json_patch::merge(&mut release, &json!({"status": patch}));
        assert_eq!(release.pointer("/status/tries"), Some(&json!(2)));
        assert_eq!(release.pointer("/status/startedAt"), Some(&json!("1970-01-01T00:00:30Z")));
        assert_eq!(release.pointer("/status/finishedAt"), Some(&json!("1970-01-01T00:01:00Z")));
        assert_eq!(status(&release, &settled(Outcome::RolledBack, &why, began(30)), now), None);
    }

    #[test]
    fn the_condition_says_whether_it_went_live() {
        let why = why();
        let cases = [(Outcome::Live, "True"), (Outcome::RolledBack, "False"), (Outcome::Undecided, "False"), (Outcome::Rolling, "Unknown")];
        for (outcome, word) in cases {
            let patch = status(&json!({}), &settled(outcome, &why, None), Timestamp::UNIX_EPOCH).unwrap();
            assert_eq!(text(&patch, "/conditions/0/status"), word);
            assert_eq!(patch.get("finishedAt").is_some(), outcome != Outcome::Rolling);
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(cut("größer", 4), "grö…");
        assert_eq!(cut("größer", 6), "größer");
    }
}
