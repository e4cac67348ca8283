//! What a probe asks of production, and what came of it. Nothing here connects, waits or decides about a rollout.
//!
//! Deliberately absent from every result: what the target answered. A status code, timings, and the names and types of fields leave; a
//! value never does, because results end up in status, events and chat, where a tenant's data has no business. One header is read to
//! compare who answered, see [`Answerer`]; nothing can show its value.

use std::fmt;
use std::time::Duration;

mod aftermath;
mod answered;
mod curl;
mod heard;
mod shape;
mod suite;
mod valid;
mod vars;

use super::route::Testers;

pub use aftermath::{Item, RunName, Sweep};
pub use answered::{AnsweredBy, Answerer, Done, Run, Wanted};
pub use curl::shell_name;
pub use heard::{Capture, Heard, Place, That, Untrue};
pub use shape::{Compare, Shape};
pub use suite::{Asks, Ended, Load, STARTS_WITHIN, Suite};
pub use valid::{CheckError, Problem};
pub use vars::{RUN, SECRETS, Vars, names};

/// One flow: steps that follow each other against one target.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// The probe's name; sent with every request, so that the owners of the target can tell its traffic apart.
    pub name: String,
    /// Plain or TLS.
    pub scheme: Scheme,
    /// What a customer would ask for: the `Host` header and the name in the certificate (a port goes only into `Host`).
    pub host: String,
    /// What is prepared first. A failure here says nothing about the target.
    pub setup: Vec<Step>,
    /// What is asked, in order; the first failure ends the flow.
    pub steps: Vec<Step>,
    /// What is asked instead of steps.
    pub knock: Option<Knock>,
    /// What is run instead of steps.
    pub suite: Option<Box<Suite>>,
    /// What is put right afterwards, whatever came of the steps; each of it, whatever came of the one before. It never votes.
    pub teardown: Vec<Step>,
    /// How what a run has made is found by its name.
    pub sweep: Option<Box<Sweep>>,
    /// The secrets, by name; steps know them as `secrets.NAME`.
    pub secrets: Vars,
    /// For the whole flow, see [`Check::DEADLINE`].
    pub deadline: Duration,
    /// The CA that must have signed the target's certificate, as PEM. `None`: what the system trusts.
    pub trust: Option<Vec<u8>>,
    /// Every request is one of those who test, who are known by this.
    pub tester: Option<Testers>,
    /// How it is known who answered. `None`: whoever is asked answers.
    pub answered_by: Option<AnsweredBy>,
}

/// A question without steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Knock {
    /// Whether the port takes a connection and, with [`Scheme::Https`], whether the TLS handshake ends well.
    Tcp,
    /// What `grpc.health.v1.Health/Check` says.
    Grpc {
        /// Of this service; empty: of the server as a whole.
        service: String,
    },
}

/// How the target is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Plain HTTP/1.1.
    Http,
    /// HTTP/1.1 over TLS, always verified.
    Https,
}

/// One request and what it must bring.
#[derive(Clone, PartialEq)]
pub struct Step {
    /// Unique within the flow.
    pub name: String,
    /// In capitals.
    pub method: String,
    /// Begins with `/`; may have a query, which is never shown in a result.
    pub path: String,
    /// Values may be secrets: they appear neither in `Debug` nor in any error.
    pub headers: Vec<(String, String)>,
    /// What is sent along.
    pub body: Option<Body>,
    /// What counts as right.
    pub expect: Expect,
    /// What is kept of the answer for later steps.
    pub capture: Vec<Capture>,
    /// It is asked again and again until the answer is right.
    pub until: Option<Until>,
    /// Its answer is compared with that of the other version.
    pub compare: Option<Compare>,
    /// From the first attempt to connect to the last byte of the body, see [`Step::DEADLINE`].
    pub deadline: Duration,
}

/// What a step sends. May hold secrets: `Debug` tells only its size.
#[derive(Clone, PartialEq)]
pub enum Body {
    /// Sent as `application/json`, unless the step says otherwise.
    Json(serde_json::Value),
    /// Sent as `text/plain`, unless the step says otherwise.
    Text(String),
}

