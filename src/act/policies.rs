//! The word on a policy: whether it can be followed.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Actor,
    calls::{Calls, Kind},
    error::ActError,
    releases::cut,
    stored::{MESSAGE, time},
};
use crate::control::lease::LeaderProof;

const ACCEPTED: &str = "Accepted";

impl Actor {
    /// Writes what is wrong with a policy, or that nothing is, unless it says so already.
    ///
    /// # Errors
    /// When the write was refused.
    pub async fn tell_policy(
        &self,
        proof: &LeaderProof,
        (namespace, name): (&str, &str),
        generation: i64,
        problem: Option<&str>,
        before: Option<&Value>,
    ) -> Result<(), ActError> {
        let Some(status) = status(generation, problem, before, self.clock.now()) else { return Ok(()) };
        let calls = Calls { cluster: &self.cluster, namespace, proof };
        match calls.merge_status(Kind::Policy, name, &status).await {
            Ok(_) | Err(ActError::Gone { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The status that it should have; none: it has it.
fn status(generation: i64, problem: Option<&str>, before: Option<&Value>, now: Timestamp) -> Option<Value> {
    let (status, reason, message) = match problem {
        None => ("True", "Followed", "it binds the Deliveries that go by it".to_owned()),
        Some(why) => ("False", "Invalid", cut(&format!("it cannot be followed, so nothing new moves forward: {why}"), MESSAGE)),
    };
    let old = before.and_then(|before| before.pointer("/conditions")?.as_array()?.iter().find(|c| c.get("type") == Some(&json!(ACCEPTED))));
    let same = |field: &str, value: &Value| old.is_some_and(|old| old.get(field) == Some(value));
    if same("status", &json!(status)) && same("message", &json!(message)) && same("observedGeneration", &json!(generation)) {
        return None;
    }
    let since = old.filter(|_| same("status", &json!(status))).and_then(|old| old.get("lastTransitionTime").cloned());
    let condition = json!({"type": ACCEPTED, "status": status, "reason": reason, "message": message, "observedGeneration": generation,
        "lastTransitionTime": since.unwrap_or_else(|| json!(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(time(now).0)))});
    Some(json!({"conditions": [condition]}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_when_it_changes_and_keeps_its_time_while_it_is_the_same_word() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = status(1, None, None, at(100)).unwrap();
        assert_eq!(status(1, None, Some(&first), at(200)), None);
        let later = status(2, None, Some(&first), at(300)).unwrap();
        assert_eq!(first.pointer("/conditions/0/lastTransitionTime"), later.pointer("/conditions/0/lastTransitionTime"));
        let wrong = status(3, Some("no"), Some(&later), at(400)).unwrap();
        assert_eq!(wrong.pointer("/conditions/0/status"), Some(&json!("False")));
        assert_ne!(wrong.pointer("/conditions/0/lastTransitionTime"), later.pointer("/conditions/0/lastTransitionTime"));
        assert!(wrong.pointer("/conditions/0/message").unwrap().as_str().unwrap().ends_with("forward: no"));
    }
}
