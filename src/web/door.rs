//! The door for webhooks: a forge or a registry says that something happened, and whoever leads looks for itself, at once instead
//! of at the next sweep.
//!
//! Nothing that is said here is believed. A call names a repository, no more, and the facts of its branches are read again; so a
//! replayed, reordered or doubled call is harmless, and a lost one costs a minute. A call counts when it is signed (GitHub:
//! HMAC-SHA256 over the raw body, `X-Hub-Signature-256`; registries: a bearer token). Without a secret there is no door.
//!
//! What an unknown caller can take from us is bounded: [`CONNECTIONS`], [`BODY`] bytes of [`READERS`] bodies at a time
//! (16 × 1 MiB), [`SLOW`] for each, and the [`Limiter`] per address. A replica that does not lead hands the name on to the one
//! that does.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, State},
    http::{HeaderMap, Request, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::post,
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use prometheus::{IntCounterVec, Opts};
use tokio::{net::TcpListener, sync::Semaphore, time::Instant, time::timeout};
use tower::ServiceExt as _;

mod limit;
mod relay;
mod secrets;
mod words;

pub use relay::Relay;
pub use secrets::{Secrets, SecretsError};

use crate::{
    control::lease::Leadership,
    observe::{MergeBoard, merges::Stirred},
};
use limit::{Known, Limiter};
use words::{About, EVENTS, GitHubSays, RegistrySays};

/// Bytes of a body: a push of 1,000 commits. GitHub sends up to 25 MiB; what is larger is found by the sweep.
const BODY: usize = 1 << 20;
/// Bodies that are read at the same time.
const READERS: usize = 16;
/// Connections at the same time; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 256;
/// For the head of a call, and for its body. GitHub itself gives up after 10 s.
const SLOW: Duration = Duration::from_secs(8);
/// Bytes of the head, and of the read buffer.
const HEAD: usize = 16 * 1024;

/// Calls that were signed with nothing of ours, and the like, by what became of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Somebody reads again because of it.
    Stirred,
    /// Handed on to the leader.
    Relayed,
    /// Nobody waits for that repository, or that event says nothing to us.
    Ignored,
    /// Its delivery was known already.
    Known,
    /// No signature, or a wrong one.
    Forged,
    /// Too large, too slow, too many, or no JSON.
    Refused,
    /// Nobody leads, or the leader could not be reached.
    NoLeader,
}

impl Outcome {
    fn label(self) -> &'static str {
        match self {
            Self::Stirred => "stirred",
            Self::Relayed => "relayed",
            Self::Ignored => "ignored",
            Self::Known => "known",
            Self::Forged => "forged",
            Self::Refused => "refused",
            Self::NoLeader => "no_leader",
        }
    }
}

/// Takes calls.
pub struct Door {
    secrets: Arc<Secrets>,
    board: Arc<MergeBoard>,
    leadership: Leadership,
    relay: Relay,
    known: Known,
    limiter: Limiter,
    readers: Semaphore,
    calls: IntCounterVec,
}

