//! One question over the network and its answer, within a time and a size. The only file that knows the library that carries it.

use std::{error::Error, iter, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, LengthLimitError, Limited, combinators::BoxBody};
use octocrab::{
    Octocrab,
    secrecy::{ExposeSecret, SecretString},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::time::timeout;

use crate::edge::forge::ForgeError;

use super::{access::SetupError, budget::Api};

/// For one call. GitHub itself gives up on an answer after 10 s.
pub const LIMIT: Duration = Duration::from_secs(10);

/// Bytes of one answer that are taken. The largest that we ask for: 100 commits × (a message of 64 KiB at worst + 1 KiB) =
/// 6.5 MiB.
pub const MOST: usize = 8 * 1024 * 1024;

/// Bytes of an answer that is a refusal.
const MOST_REFUSAL: usize = 64 * 1024;

/// A repository that was renamed is answered with its new address; once more for one that was renamed meanwhile.
const REDIRECTS: usize = 2;

/// Characters of GitHub's words that we repeat.
const WORDS: usize = 200;

/// What a segment of a path may hold as it is.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Media types of the REST API.
pub(super) const JSON: &str = "application/vnd.github+json";
pub(super) const RAW: &str = "application/vnd.github.raw+json";

/// A path below the REST API of which each part is one segment, whatever is in it.
pub(super) fn path<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    parts.into_iter().flat_map(|part| iter::once("/").chain(utf8_percent_encode(part, SEGMENT))).collect()
}

/// What is asked. Names what it is about, for errors.
pub(super) struct Question {
    pub(super) what: String,
    pub(super) call: Call,
    pub(super) accept: &'static str,
    /// Bytes of the answer that are taken.
    pub(super) most: usize,
}

pub(super) enum Call {
    /// Of a path below the REST API.
    Get(String),
    /// To a path below the REST API, with what it takes, if anything.
    Post(String, Option<Value>),
    /// A document with its variables.
    GraphQl(Value),
}

impl Question {
    pub(super) fn get(what: impl Into<String>, path: String) -> Self {
        Self { what: what.into(), call: Call::Get(path), accept: JSON, most: MOST }
    }

    pub(super) fn api(&self) -> Api {
        match self.call {
            Call::Get(_) | Call::Post(..) => Api::Rest,
            Call::GraphQl(_) => Api::GraphQl,
        }
    }
}

/// What came back, whatever its status.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    /// The words of a refusal, with its status.
    pub(super) fn said(&self) -> String {
        let answer: Option<Value> = serde_json::from_slice(&self.body).ok();
        let message = answer.as_ref().and_then(|answer| answer.get("message")).and_then(Value::as_str);
        words(&format!("{}: {}", self.status.as_u16(), message.or(self.status.canonical_reason()).unwrap_or("no words")))
    }

    /// The answer, if it is one.
    pub(super) fn good(self, question: &Question) -> Result<Self, ForgeError> {
        match self.status.as_u16() {
            200..=299 => Ok(self),
            401 | 403 => Err(ForgeError::Denied { said: self.said() }),
            // 409: an empty repository has no commits; 410: gone; 451: taken down.
            404 | 409 | 410 | 451 => Err(ForgeError::Absent { what: question.what.clone() }),
            400..=499 => Err(ForgeError::Unreadable { said: format!("{}: {}", question.what, self.said()) }),
            _ => Err(ForgeError::Ill { said: self.said() }),
        }
    }
}

/// Somebody else's words on one line, not too many of them.
pub(super) fn words(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match line.char_indices().nth(WORDS) {
        Some((at, _)) => format!("{}…", line.get(..at).unwrap_or_default()),
        None => line,
    }
}

/// The way to one GitHub.
pub(super) struct Wire {
    octocrab: Octocrab,
    origin: Uri,
    rest: String,
    graphql: String,
}

