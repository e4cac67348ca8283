//! Asks for the numbers that hold every version alike, again and again while one rolls out.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::sleep;

use super::asking::{Known, Parts};
use crate::{
    decide::verdict::PATIENCE,
    model::{
        phase::after,
        query::{PlannedQuery, Queried},
    },
};

/// From one answer to the next question.
const EVERY: Duration = Duration::from_secs(15);

/// What of it people are told, beside a number that is fine: that is not news.
fn told(known: &Queried, now: jiff::Timestamp) -> (Option<f64>, Option<(String, bool)>, bool) {
    let silent = known.silent.as_ref().map(|silent| (silent.why.clone(), after(silent.since, PATIENCE) <= now));
    (known.last.as_ref().filter(|last| last.beyond).map(|last| last.value), silent, known.last.is_some())
}

pub(super) async fn ask(parts: Parts, planned: PlannedQuery, known: Known<Queried>) {
    let mut before = None;
    loop {
        let answer = parts.prober.numbers(&planned.query).await.and_then(|values| planned.bound.worst(&values));
        let now = parts.clock.now();
        let news = Some(told(&put(&known, |known| known.heard(planned.bound, answer, now)), now));
        if before != news {
            before = news;
            parts.nudge();
        }
        sleep(EVERY).await;
    }
}

fn put(known: &Mutex<Queried>, made: impl FnOnce(&Queried) -> Queried) -> Queried {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    *known = made(&known);
    known.clone()
}
