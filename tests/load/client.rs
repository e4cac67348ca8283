//! One request and what became of it.
//!
//! A keep-alive client meets connections that the server closes just while it sends. Every HTTP client repeats such a request once on a
//! new connection when its method allows that (RFC 9110 §9.2.2); so does this one, and counts it as a reconnect.
//! What it must not hide is a request that was cut while the server worked on it: see [`CROSSED`].

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST};
use http::{HeaderValue, Request};
use http_body_util::{BodyExt as _, Empty, Limited};
use tokio::time::{Instant, timeout};

use crate::args::Ask;
use crate::clock::{Clock, micros_since};
use crate::connect::{Connection, SourcePorts, open};
use crate::outcome::{Class, End, Kind, Outcome};

/// A close that arrives this soon after a request on an idle connection was under way before the request could be worked on:
/// a round trip on one machine, plus a busy scheduler. One that comes later has cut a request, and counts as failed.
const CROSSED: Duration = Duration::from_millis(50);
const BODY_LIMIT: usize = 1 << 20;

/// A keep-alive client's standing connection. While it is in use, a second request of the same client opens another one,
/// as HTTP clients do, so that a slow answer does not hold back the schedule.
#[derive(Default)]
pub(crate) struct Standing(Mutex<Option<Connection>>);

impl Standing {
    fn take(&self) -> Option<Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, connection: Connection) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(connection);
    }
}

/// What all requests share.
pub(crate) struct Client {
    pub(crate) target: SocketAddr,
    pub(crate) host: HeaderValue,
    pub(crate) timeout: Duration,
    pub(crate) ports: SourcePorts,
    pub(crate) clock: Clock,
}

/// What is known while a request is under way; stays when the time is over.
#[derive(Default)]
struct Progress {
    connect_us: u32,
    reconnect: bool,
}

impl Client {
    /// Sends one request; `standing` is the keep-alive client's connection, a fresh customer has none.
    pub(crate) async fn send(&self, ask: Arc<Ask>, standing: Option<&Standing>) -> Outcome {
        let (start_us, start) = (self.clock.now_us(), Instant::now());
        let mut progress = Progress::default();
        let attempt = async {
            match standing {
                None => self.fresh(&ask, &mut progress).await,
                Some(standing) => self.keepalive(&ask, standing, &mut progress).await,
            }
        };
        let result =
            timeout(self.timeout, attempt).await.unwrap_or(Err(Failure { class: Class::Timeout, reached: Reached::Sent, detail: None }));
        let total_us = micros_since(start);
        let (end, version, detail) = match result {
            Ok(answer) => (End::Status(answer.status), answer.version, None),
            Err(failure) => (End::Error(failure.class), None, failure.detail),
        };
        let kind = if standing.is_some() { Kind::Keepalive } else { Kind::Fresh };
        let Progress { connect_us, reconnect } = progress;
        Outcome { start_us, connect_us, total_us, kind, ask, end, version, reconnect, detail }
    }

    async fn fresh(&self, ask: &Ask, progress: &mut Progress) -> Result<Answer, Failure> {
        let start = Instant::now();
        let opened = self.ports.connect(self.target).await;
        progress.connect_us = micros_since(start);
        exchange(&mut opened?, self.request(ask, Kind::Fresh)).await
    }

    async fn keepalive(&self, ask: &Ask, standing: &Standing, progress: &mut Progress) -> Result<Answer, Failure> {
        if let Some(mut connection) = standing.take()
            && connection.ready().await.is_ok()
        {
            let sent = Instant::now();
            match exchange(&mut connection, self.request(ask, Kind::Keepalive)).await {
                Ok(answer) => {
                    standing.put(connection);
                    return Ok(answer);
                }
                Err(failure) if failure.may_repeat(ask, sent.elapsed()) => {
                    progress.reconnect = true;
                }
                Err(failure) => return Err(failure),
            }
        }
        let start = Instant::now();
        let opened = open(self.target).await;
        progress.connect_us = micros_since(start);
        let mut connection = opened?;
        let answer = exchange(&mut connection, self.request(ask, Kind::Keepalive)).await?;
        standing.put(connection);
        Ok(answer)
    }

