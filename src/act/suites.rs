//! Suites as Jobs: one is made for each run, followed to its end, and kept for those who want to read its log.
//!
//! The Job is made of the owner's suspended `CronJob`. It has no owner reference: a probe that is changed keeps its history. Where nobody is
//! left to end it, its own deadline does, and Kubernetes removes it some time after its end.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use k8s_openapi::api::{
    batch::v1::Job as RawJob,
    core::v1::{ContainerStateTerminated, ContainerStateWaiting, Pod as RawPod},
};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{
    calls::{Calls, Kind},
    error::ActError,
};
use crate::{
    api::{FIELD_MANAGER, PROBE_LABEL},
    clock::{Clock, Stopwatch},
    control::lease::{LeaderProof, Leadership},
    edge::{kube::Cluster, probe::Suites},
    model::probe::{Asks, Check, Class, Ended, Outcome, RunName, STARTS_WITHIN, Suite},
};

/// How often its pod is looked at: a suite takes seconds to minutes.
const LOOK: Duration = Duration::from_secs(1);
/// After this it is one of minutes, and looked at less often.
const LONG: Duration = Duration::from_secs(30);
const SELDOM: Duration = Duration::from_secs(5);
/// How long after its end Kubernetes keeps it, where Haldane has not removed it before.
const KEPT: Duration = Duration::from_hours(7 * 24);
/// Ended ones that stay of a probe: of those that passed, and of the others.
const HISTORY: usize = 3;
/// Letters of the probe's name in the name of a Job: with that of the run, 28, and what Kubernetes adds for its pod it stays a label, 63.
const NAME: usize = 26;
/// What Kubernetes labels a Job's pods with.
const JOB_LABEL: &str = "batch.kubernetes.io/job-name";

/// Runs suites as Jobs.
#[derive(Clone)]
pub struct SuiteJobs {
    cluster: Cluster,
    clock: Arc<dyn Clock>,
    leadership: Leadership,
}

/// A Job that was made and has not ended; it is removed when this is dropped.
struct Begun {
    jobs: SuiteJobs,
    namespace: String,
    name: String,
    ended: bool,
}

impl Drop for Begun {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let (jobs, namespace, name) = (self.jobs.clone(), self.namespace.clone(), self.name.clone());
        tokio::spawn(async move { jobs.remove(&namespace, &name).await });
    }
}

impl SuiteJobs {
    /// Those of the cluster that we lead.
    #[must_use]
    pub fn new(cluster: Cluster, clock: Arc<dyn Clock>, leadership: Leadership) -> Self {
        Self { cluster, clock, leadership }
    }

    async fn ran(&self, namespace: &str, check: &Check, suite: &Suite, at: SocketAddr) -> Outcome {
        let watch = Stopwatch::start();
        let (mut job, mut seen) = match self.begin(namespace, check, suite, at).await {
            Ok(job) => (job, Seen::default()),
            Err(why) => return Outcome::Void { class: Class::Prober, said: format!("suite {} cannot be run: {why}", suite.cron_job) },
        };
        let ended = loop {
            sleep(if watch.elapsed() < LONG { LOOK } else { SELDOM }).await;
            let ended = match self.pod(namespace, &job.name).await {
                Ok(pod) => seen.look(pod.as_ref(), watch.elapsed(), suite),
                Err(error) if watch.elapsed() > suite.limit() => Some(Ended::Lost(format!("could not be followed: {error}"))),
                // The API server may be away for a while; the suite goes on all the same.
                Err(_) => None,
            };
            if let Some(ended) = ended {
                break ended;
            }
        };
        // What ran to its own end stays, for its log; what did not is ended.
        job.ended = matches!(ended, Ended::Exited { .. });
        drop(job);
        self.sweep(namespace, &check.name).await;
        suite.outcome(ended, seen.ran.map_or(Duration::ZERO, |since| since.elapsed()))
    }

