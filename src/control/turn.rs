//! One turn of one Delivery: a pass with everything around it that keeps one app's trouble from being every app's.
//!
//! Only the leader passes. A pass that panics, hangs or fails is counted, told, and tried again later and later; the others
//! go on. What a pass does is in [`super::reconcile`].

use std::{any::Any, convert::Infallible, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use kube::{ResourceExt as _, runtime::controller::Action};
use tokio::time::timeout;

use super::{
    Guarded, Key,
    lease::{LeaderProof, Leadership},
    memory::{Memories, Memory},
    pace::{self, Retry},
    reconcile::Error,
};
use crate::{
    clock::Stopwatch,
    metrics::{Metrics, PassResult},
};

/// The longest that a pass may take: six calls that run into their limit of 10 s each. What is dropped in the middle is a
/// crash like any other, and every write is made for that.
pub const PASS: Duration = Duration::from_mins(1);

/// Looks at one Delivery, decides, and does it.
pub trait Pass: Send + Sync {
    /// One pass.
    fn pass<'a>(&'a self, key: &'a Key, proof: &'a LeaderProof, memory: &'a mut Memory) -> BoxFuture<'a, Result<Passed, Error>>;

    /// The Delivery is gone.
    fn gone(&self, key: &Key);

    /// The watch shows a Delivery, or what of it can be decoded.
    fn saw(&self, _object: &Guarded) {}
}

/// How a pass ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// The Delivery is not there any more.
    Gone,
    /// Look again after this long at the latest.
    Again(Duration),
}

/// What all turns share.
pub struct Ctx {
    /// What a pass does.
    pub pass: Box<dyn Pass>,
    /// Whether this process leads.
    pub leadership: Leadership,
    /// What is remembered between two passes.
    pub memories: Memories,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl Ctx {
    /// The watch shows a Delivery.
    pub fn saw(&self, object: &Guarded) {
        self.pass.saw(object);
    }

    /// The Delivery is gone: nothing of it is kept.
    pub fn gone(&self, key: &Key) {
        self.pass.gone(key);
        self.memories.forget(key);
        self.metrics.forget(key);
    }
}

/// One turn. Never an error: what failed has become the time of the next try.
///
/// # Errors
/// None.
pub async fn turn(object: Arc<Guarded>, ctx: Arc<Ctx>) -> Result<Action, Infallible> {
    // Whoever comes to lead looks at everything then.
    let Some(proof) = ctx.leadership.current() else { return Ok(Action::await_change()) };
    let key = Key::of(&object);
    let mut memory = ctx.memories.take(&key, proof.fence());
    let watch = Stopwatch::start();
    let pass = AssertUnwindSafe(async { ctx.pass.pass(&key, &proof, &mut memory).await });
    let result = match timeout(PASS, pass.catch_unwind()).await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => Err(Error::Panicked { says: words(&*panic) }),
        Err(_) => Err(Error::Slow { limit: PASS }),
    };
    ctx.metrics.pass(summary(&result), watch.elapsed());
    match result {
        Ok(Passed::Gone) => {
            ctx.gone(&key);
            Ok(Action::await_change())
        }
        Ok(Passed::Again(after)) => {
            memory.failures = 0;
            ctx.memories.keep(&key, memory);
            Ok(Action::requeue(after))
        }
        Err(error) => {
            memory.failures = memory.failures.saturating_add(1);
            let again = pace::after_failure(error.retry(), memory.failures);
            tell(&object, &error, memory.failures, again);
            ctx.memories.keep(&key, memory);
            Ok(Action::requeue(again))
        }
    }
}

fn summary(result: &Result<Passed, Error>) -> PassResult {
    match result {
        Ok(Passed::Gone) => PassResult::Gone,
        Ok(Passed::Again(_)) => PassResult::Done,
        Err(Error::Panicked { .. }) => PassResult::Panicked,
        Err(Error::Slow { .. }) => PassResult::Slow,
        Err(error) if error.retry() == Retry::AtOnce => PassResult::Conflict,
        Err(_) => PassResult::Failed,
    }
}

fn tell(object: &Guarded, error: &Error, failures: u32, again: Duration) {
    let (namespace, delivery) = (object.namespace().unwrap_or_default(), object.name_any());
    let says = error as &dyn std::error::Error;
    match error.retry() {
        // Somebody wrote at the same moment: normal.
        Retry::AtOnce if failures <= 4 => tracing::debug!(namespace, delivery, error = says, "changed meanwhile; looking again"),
        _ => tracing::warn!(namespace, delivery, error = says, failures, ?again, "the pass failed"),
    }
}

/// What a panic said. Not a secret: our panics come from assertions in libraries, not from what users wrote.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no words").chars().take(256).collect()
}
