//! Calls to the API server: a time limit on every one, and one kind of error for reads and writes alike.
//!
//! Lists come from the API server's own cache, but never older than what this process has seen or written of that kind:
//! [`Cluster`] remembers it. A list from the quorum waits for a tick of the server's (up to 100 ms, measured) whenever
//! anything at all was just written, and a rollout writes all the time.
//!
//! Deliberately absent: retries. A reconcile that fails is run again with fresh reads; a call that is repeated below it
//! would act on what was true before (the client is built without retries of its own for the same reason).

use std::{
    collections::{HashMap, VecDeque},
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use kube::{
    Api, Client, Resource,
    api::{ListParams, VersionMatch},
    core::{ObjectList, Status},
};
use serde::de::DeserializeOwned;

use crate::model::world::Outage;

/// For one call. The API server itself gives up on a read after 60 s; an answer that takes 10 s is as good as none to a
/// rollout that must be able to turn back within 15 s.
pub const LIMIT: Duration = Duration::from_secs(10);

/// Invalid input has other words: `Deployment.apps "x" is invalid: spec…`.
const PATCH_FAILED: &str = "the server rejected our request due to an error in our request";

/// Why the API server did not do what was asked. Names the call and says what a person can do.
#[derive(Debug, thiserror::Error)]
pub enum KubeError {
    /// No answer in time.
    #[error("{call}: the API server did not answer within {limit:?}")]
    Slow {
        /// What was asked.
        call: String,
        /// For how long we waited.
        limit: Duration,
    },
    /// 401 or 403.
    #[error("{call}: the API server refuses it ({said}); give the ServiceAccount of Haldane the right by its ClusterRole or RoleBinding")]
    Refused {
        /// What was asked.
        call: String,
        /// Its words.
        said: String,
    },
    /// 404.
    #[error("{call}: it does not exist (any more)")]
    Absent {
        /// What was asked.
        call: String,
    },
    /// 409, or a `test` of a JSON patch that failed: somebody wrote in between.
    #[error("{call}: somebody else wrote in between ({said})")]
    Conflict {
        /// What was asked.
        call: String,
        /// Its words.
        said: String,
    },
    /// Any other 4xx.
    #[error("{call}: the API server finds it invalid ({said})")]
    Invalid {
        /// What was asked.
        call: String,
        /// Its words.
        said: String,
    },
    /// 429 or 5xx.
    #[error("{call}: the API server is overloaded or ill ({code}: {said})")]
    Busy {
        /// What was asked.
        call: String,
        /// Of HTTP.
        code: u16,
        /// Its words.
        said: String,
    },
    /// The answer is not what our types say.
    #[error("{call}: the answer cannot be read ({said}); are the CustomResourceDefinitions those of this version?")]
    Unreadable {
        /// What was asked.
        call: String,
        /// Where it does not fit.
        said: String,
    },
    /// No connection.
    #[error("{call}: the API server cannot be reached")]
    Unreachable {
        /// What was asked.
        call: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
}

/// What to do after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Read again at once and decide anew.
    Fresh,
    /// Read again after a pause that grows.
    Later,
    /// It will not heal by asking again soon: a person must act.
    Person,
}

impl KubeError {
    /// A failed call as one of ours.
    #[must_use]
    pub fn new(call: impl Into<String>, error: kube::Error) -> Self {
        let call = call.into();
        match error {
            kube::Error::Api(status) => Self::answered(call, &status),
            kube::Error::SerdeError(said) => Self::Unreadable { call, said: said.to_string() },
            other => Self::Unreachable { call, source: Box::new(other) },
        }
    }

    fn answered(call: String, status: &Status) -> Self {
        let said = status.message.clone();
        match status.code {
            401 | 403 => Self::Refused { call, said },
            404 => Self::Absent { call },
            409 => Self::Conflict { call, said },
            // What it says when a JSON patch does not apply (a `test` that fails, a path that is gone): it never says which.
            422 if said.contains(PATCH_FAILED) => Self::Conflict { call, said },
            code @ (429 | 500..=599) => Self::Busy { call, code, said },
            _ => Self::Invalid { call, said },
        }
    }

    /// One word, for metrics and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Slow { .. } => "slow",
            Self::Refused { .. } => "refused",
            Self::Absent { .. } => "absent",
            Self::Conflict { .. } => "conflict",
            Self::Invalid { .. } => "invalid",
            Self::Busy { .. } => "busy",
            Self::Unreadable { .. } => "unreadable",
            Self::Unreachable { .. } => "unreachable",
        }
    }

    /// Whether and when to look again.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            // Both mean that the world is not as it was read.
            Self::Conflict { .. } | Self::Absent { .. } => Retry::Fresh,
            Self::Slow { .. } | Self::Busy { .. } | Self::Unreachable { .. } => Retry::Later,
            Self::Refused { .. } | Self::Invalid { .. } | Self::Unreadable { .. } => Retry::Person,
        }
    }
}

