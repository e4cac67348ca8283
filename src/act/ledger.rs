//! The ledger of probes: a `ProbeRun` per run that may change production, written before it does and deleted when it is put right.
//!
//! At most one write when it begins, one for each step that brings what its teardown needs, and one at its end. What cannot be written
//! stops the run, not what puts it right: the object that stays is found by [`crate::control`], and put right once more.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use jiff::Timestamp;
use kube::{Resource as _, ResourceExt as _, api::DynamicObject, runtime::reflector::Store};
use serde_json::{Value, json};

use super::{
    calls::{Calls, Kind},
    error::ActError,
    releases::cut,
    stored::time,
};
use crate::{
    api::{
        DELIVERY_LABEL, PROBE_LABEL,
        probe_run::{KeptValue, ProbeRun, ProbeRunSpec, ProbeRunStatus, RunPhase},
        release::DeliveryRef,
    },
    clock::Clock,
    control::lease::{LeaderProof, Leadership},
    edge::{
        kube::Cluster,
        probe::{Alive, Ledger, Page, Room, Unwritten, Watch},
    },
    model::{phase::after, probe::RunName},
};

/// Length of a message, as the schema bounds it.
const MESSAGE: usize = 512;
/// Length of a name before that of the run, which is of 28 characters: 253 is the most for an object.
const NAME: usize = 200;
/// The greatest number of tries, as the schema bounds it.
const TRIES: i32 = 1_000_000;

/// Keeps the runs of probes as objects.
pub struct ProbeRuns {
    cluster: Cluster,
    clock: Arc<dyn Clock>,
    leadership: Leadership,
    /// This process, among all that ever were.
    holder: String,
    /// The runs that this process has begun.
    here: Mutex<HashMap<RunName, Here>>,
    /// What is stored, while it is followed.
    stored: Mutex<Option<Vec<Store<DynamicObject>>>>,
}

struct Here {
    namespace: String,
    probe: String,
    watch: Watch,
}

impl ProbeRuns {
    /// None is open. `holder` is like no other process.
    #[must_use]
    pub fn new(cluster: Cluster, clock: Arc<dyn Clock>, leadership: Leadership, holder: &str) -> Self {
        let holder = cut(holder, 128);
        Self { cluster, clock, leadership, holder, here: Mutex::default(), stored: Mutex::default() }
    }

    /// This process.
    #[must_use]
    pub fn holder(&self) -> &str {
        &self.holder
    }

    /// What is stored is followed here; none: it is not any more.
    pub fn follow(&self, stores: Option<Vec<Store<DynamicObject>>>) {
        *self.stored.lock().unwrap_or_else(PoisonError::into_inner) = stores;
    }

    /// This run is under way in this process.
    #[must_use]
    pub fn is_here(&self, run: &RunName) -> bool {
        let mut here = self.here.lock().unwrap_or_else(PoisonError::into_inner);
        here.retain(|_, run| run.watch.is_alive());
        here.contains_key(run)
    }

    /// It is put right, and forgotten.
    ///
    /// # Errors
    /// When the API server refuses to.
    pub async fn forget(&self, proof: &LeaderProof, run: &ProbeRun) -> Result<(), ActError> {
        let namespace = run.namespace().unwrap_or_default();
        let calls = Calls { cluster: &self.cluster, namespace: &namespace, proof };
        calls.delete(Kind::ProbeRun, &run.name_any(), run.metadata.uid.as_deref()).await
    }

