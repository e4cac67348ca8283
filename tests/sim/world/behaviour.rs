//! How a version behaves, keyed by its image.

use std::time::Duration;

/// What the pods of an image do. The default is a good version.
#[allow(clippy::struct_excessive_bools, reason = "each is a fault of its own, and a version may have several")]
#[derive(Clone, Debug, Default)]
pub struct Behaviour {
    /// From creation to ready. Without it: 0.9–1.8 s by seed, as measured on a real cluster with a small image.
    pub ready_after: Option<Duration>,
    /// Exits some hundred milliseconds after each start, before it is ready.
    pub crash_loop: bool,
    /// Becomes ready, then is killed for its memory 2–4 s after each start.
    pub oom: bool,
    /// Runs, and its readiness probe never passes.
    pub never_ready: bool,
    pub image_pull_error: bool,
    /// No node takes the pod.
    pub unschedulable: bool,
    /// Serves on while it ends. Without it: gone at SIGTERM, so whoever still sends it requests through a route sees them fail.
    pub drains: bool,
    pub answers: Answers,
    /// Of a hundred requests of users so many fail, which no probe meets.
    pub users_meet: u32,
}

/// How a running pod answers a request.
#[derive(Clone, Debug, Default)]
pub enum Answers {
    /// 200.
    #[default]
    Ok,
    /// Always this code.
    Always(u16),
    /// 200 for the first `n` requests to each pod, then 500.
    FailsAfterRequests(u64),
    /// 500 for that many in a hundred, by seed.
    FailsRate(u64),
    /// 500 as soon as a Service of this pod has no other version behind it: what only full load shows.
    FailsWhenServingAll,
    /// No answer within any time limit.
    Silent,
}

/// What an HTTP probe of one pod would see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Status(u16),
    /// Nobody listens at that address.
    Refused,
    Timeout,
}

impl Behaviour {
    /// A version that starts well and answers badly.
    pub fn answering(answers: Answers) -> Self {
        Self { answers, ..Self::default() }
    }

    pub fn crash_looping() -> Self {
        Self { crash_loop: true, ..Self::default() }
    }

    pub fn never_ready() -> Self {
        Self { never_ready: true, ..Self::default() }
    }

    pub fn ready_after(time: Duration) -> Self {
        Self { ready_after: Some(time), ..Self::default() }
    }
}
