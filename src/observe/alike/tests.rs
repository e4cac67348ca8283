use serde_json::{Value, json};

use super::*;
use crate::observe::tests::{replica_set, workload};

fn template(version: &str) -> Value {
    json!({"metadata": {"labels": {"app": "shop", "version": version}}, "spec": {}})
}

/// What is said of a canary of v2 beside pods of v1.
fn said(policy: &Value, budget: &Value) -> Option<String> {
    let mut shop = workload(&template("v2"));
    shop.replica_sets = vec![replica_set("h1", &template("v1"))];
    let policy: NetworkPolicy = serde_json::from_value(json!({"metadata": {"name": "db"}, "spec": policy})).unwrap();
    let budget: PodDisruptionBudget = serde_json::from_value(json!({"metadata": {"name": "few"}, "spec": budget})).unwrap();
    let all: Vec<Selecting> = of_policy(&policy, "shop").chain(of_budget(&budget)).collect();
    differs(&all, &serving(&shop)?, &to_come("shop", &shop, None))
}

#[test]
fn what_selects_both_or_neither_says_nothing() {
    let both = json!({"podSelector": {"matchLabels": {"app": "shop"}}, "ingress": [{"from": [{"podSelector": {}}]}]});
    assert_eq!(said(&both, &json!({"selector": {"matchLabels": {"app": "shop"}}})), None);
    let neither = json!({"podSelector": {"matchLabels": {"app": "db"}}, "egress": [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}]});
    assert_eq!(said(&neither, &json!({})), None);
}

#[test]
fn a_policy_that_names_the_version_is_told_with_its_field() {
    let v1 = json!({"matchLabels": {"version": "v1"}});
    let own = said(&json!({"podSelector": v1}), &json!({})).unwrap();
    assert_eq!(own, "spec.podSelector of NetworkPolicy db (version=v1) fits the pods that serve and not the canary's");
    let from = json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{"from": [{"podSelector": v1}]}]});
    assert!(said(&from, &json!({})).unwrap().starts_with("spec.ingress of NetworkPolicy db"));
    let to = json!({"podSelector": {}, "egress": [{"to": [{"podSelector": {"matchLabels": {"version": "v2"}}}]}]});
    assert!(said(&to, &json!({})).unwrap().ends_with("fits the canary's pods and not those that serve"));
    let budget = said(&json!({"podSelector": {}}), &json!({"selector": v1})).unwrap();
    assert!(budget.starts_with("spec.selector of PodDisruptionBudget few"));
}

#[test]
fn our_own_labels_count_and_other_namespaces_do_not() {
    let absent = json!({"matchExpressions": [{"key": "haldane.dev/track", "operator": "DoesNotExist"}]});
    assert!(said(&json!({"podSelector": absent}), &json!({})).is_some());
    let hash = json!({"matchLabels": {"pod-template-hash": "h1"}});
    let peer =
        |namespaces: Value| json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": hash, "namespaceSelector": namespaces}]}]});
    let elsewhere = json!({"matchLabels": {"kubernetes.io/metadata.name": "billing"}});
    assert_eq!(said(&peer(elsewhere), &json!({})), None);
    let with_hash = |mut set: crate::model::world::ReplicaSet| {
        set.raw["metadata"]["labels"]["pod-template-hash"] = json!("h1");
        set
    };
    let mut shop = workload(&template("v1"));
    shop.replica_sets = vec![with_hash(replica_set("h1", &template("v1")))];
    let policy: NetworkPolicy = serde_json::from_value(json!({"metadata": {"name": "db"}, "spec": peer(json!({}))})).unwrap();
    let all: Vec<Selecting> = of_policy(&policy, "shop").collect();
    assert!(differs(&all, &serving(&shop).unwrap(), &to_come("shop", &shop, None)).is_some(), "of every namespace, so of this one");
}