    async fn begin(&self, namespace: &str, check: &Check, suite: &Suite, at: SocketAddr) -> Result<Begun, String> {
        let mut random = [0; RunName::RANDOM];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| "this machine gives no randomness".to_owned())?;
        let run = RunName::new(self.clock.now(), random);
        let probe: String = check.name.chars().take(NAME).collect();
        let name = format!("{}-{}", probe.trim_end_matches(['-', '.']), run.as_str());
        let labels = json!({PROBE_LABEL: check.name, "app.kubernetes.io/managed-by": FIELD_MANAGER});
        let asks = Asks { at, scheme: check.scheme, host: &check.host, run: &run };
        let job = json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": suite.spec(&asks, &json!({PROBE_LABEL: check.name}), KEPT),
        });
        let proof = self.proof().map_err(|error| error.to_string())?;
        let calls = Calls { cluster: &self.cluster, namespace, proof: &proof };
        match calls.create(Kind::Job, &name, &job).await {
            Ok(true) => Ok(Begun { jobs: self.clone(), namespace: namespace.to_owned(), name, ended: false }),
            Ok(false) => Err(format!("Job {name} is there already")),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn pod(&self, namespace: &str, job: &str) -> Result<Option<RawPod>, String> {
        let api: Api<RawPod> = Api::namespaced(self.cluster.client.clone(), namespace);
        let pods = self.cluster.list(&api, "pods", &format!("{JOB_LABEL}={job}")).await.map_err(|error| error.to_string())?;
        Ok(pods.into_iter().next())
    }

    /// Removes all but the last of a probe.
    async fn sweep(&self, namespace: &str, probe: &str) {
        let api: Api<RawJob> = Api::namespaced(self.cluster.client.clone(), namespace);
        let Ok(mut jobs) = self.cluster.list(&api, "jobs", &format!("{PROBE_LABEL}={probe}")).await else { return };
        jobs.sort_by_key(|job| std::cmp::Reverse(job.metadata.creation_timestamp.clone().map(|time| time.0)));
        for passed in [true, false] {
            let ended = jobs.iter().filter(|job| over(job) == Some(passed));
            for job in ended.skip(HISTORY) {
                self.remove(namespace, &job.name_any()).await;
            }
        }
    }

    async fn remove(&self, namespace: &str, name: &str) {
        let removed = async {
            let proof = self.proof()?;
            Calls { cluster: &self.cluster, namespace, proof: &proof }.delete(Kind::Job, name, None).await
        };
        if let Err(error) = removed.await {
            tracing::warn!(
                namespace,
                job = name,
                error = &error as &dyn std::error::Error,
                "the Job of a suite stays until Kubernetes removes it"
            );
        }
    }

    fn proof(&self) -> Result<LeaderProof, ActError> {
        // Without a term there is no number of one to tell.
        self.leadership.current().ok_or(ActError::NotLeading(crate::control::lease::NotLeading { epoch: 0 }))
    }
}

impl Suites for SuiteJobs {
    fn run<'a>(&'a self, namespace: &'a str, check: &'a Check, suite: &'a Suite, at: SocketAddr) -> BoxFuture<'a, Outcome> {
        Box::pin(self.ran(namespace, check, suite, at))
    }
}

/// Whether it passed; none: it has not ended.
fn over(job: &RawJob) -> Option<bool> {
    let is = |kind: &str| job.status.iter().flat_map(|s| s.conditions.iter().flatten()).any(|c| c.type_ == kind && c.status == "True");
    if is("Complete") { Some(true) } else { is("Failed").then_some(false) }
}

/// What was seen of the pod of a Job so far.
#[derive(Default)]
struct Seen {
    /// It was there.
    there: bool,
    /// It runs since then.
    ran: Option<Instant>,
}

impl Seen {
    /// Takes in one look, so long after the Job was made; how it ended, if it has.
    fn look(&mut self, pod: Option<&RawPod>, after: Duration, suite: &Suite) -> Option<Ended> {
        let Some(pod) = pod else {
            let lost =
                if self.there { Some("was deleted") } else { (after > STARTS_WITHIN).then_some("has no pod; see: kubectl describe job") };
            return lost.map(|why| Ended::Lost(why.to_owned()));
        };
        self.there = true;
        let status = pod.status.clone().unwrap_or_default();
        match status.phase.as_deref() {
            Some("Succeeded") => return Some(Ended::Exited { code: 0, message: String::new() }),
            Some("Failed") => return Some(failed(pod, status.reason)),
            Some("Running") => {
                let ran = self.ran.get_or_insert_with(Instant::now).elapsed();
                return (ran > suite.within).then_some(Ended::TooLong);
            }
            _ => {}
        }
        (after > STARTS_WITHIN).then(|| Ended::Lost(format!("did not start: {}", waits(pod))))
    }
}

/// By the container that did not end well; what Kubernetes itself took away says nothing.
fn failed(pod: &RawPod, reason: Option<String>) -> Ended {
    if let Some(reason) = reason.filter(|reason| !reason.is_empty()) {
        return Ended::Lost(format!("was ended by Kubernetes: {reason}"));
    }
    let status = pod.status.iter();
    let all = status.flat_map(|s| s.init_container_statuses.iter().flatten().chain(s.container_statuses.iter().flatten()));
    let mut ends = all.filter_map(|container| container.state.as_ref()?.terminated.clone());
    match ends.find(|end: &ContainerStateTerminated| end.exit_code != 0) {
        Some(end) => Ended::Exited { code: end.exit_code, message: end.message.unwrap_or_default() },
        None => Ended::Lost("failed, and none of its containers did".to_owned()),
    }
}

