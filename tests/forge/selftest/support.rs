//! A client, a receiver of webhooks, and openssl as the witness for signatures.

use std::{
    io::Write as _,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use haldane::clock::Clock as _;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use crate::forge::{GitHub, HandClock, Repository};

/// A GitHub with a repository, and the app on its owner.
pub struct Stage {
    pub clock: Arc<HandClock>,
    pub hub: GitHub,
    pub repo: Repository,
    pub installation: u64,
}

impl Stage {
    pub fn new() -> Self {
        let clock = Arc::new(HandClock::monday());
        let hub = GitHub::at(clock.clone());
        let installation = hub.install("acme");
        let repo = hub.repository("acme/checkout");
        Self { clock, hub, repo, installation }
    }

    /// A JWT of the app, valid for so many seconds, that openssl has signed.
    pub fn jwt(&self, seconds: i64) -> String {
        let now = self.clock.now().as_second();
        jwt(&self.hub.app().pem, &json!({"iat": now - 60, "exp": now + seconds, "iss": self.hub.app().client_id}))
    }

    /// A token as a client gets it.
    pub async fn token(&self) -> String {
        let path = format!("/app/installations/{}/access_tokens", self.installation);
        let answer = self.call("POST", &path, &self.jwt(300), &[], "").await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["token"].as_str().unwrap().to_owned()
    }

    pub async fn call(&self, method: &str, path: &str, token: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.try_call(method, path, token, headers, body).await.unwrap()
    }

    pub async fn try_call(
        &self,
        method: &str,
        path: &str,
        token: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Answer, hyper::Error> {
        let authorization = format!("Bearer {token}");
        let mut all = vec![("user-agent", "selftest"), ("authorization", authorization.as_str())];
        all.extend(headers);
        raw(self.hub.url(), method, path, &all, body).await
    }

    pub async fn get(&self, path: &str, token: &str) -> Answer {
        self.call("GET", path, token, &[], "").await
    }

    /// The whole answer to a query.
    pub async fn query(&self, token: &str, query: &str, variables: Value) -> Value {
        let body = json!({"query": query, "variables": variables}).to_string();
        let answer = self.call("POST", "/graphql", token, &[], &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name}: {:?}", self.headers)).to_str().unwrap()
    }
}

pub async fn raw(base: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Result<Answer, hyper::Error> {
    let address = base.trim_start_matches("http://");
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header("host", address);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = sender.send_request(request.body(Full::new(Bytes::from(body.to_owned()))).unwrap()).await?;
    let (head, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
}

/// A JSON Web Token that openssl signs.
pub fn jwt(pem: &str, claims: &Value) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","typ":"JWT"}"#);
    let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let folder = tempfile::TempDir::new().unwrap();
    let key = folder.path().join("key.pem");
    std::fs::write(&key, pem).unwrap();
    let signature = openssl(&["dgst", "-sha256", "-sign", &key.display().to_string()], message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

pub fn openssl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("openssl").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "openssl {arguments:?}");
    done.stdout
}

/// git, as a person has it, against the fake's own address.
pub async fn git(dir: &std::path::Path, arguments: &[&str]) -> String {
    let mut command = tokio::process::Command::from(crate::forge::git::command(dir));
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "Grace").env(format!("GIT_{role}_EMAIL"), "grace@acme.test");
    }
    let done = command.args(arguments).output().await.unwrap();
    assert!(done.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}

/// What a receiver was told.
#[derive(Clone, Debug)]
pub struct Told {
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Told {
    pub fn header(&self, name: &str) -> String {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name}")).to_str().unwrap().to_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// Takes webhooks and answers with the status that it was told last.
pub struct Receiver {
    pub url: String,
    told: Arc<Mutex<Vec<Told>>>,
    status: Arc<Mutex<u16>>,
}

impl Receiver {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hooks/github", listener.local_addr().unwrap());
        let (told, status) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(202)));
        let receiver = Self { url, told: Arc::clone(&told), status: Arc::clone(&status) };
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (told, status) = (Arc::clone(&told), Arc::clone(&status));
                tokio::spawn(async move {
                    let service = service_fn(|request: Request<Incoming>| {
                        let (told, status) = (Arc::clone(&told), Arc::clone(&status));
                        async move {
                            let (head, body) = request.into_parts();
                            let body = body.collect().await?.to_bytes();
                            told.lock().unwrap().push(Told { headers: head.headers, body });
                            let code = *status.lock().unwrap();
                            Ok::<_, hyper::Error>(Response::builder().status(code).body(Full::new(Bytes::new())).unwrap())
                        }
                    });
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        receiver
    }

    pub fn answers(&self, status: u16) {
        *self.status.lock().unwrap() = status;
    }

    pub fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap().clone()
    }

    /// The events of that kind.
    pub fn events(&self, event: &str) -> Vec<Value> {
        self.told().iter().filter(|told| told.header("x-github-event") == event).map(Told::json).collect()
    }
}
