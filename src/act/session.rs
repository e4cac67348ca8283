//! One run of effects: what was written in it so far, so that a second write of an object builds on the first, and so
//! that each object gets its owners back.

use futures::future::join_all;
use jiff::Timestamp;
use serde_json::Value;

use super::{
    calls::{Calls, Kind, text, what},
    error::ActError,
    owners,
    patch::Ops,
};
use crate::{
    api::delivery::Delivery,
    model::{
        decision::Target,
        version::WorkloadName,
        world::{self, Observation},
    },
};

/// A user's object in this run.
#[derive(Clone, Debug)]
pub(super) struct Touched {
    pub(super) target: Target,
    /// As it was read, or as our last write left it.
    pub(super) object: Value,
    /// Whose fields were whose before our first write.
    pub(super) before: Vec<Value>,
}

impl Touched {
    pub(super) fn new(target: Target, object: Value) -> Self {
        Self { target, before: owners::others(&object), object }
    }

    pub(super) fn kind(&self) -> Kind {
        match self.target {
            Target::Workload(_) => Kind::Deployment,
            Target::Service(_) => Kind::Service,
            Target::Route(ref name) => Kind::of_route(name),
            Target::CronJob(_) => Kind::CronJob,
        }
    }

    pub(super) fn name(&self) -> &str {
        match &self.target {
            Target::Workload(name) => name.as_str(),
            Target::Service(name) | Target::CronJob(name) => name,
            Target::Route(route) => &route.name,
        }
    }

    pub(super) fn what(&self) -> String {
        what(self.kind(), self.name())
    }

    pub(super) fn uid(&self) -> &str {
        text(&self.object, "/metadata/uid")
    }

    /// A patch of it as it is here, and of nothing else.
    pub(super) fn exactly(&self) -> Ops {
        Ops::exactly(self.uid(), text(&self.object, "/metadata/resourceVersion"))
    }

    /// Writes, if there is something to write.
    pub(super) async fn write(&mut self, calls: Calls<'_>, ops: Ops) -> Result<(), ActError> {
        if ops.changes() {
            self.object = calls.patch(self.kind(), self.name(), ops).await?;
        }
        Ok(())
    }

    /// Takes us off the list of owners. Status moves the resourceVersion of a rolling Deployment all the time, so a
    /// conflict is looked at once more; what its owner wrote meanwhile stays.
    pub(super) async fn give_back(&mut self, calls: Calls<'_>) -> Result<(), ActError> {
        if !owners::listed(&self.object) {
            return Ok(());
        }
        let ops = owners::give_back(self.exactly(), &self.before, &self.object);
        match self.write(calls, ops).await {
            Err(ActError::Conflict { .. }) => {}
            done => return done,
        }
        let live = calls.get(self.kind(), self.name()).await?;
        if text(&live, "/metadata/uid") != self.uid() || !owners::listed(&live) {
            return Ok(());
        }
        self.object = live;
        let ops = owners::give_back(self.exactly(), &self.before, &self.object);
        self.write(calls, ops).await
    }
}

/// One run of effects.
pub(super) struct Session<'a> {
    pub(super) calls: Calls<'a>,
    pub(super) delivery: &'a Delivery,
    pub(super) seen: &'a Observation,
    pub(super) now: Timestamp,
    pub(super) touched: Vec<Touched>,
    /// The Delivery's resourceVersion after a write of ours to its finalizers.
    pub(super) delivery_version: Option<String>,
    /// Releases made in this run.
    pub(super) made: usize,
}

/// What must be as it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AsSeen {
    /// Every byte: adoption.
    Exactly,
    /// What the decision looked at: its template and its gate. Status moves the rest all the time.
    Gate,
    /// That it is the same object: closing the gate in a hurry.
    Identity,
}

impl Session<'_> {
    /// The object if it was touched in this run; the caller gives it back with [`Self::put`].
    pub(super) fn take(&mut self, target: &Target) -> Option<Touched> {
        let at = self.touched.iter().position(|t| t.target == *target)?;
        Some(self.touched.swap_remove(at))
    }

    pub(super) fn put(&mut self, touched: Touched) {
        self.touched.push(touched);
    }

    pub(super) fn seen_workload(&self, name: &WorkloadName) -> Result<&world::Workload, ActError> {
        self.seen.workload(name).ok_or_else(|| ActError::Gone { what: what(Kind::Deployment, name.as_str()) })
    }

    /// A workload, live, and as it was seen.
    pub(super) async fn workload(&mut self, name: &WorkloadName, demand: AsSeen) -> Result<Touched, ActError> {
        let target = Target::Workload(name.clone());
        if let Some(touched) = self.take(&target) {
            return Ok(touched);
        }
        let live = self.calls.get(Kind::Deployment, name.as_str()).await?;
        let seen = self.seen_workload(name)?;
        let same = text(&live, "/metadata/uid") == seen.uid
            && match demand {
                AsSeen::Exactly => text(&live, "/metadata/resourceVersion") == seen.resource_version,
                AsSeen::Gate => {
                    text(&live, "/metadata/resourceVersion") == seen.resource_version
                        || (live.pointer("/spec/template") == Some(&seen.template) && paused(&live) == seen.paused)
                }
                AsSeen::Identity => true,
            };
        if same { Ok(Touched::new(target, live)) } else { Err(ActError::conflict(&what(Kind::Deployment, name.as_str()))) }
    }

    /// Writes to an object and keeps what came of it.
    pub(super) async fn write(&mut self, mut touched: Touched, ops: Ops) -> Result<(), ActError> {
        let done = touched.write(self.calls, ops).await;
        self.put(touched);
        done
    }

    /// Takes us off the owners of one object.
    pub(super) async fn drop_ownership(&mut self, target: &Target) -> Result<(), ActError> {
        let taken = self.take(target);
        let mut touched = if let Some(touched) = taken {
            touched
        } else {
            let (kind, name) = match target {
                Target::Workload(name) => (Kind::Deployment, name.as_str()),
                Target::Service(name) => (Kind::Service, name.as_str()),
                Target::Route(route) => (Kind::of_route(route), route.name.as_str()),
                Target::CronJob(name) => (Kind::CronJob, name.as_str()),
            };
            match self.calls.get(kind, name).await {
                Ok(object) => Touched::new(target.clone(), object),
                Err(ActError::Gone { .. }) => return Ok(()),
                Err(error) => return Err(error),
            }
        };
        let done = touched.give_back(self.calls).await;
        self.put(touched);
        done
    }

    /// Gives every object of this run its owners back, where one of them applies on the server's side: its next apply would
    /// conflict with an entry of ours. Others never notice the entry; it is dropped once, at rest. What fails here is no
    /// failure of the run: the entry is seen in the next one and dropped there.
    pub(super) async fn end(&mut self) {
        let calls = self.calls;
        let applied = self.touched.iter_mut().filter(|touched| touched.before.iter().any(owners::applies));
        let done = join_all(applied.map(|touched| touched.give_back(calls))).await;
        for error in done.into_iter().filter_map(Result::err) {
            tracing::debug!(error = &error as &dyn std::error::Error, "an entry in managedFields stays for now");
        }
    }
}

/// `spec.paused`; absent is false.
pub(super) fn paused(deployment: &Value) -> bool {
    deployment.pointer("/spec/paused").and_then(Value::as_bool).unwrap_or(false)
}
