//! Every request that reached the server, in order.

use std::fmt;

use super::request::Call;

/// What became of a request, as the client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Being worked on.
    Open,
    /// Answered with that code.
    Answered(u16),
    /// Took place with that code, but the client saw a broken connection or another answer.
    Lost(u16),
    /// Never took place; the client saw a broken connection.
    Disconnected,
    /// Never answered. The code, when it took place.
    Hung(Option<u16>),
}

impl Outcome {
    /// The code of the effect, whatever the client saw of it.
    pub fn effect(self) -> Option<u16> {
        match self {
            Self::Answered(code) | Self::Lost(code) => Some(code),
            Self::Hung(code) => code,
            Self::Open | Self::Disconnected => None,
        }
    }
}

/// One line of the log.
#[derive(Clone, Debug)]
pub struct Entry {
    pub call: Call,
    pub outcome: Outcome,
}

impl Entry {
    /// A write that took place.
    pub fn wrote(&self) -> bool {
        self.call.is_write() && self.outcome.effect().is_some_and(|code| code < 300)
    }
}

/// Without bodies: two runs of one seed must give the same lines.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} #{} {} -> {:?}", self.call.at, self.call.incarnation, self.call, self.outcome)
    }
}