/// How a call is refused: the status, and a sentence for the person who set the webhook up.
type Refusal = (StatusCode, Outcome, &'static str);

impl Door {
    /// A door that stirs this board while we lead, and else hands on.
    ///
    /// # Errors
    /// When the name of its counter is wrong: a mistake in this file.
    pub fn new(secrets: Arc<Secrets>, board: Arc<MergeBoard>, leadership: Leadership, relay: Relay) -> Result<Self, prometheus::Error> {
        let calls = IntCounterVec::new(Opts::new("hooks_total", "Calls of webhooks, by what became of them."), &["result"])?;
        Ok(Self {
            secrets,
            board,
            leadership,
            relay,
            known: Known::default(),
            limiter: Limiter::default(),
            readers: Semaphore::new(READERS),
            calls,
        })
    }

    /// What it counts.
    #[must_use]
    pub fn metrics(&self) -> IntCounterVec {
        self.calls.clone()
    }

    fn done(&self, outcome: Outcome, status: StatusCode, says: &'static str) -> Response {
        self.calls.with_label_values(&[outcome.label()]).inc();
        (status, says).into_response()
    }

    fn refused(&self, (status, outcome, says): Refusal) -> Response {
        self.done(outcome, status, says)
    }

    /// The body of a call, if its size and its time allow it.
    async fn body(&self, request: Request<Body>) -> Result<(HeaderMap, Bytes), Refusal> {
        let large = (StatusCode::PAYLOAD_TOO_LARGE, Outcome::Refused, "more than 1 MiB; what it tells is found within a minute");
        let said = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if said.is_some_and(|said| said > BODY) {
            return Err(large);
        }
        let Ok(_reader) = self.readers.try_acquire() else {
            return Err((StatusCode::SERVICE_UNAVAILABLE, Outcome::Refused, "busy; what was missed is found within a minute"));
        };
        let (head, body) = request.into_parts();
        match timeout(SLOW, Limited::new(body, BODY).collect()).await {
            Ok(Ok(body)) => Ok((head.headers, body.to_bytes())),
            Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => Err(large),
            Ok(Err(_)) => Err((StatusCode::BAD_REQUEST, Outcome::Refused, "the body ended early")),
            Err(_) => Err((StatusCode::REQUEST_TIMEOUT, Outcome::Refused, "the body took more than 8 s")),
        }
    }

    async fn github(&self, request: Request<Body>) -> Result<Response, Refusal> {
        // Before a byte of the body is read: who does not even claim to know the secret is not listened to.
        let Some(signature) = secrets::signature(request.headers()) else {
            return Err((
                StatusCode::UNAUTHORIZED,
                Outcome::Forged,
                "X-Hub-Signature-256 is missing; give the webhook the secret that Haldane has",
            ));
        };
        let (headers, body) = self.body(request).await?;
        if !self.secrets.signed(&body, &signature) {
            return Err((
                StatusCode::UNAUTHORIZED,
                Outcome::Forged,
                "the signature is wrong; the webhook's secret is not the one that Haldane has",
            ));
        }
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let json = text("content-type").trim_start().to_ascii_lowercase().starts_with("application/json");
        if !json {
            return Err((
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                Outcome::Refused,
                "no JSON; set the webhook's content type to application/json",
            ));
        }
        let event = text("x-github-event");
        if event == "ping" {
            return Ok(self.done(Outcome::Ignored, StatusCode::OK, "pong"));
        }
        if !EVENTS.contains(&event) {
            return Ok(self.done(Outcome::Ignored, StatusCode::ACCEPTED, "nothing is done because of this event"));
        }
        let delivery = text("x-github-delivery");
        if self.known.has(delivery) {
            return Ok(self.done(Outcome::Known, StatusCode::ACCEPTED, "this delivery is known"));
        }
        let said: GitHubSays =
            serde_json::from_slice(&body).map_err(|_| (StatusCode::BAD_REQUEST, Outcome::Refused, "this is not what GitHub sends"))?;
        let Some(about) = said.about() else {
            return Ok(self.done(Outcome::Ignored, StatusCode::ACCEPTED, "it names no repository"));
        };
        let outcome = self.tell(&[about], &headers).await?;
        self.known.learn(delivery);
        Ok(self.done(outcome, StatusCode::ACCEPTED, "thank you"))
    }

    async fn registry(&self, request: Request<Body>) -> Result<Response, Refusal> {
        let token = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        if !token.is_some_and(|token| self.secrets.is_registry(token)) {
            let says = "Authorization is not Bearer and the registryToken that Haldane has";
            return Err((StatusCode::UNAUTHORIZED, Outcome::Forged, says));
        }
        let (headers, body) = self.body(request).await?;
        let said: RegistrySays =
            serde_json::from_slice(&body).map_err(|_| (StatusCode::BAD_REQUEST, Outcome::Refused, "this is not what a registry sends"))?;
        let about = said.about();
        if about.is_empty() {
            return Ok(self.done(Outcome::Ignored, StatusCode::ACCEPTED, "nothing was pushed"));
        }
        let outcome = self.tell(&about, &headers).await?;
        Ok(self.done(outcome, StatusCode::ACCEPTED, "thank you"))
    }

    /// From another replica, which has looked at what the call was.
    async fn relayed(&self, request: Request<Body>) -> Result<Response, Refusal> {
        let forged = (StatusCode::UNAUTHORIZED, Outcome::Forged, "not from one of us");
        let signature = secrets::signature(request.headers()).ok_or(forged)?;
        let (headers, body) = self.body(request).await?;
        if !self.secrets.relayed(&body, &signature) {
            return Err(forged);
        }
        let about = relay::read(&body).ok_or((StatusCode::BAD_REQUEST, Outcome::Refused, "not one of our words"))?;
        let outcome = self.tell(&about, &headers).await?;
        Ok(self.done(outcome, StatusCode::ACCEPTED, "thank you"))
    }

    /// Stirs those who wait for it, here or where the leader is.
    async fn tell(&self, about: &[About], headers: &HeaderMap) -> Result<Outcome, Refusal> {
        if self.leadership.current().is_some() {
            let stirred = about.iter().filter(|about| self.stir(about) == Stirred::Somebody).count();
            return Ok(if stirred > 0 { Outcome::Stirred } else { Outcome::Ignored });
        }
        let no_leader =
            (StatusCode::SERVICE_UNAVAILABLE, Outcome::NoLeader, "nobody leads at the moment; what was missed is found within a minute");
        // One step, never a ring.
        if headers.contains_key(relay::RELAYED) {
            return Err(no_leader);
        }
        let leader = self.leadership.leader_at().ok_or(no_leader)?;
        let body = relay::write(about);
        let signature = self.secrets.sign_relayed(&body).ok_or(no_leader)?;
        match self.relay.send(leader, body, signature).await {
            Ok(()) => Ok(Outcome::Relayed),
            Err(why) => {
                tracing::warn!(%leader, why, "a webhook could not be handed on to the leader");
                Err(no_leader)
            }
        }
    }

    fn stir(&self, about: &About) -> Stirred {
        match about {
            About::Repository(repository) => self.board.stir(repository),
            About::Image(path) => self.board.stir_image(path),
        }
    }
}

fn router(door: Arc<Door>) -> Router {
    let github = async |State(door): State<Arc<Door>>, request: Request<Body>| {
        door.github(request).await.unwrap_or_else(|refusal| door.refused(refusal))
    };
    let registry = async |State(door): State<Arc<Door>>, request: Request<Body>| {
        door.registry(request).await.unwrap_or_else(|refusal| door.refused(refusal))
    };
    let relayed = async |State(door): State<Arc<Door>>, request: Request<Body>| {
        door.relayed(request).await.unwrap_or_else(|refusal| door.refused(refusal))
    };
    let routes = Router::new().route("/github", post(github)).route("/registry", post(registry)).route(relay::PATH, post(relayed));
    routes.layer(from_fn_with_state(door.clone(), paced)).with_state(door)
}

/// Before anything else is looked at: who guesses has a pace, too.
async fn paced(State(door): State<Arc<Door>>, ConnectInfo(from): ConnectInfo<SocketAddr>, request: Request<Body>, next: Next) -> Response {
    if door.limiter.takes(from.ip(), Instant::now()) {
        return next.run(request).await;
    }
    let says = "too many calls from this address; what was missed is found within a minute";
    door.refused((StatusCode::TOO_MANY_REQUESTS, Outcome::Refused, says))
}

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, door: Arc<Door>) {
    let (router, places) = (router(door), Arc::new(Semaphore::new(CONNECTIONS)));
    // Nobody closes it.
    while let Ok(place) = places.clone().acquire_owned().await {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a connection to the door for webhooks failed");
                // Out of descriptors is what does not pass at once.
                if !passing(&error) {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                continue;
            }
        };
        let router = router.clone();
        let service = tower::service_fn(move |mut request: Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(ConnectInfo(from));
            let answer = router.clone().oneshot(request.map(Body::new));
            async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
        });
        tokio::spawn(async move {
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(SLOW).max_buf_size(HEAD);
            // A connection that breaks is its caller's.
            let _ = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)).await;
            drop(place);
        });
    }
}

fn passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests;
