//! Keeps the status small: 6 kB, so that ten thousand Deliveries are no burden for etcd. What a restart needs stays whole, and the book
//! of a rollout in flight (1 kB with one probe, 5 kB with twenty) comes on top.

use super::releases::cut;
use crate::api::status::DeliveryStatus;

/// The most that a status may have as JSON, without the book.
pub(super) const LIMIT: usize = 6 * 1024;

/// How many holds are named, as the schema bounds it.
const HOLDS: usize = 16;

/// What is given up, in this order, until it fits.
const LADDER: [fn(&mut DeliveryStatus); 13] = [
    |s| s.ahead.truncate(1),
    |s| s.history.truncate(2),
    |s| s.history.clear(),
    |s| quarantine(s, 160),
    |s| holds(s, HOLDS, 160),
    |s| quarantine(s, 24),
    |s| holds(s, 4, 160),
    |s| conditions(s, 80),
    |s| texts(s, 128),
    |s| oldest_quarantine(s, 8),
    |s| {
        s.message = s.message.as_deref().map(|text| cut(text, 256));
        if let Some(live) = &mut s.live {
            live.digests.truncate(2);
        }
    },
    |s| {
        conditions(s, 24);
        holds(s, 2, 80);
        texts(s, 48);
    },
    |s| {
        oldest_quarantine(s, 4);
        texts(s, 24);
        quarantine(s, 1);
        conditions(s, 1);
        if let Some(evidence) = s.rollout.as_mut().and_then(|rollout| rollout.evidence.as_mut()) {
            evidence.probes.truncate(4);
        }
        s.message = s.message.as_deref().map(|text| cut(text, 96));
    },
];

/// The status, small enough.
pub(super) fn fit(mut status: DeliveryStatus) -> DeliveryStatus {
    for step in LADDER {
        if size(&status) <= LIMIT {
            break;
        }
        step(&mut status);
    }
    status
}

pub(super) fn size(status: &DeliveryStatus) -> usize {
    let book = status.rollout.as_ref().and_then(|rollout| rollout.evidence.as_ref()?.book.as_deref()).unwrap_or_default();
    serde_json::to_vec(status).map_or(0, |json| json.len()) - serde_json::to_vec(book).map_or(0, |json| json.len())
}

fn quarantine(status: &mut DeliveryStatus, limit: usize) {
    status.quarantine.iter_mut().for_each(|entry| entry.why.message = cut(&entry.why.message, limit));
}

/// The newest stay: an old content is the least likely to come again.
fn oldest_quarantine(status: &mut DeliveryStatus, keep: usize) {
    let over = status.quarantine.len().saturating_sub(keep);
    status.quarantine.drain(..over);
}

fn holds(status: &mut DeliveryStatus, keep: usize, limit: usize) {
    status.holds.truncate(keep);
    status.holds.iter_mut().for_each(|hold| hold.message = cut(&hold.message, limit));
}

fn conditions(status: &mut DeliveryStatus, limit: usize) {
    status.conditions.iter_mut().for_each(|condition| condition.message = cut(&condition.message, limit));
}

fn texts(status: &mut DeliveryStatus, limit: usize) {
    if let Some(last) = &mut status.last_rollback {
        last.message = cut(&last.message, limit);
    }
    let Some(rollout) = &mut status.rollout else { return };
    if let Some(back) = &mut rollout.back {
        back.why.message = cut(&back.why.message, limit);
    }
    if let Some(halted) = &mut rollout.halted {
        halted.why.message = cut(&halted.why.message, limit);
    }
    if let Some(why) = &mut rollout.why {
        why.message = cut(&why.message, limit);
    }
    if let Some(evidence) = &mut rollout.evidence {
        evidence.failure = evidence.failure.as_deref().map(|text| cut(text, limit));
        for lasting in [&mut evidence.both, &mut evidence.void].into_iter().flatten() {
            lasting.why = cut(&lasting.why, limit);
        }
    }
}
