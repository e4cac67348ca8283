//! One Lease in memory, behind links that fail, and processes that start and die.
#![allow(clippy::indexing_slicing, reason = "a test may panic")]

use std::sync::{Mutex, MutexGuard};

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::super::*;

/// The wall clock of these tests stands still: nothing may depend on it.
pub(super) struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }
}

/// What lies between one process and the API server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Link {
    Up,
    /// The request arrives after so many milliseconds, also if nobody waits for the answer any more.
    Slow(u64),
    /// The same for writes only.
    SlowWrites(u64),
    /// Nothing arrives and nothing comes back.
    Cut,
    Refused,
}

#[derive(Default)]
pub(super) struct Stored {
    pub(super) lease: Option<Value>,
    version: u64,
    pub(super) writes: Vec<String>,
}

impl Stored {
    fn answer(&mut self, method: &Method, sent: Option<Value>) -> (u16, Value) {
        let version = |lease: &Value| lease.pointer("/metadata/resourceVersion").cloned();
        match (method, &self.lease, sent) {
            (&Method::GET, Some(lease), _) => (200, lease.clone()),
            (&Method::POST, None, Some(lease)) => (201, self.store(lease)),
            (&Method::PUT, Some(held), Some(lease)) if version(held) == version(&lease) => (200, self.store(lease)),
            (&Method::POST | &Method::PUT, Some(_), _) => (409, failure(409, "Conflict")),
            _ => (404, failure(404, "NotFound")),
        }
    }

    pub(super) fn store(&mut self, mut lease: Value) -> Value {
        self.version += 1;
        lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.writes.push(lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned());
        self.lease = Some(lease.clone());
        lease
    }
}

fn failure(code: u16, reason: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason})
}

#[derive(Clone, Default)]
pub(super) struct Cluster(Arc<Mutex<Stored>>);

impl Cluster {
    pub(super) fn stored(&self) -> MutexGuard<'_, Stored> {
        self.0.lock().unwrap()
    }

    fn client(&self, link: Arc<Mutex<Link>>) -> Client {
        let cluster = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (cluster, link) = (cluster.clone(), *link.lock().unwrap());
            async move {
                let reads = *request.method() == Method::GET;
                match link {
                    Link::SlowWrites(_) if reads => Ok(cluster.serve(request, 1).await),
                    Link::Cut => std::future::pending().await,
                    Link::Refused => Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused)),
                    // Its own task: a caller that gives up does not take the request back.
                    Link::Slow(millis) | Link::SlowWrites(millis) => Ok(tokio::spawn(cluster.serve(request, millis)).await.unwrap()),
                    Link::Up => Ok(cluster.serve(request, 1).await),
                }
            }
        });
        Client::new(service, "haldane")
    }

    async fn serve(self, request: Request<Body>, millis: u64) -> Response<Body> {
        let method = request.method().clone();
        let bytes = request.into_body().collect().await.unwrap().to_bytes();
        sleep(Duration::from_millis(millis)).await;
        let (code, answer) = self.stored().answer(&method, serde_json::from_slice(&bytes).ok());
        let body = Body::from(serde_json::to_vec(&answer).unwrap());
        Response::builder().status(StatusCode::from_u16(code).unwrap()).body(body).unwrap()
    }

    /// Starts a process of this pod.
    pub(super) fn start(&self, pod: &str, nonce: &str) -> Process {
        self.start_at(pod, nonce, None)
    }

    /// One that takes webhooks there.
    pub(super) fn start_at(&self, pod: &str, nonce: &str, address: Option<SocketAddr>) -> Process {
        let link = Arc::new(Mutex::new(Link::Up));
        let me = Holder::new(pod, nonce).unwrap().at(address);
        let (elector, leadership) = Elector::new(self.client(link.clone()), "haldane", "haldane", me, Arc::new(Stopped));
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(elector.run(shutdown.clone()));
        Process { leadership, link, shutdown, task }
    }
}

pub(super) struct Process {
    pub(super) leadership: Leadership,
    link: Arc<Mutex<Link>>,
    pub(super) shutdown: CancellationToken,
    pub(super) task: JoinHandle<()>,
}

impl Process {
    pub(super) fn link(&self, link: Link) {
        *self.link.lock().unwrap() = link;
    }

    /// As `kill -9`: nothing of it runs any more.
    pub(super) fn kill(&self) {
        self.task.abort();
    }

    pub(super) fn leads(&self) -> bool {
        self.leadership.current().is_some()
    }

    pub(super) async fn leads_within(&mut self, limit: Duration) -> LeaderProof {
        timeout(limit, self.leadership.gained()).await.expect("leads in time")
    }
}
