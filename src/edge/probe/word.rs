//! Asks somebody else: for a word on a version, by one POST, and of its answer one word and the status is kept; or for numbers that he keeps.
//!
//! The name is looked up once, every address that it leads to is looked at, and one of those is dialled: nothing can change in between.
//! Deliberately absent: redirects, proxies, cookies, connections that stay open, and everything else that the answer says.

use std::{io, net::SocketAddr, time::Duration};

use aws_lc_rs::hmac;
use futures::future::BoxFuture;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode,
    header::{ACCEPT, CONNECTION, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT},
    request,
    response::Parts,
};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use jiff::Timestamp;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::time::timeout;

use super::{
    Reach,
    fault::{Fault, Limit, Phase},
    line::{Line, Wire},
    trust::Trust,
};
use crate::model::{
    external::{Address, Question, Secret, Word},
    measure::kept,
    probe::Class,
};

/// Questions at once in this process: 32 × (128 KiB of head + 256 KiB of body) = 12 MiB at worst. They have places of their own, so that
/// somebody who is slow to answer delays no probe.
pub(super) const MAX_QUESTIONS: usize = 32;
/// Most that is read of an answer: a verdict is 20 bytes.
const BODY_CAP: usize = 4 * 1024;
/// Of numbers: 5 minutes in seconds × 2 series × ~40 bytes = 24 KiB, and as much again ten times.
const NUMBERS_CAP: usize = 256 * 1024;
/// Somebody who sums over many machines first.
const NUMBERS_WITHIN: Duration = Duration::from_secs(15);
/// From one answer to the next question, where the answer says nothing else.
const AGAIN: Duration = Duration::from_secs(15);
/// What it may say: four checks of an app are then asked once a second at most, and a word that was given is heard within five minutes.
const AGAIN_WITHIN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(5));
/// So many addresses of a name are tried, as far as the time lasts.
const ADDRESSES: usize = 3;

const SIGNATURE: HeaderName = HeaderName::from_static("x-haldane-signature");
const TIMESTAMP: HeaderName = HeaderName::from_static("x-haldane-timestamp");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("haldane/", env!("CARGO_PKG_VERSION")));
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What was said, and after what pause it may be asked for again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The word.
    pub word: Word,
    /// The pause.
    pub again: Duration,
}

impl Answer {
    pub(super) fn wait(said: impl Into<String>) -> Self {
        Self { word: Word::Wait(said.into()), again: AGAIN }
    }
}

/// The addresses of a name, at that port.
pub(super) type Lookup = fn(String, u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>>;

/// As this machine looks up names.
pub(super) fn system(host: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
    Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
}

/// Asks over a connection of its own.
pub(super) struct Asker<'a> {
    pub(super) trust: &'a Trust,
    pub(super) reach: Reach,
    pub(super) lookup: Lookup,
}

impl Asker<'_> {
    /// Asks once.
    pub(super) async fn ask(&self, question: &Question, now: Timestamp) -> Answer {
        let mut phase = Phase::Connect;
        match timeout(question.within, self.asked(question, now, &mut phase)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(said)) => Answer::wait(said),
            Err(_) => Answer::wait(Fault::too_late(phase, Limit::Step(question.within), None).said),
        }
    }

    async fn asked(&self, question: &Question, now: Timestamp, phase: &mut Phase) -> Result<Answer, String> {
        let (head, body) = self.send(&question.to, request(question, now)?, BODY_CAP, phase).await?;
        if !head.status.is_success() {
            let said = format!("was answered {}", head.status.as_u16());
            return Ok(Answer { word: Word::Wait(said), again: pause(&head.headers) });
        }
        let word = match body {
            Some(body) => word(head.status, &body),
            None => Word::Wait(format!("was answered {} and more than {} KiB", head.status.as_u16(), BODY_CAP / 1024)),
        };
        Ok(Answer { word, again: pause(&head.headers) })
    }

    /// The numbers that somebody keeps; why they are not known, in a few words that go on "its metrics …".
    pub(super) async fn numbers(&self, question: kept::Question) -> Result<Value, String> {
        let mut phase = Phase::Connect;
        let to = question.to.clone();
        let sent = async {
            let request = counting(question)?;
            self.send(&to, request, NUMBERS_CAP, &mut phase).await
        };
        let said = |said: String| format!("are not known: {} {said}", to.host);
        let (head, body) = match timeout(NUMBERS_WITHIN, sent).await {
            Ok(sent) => sent.map_err(said)?,
            Err(_) => return Err(said(format!("did not answer within {} s", NUMBERS_WITHIN.as_secs()))),
        };
        if !head.status.is_success() {
            return Err(said(format!("answered {}", head.status.as_u16())));
        }
        let body = body.ok_or_else(|| said(format!("answered more than {} KiB", NUMBERS_CAP / 1024)))?;
        serde_json::from_slice(&body).map_err(|_| said("did not answer in JSON".to_owned()))
    }

    /// What comes back, and no body where it is longer than this. Of an answer that is none, nothing more is read.
    async fn send(
        &self,
        to: &Address,
        request: Request<Full<Bytes>>,
        cap: usize,
        phase: &mut Phase,
    ) -> Result<(Parts, Option<Vec<u8>>), String> {
        let mut wire = self.open(to, phase).await?;
        *phase = Phase::FirstByte;
        let response = wire.sender.send_request(request).await.map_err(|error| Fault::broken(&error).said)?;
        *phase = Phase::Body;
        let (head, body) = response.into_parts();
        let body = if head.status.is_success() { read(body, cap).await? } else { None };
        Ok((head, body))
    }

    async fn open(&self, to: &Address, phase: &mut Phase) -> Result<Wire, String> {
        let addresses = self.addresses(to).await?;
        let tls = if to.https {
            let config = self.trust.config(None).await.map_err(|error| format!("was not sent: {error}"))?;
            let name = ServerName::try_from(to.host.clone()).map_err(|_| "was not sent: its host is no name for TLS".to_owned())?;
            Some((config, name))
        } else {
            None
        };
        let mut last = "was not sent: its name has no address".to_owned();
        for address in addresses {
            match Line::new(address, tls.clone()).open(phase).await {
                Ok(wire) => return Ok(wire),
                Err(fault) if fault.class == Class::Connect => last = fault.said,
                Err(fault) => return Err(fault.said),
            }
        }
        Err(last)
    }

    /// The addresses that are dialled; none of them, where one must not be: whoever owns the name is not to be believed then.
    async fn addresses(&self, to: &Address) -> Result<Vec<SocketAddr>, String> {
        let found = (self.lookup)(to.host.clone(), to.port).await.map_err(|_| format!("was not sent: {} is not found", to.host))?;
        match found.iter().find_map(|at| self.reach.refuses(at.ip())) {
            Some(what) => Err(format!("was not sent: {} leads to {what}", to.host)),
            None => Ok(found.into_iter().take(ADDRESSES).collect()),
        }
    }
}

