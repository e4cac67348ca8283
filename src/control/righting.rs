//! Puts runs of probes right whose process has gone, or whose own teardown failed: each by what its `ProbeRun` says, through a pod of
//! what is proven, again and again until it succeeds or a person deletes the object.
//!
//! Whose process may still be at work is left alone until its time is over. What is done twice does no harm: a teardown expects that what
//! it cancels may be cancelled already.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use futures::{StreamExt as _, future::join_all};
use jiff::Timestamp;
use kube::{
    Api, Client, ResourceExt as _,
    api::DynamicObject,
    runtime::{
        Controller,
        controller::Action,
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use tokio::time::Instant;

use super::{controller::Scope, lease::LeaderProof};
use crate::{
    act::{ActError, ledger::ProbeRuns},
    api::{delivery::Delivery, probe_run::ProbeRun},
    clock::Clock,
    edge::{kube::KubeError, probe::Prober},
    model::{phase::after, probe::RunName},
    observe::{
        ProbeBoard,
        checks::put_right::{Nobody, has_gone, put_right},
    },
};

/// As for the other watches: shorter than proxies cut one off.
const WATCH_TIMEOUT_S: u32 = 290;
/// At the same time: an app that has to put twenty runs right is not to feel it.
const CONCURRENCY: u16 = 2;
/// After a call that failed, and while a run is under way here or nobody can be asked to put it right.
const AGAIN: Duration = Duration::from_secs(30);
/// So long after we came to lead, whatever a process of our own pod sent before its end is answered or lost: a step's own limit.
const GONE: Duration = Duration::from_secs(10);
/// From one look at the pod of a process to the next.
const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// After a teardown that failed: 30 s, then twice as long each time.
const FIRST_RETRY: Duration = Duration::from_secs(30);
const LAST_RETRY: Duration = Duration::from_hours(1);
/// An app that is gone for so long does not come back for what was left in it.
const GIVEN_UP: Duration = Duration::from_hours(7 * 24);

/// What it takes.
#[derive(Clone)]
pub(super) struct Tools {
    pub(super) client: Client,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) prober: Arc<dyn Prober>,
    pub(super) board: Arc<ProbeBoard>,
    pub(super) runs: Arc<ProbeRuns>,
    /// Haldane's own namespace.
    pub(super) home: String,
}

struct Desk {
    tools: Tools,
    proof: LeaderProof,
    /// Since when we lead.
    since: Instant,
}

/// Why a run stays as it is for now.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Kube(#[from] KubeError),
    #[error(transparent)]
    Act(#[from] ActError),
}

/// Puts runs right for as long as it is polled: while we lead by this proof.
pub(super) async fn keep_righting(tools: Tools, scopes: Vec<Scope>, proof: LeaderProof) -> Infallible {
    let runs = tools.runs.clone();
    let desk = Arc::new(Desk { tools, proof, since: Instant::now() });
    let controllers: Vec<_> = scopes.iter().map(|scope| watched(scope, &desk.tools.client)).collect();
    let stores: Vec<_> = controllers.iter().map(Controller::store).collect();
    let loops = controllers.into_iter().map(|controller| {
        let config = kube::runtime::controller::Config::default().concurrency(CONCURRENCY);
        controller.with_config(config).run(right, failed, desk.clone()).for_each(|_| std::future::ready(()))
    });
    let known = async {
        if join_all(stores.iter().map(Store::wait_until_ready)).await.iter().all(Result::is_ok) {
            runs.follow(Some(stores.clone()));
        }
    };
    tokio::join!(join_all(loops), known);
    // A scope whose watch ended: the lead's end takes the rest down.
    std::future::pending().await
}

fn watched(scope: &Scope, client: &Client) -> Controller<DynamicObject> {
    let kind = kube::core::ApiResource::erase::<ProbeRun>(&());
    let api: Api<DynamicObject> = scope.dynamic::<ProbeRun>(client);
    Controller::new_with(api, watcher::Config::default().timeout(WATCH_TIMEOUT_S), kind)
}

async fn right(object: Arc<DynamicObject>, desk: Arc<Desk>) -> Result<Action, Error> {
    let run: ProbeRun = match (*object).clone().try_parse() {
        Ok(run) => run,
        Err(error) => {
            tracing::error!(run = object.name_any(), %error, "this ProbeRun cannot be decoded and is left as it is");
            return Ok(Action::await_change());
        }
    };
    let Some(name) = RunName::read(&run.spec.run).filter(|_| run.metadata.deletion_timestamp.is_none()) else {
        return Ok(Action::await_change());
    };
    if desk.tools.runs.is_here(&name) {
        return Ok(Action::requeue(AGAIN));
    }
    let whose = desk.whose(&run, &name).await?;
    let wait = wait(&run, whose, desk.since.elapsed(), desk.tools.clock.now());
    if !wait.is_zero() {
        return Ok(Action::requeue(wait));
    }
    desk.right(&run, &name).await
}

impl Desk {
    /// There is one process at a time in a pod, so the one of our own before this one has gone; of another pod its status tells.
    async fn whose(&self, run: &ProbeRun, name: &RunName) -> Result<Whose, Error> {
        let (me, holder) = (self.tools.runs.holder(), run.spec.holder.as_str());
        if holder == me {
            return Ok(Whose::Ours);
        }
        let over = run.spec.until.0 <= self.tools.clock.now();
        let gone = over || pod(holder) == pod(me) || has_gone(&self.tools.client, &self.tools.home, pod(holder), name.began()).await?;
        Ok(if gone { Whose::Gone } else { Whose::Others })
    }

    async fn right(&self, run: &ProbeRun, name: &RunName) -> Result<Action, Error> {
        let (namespace, probe) = (run.namespace().unwrap_or_default(), &run.spec.probe_ref.name);
        let (check, home) = match put_right(&self.tools.client, &namespace, &run.spec, turn(run, self.tools.clock.now())).await? {
            Ok(found) => found,
            Err(nobody) => return self.waits(run, &nobody).await,
        };
        let status = run.status.clone().unwrap_or_default();
        let kept: BTreeMap<String, String> = status.kept.into_iter().map(|kept| (kept.name, kept.value)).collect();
        let left = self.tools.prober.put_right(&check, home, name, &kept).await;
        let delivery = ObjectRef::<Delivery>::new(&run.spec.delivery_ref.name).within(&namespace);
        self.tools.board.put_right(&delivery, probe, left.as_deref());
        match left {
            None => {
                tracing::info!(namespace, probe, run = name.as_str(), "what a run had left is put right");
                self.tools.runs.forget(&self.proof, run).await?;
                Ok(Action::await_change())
            }
            Some(left) => {
                tracing::warn!(namespace, probe, run = name.as_str(), left, "what a run has left could not be put right");
                self.tools.runs.tried(&self.proof, run, &left).await?;
                // The write wakes it up, and then its time is reckoned from that.
                Ok(Action::requeue(FIRST_RETRY))
            }
        }
    }

    /// Nobody can be asked now, which is no fault of the teardown's.
    async fn waits(&self, run: &ProbeRun, nobody: &Nobody) -> Result<Action, Error> {
        let (namespace, name) = (run.namespace().unwrap_or_default(), run.name_any());
        match nobody {
            Nobody::Left(why) if after(run.spec.until.0, GIVEN_UP) < self.tools.clock.now() => {
                tracing::warn!(namespace, run = name, why, "nobody is left who could put this run right; it is forgotten");
                self.tools.runs.forget(&self.proof, run).await?;
                Ok(Action::await_change())
            }
            Nobody::Left(why) | Nobody::Now(why) => {
                if run.status.as_ref().and_then(|status| status.message.as_ref()) != Some(why) {
                    tracing::info!(namespace, run = name, why, "a run waits for somebody who can be asked to put it right");
                    self.tools.runs.waits(&self.proof, run, why).await?;
                }
                Ok(Action::requeue(AGAIN))
            }
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as kube calls it")]
fn failed(object: Arc<DynamicObject>, error: &Error, _: Arc<Desk>) -> Action {
    tracing::info!(run = object.name_any(), error = error as &dyn std::error::Error, "a run could not be put right yet; again soon");
    Action::requeue(AGAIN)
}

/// Whose run it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// This process's, which has lost it.
    Ours,
    /// Of a process that has gone.
    Gone,
    /// Of one that may be at work.
    Others,
}

/// How long it is left alone by a process that leads for so long.
fn wait(run: &ProbeRun, whose: Whose, leads: Duration, now: Timestamp) -> Duration {
    let until = |at: Timestamp| at.duration_since(now).try_into().unwrap_or(Duration::ZERO);
    let status = run.status.as_ref();
    if let Some((tries, last)) = status.and_then(|status| Some((status.tries.filter(|tries| *tries > 0)?, status.last_try.as_ref()?.0))) {
        let doubled = u32::try_from(tries - 1).unwrap_or(u32::MAX).min(16);
        return until(after(last, LAST_RETRY.min(FIRST_RETRY * 2_u32.pow(doubled))));
    }
    let over = until(run.spec.until.0);
    match whose {
        Whose::Ours => Duration::ZERO,
        Whose::Gone => GONE.saturating_sub(leads).min(over),
        // Its pod is looked at again meanwhile.
        Whose::Others => over.min(LOOK_AGAIN),
    }
}

/// The pod of a process.
fn pod(holder: &str) -> &str {
    holder.split_once('/').map_or(holder, |(pod, _)| pod)
}

/// Another number for each try.
fn turn(run: &ProbeRun, now: Timestamp) -> usize {
    let tries = run.status.as_ref().and_then(|status| status.tries).unwrap_or(0);
    usize::try_from(i64::from(tries).wrapping_add(now.as_second()).unsigned_abs()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn run(holder: &str, until: i64, status: &Value) -> ProbeRun {
        let step = json!({"name": "cancel", "request": {"method": "DELETE", "path": "/orders/${id}"}});
        let put_right = json!({"target": {"serviceRef": {"name": "shop"}}, "teardown": [step]});
        serde_json::from_value(json!({"apiVersion": "haldane.dev/v1alpha1", "kind": "ProbeRun", "metadata": {"name": "order-0"},
            "spec": {"probeRef": {"name": "order", "uid": "u", "generation": 1}, "deliveryRef": {"name": "shop"}, "run": "00", "holder": holder,
                "until": at(until).to_string(), "putRight": put_right}, "status": status}))
        .unwrap()
    }

    fn waits(whose: Whose, until: i64, status: &Value, leads: u64) -> u64 {
        wait(&run("pod-a/1", until, status), whose, Duration::from_secs(leads), at(NOW)).as_secs()
    }

    #[test]
    fn a_run_is_left_alone_as_long_as_its_process_may_be_at_work() {
        let none = json!({});
        assert_eq!(waits(Whose::Ours, NOW + 90, &none, 100), 0, "lost by this very process");
        assert_eq!(waits(Whose::Gone, NOW + 90, &none, 3), 7, "what it sent last may still be under way");
        assert_eq!(waits(Whose::Gone, NOW + 90, &none, 100), 0);
        assert_eq!(waits(Whose::Gone, NOW - 1, &none, 3), 0, "its time is over anyway");
        assert_eq!(waits(Whose::Others, NOW + 90, &none, 100), 15, "it may only have lost the lead");
        assert_eq!(waits(Whose::Others, NOW + 9, &none, 100), 9);
        assert_eq!(waits(Whose::Others, NOW - 1, &none, 0), 0);
        assert_eq!((pod("uid/nonce"), pod("uid")), ("uid", "uid"));
    }

    #[test]
    fn a_teardown_that_fails_is_tried_again_more_and_more_slowly() {
        let tried = |tries: i32| waits(Whose::Ours, NOW, &json!({"tries": tries, "lastTry": at(NOW).to_string()}), 100);
        assert_eq!([1, 2, 3, 7, 8, 100, i32::MAX].map(tried), [30, 60, 120, 1920, 3600, 3600, 3600]);
    }
}
