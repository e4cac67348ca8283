//! What is said of many Deliveries at once: the policies that bind this one, and the Holds on everything everywhere.
//!
//! What of it cannot be read is told, and stops what moves forward. It is never an error of the observation: the way back
//! needs none of it.

use futures::future::join3;

use super::{
    decoded::{self, Decoded},
    fleet::{Fleet, policy_of},
};
use crate::{
    api::{DEFAULT_POLICY, delivery::Delivery, hold::Hold, policy::DeliveryPolicy},
    edge::kube::{Cluster, KubeError},
    model::{decision::Reason, policy::Policy},
};
use kube::{ResourceExt as _, runtime::reflector::ObjectRef};

type Policies = Result<Decoded<DeliveryPolicy>, KubeError>;

/// What was read in the Delivery's namespace and in Haldane's own, its home.
pub(super) struct Rules {
    here: Policies,
    home: Option<(Policies, Result<Decoded<Hold>, KubeError>)>,
}

/// Reads both.
pub(super) async fn read(cluster: &Cluster, namespace: &str, home: &str) -> Rules {
    // Where the kind is not there, there are no policies; that the definitions are old is told by who compares them.
    let policies = |namespace| decoded::read(cluster, namespace, "", true);
    if namespace == home {
        return Rules { here: policies(namespace).await, home: None };
    }
    let (here, of_all, holds) = join3(policies(namespace), policies(home), decoded::read(cluster, home, "", true)).await;
    Rules { here, home: Some((of_all, holds)) }
}

/// What binds one Delivery.
#[derive(Debug, Default)]
pub(super) struct Bound {
    /// The nearest first.
    pub(super) policies: Vec<Policy>,
    /// What cannot be followed.
    pub(super) problems: Vec<Reason>,
}

impl Rules {
    /// The Holds of the home, where that is another namespace and they can be read.
    pub(super) fn holds(&self) -> Option<&Decoded<Hold>> {
        self.home.as_ref()?.1.as_ref().ok()
    }

    /// What binds that Delivery.
    pub(super) fn bind(&self, delivery: &Delivery, fleet: &Fleet, home: &str) -> Bound {
        let mut bound = Bound::default();
        let (namespace, near) = (delivery.namespace().unwrap_or_default(), policy_of(delivery));
        let at_home = self.home.is_none();
        if !(at_home && near == DEFAULT_POLICY) {
            bound.take(&self.here, &namespace, near, false);
            let found = bound.policies.iter().any(|policy| policy.name == near);
            if delivery.spec.policy_ref.is_some() && !found && bound.problems.is_empty() {
                bound.problems.push(Reason::PolicyMissing { policy: near.to_owned() });
            }
        }
        bound.take(self.home.as_ref().map_or(&self.here, |(policies, _)| policies), home, DEFAULT_POLICY, true);
        if let Some((_, Err(error))) = &self.home {
            bound.problems.push(Reason::RulesUnread { namespace: home.to_owned(), why: error.to_string() });
        }
        let of = ObjectRef::from_obj(delivery);
        for policy in &mut bound.policies {
            policy.running = fleet.running(&of, (!policy.of_all).then_some((namespace.as_str(), policy.name.as_str())));
        }
        bound
    }
}

impl Bound {
    fn take(&mut self, from: &Policies, namespace: &str, name: &str, of_all: bool) {
        let read = match from {
            Ok(read) => read,
            Err(error) => {
                let unread = Reason::RulesUnread { namespace: namespace.to_owned(), why: error.to_string() };
                if !self.problems.contains(&unread) {
                    self.problems.push(unread);
                }
                return;
            }
        };
        let shown = if of_all { format!("{namespace}/{name}") } else { name.to_owned() };
        let invalid = |why| Reason::PolicyInvalid { policy: shown.clone(), why };
        let stored = read.all.iter().find(|policy| policy.name_any() == name);
        match stored.map(|policy| Policy::read(shown.clone(), &policy.spec)) {
            Some(Ok(mut policy)) => {
                policy.of_all = of_all;
                self.policies.push(policy);
            }
            Some(Err(wrong)) => self.problems.push(invalid(wrong.to_string())),
            None => self.problems.extend(read.damaged.iter().find(|d| d.name() == name).map(|d| invalid(d.says("it")))),
        }
    }
}

