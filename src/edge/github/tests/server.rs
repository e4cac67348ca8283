//! A GitHub of a few lines: a test says what it answers, and reads afterwards what it was asked.

use std::{
    future::pending,
    sync::{Arc, Mutex, OnceLock},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    response::Response,
};
use http::HeaderMap;
use jiff::{SignedDuration, Timestamp};
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use super::super::{Access, GitHub};
use crate::clock::Clock;

/// A clock that a test moves.
#[derive(Clone)]
pub(super) struct Hands(Arc<Mutex<Timestamp>>);

impl Hands {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new("2026-11-20T12:00:00Z".parse().unwrap())))
    }

    pub(super) fn move_on(&self, by: SignedDuration) {
        let mut now = self.0.lock().unwrap();
        *now = now.checked_add(by).unwrap();
    }
}

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// What was asked.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// `GET /path?query`.
    pub(super) line: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
}

impl Asked {
    pub(super) fn bearer(&self) -> &str {
        self.headers["authorization"].to_str().unwrap().strip_prefix("Bearer ").unwrap()
    }

    pub(super) fn variable(&self, name: &str) -> &Value {
        &self.body["variables"][name]
    }

    pub(super) fn document(&self) -> &str {
        self.body["query"].as_str().unwrap_or_default()
    }

    fn is_graphql(&self) -> bool {
        self.line.ends_with("/graphql")
    }
}

/// What is answered.
pub(super) enum Reply {
    Of(Response),
    Never,
}

/// An answer in JSON.
pub(super) fn says(status: u16, body: &Value) -> Reply {
    with(status, &[("content-type", "application/json; charset=utf-8")], body.to_string())
}

pub(super) fn with(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Reply {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    Reply::Of(response.body(body.into()).unwrap())
}

/// An answer of GraphQL without errors.
pub(super) fn data(data: &Value) -> Reply {
    says(200, &json!({ "data": data }))
}

type Answers = Arc<dyn Fn(&Asked) -> Reply + Send + Sync>;

/// The server and what it was asked.
pub(super) struct Server {
    base: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
    pub(super) clock: Hands,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// One that has an app on `acme` with tokens for an hour, and answers everything else by this.
    pub(super) async fn with_app(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let clock = Hands::new();
        let now = clock.clone();
        let mut server = Self::new(move |asked| {
            let ends = now.now().checked_add(SignedDuration::from_hours(1)).unwrap();
            door(asked, ends).unwrap_or_else(|| answer(asked))
        })
        .await;
        server.clock = clock;
        server
    }

    /// One that answers everything by this.
    pub(super) async fn new(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let answers: Answers = Arc::new(answer);
        let heard = asked.clone();
        let handle = move |request: Request| {
            let (answers, heard) = (answers.clone(), heard.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
                let body = serde_json::from_slice(&body).unwrap_or_default();
                let asked = Asked { line: format!("{} {}", parts.method, parts.uri), headers: parts.headers, body };
                heard.lock().unwrap().push(asked.clone());
                match answers(&asked) {
                    Reply::Of(response) => response,
                    Reply::Never => pending().await,
                }
            }
        };
        let router: Router = Router::new().fallback(handle);
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { base, asked, task, clock: Hands::new() }
    }

    /// A client with an app's key.
    pub(super) fn app(&self) -> GitHub {
        self.client("", Access::app(42, key().as_bytes()).unwrap())
    }

    /// A client with a person's token.
    pub(super) fn person(&self) -> GitHub {
        self.client("", Access::token("ghp_person").unwrap())
    }

    pub(super) fn client(&self, below: &str, access: Access) -> GitHub {
        GitHub::new(&format!("{}{below}", self.base), access, Arc::new(self.clock.clone())).unwrap()
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }

    pub(super) fn documents(&self) -> Vec<Asked> {
        self.asked().into_iter().filter(Asked::is_graphql).collect()
    }

    /// How often it was asked this.
    pub(super) fn times(&self, line: &str) -> usize {
        self.asked().iter().filter(|asked| asked.line == line).count()
    }
}

pub(super) const LOOK_UP: &str = "GET /repos/acme/shop/installation";
pub(super) const MINT: &str = "POST /app/installations/7/access_tokens";

/// What an app is answered about itself; none: it is asked for something else.
pub(super) fn door(asked: &Asked, ends: Timestamp) -> Option<Reply> {
    if asked.line.ends_with("/installation") && !asked.line.contains("/acme/") {
        return Some(says(404, &json!({ "message": "Not Found" })));
    }
    if asked.line.ends_with("/installation") {
        let granted = json!({ "checks": "write", "contents": "read", "metadata": "read", "issues": "write" });
        return Some(says(200, &json!({ "id": 7, "permissions": granted, "account": { "login": "acme" } })));
    }
    (asked.line == MINT).then(|| says(201, &json!({ "token": "ghs_installation", "expires_at": ends.to_string() })))
}

/// An RSA key; made once, it takes a while.
pub(super) fn key() -> &'static str {
    &key_pair().0
}

pub(super) fn public_key() -> &'static str {
    &key_pair().1
}

fn key_pair() -> &'static (String, String) {
    static KEY: OnceLock<(String, String)> = OnceLock::new();
    KEY.get_or_init(|| {
        let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        (pair.serialize_pem(), pair.public_key_pem())
    })
}
