use serde_json::json;

use super::*;

fn planned() -> PlannedWorkload {
    PlannedWorkload::bare("shop")
}

fn words(template: &Value, rest: &Value, meta: &Value) -> Vec<String> {
    let mut spec = rest.clone();
    spec.as_object_mut().unwrap().insert("template".to_owned(), template.clone());
    let raw: DynamicObject = serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap();
    let workload = crate::observe::tests::workload(template);
    let found = Found {
        workload: Some(workload),
        raw: Some(raw),
        pods: Vec::new(),
        selector: Selector::default(),
        problems: Vec::new(),
        canary: None,
    };
    of_workload(&PlannedWorkload { containers: vec!["app".to_owned()], ..planned() }, &found).iter().map(ToString::to_string).collect()
}

fn fine() -> Value {
    json!({"metadata": {"labels": {"app": "shop"}}, "spec": {"containers": [{"name": "app", "ports": [{"containerPort": 80}]}]}})
}

#[test]
fn every_problem_names_the_thing() {
    let none = json!({});
    assert_eq!(words(&fine(), &none, &none), Vec::<String>::new());
    let applied =
        json!({"managedFields": [{"manager": "argocd-controller", "operation": "Apply", "fieldsV1": {"f:spec": {"f:paused": {}}}}]});
    let last = json!({"annotations": {LAST_APPLIED: "{\"spec\":{\"paused\":true}}"}});
    let ours = json!({"managedFields": [{"manager": "haldane", "operation": "Apply", "fieldsV1": {"f:spec": {"f:paused": {}}}}]});
    let cases = [
        (json!({"metadata": {}, "spec": {"containers": [{"name": "web"}]}}), none.clone(), none.clone(), "no container app"),
        (
            json!({"metadata": {"labels": {"haldane.dev/track": "canary"}}, "spec": {"containers": [{"name": "app"}]}}),
            none.clone(),
            none.clone(),
            "labels of haldane.dev",
        ),
        (fine(), json!({"strategy": {"type": "Recreate"}}), none.clone(), "Recreate"),
        (json!({"spec": {"hostNetwork": true, "containers": [{"name": "app"}]}}), none.clone(), none.clone(), "hostNetwork"),
        (
            json!({"spec": {"containers": [{"name": "app", "ports": [{"hostPort": 443}]}]}}),
            none.clone(),
            none.clone(),
            "port 443 of its node",
        ),
        (fine(), none.clone(), applied, "argocd-controller"),
        (fine(), none.clone(), last, "kubectl apply"),
    ];
    for (template, spec, meta, expected) in cases {
        let told = words(&template, &spec, &meta);
        assert!(told.len() == 1 && told.iter().all(|t| t.contains(expected)), "{expected}: {told:?}");
    }
    assert_eq!(words(&fine(), &none, &ours), Vec::<String>::new());
}

#[test]
fn a_claim_for_one_node_keeps_the_canary_out() {
    let claim = |modes: Value| {
        serde_json::from_value::<PersistentVolumeClaim>(json!({"metadata": {"name": "data"}, "spec": {"accessModes": modes}})).unwrap()
    };
    assert_eq!(single_node(&claim(json!(["ReadWriteOnce"]))).as_deref(), Some("volume claim data is ReadWriteOnce"));
    assert!(single_node(&claim(json!(["ReadWriteOncePod"]))).is_some());
    assert_eq!(single_node(&claim(json!(["ReadWriteMany"]))), None);
    assert_eq!(single_node(&claim(json!(["ReadWriteOnce", "ReadWriteMany"]))), None);
    let template =
        json!({"spec": {"volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "persistentVolumeClaim": {"claimName": "data"}}]}});
    assert_eq!(claim_names(&template), ["data"]);
}

#[test]
fn only_hard_rules_against_its_own_kind_keep_pods_apart() {
    let with = |kind: &str, key: &str, app: &str| {
        keeps_apart(&json!({"metadata": {"labels": {"app": "shop"}}, "spec": {"affinity": {"podAntiAffinity": {kind: [
            {"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}}]}}}}))
    };
    let hard = "requiredDuringSchedulingIgnoredDuringExecution";
    assert!(with(hard, HOSTNAME, "shop"));
    assert!(!with(hard, HOSTNAME, "other"));
    assert!(!with(hard, "topology.kubernetes.io/zone", "shop"));
    assert!(!with("preferredDuringSchedulingIgnoredDuringExecution", HOSTNAME, "shop"));
}

#[test]
fn the_older_delivery_keeps_the_deployment() {
    let delivery = |name: &str, created: &str, workload: &str| {
        serde_json::from_value::<Delivery>(json!({"apiVersion": "haldane.dev/v1alpha1", "kind": "Delivery",
            "metadata": {"name": name, "creationTimestamp": created}, "spec": {"workloads": [{"name": workload}]}}))
        .unwrap()
    };
    let all = [
        delivery("b", "2026-11-21T00:00:00Z", "shop"),
        delivery("a", "2026-11-21T00:00:01Z", "shop"),
        delivery("c", "2026-11-21T00:00:00Z", "shop"),
        delivery("0", "2026-11-20T00:00:00Z", "cart"),
    ];
    let told = |of: &Delivery| delivered_already(of, &all, &Plan::try_from(&of.spec).unwrap()).len();
    assert_eq!(all.iter().map(told).collect::<Vec<_>>(), [0, 2, 1, 0]);
}