#[cfg(test)]
#[allow(
    clippy::needless_pass_by_value,
    clippy::unnecessary_wraps,
    reason = "json! is easier to read without a reference, and reading may fail"
)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::observe::decoded::decoded;

    fn policies(of: Value) -> Policies {
        let objects = of.as_object().unwrap().iter().map(|(name, spec)| {
            serde_json::from_value(
                json!({"apiVersion": "haldane.dev/v1alpha1", "kind": "DeliveryPolicy", "metadata": {"name": name}, "spec": spec}),
            )
            .unwrap()
        });
        Ok(decoded(objects.collect()))
    }

    fn refused() -> KubeError {
        KubeError::Refused { call: "list deliverypolicies".into(), said: "no".into() }
    }

    fn delivery(policy: Option<&str>) -> Delivery {
        let mut spec = json!({"workloads": [{"name": "web"}]});
        if let Some(name) = policy {
            spec["policyRef"] = json!({"name": name});
        }
        let object = json!({"apiVersion": "haldane.dev/v1alpha1", "kind": "Delivery", "metadata": {"name": "web", "namespace": "shop"}, "spec": spec});
        serde_json::from_value(object).unwrap()
    }

    fn bound(here: Policies, home: Policies, policy: Option<&str>) -> (Vec<String>, Vec<String>) {
        let rules = Rules { here, home: Some((home, Ok(decoded(Vec::new())))) };
        let bound = rules.bind(&delivery(policy), &Fleet::default(), "haldane-system");
        (bound.policies.into_iter().map(|p| p.name).collect(), bound.problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_one_that_is_named_else_the_default_and_always_the_one_of_all() {
        let here = || policies(json!({"default": {}, "slow": {}}));
        let home = || policies(json!({"default": {}, "slow": {}}));
        assert_eq!(bound(here(), home(), None).0, ["default", "haldane-system/default"]);
        assert_eq!(bound(here(), home(), Some("slow")).0, ["slow", "haldane-system/default"]);
        assert_eq!(bound(policies(json!({})), policies(json!({})), None), (vec![], vec![]));
        let (names, problems) = bound(here(), home(), Some("fast"));
        assert_eq!(names, ["haldane-system/default"]);
        assert_eq!(problems, ["DeliveryPolicy fast does not exist in this namespace; create it, or take it out of spec.policyRef"]);
    }

    #[test]
    fn what_cannot_be_followed_is_told_and_no_error() {
        let zone = json!({"windows": [{"days": ["Mon"], "from": "09:00", "to": "10:00", "timeZone": "Europe/Atlantis"}]});
        let (names, problems) =
            bound(policies(json!({"default": zone})), policies(json!({"default": {"caps": {"rollouts": "five"}}})), None);
        assert_eq!((names.len(), problems.len()), (0, 2));
        assert_eq!(
            problems[0],
            "DeliveryPolicy default cannot be followed, so nothing new moves forward: Europe/Atlantis is no time zone; write one like Europe/Berlin"
        );
        assert!(problems[1].starts_with("DeliveryPolicy haldane-system/default cannot be followed"), "{}", problems[1]);
        let (_, problems) = bound(policies(json!({})), Err(refused()), None);
        assert!(problems.len() == 1 && problems[0].contains("of namespace haldane-system cannot be read"), "{problems:?}");
    }

    #[test]
    fn in_haldanes_own_namespace_the_default_is_the_one_of_all() {
        let rules = Rules { here: policies(json!({"default": {}, "slow": {}})), home: None };
        let names = |policy| {
            let bound = rules.bind(&delivery(policy), &Fleet::default(), "shop");
            bound.policies.into_iter().map(|p| (p.name, p.of_all)).collect::<Vec<_>>()
        };
        assert_eq!(names(None), [("shop/default".to_owned(), true)]);
        assert_eq!(names(Some("slow")), [("slow".to_owned(), false), ("shop/default".to_owned(), true)]);
    }
}
