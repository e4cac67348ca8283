//! Stands between our client and GitHub, and remembers all that passes: calls of REST go by way of Prism.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    response::Response,
};
use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};

/// A call and its answer.
#[derive(Clone, Debug)]
pub struct Heard {
    pub method: String,
    pub path: String,
    pub query: Vec<(String, String)>,
    pub asked: Bytes,
    pub status: u16,
    pub headers: HeaderMap,
    pub answer: Bytes,
    /// What Prism says against either.
    pub wrong: Vec<String>,
}

impl Heard {
    pub fn line(&self) -> String {
        format!("{} {} → {}", self.method, self.path, self.status)
    }

    /// The media type of the answer.
    pub fn media(&self) -> &str {
        self.headers.get("content-type").and_then(|media| media.to_str().ok()?.split(';').next()).unwrap_or_default()
    }
}

/// An answer that somebody else would give.
pub struct Canned {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

pub struct Middle {
    pub url: String,
    instead: Arc<Mutex<Option<Canned>>>,
    heard: Arc<Mutex<Vec<Heard>>>,
    task: JoinHandle<()>,
}

impl Drop for Middle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Of one connection alone, and what Prism adds for browsers.
const OWN: [&str; 5] = ["connection", "keep-alive", "transfer-encoding", "content-length", "sl-violations"];

/// A file as it is, whatever is in it. Prism would read it as JSON by the end of that name; before Prism it has another.
pub const RAW: &str = "application/vnd.github.raw+json";
pub const RAW_BEFORE_PRISM: &str = "application/vnd.github.raw";
/// `Location` on its way through Prism.
const ONWARD: &str = "x-location";

#[derive(Clone)]
struct Ways {
    /// A media type of answers, and what it is called on.
    renames: [&'static str; 2],
    prism: String,
    github: String,
    here: String,
    client: Client<HttpConnector, Full<Bytes>>,
    instead: Arc<Mutex<Option<Canned>>>,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Middle {
    /// Between our client and Prism.
    pub async fn before(prism: &str, github: &str) -> Self {
        Self::start(prism, github, [RAW_BEFORE_PRISM, RAW]).await
    }

    /// Between Prism and GitHub.
    pub async fn behind(github: &str) -> Self {
        Self::start(github, github, [RAW, RAW_BEFORE_PRISM]).await
    }

    async fn start(prism: &str, github: &str, renames: [&'static str; 2]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let heard = Arc::<Mutex<Vec<Heard>>>::default();
        let (client, instead) = (Client::builder(TokioExecutor::new()).build_http(), Arc::<Mutex<Option<Canned>>>::default());
        let (prism, github, here) = (prism.to_owned(), github.to_owned(), url.clone());
        let ways = Ways { renames, prism, github, here, client, instead: instead.clone(), heard: heard.clone() };
        let router: Router = Router::new().fallback(move |request: Request| {
            let ways = ways.clone();
            async move { ways.pass(request).await }
        });
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, instead, heard, task }
    }

    /// The next call is answered with this.
    pub fn say(&self, answer: Canned) {
        *self.instead.lock().unwrap() = Some(answer);
    }

    /// All that passed since this was last asked.
    pub fn heard(&self) -> Vec<Heard> {
        std::mem::take(&mut self.heard.lock().unwrap())
    }
}

impl Ways {
    async fn pass(&self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let asked = to_bytes(body, usize::MAX).await.unwrap();
        let instead = self.instead.lock().unwrap().take();
        if let Some(Canned { status, headers, body }) = instead {
            let mut response = Response::builder().status(status).body(Body::from(body)).unwrap();
            response
                .headers_mut()
                .extend(headers.into_iter().filter(|(name, _)| name.as_ref().is_some_and(|name| !OWN.contains(&name.as_str()))));
            return response;
        }
        let path = parts.uri.path().to_owned();
        let to = if path == "/graphql" { &self.github } else { &self.prism };
        let mut onward = http::Request::builder().method(parts.method.clone()).uri(format!("{to}{}", parts.uri));
        for (name, value) in parts.headers.iter().filter(|(name, _)| *name != "host" && !OWN.contains(&name.as_str())) {
            onward = onward.header(name, value);
        }
        let response = self.client.request(onward.body(Full::new(asked.clone())).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        let answer = body.collect().await.unwrap().to_bytes();
        let query = form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        let (status, headers, wrong) = (head.status.as_u16(), head.headers.clone(), violations(&head.headers));
        let passed = Heard { method: parts.method.to_string(), path, query, asked, status, headers, answer: answer.clone(), wrong };
        self.heard.lock().unwrap().push(passed);
        let mut back = Response::builder().status(head.status);
        for (name, value) in head.headers.iter().filter(|(name, _)| !OWN.contains(&name.as_str())) {
            let text = || value.to_str().unwrap();
            back = match name.as_str() {
                // Prism would go there itself.
                "location" if self.renames[0] == RAW => back.header(ONWARD, value),
                // GitHub knows itself by its own address, and we have come by another.
                ONWARD => back.header("location", text().replace(&self.github, &self.here)),
                "content-type" if text().split(';').next() == Some(self.renames[0]) => {
                    back.header(name, text().replace(self.renames[0], self.renames[1]))
                }
                _ => back.header(name, value),
            };
        }
        back.body(Body::from(answer)).unwrap()
    }
}

/// Prism's words. Where they would be longer than a header may be, it cuts them off.
fn violations(headers: &HeaderMap) -> Vec<String> {
    let Some(said) = headers.get("sl-violations").map(|said| String::from_utf8_lossy(said.as_bytes()).into_owned()) else {
        return Vec::new();
    };
    let all: Vec<Value> = serde_json::from_str(&said).unwrap_or_else(|_| vec![said.into()]);
    all.iter()
        .map(|one| one["message"].as_str().map_or_else(|| one.to_string(), |message| format!("{}: {message}", one["location"])))
        .collect()
}
