//! A question that is asked in the background until nobody wants to know any more, and what came of it so far.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::mpsc::UnboundedSender, task::JoinHandle, time::sleep};

use super::Key;
use crate::{clock::Clock, edge::probe::Prober};

/// A question of which something changed, its address say, is not asked sooner after the one before.
const CHANGED: Duration = Duration::from_secs(5);

/// The parts that all of them share.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) prober: Arc<dyn Prober>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) nudge: UnboundedSender<Key>,
    pub(super) key: Key,
}

impl Parts {
    /// Something is worth a look.
    pub(super) fn nudge(&self) {
        // Nobody listens any more: then nobody needs to be told.
        let _ = self.nudge.send(self.key.clone());
    }
}

/// What came of it, which its task writes.
pub(super) type Known<A> = Arc<Mutex<A>>;

/// One question and what came of it; it ends with this.
pub(super) struct Asking<Q, A> {
    question: Q,
    known: Known<A>,
    task: JoinHandle<()>,
}

impl<Q, A> Drop for Asking<Q, A> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<Q: Clone + PartialEq, A: Clone + Default> Asking<Q, A> {
    /// Asks from now on, as `ask` does. `again`: something like it was asked just before.
    pub(super) fn begin<F>(parts: Parts, question: Q, again: bool, ask: impl FnOnce(Parts, Q, Known<A>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let known = Known::<A>::default();
        let asks = ask(parts, question.clone(), known.clone());
        let task = tokio::spawn(async move {
            if again {
                sleep(CHANGED).await;
            }
            asks.await;
        });
        Self { question, known, task }
    }

    /// It asks this, and nothing else.
    pub(super) fn asks(&self, question: &Q) -> bool {
        self.question == *question
    }

    /// What is known so far.
    pub(super) fn known(&self) -> A {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
