//! The record of a decision: the whole status in one write, or in none if nothing changed that matters.

use serde_json::{Value, json};

use super::{
    Actor,
    calls::{Kind, text},
    error::ActError,
    patch::Ops,
};
use crate::{
    api::{delivery::Delivery, status::DeliveryStatus},
    control::lease::LeaderProof,
};

impl Actor {
    /// Writes the status if it says something new, and returns the resourceVersion that the Delivery has then; none: nothing
    /// was written. `version` is the Delivery's resourceVersion if a write of this very pass moved it
    /// ([`Done::delivery_version`](super::Done)).
    ///
    /// # Errors
    /// A conflict when the Delivery has changed since it was read. One that is gone needs no record.
    pub async fn record(
        &self,
        proof: &LeaderProof,
        delivery: &Delivery,
        version: Option<&str>,
        status: &DeliveryStatus,
    ) -> Result<Option<String>, ActError> {
        if delivery.status.as_ref().is_some_and(|before| same(before, status)) {
            return Ok(None);
        }
        let metadata = &delivery.metadata;
        let version = version.or(metadata.resource_version.as_deref()).unwrap_or_default();
        // A status is made of texts, numbers and lists; it can always be written as JSON.
        let value = serde_json::to_value(status).unwrap_or_default();
        let ops = Ops::exactly(metadata.uid.as_deref().unwrap_or_default(), version).add(&["status"], value);
        match self.calls(proof, delivery).patch_status(Kind::Delivery, metadata.name.as_deref().unwrap_or_default(), ops).await {
            Ok(written) => Ok(Some(text(&written, "/metadata/resourceVersion").to_owned())),
            Err(ActError::Gone { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What was counted is stored once a minute.
const COUNTED_US: i64 = 60 * 1_000_000;

/// Nothing differs but counts that a restart finds again: the samples since the last write are still known to who took
/// them, and the book skips those that it has.
fn same(before: &DeliveryStatus, after: &DeliveryStatus) -> bool {
    // Pods come and go; the share that they give is written when they are as many as the stage wants, not one by one.
    let growing = after.rollout.as_ref().and_then(|r| r.canary).is_some_and(|c| c.ready < c.wanted);
    before == after || (!counted_for_long(before, after) && light(before, growing) == light(after, growing))
}

/// Requests of users and lines of logs are counted all the time. Those of a minute are told again after a restart; those before it are not known to anybody
/// else.
fn counted_for_long(before: &DeliveryStatus, after: &DeliveryStatus) -> bool {
    let counted = |status: &DeliveryStatus| {
        let evidence = status.rollout.as_ref()?.evidence.as_ref()?;
        (!evidence.requests.is_empty() || evidence.logs.is_some()).then_some(evidence.until).flatten()
    };
    let Some(now) = counted(after) else { return false };
    counted(before).is_none_or(|then| now.saturating_sub(then) >= COUNTED_US)
}

fn light(status: &DeliveryStatus, growing: bool) -> Value {
    let mut value = serde_json::to_value(status).unwrap_or_default();
    if let Some(live) = value.pointer_mut("/live").and_then(Value::as_object_mut) {
        live.remove("digests");
    }
    if let Some(evidence) = value.pointer_mut("/rollout/evidence").and_then(Value::as_object_mut) {
        // Failures are worth a write; what went well, and that nothing was learnt, a restart finds out again.
        evidence.retain(|key, _| ["probes", "both", "restarts"].contains(&key.as_str()));
        if let Some(probes) = evidence.get_mut("probes").and_then(Value::as_array_mut) {
            let failed = |probe: &Value| ["unsure", "failed"].iter().any(|count| probe[count] != json!(0));
            probes.retain(failed);
            probes
                .iter_mut()
                .filter_map(Value::as_object_mut)
                .for_each(|probe| probe.retain(|key, _| !["good", "here"].contains(&key.as_str())));
        }
        evidence.retain(|_, value| *value != json!([]));
    }
    if let Some(rollout) = value.pointer_mut("/rollout").and_then(Value::as_object_mut) {
        rollout.remove("canary");
        // No evidence and an evidence of nothing are the same.
        rollout.retain(|key, value| *value != json!({}) && !(growing && key == "weight"));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::status::{Evidence, ProbeEvidence, RolloutStatus};

    fn with(evidence: Evidence) -> DeliveryStatus {
        DeliveryStatus {
            rollout: Some(RolloutStatus { evidence: Some(evidence), ..RolloutStatus::default() }),
            ..DeliveryStatus::default()
        }
    }

    #[test]
    fn what_was_counted_is_stored_once_a_minute() {
        let counted = |until| {
            let requests = vec![format!("errors: 0 of {until} failed")];
            with(Evidence { requests, until: Some(until), ..Evidence::default() })
        };
        assert!(same(&counted(7), &counted(7 + COUNTED_US - 1)));
        assert!(!same(&counted(7), &counted(7 + COUNTED_US)));
        assert!(!same(&with(Evidence::default()), &counted(7)), "its first block");
        assert!(same(&counted(7 + COUNTED_US), &with(Evidence { until: Some(7), ..Evidence::default() })), "nobody counts any more");
    }

    #[test]
    fn one_more_good_pair_alone_is_not_worth_a_write_and_a_failure_is() {
        let seen = |good, unsure, until| {
            let probes = vec![ProbeEvidence { name: "home".to_owned(), good, unsure, ..ProbeEvidence::default() }];
            with(Evidence { against: format!("0.{good}"), probes, until: Some(until), ..Evidence::default() })
        };
        let before = seen(3, 0, 1);
        assert!(same(&before, &seen(4, 0, 2)));
        assert!(!same(&before, &seen(4, 1, 2)));
        assert!(same(&seen(4, 1, 2), &seen(5, 1, 3)));
        assert!(same(&with(Evidence::default()), &seen(1, 0, 1)));
        let none = DeliveryStatus { rollout: Some(RolloutStatus::default()), ..DeliveryStatus::default() };
        assert!(same(&none, &seen(1, 0, 1)), "a first good pair neither");
        assert!(!same(&before, &DeliveryStatus { message: Some("new".to_owned()), ..before.clone() }));
    }
}
