//! One request and its answer.

use std::time::Duration;

use http::header::{CONNECTION, CONTENT_TYPE, COOKIE, HOST, HeaderName, HeaderValue, USER_AGENT};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};

use crate::api::TRACK_CANARY;
use crate::clock::Stopwatch;
use crate::model::{
    probe::{Answerer, Check, Class, Step},
    route::Testers,
};

use super::fault::{Fault, Phase};
use super::line::{Line, Wire};

/// Most that is read of a body: 8 flows × 256 KiB = 2 MiB at a time. Where a step looks into it, more is a failure; else what is beyond is left unread and the connection closed; the step is judged by its status and the time to here.
pub(super) const BODY_CAP: usize = 256 * 1024;

pub(super) const MARK: HeaderName = HeaderName::from_static("x-haldane-probe");
pub(super) const RUN: HeaderName = HeaderName::from_static("x-haldane-run");
const KEY: HeaderName = HeaderName::from_static("idempotency-key");
pub(super) const AGENT: HeaderValue = HeaderValue::from_static(concat!("haldane-probe/", env!("CARGO_PKG_VERSION")));

/// What is done with the body of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// It is read and forgotten.
    Nothing,
    /// It is looked into, if it is not too large for that.
    IfSmall,
    /// It must be looked into.
    All,
}

/// What came back, as far as it may be known.
pub(super) struct Answer {
    pub(super) status: u16,
    /// From sending to the last byte read.
    pub(super) took: Duration,
    /// Its headers.
    pub(super) headers: HeaderMap,
    /// Its body, if it was asked for and could be had.
    pub(super) body: Option<Vec<u8>>,
}

/// How far a step has come: what a deadline that interrupts it can tell.
pub(super) struct Progress {
    pub(super) phase: Phase,
    pub(super) status: Option<u16>,
    pub(super) who: Option<Answerer>,
}

/// Asks, and reads the answer to its end or to [`BODY_CAP`].
/// The header named `by` says who answered.
pub(super) async fn exchange(
    line: &mut Line,
    request: Request<Full<Bytes>>,
    (by, keep): (Option<&str>, Keep),
    progress: &mut Progress,
) -> Result<Answer, Fault> {
    let (mut wire, watch, response) = send(line, request, progress).await?;
    let status = response.status().as_u16();
    progress.status = Some(status);
    progress.who = by.and_then(|by| response.headers().get(by)?.to_str().ok()).and_then(Answerer::new);
    progress.phase = Phase::Body;
    let (head, body) = response.into_parts();
    let mut kept = Vec::new();
    let looked_into = keep != Keep::Nothing;
    let whole = drain(body, looked_into.then_some(&mut kept)).await.map_err(|fault| Fault { status: Some(status), ..fault })?;
    let took = watch.elapsed();
    if keep == Keep::All && !whole {
        let said = format!("answered with more than {} KiB, which are not looked into", BODY_CAP / 1024);
        return Err(Fault { status: Some(status), ..Fault::new(Class::Assertion, said) });
    }
    if whole && !wire.sender.is_closed() {
        wire.used = true;
        line.keep(wire);
    }
    Ok(Answer { status, took, headers: head.headers, body: (looked_into && whole).then_some(kept) })
}

/// On the connection that stands, if the request may be sent twice: when a server closes it at that very moment, nobody
/// can know whether it acted. Else, and then, on a new one.
async fn send(
    line: &mut Line,
    request: Request<Full<Bytes>>,
    progress: &mut Progress,
) -> Result<(Wire, Stopwatch, Response<Incoming>), Fault> {
    if repeatable(request.method())
        && let Some(mut wire) = line.idle().await
    {
        progress.phase = Phase::FirstByte;
        let watch = Stopwatch::start();
        match wire.sender.send_request(request.clone()).await {
            Ok(response) => return Ok((wire, watch, response)),
            Err(error) if error.is_parse() => return Err(Fault::broken(&error)),
            Err(_) => {}
        }
    }
    let mut wire = line.open(&mut progress.phase).await?;
    progress.phase = Phase::FirstByte;
    let watch = Stopwatch::start();
    let response = wire.sender.send_request(request).await.map_err(|error| Fault::broken(&error))?;
    Ok((wire, watch, response))
}

/// RFC 9110 §9.2.2.
fn repeatable(method: &Method) -> bool {
    method.is_idempotent()
}

/// Whether the end of the body was read. Who wants to look into it gets its bytes.
async fn drain(mut body: Incoming, mut kept: Option<&mut Vec<u8>>) -> Result<bool, Fault> {
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Fault::broken(&error))?;
        let Some(data) = frame.data_ref() else { continue };
        read += data.len();
        if read > BODY_CAP {
            return Ok(false);
        }
        if let Some(kept) = &mut kept {
            kept.extend_from_slice(data);
        }
    }
    Ok(true)
}

/// The request of this step, marked as ours, of that run. A valid check always gives one.
pub(super) fn request(check: &Check, step: &Step, run: &str, last: bool) -> Result<Request<Full<Bytes>>, Fault> {
    let mut request = Request::builder().method(step.method.as_str()).uri(step.path.as_str()).header(HOST, check.host.as_str());
    let has_type = step.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(CONTENT_TYPE.as_str()));
    if let (Some(body), false) = (&step.body, has_type) {
        request = request.header(CONTENT_TYPE, body.content_type());
    }
    for (name, value) in headers(check, step) {
        request = request.header(name, value);
    }
    request = request.header(USER_AGENT, AGENT).header(MARK, check.name.as_str()).header(RUN, run);
    let has_key = step.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(KEY.as_str()));
    if !has_key && matches!(step.method.as_str(), "POST" | "PATCH") {
        request = request.header(KEY, format!("{run}-{}", step.name));
    }
    if last {
        request = request.header(CONNECTION, HeaderValue::from_static("close"));
    }
    let bytes = step.body.as_ref().map(|body| Bytes::from(body.bytes())).unwrap_or_default();
    request.body(Full::new(bytes)).map_err(|_| Fault::new(Class::Spec, "cannot be written as an HTTP request"))
}

/// Those of the step, with the mark of those who test. A cookie stands among the step's own: there is one such header.
fn headers(check: &Check, step: &Step) -> Vec<(String, String)> {
    let mut headers = step.headers.clone();
    match &check.tester {
        None => {}
        Some(Testers::Header(mark)) => {
            headers.retain(|(name, _)| !name.eq_ignore_ascii_case(mark));
            headers.push((mark.clone(), TRACK_CANARY.to_owned()));
        }
        Some(Testers::Cookie(mark)) => {
            let (cookies, mut others): (Vec<_>, Vec<_>) =
                headers.into_iter().partition(|(name, _)| name.eq_ignore_ascii_case(COOKIE.as_str()));
            let cookies = cookies.into_iter().map(|(_, cookies)| cookies).chain([format!("{mark}={TRACK_CANARY}")]);
            others.push((COOKIE.to_string(), cookies.collect::<Vec<_>>().join("; ")));
            headers = others;
        }
    }
    headers
}