/// How long a step waits for the right answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Until {
    /// From the end of one request to the next.
    pub every: Duration,
    /// From the first request to the last.
    pub within: Duration,
}

/// What a step demands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expect {
    /// Any of these; empty means any of 200..=299.
    pub status: Vec<u16>,
    /// From the request being sent to the last byte of the answer. Connecting is not counted: a later step reuses the
    /// connection and would otherwise be measured differently.
    pub within: Option<Duration>,
    /// What else must be true of the answer.
    pub that: Vec<That>,
}

/// What came of one flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every step brought what it should.
    Pass {
        /// The whole flow, without the wait for a free place.
        took: Duration,
    },
    /// The target did something wrong. Its class votes.
    Fail {
        /// What kind of wrong.
        class: Class,
        /// Which step.
        step: String,
        /// One sentence with the numbers: `GET /orders answered 500, expected 201`.
        said: String,
        /// What it answered, if it answered.
        status: Option<u16>,
        /// Until the failure.
        took: Duration,
    },
    /// Nothing was learnt about the target: not a sample, neither for it nor against it.
    Void {
        /// Why not; never a class that votes, unless our own lag made the measurement worthless ([`Class::Prober`]).
        class: Class,
        /// One sentence.
        said: String,
    },
}

impl Outcome {
    /// What kind of failure or void this is; `None` for a pass.
    #[must_use]
    pub fn class(&self) -> Option<Class> {
        match self {
            Self::Pass { .. } => None,
            Self::Fail { class, .. } | Self::Void { class, .. } => Some(*class),
        }
    }
}

/// Kinds of failure. Whose fault it is decides whether it votes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// It answered, but not as demanded: too slow, headers too large, not HTTP.
    Assertion,
    /// It answered with a status that was not expected; a redirect is one.
    HttpStatus,
    /// It did not answer in time.
    Timeout,
    /// It refused, reset or closed the connection.
    Connect,
    /// Its certificate or its handshake is wrong.
    Tls,
    /// A step that prepares (a token from a third party) failed.
    Setup,
    /// Another version answered than was asked.
    Misrouted,
    /// We ourselves were too slow or too busy.
    Prober,
    /// The check itself is wrong.
    Spec,
}

impl Class {
    /// Every class, in the order of the table in the docs.
    pub const ALL: [Self; 9] = [
        Self::Assertion,
        Self::HttpStatus,
        Self::Timeout,
        Self::Connect,
        Self::Tls,
        Self::Setup,
        Self::Misrouted,
        Self::Prober,
        Self::Spec,
    ];

    /// Whether it says something about the target.
    #[must_use]
    pub fn votes(self) -> bool {
        match self {
            Self::Assertion | Self::HttpStatus | Self::Timeout | Self::Connect | Self::Tls => true,
            Self::Setup | Self::Misrouted | Self::Prober | Self::Spec => false,
        }
    }