    fn request(&self, ask: &Ask, kind: Kind) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        *request.method_mut() = ask.method.clone();
        *request.uri_mut() = ask.uri.clone();
        request.headers_mut().insert(HOST, self.host.clone());
        if kind == Kind::Fresh {
            request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        request
    }
}

struct Answer {
    status: u16,
    version: Option<String>,
}

#[derive(Debug)]
struct Failure {
    class: Class,
    reached: Reached,
    detail: Option<String>,
}

/// How far an exchange came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reached {
    /// Not a byte of the request has left.
    Nothing,
    /// The request is out, no byte of an answer has come.
    Sent,
    /// The head of the answer is here: the server has worked on it.
    Answer,
}

impl Failure {
    fn may_repeat(&self, ask: &Ask, after: Duration) -> bool {
        let closed = matches!(self.class, Class::Reset | Class::Eof);
        match self.reached {
            Reached::Nothing => closed,
            Reached::Sent => closed && ask.method.is_idempotent() && after < CROSSED,
            Reached::Answer => false,
        }
    }
}

/// One exchange on an open connection. The whole body belongs to the answer: half a page is a failure.
async fn exchange(connection: &mut Connection, request: Request<Empty<Bytes>>) -> Result<Answer, Failure> {
    let response = connection.try_send_request(request).await.map_err(|mut error| {
        let reached = if error.take_message().is_some() { Reached::Nothing } else { Reached::Sent };
        Failure { reached, ..Failure::from(error.into_error()) }
    })?;
    let (head, body) = response.into_parts();
    let version = head.headers.get("x-shop-version").and_then(|value| value.to_str().ok()).map(str::to_owned);
    match Limited::new(body, BODY_LIMIT).collect().await {
        Ok(_) => Ok(Answer { status: head.status.as_u16(), version }),
        Err(error) => Err(match error.downcast::<hyper::Error>() {
            Ok(error) => Failure { reached: Reached::Answer, ..Failure::from(*error) },
            Err(error) => Failure { class: Class::Other, reached: Reached::Answer, detail: Some(error.to_string()) },
        }),
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let class = class_of(&error);
        Self { class, reached: Reached::Sent, detail: (class == Class::Other).then(|| error.to_string()) }
    }
}

impl From<hyper::Error> for Failure {
    fn from(error: hyper::Error) -> Self {
        let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<io::Error>());
        let class = match cause {
            Some(cause) => class_of(cause),
            None if error.is_incomplete_message() || error.is_canceled() || error.is_closed() => Class::Eof,
            None => Class::Other,
        };
        Self { class, reached: Reached::Sent, detail: (class == Class::Other).then(|| format!("{error:?}")) }
    }
}

fn class_of(error: &io::Error) -> Class {
    match error.kind() {
        ErrorKind::ConnectionRefused => Class::Refused,
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => Class::Reset,
        ErrorKind::UnexpectedEof => Class::Eof,
        ErrorKind::TimedOut => Class::Timeout,
        _ => Class::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_request_that_was_not_worked_on_is_repeated() {
        let get: Ask = "/products".parse().unwrap();
        let post: Ask = "POST /orders".parse().unwrap();
        let (at_once, later) = (Duration::from_millis(1), Duration::from_millis(300));
        let repeats = |class, reached, ask: &Ask, after| Failure { class, reached, detail: None }.may_repeat(ask, after);
        assert!(repeats(Class::Eof, Reached::Sent, &get, at_once));
        assert!(!repeats(Class::Eof, Reached::Sent, &get, later), "that one was cut at work");
        assert!(!repeats(Class::Eof, Reached::Answer, &get, at_once), "half an answer is an answer");
        assert!(!repeats(Class::Eof, Reached::Sent, &post, at_once), "an order must not be placed twice");
        assert!(repeats(Class::Eof, Reached::Nothing, &post, later), "it never left");
        assert!(!repeats(Class::Other, Reached::Sent, &get, at_once));
        assert!(!repeats(Class::Timeout, Reached::Sent, &get, at_once));
    }
}
