//! Logins that a cloud gives to whoever runs in it, so that no word need be stored: ECR, Artifact Registry, ACR.
//!
//! Plain HTTP by the documents of the clouds; what they give is kept until shortly before it runs out. Deliberately absent:
//! keys in files or variables (who has those can make a Secret of them), metadata of nodes at AWS and Azure (a pod that needs
//! them has the rights of its node), and ECR's public registry (open to all).

mod acr;
mod ecr;
mod gar;
mod sigv4;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use http::Request;
use http::header::CONTENT_TYPE;
use http_body_util::Full;
use hyper::body::Bytes;
use jiff::{SignedDuration, Timestamp};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;

use super::Login;
use super::memory::Memory;
use super::wire::{Answer, SetupError, Wire, WireError};
use crate::clock::Clock;

pub use acr::Acr;
pub use ecr::Ecr;
pub use gar::Gar;

/// For one login, with all the calls that it takes.
pub const LIMIT: Duration = Duration::from_secs(10);

/// Most that an answer may have: tokens have a few KiB.
const CAP: usize = 64 * 1024;
/// A login is not given any more when it has only so long to live: a question to a registry takes up to 10 s, clocks differ.
const MARGIN: SignedDuration = SignedDuration::from_mins(5);
/// Registries whose login is kept: 256 × ~8 KiB = 2 MiB at worst.
const LOGINS: usize = 256;
/// Most bytes of the token that Kubernetes puts into a file: they have 1–2 KiB.
const TOKEN_FILE: u64 = 64 * 1024;

/// A cloud that gives logins for its registries.
pub trait Cloud: Send + Sync {
    /// A login for this registry; none: it is not of this cloud.
    ///
    /// # Errors
    /// When the cloud does not give one.
    fn login<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Option<Login>, CloudError>>;
}

/// Why a cloud gives no login.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloudError {
    /// It does not know us, or does not let us.
    #[error(
        "{cloud} gives no login for {host} ({said}); let the administrator give Haldane's ServiceAccount an identity there that may pull"
    )]
    Refused {
        /// e.g. `AWS`.
        cloud: &'static str,
        /// The registry.
        host: String,
        /// What it answered.
        said: String,
    },
    /// No answer in time.
    #[error("{cloud} did not give a login for {host} within {limit:?}")]
    Slow {
        /// e.g. `AWS`.
        cloud: &'static str,
        /// The registry.
        host: String,
        /// For how long we waited.
        limit: Duration,
    },
    /// It is ill, or cannot be reached.
    #[error("{cloud} gives no login for {host}: it cannot be reached or is ill ({said})")]
    Ill {
        /// e.g. `AWS`.
        cloud: &'static str,
        /// The registry.
        host: String,
        /// What it answered, or what the connection did.
        said: String,
    },
    /// Its answer is not what its documents say.
    #[error("{cloud} gives no login for {host}: it answered something that cannot be read ({said})")]
    Unreadable {
        /// e.g. `AWS`.
        cloud: &'static str,
        /// The registry.
        host: String,
        /// Where it does not fit.
        said: String,
    },
    /// The token of our `ServiceAccount` is not where it should be.
    #[error(
        "{cloud} gives no login for {host}: the token of Haldane's ServiceAccount cannot be read ({said}); has the ServiceAccount the annotation that {cloud} asks for?"
    )]
    NoIdentity {
        /// e.g. `AWS`.
        cloud: &'static str,
        /// The registry.
        host: String,
        /// Why.
        said: String,
    },
}

/// What all clouds need: a client, a clock, and a memory of what was given.
struct Desk {
    cloud: &'static str,
    wire: Wire,
    clock: Arc<dyn Clock>,
    given: Memory<String, (Login, Timestamp)>,
}

/// Of one registry.
struct Case<'a> {
    desk: &'a Desk,
    host: &'a str,
}

impl Desk {
    fn new(cloud: &'static str, extra_ca: Option<&[u8]>, clock: Arc<dyn Clock>) -> Result<Self, SetupError> {
        Ok(Self { cloud, wire: Wire::new(extra_ca)?, clock, given: Memory::of(LOGINS) })
    }

    /// The login that was given and still lives long enough, else a new one.
    async fn login<'a, F>(&'a self, host: &'a str, fetch: impl FnOnce(Case<'a>) -> F) -> Result<Option<Login>, CloudError>
    where
        F: Future<Output = Result<(String, String, Timestamp), CloudError>>,
    {
        let key = host.to_owned();
        if let Some((login, _)) = self.given.get(&key).filter(|(_, until)| *until > self.clock.now()) {
            return Ok(Some(login));
        }
        let slow = |_| CloudError::Slow { cloud: self.cloud, host: host.to_owned(), limit: LIMIT };
        let fetched = tokio::time::timeout(LIMIT, fetch(Case { desk: self, host })).await.map_err(slow)?;
        let (username, password, expires) = fetched?;
        let login = Login { from: format!("{} identity", self.cloud), username, password };
        let until = expires.saturating_sub(MARGIN).unwrap_or(expires);
        self.given.put(key, (login.clone(), until));
        Ok(Some(login))
    }
}

impl Case<'_> {
    async fn send(&self, request: http::request::Builder, body: String) -> Result<Answer, CloudError> {
        let request: Request<Full<Bytes>> =
            request.body(Full::from(body)).map_err(|_| self.unreadable("the address of its server is not valid"))?;
        let answer = self.desk.wire.ask(request, CAP).await.map_err(|error| match error {
            WireError::Broken(said) => self.ill(said),
            WireError::TooLong(limit) => self.unreadable(format!("more than {limit} bytes")),
        })?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        let (cloud, host, said) = (self.desk.cloud, self.host.to_owned(), format!("HTTP status {}", answer.status.as_u16()));
        let ill = answer.status.is_server_error() || answer.status == http::StatusCode::TOO_MANY_REQUESTS;
        Err(if ill { CloudError::Ill { cloud, host, said } } else { CloudError::Refused { cloud, host, said } })
    }

    /// A form, as OAuth and AWS take it.
    async fn form(&self, uri: String, fields: &[(&str, &str)]) -> Result<Answer, CloudError> {
        let body: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        self.send(Request::post(uri).header(CONTENT_TYPE, "application/x-www-form-urlencoded"), body.join("&")).await
    }

    fn json<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T, CloudError> {
        serde_json::from_slice(&answer.body).map_err(|_| self.unreadable("its JSON has other fields than its documents say"))
    }

    /// The token that Kubernetes renews in this file.
    async fn identity(&self, path: &Path) -> Result<String, CloudError> {
        let path = path.to_owned();
        let read = tokio::task::spawn_blocking(move || {
            use std::io::Read as _;
            let mut text = String::new();
            std::fs::File::open(path)?.take(TOKEN_FILE).read_to_string(&mut text).map(|_| text.trim().to_owned())
        });
        let no = |said: String| CloudError::NoIdentity { cloud: self.desk.cloud, host: self.host.to_owned(), said };
        read.await.map_err(|_| no("interrupted".to_owned()))?.map_err(|error| no(error.kind().to_string()))
    }

    fn ill(&self, said: String) -> CloudError {
        CloudError::Ill { cloud: self.desk.cloud, host: self.host.to_owned(), said }
    }

    fn unreadable(&self, said: impl Into<String>) -> CloudError {
        CloudError::Unreadable { cloud: self.desk.cloud, host: self.host.to_owned(), said: said.into() }
    }

    fn after(&self, seconds: i64) -> Timestamp {
        let now = self.desk.clock.now();
        now.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(now)
    }
}

/// What stands for itself in a form and in an URL (RFC 3986 §2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}