    /// Stable: stored in status and used as a metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Assertion => "assertion",
            Self::HttpStatus => "http-status",
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Setup => "setup",
            Self::Misrouted => "misrouted",
            Self::Prober => "prober",
            Self::Spec => "spec",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl Check {
    /// Of a flow that does not say otherwise.
    pub const DEADLINE: Duration = Duration::from_mins(1);
    /// 20 steps × 10 s (a step's default) = 200 s, which [`Check::MAX_DEADLINE`] can hold.
    pub const MAX_STEPS: usize = 20;
    /// A DNS label's length: fits a header, a metric label and a line of chat.
    pub const MAX_NAME: usize = 63;
    /// 20 steps × 10 s = 200 s for the longest flow on defaults, rounded up to whole minutes with room for slower steps.
    pub const MAX_DEADLINE: Duration = Duration::from_mins(5);

    /// For all of teardown.
    pub const TEARDOWN: Duration = Duration::from_mins(1);

    /// Every step, those before and after the flow, too, each with where it stands in the manifest.
    pub fn all_steps(&self) -> impl Iterator<Item = (String, &Step)> {
        let of = |list: &'static str| move |(index, step)| (format!("{list}[{index}]"), step);
        let setup = self.setup.iter().enumerate().map(of("setup"));
        let steps = self.steps.iter().enumerate().map(of("steps"));
        setup.chain(steps).chain(self.teardown.iter().enumerate().map(of("teardown")))
    }

    /// It may change something: a request of it is none that only reads.
    #[must_use]
    pub fn mutates(&self) -> bool {
        self.all_steps().any(|(_, step)| step.may_change())
    }

    /// The host without a port: what the certificate must name.
    #[must_use]
    pub fn server_name(&self) -> &str {
        self.host.split_once(':').map_or(self.host.as_str(), |(name, _)| name)
    }
}

impl Step {
    /// Of a step that does not say otherwise.
    pub const DEADLINE: Duration = Duration::from_secs(10);
    /// What common servers take in a request line.
    pub const MAX_PATH: usize = 2048;
    /// 32 × 4 KiB = 128 KiB at worst, per request.
    pub const MAX_HEADERS: usize = 32;
    /// A long bearer token; most servers take 8 KiB for all headers.
    pub const MAX_HEADER_VALUE: usize = 4096;
    /// 8 flows × 64 KiB = 512 KiB at worst in memory; 20 steps × 64 KiB = 1.3 MiB, which still fits an object in etcd.
    pub const MAX_BODY: usize = 64 * 1024;

    /// It may change something: it is none of those that only read.
    #[must_use]
    pub fn may_change(&self) -> bool {
        !["GET", "HEAD", "OPTIONS"].contains(&self.method.as_str())
    }

    /// It looks at the body of its answer.
    #[must_use]
    pub fn reads_body(&self) -> bool {
        self.capture.iter().any(Capture::reads_body) || self.expect.that.iter().any(That::reads_body)
    }

    /// The variables that it names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let headers = self.headers.iter().flat_map(|(_, value)| vars::names(value));
        let body = self.body.iter().flat_map(|body| match body {
            Body::Json(json) => vars::names_in(json),
            Body::Text(text) => vars::names(text).collect(),
        });
        vars::names(&self.path).chain(headers).chain(body)
    }

    /// The path without its query, which may hold a secret.
    #[must_use]
    pub fn shown_path(&self) -> &str {
        self.path.split_once('?').map_or(self.path.as_str(), |(path, _)| path)
    }
}

impl Expect {
    /// Whether this status is what was asked for.
    #[must_use]
    pub fn accepts(&self, code: u16) -> bool {
        if self.status.is_empty() { (200..=299).contains(&code) } else { self.status.contains(&code) }
    }

    /// As a sentence says it: `2xx`, `201`, `200, 404 or 410`.
    #[must_use]
    pub fn wanted(&self) -> String {
        let codes: Vec<String> = self.status.iter().map(u16::to_string).collect();
        match codes.as_slice() {
            [] => "2xx".to_owned(),
            [one] => one.clone(),
            [most @ .., last] => format!("{} or {last}", most.join(", ")),
        }
    }
}

impl Body {
    /// As it is sent.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Json(value) => value.to_string().into_bytes(),
            Self::Text(text) => text.clone().into_bytes(),
        }
    }

    /// Its `Content-Type`, unless the step names another.
    #[must_use]
    pub fn content_type(&self) -> &'static str {
        match self {
            Self::Json(_) => "application/json",
            Self::Text(_) => "text/plain; charset=utf-8",
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of {}", self.bytes().len(), self.content_type())
    }
}

impl fmt::Debug for Step {
    /// Without the values of headers, the query and the body: they may be secrets, and a debug line ends up in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Step")
            .field("name", &self.name)
            .field("method", &self.method)
            .field("path", &self.shown_path())
            .field("headers", &headers)
            .field("body", &self.body)
            .field("expect", &self.expect)
            .field("capture", &self.capture)
            .field("until", &self.until)
            .field("compare", &self.compare)
            .field("deadline", &self.deadline)
            .finish()
    }
}

#[cfg(test)]
mod tests;
