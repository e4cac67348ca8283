//! What the other Deliveries are doing: how many rollouts are on their way, and who is in trouble.
//!
//! Fed by the watch on Deliveries, and at once by each pass of our own, so that two that look in the same moment do not both
//! take the last place. Small on purpose: to read 10,000 Deliveries of 6 kB in every pass would be 60 MB each time.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;
use kube::{ResourceExt as _, runtime::reflector::ObjectRef};

use crate::{
    api::{
        DEFAULT_POLICY,
        delivery::Delivery,
        status::{DeliveryStatus, LastRollback},
    },
    model::{policy::Policy, world::Troubled},
};

/// A Delivery.
type Key = ObjectRef<Delivery>;

/// Why a version was taken back, where that was its own doing. A person's word or a deadline says nothing of a cause.
const FAILED: [&str; 4] = ["BeforeFailed", "CanaryFailed", "CanaryCrashed", "LiveFailed"];

/// What is known of every Delivery.
#[derive(Debug, Default)]
pub struct Fleet {
    known: Mutex<BTreeMap<(String, String), Known>>,
}

/// What is known of one.
#[derive(Clone, Debug, Default)]
struct Known {
    /// Of what this was seen in.
    version: Option<u64>,
    /// The policy of its namespace that it goes by.
    policy: String,
    /// A rollout of it is on its way.
    rolling: bool,
    /// It was suspended, or failed, last.
    trouble: Option<Timestamp>,
}

impl Known {
    fn say(&mut self, status: &DeliveryStatus) {
        self.rolling = status.rollout.is_some();
        self.trouble = trouble(status);
    }
}

/// When it was suspended, or a version of it failed, last.
fn trouble(status: &DeliveryStatus) -> Option<Timestamp> {
    let failed = |last: &&LastRollback| FAILED.contains(&last.reason.as_str());
    let failed = status.last_rollback.as_ref().filter(failed).and_then(|last| last.at.as_ref());
    let suspended = status.rollout.as_ref().and_then(|rollout| rollout.suspended_since.as_ref());
    failed.into_iter().chain(suspended).map(|at| at.0).max()
}

/// The name of the policy of its own namespace that a Delivery goes by.
#[must_use]
pub fn policy_of(delivery: &Delivery) -> &str {
    delivery.spec.policy_ref.as_ref().map_or(DEFAULT_POLICY, |policy| &policy.name)
}

fn key(key: &Key) -> (String, String) {
    (key.namespace.clone().unwrap_or_default(), key.name.clone())
}

fn version(text: Option<&str>) -> Option<u64> {
    text?.parse().ok()
}

impl Fleet {
    /// A Delivery as the watch shows it. What is older than what is known already says nothing.
    pub fn saw(&self, delivery: &Delivery) {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.entry(key(&Key::from_obj(delivery))).or_default();
        policy_of(delivery).clone_into(&mut known.policy);
        let seen = version(delivery.resource_version().as_deref());
        if known.version.is_none_or(|version| seen.is_none_or(|seen| seen >= version)) {
            known.version = seen;
            known.say(&delivery.status.clone().unwrap_or_default());
        }
    }

    /// A pass of our own has left a Delivery with this status, which is stored as `stored`, if it could be.
    pub fn left(&self, of: &Key, status: &DeliveryStatus, stored: Option<&str>) {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get_mut(&key(of)) {
            known.version = version(stored).or(known.version);
            known.say(status);
        }
    }

    /// It is gone.
    pub fn forget(&self, of: &Key) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&key(of));
    }

    /// The rollouts of other Deliveries that are on their way: of those in that namespace that go by that policy, or of all. The
    /// name is told where it is one of the same namespace.
    #[must_use]
    pub fn running(&self, besides: &Key, scope: Option<(&str, &str)>) -> Vec<Option<String>> {
        let (all, besides) = (self.known.lock().unwrap_or_else(PoisonError::into_inner), key(besides));
        running(&all, &besides, scope).map(|(namespace, name)| (*namespace == besides.0).then(|| name.clone())).collect()
    }

    /// Takes a place for a rollout that starts; none is free any more: false. Until the next word on it, it counts.
    #[must_use]
    pub fn take(&self, of: &Key, policies: &[Policy]) -> bool {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let of = key(of);
        let free = |policy: &Policy| {
            let scope = (!policy.of_all).then_some((of.0.as_str(), policy.name.as_str()));
            policy.cap.is_none_or(|cap| running(&all, &of, scope).count() < cap)
        };
        let free = policies.iter().all(free);
        if let Some(known) = all.get_mut(&of).filter(|_| free) {
            known.rolling = true;
        }
        free
    }

    /// Who was in trouble at `since` or later. The name is told where it is one of that namespace.
    #[must_use]
    pub fn troubled(&self, namespace: &str, since: Timestamp) -> Vec<Troubled> {
        let all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let troubled = all.iter().filter_map(|(key, known)| Some((key, known.trouble.filter(|at| *at >= since)?)));
        troubled
            .map(|((of, name), at)| Troubled { app: format!("{of}/{name}"), name: (of == namespace).then(|| name.clone()), at })
            .collect()
    }
}

