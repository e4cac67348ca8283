//! Questions without steps: whether a port takes a connection, and what a server says of itself by the gRPC health protocol
//! (<https://github.com/grpc/grpc/blob/master/doc/health-checking.md>).
//!
//! Its two messages have one field each, so they are written and read here by hand:
//! `HealthCheckRequest { string service = 1 }` and `HealthCheckResponse { ServingStatus status = 1 }`.

use std::error::Error as _;

use http::{
    HeaderMap, Request, Response, Version,
    header::{CONTENT_TYPE, HeaderName, HeaderValue, TE, USER_AGENT},
};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::{Bytes, Incoming},
    client::conn::http2,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::{
    exchange::{AGENT, MARK, RUN},
    fault::{Fault, Limit, Phase},
    line::{HEAD_CAP, Line},
};
use crate::model::probe::{Check, Class, Knock, Scheme, Step};

/// An answer has two bytes and five before them; more than this is something else.
const ANSWER: usize = 1024;
/// Before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// 10 s, as [`Step::DEADLINE`] has it.
const TIMEOUT: (HeaderName, HeaderValue) = (HeaderName::from_static("grpc-timeout"), HeaderValue::from_static("10S"));

/// By number, <https://grpc.io/docs/guides/status-codes/>.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The name of the question, and how a sentence about it begins.
pub(super) fn named(knock: &Knock, check: &Check, line: &Line) -> (&'static str, String) {
    match (knock, check.scheme) {
        (Knock::Tcp, Scheme::Http) => ("tcp", format!("TCP port {}", line.port())),
        (Knock::Tcp, Scheme::Https) => ("tcp", format!("TLS on port {}", line.port())),
        (Knock::Grpc { service }, _) if service.is_empty() => ("grpc", "gRPC health".to_owned()),
        (Knock::Grpc { service }, _) => ("grpc", format!("gRPC health of {service}")),
    }
}

/// Asks; the fault goes on in a sentence that begins with its name.
pub(super) async fn knock(knock: &Knock, check: &Check, run: &str, line: &Line) -> Result<(), Fault> {
    let (mut phase, mut status) = (Phase::Connect, None);
    let asked = async {
        match knock {
            Knock::Tcp => line.connect(&mut phase).await.map(drop),
            Knock::Grpc { service } => health(line, request(check, run, service)?, (&mut phase, &mut status)).await,
        }
    };
    let told = timeout_at(Instant::now() + Step::DEADLINE, asked).await;
    let failed = |fault: Fault| match fault.class {
        Class::Tls => Fault { said: format!("failed: {}", fault.said), ..fault },
        _ => fault,
    };
    told.unwrap_or_else(|_| Err(Fault::too_late(phase, Limit::Step(Step::DEADLINE), status))).map_err(failed)
}

fn request(check: &Check, run: &str, service: &str) -> Result<Request<Full<Bytes>>, Fault> {
    let scheme = match check.scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    };
    let (timeout, limit) = TIMEOUT;
    let request = Request::post(format!("{scheme}://{}/grpc.health.v1.Health/Check", check.host))
        .version(Version::HTTP_2)
        .header(CONTENT_TYPE, HeaderValue::from_static("application/grpc"))
        .header(TE, HeaderValue::from_static("trailers"))
        .header(timeout, limit)
        .header(USER_AGENT, AGENT)
        .header(MARK, check.name.as_str())
        .header(RUN, run)
        .body(Full::new(asking(service)));
    request.map_err(|_| Fault::new(Class::Spec, "cannot be written as a request"))
}

/// The message that asks for a service; at most 255 bytes of name, so that its length has two bytes at most.
fn asking(service: &str) -> Bytes {
    /// Field 1, length-delimited.
    const FIELD: u8 = 0x0a;
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(FIELD);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(u8::try_from(length & 0x7f).unwrap_or_default() | 0x80);
            length >>= 7;
        }
        message.push(u8::try_from(length).unwrap_or_default());
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap_or_default().to_be_bytes());
    framed.extend_from_slice(&message);
    framed.into()
}

