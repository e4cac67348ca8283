//! Bad days of the API, on demand.

use std::time::Duration;

use super::{log::Outcome, refusal::Refusal, request::Call};

/// When a hook is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The request has arrived and nothing has happened.
    Before,
    /// The effect has taken place, with that code; the client has not been told.
    After { code: u16 },
}

/// What goes wrong. The stage decides what it means: a fault before the effect prevents it, one after it hides it.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This answer instead of the true one.
    Answer(Refusal),
    /// The connection breaks.
    Disconnect,
    /// Comes later, by virtual time.
    Delay(Duration),
    /// No answer, ever.
    Hang,
    /// A read is answered from the state at that version. Only before the effect.
    Stale { version: u64 },
    /// The process that asks dies here: nothing of this incarnation is answered from now on.
    Crash,
}

/// Asked at both stages of every request of every client. The first hook that answers decides for that stage.
pub type Hook = Box<dyn FnMut(&Call, Stage) -> Option<Fault> + Send>;

/// A hook that speaks once: the first time that `when` holds.
pub fn once(fault: Fault, mut when: impl FnMut(&Call, Stage) -> bool + Send + 'static) -> Hook {
    let mut left = Some(fault);
    Box::new(move |call, stage| if left.is_some() && when(call, stage) { left.take() } else { None })
}

/// Crash after the `k`-th write of `user` that took place, counted from here. Leases and events do not count: a crash after a
/// renewal is a crash after the write before it.
pub fn crash_after(user: &str, k: usize) -> Hook {
    let (user, mut seen) = (user.to_owned(), 0);
    once(Fault::Crash, move |call, stage| {
        let Stage::After { code } = stage else { return false };
        if call.user == user && call.is_write() && !call.is_background() && code < 300 {
            seen += 1;
            return seen == k;
        }
        false
    })
}

/// How a stage ends for the server.
pub(super) enum Turn {
    GoOn { stale: Option<u64> },
    Wait(Duration),
    Refuse(Refusal, Outcome),
    Disconnect(Outcome),
    Hang(Outcome),
    Crash(Outcome),
}

impl Turn {
    pub(super) fn of(fault: Option<Fault>, stage: Stage) -> Self {
        let code = match stage {
            Stage::Before => None,
            Stage::After { code } => Some(code),
        };
        match fault {
            None => Self::GoOn { stale: None },
            Some(Fault::Stale { version }) => Self::GoOn { stale: Some(version) },
            Some(Fault::Delay(time)) => Self::Wait(time),
            Some(Fault::Answer(refusal)) => {
                let outcome = code.map_or(Outcome::Answered(refusal.code), Outcome::Lost);
                Self::Refuse(refusal, outcome)
            }
            Some(Fault::Disconnect) => Self::Disconnect(code.map_or(Outcome::Disconnected, Outcome::Lost)),
            Some(Fault::Hang) => Self::Hang(Outcome::Hung(code)),
            Some(Fault::Crash) => Self::Crash(Outcome::Hung(code)),
        }
    }
}