    /// Says what could not be put right, and how often that was tried.
    ///
    /// # Errors
    /// When the API server refuses to.
    pub async fn tried(&self, proof: &LeaderProof, run: &ProbeRun, left: &str) -> Result<(), ActError> {
        let namespace = run.namespace().unwrap_or_default();
        let tries = run.status.as_ref().and_then(|status| status.tries).unwrap_or(0).saturating_add(1);
        let calls = Calls { cluster: &self.cluster, namespace: &namespace, proof };
        match calls.merge_status(Kind::ProbeRun, &run.name_any(), &left_behind(left, tries, self.clock.now())).await {
            Ok(_) | Err(ActError::Gone { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Says why nobody can put it right now. That is no try.
    ///
    /// # Errors
    /// When the API server refuses to.
    pub async fn waits(&self, proof: &LeaderProof, run: &ProbeRun, why: &str) -> Result<(), ActError> {
        let namespace = run.namespace().unwrap_or_default();
        let calls = Calls { cluster: &self.cluster, namespace: &namespace, proof };
        match calls.merge_status(Kind::ProbeRun, &run.name_any(), &json!({ "message": cut(why, MESSAGE) })).await {
            Ok(_) | Err(ActError::Gone { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The runs of a probe that are open, as far as is known.
    fn open_runs(&self, page: &Page) -> Option<usize> {
        let stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        let of_probe = |object: &DynamicObject| {
            object.namespace().as_deref() == Some(&page.namespace) && text(object, "/spec/probeRef/name") == page.probe.name
        };
        let objects = stored.as_ref()?.iter().flat_map(Store::state);
        let mut open: HashSet<String> = objects.filter(|o| of_probe(o)).map(|o| text(&o, "/spec/run").to_owned()).collect();
        let mut here = self.here.lock().unwrap_or_else(PoisonError::into_inner);
        here.retain(|_, run| run.watch.is_alive());
        let of_probe = |run: &Here| run.namespace == page.namespace && run.probe == page.probe.name;
        open.extend(here.iter().filter(|(_, run)| of_probe(run)).map(|(name, _)| name.as_str().to_owned()));
        Some(open.len())
    }

    fn spec(&self, page: &Page, run: &RunName, until: Timestamp) -> ProbeRunSpec {
        ProbeRunSpec {
            probe_ref: page.probe.clone(),
            delivery_ref: DeliveryRef { name: page.delivery.clone() },
            run: run.as_str().to_owned(),
            holder: self.holder.clone(),
            until: time(until),
            put_right: page.put_right.clone(),
        }
    }

    async fn written(&self, page: &Page, run: &RunName, within: Duration) -> Result<Alive, ActError> {
        let proof = self.proof()?;
        let name = name(page, run);
        let object = json!({
            "apiVersion": ProbeRun::api_version(&()),
            "kind": ProbeRun::kind(&()),
            "metadata": {"name": name, "namespace": page.namespace,
                "labels": {PROBE_LABEL: page.probe.name, DELIVERY_LABEL: page.delivery}},
            "spec": self.spec(page, run, after(self.clock.now(), within)),
        });
        // Before it is written: whoever sees it must know that it is under way.
        let alive = Alive::default();
        let here = Here { namespace: page.namespace.clone(), probe: page.probe.name.clone(), watch: alive.watch() };
        self.here.lock().unwrap_or_else(PoisonError::into_inner).insert(run.clone(), here);
        let calls = Calls { cluster: &self.cluster, namespace: &page.namespace, proof: &proof };
        if calls.create(Kind::ProbeRun, &name, &object).await? { Ok(alive) } else { Err(ActError::conflict(&format!("ProbeRun {name}"))) }
    }

    async fn ended(&self, page: &Page, run: &RunName, left: Option<&str>) -> Result<(), ActError> {
        let proof = self.proof()?;
        let calls = Calls { cluster: &self.cluster, namespace: &page.namespace, proof: &proof };
        match left {
            None => calls.delete(Kind::ProbeRun, &name(page, run), None).await,
            Some(left) => calls.merge_status(Kind::ProbeRun, &name(page, run), &left_behind(left, 1, self.clock.now())).await.map(drop),
        }
    }

    fn proof(&self) -> Result<LeaderProof, ActError> {
        // Without a term there is no number of one to tell.
        self.leadership.current().ok_or(ActError::NotLeading(crate::control::lease::NotLeading { epoch: 0 }))
    }
}

impl Ledger for ProbeRuns {
    fn open<'a>(&'a self, page: &'a Page, run: &'a RunName, within: Duration) -> BoxFuture<'a, Result<Alive, Unwritten>> {
        Box::pin(async move { self.written(page, run, within).await.map_err(unwritten) })
    }

    fn keep<'a>(&'a self, page: &'a Page, run: &'a RunName, kept: &'a BTreeMap<String, String>) -> BoxFuture<'a, Result<(), Unwritten>> {
        Box::pin(async move {
            let kept: Vec<_> = kept.iter().map(|(name, value)| KeptValue { name: name.clone(), value: value.clone() }).collect();
            let proof = self.proof().map_err(unwritten)?;
            let calls = Calls { cluster: &self.cluster, namespace: &page.namespace, proof: &proof };
            let written = calls.merge_status(Kind::ProbeRun, &name(page, run), &json!({ "kept": kept })).await;
            written.map(drop).map_err(unwritten)
        })
    }

    fn close<'a>(&'a self, page: &'a Page, run: &'a RunName, left: Option<&'a str>) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if let Err(error) = self.ended(page, run, left).await {
                let (namespace, probe) = (&page.namespace, &page.probe.name);
                tracing::warn!(namespace, probe, error = &error as &dyn std::error::Error, "a run is over and its ProbeRun stays for now");
            }
        })
    }

    fn room(&self, page: &Page) -> Room {
        match self.open_runs(page) {
            None => Room::Unknown,
            Some(open) if open >= page.most => Room::Full(open),
            Some(_) => Room::Free,
        }
    }

    fn is_open(&self, namespace: &str, run: &RunName) -> bool {
        let stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |object: &DynamicObject| object.namespace().as_deref() == Some(namespace) && text(object, "/spec/run") == run.as_str();
        // As long as nobody knows which ones are open, any may be.
        let listed = stored.as_ref().is_none_or(|stores| stores.iter().any(|store| store.state().iter().any(|object| is_it(object))));
        listed || self.is_here(run)
    }
}

fn left_behind(left: &str, tries: i32, now: Timestamp) -> Value {
    let status = ProbeRunStatus {
        phase: Some(RunPhase::Left),
        tries: Some(tries.min(TRIES)),
        last_try: Some(time(now)),
        message: Some(cut(left, MESSAGE)),
        kept: Vec::new(),
    };
    json!(status)
}

fn name(page: &Page, run: &RunName) -> String {
    let probe: String = page.probe.name.chars().take(NAME).collect();
    format!("{}-{}", probe.trim_end_matches(['-', '.']), run.as_str())
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err calls it")]
fn unwritten(error: ActError) -> Unwritten {
    Unwritten { said: error.to_string() }
}

fn text<'a>(object: &'a DynamicObject, pointer: &str) -> &'a str {
    object.data.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests;