async fn health(line: &Line, request: Request<Full<Bytes>>, (phase, status): (&mut Phase, &mut Option<u16>)) -> Result<(), Fault> {
    let stream = line.connect(phase).await?;
    *phase = Phase::FirstByte;
    let mut settings = http2::Builder::new(TokioExecutor::new());
    settings.max_header_list_size(u32::try_from(HEAD_CAP).unwrap_or(u32::MAX));
    let (mut sender, connection) = settings.handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    // It ends with this value; its error reaches whoever waits for the response.
    let mut driver = JoinSet::new();
    driver.spawn(async move { drop(connection.await) });
    let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
    *status = Some(response.status().as_u16());
    *phase = Phase::Body;
    served(response).await
}

async fn served(response: Response<Incoming>) -> Result<(), Fault> {
    let (head, mut body) = response.into_parts();
    let code = head.status.as_u16();
    let wrong = |said: String| Fault { status: Some(code), ..Fault::new(Class::Assertion, said) };
    if code != 200 {
        return Err(Fault { status: Some(code), ..Fault::new(Class::HttpStatus, format!("answered {code} of HTTP, expected gRPC")) });
    }
    let is_grpc = head.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if !is_grpc {
        return Err(wrong("was answered with something that is not gRPC".to_owned()));
    }
    let (mut message, mut trailers) = (Vec::new(), head.headers);
    while let Some(frame) = body.frame().await {
        match frame.map_err(|error| broken(&error))?.into_data() {
            Ok(data) => message.extend_from_slice(&data),
            Err(other) => trailers = other.into_trailers().unwrap_or_default(),
        }
        if message.len() > ANSWER {
            return Err(wrong("was answered with more than an answer of health has".to_owned()));
        }
    }
    match status_of(&trailers) {
        Some(0) => serving(&message).map_err(wrong),
        Some(5) => Err(wrong("answered NOT_FOUND: it knows no such service".to_owned())),
        Some(12) => Err(wrong("answered UNIMPLEMENTED: it does not have grpc.health.v1.Health".to_owned())),
        Some(other) => Err(wrong(format!("answered {}, expected OK", CODES.get(other).unwrap_or(&"a status that gRPC does not have")))),
        None => Err(wrong("was answered without a status of gRPC".to_owned())),
    }
}

fn status_of(trailers: &HeaderMap) -> Option<usize> {
    trailers.get(STATUS)?.to_str().ok()?.parse().ok()
}

/// What the message says, where it is not that it serves.
fn serving(message: &[u8]) -> Result<(), String> {
    /// Field 1, a number.
    const FIELD: u8 = 0x08;
    let said = match message.split_at_checked(PREFIX) {
        // A number of 0 is not written down.
        Some(([0, ..], [] | [FIELD, 0])) => "UNKNOWN",
        Some(([0, ..], [FIELD, 1])) => return Ok(()),
        Some(([0, ..], [FIELD, 2])) => "NOT_SERVING",
        Some(([0, ..], [FIELD, 3])) => "SERVICE_UNKNOWN",
        _ => return Err("was answered with something that is no answer of health".to_owned()),
    };
    Err(format!("answered {said}, expected SERVING"))
}

fn broken(error: &hyper::Error) -> Fault {
    let cause = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    match cause {
        // What we ourselves cannot read.
        Some(cause) if cause.is_library() => Fault::new(Class::Assertion, "was answered with something that is not HTTP/2"),
        Some(cause) if cause.is_reset() => Fault::new(Class::Connect, "found its request reset by the other side"),
        Some(cause) if cause.is_go_away() => Fault::new(Class::Connect, "found the connection ended by the other side (GOAWAY)"),
        _ => Fault::new(Class::Connect, "found the connection closed before the answer was complete"),
    }
}
