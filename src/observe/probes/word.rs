//! Asks one of those whose word a version waits for, until there is one.

use std::sync::PoisonError;

use tokio::time::sleep;

use super::asking::{Known, Parts};
use crate::model::external::{Question, Word};

pub(super) async fn ask(parts: Parts, question: Question, word: Known<Option<Word>>) {
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
            parts.nudge();
        }
        if !waits {
            return;
        }
        sleep(answer.again).await;
    }
}
