use serde_json::json;

use super::*;

fn object(value: Value) -> DynamicObject {
    serde_json::from_value(value).unwrap()
}

fn planned() -> PlannedWorkload {
    PlannedWorkload::bare("shop")
}

#[test]
fn what_may_be_missing_is_counted_as_kubernetes_counts() {
    for (given, surge, replicas, expected) in [
        (json!(null), json!(null), 4, 1),
        (json!(null), json!(null), 3, 0),
        (json!("50%"), json!(1), 5, 2),
        (json!(2), json!(0), 5, 2),
        (json!(9), json!(0), 5, 5),
        (json!(0), json!(1), 5, 0),
        (json!(0), json!(0), 5, 1),
        (json!("10%"), json!(0), 5, 1),
        (json!("10%"), json!("1%"), 5, 0),
        (json!(1), json!(0), 0, 0),
    ] {
        let mut rolling = json!({"maxUnavailable": given, "maxSurge": surge});
        rolling.as_object_mut().unwrap().retain(|_, v| !v.is_null());
        let deployment = json!({"spec": {"strategy": {"rollingUpdate": rolling}}});
        assert_eq!(rolls(&deployment, replicas).0, expected, "{deployment} of {replicas}");
    }
    assert_eq!(rolls(&json!({"spec": {}}), 8), (2, 4), "a quarter, when nothing is said");
}

#[test]
fn the_last_writer_is_the_newest_other_hand_on_template_or_gate() {
    let entry = |manager: &str, second: u8, field: &str| json!({"manager": manager, "operation": "Update", "time": format!("2026-11-21T00:00:{second:02}Z"), "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {field: {}}}});
    let meta = |entries: Vec<Value>| serde_json::from_value::<ObjectMeta>(json!({"managedFields": entries})).unwrap();
    let all = meta(vec![
        entry("helm", 1, "f:template"),
        entry("kubectl-rollout", 5, "f:paused"),
        entry("kube-controller-manager", 9, "f:replicas"),
        entry("haldane", 8, "f:paused"),
    ]);
    assert_eq!(last_writer(&all).as_deref(), Some("kubectl-rollout"));
    assert!(owns_fields(&all));
    let ours_only = meta(vec![entry("haldane", 8, "f:paused")]);
    assert_eq!(last_writer(&ours_only), None);
    assert!(!owns_fields(&meta(vec![entry("helm", 1, "f:template")])));
}

fn set(name: &str, owner: &str, revision: &str, image: &str) -> DynamicObject {
    object(json!({
        "metadata": {"name": name, "uid": format!("uid-{name}"), "labels": {"pod-template-hash": name}, "annotations": {REVISION: revision},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "x", "uid": owner, "controller": true}]},
        "spec": {"replicas": 2, "template": {"metadata": {"labels": {"app": "shop", "pod-template-hash": name}}, "spec": {"containers": [{"name": "app", "image": image}]}}},
        "status": {"replicas": 2, "availableReplicas": 1},
    }))
}

fn pod(name: &str, set: &str, ending: bool) -> Seen {
    let mut raw: RawPod = serde_json::from_value(json!({"metadata": {"name": name, "ownerReferences": [
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": set, "uid": format!("uid-{set}"), "controller": true}]}}))
    .unwrap();
    raw.metadata.deletion_timestamp =
        ending.then(|| k8s_openapi::apimachinery::pkg::apis::meta::v1::Time("2026-11-21T00:00:00Z".parse().unwrap()));
    pods::read(&raw, "shop")
}

#[test]
fn the_owners_pods_and_the_canarys_are_told_apart_by_who_made_them() {
    let sets = [
        set("ten", "stable", "10", "shop:2"),
        set("nine", "stable", "9", "shop:1"),
        set("new", "canary", "1", "shop:2"),
        set("other", "stranger", "1", "x"),
    ];
    let pods = [pod("a", "ten", false), pod("b", "nine", true), pod("c", "new", false), pod("d", "new", true), pod("e", "other", false)];
    let beside = object(json!({
        "metadata": {"name": "shop-canary", "uid": "canary", "resourceVersion": "7", "generation": 2, "annotations": {"haldane.dev/release": "shop-v2"}},
        "spec": {"replicas": 1},
        "status": {"observedGeneration": 1, "conditions": [
            {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "pods \"x\" is forbidden: exceeded quota: small"},
            {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]},
    }));
    let canary = canary(&beside, &sets, &pods);
    assert_eq!((canary.pods.len(), canary.ending, canary.observed, canary.stuck), (1, 1, false, true));
    assert!(matches!(&canary.refused, Some(Trouble::Refused { word, says }) if word == "FailedCreate" && says.contains("exceeded quota")));
    let owners = object(json!({
        "metadata": {"name": "shop", "uid": "stable", "resourceVersion": "9", "generation": 3, "annotations": {"haldane.dev/gate": "x", "haldane.dev/put-back": "shop-v3"}},
        "spec": {"replicas": 2, "paused": true, "template": {"metadata": {"labels": {"app": "shop"}}, "spec": {"containers": [{"name": "app", "image": "shop:2"}]}}},
        "status": {"observedGeneration": 3},
    }));
    let workload = workload(&planned(), &owners, &sets, &pods, Some(canary));
    let revisions: Vec<&str> = workload.replica_sets.iter().map(|rs| rs.pod_hash.as_str()).collect();
    assert_eq!(revisions, ["nine", "ten"], "by number, newest last");
    assert_eq!(workload.pods.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["a"]);
    assert!(workload.paused && workload.gate_marked && workload.observed && !workload.stuck);
    assert_eq!(workload.put_back, Some(ReleaseName::new("shop-v3")));
    assert_eq!(workload.replica_set(&workload.template_hash()).unwrap().pod_hash.as_str(), "ten");
}

#[test]
fn a_deployment_in_the_canarys_place_without_our_labels_is_a_stranger() {
    let with = |labels: Value| object(json!({"metadata": {"name": "shop-canary", "labels": labels}}));
    assert!(is_ours(&with(json!({"haldane.dev/delivery": "checkout", "haldane.dev/workload": "shop"})), "checkout", "shop"));
    assert!(!is_ours(&with(json!({"haldane.dev/delivery": "other", "haldane.dev/workload": "shop"})), "checkout", "shop"));
    assert!(!is_ours(&with(json!({})), "checkout", "shop"));
}