impl Wire {
    pub(super) fn new(base: &str) -> Result<Self, SetupError> {
        let wrong = |said| SetupError::Base { base: shown(base), said };
        let uri: Uri = base.trim().parse().map_err(|_| wrong("it cannot be read"))?;
        if !matches!(uri.scheme_str(), Some("https" | "http")) {
            return Err(wrong("it begins with neither https:// nor http://"));
        }
        let authority = uri.authority().ok_or(wrong("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("credentials do not belong there"));
        }
        if authority.host().eq_ignore_ascii_case("github.com") {
            return Err(wrong("that is where people look"));
        }
        if uri.query().is_some() {
            return Err(wrong("it has a question mark"));
        }
        let rest = uri.path().trim_end_matches('/').to_owned();
        // As GitHub's own clients have it: an Enterprise Server serves the two side by side.
        let graphql = rest.strip_suffix("/v3").map_or_else(|| format!("{rest}/graphql"), |api| format!("{api}/graphql"));
        let origin = Uri::builder().scheme(uri.scheme_str().unwrap_or("https")).authority(authority.as_str()).path_and_query("/");
        let origin = origin.build().map_err(|_| wrong("it cannot be read"))?;
        let trust = |error: octocrab::Error| SetupError::Trust { said: root(&error) };
        let octocrab = Octocrab::builder().base_uri(origin.clone()).map_err(trust)?.build().map_err(trust)?;
        Ok(Self { octocrab, origin, rest, graphql })
    }

    /// Where it leads.
    pub(super) fn base(&self) -> String {
        format!("{}{}", self.origin.to_string().trim_end_matches('/'), self.rest)
    }

    /// Asks once; without a bearer as nobody in particular. An answer that is an error is an answer.
    pub(super) async fn ask(&self, bearer: Option<&SecretString>, question: &Question) -> Result<Answer, ForgeError> {
        timeout(LIMIT, self.exchange(bearer, question)).await.unwrap_or(Err(ForgeError::Slow { limit: LIMIT }))
    }

    async fn exchange(&self, bearer: Option<&SecretString>, question: &Question) -> Result<Answer, ForgeError> {
        let (method, mut path, body) = match &question.call {
            Call::Get(path) => (Method::GET, format!("{}{path}", self.rest), None),
            Call::Post(path, body) => (Method::POST, format!("{}{path}", self.rest), body.as_ref()),
            Call::GraphQl(body) => (Method::POST, self.graphql.clone(), Some(body)),
        };
        for _ in 0..=REDIRECTS {
            let response = self.send(bearer, &method, &path, question.accept, body).await?;
            match self.onward(&method, &response) {
                Some(next) => path = next,
                None => return read(response, bearer, question).await,
            }
        }
        Err(ForgeError::Ill { said: format!("{}: it sends from one address to the next", question.what) })
    }

    async fn send(
        &self,
        bearer: Option<&SecretString>,
        method: &Method,
        path: &str,
        accept: &str,
        body: Option<&Value>,
    ) -> Result<Response<BoxBody<Bytes, octocrab::Error>>, ForgeError> {
        let mut request = Request::builder().method(method).uri(path).header(header::ACCEPT, accept);
        if let Some(bearer) = bearer {
            let mut proof = HeaderValue::from_str(&format!("Bearer {}", bearer.expose_secret()))
                .map_err(|_| ForgeError::Denied { said: "the token has characters that a header cannot have".to_owned() })?;
            proof.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, proof);
        }
        let ill = |error: octocrab::Error| ForgeError::Ill { said: root(&error) };
        let request = self.octocrab.build_request(request, body).map_err(ill)?;
        self.octocrab.execute(request).await.map_err(ill)
    }

    /// Where a GET is sent on to, if that is the same host: the token is for no other.
    fn onward<B>(&self, method: &Method, response: &Response<B>) -> Option<String> {
        if method != Method::GET || !matches!(response.status().as_u16(), 301 | 302 | 307 | 308) {
            return None;
        }
        let next: Uri = response.headers().get(header::LOCATION)?.to_str().ok()?.parse().ok()?;
        let here = next.authority().is_none_or(|host| Some(host) == self.origin.authority())
            && next.scheme().is_none_or(|scheme| Some(scheme) == self.origin.scheme());
        here.then(|| next.path_and_query().map(ToString::to_string)).flatten()
    }
}

async fn read(
    response: Response<BoxBody<Bytes, octocrab::Error>>,
    bearer: Option<&SecretString>,
    question: &Question,
) -> Result<Answer, ForgeError> {
    let (parts, body) = response.into_parts();
    let good = parts.status.is_success();
    let most = if good { question.most.min(MOST) } else { MOST_REFUSAL };
    let body = match Limited::new(body, most).collect().await {
        Ok(body) if good => body.to_bytes(),
        Ok(body) => without(&body.to_bytes(), bearer),
        // The status says it all.
        Err(_) if !good => Bytes::new(),
        Err(error) if error.is::<LengthLimitError>() => {
            return Err(ForgeError::TooLong { what: question.what.clone(), limit: most });
        }
        Err(error) => return Err(ForgeError::Unreadable { said: format!("{}: it broke off: {}", question.what, root(&*error)) }),
    };
    Ok(Answer { status: parts.status, headers: parts.headers, body })
}

/// A refusal may repeat what was sent, and what it says is shown to people.
fn without(body: &Bytes, bearer: Option<&SecretString>) -> Bytes {
    bearer.map_or_else(|| body.clone(), |bearer| String::from_utf8_lossy(body).replace(bearer.expose_secret(), "…").into())
}

/// The innermost reason: the outer ones say that there is an inner one.
fn root(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(inner) = error.source() {
        error = inner;
    }
    words(&error.to_string())
}

/// An address without what may be a password in it.
fn shown(base: &str) -> String {
    words(base.rsplit_once('@').map_or(base, |(_, host)| host))
}