/// What its pod waits for, in one word.
fn waits(pod: &RawPod) -> String {
    let status = pod.status.iter();
    let mut containers = status.clone().flat_map(|s| s.container_statuses.iter().flatten());
    let waiting = containers.find_map(|container| container.state.as_ref()?.waiting.clone());
    let scheduled = || {
        let mut conditions = status.flat_map(|s| s.conditions.iter().flatten());
        conditions.find(|c| c.type_ == "PodScheduled" && c.status == "False").and_then(|c| c.reason.clone())
    };
    waiting.and_then(|waiting: ContainerStateWaiting| waiting.reason).or_else(scheduled).unwrap_or_else(|| "Pending".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn suite() -> Suite {
        Suite {
            cron_job: "e2e".to_owned(),
            job: Value::Null,
            within: Duration::from_mins(10),
            fails_with: vec![1],
            not_within: <_>::default(),
            seed: 0,
            load: None,
        }
    }

    fn pod(status: &Value) -> RawPod {
        serde_json::from_value(json!({"metadata": {"name": "e2e"}, "status": status})).unwrap()
    }

    #[expect(clippy::needless_pass_by_value, reason = "each is written where it is seen")]
    fn ended(seen: &mut Seen, status: Value, after: u64) -> Option<Ended> {
        seen.look(Some(&pod(&status)), Duration::from_secs(after), &suite())
    }

    #[expect(clippy::unnecessary_wraps, reason = "it is compared with what a look gives")]
    fn lost(why: &str) -> Option<Ended> {
        Some(Ended::Lost(why.to_owned()))
    }

    #[test]
    fn it_ends_as_its_container_does() {
        let mut seen = Seen::default();
        assert_eq!(ended(&mut seen, json!({"phase": "Pending"}), 3), None);
        assert_eq!(ended(&mut seen, json!({"phase": "Running"}), 4), None);
        assert!(seen.ran.is_some());
        assert_eq!(ended(&mut seen, json!({"phase": "Succeeded"}), 5), Some(Ended::Exited { code: 0, message: String::new() }));
        let containers = json!([{"name": "a", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 0}}},
            {"name": "b", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 4, "message": "two failed"}}}]);
        let exited = ended(&mut seen, json!({"phase": "Failed", "containerStatuses": containers}), 5);
        assert_eq!(exited, Some(Ended::Exited { code: 4, message: "two failed".to_owned() }));
    }

    #[test]
    fn what_the_cluster_does_to_it_is_not_the_targets_fault() {
        assert_eq!(
            ended(&mut Seen::default(), json!({"phase": "Failed", "reason": "Evicted"}), 9),
            lost("was ended by Kubernetes: Evicted")
        );
        assert_eq!(ended(&mut Seen::default(), json!({"phase": "Failed"}), 9), lost("failed, and none of its containers did"));
        let pulls = json!({"phase": "Pending", "containerStatuses": [{"name": "a", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ImagePullBackOff"}}}]});
        assert_eq!(ended(&mut Seen::default(), pulls.clone(), 299), None);
        assert_eq!(ended(&mut Seen::default(), pulls, 301), lost("did not start: ImagePullBackOff"));
        let unscheduled =
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]});
        assert_eq!(ended(&mut Seen::default(), unscheduled, 301), lost("did not start: Unschedulable"));
        let mut seen = Seen::default();
        assert_eq!(seen.look(None, Duration::from_secs(299), &suite()), None);
        assert_eq!(seen.look(None, Duration::from_secs(301), &suite()), lost("has no pod; see: kubectl describe job"));
        assert_eq!(ended(&mut seen, json!({"phase": "Running"}), 302), None);
        assert_eq!(seen.look(None, Duration::from_secs(303), &suite()), lost("was deleted"));
    }

    #[test]
    fn one_that_does_not_end_is_ended() {
        let suite = Suite { within: Duration::ZERO, ..suite() };
        let mut seen = Seen::default();
        let running = pod(&json!({"phase": "Running"}));
        seen.look(Some(&running), Duration::from_secs(1), &suite);
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!(seen.look(Some(&running), Duration::from_secs(2), &suite), Some(Ended::TooLong));
    }
}
