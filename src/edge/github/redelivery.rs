//! Events that did not arrive: GitHub never sends one again by itself, but remembers it for three days and does so when asked.
//!
//! Which did not, is read off the attempts themselves: `?status=failure` leaves out those that nobody answered (research 08 §1.3).

use std::{collections::BTreeMap, sync::Arc};

use http::header::LINK;
use jiff::Timestamp;
use serde::Deserialize;

use crate::edge::forge::ForgeError;

use super::{
    desk::{Desk, unreadable},
    wire::{Call, JSON, MOST, Question},
};

/// Attempts on one page, and pages that are read: 300 attempts. What is behind them is found by the sweep.
const PAGE: usize = 100;
const PAGES: usize = 3;
/// Events that are asked for at once: each is a call, and each that arrives makes all facts of its repository be read.
const AT_ONCE: usize = 20;

/// One attempt.
#[derive(Deserialize)]
struct Attempt {
    id: u64,
    guid: String,
    delivered_at: Timestamp,
    status: Option<String>,
    status_code: Option<u16>,
}

impl Attempt {
    fn arrived(&self) -> bool {
        self.status_code.is_some_and(|code| (200..300).contains(&code)) || self.status.as_deref() == Some("OK")
    }

    /// A repetition would be answered the same: we refused it for what it is.
    fn refused(&self) -> bool {
        self.status_code.is_some_and(|code| (400..500).contains(&code) && !matches!(code, 408 | 429))
    }
}

/// Asks for what did not arrive since then; how many events that were. A person has no events: none.
pub(super) async fn repeat_missed(desk: &Arc<Desk>, since: Timestamp) -> Result<usize, ForgeError> {
    if desk.access.app_id().is_none() {
        return Ok(0);
    }
    let mut missed = missed(attempts(desk, since).await?);
    // The oldest first, as they would have come.
    missed.sort_unstable();
    missed.truncate(AT_ONCE);
    for id in &missed {
        let call = Call::Post(format!("/app/hook/deliveries/{id}/attempts"), None);
        let question = Question { what: format!("the webhook delivery {id}"), call, accept: JSON, most: MOST };
        desk.ask(desk.own(), &question).await?;
    }
    Ok(missed.len())
}

async fn attempts(desk: &Arc<Desk>, since: Timestamp) -> Result<Vec<Attempt>, ForgeError> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    for _ in 0..PAGES {
        let question = Question::get("the app's webhook deliveries", format!("/app/hook/deliveries?per_page={PAGE}{cursor}"));
        let answer = desk.ask(desk.own(), &question).await?;
        let page: Vec<Attempt> = serde_json::from_slice(&answer.body).map_err(|error| unreadable(&question.what, &error))?;
        let older = page.iter().any(|attempt| attempt.delivered_at < since);
        found.extend(page.into_iter().filter(|attempt| attempt.delivered_at >= since));
        // Their cursor, never their address: where we ask is ours to say.
        let next = answer.headers.get(LINK).and_then(|link| link.to_str().ok()).and_then(next);
        match next {
            Some(next) if !older => cursor = format!("&cursor={next}"),
            _ => break,
        }
    }
    Ok(found)
}

/// The cursor of the next page.
fn next(link: &str) -> Option<String> {
    let next = link.split(',').find(|part| part.contains(r#"rel="next""#))?;
    let (_, rest) = next.split_once("cursor=")?;
    let cursor: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')).collect();
    (!cursor.is_empty()).then_some(cursor)
}

/// Of each event that none of its attempts brought, the newest one.
fn missed(attempts: Vec<Attempt>) -> Vec<u64> {
    let mut events: BTreeMap<String, Vec<Attempt>> = BTreeMap::new();
    for attempt in attempts {
        events.entry(attempt.guid.clone()).or_default().push(attempt);
    }
    let open = events.into_values().filter(|tried| !tried.iter().any(|attempt| attempt.arrived() || attempt.refused()));
    open.filter_map(|tried| tried.iter().map(|attempt| attempt.id).max()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(id: u64, guid: &str, status_code: u16, status: &str) -> Attempt {
        Attempt {
            id,
            guid: guid.to_owned(),
            delivered_at: Timestamp::UNIX_EPOCH,
            status: Some(status.to_owned()),
            status_code: Some(status_code),
        }
    }

    #[test]
    fn an_event_is_missed_when_no_attempt_brought_it_and_none_was_refused_for_what_it_is() {
        let tried = vec![
            attempt(1, "a", 202, "OK"),
            attempt(2, "b", 0, "timed out"),
            attempt(3, "c", 503, "Invalid HTTP Response: 503"),
            attempt(4, "c", 202, "OK"),
            attempt(5, "d", 401, "Invalid HTTP Response: 401"),
            attempt(6, "e", 503, "Invalid HTTP Response: 503"),
            attempt(7, "e", 502, "Invalid HTTP Response: 502"),
            attempt(8, "f", 429, "Invalid HTTP Response: 429"),
        ];
        assert_eq!(missed(tried), [2, 7, 8]);
    }

    #[test]
    fn the_cursor_is_taken_and_the_address_is_not() {
        let link = r#"<https://evil.example/x?per_page=100&cursor=v1_17&a=b>; rel="next""#;
        assert_eq!(next(link).as_deref(), Some("v1_17"));
        assert_eq!(next(r#"<https://x/?cursor=v1_1>; rel="prev""#), None);
        assert_eq!(next(r#"<https://x/?page=2>; rel="next""#), None);
    }
}
