//! Keeps the status small: 6 kB, so that ten thousand Deliveries are no burden for etcd. What a restart needs stays whole.

use super::releases::cut;
use crate::api::status::DeliveryStatus;

/// The most that a status may have as JSON.
pub(super) const LIMIT: usize = 6 * 1024;

/// What is given up, in this order, until it fits.
const LADDER: [fn(&mut DeliveryStatus); 9] = [
    |s| s.history.truncate(2),
    |s| s.history.clear(),
    |s| quarantine(s, 160),
    |s| s.holds.iter_mut().for_each(|hold| hold.message = cut(&hold.message, 160)),
    |s| {
        quarantine(s, 24);
        s.holds.truncate(4);
    },
    |s| s.conditions.iter_mut().for_each(|condition| condition.message = cut(&condition.message, 80)),
    texts,
    // The newest stay: an old content is the least likely to come again.
    |s| {
        let over = s.quarantine.len().saturating_sub(8);
        s.quarantine.drain(..over);
    },
    |s| {
        s.message = s.message.as_deref().map(|text| cut(text, 256));
        if let Some(live) = &mut s.live {
            live.digests.truncate(2);
        }
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
    serde_json::to_vec(status).map_or(0, |json| json.len())
}

fn quarantine(status: &mut DeliveryStatus, limit: usize) {
    status.quarantine.iter_mut().for_each(|entry| entry.why.message = cut(&entry.why.message, limit));
}

fn texts(status: &mut DeliveryStatus) {
    if let Some(last) = &mut status.last_rollback {
        last.message = cut(&last.message, 128);
    }
    let Some(rollout) = &mut status.rollout else { return };
    if let Some(back) = &mut rollout.back {
        back.why.message = cut(&back.why.message, 128);
    }
    if let Some(why) = &mut rollout.why {
        why.message = cut(&why.message, 128);
    }
    if let Some(evidence) = &mut rollout.evidence {
        evidence.failure = evidence.failure.as_deref().map(|text| cut(text, 128));
        for lasting in [&mut evidence.both, &mut evidence.void].into_iter().flatten() {
            lasting.why = cut(&lasting.why, 128);
        }
    }
}
