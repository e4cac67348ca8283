//! The record of a decision: the whole status in one write, or in none if nothing changed that matters.

use serde_json::{Value, json};

use super::{Actor, calls::Kind, error::ActError, patch::Ops};
use crate::{
    api::{delivery::Delivery, status::DeliveryStatus},
    control::lease::LeaderProof,
};

impl Actor {
    /// Writes the status if it says something new; true if it was written. `version` is the Delivery's resourceVersion if a
    /// write of this very pass moved it ([`Done::delivery_version`](super::Done)).
    ///
    /// # Errors
    /// A conflict when the Delivery has changed since it was read. One that is gone needs no record.
    pub async fn record(
        &self,
        proof: &LeaderProof,
        delivery: &Delivery,
        version: Option<&str>,
        status: &DeliveryStatus,
    ) -> Result<bool, ActError> {
        if delivery.status.as_ref().is_some_and(|before| same(before, status)) {
            return Ok(false);
        }
        let metadata = &delivery.metadata;
        let version = version.or(metadata.resource_version.as_deref()).unwrap_or_default();
        // A status is made of texts, numbers and lists; it can always be written as JSON.
        let value = serde_json::to_value(status).unwrap_or_default();
        let ops = Ops::exactly(metadata.uid.as_deref().unwrap_or_default(), version).add(&["status"], value);
        match self.calls(proof, delivery).patch_status(Kind::Delivery, metadata.name.as_deref().unwrap_or_default(), ops).await {
            Ok(_) => Ok(true),
            Err(ActError::Gone { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Nothing differs but counts that a restart finds again: the samples since the last write are still known to who took
/// them, and the book skips those that it has.
fn same(before: &DeliveryStatus, after: &DeliveryStatus) -> bool {
    before == after || light(before) == light(after)
}

fn light(status: &DeliveryStatus) -> Value {
    let mut value = serde_json::to_value(status).unwrap_or_default();
    // Pods come and go; what people read of them is written when they are as many as the stage wants, not one by one.
    let growing = status.rollout.as_ref().and_then(|r| r.canary).is_some_and(|c| c.ready < c.wanted);
    if let Some(rollout) = value.pointer_mut("/rollout").and_then(Value::as_object_mut) {
        rollout.remove("canary");
        if growing {
            rollout.remove("weight");
        }
    }
    if let Some(live) = value.pointer_mut("/live").and_then(Value::as_object_mut) {
        live.remove("digests");
    }
    if let Some(all) = value.as_object_mut().filter(|_| growing) {
        all.remove("weight");
    }
    if let Some(evidence) = value.pointer_mut("/rollout/evidence").and_then(Value::as_object_mut) {
        for key in ["pairs", "good", "until"] {
            evidence.insert(key.to_owned(), json!(null));
        }
        // An evidence of nothing else than these is as good as none; a first good sample is remembered with the next write.
        evidence.retain(|_, value| !value.is_null());
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::status::{Evidence, RolloutStatus};

    fn with(evidence: Evidence) -> DeliveryStatus {
        DeliveryStatus {
            rollout: Some(RolloutStatus { evidence: Some(evidence), ..RolloutStatus::default() }),
            ..DeliveryStatus::default()
        }
    }

    #[test]
    fn one_more_good_pair_alone_is_not_worth_a_write_and_a_failure_is() {
        let before = with(Evidence { pairs: 3, until: Some(1), ..Evidence::default() });
        assert!(same(&before, &with(Evidence { pairs: 4, until: Some(2), ..Evidence::default() })));
        assert!(!same(&before, &with(Evidence { pairs: 4, canary_only: 1, ..Evidence::default() })));
        assert!(!same(&before, &DeliveryStatus { message: Some("new".to_owned()), ..before.clone() }));
    }
}