fn running<'a>(
    all: &'a BTreeMap<(String, String), Known>,
    besides: &'a (String, String),
    scope: Option<(&'a str, &'a str)>,
) -> impl Iterator<Item = &'a (String, String)> {
    let counts = move |of: &(String, String), known: &Known| match scope {
        Some((namespace, policy)) => of.0 == namespace && known.policy == policy,
        None => true,
    };
    all.iter().filter(move |(of, known)| known.rolling && *of != besides && counts(of, known)).map(|(of, _)| of)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn delivery(namespace: &str, name: &str, version: &str, status: Value) -> Delivery {
        let mut object = json!({
            "apiVersion": "haldane.dev/v1alpha1", "kind": "Delivery",
            "metadata": {"namespace": namespace, "name": name, "resourceVersion": version},
            "spec": {"workloads": [{"name": name}]},
        });
        object["status"] = status;
        serde_json::from_value(object).unwrap()
    }

    fn rolling() -> Value {
        json!({"rollout": {"release": "b", "from": "a", "direction": "Forward", "steps": 3}})
    }

    fn of(namespace: &str, name: &str) -> Key {
        ObjectRef::new(name).within(namespace)
    }

    fn policy(cap: usize, of_all: bool) -> Policy {
        let spec = json!({"caps": {"rollouts": cap}});
        let mut read = Policy::read("default".into(), &serde_json::from_value(spec).unwrap()).unwrap();
        read.of_all = of_all;
        read
    }

    #[test]
    fn rollouts_are_counted_by_policy_and_over_all() {
        let fleet = Fleet::default();
        fleet.saw(&delivery("shop", "a", "1", rolling()));
        fleet.saw(&delivery("shop", "b", "1", json!({})));
        fleet.saw(&delivery("pay", "c", "1", rolling()));
        let mut other = delivery("shop", "d", "1", rolling());
        other.spec.policy_ref = Some(crate::api::delivery::PolicyRef { name: "slow".into() });
        fleet.saw(&other);
        let me = of("shop", "b");
        let name = |name: &str| Some(name.to_owned());
        assert_eq!(fleet.running(&me, None), [None, name("a"), name("d")], "those of other namespaces have no name here");
        assert_eq!(fleet.running(&me, Some(("shop", "default"))), [name("a")]);
        assert_eq!(fleet.running(&of("shop", "a"), Some(("shop", "default"))), [], "it does not count itself");
        fleet.forget(&of("pay", "c"));
        assert_eq!(fleet.running(&me, None).len(), 2);
    }

    #[test]
    fn the_last_place_is_taken_once() {
        let fleet = Fleet::default();
        for name in ["a", "b", "c"] {
            fleet.saw(&delivery("shop", name, "1", json!({})));
        }
        let two = [policy(5, false), policy(2, true)];
        assert!(fleet.take(&of("shop", "a"), &two));
        assert!(fleet.take(&of("shop", "b"), &two));
        assert!(!fleet.take(&of("shop", "c"), &two), "whoever looked before these two took theirs");
        assert!(fleet.take(&of("shop", "a"), &two), "twice is once");
        fleet.left(&of("shop", "a"), &DeliveryStatus::default(), Some("2"));
        assert!(fleet.take(&of("shop", "c"), &two));
    }

    #[test]
    fn what_the_watch_tells_late_undoes_nothing() {
        let fleet = Fleet::default();
        fleet.saw(&delivery("shop", "a", "1", json!({})));
        let status: DeliveryStatus = serde_json::from_value(rolling()).unwrap();
        fleet.left(&of("shop", "a"), &status, Some("7"));
        fleet.saw(&delivery("shop", "a", "5", json!({})));
        assert_eq!(fleet.running(&of("shop", "b"), None).len(), 1);
        fleet.saw(&delivery("shop", "a", "8", json!({})));
        assert_eq!(fleet.running(&of("shop", "b"), None).len(), 0);
    }

    #[test]
    fn trouble_is_a_suspension_or_a_failure_and_no_order_of_a_person() {
        let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
        let last = |reason: &str, second| json!({"lastRollback": {"release": "b", "from": "v2", "to": "v1", "at": at(second).to_string(), "reason": reason, "message": "m"}});
        let mut suspended = rolling();
        suspended["rollout"]["suspendedSince"] = at(50).to_string().into();
        let fleet = Fleet::default();
        fleet.saw(&delivery("shop", "a", "1", last("CanaryFailed", 40)));
        fleet.saw(&delivery("shop", "b", "1", last("RolledBackBy", 60)));
        fleet.saw(&delivery("pay", "c", "1", suspended));
        let told = |since| fleet.troubled("shop", at(since)).into_iter().map(|t| (t.app, t.name)).collect::<Vec<_>>();
        assert_eq!(told(0), [("pay/c".to_owned(), None), ("shop/a".to_owned(), Some("a".to_owned()))]);
        assert_eq!(told(45), [("pay/c".to_owned(), None)]);
    }
}
