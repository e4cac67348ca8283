//! From a replica that does not lead to the one that does: the names that a call was about, and nothing else of it.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::words::About;
use crate::model::source::Repository;

/// Where replicas listen for each other.
pub(super) const PATH: &str = "/relayed";
/// What marks such a call.
pub(super) const RELAYED: &str = "x-haldane-relayed";
/// Names in one call.
pub(super) const MOST: usize = 100;
/// For the whole of it: the caller, too, waits for ten seconds at most.
const LIMIT: Duration = Duration::from_secs(2);

/// The way to the leader.
pub struct Relay {
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Default for Relay {
    fn default() -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        Self { client: Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).pool_max_idle_per_host(1).build(tcp) }
    }
}

#[derive(Default, Deserialize, Serialize)]
struct Words {
    #[serde(default)]
    repositories: Vec<String>,
    #[serde(default)]
    images: Vec<String>,
}

pub(super) fn write(about: &[About]) -> Bytes {
    let mut words = Words::default();
    for about in about {
        match about {
            About::Repository(repository) => words.repositories.push(repository.to_string()),
            About::Image(path) => words.images.push(path.clone()),
        }
    }
    // Two lists of texts are always JSON.
    serde_json::to_vec(&words).unwrap_or_default().into()
}

pub(super) fn read(body: &[u8]) -> Option<Vec<About>> {
    let words: Words = serde_json::from_slice(body).ok()?;
    let repositories = words.repositories.iter().filter_map(|name| Repository::parse(name)).map(About::Repository);
    Some(repositories.chain(words.images.into_iter().map(About::Image)).take(MOST).collect())
}

impl Relay {
    /// Sends it, and waits for the thanks. In the cluster's own network and in the clear: what it says is a name, and it is signed.
    pub(super) async fn send(&self, leader: SocketAddr, body: Bytes, signature: String) -> Result<(), String> {
        let request = Request::post(format!("http://{leader}{PATH}"))
            .header(header::CONTENT_TYPE, "application/json")
            .header("x-hub-signature-256", signature)
            .header(RELAYED, "1")
            .body(Full::new(body))
            .map_err(|error| error.to_string())?;
        match timeout(LIMIT, self.client.request(request)).await {
            Ok(Ok(answer)) if answer.status().is_success() => Ok(()),
            Ok(Ok(answer)) => Err(format!("it answered {}", answer.status())),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} s", LIMIT.as_secs())),
        }
    }
}
