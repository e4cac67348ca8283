//! The evidence object of a Release: everything that was bet on in its last rollout, so that anybody can recompute the verdict.
//!
//! A `ControllerRevision` that belongs to the Release and goes with it. Its data cannot be changed, so each writing makes a new one and
//! removes the one before. Written at the verdict, at the end, and once a minute in between: who leads next goes on with it, and where up to a
//! minute was lost with a process, says so. Nothing waits for it: one that cannot be written is tried again, and stops no rollout.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::{Api, ResourceExt as _, api::ListParams};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;

use super::{
    Actor,
    calls::{Kind, text},
    error::ActError,
};
use crate::{
    api::{EVIDENCE_LABEL, delivery::Delivery},
    control::lease::LeaderProof,
    decide::judge::{
        book::Dated,
        journal::{Journal, Kept},
    },
    model::{
        phase::{Direction, Rollout, Stage, State},
        version::ReleaseName,
    },
};

/// From one writing to the next.
const OFTEN: Duration = Duration::from_mins(1);
/// The member of the data.
const DATA: &str = "evidence";

/// What is stored of a rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// Of this Release.
    pub release: String,
    /// Of the rollout that began then.
    pub started_at: Timestamp,
    /// What its book took in.
    pub journal: Kept,
}

impl Evidence {
    /// What an object holds, or the newest of a list of them; none: no evidence.
    #[must_use]
    pub fn read(object: &serde_json::Value) -> Option<Self> {
        let items = object.get("items").and_then(|items| items.as_array());
        let newest = items.and_then(|items| items.iter().max_by_key(|item| item.get("revision").and_then(serde_json::Value::as_i64)));
        let object = newest.unwrap_or(object);
        serde_json::from_value(object.pointer("/data/evidence").unwrap_or(object).clone()).ok()
    }
}

/// The evidence of the rollout in flight, as far as this process knows it.
#[derive(Debug)]
pub struct Open {
    release: ReleaseName,
    started_at: Timestamp,
    journal: Journal,
    /// The revisions that are stored: one, or none; more where a process ended in between.
    stored: Vec<i64>,
    owner: Option<String>,
    new: bool,
    due: Instant,
}

impl Open {
    fn is_of(&self, rollout: &Rollout) -> bool {
        (&self.release, self.started_at) == (&rollout.release, rollout.started_at)
    }
}

impl Actor {
    /// Follows one decision, which was recorded, and writes down what is due.
    pub async fn follow(
        &self,
        proof: &LeaderProof,
        delivery: &Delivery,
        open: &mut Option<Open>,
        (before, after): (&State, &State),
        seen: &[Dated],
    ) {
        let forward = |rollout: &&Rollout| rollout.direction == Direction::Forward;
        let Some(rollout) = before.phase.rollout().filter(forward) else {
            *open = None;
            return;
        };
        let going = open.take().filter(|open| open.is_of(rollout));
        let mut going = match going {
            Some(going) => going,
            None => match self.opened(delivery, rollout).await {
                Ok(opened) => opened,
                Err(error) => return untold(delivery, &error),
            },
        };
        let next = after.phase.rollout().filter(|next| going.is_of(next));
        going.new |= next.is_some_and(|next| going.journal.follow(seen, &next.book));
        let back = |rollout: &Rollout| matches!(rollout.stage, Stage::RollingBack { .. });
        let turned = next.is_some_and(|next| back(next) && !back(rollout));
        if going.new && going.journal.says_something() && (turned || next.is_none() || going.due <= Instant::now()) {
            going.due = Instant::now() + OFTEN;
            match self.write(proof, delivery, &mut going).await {
                Ok(written) => going.new = !written,
                Err(error) => untold(delivery, &error),
            }
        }
        *open = next.map(|_| going);
    }

    /// What is stored of this rollout, if it goes on to where that stands; else what comes from now on.
    async fn opened(&self, delivery: &Delivery, rollout: &Rollout) -> Result<Open, ActError> {
        let namespace = delivery.metadata.namespace.as_deref().unwrap_or_default();
        let api: Api<ControllerRevision> = Api::namespaced(self.cluster.client.clone(), namespace);
        let labels = ListParams::default().labels(&format!("{EVIDENCE_LABEL}={}", rollout.release));
        let failed = |error| ActError::of("the evidence", namespace, error);
        let found = api.list(&labels).await.map_err(failed)?.items;
        let newest = found.iter().max_by_key(|revision| revision.revision);
        let stored = newest.and_then(|newest| Evidence::read(newest.data.as_ref()?.0.get(DATA)?));
        let stored = stored.filter(|stored| stored.started_at.as_microsecond() == rollout.started_at.as_microsecond());
        let journal = stored.and_then(|stored| Journal::resumed(&stored.journal, &rollout.book));
        Ok(Open {
            release: rollout.release.clone(),
            started_at: rollout.started_at,
            journal: journal.unwrap_or_else(|| Journal::since(&rollout.book)),
            stored: found.iter().map(|found| found.revision).collect(),
            owner: None,
            new: false,
            due: Instant::now() + OFTEN,
        })
    }

    /// Whether it was written.
    async fn write(&self, proof: &LeaderProof, delivery: &Delivery, open: &mut Open) -> Result<bool, ActError> {
        let calls = self.calls(proof, delivery);
        let release = open.release.as_str();
        let owner = match &open.owner {
            Some(owner) => owner.clone(),
            None => text(&calls.get(Kind::Release, release).await?, "/metadata/uid").to_owned(),
        };
        open.owner = Some(owner.clone());
        let revision = open.stored.iter().max().map_or(1, |newest| newest + 1);
        let evidence = Evidence { release: release.to_owned(), started_at: open.started_at, journal: open.journal.kept() };
        let object = json!({
            "apiVersion": "apps/v1",
            "kind": "ControllerRevision",
            "metadata": {
                "name": name(release, revision), "namespace": calls.namespace, "labels": {EVIDENCE_LABEL: release},
                "ownerReferences": [{"apiVersion": "haldane.dev/v1alpha1", "kind": "Release", "name": release, "uid": owner}],
            },
            "data": {DATA: evidence},
            "revision": revision,
        });
        let made = calls.create(Kind::ControllerRevision, &name(release, revision), &object).await?;
        let before = std::mem::replace(&mut open.stored, vec![revision]);
        if !made {
            // Another wrote one of that number: the next is free.
            open.stored.extend(before);
            open.due = Instant::now();
            return Ok(false);
        }
        for old in before {
            calls.delete(Kind::ControllerRevision, &name(release, old), None).await?;
        }
        Ok(true)
    }
}

/// No Release has a dot in its name, so none has its templates under this one.
fn name(release: &str, revision: i64) -> String {
    format!("{release}.evidence.{revision}")
}

fn untold(delivery: &Delivery, error: &ActError) {
    let (namespace, name) = (delivery.metadata.namespace.clone(), delivery.name_any());
    tracing::warn!(
        namespace,
        delivery = name,
        error = error as &dyn std::error::Error,
        "the evidence was not written down; it is tried again"
    );
}