const UNWRITTEN: &str = "cannot be written as an HTTP request";

fn to(Address { https, host, port, path }: &Address, method: Method) -> request::Builder {
    let usual = if *https { 443 } else { 80 };
    let host = if *port == usual { host.clone() } else { format!("{host}:{port}") };
    let request = Request::builder().method(method).uri(path.as_str()).header(HOST, host).header(USER_AGENT, AGENT);
    request.header(CONNECTION, HeaderValue::from_static("close"))
}

/// The owner's headers go over ours.
fn counting(question: kept::Question) -> Result<Request<Full<Bytes>>, String> {
    let method = if question.body.is_some() { Method::POST } else { Method::GET };
    let mut request = to(&question.to, method).header(ACCEPT, JSON);
    if question.body.is_some() {
        request = request.header(CONTENT_TYPE, JSON);
    }
    if let Some(headers) = request.headers_mut() {
        question.headers.into_iter().for_each(|(name, value)| drop(headers.insert(name, value)));
    }
    request.body(Full::new(Bytes::from(question.body.unwrap_or_default()))).map_err(|_| UNWRITTEN.to_owned())
}

fn request(question: &Question, now: Timestamp) -> Result<Request<Full<Bytes>>, String> {
    let mut request = to(&question.to, Method::POST).header(CONTENT_TYPE, JSON);
    if let Some(secret) = &question.secret {
        let time = now.as_second().to_string();
        request = request.header(SIGNATURE, signature(secret, &time, &question.body)).header(TIMESTAMP, time);
    }
    request.body(Full::new(Bytes::from(question.body.clone()))).map_err(|_| UNWRITTEN.to_owned())
}

/// With the time in it, so that who overheard a question cannot ask it again for ever.
fn signature(secret: &Secret, time: &str, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.bytes());
    let mut signed = hmac::Context::with_key(&key);
    for part in [time, ".", body] {
        signed.update(part.as_bytes());
    }
    format!("sha256={}", hex::encode(signed.sign()))
}

/// The body; none: it is longer than what is read.
async fn read(mut body: Incoming, cap: usize) -> Result<Option<Vec<u8>>, String> {
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Fault::broken(&error).said)?;
        let Some(data) = frame.data_ref() else { continue };
        if read.len() + data.len() > cap {
            return Ok(None);
        }
        read.extend_from_slice(data);
    }
    Ok(Some(read))
}

/// A fine answer lets it go on, unless it says otherwise. What was meant as a verdict and is none does not.
fn word(status: StatusCode, body: &[u8]) -> Word {
    let status = status.as_u16();
    let verdict = match serde_json::from_slice::<Value>(body) {
        Ok(json) => json.get("verdict").cloned(),
        Err(_) if body.trim_ascii_start().starts_with(b"{") => {
            return Word::Wait(format!("was answered {status} and JSON that cannot be read"));
        }
        Err(_) => None,
    };
    match verdict.as_ref().map(Value::as_str) {
        None | Some(Some("Pass")) => Word::Pass,
        Some(Some("Fail")) => Word::Fail(status),
        Some(Some("Hold")) => Word::Wait(format!("was answered {status} and Hold")),
        Some(_) => Word::Wait(format!("was answered {status} and a verdict that is none of Pass, Hold and Fail")),
    }
}

/// After what pause it may be asked again: as it says itself, in seconds.
fn pause(headers: &HeaderMap) -> Duration {
    let said = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let (least, most) = AGAIN_WITHIN;
    said.map_or(AGAIN, |seconds| Duration::from_secs(seconds).clamp(least, most))
}

#[cfg(test)]
mod tests;