/// One call with the time limit.
///
/// # Errors
/// As [`KubeError`] has them.
pub async fn within<T>(call: impl Into<String>, future: impl Future<Output = kube::Result<T>>) -> Result<T, KubeError> {
    let call = call.into();
    match tokio::time::timeout(LIMIT, future).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(KubeError::new(call, error)),
        Err(_) => Err(KubeError::Slow { call, limit: LIMIT }),
    }
}

/// One object as it is now; none: it is not there.
///
/// # Errors
/// As [`KubeError`] has them, `Absent` excepted.
pub async fn get<K>(api: &Api<K>, what: &str, name: &str) -> Result<Option<K>, KubeError>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    within(format!("read {what} {name}"), api.get_opt(name)).await
}

/// When the API server was away, as whoever asks it regularly tells.
#[derive(Clone, Debug, Default)]
pub struct Outages(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
struct Told {
    since: Option<Timestamp>,
    past: VecDeque<Outage>,
}

/// So many are remembered; one that matters is a minute old at most.
const REMEMBERED: usize = 8;

impl Outages {
    /// It did not answer.
    pub fn silent(&self, now: Timestamp) {
        self.lock().since.get_or_insert(now);
    }

    /// It answered.
    pub fn answered(&self, now: Timestamp) {
        let mut told = self.lock();
        let Some(from) = told.since.take() else { return };
        told.past.push_back(Outage { from, to: now });
        if told.past.len() > REMEMBERED {
            told.past.pop_front();
        }
    }

    /// The last ones, oldest first.
    #[must_use]
    pub fn past(&self) -> Vec<Outage> {
        self.lock().past.iter().copied().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The API server, and what this process knows of its age.
#[derive(Clone)]
pub struct Cluster {
    /// To the API server.
    pub client: Client,
    /// When it was away.
    pub outages: Outages,
    seen: Arc<Mutex<Seen>>,
}

/// The newest version of each kind, by its plural, that was seen or written since the lead was gained.
#[derive(Debug, Default)]
struct Seen {
    newest: HashMap<String, u64>,
    /// Counts how often it was forgotten, so that a list that was under way then establishes nothing.
    forgotten: u64,
}

impl Cluster {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, outages: Outages::default(), seen: Arc::default() }
    }

    /// An object of that kind has this version: no list is older from now on. Before the first list of a kind it says
    /// nothing, for it may be older than what another wrote before us.
    pub fn note(&self, plural: &str, version: Option<&str>) {
        let Some(version) = version.and_then(number) else { return };
        if let Some(newest) = self.lock().newest.get_mut(plural) {
            *newest = version.max(*newest);
        }
    }

    /// Another may have written since: the next list of each kind comes from the quorum.
    pub fn forget(&self) {
        let mut seen = self.lock();
        seen.newest.clear();
        seen.forgotten += 1;
    }

    /// Every object that fits these labels (a selector; empty: all), no older than anything that was seen or written of its
    /// kind. `plural` as in the path, `pods`.
    ///
    /// # Errors
    /// As [`KubeError`] has them.
    pub async fn list<K>(&self, api: &Api<K>, plural: &str, labels: &str) -> Result<Vec<K>, KubeError>
    where
        K: Resource + Clone + DeserializeOwned + Debug,
    {
        let call = if labels.is_empty() { format!("list {plural}") } else { format!("list {plural} with {labels}") };
        let quorum = ListParams { label_selector: Some(labels.to_owned()).filter(|l| !l.is_empty()), ..ListParams::default() };
        let (newest, epoch) = {
            let seen = self.lock();
            (seen.newest.get(plural).copied(), seen.forgotten)
        };
        let listed = match newest {
            None => within(call, api.list(&quorum)).await,
            Some(newest) => {
                let cached = ListParams {
                    resource_version: Some(newest.to_string()),
                    version_match: Some(VersionMatch::NotOlderThan),
                    ..quorum.clone()
                };
                match within(call.clone(), api.list(&cached)).await {
                    // It is behind, or it was restored from a backup and counts from there.
                    Err(KubeError::Busy { code: 504, .. }) => {
                        self.lock().newest.remove(plural);
                        within(call, api.list(&quorum)).await
                    }
                    listed => listed,
                }
            }
        }?;
        self.established(plural, &listed, epoch);
        Ok(listed.items)
    }

    fn established<K: Clone>(&self, plural: &str, listed: &ObjectList<K>, epoch: u64) {
        let Some(version) = listed.metadata.resource_version.as_deref().and_then(number) else { return };
        let mut seen = self.lock();
        if seen.forgotten == epoch {
            let newest = seen.newest.entry(plural.to_owned()).or_insert(version);
            *newest = version.max(*newest);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A resourceVersion as a number, as etcd counts; none: one that is not, and then the quorum is asked.
fn number(version: &str) -> Option<u64> {
    version.parse().ok().filter(|n| *n > 0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn answered(code: u16, message: &str) -> KubeError {
        let status = Status::failure(message, "").with_code(code).boxed();
        KubeError::new("patch Deployment shop", kube::Error::Api(status))
    }

    #[test]
    fn a_failed_test_of_a_patch_is_a_conflict_and_not_invalid_input() {
        let failed = "the server rejected our request due to an error in our request";
        for (code, message, label, retry) in [
            (422, failed, "conflict", Retry::Fresh),
            (422, "Deployment.apps \"shop\" is invalid: spec.replicas: Invalid value: -1", "invalid", Retry::Person),
            (409, "the object has been modified", "conflict", Retry::Fresh),
            (404, "not found", "absent", Retry::Fresh),
            (403, "forbidden", "refused", Retry::Person),
            (429, "too many requests", "busy", Retry::Later),
            (503, "etcd leader changed", "busy", Retry::Later),
        ] {
            let error = answered(code, message);
            assert_eq!((error.label(), error.retry()), (label, retry), "{error}");
        }
    }

    /// An API server of lists: what each was asked for, and what it answers.
    fn cluster(answers: Vec<(u16, Value)>) -> (Cluster, Arc<Mutex<Vec<String>>>) {
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (log, answers) = (asked.clone(), Arc::new(Mutex::new(answers.into_iter())));
        let server = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            log.lock().unwrap().push(request.uri().query().unwrap_or_default().to_owned());
            let (code, body) = answers.lock().unwrap().next().expect("one list more than there are answers");
            async move {
                let body = kube::client::Body::from(body.to_string().into_bytes());
                Ok::<_, std::convert::Infallible>(http::Response::builder().status(code).body(body).unwrap())
            }
        });
        (Cluster::new(Client::new(server, "shop")), asked)
    }

    fn listed(version: &str) -> (u16, Value) {
        (200, json!({"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": version}, "items": []}))
    }

    async fn pods(cluster: &Cluster) -> Result<usize, KubeError> {
        let api: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(cluster.client.clone(), "shop");
        cluster.list(&api, "pods", "").await.map(|pods| pods.len())
    }

    const QUORUM: &str = "";

    fn cached(version: &str) -> String {
        format!("&resourceVersion={version}&resourceVersionMatch=NotOlderThan")
    }

    #[tokio::test]
    async fn no_list_is_older_than_what_was_seen_or_written_of_its_kind() {
        let (cluster, asked) = cluster(vec![listed("10"), listed("12"), listed("30"), listed("31")]);
        cluster.note("pods", Some("99"));
        pods(&cluster).await.unwrap();
        pods(&cluster).await.unwrap();
        cluster.note("pods", Some("20"));
        cluster.note("pods", Some("11"));
        cluster.note("services", Some("500"));
        pods(&cluster).await.unwrap();
        cluster.note("pods", Some("not a number"));
        pods(&cluster).await.unwrap();
        assert_eq!(*asked.lock().unwrap(), [QUORUM.to_owned(), cached("10"), cached("20"), cached("30")]);
    }

    #[tokio::test]
    async fn with_a_new_lead_and_behind_a_server_that_is_behind_the_quorum_is_asked() {
        let behind = (
            504,
            json!({"kind": "Status", "status": "Failure", "code": 504, "reason": "Timeout",
            "message": "Too large resource version: 10, current: 3"}),
        );
        let (cluster, asked) = cluster(vec![listed("10"), listed("11"), behind, listed("3"), listed("4")]);
        pods(&cluster).await.unwrap();
        cluster.forget();
        pods(&cluster).await.unwrap();
        pods(&cluster).await.unwrap();
        pods(&cluster).await.unwrap();
        assert_eq!(*asked.lock().unwrap(), [QUORUM.to_owned(), QUORUM.to_owned(), cached("11"), QUORUM.to_owned(), cached("3")]);
    }

    #[test]
    fn an_outage_lasts_from_the_first_silence_to_the_next_answer() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let outages = Outages::default();
        outages.answered(at(1));
        outages.silent(at(10));
        outages.silent(at(14));
        outages.answered(at(15));
        outages.answered(at(16));
        assert_eq!(outages.past(), [Outage { from: at(10), to: at(15) }]);
        for second in 20..40 {
            outages.silent(at(second));
            outages.answered(at(second));
        }
        assert_eq!(outages.past().len(), REMEMBERED);
    }

    #[tokio::test(start_paused = true)]
    async fn no_call_waits_for_ever() {
        let never = std::future::pending::<kube::Result<()>>();
        assert_eq!(within("read Pod a", never).await.unwrap_err().label(), "slow");
    }
}
