//! Asks one of those whose word a version waits for, until there is one.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::mpsc::UnboundedSender, task::JoinHandle, time::sleep};

use super::Key;
use crate::{
    clock::Clock,
    edge::probe::Prober,
    model::external::{Question, Word},
};

/// A question of which something changed, its address say, is not asked sooner after the one before.
const CHANGED: Duration = Duration::from_secs(5);

/// The parts that all of them share.
pub(super) struct Parts {
    pub(super) prober: Arc<dyn Prober>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) nudge: UnboundedSender<Key>,
    pub(super) key: Key,
}

/// One question and what came of it; it ends with this.
pub(super) struct Asking {
    question: Question,
    word: Arc<Mutex<Option<Word>>>,
    task: JoinHandle<()>,
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Asking {
    /// Asks from now on. `again`: something like it was asked just before.
    pub(super) fn begin(parts: Parts, question: Question, again: bool) -> Self {
        let word = Arc::new(Mutex::new(None));
        let task = tokio::spawn(ask(parts, question.clone(), word.clone(), again));
        Self { question, word, task }
    }

    /// It asks this, and nothing else.
    pub(super) fn asks(&self, question: &Question) -> bool {
        self.question == *question
    }

    /// What is said so far.
    pub(super) fn word(&self) -> Option<Word> {
        self.word.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn ask(parts: Parts, question: Question, word: Arc<Mutex<Option<Word>>>, again: bool) {
    if again {
        sleep(CHANGED).await;
    }
    loop {
        let answer = parts.prober.word(&question, parts.clock.now()).await;
        let waits = matches!(answer.word, Word::Wait(_));
        let said = Some(answer.word);
        let news = {
            let mut known = word.lock().unwrap_or_else(PoisonError::into_inner);
            let news = *known != said;
            *known = said;
            news
        };
        if news {
            // Nobody listens any more: then nobody needs to be told.
            let _ = parts.nudge.send(parts.key.clone());
        }
        if !waits {
            return;
        }
        sleep(answer.again).await;
    }
}
