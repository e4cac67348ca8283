//! What went wrong in a step, and in which of its phases.

use std::time::Duration;

use crate::model::probe::Class;

use super::line::{HEAD_CAP, MAX_HEADERS};

/// What a step is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Connect,
    Tls,
    FirstByte,
    Body,
}

impl Phase {
    /// As the end of "GET /orders ...".
    fn lacking(self) -> &'static str {
        match self {
            Self::Connect => "found no connection",
            Self::Tls => "found no end of the TLS handshake",
            Self::FirstByte => "got no first byte of an answer",
            Self::Body => "got no end of the answer's body",
        }
    }
}

/// Whose deadline was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    Step(Duration),
    Flow(Duration),
}

/// Why a step failed. `said` continues the sentence that begins with the method and the path.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) class: Class,
    pub(super) said: String,
    pub(super) status: Option<u16>,
    /// Whether our own lag could have caused it.
    pub(super) about_time: bool,
}

impl Fault {
    pub(super) fn new(class: Class, said: impl Into<String>) -> Self {
        Self { class, said: said.into(), status: None, about_time: false }
    }

    pub(super) fn too_late(phase: Phase, limit: Limit, status: Option<u16>) -> Self {
        let within = match limit {
            Limit::Step(limit) => format!("within {}", rounded(limit)),
            Limit::Flow(limit) => format!("before the flow's {} were over", rounded(limit)),
        };
        Self { status, about_time: true, ..Self::new(Class::Timeout, format!("{} {within}", phase.lacking())) }
    }

    pub(super) fn too_slow(took: Duration, within: Duration, status: u16) -> Self {
        let said = format!("took {}, expected within {}", rounded(took), rounded(within));
        Self { status: Some(status), about_time: true, ..Self::new(Class::Assertion, said) }
    }

    pub(super) fn broken(error: &hyper::Error) -> Self {
        if error.is_parse_too_large() {
            let said = format!("was answered with more headers than {MAX_HEADERS}, or larger than {} KiB", HEAD_CAP / 1024);
            return Self::new(Class::Assertion, said);
        }
        if error.is_parse() {
            return Self::new(Class::Assertion, "was answered with something that is not HTTP/1.1");
        }
        Self::new(Class::Connect, "found the connection closed before the answer was complete")
    }
}

/// To the millisecond, as nobody reads more.
pub(super) fn rounded(duration: Duration) -> String {
    let whole = Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
    format!("{whole:?}")
}
